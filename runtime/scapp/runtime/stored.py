"""What a database holds of one channel, as streams in bounded memory; `verify.py` and `replay.py` compare them.

A row is a COPY BINARY tuple without the channel id, as everywhere (`changes.py`).
"""

from __future__ import annotations

import struct
from collections.abc import Generator, Iterable, Iterator

import msgspec

from scapp.channels.entries import encode_entry
from scapp.reducers.manifest import Table
from scapp.runtime.changes import AppEvent
from scapp.runtime.database import binary
from scapp.runtime.database.connecting import Connection
from scapp.runtime.database.phrases import quoted
from scapp.runtime.database.write import LIVE

_LENGTH = struct.Struct(">i")


class StoredMessage(msgspec.Struct, frozen=True, gc=False):
    """One row of `messages`; `entry` is what it encodes to, None with `fault` when it cannot be an entry."""

    sequence: int
    turn: int
    entry: bytes | None
    fault: str = ""


def read_rows(
    connection: Connection, schema: str, table: Table, channel_id: bytes, *, ordered: bool = True
) -> Iterator[bytes]:
    """A channel's rows of one table; in the order of key encodings unless `ordered` is False."""
    return read_table(connection, f"{quoted(schema)}.{quoted(table.name)}", table, channel_id, ordered=ordered)


def read_table(
    connection: Connection, target: str, table: Table, channel_id: bytes, *, ordered: bool = True
) -> Iterator[bytes]:
    """The same of the table whose quoted name is `target`."""
    names = ", ".join(quoted(column.name) for column in table.columns)
    query = f"SELECT {names} FROM {target} WHERE {_of(channel_id)}"  # noqa: S608
    if ordered:
        # The collation is said here too: whoever changed the table may have changed the column's.
        keys = (quoted(c.name) + (' COLLATE "C"' if c.type == "text" else "") for c in table.key_columns)
        query += " ORDER BY " + ", ".join(keys)
    return _copied(connection, query)


def read_messages(connection: Connection, channel_id: bytes, home: str = LIVE) -> Iterator[StoredMessage]:
    """A channel's messages in order."""
    query = (
        "SELECT sequence, turn, kind::int8, author::int8, counter::text, time_ms, payload"  # noqa: S608
        f" FROM {home}messages WHERE {_of(channel_id)} ORDER BY sequence"
    )
    for row in _copied(connection, query):
        sequence, turn, kind, author, counter, time_ms, payload = map(_present, fields(row))
        try:
            entry = encode_entry(_int(kind), _int(author), int(counter), _int(time_ms), payload)
        except (struct.error, ValueError) as error:
            yield StoredMessage(_int(sequence), _int(turn), None, str(error))
        else:
            yield StoredMessage(_int(sequence), _int(turn), entry)


def read_events(
    connection: Connection,
    channel_id: bytes,
    first_sequence: int = 0,
    end_sequence: int = 2**63 - 1,
    home: str = LIVE,
) -> Generator[AppEvent, None, None]:
    """App events of entries `first_sequence .. end_sequence - 1`, in order."""
    query = (
        f"SELECT sequence, index, topic, data FROM {home}events WHERE {_of(channel_id)}"  # noqa: S608
        f" AND sequence >= {first_sequence:d} AND sequence < {end_sequence:d} ORDER BY sequence, index"
    )
    for row in _copied(connection, query):
        sequence, index, topic, data = map(_present, fields(row))
        yield AppEvent(_int(sequence), _int(index), topic.decode(), data)


def _of(channel_id: bytes) -> str:
    # COPY takes no parameters; the id is hexadecimal digits, and names are checked by the manifest.
    return f"channel_id = '\\x{channel_id.hex()}'::bytea"


def _copied(connection: Connection, query: str) -> Iterator[bytes]:
    statement = f"COPY ({query}) TO STDOUT (FORMAT binary)"
    with connection.cursor() as cursor, cursor.copy(statement.encode()) as stream:
        yield from copied_tuples(stream)


def copied_tuples(blocks: Iterable[bytes | bytearray | memoryview]) -> Iterator[bytes]:
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


def fields(row: bytes) -> list[bytes | None]:
    """The columns of a tuple, None for NULL."""
    values: list[bytes | None] = []
    position = 2
    for _ in range(row[0] << 8 | row[1]):
        (length,) = _LENGTH.unpack_from(row, position)
        position += 4
        values.append(None if length < 0 else row[position : position + length])
        position += max(length, 0)
    return values


def _present(value: bytes | None) -> bytes:
    assert value is not None, "the columns are NOT NULL"
    return value


def _int(value: bytes) -> int:
    return int.from_bytes(value, "big", signed=True)
