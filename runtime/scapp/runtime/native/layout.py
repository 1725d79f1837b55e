"""Bytes that cross between host and kernel: the description of a channel, the report after a call, changes.

The kernel's side: schema.zig `configure`, main.zig `Report`, changes.zig `write`.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import msgspec

from scapp.channels.admission import ChannelContext
from scapp.channels.deployment import Limits
from scapp.reducers.manifest import Table
from scapp.runtime.changes import BatchChanges, TableChange
from scapp.runtime.history import history_table
from scapp.runtime.proofs import Proof

TYPES = (
    "bool", "int2", "int4", "int8", "numeric", "float8", "text", "bytea", "bytes32", "address", "uuid", "timestamptz",
    "json",
)  # fmt: skip
"""By the kernel's number for the type."""
IMPORTS = ("", "get", "put", "delete", "scan", "next", "emit", "set_outcome", "reject", "log", "keccak256", "sha256")
"""By the kernel's number for the import."""


def description(context: ChannelContext, limits: Limits, tables: Sequence[Table]) -> bytes:
    """What the kernel has to know of a channel; integers little-endian."""
    parts = [
        struct.pack(
            "<QQIIII",
            limits.rows_max,
            limits.row_bytes_total_max,
            limits.events_per_message_max,
            limits.event_bytes_max,
            limits.logs_per_message_max,
            limits.log_bytes_max,
        ),
        context.channel_id,
        len(context.participants).to_bytes(4, "little"),
        *context.participants,
    ]
    assets = sorted({slot[0] for slot in context.slots})
    parts.append(struct.pack("<II", len(context.slots), len(assets)))
    parts += [
        assets.index(asset).to_bytes(4, "little") + amount.to_bytes(32, "big") for asset, _, amount in context.slots
    ]
    parts.append(len(tables).to_bytes(4, "little"))
    parts += map(_table, tables)
    return b"".join(parts)


def _table(table: Table) -> bytes:
    names = [column.name for column in table.columns]
    parts = [struct.pack("<HHH", len(names), table.key, table.history)]
    parts += [bytes((TYPES.index(column.type), column.nullable)) for column in table.columns]
    parts.append(len(table.indexes).to_bytes(2, "little"))
    for index in table.indexes:
        parts.append(struct.pack("<HH", len(index.columns), index.unique))
        parts += [names.index(column).to_bytes(2, "little") for column in index.columns]
    return b"".join(parts)


class Report(msgspec.Struct, frozen=True, gc=False):
    """What the kernel says of its last call, in the order of main.zig. Up to `row_bytes`: as of a trap."""

    phase: int
    message: int
    failure_code: int
    failure_detail: int
    import_number: int
    import_fuel: int
    import_arguments: tuple[int, ...]
    open_cursors: int
    events: int
    rows: int
    row_bytes: int
    accepted: int
    output: int
    output_length: int
    statuses: int
    amounts: int
    last_note: int
    nodes_made: int
    has_collision: int
    state_root: bytes  # of the batch, as of the last finish
    base_state_root: bytes
    base_event_root: bytes
    base_amounts: int


_REPORT = struct.Struct("<4I I4xQ6I 3I4x Q 8I 32s 32s 32s I4x")
_ARGUMENTS = slice(6, 12)


def read_report(memory: memoryview, address: int) -> Report:
    """The report at its address."""
    fields = _REPORT.unpack_from(memory, address)
    values = [*fields[: _ARGUMENTS.start], fields[_ARGUMENTS], *fields[_ARGUMENTS.stop :]]
    return Report(*values)


# -- changes ----------------------------------------------------------------------------------------------------------

_MESSAGES, _EVENTS = 0xFFFE, 0xFFFF
_HISTORY = 0x8000  # and the number of a table
_BLOCK = struct.Struct("<4I")


class _Reader:
    def __init__(self, data: memoryview) -> None:
        self.data = data
        self.position = 0

    def word(self) -> int:
        (value,) = struct.unpack_from("<I", self.data, self.position)
        self.position += 4
        return int(value)

    def part(self) -> bytes:
        """Bytes behind their length."""
        return self.take(self.word())

    def take(self, length: int) -> bytes:
        self.position += length
        return bytes(self.data[self.position - length : self.position])


def read_changes(data: memoryview, tables: Sequence[Table]) -> BatchChanges:
    """What `scapp_take` wrote."""
    reader = _Reader(data)
    changed: list[TableChange] = []
    versions: list[TableChange] = []
    messages = events = None
    for _ in range(reader.word()):
        number, upserts, deletes, copy = (reader.word() for _ in range(4))
        if number == _MESSAGES:
            messages = _change(reader, "messages", 7, 1, upserts, deletes, copy)
        elif number == _EVENTS:
            events = _change(reader, "events", 4, 2, upserts, deletes, copy)
        elif number & _HISTORY:
            table = history_table(tables[number - _HISTORY])
            versions.append(_change(reader, table.name, len(table.columns), table.key, upserts, deletes, copy))
        else:
            table = tables[number]
            changed.append(_change(reader, table.name, len(table.columns), table.key, upserts, deletes, copy))
    return BatchChanges(tuple(changed), messages, events, tuple(versions))


def _change(reader: _Reader, name: str, columns: int, key: int, upserts: int, deletes: int, copy: int) -> TableChange:
    stream = reader.part() if copy else b""
    upserted = tuple(reader.part() for _ in range(columns)) if upserts and not copy else ()
    deleted = tuple(reader.part() for _ in range(key)) if deletes else ()
    return TableChange(name, upserts, deletes, upserted, deleted, stream, reader.word())


def read_notes(data: bytes) -> list[tuple[int, int, bytes]]:
    """(message, level, text) of what `scapp_notes` wrote, in order; level `REASON` is a rejection's."""
    found, position = [], 0
    while position < len(data):
        message, level, length = struct.unpack_from("<III", data, position)
        position += 12 + length
        found.append((message, level, data[position - length : position]))
    return found[::-1]


REASON = 4


def read_rows(data: bytes) -> tuple[list[bytes], bytes]:
    """Rows that `scapp_rows` wrote and the key to go on from."""
    count, length = struct.unpack_from("<II", data)
    position = 8 + length
    rows = []
    for _ in range(count):
        (size,) = struct.unpack_from("<I", data, position)
        position += 4 + size
        rows.append(data[position - size : position])
    return rows, data[8 : 8 + length]


def read_proof(data: memoryview) -> tuple[bytes | None, Proof]:
    """What `scapp_prove` wrote."""
    reader = _Reader(data)
    has_row = reader.word()
    row = reader.part()
    siblings = tuple(reader.take(32) for _ in range(reader.word()))
    other = (reader.take(32), reader.take(32)) if reader.word() else None
    return (row if has_row else None), Proof(siblings, other)
