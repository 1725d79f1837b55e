"""`scapp describe` and `scapp codegen`: what a module holds, and typed clients for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from scapp.runtime.cli.apps import limit_of
from scapp.runtime.cli.common import common, emit, printable, table
from scapp.runtime.cli.given_module import given_module

if TYPE_CHECKING:
    from scapp.reducers.manifest import Column, Table
    from scapp.runtime.description import Description

CLIENTS = ("python", "typescript")  # a test compares it with the generators


@click.command()
@common
@click.argument("app", default=".")
@click.option("--limit", "limits", multiple=True, metavar="NAME=VALUE", help="A signed limit other than the default")
def describe(app: str, limits: tuple[str, ...]) -> None:
    """Show what APP holds: a module, a reducer's source or folder, or an app that the running node knows.

    Tables with keys and indexes, views, messages, signed limits and the hashes that participants agree on."""
    from scapp.runtime.description import describe as described

    found = described(given_module(app, dict(map(limit_of, limits))))
    emit(found, lambda: _text(found))


@click.command()
@common
@click.argument("app", default=".")
@click.option("--lang", "language", type=click.Choice(CLIENTS), default="python", show_default=True)
@click.option("-o", "--out", type=click.Path(path_type=Path, dir_okay=False), help="File to write  [default: stdout]")
def codegen(app: str, language: str, out: Path | None) -> None:
    """Write a typed client of APP, named as for `describe`: rows, keys, decoders and message builders."""
    from scapp.reducers.codegen import GENERATORS

    module = given_module(app)
    text = GENERATORS[language](module.manifest, f"0x{module.deployment.reducer.hex()}")
    if out is None:
        emit({"language": language, "text": text}, text.rstrip("\n"))
        return
    out.write_text(text, "utf-8")
    emit({"language": language, "file": str(out)}, f"{out}  {len(text.splitlines()):,} lines")


def _text(found: Description) -> str:
    sets = "the reducer sets it" if found.sets_outcome else "never changed: the reducer has no set_outcome"
    facts = [
        ("reducer", found.reducer),
        ("deployment", found.deployment_id),
        ("module", f"{found.module_bytes:,} bytes, ABI {found.abi}, payloads in {found.encoding}"),
        ("outcome", f"{sets}; the slots are each channel's own"),
    ]
    head = "\n".join(f"{name:<11} {text}" for name, text in facts)
    parts = [f"{printable(found.name)} {printable(found.version)}\n\n{head}", *map(_table, found.tables)]
    if found.views:
        rows = [(view.name, view.table, ", ".join(view.columns)) for view in found.views]
        parts.append(table(("view", "of table", "columns"), rows))
    if found.messages:
        rows = [
            (m.name, ", ".join(f"{f.name} {f.type}" for f in m.fields) or "-", m.description) for m in found.messages
        ]
        parts.append(table(("message", "fields", ""), rows))
    parts.append(table(("signed limit", "value"), [(n, f"{v:,}") for n, v in found.limits.items()], right=(1,)))
    return "\n\n".join(parts)


def _table(found: Table) -> str:
    rows = [(f"{c.name}{'*' * (i < found.key)}", *_column(c)) for i, c in enumerate(found.columns)]
    text = table((f"table {found.name} (* key)", "type", ""), rows)
    history = ["  with history"] if found.history else []
    indexes = (f"  {'unique index' if i.unique else 'index'} {i.name} ({', '.join(i.columns)})" for i in found.indexes)
    return "\n".join([text, *indexes, *history])


def _column(column: Column) -> tuple[str, str]:
    default = f"default {column.default!r}" if column.default is not None else ""
    return column.type, " ".join(filter(None, ("nullable" * column.nullable, default)))
