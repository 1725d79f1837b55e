"""One channel run again from its log, every batch checked against what was signed; `derive.py` has the checks.

Used wherever tables are needed that owe nothing to a database: verification and proofs. `follow.py` shares the step.
"""

from __future__ import annotations

from collections.abc import Iterator

from scapp.channels.admission import ChannelContext
from scapp.channels.errors import CorruptionError
from scapp.channels.reading import EntrySource, SupportedBatch
from scapp.channels.types import ZERO_HASH
from scapp.runtime.database.write import Cursor
from scapp.runtime.derive import DerivationHalted, Halt, check_batch, check_follows, check_result, next_cursor
from scapp.runtime.kernel import Budget, Kernel, KernelFault


class Replica:
    """`kernel` is the caller's, with no entries applied; one that tracks is the caller's to take changes from. Not
    thread-safe; after an error it cannot go on."""

    def __init__(self, context: ChannelContext, source: EntrySource, kernel: Kernel) -> None:
        self.kernel = kernel
        self.at = start_cursor(context)
        self._context = context
        self._source = source

    def advance(self, turn: int | None = None) -> Iterator[SupportedBatch]:
        """Run what follows, up to and including `turn`, or to the log's end; one item per batch.

        Raises DerivationHalted."""
        if turn is not None and self.at.turn >= turn:
            return
        try:
            for batch in self._source.batches(self._context.channel_id, self.at.position):
                if turn is not None and batch.turn > turn:
                    return
                self.at, _ = derive_batch(self.kernel, self.at, batch)
                yield batch
                if batch.turn == turn:
                    return
        except CorruptionError as error:
            raise DerivationHalted(Halt.CORRUPT, str(error)) from error


def derive_batch(
    kernel: Kernel, at: Cursor, batch: SupportedBatch, *, late: bool = False, log_apart: bool = False
) -> tuple[Cursor, bool]:
    """Run one batch on a kernel that stands at `at` and make it part of its base, if it gives what was signed; the
    cursor after it, and whether its root is still to be compared, which only happens with `late` (`Kernel.run`).
    With `log_apart` somebody else checks its log root and sees to its messages, which are not among the changes.

    Raises DerivationHalted, and then the kernel stands where it did, unless it is broken."""
    owed = False
    try:
        if log_apart:
            check_follows(at, batch)
        else:
            check_batch(at, batch, kernel)
        if batch.entries:
            result = kernel.run(batch.first_sequence, batch.entries, budget=Budget.DERIVE, late=late)
            owed = not result.state_root
            try:
                check_result(batch, result)
            except DerivationHalted:
                kernel.rollback()
                raise
            kernel.commit(batch.turn, messages=not log_apart)
        elif batch.state_root != (at.state_root if at.turn >= 0 else kernel.state_root()):
            raise DerivationHalted(Halt.CORRUPT, f"turn {batch.turn} has no entries and another state root")
    except KernelFault as error:
        raise DerivationHalted(Halt.UNDECIDABLE, f"turn {batch.turn} cannot be run here: {error}") from error
    return next_cursor(batch, at.position, kernel.event_root()), owed


def start_cursor(context: ChannelContext) -> Cursor:
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
