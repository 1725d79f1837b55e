"""Rebuilding a state from its stream: newest valid snapshot, then the events after it. Works over any `EventLog`.

The fold is the truth and a snapshot only a shortcut: one that is missing, damaged or of an older form is passed
over, and the result is the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import msgspec

from scapp.channels.log.port import EventLog, LogCorrupt, Snapshot

S = TypeVar("S")
E = TypeVar("E")

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
) -> tuple[S, int]:
    """State and version of the stream; `(initial, 0)` when it does not exist.

    Raises LogCorrupt for a gap between pages and for an event that `decode` refuses with ValueError or a msgspec
    error; what `evolve` raises passes through."""
    state, version = _start(log, stream, initial, snapshot_codec)
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


def _start(log: EventLog, stream: bytes, initial: S, codec: SnapshotCodec[S] | None) -> tuple[S, int]:
    snapshot = log.load_snapshot(stream) if codec is not None else None
    if codec is None or snapshot is None:
        return initial, 0
    try:
        return codec.decode(snapshot.data), snapshot.version
    except _UNREADABLE:
        return initial, 0  # written by another release: the events still tell everything


class Snapshotter(Generic[S]):
    """Saves a snapshot whenever a stream has grown by `every` events since its last one. Not thread-safe."""

    def __init__(self, log: EventLog, codec: SnapshotCodec[S], *, every: int) -> None:
        if every < 1:
            raise ValueError(f"snapshot every {every} events: must be at least 1")
        self._log = log
        self._codec = codec
        self._every = every
        self._saved: dict[bytes, int] = {}

    def offer(self, stream: bytes, state: S, version: int) -> bool:
        """Save `state`, the fold of events `0 .. version-1`, if one is due; tells whether it did."""
        if version - self._last_saved(stream) < self._every:
            return False
        self._log.save_snapshot(stream, Snapshot(version, self._codec.encode(state)))
        self._saved[stream] = version
        return True

    def _last_saved(self, stream: bytes) -> int:
        version = self._saved.get(stream)
        if version is None:
            snapshot = self._log.load_snapshot(stream)
            version = self._saved[stream] = snapshot.version if snapshot is not None else 0
        return version
