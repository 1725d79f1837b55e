"""The event log port. Adapters: `memory.py`, `rocks.py`; one contract suite: `tests/contracts/log_contract.py`.

A *stream* is one channel's events (its id is the 32-byte channel id; the node's own stream is 32 zero bytes).
A *version* counts events in a stream, from 0. One append writes one *page*: the events of all streams it names
plus outbox changes, atomically and, unless `durable=False`, durably before it returns. Events and outbox values
are opaque bytes here; what they mean stands in `channel/events.py` and `effects.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from scapp.channels.errors import CorruptionError, ScappError

NODE_STREAM = bytes(32)
SnapshotKind = Literal["admission", "channel"]
"""What a snapshot folds: the app's tables (`admission_base.py`), or a channel's own state (`channel_snapshots.py`)."""


class StreamWrite(msgspec.Struct, frozen=True, gc=False):
    """Events to append to `stream`, which must have exactly `expected_version` events before."""

    stream: bytes
    expected_version: int
    events: Sequence[bytes]


class Append(msgspec.Struct, frozen=True, gc=False):
    """One atomic write. `outbox` maps a key to its value, or to None to remove it (absent keys are fine)."""

    writes: Sequence[StreamWrite]
    outbox: Mapping[bytes, bytes | None] = {}


class Page(msgspec.Struct, frozen=True, gc=False):
    """Events `first_version ..` of one stream, as one append wrote them."""

    first_version: int
    events: tuple[bytes, ...]


class Snapshot(msgspec.Struct, frozen=True, gc=False):
    """A fold of events `0 .. version-1`; never the only copy of a fact."""

    version: int
    data: bytes


class VersionConflict(ScappError):
    """The stream is not at the expected version; nothing was written."""


class LogClosed(ScappError):
    """The log was closed, or failed for good and takes no more writes."""


class LogWriteFailed(LogClosed):
    """The disk refused a write. The log takes no more writes; reopening tells which of the last ones survived."""


class LogReadFailed(ScappError):
    """The disk failed a read; that says nothing about what is stored, and the read may be tried again."""


class LogLocked(ScappError):
    """Another process has this log open."""


class LogUnusable(ScappError):
    """There is no log here that this version can open: unreadable path, foreign database, unknown format."""


class LogCorrupt(CorruptionError):
    """A stored page, head or snapshot fails its checksum or does not follow its predecessor."""


class EventLog(Protocol):
    """Thread-safe. Appends are totally ordered; what one append wrote is visible whole or not at all."""

    def append(self, append: Append, *, durable: bool = True) -> None:
        """Raises LocalError for a malformed append, VersionConflict, LogClosed, and LogWriteFailed when the disk
        refuses (then the log is closed for writing). A durable append makes all earlier ones durable as well."""
        ...

    def append_group(self, appends: Sequence[Append], *, durable: bool = True) -> list[VersionConflict | None]:
        """Many appends, in order, with one write and one sync. Each is atomic by itself and sees those before it; one
        that conflicts writes nothing and its error stands in its place, the others go on. Raises as `append`
        does, VersionConflict apart; LocalError for any malformed append refuses the whole group."""
        ...

    def version(self, stream: bytes) -> int:
        """Number of events in the stream, 0 when it does not exist."""
        ...

    def streams(self) -> list[bytes]:
        """Ids of all streams that have events, in byte order."""
        ...

    def read(self, stream: bytes, from_version: int = 0) -> Iterator[Page]:
        """Pages in order; the first one starts at exactly `from_version` (cut when the page began before it).

        Shows the stream as it was at the call. Raises LogCorrupt, LogReadFailed, and LogClosed when the log closes
        meanwhile."""
        ...

    def last_events(self, streams: Sequence[bytes]) -> dict[bytes, bytes]:
        """The last event of each of the streams; those that have none, or whose last page is damaged, are left out.
        Reads and checks the pages that hold them, no other. Fastest in byte order, as they lie on the disk."""
        ...

    def outbox(self) -> list[tuple[bytes, bytes]]:
        """All outbox rows in key order."""
        ...

    def save_snapshot(self, stream: bytes, snapshot: Snapshot, kind: SnapshotKind = "admission") -> None:
        """Keep the newest two snapshots of the stream and kind. Not durable by itself: a lost one is rebuilt.

        Raises LocalError when the stream has fewer events than the snapshot folds."""
        ...

    def load_snapshot(self, stream: bytes, kind: SnapshotKind = "admission") -> Snapshot | None:
        """The newest snapshot of the kind whose checksum holds and whose version does not exceed the stream's."""
        ...

    def forget(self, stream: bytes) -> None:
        """Keep nothing of the stream in memory, which is over most likely: what is asked for is read again."""
        ...

    def flush(self) -> None:
        """Make everything appended so far durable."""
        ...

    def close(self) -> None:
        """Flush and release; further calls raise LogClosed, except `close`, which then does nothing."""
        ...


class Committer(Protocol):
    """Appends in groups, each returned or told when it is durable. Errors as in `EventLog.append`."""

    def append(self, append: Append) -> asyncio.Future[None]:
        """Ends when it is durable; it is in the queue when this returns."""
        ...

    def enqueue(self, append: Append, then: Callable[[Exception | None], None]) -> None:
        """Calls `then` in the running event loop once it is durable, or with why it is not."""
        ...
