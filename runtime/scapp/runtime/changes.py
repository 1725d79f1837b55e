"""What derived batches did, in the form the database takes it; `kernel.py` produces it, `database/` sends it.

A row is a PostgreSQL COPY BINARY tuple without the channel id: `u16 column count | per column i32 length (-1 for
NULL) and the bytes of the type's binary send format`, integers big-endian. Nothing between the reducer and the
table converts a value, and nothing on the way to the database takes a row into its hands: a kernel gives whole columns,
or whole COPY streams. Who wants rows has them made here.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from scapp.reducers.manifest import Column, Table
from scapp.runtime.arrays import array_fields, field_end

COPY_NEVER = 2**62
"""As `copy_rows_min`: everything in arrays."""

MESSAGES = Table(
    "messages",
    (
        Column("sequence", "int8"),
        Column("turn", "int8"),
        Column("kind", "int2"),
        Column("author", "int2"),
        Column("counter", "numeric"),  # all 64 bits may be used
        Column("time_ms", "int8"),
        Column("payload", "bytea"),
    ),
    key=1,
)
EVENTS = Table(
    "events", (Column("sequence", "int8"), Column("index", "int4"), Column("topic", "text"), Column("data", "bytea")), 2
)
"""`scapp.messages` and `scapp.events` without their channel id, like any other table."""


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


class TableChange(msgspec.Struct, frozen=True, gc=False):
    """Net change of one table since the last take. A key is upserted or deleted, never both.

    Both in key-encoding order: `upsert_arrays` one array per column, `delete_arrays` one per primary key column, each
    with its header (`arrays.array`), and none where there is nothing. `copy` takes the place of `upsert_arrays` when
    no key of the change existed before, nothing is deleted, and the rows are many: COPY BINARY tuples with the channel
    id as first field, without the file's header and trailer. Otherwise it is empty.
    `replaced_among`: how many rows the channel has in the table, when at least half of the upserted keys had one
    before, else 0."""

    table: str
    upserts: int
    deletes: int
    upsert_arrays: tuple[bytes, ...] = ()
    delete_arrays: tuple[bytes, ...] = ()
    copy: bytes = b""
    replaced_among: int = 0

    def rows(self) -> Iterator[bytes]:
        """The upserted rows, without channel id."""
        return _tuples_of_copy(self.copy) if self.copy else _tuples_of_arrays(self.upsert_arrays)

    def deleted_keys(self) -> Iterator[bytes]:
        """Tuples of the primary key columns of what was deleted."""
        return _tuples_of_arrays(self.delete_arrays)

    @property
    def size(self) -> int:
        """Bytes held."""
        return len(self.copy) + sum(map(len, self.upsert_arrays)) + sum(map(len, self.delete_arrays))


class BatchChanges(msgspec.Struct, frozen=True, gc=False):
    """All that was committed since the last take. `messages` and `events` are insert-only (MESSAGES, EVENTS), and None
    where there are none. `history` has the versions of the tables that ask for it (`history.history_table`), which are
    insert-only and come by sequence, then key."""

    tables: tuple[TableChange, ...] = ()
    messages: TableChange | None = None
    events: TableChange | None = None
    history: tuple[TableChange, ...] = ()

    def app_events(self) -> Iterator[AppEvent]:
        """The events one by one."""
        if self.events is None:
            return
        for row in self.events.rows():
            sequence, index, topic, data = _values(row)
            yield AppEvent(int.from_bytes(sequence, "big"), int.from_bytes(index, "big"), topic.decode(), data)

    @property
    def size(self) -> int:
        """Bytes held."""
        others = [change for change in (self.messages, self.events) if change is not None]
        return sum(change.size for change in (*self.tables, *self.history, *others))


def _tuples_of_arrays(columns: tuple[bytes, ...]) -> Iterator[bytes]:
    count = len(columns).to_bytes(2, "big")
    for fields in zip(*map(array_fields, columns), strict=True):
        yield count + b"".join(fields)


def _tuples_of_copy(data: bytes) -> Iterator[bytes]:
    position = 0
    while position < len(data):
        count = int.from_bytes(data[position : position + 2], "big")
        end = start = field_end(data, position + 2)  # behind the channel id
        for _ in range(count - 1):
            end = field_end(data, end)
        yield (count - 1).to_bytes(2, "big") + data[start:end]
        position = end


def _values(row: bytes) -> list[bytes]:
    """Values of a row without NULLs."""
    values, position = [], 2
    while position < len(row):
        end = field_end(row, position)
        values.append(row[position + 4 : end])
        position = end
    return values
