"""The write path: one statement per commit that moves the cursor by compare-and-set and, only if it moved, deletes,
upserts and appends; what comes as COPY streams follows in the same transaction. `schema.py` made the tables, the kernel
the buffers (`scapp.runtime.changes`), and nothing here looks into one.

Exactly once: the cursor's old sequence and log root are the condition and its new ones are in the same transaction as
the rows, so a repeated or late commit changes nothing, and the caller reads the cursor to learn which it was.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec
import psycopg

from scapp.channels.types import ChannelId
from scapp.reducers.manifest import HISTORY_PREFIX, Manifest, Table
from scapp.runtime.changes import EVENTS, MESSAGES, BatchChanges, TableChange
from scapp.runtime.database import binary, replacing, sql
from scapp.runtime.database.binary import Raw
from scapp.runtime.database.connecting import Connection
from scapp.runtime.database.phrases import quoted, unnested
from scapp.runtime.history import history_tables

NOTIFY_CHANNEL = "scapp_cursor"
"""Payload of a notification: channel id in hexadecimal, a blank, the sequence the cursor moved to."""
COPY_ROWS_MIN = 500
"""From how many inserted rows on a table's COPY is faster than its part of the statement."""
COPY_BUFFERED_ROWS_MIN = 4_000
"""From how many rows on COPY had better buffer them. The server makes up to 1000 buffers and notes each under the same
key of one hash table, so that making them takes a time that grows with their square: 1.4 ms, as much as 1000 rows."""


LIVE = "scapp."
"""Prefix of where cursors, messages and events of the channels themselves stand; a replay has its own."""


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
    batch_position: int = 0  # from where on this node's own log is read to find the batch at `turn`
    event_root: bytes | None = None  # under the state root; a database of before it was kept has none


class Commit(msgspec.Struct, frozen=True, gc=False):
    """Everything one write does to one channel."""

    channel_id: ChannelId
    schema: str
    manifest: Manifest
    expected: Cursor
    new: Cursor
    changes: BatchChanges
    home: str = LIVE


def read_cursor(connection: Connection, channel_id: bytes, home: str = LIVE) -> Cursor | None:
    """Where the channel stands in the database; None when it is not registered."""
    cursor: psycopg.RawCursor[tuple[Any, ...]] = psycopg.RawCursor(connection)
    statement = sql.text("cursor_read", home).encode()
    row = cursor.execute(statement, [channel_id], binary=True).fetchone()
    if row is None:
        return None
    sequence, turn, state_root, log_root, amounts, *rest = row
    return Cursor(sequence, turn, state_root, log_root, tuple(int(amount) for amount in amounts), *rest)


def read_turns(connection: Connection, home: str = LIVE) -> dict[bytes, int]:
    """The turn up to which each registered channel is in the database, -1 for nothing."""
    cursor: psycopg.RawCursor[tuple[Any, ...]] = psycopg.RawCursor(connection)
    return dict(cursor.execute(sql.text("cursor_turns", home).encode(), binary=True).fetchall())


def write(connection: Connection, commit: Commit, *, notify: bool, confirmed: Callable[[], bool] | None = None) -> bool:
    """Write the commit: in one round trip, when nothing of it is a COPY stream, else in one transaction. `confirmed` is
    asked, and may take its time, when all is written and before it counts.

    False when the cursor stood elsewhere, or the commit was not confirmed, and then nothing was changed."""
    binary.register(connection)
    parts = _sorted(commit)
    if not parts.streamed and not parts.joined and confirmed is None:
        return _execute(connection, commit, parts, notify) is not None
    try:
        return _write_whole(connection, commit, parts, notify, confirmed)
    except psycopg.errors.UniqueViolation:
        if not parts.joined:
            raise
    # A join fails where somebody has put a row there since it looked; looks under the keys do not.
    return _write_whole(connection, commit, _sorted(commit, joins=False), notify, confirmed)


def _write_whole(
    connection: Connection, commit: Commit, parts: _Sorted, notify: bool, confirmed: Callable[[], bool] | None
) -> bool:
    with connection.transaction() as transaction:
        if not _write_all(connection, commit, parts, notify):
            return False
        if confirmed is None or confirmed():
            return True
        raise psycopg.Rollback(transaction)
    return False


def write_early(
    connection: Connection,
    channel_id: ChannelId,
    expected: Cursor,
    home: str,
    messages: Iterable[bytes],
    rest: Callable[[], Commit | None],
    *,
    few: bool,
    notify: bool,
    confirmed: Callable[[], bool],
) -> bool:
    """`write`, begun before the commit is known: parts of the messages' COPY stream come first and may take their time,
    then `rest` is asked for everything else, None to give it up. `few`: the messages are fewer than COPY should buffer.

    False when the cursor does not stand at `expected`, or the commit was given up or not confirmed; then nothing was
    changed."""
    binary.register(connection)
    with connection.transaction() as transaction:
        if not _hold(connection, channel_id, expected, home):
            return False
        _copy_in(connection, f"{home}messages", MESSAGES, messages, few=few)
        commit = rest()
        if commit is not None:
            moved = _write_all(connection, commit, _sorted(commit), notify)
            assert moved, "nobody moves a cursor that is held"
            if confirmed():
                return True
        raise psycopg.Rollback(transaction)
    return False


def _hold(connection: Connection, channel_id: ChannelId, expected: Cursor, home: str) -> bool:
    parameters = [Raw(channel_id), binary.int8(expected.sequence), Raw(expected.log_root), binary.int8(expected.turn)]
    statement = sql.text("cursor_hold", home).encode()
    return psycopg.RawCursor(connection).execute(statement, parameters).rowcount == 1


_Part = tuple[str, Table, TableChange]


def _parts(commit: Commit) -> Iterator[_Part]:
    """Every change with its table and the table's quoted name."""
    changes = commit.changes
    if changes.messages is not None:
        yield f"{commit.home}messages", MESSAGES, changes.messages
    if changes.events is not None:
        yield f"{commit.home}events", EVENTS, changes.events
    tables = {table.name: table for table in commit.manifest.tables}
    for change in changes.tables:
        yield f"{quoted(commit.schema)}.{quoted(change.table)}", tables[change.table], change
    histories = {table.name: table for table in history_tables(commit.manifest)} if changes.history else {}
    for change in changes.history:
        yield f"{quoted(commit.schema)}.{quoted(change.table)}", histories[change.table], change


class _Sorted(msgspec.Struct, frozen=True):
    """A commit's parts by how they are written. What is upserted by a join has its deletes in arrays."""

    arrays: tuple[_Part, ...]
    joined: tuple[_Part, ...]
    streamed: tuple[_Part, ...]


def _sorted(commit: Commit, *, joins: bool = True) -> _Sorted:
    arrays: list[_Part] = []
    joined: list[_Part] = []
    streamed: list[_Part] = []
    for target, table, change in _parts(commit):
        if change.copy:
            streamed.append((target, table, change))
        elif joins and replacing.replaces_many(table, change):
            joined.append((target, table, change))
            if change.deletes:
                rest = msgspec.structs.replace(change, upserts=0, upsert_arrays=())
                arrays.append((target, table, rest))
        else:
            arrays.append((target, table, change))
    return _Sorted(tuple(arrays), tuple(joined), tuple(streamed))


def _write_all(connection: Connection, commit: Commit, parts: _Sorted, notify: bool) -> bool:
    """In the caller's transaction; False, and nothing done, when the cursor stands elsewhere."""
    roomless = _execute(connection, commit, parts, notify)
    if roomless is None:
        return False
    for place in roomless:
        replacing.give_room(connection, parts.joined[place][0])
    for target, table, change in parts.joined:
        replacing.replace(connection, commit.channel_id, target, table, change)
    for target, table, change in parts.streamed:
        _copy_in(connection, target, table, [change.copy], few=change.upserts < COPY_BUFFERED_ROWS_MIN)
    return True


def _execute(connection: Connection, commit: Commit, parts: _Sorted, notify: bool) -> Sequence[int] | None:
    """Move the cursor and, if it moved, do all that comes in arrays; None if it did not. The places of joined tables
    that lack room."""
    shape = tuple((target, table, bool(change.deletes), bool(change.upserts)) for target, table, change in parts.arrays)
    parameters = _cursor_parameters(commit)
    for _, _, change in parts.arrays:
        parameters += map(Raw, change.delete_arrays + change.upsert_arrays)
    statement = _statement(shape, tuple(target for target, _, _ in parts.joined), notify, commit.home)
    cursor: psycopg.RawCursor[tuple[Any, ...]] = psycopg.RawCursor(connection)
    row = cursor.execute(statement, parameters).fetchone()
    return None if row is None else row[2] if parts.joined else ()


def _copy_in(connection: Connection, target: str, table: Table, tuples: Iterable[bytes], *, few: bool) -> None:
    names = ", ".join(("channel_id", *(quoted(column.name) for column in table.columns)))
    # Rows are not buffered below a condition that is volatile.
    unbuffered = " WHERE random() >= 0" if few else ""
    statement = f"COPY {target} ({names}) FROM STDIN (FORMAT binary){unbuffered}".encode()
    with connection.cursor() as cursor, cursor.copy(statement) as stream:
        stream.write(binary.COPY_HEADER)
        for part in tuples:
            stream.write(part)
        stream.write(binary.COPY_TRAILER)


def _cursor_parameters(commit: Commit) -> list[Raw | None]:
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
        binary.int8(new.batch_position),
        None if new.event_root is None else Raw(new.event_root),
    ]


# -- the statement --------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1024)
def _statement(
    shape: tuple[tuple[str, Table, bool, bool], ...], joined: tuple[str, ...], notify: bool, home: str
) -> bytes:
    """`shape`: by table its quoted name, and whether it has deletes and upserts. `joined` are to be replaced by joins
    afterwards."""
    numbers = itertools.count(15)
    parts = [sql.text("cursor_move", home)]
    for position, (target, table, deletes, upserts) in enumerate(shape):
        if deletes:
            parts.append(f"d{position} AS (\n{_delete(target, table, numbers)})")
        if upserts:
            parts.append(f"u{position} AS (\n{_upsert(target, table, numbers)})")
    return (",\n".join(parts) + "\n" + _outcome(joined, notify)).encode()


def _outcome(joined: tuple[str, ...], notify: bool) -> str:
    """One result row if the cursor moved, none if not."""
    told = f"pg_notify('{NOTIFY_CHANNEL}', encode(channel_id, 'hex') || ' ' || sequence)" if notify else "1"
    wanted = f"{told}, {replacing.preparation(joined)}" if joined else told
    return f"SELECT {wanted} FROM moved"  # noqa: S608 - no part comes from outside


def _delete(target: str, table: Table, numbers: Iterator[int]) -> str:
    keys = table.key_columns
    match = " AND ".join(f"t.{quoted(column.name)} = u.c{index}" for index, column in enumerate(keys))
    # Identifiers are quoted and values are parameters.
    return (
        f"DELETE FROM {target} AS t USING {unnested(keys, numbers)}\n"  # noqa: S608
        f"WHERE EXISTS (SELECT FROM moved) AND t.channel_id = $1::bytea AND {match}"
    )


def _upsert(target: str, table: Table, numbers: Iterator[int]) -> str:
    names = [quoted(column.name) for column in table.columns]
    picked = ", ".join(f"u.c{index}" for index in range(len(names)))
    return (
        f"INSERT INTO {target} (channel_id, {', '.join(names)})\n"  # noqa: S608
        f"SELECT $1::bytea, {picked} FROM {unnested(table.columns, numbers)} WHERE EXISTS (SELECT FROM moved)\n"
        + _on_conflict(table, names)
    )


def _on_conflict(table: Table, names: Sequence[str]) -> str:
    # An app's table may be equal to messages and events, but never has a history's name.
    if table is MESSAGES or table is EVENTS or table.name.startswith(HISTORY_PREFIX):
        return ""  # only ever appended to
    sets = ", ".join(f"{name} = excluded.{name}" for name in names[table.key :])
    return f"ON CONFLICT (channel_id, {', '.join(names[: table.key])}) " + (
        f"DO UPDATE SET {sets}" if sets else "DO NOTHING"
    )
