"""The books as a snapshot, so that a start does not read all events: every record, encoded, and how far it folds.

It names the fold's release and the shape of the records; one that is of another release is passed over, and all events
are folded. JSON, because amounts of 256 bits fit its integers. A record that has not changed is not encoded again.
"""

from __future__ import annotations

import functools
import logging
from binascii import crc32
from collections.abc import Callable
from typing import Any

import msgspec

from scapp.channels.books.state import BooksState
from scapp.channels.books.step import BOOKS_STREAM
from scapp.channels.errors import CorruptionError, LocalError
from scapp.channels.ledger.record import LedgerRecord
from scapp.channels.log.port import EventLog, LogClosed, LogReadFailed, Snapshot
from scapp.channels.state_snapshots import BYTES_PER_EVENT, EVENTS_AT_END, EVENTS_MIN
from scapp.channels.types import ChannelId
from scapp.channels.virtual.record import VirtualRecord

FORM = "books.2"
FOLD = 1
"""To be raised whenever a record's `evolve` gives another record for the same events; a change of the records' shape
is noticed without."""

logger = logging.getLogger("scapp.books")
_encode = msgspec.json.encode


class _Saved(msgspec.Struct, frozen=True, array_like=True, gc=False):
    form: str
    fold: int
    shape: int
    version: int
    restored_ms: int
    forgotten_ms: int
    ledgers: list[msgspec.Raw]
    virtuals: list[msgspec.Raw]


class BooksCodec:
    """`log.fold.SnapshotCodec` of the books."""

    def __init__(self) -> None:
        self._encoded: dict[ChannelId, tuple[object, msgspec.Raw]] = {}

    def encode(self, state: BooksState) -> bytes:
        """Of a copy that nobody changes meanwhile."""
        ledgers = [self._record(*item) for item in state.ledgers.items()]
        virtuals = [self._record(*item) for item in state.virtuals.items()]
        self._encoded = {
            channel: each
            for channel, each in self._encoded.items()
            if channel in state.ledgers or channel in state.virtuals
        }
        times = state.restored_ms, state.forgotten_ms
        return _encode(_Saved(FORM, FOLD, shape(), state.version, *times, ledgers, virtuals))

    def _record(self, channel: ChannelId, record: object) -> msgspec.Raw:
        known = self._encoded.get(channel)
        if known is not None and known[0] is record:
            return known[1]
        encoded = msgspec.Raw(_encode(record))
        self._encoded[channel] = record, encoded
        return encoded

    def decode(self, data: bytes) -> BooksState:
        """Raises ValueError (msgspec's errors are some) for a snapshot of another release."""
        try:
            saved = msgspec.json.decode(data, type=_Saved)
        except RecursionError as error:
            raise ValueError(str(error)) from None
        if (saved.form, saved.fold, saved.shape) != (FORM, FOLD, shape()):
            found = f"{saved.form} {saved.fold} {saved.shape:08x}"
            raise ValueError(f"snapshot is of form {found}, this release has {FORM} {FOLD} {shape():08x}")
        state = BooksState()
        for raw in saved.ledgers:
            ledger = msgspec.json.decode(raw, type=LedgerRecord)
            state.ledgers[ledger.channel] = ledger
            self._encoded[ledger.channel] = ledger, raw
        for raw in saved.virtuals:
            virtual = msgspec.json.decode(raw, type=VirtualRecord)
            state.virtuals[virtual.channel_id] = virtual
            self._encoded[virtual.channel_id] = virtual, raw
        state.version = saved.version
        state.restored_ms = saved.restored_ms
        state.forgotten_ms = saved.forgotten_ms
        state.snapshot = saved.version, len(data)
        return state


@functools.cache
def shape() -> int:
    """A checksum of the records' fields and their types, to the bottom."""
    schemas: list[Any] = [msgspec.json.schema(kind) for kind in (LedgerRecord, VirtualRecord)]
    return crc32(_encode(schemas))


class BooksSnapshots:
    """When the books save one. A snapshot that could not be saved costs time at the next start and nothing else."""

    def __init__(self, log: EventLog, state: BooksState, codec: BooksCodec, *, events_min: int = EVENTS_MIN) -> None:
        self._log = log
        self._state = state
        self._codec = codec
        self._events_min = events_min
        self._saved_at, size = state.snapshot
        self._due_at = self._next(size)

    @property
    def is_due(self) -> bool:
        """Are there enough new events since the last one?"""
        return self._state.version >= self._due_at

    def at_end(self) -> Callable[[], None] | None:
        """As `take`, if that shortens the next start noticeably."""
        return self.take() if self._state.version >= self._saved_at + EVENTS_AT_END else None

    def take(self) -> Callable[[], None]:
        """What saves the books as they stand now; it may run in a thread and never raises a ScappError."""
        copy = self._state.copy()
        self._saved_at = copy.version
        self._due_at = self._next(self._state.snapshot[1])

        def save() -> None:
            try:
                data = self._codec.encode(copy)
                self._log.save_snapshot(BOOKS_STREAM, Snapshot(copy.version, data), "channel")
            except (CorruptionError, LocalError, LogClosed, LogReadFailed, OverflowError) as error:
                logger.warning("no snapshot of the books was saved: %s", error)
                return
            self._due_at = self._next(len(data))

        return save

    def _next(self, size: int) -> int:
        return self._saved_at + max(self._events_min, size // BYTES_PER_EVENT)
