"""The event log on disk, over RocksDB; values are framed by `framing.py`, the database behind it is `rocks_store.py`.

Each append writes one page per stream (key: stream, first version) and its outbox changes in one WriteBatch; a group of
appends shares one batch and one sync (`committer.py` makes the groups). A stream's head is written with its first page,
then at least every `HEAD_STRIDE` versions and at close; the pages since lead from it to the end (ADR 0027), so that the
usual append, one page, is one row. Log order equals commit order: writers hold one lock from the version check to the
end of the write, and RocksDB keeps one write-ahead log for all column families, so what survives a crash is always a
prefix of what was appended.

Nothing is repaired silently: what fails its checksum, or does not follow its predecessor, raises LogCorrupt.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from types import TracebackType

from rocksdict import WriteBatch

from scapp.channels.log import framing
from scapp.channels.log.checks import (
    SEQUENCES,
    check_append,
    check_from_version,
    check_snapshot_version,
    check_stream,
    conflict,
)
from scapp.channels.log.framing import GENESIS_CHAIN, STREAM_BYTES, Head, StoredPage, frame_head, frame_page, page_key
from scapp.channels.log.port import (
    Append,
    LogClosed,
    LogCorrupt,
    LogWriteFailed,
    Page,
    Snapshot,
    SnapshotKind,
    VersionConflict,
)
from scapp.channels.log.rocks_store import Family, Store

SNAPSHOTS_KEPT = 2
HEAD_STRIDE = 64  # a power of two
_EMPTY = Head(0, GENESIS_CHAIN)
# Pages fetched per step of a read. No RocksDB iterator outlives a step: one that is alive keeps the files locked
# even after close, and a reader may hold its generator for as long as it likes.
_PAGES_PER_STEP = 32
_LOOKS_PER_STEP = 1_000
_log = logging.getLogger("scapp.log")


class RocksLog:
    """An `EventLog` in the directory `path`, which is created when missing. One process may have it open.

    Raises LogLocked, LogUnusable or LogCorrupt when it cannot be opened. `open_store` opens what holds the rows;
    simulations put a disk of their own under this log there."""

    def __init__(self, path: Path, open_store: Callable[[Path], Store] = Store) -> None:
        self._store = open_store(path)
        self._lock = threading.RLock()
        self._heads: dict[bytes, Head] = {}  # ends of streams, verified or written by this process
        self._rows: dict[bytes, Head] = {}  # what the head rows of these streams say
        self._undurable = False
        self._failure: LogWriteFailed | None = None

    def append(self, append: Append, *, durable: bool = True) -> None:
        self._lock.acquire()  # a `with` of a lock takes twice as long
        try:
            if self._write_row(append, durable):
                return
            check_append(append)
            refused = self._write_batch((append,), durable)[0]
        finally:
            self._lock.release()
        if refused is not None:
            raise refused

    def append_group(self, appends: Sequence[Append], *, durable: bool = True) -> list[VersionConflict | None]:
        with self._lock:
            if len(appends) == 1 and self._write_row(appends[0], durable):
                return [None]
            for append in appends:
                check_append(append)
            return self._write_batch(appends, durable)

    def version(self, stream: bytes) -> int:
        check_stream(stream)
        return self._head(stream).version

    def streams(self) -> list[bytes]:
        return self._store.heads.keys()

    def read(self, stream: bytes, from_version: int = 0) -> Iterator[Page]:
        check_stream(stream)
        check_from_version(from_version)
        return self._iterate(stream, from_version, self._head(stream))

    def last_events(self, streams: Sequence[bytes]) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        for first in range(0, len(streams), _LOOKS_PER_STEP):
            some = streams[first : first + _LOOKS_PER_STEP]
            for stream in some:
                check_stream(stream)
            keys = [page_key(stream, framing.VERSION_LIMIT) for stream in some]
            for stream, row in zip(some, self._store.pages.rows_at_or_before(keys), strict=True):
                with suppress(LogCorrupt):  # whoever reads the stream meets it
                    if row is not None and row[0][:STREAM_BYTES] == stream:
                        found[stream] = framing.unframe_page(*row).events[-1]
        return found

    def outbox(self) -> list[tuple[bytes, bytes]]:
        return [(key, framing.unframe_outbox(key, value)) for key, value in self._store.outbox.rows()]

    def save_snapshot(self, stream: bytes, snapshot: Snapshot, kind: SnapshotKind = "admission") -> None:
        check_stream(stream)
        with self._lock:
            self._check_writable()
            check_snapshot_version(stream, snapshot.version, self._head(stream).version)
            key = page_key(stream, snapshot.version)
            family = self._store.snapshots_of[kind]
            batch = self._store.batch()
            for outdated in self._outdated_snapshots(family, stream, key):
                family.delete(batch, outdated)
            chain = self._chain_at(stream, snapshot.version)
            family.put(batch, key, framing.frame_snapshot(key, snapshot.data, chain))
            self._commit(batch, False)

    def load_snapshot(self, stream: bytes, kind: SnapshotKind = "admission") -> Snapshot | None:
        check_stream(stream)
        version = self._head(stream).version
        family = self._store.snapshots_of[kind]
        for key, value in reversed(family.rows(page_key(stream, 0), page_key(stream, version + 1))):
            found = framing.unframe_snapshot(key, value)
            # The chain tells a snapshot of these events from one of others that once stood in their place.
            if found is not None and found[1] == self._chain_at(stream, found[0].version):
                return found[0]
            fault = "is damaged" if found is None else "is of other events than those that stand there now"
            at = framing.key_version(key)
            _log.warning("stream %s: the %s snapshot at version %d %s; passed over", stream.hex(), kind, at, fault)
        return None

    def checkpoint(self, path: Path) -> None:
        """A copy of the log as it is now in the new directory `path`, which opens as a log; files are shared where the
        file system allows. Raises LogClosed, LogWriteFailed, CheckpointFailed."""
        self.flush()
        self._store.checkpoint(path)

    def forget(self, stream: bytes) -> None:
        check_stream(stream)
        with self._lock:
            self._heads.pop(stream, None)
            self._rows.pop(stream, None)

    def flush(self) -> None:
        with self._lock:
            self._check_writable()
            self._commit(self._store.batch(), True)

    def close(self) -> None:
        with self._lock:
            try:
                if self._store.is_open and self._failure is None:
                    self._commit(self._late_heads(), True)
            finally:
                self._heads.clear()
                self._rows.clear()
                # After a failure the close fails as well; whoever wrote has been told already.
                with suppress(LogWriteFailed) if self._failure is not None else nullcontext():
                    self._store.close()

    def __enter__(self) -> RocksLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write_row(self, append: Append, durable: bool) -> bool:
        """Write nearly every append, one page within a stride of a stream that is written to already, as a single row.
        False for any other, a malformed one included: nothing is written then."""
        writes = append.writes
        if len(writes) != 1 or append.outbox or self._failure is not None:
            return False
        write = writes[0]
        stream, version, events = write.stream, write.expected_version, write.events
        # What is found by its stream has a right one, and a version that equals the head's is in range: with the types
        # that is all that `check_append` asks.
        if type(stream) is not bytes or type(version) is not int or type(events) not in SEQUENCES or not events:
            return False
        before = self._heads.get(stream)  # empty when closed
        if before is None or before.version != version or not version:
            return False
        for event in events:
            if event.__class__ is not bytes:
                return False
        end = version + len(events)
        if (end ^ version) >= HEAD_STRIDE:  # numbers of one stride differ in low bits only
            return False
        key = page_key(stream, version)
        value, chain = frame_page(key, events, before.chain)
        try:
            self._store.put_page(key, value, durable)
        except LogWriteFailed as error:
            self._failure = error
            raise
        self._undurable = not durable
        self._heads[stream] = Head(end, chain)
        return True

    def _write_batch(self, appends: Sequence[Append], durable: bool) -> list[VersionConflict | None]:
        self._check_writable()
        batch = self._store.batch()
        heads: dict[bytes, Head] = {}
        outcomes = [self._stage(batch, append, heads) for append in appends]
        rows = {stream: head for stream, head in heads.items() if self._is_due(stream, head)}
        for stream, head in rows.items():
            self._store.heads.put(batch, stream, frame_head(stream, head))
        self._commit(batch, durable and None in outcomes)
        self._heads.update(heads)
        self._rows.update(rows)
        return outcomes

    def _is_due(self, stream: bytes, head: Head) -> bool:
        """Does a stream that now ends at `head` need its row written?"""
        row = self._rows.get(stream)
        return row is None or row.version // HEAD_STRIDE != head.version // HEAD_STRIDE

    def _late_heads(self) -> WriteBatch:
        """The rows of all streams that have outgrown theirs."""
        batch = self._store.batch()
        for stream, head in self._heads.items():
            if head.version and self._rows.get(stream) != head:
                self._store.heads.put(batch, stream, frame_head(stream, head))
        return batch

    def _stage(self, batch: WriteBatch, append: Append, heads: dict[bytes, Head]) -> VersionConflict | None:
        """Add one append to the batch, or return its conflict and leave batch and heads as they were."""
        found = []
        for write in append.writes:
            stream = write.stream
            before = heads.get(stream) or self._heads.get(stream) or self._head(stream)
            if before.version != write.expected_version:
                return conflict(write, before.version)
            if write.events:
                found.append((stream, write.events, before))
        for stream, events, before in found:  # no stream stands in one append twice
            key = page_key(stream, before.version)
            value, chain = frame_page(key, events, before.chain)
            self._store.pages.put(batch, key, value)
            heads[stream] = Head(before.version + len(events), chain)
        if append.outbox:
            self._stage_outbox(batch, append.outbox)
        return None

    def _stage_outbox(self, batch: WriteBatch, rows: Mapping[bytes, bytes | None]) -> None:
        for key, value in rows.items():
            if value is None:
                self._store.outbox.delete(batch, key)
            else:
                self._store.outbox.put(batch, key, framing.frame_outbox(key, value))

    def _commit(self, batch: WriteBatch, durable: bool) -> None:
        """Write the batch, if anything is in it; with `durable` everything up to here is on disk afterwards."""
        try:
            if len(batch):
                self._store.write(batch, durable)
            elif durable and self._undurable:
                self._store.sync()
            else:
                return
        except LogWriteFailed as error:
            self._failure = error
            raise
        self._undurable = not durable

    def _head(self, stream: bytes) -> Head:
        head = self._heads.get(stream)  # empty when closed
        if head is None:
            self._store.check_open()
            with self._lock:  # a writer may be about to publish a newer one
                head = self._heads.get(stream) or self._load_head(stream)
                self._heads[stream] = head
        return head

    def _load_head(self, stream: bytes) -> Head:
        """The end of a stream, once per process: from its head row over the pages since, to its last page."""
        value = self._store.heads.get(stream)
        row = framing.unframe_head(stream, value) if value is not None else _EMPTY
        last = self._page_before(stream, framing.VERSION_LIMIT)
        end = Head(last.end_version, last.chain) if last is not None else _EMPTY
        if end != row and (value is None or end.version <= row.version):
            raise LogCorrupt(
                f"stream {stream.hex()}: expected to end at version {row.version} with checksum {row.chain:08x}, "
                f"found its last page to end at version {end.version} with checksum {end.chain:08x}"
            )
        for _ in self._walk(stream, row, end):
            pass
        if value is not None:
            self._rows[stream] = row
        return end

    def _page_before(self, stream: bytes, version: int) -> StoredPage | None:
        """The last page that starts at or before `version`."""
        row = self._store.pages.row_at_or_before(page_key(stream, version))
        return framing.unframe_page(*row) if row is not None and row[0][:STREAM_BYTES] == stream else None

    def _chain_at(self, stream: bytes, version: int) -> int:
        """Chain of the page that holds event `version - 1`."""
        if version == 0:
            return GENESIS_CHAIN
        page = self._page_before(stream, version - 1)
        if page is None or page.end_version < version:
            found = "none" if page is None else f"one of versions {page.first_version} to {page.end_version - 1}"
            raise LogCorrupt(f"stream {stream.hex()}: expected a page with version {version - 1}, found {found}")
        return page.chain

    def _outdated_snapshots(self, family: Family, stream: bytes, new_key: bytes) -> list[bytes]:
        """Keys of the snapshots to drop when one is added at `new_key`, those beyond the stream's end included."""
        limit = page_key(stream, self._head(stream).version)
        rows = family.rows(page_key(stream, 0), page_key(stream, framing.VERSION_LIMIT))
        keys = {key for key, _ in rows} | {new_key}
        kept = sorted(key for key in keys if key <= limit)[-SNAPSHOTS_KEPT:]
        return sorted(keys.difference(kept) - {new_key})

    def _iterate(self, stream: bytes, from_version: int, head: Head) -> Iterator[Page]:
        if from_version >= head.version:
            return
        for page in self._walk(stream, self._start_of_read(stream, from_version), head):
            yield _cut(page, from_version)
            self._store.check_open()

    def _walk(self, stream: bytes, start: Head, end: Head) -> Iterator[StoredPage]:
        """The pages between two ends of a stream, each checked to follow the one before."""
        version, chain = start.version, start.chain
        limit = page_key(stream, end.version)
        while version < end.version:
            rows = self._store.pages.rows(page_key(stream, version), limit, _PAGES_PER_STEP)
            if not rows:
                raise LogCorrupt(
                    f"stream {stream.hex()}: expected a page at version {version} of {end.version}, found none"
                )
            for key, value in rows:
                page = framing.unframe_page(key, value)
                _check_follows(stream, page, version, chain)
                version, chain = page.end_version, page.chain
                yield page
        if (version, chain) != (end.version, end.chain):
            raise LogCorrupt(
                f"stream {stream.hex()}: expected to end at version {end.version} with checksum {end.chain:08x}, "
                f"found version {version} with checksum {chain:08x}"
            )

    def _start_of_read(self, stream: bytes, from_version: int) -> Head:
        """Where the page before the one that holds `from_version` ends."""
        if from_version == 0:
            return _EMPTY
        page = self._page_before(stream, from_version)
        if page is None or page.end_version <= from_version:
            found = "none" if page is None else f"one of versions {page.first_version} to {page.end_version - 1}"
            raise LogCorrupt(f"stream {stream.hex()}: expected a page with version {from_version}, found {found}")
        return Head(page.first_version, page.previous_chain)

    def _check_writable(self) -> None:
        self._store.check_open()
        if self._failure is not None:
            raise LogClosed(f"{self._store.path} takes no more writes since a disk failure: {self._failure}")


def _check_follows(stream: bytes, page: StoredPage, version: int, chain: int) -> None:
    if page.first_version != version:
        raise LogCorrupt(
            f"stream {stream.hex()}: expected a page at version {version}, found one at {page.first_version}"
        )
    if page.previous_chain != chain:
        raise LogCorrupt(
            f"stream {stream.hex()} page at version {version}: expected to follow checksum {chain:08x}, "
            f"found {page.previous_chain:08x}"
        )


def _cut(page: StoredPage, from_version: int) -> Page:
    skipped = from_version - page.first_version
    if skipped <= 0:
        return Page(page.first_version, page.events)
    return Page(from_version, page.events[skipped:])
