"""One channel's derivation: from supported batches through its kernel into its tables, one call at a time.
`derive.py` judges, `loading.py` fills a kernel that starts late, `writing.py` writes, `worker.py` decides when.

Crash-safe without any care of its own: what it knows is the cursor in the database, which moves with the rows. When
much is waiting, one commit is written while the next is derived; never more than these two are in memory.
"""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, wait

import msgspec

from scapp.channels.admission import ChannelContext
from scapp.channels.errors import CorruptionError
from scapp.channels.reading import EntrySource, SupportedBatch
from scapp.channels.types import ChannelId
from scapp.runtime.changes import COPY_NEVER, BatchChanges
from scapp.runtime.database.write import COPY_BUFFERED_ROWS_MIN, COPY_ROWS_MIN, Commit, Cursor, read_cursor, write
from scapp.runtime.derive import DerivationHalted, Halt, check_cursor
from scapp.runtime.kernel import Kernel, KernelFault
from scapp.runtime.loading import CursorMoved, load_tables
from scapp.runtime.lookahead import CommitSize, Lookahead, batch_at
from scapp.runtime.replica import derive_batch
from scapp.runtime.schema import AppSchema, register_channel
from scapp.runtime.writing import EarlyWrite, Writing

ENTRIES_FIRST, ENTRIES_MAX = 2000, 32_000
"""Entries of a commit at least, while there are more behind it, and at most. In between a quarter of what the pass has
derived before it: the last commit, which nothing is derived beside, must be a small part of the whole."""
LATE_ENTRIES_MIN = 100  # of a pass's last batch, from which on its root is computed while its rows are written
BYTES_PER_COMMIT = 16 * 2**20  # changes, roughly
EARLY_ENTRIES_MIN, EARLY_AFTER, EARLY_ENTRIES_MAX = 500, ENTRIES_FIRST, 16_000
"""Entries of a batch, or derived before in a pass, from which on messages are written before they are derived; and
entries of such a commit at most. With more of them its root costs hardly less, and the kernel needs more memory."""
_log = logging.getLogger(__name__)


class Committed(msgspec.Struct, frozen=True, gc=False):
    """Told to listeners once entries `first_sequence .. end_sequence - 1` are in the database. Of the changes the
    messages and versions are left out: the log and the database have them."""

    channel_id: ChannelId
    first_sequence: int
    end_sequence: int
    turn: int
    changes: BatchChanges


class ChannelFollower:
    """Not thread-safe. `make_kernel` builds the channel's kernel with no entries applied."""

    _writes_messages = True

    def __init__(
        self, context: ChannelContext, schema: AppSchema, source: EntrySource, make_kernel: Callable[[], Kernel]
    ) -> None:
        self.context = context
        self.cursor: Cursor | None = None  # as last read from or written to the database
        self.schema = schema
        self._source = source
        self._make_kernel = make_kernel
        self._kernel: Kernel | None = None
        self._log_kernel: Kernel | None = None  # runs nothing: for log roots and messages, beside the other
        self._at: Cursor | None = None  # what the kernel's tables stand at
        self._known: Cursor | None = None  # a cursor of the database that the log agrees with …
        self._known_position = 0  # … and where it goes on after it
        self.is_doubted = False
        self._owed = False  # the kernel still owes a root
        self._may_be_late = True
        self._interrupted = False
        self._unwritten: deque[Commit] = deque()  # derived and checked, but not in the database yet; two at most

    @property
    def kernel_bytes(self) -> int | None:
        """Memory of the kernel, None without one."""
        kernels = [kernel for kernel in (self._kernel, self._log_kernel) if kernel is not None]
        return sum(kernel.memory_bytes() for kernel in kernels) if kernels else None

    def advance(self, writing: Writing) -> Iterator[Committed]:
        """Derive and write all that is supported; one item per commit.

        Raises DerivationHalted, and psycopg's errors; after any of them calling again is safe."""
        while not (yield from self._pass(writing)):
            pass

    def _pass(self, writing: Writing) -> Generator[Committed, None, bool]:
        """False when the database's cursor turned out to stand elsewhere and deriving starts over from there."""
        if self.cursor is None or self.is_doubted:
            known = self.cursor
            if self._read_cursor(writing) != known:
                self._forget()
            self.is_doubted = False
        if self._owed and not self._confirm():
            return False
        while self._unwritten:
            done = self._settle(writing, _write(writing, self._unwritten[0]))
            if done is None:
                return False
            yield done
        try:
            whole = yield from self._go_on(writing)
        except CursorMoved:
            self._start_over(writing)
            return False
        if whole and self.cursor is not None and self.cursor.is_final:
            self.release()
        return whole

    def _go_on(self, writing: Writing) -> Generator[Committed, None, bool]:
        """Derive, and write each commit while the next is derived. False as in `_pass`."""
        batches, size = Lookahead(self._batches(writing)), CommitSize(ENTRIES_FIRST, ENTRIES_MAX, BYTES_PER_COMMIT)
        running: Future[bool] | None = None
        try:
            while True:
                halted, commit = None, None
                early = self._is_early(writing, batches, size)
                if not early:
                    try:
                        commit = self._next_commit(writing, batches, size)
                    except DerivationHalted as error:
                        halted = error
                if running is not None:
                    done, running = self._settle(writing, running.result()), None
                    if done is None:
                        return False
                    yield done
                if halted is not None:
                    raise halted
                if commit is not None and batches.next is not None:
                    running = writing.thread.submit(_write, writing, commit)
                    continue
                if commit is None and not early:
                    return True
                done = self._write_early(writing, batches) if commit is None else self._write_last(writing, commit)
                if done is None:
                    return False
                yield done
        finally:
            if running is not None:
                wait([running])  # nobody else may use the connection before

    def _is_early(self, writing: Writing, batches: Lookahead, size: CommitSize) -> bool:
        """Whether the next commit's messages go to the database before they are derived, because it is a large one."""
        if batches.next is None or not (self._writes_messages and self._may_be_late and writing.copy_in):
            return False
        return len(batches.next.entries) >= EARLY_ENTRIES_MIN or size.derived >= EARLY_AFTER

    def _write_early(self, writing: Writing, batches: Lookahead) -> Committed | None:
        """One commit, of which the messages are written while it is derived and the rest while its root is computed. If
        anything is not as it was signed, nothing of it stays, and it is derived again with all its roots."""
        assert self.cursor is not None
        batch = batches.take()
        few = batches.next is None and len(batch.entries) < COPY_BUFFERED_ROWS_MIN
        self._log_kernel = self._log_kernel or self._make_kernel()
        channel_id, home = self.context.channel_id, self.schema.home
        early = EarlyWrite(writing, self._log_kernel, channel_id, self.cursor, home, few=few)
        counts = False
        try:
            while True:
                early.send(batch)
                self._derive(batch, late=True, log_apart=True)
                assert self._kernel is not None
                size = early.size + self._kernel.held_bytes()
                enough = early.entries >= EARLY_ENTRIES_MAX or size >= BYTES_PER_COMMIT
                if enough or early.is_over or batches.next is None:
                    break
                batch = batches.take()
            early.end(self._take(writing))
            counts = not self._owed or self._confirm()
            early.answer(counts)
        except (DerivationHalted, KernelFault):
            if self._interrupted:
                raise
        finally:
            if not counts:
                early.abandon()
                self._distrust()
        return self._settle_early(writing, early) if counts else None

    def _settle_early(self, writing: Writing, early: EarlyWrite) -> Committed | None:
        """As `_settle`; a commit whose write failed is kept for another, now with its messages."""
        try:
            return self._settle(writing, early.result())
        except (DerivationHalted, KernelFault):  # a log root
            self._distrust()
            return None
        except BaseException:
            early.abandon()
            try:
                for place, kept in enumerate(self._unwritten):  # one at most
                    changes = msgspec.structs.replace(kept.changes, messages=early.messages())
                    self._unwritten[place] = msgspec.structs.replace(kept, changes=changes)
            except (DerivationHalted, KernelFault):
                self._distrust()
            raise

    def _write_last(self, writing: Writing, commit: Commit) -> Committed | None:
        """The root that is still to come is computed while the rows are written, and decides whether they stay."""
        if not self._owed:
            return self._settle(writing, _write(writing, commit))
        answer: Future[bool] = Future()
        running = writing.thread.submit(_write, writing, commit, answer.result)
        confirmed = False
        try:
            confirmed = self._confirm()
        finally:
            answer.set_result(confirmed)
            wait([running])  # nobody else may use the connection before
        return self._settle(writing, running.result()) if confirmed else None

    def _confirm(self) -> bool:
        """Compute the root that is owed. If it is not the signed one, what is not in the database yet is forgotten, and
        no root is left out from then on: deriving it again tells what is right before the fault."""
        assert self._kernel is not None
        assert self._at is not None
        with contextlib.suppress(KernelFault):  # who cannot tell does not agree
            if self._kernel.late_root() == self._at.state_root:
                self._owed = False
                return True
        self._distrust()
        return False

    def _distrust(self) -> None:
        self._forget()
        self._may_be_late = False

    def doubt(self) -> None:
        """The database went away: it may come back without its last commits, so look at the cursor again."""
        self.is_doubted = True

    def interrupt(self) -> None:
        """From any thread: break off what is being derived, before its next entry; nothing of it was written."""
        self._interrupted = True
        kernel = self._kernel
        if kernel is not None:
            kernel.interrupt()

    def release(self) -> None:
        """Free the kernel; the next batch has one filled from the database. Keeps what is not written yet, unless its
        root is still to come."""
        if self._owed and self._unwritten:
            self._unwritten.pop()
        for kernel in (self._kernel, self._log_kernel):
            if kernel is not None:
                kernel.close()
        self._kernel = self._log_kernel = self._at = None
        self._owed = False

    def _forget(self) -> None:
        self.release()
        self._unwritten.clear()

    def _start_over(self, writing: Writing) -> None:
        """Somebody else writes this channel, or the database was set back: go on from where it stands."""
        _log.warning("channel 0x%s: the cursor stands elsewhere, starting over", self.context.channel_id.hex())
        self._forget()
        self._read_cursor(writing)

    def _read_cursor(self, writing: Writing) -> Cursor:
        register_channel(writing.connection, self.context, self.schema.home)
        self.cursor = read_cursor(writing.connection, self.context.channel_id, self.schema.home)
        assert self.cursor is not None, "a registered channel has a cursor"
        return self.cursor

    # -- deriving ---------------------------------------------------------------------------------------------------

    def _next_commit(self, writing: Writing, batches: Lookahead, size: CommitSize) -> Commit | None:
        """Derive the next one; None when nothing is left. What was right before a fault still counts, and the fault is
        raised by the call after it (DerivationHalted)."""
        entries = 0
        try:
            while batches.next is not None:
                batch = batches.take()
                late = batches.is_over and self._may_be_late and len(batch.entries) >= LATE_ENTRIES_MIN
                self._derive(batch, late=late)
                entries += len(batch.entries)
                enough = entries >= size.entries or self._is_early(writing, batches, size)
                if enough and not batches.is_over:
                    commit = self._take(writing)
                    size.grow(entries, commit.changes.size)
                    return commit
            batches.check()
        except DerivationHalted as error:
            batches.fail(error)
            if self._is_ahead():
                with contextlib.suppress(KernelFault):  # unless the kernel cannot say any more what it was
                    return self._take(writing)
            self.release()
            raise
        return self._take(writing) if self._is_ahead() else None

    def _planned(self) -> Cursor:
        """Where the database stands once everything is written."""
        assert self.cursor is not None
        return self._unwritten[-1].new if self._unwritten else self.cursor

    def _is_ahead(self) -> bool:
        return self._kernel is not None and self._at != self._planned()

    def _take(self, writing: Writing) -> Commit:
        """What the kernel derived beyond the commits before."""
        assert self._kernel is not None
        assert self._at is not None
        commit = Commit(
            channel_id=self.context.channel_id,
            schema=self.schema.name,
            manifest=self.schema.manifest,
            expected=self._planned(),
            new=self._at,
            changes=self._changes(self._kernel, COPY_ROWS_MIN if writing.copy_in else COPY_NEVER),
            home=self.schema.home,
        )
        self._unwritten.append(commit)
        return commit

    def _changes(self, kernel: Kernel, copy_rows_min: int) -> BatchChanges:
        return kernel.take_changes(copy_rows_min)

    def _batches(self, writing: Writing) -> Iterator[SupportedBatch]:
        """Batches after the cursor; loads the kernel first, once there is one to run."""
        assert self.cursor is not None
        if self.cursor.is_final:
            return
        try:
            position = self._at.position if self._at is not None else self._log_position(self.cursor)
            batches = self._source.batches(self.context.channel_id, position)
            first = next(batches, None)
            if first is None:
                return
            if self._kernel is None:
                self._load(writing, msgspec.structs.replace(self.cursor, position=position))
            yield first
            yield from batches
        except CorruptionError as error:
            raise DerivationHalted(Halt.CORRUPT, str(error)) from error

    def _log_position(self, cursor: Cursor) -> int:
        """Where the log goes on after a cursor, whose batch must be in it. Raises DerivationHalted."""
        if cursor.turn < 0:
            return 0
        if cursor != self._known:
            places = (cursor.batch_position, 0)
            found = (batch_at(self._source, self.context.channel_id, cursor.turn, place) for place in places)
            batch = next(filter(None, found), None)
            self._check_cursor(cursor, batch)
            assert batch is not None
            self._known, self._known_position = cursor, batch.position
        return self._known_position

    def _check_cursor(self, cursor: Cursor, batch: SupportedBatch | None) -> None:
        """Does the log agree with the database? Raises DerivationHalted."""
        check_cursor(cursor, batch)

    def _load(self, writing: Writing, at: Cursor) -> None:
        """A kernel with the tables that the database has at its cursor."""
        assert self.cursor is not None
        self._kernel = self._make_kernel()
        try:
            if at.turn >= 0:
                load_tables(self._kernel, self.context, self._loaded_schema(), writing.connection, self.cursor)
        except BaseException:
            self.release()
            raise
        self._at = at

    def _loaded_schema(self) -> AppSchema:
        """The tables a kernel is filled from."""
        return self.schema

    def _derive(self, batch: SupportedBatch, *, late: bool, log_apart: bool = False) -> None:
        """Run one batch on the kernel and make it part of its base, if it gives what was signed. With `late` the state
        root may be left out; `_owed` says so. `log_apart` as in `derive_batch`."""
        assert self._kernel is not None
        assert self._at is not None
        self._at, owed = derive_batch(self._kernel, self._at, batch, late=late, log_apart=log_apart)
        self._owed = self._owed or owed

    # -- writing ----------------------------------------------------------------------------------------------------

    def _settle(self, writing: Writing, moved: bool) -> Committed | None:
        """After the write of the first unwritten commit; None when the cursor stands elsewhere."""
        commit = self._unwritten[0]
        if not moved and read_cursor(writing.connection, commit.channel_id, commit.home) != commit.new:
            self._start_over(writing)
            return None
        # Or the write had landed earlier, and only its answer was lost.
        self._unwritten.popleft()
        self.cursor = self._known = commit.new
        self._known_position = commit.new.position
        changes = msgspec.structs.replace(commit.changes, messages=None, history=())
        return Committed(commit.channel_id, commit.expected.sequence, commit.new.sequence, commit.new.turn, changes)


def _write(writing: Writing, commit: Commit, confirmed: Callable[[], bool] | None = None) -> bool:
    return write(writing.connection, commit, notify=writing.notify, confirmed=confirmed)
