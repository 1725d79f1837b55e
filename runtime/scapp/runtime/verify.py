"""Is the database what was co-signed? `stored.py` reads it, `differences.py` names what differs, `leaves.py` has the
root over rows in any order; `verify_kept.py` and `verify_history.py` look at what is under no root.

Two looks, in one snapshot of the database. The quick one hashes every row and every event and compares one root, and
compares messages with the log byte by byte. Only when the roots differ is the log run again, and database and kernel
are walked side by side in key order. Neither holds more in memory than 64 bytes for each row.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from typing import Any

import msgspec
import psycopg

from scapp.channels.admission import ChannelContext
from scapp.channels.crypto import keccak256
from scapp.channels.entries import HEADER, HEADER_BYTES, Kind, extend_log_root
from scapp.channels.errors import LocalError
from scapp.channels.reading import EntrySource, SupportedBatch
from scapp.channels.types import ZERO_HASH
from scapp.reducers.manifest import Table
from scapp.runtime.changes import COPY_NEVER, AppEvent
from scapp.runtime.database.connecting import one_line
from scapp.runtime.database.port import Backend
from scapp.runtime.database.write import read_cursor
from scapp.runtime.derive import DerivationHalted
from scapp.runtime.differences import Difference, difference, differing, row_difference
from scapp.runtime.history import history_tables
from scapp.runtime.kernel import Kernel
from scapp.runtime.leaves import Leaves, RepeatedLeaf
from scapp.runtime.progress import Meter
from scapp.runtime.replica import Replica
from scapp.runtime.root import EVENT_PATH, extend_event_root, leaf_hash, row_path
from scapp.runtime.rows import TableCodec
from scapp.runtime.schema import AppSchema
from scapp.runtime.stored import read_events, read_messages, read_rows
from scapp.runtime.verify_history import history_differences
from scapp.runtime.verify_kept import (
    DIFFERENCES_MAX,
    Findings,
    Stored,
    compare_cursor,
    compare_event_root,
    compare_registration,
    hex_text,
    shown,
)

_KINDS = frozenset(Kind)


class NothingDerived(LocalError):
    """The database has nothing of this channel yet."""


class VerifyReport(msgspec.Struct, frozen=True):
    """`ok` means: rows, events, messages and cursor are exactly what all participants signed at `turn`, and versions of
    rows what follows from it.

    `differences` are the first DIFFERENCES_MAX of `difference_count`; `notes` say what cannot be named as one."""

    ok: bool
    sequence: int
    turn: int
    expected_root: bytes
    found_root: bytes
    rows: int
    differences: tuple[Difference, ...] = ()
    difference_count: int = 0
    notes: tuple[str, ...] = ()

    @property
    def problems(self) -> tuple[str, ...]:
        """Everything that is wrong, in words."""
        left = self.difference_count - len(self.differences)
        more = (f"and {left} more differences",) if left else ()
        return (*map(str, self.differences), *more, *self.notes)


def verify_channel(
    backend: Backend,
    schema: AppSchema,
    context: ChannelContext,
    source: EntrySource,
    make_kernel: Callable[[], Kernel] | None = None,
    meter: Meter | None = None,
) -> VerifyReport:
    """Compare the database's rows of one channel with the state co-signed at the database's own cursor.

    With `make_kernel` the log is run again when the roots differ, and the rows that differ are named; and where the app
    has tables with history, whose versions are compared with what the log gives. Raises NothingDerived, and psycopg's
    errors while the database is unreachable."""
    meter = meter or Meter()
    findings = Findings()
    with backend.connect() as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        with connection.transaction():
            cursor = read_cursor(connection, context.channel_id)
            if cursor is None or cursor.turn < 0:
                raise NothingDerived(f"nothing of channel 0x{context.channel_id.hex()} is in the database yet")
            database = Stored(connection, schema, context, cursor)
            looked = _Roots(cursor.state_root)
            try:
                with connection.transaction():
                    _look(database, source, make_kernel, findings, meter, looked)
            except psycopg.ProgrammingError as error:  # a table, a column, a right
                findings.notes.append(f"the database lacks what scapp made in it: {one_line(error)}")
    return VerifyReport(
        ok=not findings.count and not findings.notes,
        sequence=cursor.sequence,
        turn=cursor.turn,
        expected_root=looked.expected,
        found_root=looked.found,
        rows=looked.rows,
        differences=tuple(findings.first),
        difference_count=findings.count,
        notes=tuple(findings.notes),
    )


class _Roots(msgspec.Struct):
    """What was seen before the end, or before something was not there."""

    expected: bytes
    found: bytes = ZERO_HASH
    rows: int = 0


def _look(
    database: Stored,
    source: EntrySource,
    make_kernel: Callable[[], Kernel] | None,
    findings: Findings,
    meter: Meter,
    looked: _Roots,
) -> None:
    compare_registration(database, findings)
    signed = _compare_messages(database, source, findings, meter)
    looked.found, event_root, looked.rows = _root(database, findings, meter)
    compare_event_root(database.cursor, event_root, findings)
    if signed is not None:
        looked.expected = signed.state_root
    if looked.found != looked.expected:
        if make_kernel is not None and signed is not None:
            _compare_tables(database, source, make_kernel, findings, meter)
        findings.notes.append(
            f"state root over the rows is 0x{looked.found.hex()}, signed is 0x{looked.expected.hex()}"
        )
    if make_kernel is not None and signed is not None and history_tables(database.schema.manifest):
        meter.stage("comparing versions of rows with the log", "entries", database.cursor.sequence)
        found = history_differences(
            database.connection, database.schema, database.context, source, make_kernel, database.cursor.turn, meter
        )
        _add_all(found, findings, "versions are not compared")


def _compare_messages(database: Stored, source: EntrySource, findings: Findings, meter: Meter) -> SupportedBatch | None:
    """The messages against the log up to the cursor's turn; returns the batch signed at that turn, if there is one."""
    meter.stage("comparing messages with the log", "messages", database.cursor.sequence)
    last: list[SupportedBatch] = []
    log_root = ZERO_HASH

    def logged() -> Iterator[tuple[int, tuple[int, bytes | None]]]:
        nonlocal log_root
        for batch in source.batches(database.context.channel_id):
            if batch.turn > database.cursor.turn:
                return
            last[:] = [batch]
            log_root = extend_log_root(log_root, batch.entries)
            for sequence, entry in enumerate(batch.entries, batch.first_sequence):
                yield sequence, (batch.turn, entry)
            meter.advance(len(batch.entries))

    faults: dict[int, str] = {}

    def stored() -> Generator[tuple[int, tuple[int, bytes | None]], None, None]:
        for message in read_messages(database.connection, database.context.channel_id):
            if message.entry is None and len(faults) < DIFFERENCES_MAX:
                faults[message.sequence] = message.fault
            yield message.sequence, (message.turn, message.entry)

    with closing(stored()) as found:
        for sequence, left, right in differing(found, logged()):
            standing = None if left is None else _message(*left, faults.get(sequence, ""))
            expected = None if right is None else _message(*right)
            findings.add(difference("scapp.messages", {"sequence": sequence}, standing, expected))
    if not last or last[0].turn != database.cursor.turn:
        findings.notes.append(f"the database is at turn {database.cursor.turn}, which is not in this node's log")
        return None
    signed = last[0]
    if log_root != signed.log_root:
        findings.notes.append(
            f"log root over this node's log is 0x{log_root.hex()}, signed is 0x{signed.log_root.hex()}"
        )
    compare_cursor(database, signed, findings)
    return signed


def _message(turn: int, entry: bytes | None, fault: str = "") -> dict[str, Any]:
    if entry is None:
        return {"turn": turn, "fault": f"no entry: {fault}"}
    kind, author, counter, time_ms = HEADER.unpack_from(entry)
    return {
        "turn": turn,
        "kind": Kind(kind).name.lower() if kind in _KINDS else kind,
        "author": author,
        "counter": shown(counter),
        "time_ms": shown(time_ms),
        "payload": hex_text(entry[HEADER_BYTES:]),
    }


# -- rows and events --------------------------------------------------------------------------------------------------


def _root(database: Stored, findings: Findings, meter: Meter) -> tuple[bytes, bytes, int]:
    """Root over everything stored, root of the event chain, and how many rows there are."""
    leaves = Leaves()
    event_root: bytes = ZERO_HASH
    meter.stage("hashing events", "events")
    for event in read_events(database.connection, database.context.channel_id):
        event_root = extend_event_root(event_root, event.sequence, event.topic.encode(), event.data)
        meter.advance()
    leaves.add(EVENT_PATH, leaf_hash(EVENT_PATH, event_root))
    meter.stage("hashing rows", "rows")
    rows = malformed = 0
    for position, table in enumerate(database.schema.manifest.tables):
        codec = TableCodec(table)
        for row in read_rows(
            database.connection, database.schema.name, table, database.context.channel_id, ordered=False
        ):
            rows += 1
            meter.advance()
            try:
                path = row_path(position, codec.stored_key(row))
            except ValueError:
                malformed += 1
                continue
            leaves.add(path, keccak256(b"\x00" + path + keccak256(row)))
    try:
        root = leaves.root()
    except RepeatedLeaf as error:
        findings.notes.append(f"the tables have no root: {error}")
        return ZERO_HASH, event_root, rows
    if malformed:
        findings.notes.append(f"{malformed} rows have keys that no reducer can have written")
    return root, event_root, rows


def _compare_tables(
    database: Stored,
    source: EntrySource,
    make_kernel: Callable[[], Kernel],
    findings: Findings,
    meter: Meter,
) -> None:
    """Name every row and event that differs from what the log gives."""
    with closing(make_kernel()) as kernel:
        replica = Replica(database.context, source, kernel)
        meter.stage("running the log again", "entries", database.cursor.sequence)

        def derived() -> Iterator[tuple[tuple[int, int], tuple[str, bytes]]]:
            for batch in replica.advance(database.cursor.turn):
                yield from map(_event, kernel.take_changes(COPY_NEVER).app_events())
                meter.advance(len(batch.entries))

        with closing(read_events(database.connection, database.context.channel_id)) as stored:
            events = (
                difference(
                    "scapp.events", {"sequence": at[0], "index": at[1]}, _event_shown(found), _event_shown(right)
                )
                for at, found, right in differing(map(_event, stored), derived())
            )
            if not _add_all(events, findings, "rows are not named"):
                return
        meter.stage("comparing rows", "rows")
        for table in database.schema.manifest.tables:
            for found_difference in _row_differences(database, table, kernel, meter):
                findings.add(found_difference)


def _add_all(differences: Iterable[Difference], findings: Findings, otherwise: str) -> bool:
    """Of a log that is run again on the way; False when that is not possible, which `otherwise` is the end of."""
    try:
        for found in differences:
            findings.add(found)
    except DerivationHalted as error:
        findings.notes.append(f"the log cannot be run again here, so {otherwise}: {error.reason}")
        return False
    return True


def _event(event: AppEvent) -> tuple[tuple[int, int], tuple[str, bytes]]:
    return (event.sequence, event.index), (event.topic, event.data)


def _event_shown(event: tuple[str, bytes] | None) -> dict[str, Any] | None:
    return None if event is None else {"topic": event[0], "data": hex_text(event[1])}


def _row_differences(database: Stored, table: Table, kernel: Kernel, meter: Meter) -> Iterator[Difference]:
    codec = TableCodec(table)
    name = f"{database.schema.name}.{table.name}"
    malformed: list[bytes] = []

    def stored() -> Generator[tuple[bytes, bytes], None, None]:
        for row in read_rows(database.connection, database.schema.name, table, database.context.channel_id):
            meter.advance()
            try:
                yield codec.stored_key(row), row
            except ValueError:
                malformed.append(row)

    derived = ((codec.stored_key(row), row) for row in kernel.rows(table.name))
    with closing(stored()) as found_rows:
        for _, found, right in differing(found_rows, derived):
            yield row_difference(name, table, found, right)
            while malformed:
                yield row_difference(name, table, malformed.pop(), None)
    while malformed:
        yield row_difference(name, table, malformed.pop(), None)
