"""Is the database what was co-signed? Reads every row of a channel back, recomputes root, event chain and log root,
and, when they differ, says which rows do. `root.py` has the tree, `follow.py` filled the tables.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator

import msgspec
import psycopg

from scapp.channels.admission import ChannelContext
from scapp.channels.entries import encode_entry, extend_log_root
from scapp.channels.errors import LocalError
from scapp.channels.reading import EntrySource, SupportedBatch
from scapp.channels.types import ZERO_HASH
from scapp.reducers.manifest import Table
from scapp.runtime.changes import COPY_NEVER, AppEvent
from scapp.runtime.database import binary
from scapp.runtime.database.connecting import Connection
from scapp.runtime.database.port import Backend
from scapp.runtime.database.write import Cursor, quoted, read_cursor
from scapp.runtime.kernel import Budget, Kernel
from scapp.runtime.root import apply_updates, event_leaf, extend_event_root, root_of, row_update
from scapp.runtime.rows import RowError, TableCodec
from scapp.runtime.schema import AppSchema

PROBLEMS_MAX = 20
_LENGTH = struct.Struct(">i")


class NothingDerived(LocalError):
    """The database has nothing of this channel yet."""


class VerifyReport(msgspec.Struct, frozen=True):
    """`ok` means: rows, events, messages and cursor are exactly what all participants signed at `turn`.

    `problems` say in words what differs, at most PROBLEMS_MAX of them."""

    ok: bool
    sequence: int
    turn: int
    expected_root: bytes
    found_root: bytes
    rows: int
    problems: tuple[str, ...]


class _Stored(msgspec.Struct):
    """What the database holds of one channel, read in one snapshot."""

    cursor: Cursor
    tables: dict[str, list[bytes]]
    events: list[AppEvent]
    entries: list[bytes]
    problems: list[str]


def verify_channel(
    backend: Backend,
    schema: AppSchema,
    context: ChannelContext,
    source: EntrySource,
    make_kernel: Callable[[], Kernel] | None = None,
) -> VerifyReport:
    """Compare the database's rows of one channel with the state co-signed at the database's own cursor.

    With `make_kernel` the log is run again when something differs, and the rows that differ are named. Raises
    NothingDerived, and psycopg's errors while the database is unreachable."""
    with backend.connect() as connection:
        stored = _read(connection, schema, context.channel_id)
    signed = _signed_at(source, context, stored.cursor.turn)
    problems = list(stored.problems)
    found_root = _root(schema, stored, problems)
    expected_root = stored.cursor.state_root if signed is None else signed.state_root
    problems += _commitment_problems(stored, signed)
    if found_root != expected_root:
        problems.append(f"state root over the rows is 0x{found_root.hex()}, signed is 0x{expected_root.hex()}")
    if problems and make_kernel is not None and signed is not None:
        problems = [*_differences(schema, stored, context, source, make_kernel), *problems]
    return VerifyReport(
        ok=not problems,
        sequence=stored.cursor.sequence,
        turn=stored.cursor.turn,
        expected_root=expected_root,
        found_root=found_root,
        rows=sum(len(rows) for rows in stored.tables.values()),
        problems=tuple(problems[:PROBLEMS_MAX]),
    )


# -- reading --------------------------------------------------------------------------------------------------------


def read_rows(connection: Connection, schema: str, table: Table, channel_id: bytes) -> Iterator[bytes]:
    """A channel's rows of one table as COPY tuples without the channel id, in key order."""
    names = ", ".join(quoted(column.name) for column in table.columns)
    keys = ", ".join(quoted(column.name) for column in table.key_columns)
    # COPY takes no parameters; the id is hexadecimal digits and the names are checked by the manifest.
    query = (
        f"COPY (SELECT {names} FROM {quoted(schema)}.{quoted(table.name)} "  # noqa: S608
        f"WHERE channel_id = '\\x{channel_id.hex()}'::bytea ORDER BY {keys}) TO STDOUT (FORMAT binary)"
    )
    with connection.cursor() as cursor, cursor.copy(query.encode()) as stream:
        yield from copied_tuples(bytes(block) for block in stream)


def copied_tuples(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The tuples of a binary COPY stream, however it is cut into blocks."""
    pending = b""
    header = len(binary.COPY_HEADER)
    for block in blocks:
        pending += block
        if header:
            if len(pending) < header:
                continue
            pending, header = pending[header:], 0
        position = 0
        while (end := _tuple_end(pending, position)) is not None:
            yield pending[position:end]
            position = end
        pending = pending[position:]
    assert pending == binary.COPY_TRAILER, "a COPY stream ends with its trailer"


def _tuple_end(data: bytes, position: int) -> int | None:
    """Where the tuple that starts at `position` ends; None when it is not all there, or is the trailer."""
    size = len(data)
    if size - position < 2 or data[position : position + 2] == binary.COPY_TRAILER:
        return None
    end = position + 2
    for _ in range(data[position] << 8 | data[position + 1]):
        if size - end < 4:
            return None
        (length,) = _LENGTH.unpack_from(data, end)
        end += 4 + max(length, 0)
    return end if end <= size else None


def read_events(
    connection: Connection, channel_id: bytes, first_sequence: int = 0, end_sequence: int | None = None
) -> list[AppEvent]:
    """App events of entries `first_sequence .. end_sequence - 1`, in order."""
    rows = connection.execute(
        "SELECT sequence, index, topic, data FROM scapp.events WHERE channel_id = %s AND sequence >= %s"
        " AND sequence < %s ORDER BY sequence, index",
        [channel_id, first_sequence, 2**63 - 1 if end_sequence is None else end_sequence],
    )
    return [
        AppEvent(int(str(sequence)), int(str(index)), str(topic), _bytes(data)) for sequence, index, topic, data in rows
    ]


def _read(connection: Connection, schema: AppSchema, channel_id: bytes) -> _Stored:
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    connection.read_only = True
    with connection.transaction():
        cursor = read_cursor(connection, channel_id)
        if cursor is None or cursor.turn < 0:
            raise NothingDerived(f"nothing of channel 0x{channel_id.hex()} is in the database yet")
        problems: list[str] = []
        return _Stored(
            cursor,
            {
                table.name: list(read_rows(connection, schema.name, table, channel_id))
                for table in schema.manifest.tables
            },
            read_events(connection, channel_id),
            _read_entries(connection, channel_id, problems),
            problems,
        )


def _read_entries(connection: Connection, channel_id: bytes, problems: list[str]) -> list[bytes]:
    rows = connection.execute(
        "SELECT sequence, kind, author, counter::text, time_ms, payload FROM scapp.messages WHERE channel_id = %s"
        " ORDER BY sequence",
        [channel_id],
    )
    entries: list[bytes] = []
    for number, (sequence, kind, author, counter, time_ms, payload) in enumerate(rows):
        if sequence != number:
            problems.append(f"scapp.messages has no entry {number}: the next one there is {sequence}")
            break
        try:
            entries.append(
                encode_entry(int(str(kind)), int(str(author)), int(str(counter)), int(str(time_ms)), _bytes(payload))
            )
        except (struct.error, ValueError) as error:
            problems.append(f"scapp.messages, entry {number} cannot be an entry: {error}")
            break
    return entries


def _bytes(value: object) -> bytes:
    assert isinstance(value, bytes)
    return value


# -- comparing ------------------------------------------------------------------------------------------------------


def _root(schema: AppSchema, stored: _Stored, problems: list[str]) -> bytes:
    event_root: bytes = ZERO_HASH
    for event in stored.events:
        event_root = extend_event_root(event_root, event.sequence, event.topic.encode(), event.data)
    updates = [event_leaf(event_root)]
    for position, table in enumerate(schema.manifest.tables):
        codec = TableCodec(table)
        for row in stored.tables[table.name]:
            try:
                key, _ = codec.read_row(row)
            except RowError as error:
                problems.append(f"a row that no reducer can have written: {error}")
                continue
            updates.append(row_update(position, key, row))
    return root_of(apply_updates(None, updates))


def _commitment_problems(stored: _Stored, signed: SupportedBatch | None) -> Iterator[str]:
    cursor = stored.cursor
    if signed is None:
        yield f"the database is at turn {cursor.turn}, which is not in this node's log"
        return
    wanted = {
        "sequence": (cursor.sequence, signed.end_sequence),
        "amounts": (cursor.amounts, signed.amounts),
        "state root": ("0x" + cursor.state_root.hex(), "0x" + signed.state_root.hex()),
        "log root": ("0x" + cursor.log_root.hex(), "0x" + signed.log_root.hex()),
    }
    for name, (found, expected) in wanted.items():
        if found != expected:
            yield f"scapp.cursors has {name} {found}, signed is {expected}"
    if len(stored.entries) != signed.end_sequence:
        yield f"scapp.messages has {len(stored.entries)} entries, signed are {signed.end_sequence}"
    log_root = extend_log_root(ZERO_HASH, stored.entries)
    if log_root != signed.log_root:
        yield f"log root over scapp.messages is 0x{log_root.hex()}, signed is 0x{signed.log_root.hex()}"


def _signed_at(source: EntrySource, context: ChannelContext, turn: int) -> SupportedBatch | None:
    return next((batch for batch in source.batches(context.channel_id) if batch.turn == turn), None)


def _differences(
    schema: AppSchema,
    stored: _Stored,
    context: ChannelContext,
    source: EntrySource,
    make_kernel: Callable[[], Kernel],
) -> Iterator[str]:
    """Every row, event and entry that differs from what the log gives."""
    kernel = make_kernel()
    try:
        entries: list[bytes] = []
        events: list[AppEvent] = []
        for batch in source.batches(context.channel_id):
            if batch.turn > stored.cursor.turn:
                break
            if batch.entries:
                kernel.run(batch.first_sequence, batch.entries, budget=Budget.DERIVE)
                kernel.commit(batch.turn)
                events += kernel.take_changes(COPY_NEVER).app_events()
            entries += batch.entries
        for table in schema.manifest.tables:
            yield from _row_differences(table, stored.tables[table.name], list(kernel.rows(table.name)))
    finally:
        kernel.close()
    for number, (found, right) in enumerate(zip(stored.entries, entries, strict=False)):
        if found != right:
            yield f"scapp.messages: entry {number} was changed"
    yield from _event_differences(stored.events, events)


def _row_differences(table: Table, found: list[bytes], right: list[bytes]) -> Iterator[str]:
    codec = TableCodec(table)
    found_by_key = {codec.key_tuple(row): row for row in found}
    right_by_key = {codec.key_tuple(row): row for row in right}
    for key, row in right_by_key.items():
        if key not in found_by_key:
            yield f"table {table.name}: row {_named(codec, key)} is missing"
        elif found_by_key[key] != row:
            yield f"table {table.name}: row {_named(codec, key)} was changed"
    for key in found_by_key.keys() - right_by_key.keys():
        yield f"table {table.name}: row {_named(codec, key)} is too many"


def _event_differences(found: list[AppEvent], right: list[AppEvent]) -> Iterator[str]:
    found_at = {(event.sequence, event.index): event for event in found}
    right_at = {(event.sequence, event.index): event for event in right}
    for place in sorted(found_at.keys() | right_at.keys()):
        if found_at.get(place) != right_at.get(place):
            kind = "missing" if place not in found_at else "too many" if place not in right_at else "changed"
            yield f"scapp.events: event {place[1]} of entry {place[0]} is {kind}"


def _named(codec: TableCodec, key: bytes) -> str:
    try:
        values = codec.key.decode(key)
    except RowError:
        return f"0x{key.hex()}"
    shown = (f"0x{value.hex()}" if isinstance(value, bytes) else str(value) for value in values)
    names = (column.name for column in codec.table.key_columns)
    return "(" + ", ".join(f"{name} {value}" for name, value in zip(names, shown, strict=True)) + ")"
