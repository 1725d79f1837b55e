"""`scapp projection`: reducers of this node's own over the log, for tables that nobody else agrees on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from scapp.runtime.cli.common import common, emit, printable, settings, short, table, waiting

if TYPE_CHECKING:
    from scapp.runtime.derived_documents import ProjectionView


@click.group()
def projection() -> None:
    """Derive tables of your own from the log: add, list, status, upgrade, remove."""


@projection.command()
@common
@click.argument("name")
@click.argument("module", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--app", required=True, help="The app whose channels it follows")
def add(name: str, module: Path, app: str) -> None:
    """Derive MODULE.wasm over all channels of an app, from their beginning, into the schema scapp_projection_NAME.

    What it rejects or traps on is skipped and recorded in its table scapp_skipped."""
    with settings().client(600) as node, waiting("checking the module"):
        found = node.add_projection(name, app, module.read_bytes())
    emit(found, f"{found.name} is derived into schema {found.schema}")


@projection.command("list")
@common
def list_() -> None:
    """List projections."""
    with settings().client() as node:
        found = node.projections()
    rows = [(p.name, p.schema, short(p.app, 12), short(p.version, 12), _states(p), _upgrade(p)) for p in found]
    headers = ("name", "schema", "app", "version", "channels", "upgrade")
    emit({"projections": found}, table(headers, rows) if rows else "no projections; `scapp projection add` makes one")


def _states(found: ProjectionView) -> str:
    states = [each.state for each in found.channels]
    return ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states))) or "none"


def _upgrade(found: ProjectionView) -> str:
    return "-" if found.following is None else f"{short(found.following, 12)} catches up"


@projection.command()
@common
@click.argument("name")
def status(name: str) -> None:
    """Show how far a projection is in each channel, and why it does not go on."""
    with settings().client() as node:
        found = node.projection(name)
    rows = [("live", short(c.channel_id, 12), c.sequence, c.state, c.detail) for c in found.channels]
    rows += [("upgrade", short(c.channel_id, 12), c.sequence, c.state, c.detail) for c in found.upgrade]
    emit(
        found, table(("version", "channel", "sequence", "state", "detail"), rows, right=(2,)) if rows else "no channels"
    )


@projection.command()
@common
@click.argument("name")
@click.argument("module", type=click.Path(path_type=Path, dir_okay=False, exists=True))
def upgrade(name: str, module: Path) -> None:
    """Derive another module beside the present one; it takes over once it has caught up."""
    with settings().client(600) as node, waiting("checking the module"):
        found = node.upgrade_projection(name, module.read_bytes())
    emit(found, f"{printable(found.name)}: the new version catches up; `scapp projection status {name}` shows it")


@projection.command()
@common
@click.argument("name")
def remove(name: str) -> None:
    """Stop a projection and drop its tables."""
    with settings().client() as node:
        left = node.remove_projection(name)
    emit({"projections": left}, f"{printable(name)} is removed")
