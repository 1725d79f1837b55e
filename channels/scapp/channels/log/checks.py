"""What an append must look like before any adapter touches it; used by `memory.py`, `rocks.py`, `committer.py`.

The checks stand in one place so that the adapters cannot differ in what they refuse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NoReturn

from scapp.channels.errors import LocalError
from scapp.channels.log.port import Append, StreamWrite, VersionConflict

STREAM_BYTES = 32
VERSION_BITS = 63
VERSION_MAX = 2**VERSION_BITS - 1
SEQUENCES = (list, tuple)


def check_stream(stream: bytes) -> None:
    """Raises LocalError unless `stream` is 32 raw bytes."""
    if type(stream) is not bytes or len(stream) != STREAM_BYTES:
        raise LocalError(f"stream id {stream!r}: must be exactly {STREAM_BYTES} bytes")


def check_append(append: Append) -> None:
    """Raises LocalError when the append is malformed: ids, versions, types, or a stream named twice."""
    writes = append.writes
    for write in writes:
        stream, version, events = write.stream, write.expected_version, write.events
        # One look at what is right in nearly every append; `_refuse_write` finds out what is wrong with the others.
        if (
            type(stream) is not bytes
            or len(stream) != STREAM_BYTES
            or type(version) is not int
            or version >> VERSION_BITS  # too large, or negative
            or type(events) not in SEQUENCES
        ):
            _refuse_write(write)
        for event in events:
            if event.__class__ is not bytes:  # half the time of a call of `type`, a thousand times in a large append
                _refuse_write(write)
    if len(writes) > 1:
        _check_distinct(writes)
    if append.outbox:
        _check_outbox(append.outbox)


def _check_outbox(rows: Mapping[bytes, bytes | None]) -> None:
    for key, value in rows.items():
        if type(key) is not bytes or not key:
            raise LocalError(f"outbox key {key!r}: must be bytes, at least one")
        if value is not None and type(value) is not bytes:
            raise LocalError(f"outbox value of {key.hex()} is {type(value).__name__}: must be bytes, or None to remove")


def _check_distinct(writes: Sequence[StreamWrite]) -> None:
    seen: set[bytes] = set()
    for write in writes:
        if write.stream in seen:
            raise LocalError(f"stream {write.stream.hex()} is named twice in one append: put its events in one write")
        seen.add(write.stream)


def _refuse_write(write: StreamWrite) -> NoReturn:
    check_stream(write.stream)
    version, events = write.expected_version, write.events
    if type(version) is not int or not 0 <= version <= VERSION_MAX:
        raise LocalError(f"expected version {version!r}: must be an integer of 0 to {VERSION_MAX}")
    if type(events) is not tuple and type(events) is not list:
        raise LocalError(f"events of stream {write.stream.hex()} are {type(events).__name__}: must be tuple or list")
    kinds = sorted({kind.__name__ for kind in map(type, events)} - {"bytes"})
    raise LocalError(f"events of stream {write.stream.hex()} contain {', '.join(kinds)}: must all be bytes")


def check_from_version(from_version: int) -> None:
    """Raises LocalError for a negative or oversized start of a read."""
    if not 0 <= from_version <= VERSION_MAX:
        raise LocalError(f"read from version {from_version}: must be 0 to {VERSION_MAX}")


def check_snapshot_version(stream: bytes, version: int, stream_version: int) -> None:
    """Raises LocalError for a snapshot of events that the stream does not have."""
    if not 0 <= version <= stream_version:
        raise LocalError(
            f"snapshot at version {version} of stream {stream.hex()}: the stream has {stream_version} events"
        )


def conflict(write: StreamWrite, found: int) -> VersionConflict:
    """The error for a write whose stream is at `found` instead."""
    return VersionConflict(
        f"stream {write.stream.hex()}: expected version {write.expected_version}, found {found}; nothing was written"
    )
