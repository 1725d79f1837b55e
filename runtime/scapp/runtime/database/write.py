"""The write path: one statement per batch that moves the cursor by compare-and-set and, only if it moved, deletes,
upserts and appends. `schema.py` made the tables, `binary.py` the parameters.

Exactly once: the cursor's old sequence and log root are the condition and its new ones are in the same statement as
the rows, so a repeated or late batch changes nothing, and the caller reads the cursor to learn which it was.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
import psycopg

from scapp.channels.entries import HEADER, HEADER_BYTES
from scapp.channels.types import ChannelId
from scapp.reducers.manifest import Manifest, Table
from scapp.runtime.changes import AppEvent, BatchChanges, TableChange
from scapp.runtime.database import binary, sql
from scapp.runtime.database.binary import Raw, array, columns_of
from scapp.runtime.database.connecting import Connection

NOTIFY_CHANNEL = "scapp_cursor"
"""Payload of a notification: channel id in hexadecimal, a blank, the sequence the cursor moved to."""
COPY_ROWS_MIN = 2_000


class Cursor(msgspec.Struct, frozen=True, gc=False):
    """How far a channel is derived: `sequence` entries, of which `log_root` and `state_root` are the commitments."""

    sequence: int
    turn: int
    state_root: bytes
    log_root: bytes
    amounts: tuple[int, ...]
    time_ms: int
    is_final: bool
    position: int


class StoredEntry(msgspec.Struct, frozen=True, gc=False):
    """One log entry with its place: `turn` is the batch it came in."""

    sequence: int
    turn: int
    data: bytes


class Commit(msgspec.Struct, frozen=True, gc=False):
    """Everything one write does to one channel."""

    channel_id: ChannelId
    schema: str
    manifest: Manifest
    expected: Cursor
    new: Cursor
    entries: tuple[StoredEntry, ...]
    changes: BatchChanges


def read_cursor(connection: Connection, channel_id: bytes) -> Cursor | None:
    """Where the channel stands in the database; None when it is not registered."""
    cursor: psycopg.RawCursor[tuple[Any, ...]] = psycopg.RawCursor(connection)
    row = cursor.execute(sql.text("cursor_read").encode(), [channel_id], binary=True).fetchone()
    if row is None:
        return None
    sequence, turn, state_root, log_root, amounts, time_ms, is_final, position = row
    numbers = tuple(int(amount) for amount in amounts)
    return Cursor(sequence, turn, bytes(state_root), bytes(log_root), numbers, time_ms, is_final, position)


def write(connection: Connection, commit: Commit, *, notify: bool) -> bool:
    """Write the batch in one round trip. False when the cursor stood elsewhere, and then nothing was changed."""
    binary.register(connection)
    tables = tuple(
        (_table(commit.manifest, change.table), bool(change.deletes), bool(change.upserts))
        for change in commit.changes.tables
        if change.deletes or change.upserts
    )
    statement = _statement(commit.schema, tables, bool(commit.changes.events), notify)
    parameters = [*_cursor_parameters(commit), *_message_parameters(commit.entries)]
    if commit.changes.events:
        parameters += _event_parameters(commit.changes.events)
    for change in commit.changes.tables:
        parameters += _row_parameters(_table(commit.manifest, change.table), change)
    cursor = psycopg.RawCursor(connection)
    cursor.execute(statement, parameters)
    return cursor.rowcount == 1


def copy(connection: Connection, commit: Commit, *, notify: bool) -> bool:
    """Like `write` for a channel that has no rows yet: cursor and COPY in one transaction. Faster from some thousand
    rows on; needs the COPY_IN capability."""
    binary.register(connection)
    assert commit.expected.sequence == 0
    assert not any(change.deletes for change in commit.changes.tables)
    with connection.transaction():
        cursor = psycopg.RawCursor(connection)
        statement = sql.text("cursor_move") + _outcome(notify)
        if cursor.execute(statement.encode(), _cursor_parameters(commit)).rowcount != 1:
            return False
        prefix = _field(commit.channel_id)
        for change in commit.changes.tables:
            table = _table(commit.manifest, change.table)
            names = [quoted("channel_id"), *(quoted(column.name) for column in table.columns)]
            count = (len(names)).to_bytes(2, "big")
            rows = (count + prefix + row[2:] for row in change.upserts)
            _copy_in(connection, f"{quoted(commit.schema)}.{quoted(table.name)} ({', '.join(names)})", rows)
        statement = "WITH moved AS (SELECT 1) " + _numbered(sql.text("messages_insert"), itertools.count(2))
        cursor.execute(statement.encode(), [Raw(commit.channel_id), *_message_parameters(commit.entries)])
        if commit.changes.events:
            statement = "WITH moved AS (SELECT 1) " + _numbered(sql.text("events_insert"), itertools.count(2))
            cursor.execute(statement.encode(), [Raw(commit.channel_id), *_event_parameters(commit.changes.events)])
    return True


def is_bulk(commit: Commit) -> bool:
    """Whether `copy` may and should be used instead of `write`."""
    if commit.expected.sequence != 0 or any(change.deletes for change in commit.changes.tables):
        return False
    return sum(len(change.upserts) for change in commit.changes.tables) >= COPY_ROWS_MIN


def quoted(name: str) -> str:
    """A quoted identifier; names are checked by the manifest, so this cannot meet a quote."""
    assert not set('"%') & set(name), name
    return f'"{name}"'


def _copy_in(connection: Connection, target: str, rows: Iterable[bytes]) -> None:
    with connection.cursor() as cursor, cursor.copy(f"COPY {target} FROM STDIN (FORMAT binary)".encode()) as stream:
        stream.write(binary.COPY_HEADER)
        for chunk in _chunks(rows):
            stream.write(chunk)
        stream.write(binary.COPY_TRAILER)


def _chunks(rows: Iterable[bytes], size: int = 512) -> Iterator[bytes]:
    source = iter(rows)
    while chunk := b"".join(itertools.islice(source, size)):
        yield chunk


def _field(value: bytes) -> bytes:
    return len(value).to_bytes(4, "big") + value


def _table(manifest: Manifest, name: str) -> Table:
    return next(table for table in manifest.tables if table.name == name)


# -- parameters, in the order in which the statement numbers them -------------------------------------------------


def _cursor_parameters(commit: Commit) -> list[Raw]:
    expected, new = commit.expected, commit.new
    return [
        Raw(commit.channel_id),
        binary.int8(expected.sequence),
        Raw(expected.log_root),
        binary.int8(new.sequence),
        binary.int8(new.turn),
        Raw(new.state_root),
        Raw(new.log_root),
        binary.text_array(new.amounts),
        binary.int8(new.time_ms),
        binary.boolean(new.is_final),
        binary.int8(new.position),
        binary.int8(expected.turn),
    ]


def _message_parameters(entries: Sequence[StoredEntry]) -> list[Raw]:
    headers = [HEADER.unpack_from(entry.data) for entry in entries]
    return [
        array("int8", binary.int8_fields(entry.sequence for entry in entries)),
        array("int8", binary.int8_fields(entry.turn for entry in entries)),
        array("int2", binary.int2_fields(header[0] for header in headers)),
        array("int2", binary.int2_fields(header[1] for header in headers)),
        array("text", binary.bytes_fields(b"%d" % header[2] for header in headers)),
        array("int8", binary.int8_fields(header[3] for header in headers)),
        array("bytea", binary.bytes_fields(entry.data[HEADER_BYTES:] for entry in entries)),
    ]


def _event_parameters(events: Sequence[AppEvent]) -> list[Raw]:
    return [
        array("int8", binary.int8_fields(event.sequence for event in events)),
        array("int4", binary.int4_fields(event.index for event in events)),
        array("text", binary.bytes_fields(event.topic.encode() for event in events)),
        array("bytea", binary.bytes_fields(event.data for event in events)),
    ]


def _row_parameters(table: Table, change: TableChange) -> list[Raw]:
    parameters: list[Raw] = []
    if change.deletes:
        fields = columns_of(change.deletes, table.key)
        parameters += [array(column.type, part) for column, part in zip(table.key_columns, fields, strict=True)]
    if change.upserts:
        fields = columns_of(change.upserts, len(table.columns))
        parameters += [array(column.type, part) for column, part in zip(table.columns, fields, strict=True)]
    return parameters


# -- the statement --------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1024)
def _statement(schema: str, tables: tuple[tuple[Table, bool, bool], ...], events: bool, notify: bool) -> bytes:
    numbers = itertools.count(13)
    parts = [f"messages AS (\n{_numbered(sql.text('messages_insert'), numbers)})"]
    if events:
        parts.append(f"events AS (\n{_numbered(sql.text('events_insert'), numbers)})")
    for position, (table, deletes, upserts) in enumerate(tables):
        target = f"{quoted(schema)}.{quoted(table.name)}"
        if deletes:
            parts.append(f"d{position} AS (\n{_delete(target, table, numbers)})")
        if upserts:
            parts.append(f"u{position} AS (\n{_upsert(target, table, numbers)})")
    return (sql.text("cursor_move") + ", " + ",\n".join(parts) + "\n" + _outcome(notify)).encode()


def _outcome(notify: bool) -> str:
    """One result row if the cursor moved, none if not."""
    told = f"pg_notify('{NOTIFY_CHANNEL}', encode(channel_id, 'hex') || ' ' || sequence)" if notify else "1"
    return f"SELECT {told} FROM moved"  # noqa: S608 - no part comes from outside


def _numbered(template: str, numbers: Iterator[int]) -> str:
    return re.sub(r"\{\d+\}", lambda _: f"${next(numbers)}", template)


def _arrays(columns: Sequence[object], types: Sequence[str], numbers: Iterator[int]) -> str:
    arrays = ", ".join(f"${next(numbers)}::{binary.BASE_TYPES[type_]}[]" for type_ in types)
    names = ", ".join(f"c{index}" for index in range(len(columns)))
    return f"unnest({arrays}) AS u({names})"


def _delete(target: str, table: Table, numbers: Iterator[int]) -> str:
    keys = table.key_columns
    source = _arrays(keys, [column.type for column in keys], numbers)
    match = " AND ".join(f"t.{quoted(column.name)} = u.c{index}" for index, column in enumerate(keys))
    # Identifiers are quoted and values are parameters.
    return (
        f"DELETE FROM {target} AS t USING {source}\n"  # noqa: S608
        f"WHERE EXISTS (SELECT FROM moved) AND t.channel_id = $1::bytea AND {match}"
    )


def _upsert(target: str, table: Table, numbers: Iterator[int]) -> str:
    names = [quoted(column.name) for column in table.columns]
    source = _arrays(names, [column.type for column in table.columns], numbers)
    picked = ", ".join(f"u.c{index}" for index in range(len(names)))
    sets = ", ".join(f"{name} = excluded.{name}" for name in names[table.key :])
    return (
        f"INSERT INTO {target} (channel_id, {', '.join(names)})\n"  # noqa: S608
        f"SELECT $1::bytea, {picked} FROM {source} WHERE EXISTS (SELECT FROM moved)\n"
        f"ON CONFLICT (channel_id, {', '.join(names[: table.key])}) "
        + (f"DO UPDATE SET {sets}" if sets else "DO NOTHING")
    )
