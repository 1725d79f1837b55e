"""Payments over several channels that happen in all of them or in none (docs/reference/payments.md). Pure.

A pays H under a lock, H pays B under the same hash with a lock that ends `margin_s` earlier. B gives the preimage to H
for an unconditional voucher, H does the same with A; whoever meets a neighbour that does not, reveals the preimage on
chain before the lock ends. So a hub that had to pay late downstream still has the margin to be paid upstream.

A node's view of one channel's locks is a `Conditional`, a value; each function gives the next one. `head_s` is the
timestamp of the newest block that this node knows: by blocks alone a lock ends. `time_s` is the later of that and the
node's own clock: the next block may come with that timestamp, so nobody counts on more time than is left by it
(docs/adrs/0073-locks-by-two-clocks.md). `locked/` has the payments that are made of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from scapp.channels.errors import LocalError, PeerError
from scapp.channels.payments.locks import LOCKS_MAX, Lock, LockedVoucher, hash_of, locked_voucher_hash, sign_locked
from scapp.channels.payments.vouchers import VoucherSigner
from scapp.channels.signing import Verifier
from scapp.channels.types import Address, ChannelId

NONE_ENDED: frozenset[bytes] = frozenset()


class LockTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What a node asks of locks. `margin_s`: time to notice what a neighbour did on chain and to answer there; between
    the ends of two locks of one payment lies at least that. `challenge_duration_s` is the channel's: a lock that ends
    later than a challenge may last could open after the channel was paid out."""

    margin_s: int
    challenge_duration_s: int


class LockRefused(PeerError):
    """A voucher that is worse than the one before, or one with locks that this node does not take; nothing changed."""


class Conditional(msgspec.Struct, frozen=True, gc=False):
    """One channel: what the payer has signed last, and the payee taken. None before the first voucher."""

    channel: ChannelId
    payer: Address
    payee: Address
    start: int
    voucher: LockedVoucher | None = None

    @property
    def amount(self) -> int:
        return self.voucher.amount if self.voucher is not None else 0

    @property
    def locks(self) -> tuple[Lock, ...]:
        return self.voucher.locks if self.voucher is not None else ()

    @property
    def free(self) -> int:
        """What can still be promised."""
        return self.start - (self.voucher.most if self.voucher is not None else 0)

    def lock(self, hash_: bytes) -> Lock | None:
        return next((lock for lock in self.locks if lock.hash == hash_), None)


# The payer


def offer(known: Conditional, lock: Lock, signer: VoucherSigner, head_s: int, terms: LockTerms) -> Conditional:
    """One more lock. Raises LocalError. Its time is its payee's risk, not its payer's: the chain's clock will do."""
    fault = lock_fault(known, lock) or time_fault(lock, head_s, head_s, terms)
    if signer.address != known.payer:
        fault = "only the payer of a channel can pay in it"
    if fault:
        raise LocalError(fault)
    return _signed(known, known.amount, (*known.locks, lock), signer)


def fulfil(known: Conditional, preimage: bytes, signer: VoucherSigner) -> Conditional:
    """The payee has shown the preimage: its lock becomes an unconditional payment. Raises PeerError."""
    lock = known.lock(hash_of(preimage))
    if lock is None:
        raise PeerError("this preimage opens no lock of the channel")
    rest = tuple(other for other in known.locks if other is not lock)
    return _signed(known, known.amount + lock.amount, rest, signer)


def drop(known: Conditional, opened: frozenset[bytes], ended: frozenset[bytes], signer: VoucherSigner) -> Conditional:
    """Without the locks that have ended unopened, and with those paid that were opened on chain, as the chain will
    always say it."""
    over = [lock for lock in known.locks if lock.hash in opened or lock.hash in ended]
    if not over:
        return known
    gained = sum(lock.amount for lock in over if lock.hash in opened)
    return _signed(known, known.amount + gained, tuple(lock for lock in known.locks if lock not in over), signer)


def _signed(known: Conditional, amount: int, locks: Sequence[Lock], signer: VoucherSigner) -> Conditional:
    return msgspec.structs.replace(known, voucher=sign_locked(known.channel, amount, locks, signer))


# The payee


def accept(
    known: Conditional, voucher: LockedVoucher, verifier: Verifier, ended: frozenset[bytes] = NONE_ENDED
) -> Conditional:
    """The payer's next voucher, unless it is worth less than the one before in whatever comes; `ended` are the hashes
    of locks that can open no more. Raises LockRefused.

    A lock's time is not looked at: its payee need not act on it (`time_fault`), and refuses one that outlasts every
    dispute before (`locked/taking.py`)."""
    if voucher.channel != known.channel or verifier.address != known.payer:
        raise LockRefused("a voucher of another channel or payer")
    if voucher.most > known.start or len(voucher.locks) > LOCKS_MAX:
        raise LockRefused(f"{voucher.most} promised under {len(voucher.locks)} locks, of {known.start}")
    kept = {lock.hash: lock for lock in voucher.locks}
    if len(kept) != len(voucher.locks):
        raise LockRefused("two locks with one hash")
    gone = [lock for lock in known.locks if kept.get(lock.hash) != lock]
    due = known.amount + sum(lock.amount for lock in gone if lock.hash not in ended)
    if voucher.amount < due:
        raise LockRefused(f"a voucher for {voucher.amount}, {due} is due")
    before = msgspec.structs.replace(known, voucher=None)
    for lock in voucher.locks:
        if known.lock(lock.hash) != lock and (fault := lock_fault(before, lock)):
            raise LockRefused(fault)
    if not verifier.signed(locked_voucher_hash(voucher), voucher.signature):
        raise LockRefused(f"wrong signer: only 0x{known.payer.hex()} pays in this channel")
    return msgspec.structs.replace(known, voucher=voucher)


def lock_fault(known: Conditional, lock: Lock) -> str:
    """Why the lock cannot be added, or "": the same for who offers and who takes it."""
    if lock.amount <= 0 or len(lock.hash) != 32:
        return f"a lock over {lock.amount} on a hash of {len(lock.hash)} bytes"
    if known.lock(lock.hash) is not None:
        return "a second lock on one hash would be opened by the first one's preimage"
    if lock.amount > known.free:
        return f"insufficient funds: {known.free} of {known.start} remain"
    if len(known.locks) >= LOCKS_MAX:
        return f"{len(known.locks)} locks in one voucher; allowed are {LOCKS_MAX}"
    return ""


def time_fault(lock: Lock, head_s: int, time_s: int, terms: LockTerms, least_s: int | None = None) -> str:
    """Why nobody should offer the lock, pass it on or open it, or "": too little time to answer on chain, or so much
    that it could open when a dispute over its channel has been paid out. The one counts from `time_s`, the other from
    the newest block: a challenge in the next one may begin right behind it. `least_s` will do for a margin."""
    least = terms.margin_s if least_s is None else least_s
    most = terms.challenge_duration_s - terms.margin_s
    left_s, ends_s = lock.expiry_s - time_s, lock.expiry_s - head_s
    if left_s >= least and ends_s <= most:
        return ""
    old = f"; the newest block known here is {time_s - head_s} s old" if time_s - head_s >= least else ""
    return f"a lock that ends in {left_s if left_s < least else ends_s} s; allowed are {least} to {most}{old}"


# The hub


def forward_fault(incoming: Lock, outgoing: Lock, fee: int, terms: LockTerms) -> str:
    """Why a lock that was taken upstream must not be passed on by that one, or ""."""
    if incoming.hash != outgoing.hash:
        return "a lock on another hash"
    if incoming.amount - outgoing.amount < fee:
        return f"{incoming.amount - outgoing.amount} left for this hub, its fee is {fee}"
    if incoming.expiry_s - outgoing.expiry_s < terms.margin_s:
        return f"{incoming.expiry_s - outgoing.expiry_s} s between two locks; this hub wants {terms.margin_s}"
    return ""


def must_reveal(
    known: Conditional, preimages: frozenset[bytes], head_s: int, time_s: int, terms: LockTerms
) -> list[bytes]:
    """Hashes of locks of a channel that pays us, to be revealed on chain now: we know the preimage (`preimages` are
    their hashes), the payer has not made them unconditional, and there is no time left to wait for that. Half the
    margin remains to get the transaction into a block."""
    due = time_s + terms.margin_s // 2
    return [lock.hash for lock in known.locks if lock.hash in preimages and head_s <= lock.expiry_s <= due]
