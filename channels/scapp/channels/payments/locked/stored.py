"""Locked payments out of the log: newest valid snapshot, then the events after it."""

from __future__ import annotations

import functools
import logging
from binascii import crc32
from typing import Any

import msgspec

from scapp.channels.errors import ScappError
from scapp.channels.log.fold import fold
from scapp.channels.log.port import EventLog, Snapshot
from scapp.channels.payments.locked.events import LOCKS_STREAM, decode_locks_event
from scapp.channels.payments.locked.records import Invoiced, Lane, Transit
from scapp.channels.payments.locked.state import LocksState

FOLD = 1
"""To be raised whenever the fold gives another record for the same events; a change of the records' shape is noticed
without."""

logger = logging.getLogger("scapp.payments")


class _Saved(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="locks.snapshot.1"):
    fold: int
    shape: int
    version: int
    lanes: list[Lane]
    invoices: list[Invoiced]
    transits: list[Transit]


class _Codec:
    """`log.fold.SnapshotCodec`: JSON, because amounts of 256 bits fit its integers."""

    def encode(self, state: LocksState) -> bytes:
        lanes, invoices, transits = state.lanes.values(), state.invoices.values(), state.transits.values()
        return msgspec.json.encode(_Saved(FOLD, shape(), state.version, list(lanes), list(invoices), list(transits)))

    def decode(self, data: bytes) -> LocksState:
        saved = msgspec.json.decode(data, type=_Saved)
        if (saved.fold, saved.shape) != (FOLD, shape()):
            raise ValueError("snapshot of another release")
        return LocksState.of(saved.lanes, saved.invoices, saved.transits, saved.version)


@functools.cache
def shape() -> int:
    """A checksum of the records' fields and their types, to the bottom."""
    schemas: list[Any] = [msgspec.json.schema(kind) for kind in (Lane, Invoiced, Transit)]
    return crc32(msgspec.json.encode(schemas))


_CODEC = _Codec()


def load_locks(log: EventLog) -> tuple[LocksState, int]:
    """What the stream says, and the number of its events. Raises CorruptionError (LogCorrupt among them)."""
    return fold(log, LOCKS_STREAM, decode_locks_event, LocksState.next, LocksState(), snapshot_codec=_CODEC)


def save_locks(log: EventLog, state: LocksState, version: int) -> None:
    """Snapshot the state as its first `version` events, all of them stored, give it. A shortcut only: never raises a
    ScappError."""
    try:
        log.save_snapshot(LOCKS_STREAM, Snapshot(version, _CODEC.encode(state)), "channel")
    except ScappError as error:
        logger.warning("no snapshot of locked payments was saved: %s", error)
