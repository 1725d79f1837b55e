"""One channel's derivation: from supported batches through its kernel into its tables, one call at a time.
`derive.py` judges the results, `database/write.py` writes them, `worker.py` decides when and for which channels.

Crash-safe without any care of its own: what it knows is the cursor in the database, which moves with the rows.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator

import msgspec

from scapp.channels.admission import ChannelContext
from scapp.channels.errors import CorruptionError
from scapp.channels.reading import EntrySource, SupportedBatch
from scapp.channels.types import ZERO_HASH, ChannelId
from scapp.runtime.changes import BatchChanges
from scapp.runtime.database.connecting import Connection
from scapp.runtime.database.write import Commit, Cursor, copy, is_bulk, read_cursor, write
from scapp.runtime.derive import (
    DerivationHalted,
    Derived,
    Halt,
    check_batch,
    check_result,
    merge,
    next_cursor,
    stored_entries,
)
from scapp.runtime.kernel import Budget, Kernel, KernelFault
from scapp.runtime.schema import AppSchema, register_channel

ENTRIES_PER_COMMIT = 2_000
_NO_CHANGES = BatchChanges((), ())
_log = logging.getLogger(__name__)


class Committed(msgspec.Struct, frozen=True, gc=False):
    """Told to listeners once entries `first_sequence .. end_sequence - 1` are in the database."""

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
        for gathered in self._derived():
            done = self._write(writing, self._commit_of(gathered))
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

    def _derived(self) -> Iterator[list[Derived]]:
        """Checked batches after the database's cursor, gathered to the size of a commit."""
        gathered: list[Derived] = []
        entries = 0
        try:
            for batch in self._batches():
                gathered.append(self._derive(batch))
                entries += len(batch.entries)
                if entries >= ENTRIES_PER_COMMIT:
                    yield gathered
                    gathered, entries = [], 0
        except DerivationHalted:
            if gathered:  # what was right before the fault still counts
                yield gathered
            raise
        if gathered:
            yield gathered

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
        if goal.turn >= 0:
            for batch in self._source.batches(self.context.channel_id):
                if batch.turn > goal.turn:
                    break
                self._derive(batch)
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

    def _derive(self, batch: SupportedBatch) -> Derived:
        assert self._kernel is not None
        assert self._at is not None
        try:
            check_batch(self._at, batch)
            changes = _NO_CHANGES
            if batch.entries:
                check_result(batch, self._kernel.run(batch.first_sequence, batch.entries, budget=Budget.DERIVE))
                changes = self._kernel.commit()
            elif batch.state_root != self._kernel.state_root():
                raise DerivationHalted(Halt.CORRUPT, f"turn {batch.turn} has no entries and another state root")
        except KernelFault as error:
            self.release()
            raise DerivationHalted(Halt.UNDECIDABLE, f"turn {batch.turn} cannot be run here: {error}") from error
        except DerivationHalted:
            self.release()
            raise
        self._at = next_cursor(batch)
        return Derived(stored_entries(batch), changes, self._at)

    # -- writing ----------------------------------------------------------------------------------------------------

    def _commit_of(self, gathered: list[Derived]) -> Commit:
        assert self.cursor is not None
        merged = merge(self._schema.manifest, gathered)
        return Commit(
            channel_id=self.context.channel_id,
            schema=self._schema.name,
            manifest=self._schema.manifest,
            expected=self.cursor,
            new=merged.cursor,
            entries=merged.entries,
            changes=merged.changes,
        )

    def _write(self, writing: Writing, commit: Commit) -> Committed | None:
        self._unwritten = commit
        put = copy if writing.copy_in and is_bulk(commit) else write
        moved = put(writing.connection, commit, notify=writing.notify)
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
        return Committed(
            commit.channel_id, commit.expected.sequence, commit.new.sequence, commit.new.turn, commit.changes
        )


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
