"""`scapp deploy`: make an app known to the node."""

from __future__ import annotations

from pathlib import Path

import click

from scapp.reducers.library import NAMES
from scapp.reducers.library import wasm_bytes as library_bytes
from scapp.runtime.cli.common import Problem, common, emit, settings, table, waiting


@click.command()
@common
@click.argument("module", type=click.Path(path_type=Path, dir_okay=False), required=False)
@click.option(
    "--example", type=click.Choice(["game", *NAMES]), help="Deploy an app that comes with scapp instead of a file"
)
@click.option("--from", "channel", metavar="CHANNEL", help="Fetch the module of a proposed channel from its proposer")
@click.option("--limit", "limits", multiple=True, metavar="NAME=VALUE", help="A signed limit other than the default")
@click.option("--list", "list_", is_flag=True, help="List the apps this node knows")
def deploy(module: Path | None, example: str | None, channel: str | None, limits: tuple[str, ...], list_: bool) -> None:
    """Check a reducer MODULE.wasm and make it known to the node.

    All participants deploy the same bytes with the same limits; the deployment id commits to both."""
    from scapp.runtime.documents import AppView

    if list_:
        _list()
        return
    if [module, example, channel].count(None) != 2 or (channel and limits):
        raise click.UsageError("name either a MODULE.wasm or an --example, or --from a CHANNEL (it has its own limits)")
    wasm = _read(module) if module else b"" if channel else _example(example or "")
    with settings().client() as node, waiting("checking and compiling the module"):
        given = dict(limit_of(text) for text in limits)
        app = node.deploy_of_channel(channel) if channel else node.deploy(wasm, given)
    assert isinstance(app, AppView)

    def text() -> str:
        rows = [
            (
                t.name,
                ", ".join(f"{c.name}{'*' if c.key else ''} {c.type}{'?' if c.nullable else ''}" for c in t.columns),
            )
            for t in app.tables
        ]
        return (
            f"{app.name} {app.app_version}  {app.deployment_id}\n\n"
            f"{table(('table', 'columns (* key, ? nullable)'), rows)}\n\n"
            f"Next: scapp channel open PEER --app {app.name}"
        )

    emit(app, text)


def _list() -> None:
    with settings().client() as node:
        apps = node.deployments()
    rows = [(a.name, a.app_version, a.deployment_id, a.schema or "-", len(a.tables)) for a in apps]
    headers = ("app", "version", "deployment", "schema", "tables")
    emit({"deployments": apps}, table(headers, rows, right=(4,)) if rows else "no apps; `scapp deploy MODULE.wasm`")


def _read(module: Path) -> bytes:
    try:
        return module.read_bytes()
    except FileNotFoundError:
        raise Problem(f"no file {module}", code="not_found", hint="name the built .wasm file") from None


def _example(name: str) -> bytes:
    if name != "game":
        return library_bytes(name)
    from scapp.game import wasm_bytes

    return wasm_bytes()


def limit_of(text: str) -> tuple[str, int]:
    """One `--limit NAME=VALUE`."""
    name, equals, value = text.partition("=")
    if not equals or not value.replace("_", "").isdigit():
        raise click.BadParameter(f"{text!r} is not NAME=VALUE with a whole number", param_hint="--limit")
    return name, int(value)
