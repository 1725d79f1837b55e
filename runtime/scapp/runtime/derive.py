"""The pure part of derivation: check a supported batch against what the kernel made of it. `follow.py` drives it."""

from __future__ import annotations

import enum

from scapp.channels.errors import ScappError
from scapp.channels.reading import SupportedBatch
from scapp.runtime.database.write import Cursor
from scapp.runtime.kernel import BatchResult, Kernel

TIME_MS_MAX = 2**63 - 1


class Halt(enum.StrEnum):
    """Why a channel's derivation stopped for good (until the cause is gone and the worker starts again)."""

    CORRUPT = "corrupt"  # what is stored contradicts itself or a signed commitment
    UNDECIDABLE = "undecidable"  # this machine cannot tell what the entries do
    REFUSED = "refused"  # the database refuses a write that every check allowed
    FAULT = "fault"  # an error nobody foresaw; its trace is in the log


class DerivationHalted(ScappError):
    """Derivation of one channel cannot go on; nothing was written. `kind` says which class of failure it is."""

    def __init__(self, kind: Halt, reason: str) -> None:
        super().__init__(f"{kind.value}: {reason}")
        self.kind = kind
        self.reason = reason


def check_batch(at: Cursor, batch: SupportedBatch, kernel: Kernel) -> None:
    """The batch, which `kernel` is to run, must follow the cursor without a gap and reach its own log root.

    Raises DerivationHalted (corrupt), KernelFault."""
    check_follows(at, batch)
    check_log_root(at.log_root, batch, kernel)


def check_log_root(before: bytes, batch: SupportedBatch, kernel: Kernel) -> None:
    """The batch's entries must lead from the log root before them to its own; any kernel says so.

    Raises DerivationHalted (corrupt), KernelFault."""
    found = kernel.log_root(before, batch.entries) if batch.entries else before
    if found != batch.log_root:
        raise _root_mismatch("log root", batch, bytes(found), batch.log_root)


def check_follows(at: Cursor, batch: SupportedBatch) -> None:
    """The batch must follow the cursor without a gap. Raises DerivationHalted (corrupt)."""
    if batch.first_sequence != at.sequence:
        raise DerivationHalted(
            Halt.CORRUPT, f"the log goes on at sequence {batch.first_sequence}, expected {at.sequence}: entries missing"
        )
    if batch.time_ms > TIME_MS_MAX:
        raise DerivationHalted(Halt.CORRUPT, f"time {batch.time_ms} ms of turn {batch.turn} is beyond {TIME_MS_MAX}")


def check_result(batch: SupportedBatch, result: BatchResult) -> None:
    """What the kernel derived must be what was signed; a state root that is missing is the caller's.
    Raises DerivationHalted."""
    for refusal in result.refusals:
        kind = Halt.UNDECIDABLE if refusal.code == "undecidable" else Halt.CORRUPT
        raise DerivationHalted(
            kind,
            f"entry {batch.first_sequence + refusal.index} is under all signatures (turn {batch.turn}), "
            f"but here it was {refusal.code}: {refusal.reason}",
        )
    if result.state_root and result.state_root != batch.state_root:
        raise _root_mismatch("state root", batch, result.state_root, batch.state_root)
    if result.amounts != batch.amounts:
        raise DerivationHalted(
            Halt.CORRUPT, f"amounts after turn {batch.turn}: derived {result.amounts}, signed {batch.amounts}"
        )


def next_cursor(batch: SupportedBatch, batch_position: int = 0, event_root: bytes | None = None) -> Cursor:
    """The cursor once this batch is derived, which was read from the log at `batch_position`."""
    return Cursor(
        sequence=batch.end_sequence,
        turn=batch.turn,
        state_root=batch.state_root,
        log_root=batch.log_root,
        amounts=batch.amounts,
        time_ms=batch.time_ms,
        is_final=batch.is_final,
        position=batch.position,
        batch_position=batch_position,
        event_root=event_root,
    )


def check_cursor(cursor: Cursor, batch: SupportedBatch | None) -> None:
    """What the database says of itself must be what the log has at that turn. Raises DerivationHalted (corrupt)."""
    found = "ends before it"
    if batch is not None:
        if (cursor.sequence, cursor.log_root, cursor.state_root, cursor.amounts) == (
            batch.end_sequence,
            batch.log_root,
            batch.state_root,
            batch.amounts,
        ):
            return
        found = f"has {_commitments(batch.end_sequence, batch.log_root, batch.state_root)}, amounts {batch.amounts}"
    raise DerivationHalted(
        Halt.CORRUPT,
        f"the database is derived to turn {cursor.turn}, "
        f"{_commitments(cursor.sequence, cursor.log_root, cursor.state_root)}, amounts {cursor.amounts}; "
        f"this node's log {found}",
    )


def _commitments(sequence: int, log_root: bytes, state_root: bytes) -> str:
    return f"sequence {sequence}, log root 0x{log_root.hex()}, state root 0x{state_root.hex()}"


def _root_mismatch(what: str, batch: SupportedBatch, found: bytes, signed: bytes) -> DerivationHalted:
    return DerivationHalted(
        Halt.CORRUPT,
        f"{what} after turn {batch.turn} (sequences {batch.first_sequence} to {batch.end_sequence - 1}): "
        f"derived 0x{found.hex()}, signed 0x{signed.hex()}",
    )
