"""Stored facts of locked payments: one stream, because one decision touches two channels; `state.py` folds them.

Each type's tag carries its version and never changes meaning. Amounts are 32-byte big-endian integers in the asset's
smallest unit, `at_ms` milliseconds since 1970, `expiry_s` and `expires_s` seconds since 1970. A *lane* is a payment
channel whose app takes locks.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from scapp.channels.errors import CorruptionError

LOCKS_STREAM = b"locks".ljust(32, b"\0")
"""The stream of all locked payments of a node."""

WireLock = tuple[bytes, bytes, int]
"""Amount, hash, expiry in seconds."""
WireHop = tuple[bytes, bytes, int]
"""Who is paid next, how much of it, and when that lock ends."""
Fate = Literal["paid", "opened", "ended"]
"""Of a lock: made unconditional by its payer, opened on chain in time, or over without either."""


class LaneOpened(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="locks.lane.1"):
    """The payment channel runs; its payer has `start` to pay with. With a `token` it is opened as a restored one."""

    channel: bytes
    payer: bytes
    payee: bytes
    asset: bytes
    start: bytes
    challenge_duration_s: int
    token: bytes
    at_ms: int


class LaneClosed(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="locks.closed.1"):
    """The channel is being finished, off chain with `total` to the payee or on chain with at least that: nothing more
    is promised or taken in it. Stored before a final state, or a redemption, is signed."""

    channel: bytes
    total: bytes
    at_ms: int


class LaneSettled(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="locks.settled.1"):
    """The channel is gone, in the ledgers or on chain."""

    channel: bytes
    at_ms: int


class InvoiceMade(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="locks.invoice.1"):
    """This node wants to be paid `amount` of `asset` for the preimage, until `expires_s`."""

    hash: bytes
    preimage: bytes
    asset: bytes
    amount: bytes
    expires_s: int
    memo: str
    at_ms: int


class PaymentBegun(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="locks.begun.1"):
    """This node pays an invoice (its text) along `hops`, the payee last."""

    hash: bytes
    invoice: str
    hops: tuple[WireHop, ...]
    at_ms: int


class LockArrived(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="locks.arrived.1"):
    """A lock on that hash came in the lane `channel`, to be passed on along `hops`; without hops it is for this node.
    Behind the `VoucherTaken` that brought it."""

    hash: bytes
    channel: bytes
    hops: tuple[WireHop, ...]
    at_ms: int


class LockPassed(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="locks.passed.1"):
    """This node has put its own lock on the hash into the lane `channel`. Behind the `VoucherPromised` with it."""

    hash: bytes
    channel: bytes
    at_ms: int


class VoucherPromised(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="locks.promised.1"):
    """The payer's newest voucher of a lane, the `number`-th: `amount` without condition, and what the locks may add.
    Stored before it leaves the node."""

    channel: bytes
    number: int
    amount: bytes
    locks: tuple[WireLock, ...]
    signature: bytes
    at_ms: int


class VoucherTaken(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="locks.taken.1"):
    """The same at the payee, once it was checked."""

    channel: bytes
    number: int
    amount: bytes
    locks: tuple[WireLock, ...]
    signature: bytes
    at_ms: int


class SecretLearned(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="locks.secret.1"):
    """The preimage of a hash that this node has a lock on."""

    hash: bytes
    preimage: bytes
    at_ms: int


class LockFailed(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="locks.failed.1"):
    """This node, or one further on, will not open that lock; it stands until its end all the same."""

    hash: bytes
    reason: str
    at_ms: int


class LockOver(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="locks.over.1"):
    """What became of the lock on that hash in the lane `channel`, for good."""

    hash: bytes
    channel: bytes
    fate: Fate
    at_ms: int


class LocksRestored(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="locks.restored.1"):
    """As `purse.restored.1`, for every lane that is not settled."""

    token: bytes
    at_ms: int
    backup_ms: int


class LaneRecovered(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="locks.recovered.1"):
    """The other party has told the newest voucher it knows, or the operator goes on without."""

    channel: bytes
    by_operator: bool
    at_ms: int


class LocksForgotten(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="locks.forgotten.1"):
    """These lanes are settled and these payments and invoices are over for good: nothing is known of them from here
    on."""

    lanes: tuple[bytes, ...]
    hashes: tuple[bytes, ...]
    at_ms: int


LocksEvent = (
    LaneOpened
    | LaneClosed
    | LaneSettled
    | InvoiceMade
    | PaymentBegun
    | LockArrived
    | LockPassed
    | VoucherPromised
    | VoucherTaken
    | SecretLearned
    | LockFailed
    | LockOver
    | LocksRestored
    | LaneRecovered
    | LocksForgotten
)

encode_locks_event = msgspec.msgpack.Encoder().encode
_decoder: msgspec.msgpack.Decoder[LocksEvent] = msgspec.msgpack.Decoder(LocksEvent)


def decode_locks_event(data: bytes) -> LocksEvent:
    """Raises CorruptionError for bytes that are no known event: an unknown event is never skipped."""
    try:
        return _decoder.decode(data)
    except (ValueError, RecursionError) as error:  # msgspec's own errors are ValueErrors
        raise CorruptionError(f"stored event of locked payments cannot be read: {error}; {data[:24].hex()}…") from error
