"""History tables: every version of the rows of a table whose manifest asks for it (`docs/reference/tables.md`).

A version says what a message made of a key: its row from then on, or that there is none. It is given only where that is
something else than before the message, so versions do not depend on how messages are cut into batches. They are
insert-only, and under no root. Both kernels make them; `schema.py` has the tables, `database/write.py` fills them.
"""

from __future__ import annotations

import msgspec

from scapp.reducers.manifest import HISTORY_COLUMNS, HISTORY_PREFIX, Column, Manifest, Table
from scapp.runtime.arrays import field_end, int8_field

_PRESENT, _ABSENT = b"\0\0\0\1\1", b"\0\0\0\1\0"
_NULL = b"\xff\xff\xff\xff"


def history_table(table: Table) -> Table:
    """The table of versions: key columns, sequence of the message, whether there is a row, the other columns (NULL
    where there is none); a version is known by key columns and sequence."""
    sequence, present = HISTORY_COLUMNS
    others = (msgspec.structs.replace(column, nullable=True) for column in table.columns[table.key :])
    columns = (*table.key_columns, Column(sequence, "int8"), Column(present, "bool"), *others)
    return Table(HISTORY_PREFIX + table.name, columns, table.key + 1)


def history_tables(manifest: Manifest) -> list[Table]:
    """Those of all tables that ask, in the manifest's order."""
    return [history_table(table) for table in manifest.tables if table.history]


def version_row(table: Table, sequence: int, before: bytes | None, row: bytes | None) -> bytes:
    """Tuple of `history_table(table)`: the message made `row` of `before`, None for no row; one of them is a row."""
    known = row or before
    assert known is not None
    key_end = 2
    for _ in range(table.key):
        key_end = field_end(known, key_end)
    head = (len(table.columns) + 2).to_bytes(2, "big") + known[2:key_end] + int8_field(sequence)
    if row is None:
        return head + _ABSENT + _NULL * (len(table.columns) - table.key)
    return head + _PRESENT + row[key_end:]
