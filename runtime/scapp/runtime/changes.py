"""What a derived batch did, in the form the database takes it; `kernel.py` produces it, `database/` writes it.

A row is a PostgreSQL COPY BINARY tuple without the channel id: `u16 column count | per column i32 length (-1 for
NULL) and the bytes of the type's binary send format`, integers big-endian. Nothing between the reducer and the
table converts a value.
"""

from __future__ import annotations

import msgspec


class TableChange(msgspec.Struct, frozen=True, gc=False):
    """Net change of one table over a batch. A key is in `upserts` or in `deletes`, never in both.

    `upserts`: whole rows; `deletes`: tuples of the primary key columns only; both in key-encoding order."""

    table: str
    upserts: tuple[bytes, ...]
    deletes: tuple[bytes, ...]


class AppEvent(msgspec.Struct, frozen=True, gc=False):
    """One `emit` of an accepted entry; `index` counts within the entry."""

    sequence: int
    index: int
    topic: str
    data: bytes


class LogLine(msgspec.Struct, frozen=True, gc=False):
    """One `log` of an entry, accepted or not: diagnostics, never state."""

    entry_index: int
    level: int  # 0 error, 1 warning, 2 info, 3 debug
    text: str


class BatchChanges(msgspec.Struct, frozen=True, gc=False):
    """All that one committed batch changed."""

    tables: tuple[TableChange, ...]
    events: tuple[AppEvent, ...]
