"""Gathers what committed batches changed, for `Kernel.take_changes` of the plain-Python kernel, and writes it as
buffers. `changes.py` says what the buffers are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from scapp.channels.entries import HEADER, HEADER_BYTES
from scapp.reducers.manifest import Table
from scapp.runtime import arrays
from scapp.runtime.arrays import bytes_field, int2_field, int4_field, int8_field
from scapp.runtime.changes import EVENTS, MESSAGES, AppEvent, BatchChanges, TableChange
from scapp.runtime.history import history_table
from scapp.runtime.row_types import int_to_numeric
from scapp.runtime.rows import TableCodec

Originals = dict[bytes, bytes | None]
"""By encoded key the row before, None where there was none."""


class NetChanges:
    """Everything since the last take; `rows` of a table are given when taking, as they are then."""

    def __init__(self, channel_id: bytes) -> None:
        self._channel_id = channel_id
        self._clear()

    def _clear(self) -> None:
        self._originals: dict[int, Originals] = {}
        self._messages: list[bytes] = []
        self._events: list[bytes] = []
        self._versions: dict[int, list[bytes]] = {}

    def add_table(self, position: int, originals: Originals) -> None:
        """One batch's change of one table: of each key whose row is now another, the row before the batch."""
        known = self._originals.setdefault(position, {})
        for key, old in originals.items():
            known.setdefault(key, old)

    def add_entries(self, first_sequence: int, turn: int, entries: Sequence[bytes]) -> None:
        self._messages += [message_row(sequence, turn, data) for sequence, data in enumerate(entries, first_sequence)]

    def add_events(self, events: Sequence[AppEvent]) -> None:
        self._events += map(event_row, events)

    def add_versions(self, versions: Sequence[tuple[int, bytes]]) -> None:
        """Table positions and tuples of their histories."""
        for position, version in versions:
            self._versions.setdefault(position, []).append(version)

    def held_bytes(self) -> int:
        """Rows as they were, events and versions."""
        rows = (len(key) + len(old or b"") for known in self._originals.values() for key, old in known.items())
        versions = (len(version) for kept in self._versions.values() for version in kept)
        return sum(rows) + sum(versions) + sum(map(len, self._events))

    def take(self, tables: Sequence[tuple[TableCodec, Mapping[bytes, bytes]]], copy_rows_min: int) -> BatchChanges:
        """Everything gathered, and forget it; `tables` are all of them with their rows as committed."""
        changes = []
        for position in sorted(self._originals):
            codec, rows = tables[position]
            change = _net(self._channel_id, codec, self._originals[position], rows, copy_rows_min)
            if change is not None:
                changes.append(change)
        messages = self._appended(MESSAGES, self._messages, copy_rows_min)
        events = self._appended(EVENTS, self._events, copy_rows_min)
        history = [
            self._appended(history_table(tables[position][0].table), self._versions[position], copy_rows_min)
            for position in sorted(self._versions)
        ]
        self._clear()
        return BatchChanges(tuple(changes), messages, events, tuple(change for change in history if change is not None))

    def _appended(self, table: Table, rows: list[bytes], copy_rows_min: int) -> TableChange | None:
        if not rows:
            return None
        return table_change(self._channel_id, table, rows, copy_rows_min=copy_rows_min, insert_only=True)


def table_change(
    channel_id: bytes,
    table: Table,
    upserts: Sequence[bytes],
    deletes: Sequence[bytes] = (),
    *,
    copy_rows_min: int,
    insert_only: bool = False,
    replaced_among: int = 0,
) -> TableChange:
    """Rows and deleted keys, in key order, as buffers; `insert_only`: no key of `upserts` existed before."""
    count = len(upserts)
    if insert_only and not deletes and count >= copy_rows_min:
        return TableChange(table.name, count, 0, copy=_copy(channel_id, len(table.columns), upserts))
    return TableChange(
        table.name,
        count,
        len(deletes),
        _arrays([column.type for column in table.columns], upserts),
        _arrays([column.type for column in table.key_columns], deletes),
        replaced_among=replaced_among,
    )


def message_row(sequence: int, turn: int, entry: bytes) -> bytes:
    """Row of MESSAGES for a log entry."""
    kind, author, counter, time_ms = HEADER.unpack_from(entry)
    fields = (
        int8_field(sequence),
        int8_field(turn),
        int2_field(kind),
        int2_field(author),
        bytes_field(int_to_numeric(counter)),
        int8_field(time_ms),
        bytes_field(entry[HEADER_BYTES:]),
    )
    return len(fields).to_bytes(2, "big") + b"".join(fields)


def message_rows(channel_id: bytes, first_sequence: int, turn: int, entries: Sequence[bytes]) -> bytes:
    """COPY tuples of MESSAGES for log entries."""
    rows = [message_row(sequence, turn, data) for sequence, data in enumerate(entries, first_sequence)]
    return _copy(channel_id, len(MESSAGES.columns), rows)


def event_row(event: AppEvent) -> bytes:
    """Row of EVENTS for an event."""
    fields = (
        int8_field(event.sequence),
        int4_field(event.index),
        bytes_field(event.topic.encode()),
        bytes_field(event.data),
    )
    return len(fields).to_bytes(2, "big") + b"".join(fields)


def _net(
    channel_id: bytes, codec: TableCodec, originals: Originals, rows: Mapping[bytes, bytes], copy_rows_min: int
) -> TableChange | None:
    changed = [(key, old) for key, old in sorted(originals.items()) if rows.get(key) != old]
    if not changed:
        return None
    upserts = [rows[key] for key, _ in changed if key in rows]
    replaced = sum(old is not None and key in rows for key, old in changed)
    return table_change(
        channel_id,
        codec.table,
        upserts,
        [codec.key_tuple(old) for key, old in changed if old is not None and key not in rows],
        copy_rows_min=copy_rows_min,
        insert_only=all(old is None for _, old in changed),
        replaced_among=len(rows) if upserts and 2 * replaced >= len(upserts) else 0,
    )


def _arrays(types: Sequence[str], rows: Sequence[bytes]) -> tuple[bytes, ...]:
    if not rows:
        return ()
    columns = arrays.columns_of(rows, len(types))
    return tuple(arrays.array(type_, fields) for type_, fields in zip(types, columns, strict=True))


def _copy(channel_id: bytes, column_count: int, rows: Sequence[bytes]) -> bytes:
    head = (column_count + 1).to_bytes(2, "big") + bytes_field(channel_id)
    return b"".join([head + row[2:] for row in rows])
