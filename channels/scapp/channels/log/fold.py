"""Rebuilding a state from its stream: newest valid snapshot, then the events after it. Works over any `EventLog`.

The fold is the truth and a snapshot only a shortcut: one that is missing, damaged or of an older form is passed
over, with a warning, and the result is the same.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol, TypeVar

import msgspec

from scapp.channels.log.port import EventLog, LogCorrupt, SnapshotKind

S = TypeVar("S")
E = TypeVar("E")

logger = logging.getLogger("scapp.log")

_UNREADABLE = (ValueError, msgspec.MsgspecError)


class SnapshotCodec(Protocol[S]):
    """How a state becomes snapshot bytes; `decode` raises ValueError for a form that it does not know (any more)."""

    def encode(self, state: S) -> bytes: ...

    def decode(self, data: bytes) -> S: ...


def fold(
    log: EventLog,
    stream: bytes,
    decode: Callable[[bytes], E],
    evolve: Callable[[S, E], S],
    initial: S,
    *,
    snapshot_codec: SnapshotCodec[S] | None = None,
    kind: SnapshotKind = "channel",
) -> tuple[S, int]:
    """State and version of the stream; `(initial, 0)` when it does not exist.

    Raises LogCorrupt for a gap between pages and for an event that `decode` refuses with ValueError or a msgspec
    error; what `evolve` raises passes through."""
    state, version = _start(log, stream, initial, snapshot_codec, kind)
    for page in log.read(stream, version):
        if page.first_version != version:
            raise LogCorrupt(f"stream {stream.hex()}: expected a page at version {version}, found {page.first_version}")
        for data in page.events:
            try:
                event = decode(data)
            except _UNREADABLE as error:
                raise LogCorrupt(f"stream {stream.hex()}: event {version} does not decode: {error}") from error
            state = evolve(state, event)
            version += 1
    return state, version


def _start(
    log: EventLog, stream: bytes, initial: S, codec: SnapshotCodec[S] | None, kind: SnapshotKind
) -> tuple[S, int]:
    snapshot = log.load_snapshot(stream, kind) if codec is not None else None
    if codec is None or snapshot is None:
        return initial, 0
    try:
        return codec.decode(snapshot.data), snapshot.version
    except _UNREADABLE as error:  # written by another release: the events still tell everything
        logger.warning("stream %s: the %s snapshot is passed over: %s", stream.hex(), kind, error)
        return initial, 0
