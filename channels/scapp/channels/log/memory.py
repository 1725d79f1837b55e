"""The event log in memory: tests run the node on it; `rocks.py` is the one on disk.

It honours the whole port, durability included: `durable_copy()` is what a power cut right now would leave, so a test
can crash a node and restart it on the copy. Log order equals commit order, so what is not yet durable
is always a tail of writes; each of them leaves an undo step, and the next durable write forgets the steps.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import TracebackType

from scapp.channels.log.checks import check_append, check_from_version, check_snapshot_version, check_stream, conflict
from scapp.channels.log.port import (
    Append,
    LogClosed,
    LogWriteFailed,
    Page,
    Snapshot,
    SnapshotKind,
    StreamWrite,
    VersionConflict,
)

SNAPSHOTS_KEPT = 2


class MemoryLog:
    """An `EventLog` that lives as long as the process; see `durable_copy` and `fail_writes` for faults."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._pages: dict[bytes, list[Page]] = {}
        self._outbox: dict[bytes, bytes] = {}
        self._snapshots: dict[tuple[bytes, SnapshotKind], tuple[Snapshot, ...]] = {}
        self._undo: list[Callable[[MemoryLog], None]] = []
        self._closed = False
        self._failure: str | None = None

    def append(self, append: Append, *, durable: bool = True) -> None:
        refused = self.append_group((append,), durable=durable)[0]
        if refused is not None:
            raise refused

    def append_group(self, appends: Sequence[Append], *, durable: bool = True) -> list[VersionConflict | None]:
        for append in appends:
            check_append(append)
        with self._lock:
            self._check_writable()
            outcomes = [self._apply(append) for append in appends]
            if durable and None in outcomes:
                self._undo.clear()
            return outcomes

    def version(self, stream: bytes) -> int:
        check_stream(stream)
        with self._lock:
            self._check_open()
            return self._version(stream)

    def streams(self) -> list[bytes]:
        with self._lock:
            self._check_open()
            return sorted(self._pages)

    def read(self, stream: bytes, from_version: int = 0) -> Iterator[Page]:
        check_stream(stream)
        check_from_version(from_version)
        with self._lock:
            self._check_open()
            pages = self._pages.get(stream, [])
            start = bisect_right(pages, from_version, key=lambda page: page.first_version)
            seen = pages[max(start - 1, 0) :]
        return self._iterate(seen, from_version)

    def last_events(self, streams: Sequence[bytes]) -> dict[bytes, bytes]:
        for stream in streams:
            check_stream(stream)
        with self._lock:
            self._check_open()
            return {stream: self._pages[stream][-1].events[-1] for stream in streams if stream in self._pages}

    def outbox(self) -> list[tuple[bytes, bytes]]:
        with self._lock:
            self._check_open()
            return sorted(self._outbox.items())

    def save_snapshot(self, stream: bytes, snapshot: Snapshot, kind: SnapshotKind = "admission") -> None:
        check_stream(stream)
        with self._lock:
            self._check_writable()
            check_snapshot_version(stream, snapshot.version, self._version(stream))
            key = stream, kind
            before = self._snapshots.get(key, ())
            kept = {old.version: old for old in before} | {snapshot.version: snapshot}
            newest = sorted(kept.values(), key=lambda kept_one: kept_one.version)[-SNAPSHOTS_KEPT:]
            self._snapshots[key] = tuple(newest)
            self._undo.append(partial(_restore_snapshots, key=key, before=before))

    def load_snapshot(self, stream: bytes, kind: SnapshotKind = "admission") -> Snapshot | None:
        check_stream(stream)
        with self._lock:
            self._check_open()
            snapshots = self._snapshots.get((stream, kind), ())
            return snapshots[-1] if snapshots else None

    def forget(self, stream: bytes) -> None:
        check_stream(stream)

    def flush(self) -> None:
        with self._lock:
            self._check_writable()
            self._undo.clear()

    def close(self) -> None:
        with self._lock:
            if self._failure is None:
                self._undo.clear()
            self._closed = True

    def durable_copy(self) -> MemoryLog:
        """A new, open log with what would survive a power cut now; this log is not touched (it may be closed)."""
        with self._lock:
            copy = MemoryLog()
            copy._pages = {stream: list(pages) for stream, pages in self._pages.items()}
            copy._outbox = dict(self._outbox)
            copy._snapshots = dict(self._snapshots)
            for undo in reversed(self._undo):
                undo(copy)
            return copy

    def fail_writes(self, reason: str) -> None:
        """From now on the disk is broken: the next write raises LogWriteFailed; reads go on."""
        with self._lock:
            self._failure = reason

    def __enter__(self) -> MemoryLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _version(self, stream: bytes) -> int:
        pages = self._pages.get(stream)
        return pages[-1].first_version + len(pages[-1].events) if pages else 0

    def _apply(self, append: Append) -> VersionConflict | None:
        for write in append.writes:
            found = self._version(write.stream)
            if found != write.expected_version:
                return conflict(write, found)
        for write in append.writes:
            self._add_page(write)
        for key, value in append.outbox.items():
            self._undo.append(partial(_restore_outbox, key=key, before=self._outbox.get(key)))
            if value is None:
                self._outbox.pop(key, None)
            else:
                self._outbox[key] = value
        return None

    def _add_page(self, write: StreamWrite) -> None:
        if not write.events:
            return
        self._pages.setdefault(write.stream, []).append(Page(write.expected_version, tuple(write.events)))
        self._undo.append(partial(_remove_last_page, stream=write.stream))

    def _iterate(self, pages: list[Page], from_version: int) -> Iterator[Page]:
        for page in pages:
            self._check_open()
            skipped = from_version - page.first_version
            if skipped <= 0:
                yield page
            elif skipped < len(page.events):
                yield Page(from_version, page.events[skipped:])

    def _check_open(self) -> None:
        if self._closed:
            raise LogClosed("the log in memory is closed")

    def _check_writable(self) -> None:
        self._check_open()
        if self._failure is not None:
            raise LogWriteFailed(f"the log in memory takes no more writes: {self._failure}")


def _remove_last_page(log: MemoryLog, stream: bytes) -> None:
    log._pages[stream].pop()
    if not log._pages[stream]:
        del log._pages[stream]


def _restore_outbox(log: MemoryLog, key: bytes, before: bytes | None) -> None:
    if before is None:
        log._outbox.pop(key, None)
    else:
        log._outbox[key] = before


def _restore_snapshots(log: MemoryLog, key: tuple[bytes, SnapshotKind], before: tuple[Snapshot, ...]) -> None:
    log._snapshots[key] = before
