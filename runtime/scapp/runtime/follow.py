"""One channel's derivation: from supported batches through its kernel into its tables, one call at a time.
`derive.py` judges the results, `database/write.py` writes them, `worker.py` decides when and for which channels.

Crash-safe without any care of its own: what it knows is the cursor in the database, which moves with the rows.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Generator, Iterator

import msgspec

from scapp.channels.admission import ChannelContext
from scapp.channels.errors import CorruptionError
from scapp.channels.reading import EntrySource, SupportedBatch
from scapp.channels.types import ZERO_HASH, ChannelId
from scapp.runtime.changes import COPY_NEVER, BatchChanges
from scapp.runtime.database.connecting import Connection
from scapp.runtime.database.write import COPY_ROWS_MIN, Commit, Cursor, read_cursor, write
from scapp.runtime.derive import DerivationHalted, Halt, check_batch, check_result, next_cursor
from scapp.runtime.kernel import Budget, Kernel, KernelFault
from scapp.runtime.schema import AppSchema, register_channel

ENTRIES_PER_COMMIT = 2_000
_log = logging.getLogger(__name__)


class Committed(msgspec.Struct, frozen=True, gc=False):
    """Told to listeners once entries `first_sequence .. end_sequence - 1` are in the database. Of the changes the
    messages are left out: the log has them."""

    channel_id: ChannelId
    first_sequence: int
    end_sequence: int
    turn: int
    changes: BatchChanges


class Writing(msgspec.Struct, frozen=True):
    """The connection of one round and what its backend allows."""

    connection: Connection
    notify: bool
    copy_in: bool


class ChannelFollower:
    """Not thread-safe. `make_kernel` builds the channel's kernel with no entries applied."""

    def __init__(
        self, context: ChannelContext, schema: AppSchema, source: EntrySource, make_kernel: Callable[[], Kernel]
    ) -> None:
        self.context = context
        self.cursor: Cursor | None = None  # as last read from or written to the database
        self._schema = schema
        self._source = source
        self._make_kernel = make_kernel
        self._kernel: Kernel | None = None
        self._at: Cursor | None = None  # what the kernel's tables stand at
        self._doubted = False
        self._unwritten: Commit | None = None  # derived and checked, but the database did not take it yet

    @property
    def has_kernel(self) -> bool:
        return self._kernel is not None

    def advance(self, writing: Writing) -> Iterator[Committed]:
        """Derive and write all that is supported; one item per commit.

        Raises DerivationHalted, and psycopg's errors; after any of them calling again is safe."""
        while not (yield from self._pass(writing)):
            pass

    def _pass(self, writing: Writing) -> Generator[Committed, None, bool]:
        """False when the database's cursor turned out to stand elsewhere and deriving starts over from there."""
        if self.cursor is None or self._doubted:
            known = self.cursor
            if self._read_cursor(writing) != known:
                self.release()
                self._unwritten = None
            self._doubted = False
        if self._unwritten is not None:
            done = self._write(writing, self._unwritten)
            if done is None:
                return False
            yield done
        for commit in self._derived(COPY_ROWS_MIN if writing.copy_in else COPY_NEVER):
            done = self._write(writing, commit)
            if done is None:
                return False
            yield done
        if self.cursor is not None and self.cursor.is_final:
            self.release()
        return True

    def doubt(self) -> None:
        """The database went away: it may come back without its last commits, so look at the cursor again."""
        self._doubted = True

    def interrupt(self) -> None:
        """From any thread: break off what is being derived, before its next entry; nothing of it was written."""
        kernel = self._kernel
        if kernel is not None:
            kernel.interrupt()

    def release(self) -> None:
        """Free the kernel; the next batch replays the log into a new one. Keeps what is not written yet."""
        if self._kernel is not None:
            self._kernel.close()
        self._kernel = self._at = None

    def _read_cursor(self, writing: Writing) -> Cursor:
        register_channel(writing.connection, self.context)
        self.cursor = read_cursor(writing.connection, self.context.channel_id)
        assert self.cursor is not None, "a registered channel has a cursor"
        return self.cursor

    # -- deriving ---------------------------------------------------------------------------------------------------

    def _derived(self, copy_rows_min: int) -> Iterator[Commit]:
        """Commits of checked batches after the database's cursor, each of as many batches as one should have."""
        assert self.cursor is not None
        start = self.cursor.sequence
        try:
            for batch in self._batches():
                self._derive(batch)
                if batch.end_sequence - start >= ENTRIES_PER_COMMIT:
                    yield self._take(copy_rows_min)
                    start = batch.end_sequence
        except DerivationHalted:
            if self._is_ahead():  # what was right before the fault still counts
                with contextlib.suppress(KernelFault):  # unless the kernel cannot say any more what it was
                    yield self._take(copy_rows_min)
            self.release()
            raise
        if self._is_ahead():
            yield self._take(copy_rows_min)

    def _is_ahead(self) -> bool:
        return self._kernel is not None and self._at != self.cursor

    def _take(self, copy_rows_min: int) -> Commit:
        """What the kernel derived beyond the database's cursor."""
        assert self._kernel is not None
        assert self._at is not None
        assert self.cursor is not None
        return Commit(
            channel_id=self.context.channel_id,
            schema=self._schema.name,
            manifest=self._schema.manifest,
            expected=self.cursor,
            new=self._at,
            changes=self._kernel.take_changes(copy_rows_min),
        )

    def _batches(self) -> Iterator[SupportedBatch]:
        """Batches after the cursor; loads the kernel first, once there is one to run."""
        assert self.cursor is not None
        if self.cursor.is_final:
            return
        position = self._at.position if self._at is not None else self.cursor.position
        try:
            batches = self._source.batches(self.context.channel_id, position)
            first = next(batches, None)
            if first is None and self._kernel is not None:
                return
            if self._kernel is None:
                # Also when the log seems to end here: it may be shorter than what the database was derived from.
                position = self._load()
                batches = self._source.batches(self.context.channel_id, position)
                first = next(batches, None)
            if first is not None:
                yield first
                yield from batches
        except CorruptionError as error:
            raise DerivationHalted(Halt.CORRUPT, str(error)) from error

    def _load(self) -> int:
        """Replay the log from its start to the cursor into a fresh kernel; returns the position after it.

        Every root on the way is compared with the signed one, and the last with what the database says."""
        assert self.cursor is not None
        goal = self.cursor
        self._kernel, self._at = self._make_kernel(), _start(self.context)
        try:
            self._replay(goal)
        except DerivationHalted:
            self.release()
            raise
        at = self._at
        if (at.sequence, at.turn, at.log_root, at.state_root) != (
            goal.sequence,
            goal.turn,
            goal.log_root,
            goal.state_root,
        ):
            self.release()
            raise DerivationHalted(
                Halt.CORRUPT,
                f"the database is derived to turn {goal.turn}, sequence {goal.sequence}, log root "
                f"0x{goal.log_root.hex()}, state root 0x{goal.state_root.hex()}; this node's log gives turn {at.turn}, "
                f"sequence {at.sequence}, log root 0x{at.log_root.hex()}, state root 0x{at.state_root.hex()} there",
            )
        return at.position

    def _replay(self, goal: Cursor) -> None:
        """Bring a fresh kernel to a cursor, as far as the log goes. What it changes is in the database already."""
        assert self._kernel is not None
        for batch in self._source.batches(self.context.channel_id) if goal.turn >= 0 else ():
            if batch.turn > goal.turn:
                break
            self._derive(batch)
            self._kernel.take_changes(COPY_NEVER)

    def _derive(self, batch: SupportedBatch) -> None:
        """Run one batch on the kernel and make it part of its base, if it gives what was signed."""
        assert self._kernel is not None
        assert self._at is not None
        check_batch(self._at, batch)
        try:
            if batch.entries:
                result = self._kernel.run(batch.first_sequence, batch.entries, budget=Budget.DERIVE)
                try:
                    check_result(batch, result)
                except DerivationHalted:
                    self._kernel.rollback()
                    raise
                self._kernel.commit(batch.turn)
            elif batch.state_root != self._kernel.state_root():
                raise DerivationHalted(Halt.CORRUPT, f"turn {batch.turn} has no entries and another state root")
        except KernelFault as error:
            raise DerivationHalted(Halt.UNDECIDABLE, f"turn {batch.turn} cannot be run here: {error}") from error
        self._at = next_cursor(batch)

    # -- writing ----------------------------------------------------------------------------------------------------

    def _write(self, writing: Writing, commit: Commit) -> Committed | None:
        self._unwritten = commit
        moved = write(writing.connection, commit, notify=writing.notify)
        self._unwritten = None
        if not moved:
            found = read_cursor(writing.connection, commit.channel_id)
            if found != commit.new:
                # Somebody else writes this channel, or the database was set back: go on from where it stands.
                _log.warning("channel 0x%s: the cursor stands elsewhere, starting over", commit.channel_id.hex())
                self.release()
                self._read_cursor(writing)
                return None
            # The write had landed earlier and only its answer was lost.
        self.cursor = commit.new
        changes = msgspec.structs.replace(commit.changes, messages=None)
        return Committed(commit.channel_id, commit.expected.sequence, commit.new.sequence, commit.new.turn, changes)


def _start(context: ChannelContext) -> Cursor:
    """Before entry 0."""
    return Cursor(
        sequence=0,
        turn=-1,
        state_root=ZERO_HASH,
        log_root=ZERO_HASH,
        amounts=tuple(amount for _, _, amount in context.slots),
        time_ms=0,
        is_final=False,
        position=0,
    )
