"""Rows of which many are replaced at once: one join with the table, where `write.py` looks each up under its key. Those
among them that are new are inserted by the same statement.

A look into an index of these keys costs 2 µs a row, so where a commit replaces a good part of a channel's rows in a
table, reading them all is cheaper. Only a hash or merge join does that whatever the planner believes of a table that it
has no statistics of, so nested loops are off for the rest of the transaction, and the statement is planned each time.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import psycopg

from scapp.reducers.manifest import Table
from scapp.runtime.changes import TableChange
from scapp.runtime.database.binary import Raw
from scapp.runtime.database.connecting import Connection
from scapp.runtime.database.phrases import quoted, unnested

ROWS_MIN = 200
SHARE_MIN = 8
"""A commit replaces by a join at least `ROWS_MIN` rows, and one of so many that the channel has in the table."""
FILL_PERCENT = 50
"""Of a page of a table whose rows are replaced so: the new rows stand beside the old ones, and no index hears of it."""


def replaces_many(table: Table, change: TableChange) -> bool:
    """Whether its upserts are a join's."""
    many = change.upserts >= ROWS_MIN and change.upserts * SHARE_MIN >= change.replaced_among > 0
    return many and table.key < len(table.columns)


def preparation(targets: Sequence[str]) -> str:
    """Columns of a query in the transaction before `replace`: nested loops are off from then on, and an array of the
    places in `targets` of tables that may be given room, because they are ours and nobody set how they are stored."""
    names = ", ".join(f"'{target}'::regclass" for target in targets)
    return (
        "set_config('enable_nestloop', 'off', true), ARRAY("  # noqa: S608 - identifiers are quoted
        f"SELECT n - 1 FROM unnest(ARRAY[{names}]) WITH ORDINALITY AS t(id, n) JOIN pg_class AS c ON c.oid = t.id"
        " WHERE c.reloptions IS NULL AND pg_has_role(c.relowner, 'USAGE'))"
    )


def give_room(connection: Connection, target: str) -> None:
    """Leave the half of new pages empty; rows move there when they are replaced next."""
    connection.execute(f"ALTER TABLE {target} SET (fillfactor = {FILL_PERCENT})".encode())


def replace(connection: Connection, channel_id: bytes, target: str, table: Table, change: TableChange) -> None:
    """Put the rows: those that are there are replaced, the others inserted."""
    names = [quoted(column.name) for column in table.columns]
    values = [f"u.c{place}" for place in range(len(names))]
    pairs = list(zip(names, values, strict=True))
    match = " AND ".join(f"t.{name} = {value}" for name, value in pairs[: table.key])
    sets = ", ".join(f"{name} = {value}" for name, value in pairs[table.key :])
    statement = (
        f"MERGE INTO {target} AS t USING {unnested(table.columns, itertools.count(2))}\n"  # noqa: S608 - as in `preparation`
        f"ON t.channel_id = $1::bytea AND {match}\n"
        f"WHEN MATCHED THEN UPDATE SET {sets}\n"
        f"WHEN NOT MATCHED THEN INSERT (channel_id, {', '.join(names)}) VALUES ($1::bytea, {', '.join(values)})"
    )
    parameters = [Raw(channel_id), *map(Raw, change.upsert_arrays)]
    psycopg.RawCursor(connection).execute(statement.encode(), parameters, prepare=False)
