"""What the payee of a lane decides: to take a voucher, to open its locks or to pass them on, or why not. Pure.

The same judgement answers an `Ask`, when nothing is promised yet, and a lock that has arrived. A hub passes a lock on
in the decision that takes it: both facts are one append, so that no crash leaves it with the one and not the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from scapp.channels.errors import PeerError
from scapp.channels.payments.events import amount_bytes, amount_of
from scapp.channels.payments.hops import LockRefused, accept, forward_fault, lock_fault, offer
from scapp.channels.payments.locked.book import CHAIN_UNSEEN, LockBook
from scapp.channels.payments.locked.events import LockArrived, LockFailed, LockPassed, SecretLearned, VoucherTaken
from scapp.channels.payments.locked.messages import Ask, Locked
from scapp.channels.payments.locked.records import Hop, Lane
from scapp.channels.payments.locked.state import hops_of, locks_of, wire_hops, wire_locks
from scapp.channels.payments.locked.terms import LockSettings
from scapp.channels.payments.locks import Lock, LockedVoucher
from scapp.channels.routing.fees import Stake, quote
from scapp.channels.types import Address, money


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """`fault`: why this node would neither open nor pass on a lock; `fee`: what it asks, where it was offered less.
    Without a fault `lane` is where it passes it on, None when the lock is for itself."""

    fault: str = ""
    fee: int = 0
    lane: Lane | None = None


def judge(book: LockBook, lane: Lane, lock: Lock, hops: Sequence[Hop], *, asked: bool = False) -> Verdict:
    """What this node would do about a lock in a lane that pays it. `asked`: it is not there yet."""
    fault = _use_fault(book, lock.hash) or book.time_fault(lane, lock)
    if fault:
        return Verdict(fault)
    return _judge_passing(book, lane, lock, hops, asked=asked) if hops else Verdict(_final_fault(book, lane, lock))


def reopen_fault(book: LockBook, lane: Lane, lock: Lock) -> str:
    """Why a restored payee leaves a lock on an invoice of its own alone, which it may have forgotten, or "". When it
    came nobody can tell: perhaps before the invoice expired, and the preimage is out. So that counts while there is as
    much time as this node leaves itself to take one to the chain; but no lock that it would never have opened."""
    return _invoice_fault(book, lane, lock) or book.time_fault(lane, lock, book.settings.margin_s // 2)


def judge_ask(book: LockBook, peer: Address, ask: Ask) -> Verdict:
    """The same before there is a lock: which lane it would come in is the payer's choice."""
    lock, asset = Lock(amount_of(ask.amount), ask.hash, ask.expiry_s), Address(ask.asset)
    lanes = [
        lane
        for lane in book.state.with_peer(peer)
        if lane.payer == peer and lane.asset == asset and lane.phase == "open" and not lane.token
    ]
    if not lanes:
        return Verdict(f"no payment channel that takes locks is open from 0x{peer.hex()} in that asset")
    fits = [lane for lane in lanes if 0 < lock.amount <= lane.known.free and len(lane.locks) < book.settings.locks_max]
    if not fits:
        return Verdict(f"not enough capacity, or too many locks, in the payment channels from 0x{peer.hex()}")
    return judge(book, fits[0], lock, hops_of(ask.hops), asked=True)


def _use_fault(book: LockBook, name: bytes) -> str:
    """Why a lock on that hash is not acted on: another one may still be opened, or was. A preimage is worth one
    payment; whoever locks a second one on its hash pays that for nothing. One that this node has left alone is in
    nobody's way, or whoever knows a hash could keep it from being paid."""
    known = book.state.transits.get(name)
    if known is not None and not known.left_alone and (not known.over or known.status == "paid"):
        return "a payment with that hash is known here already"
    return ""


def _final_fault(book: LockBook, lane: Lane, lock: Lock) -> str:
    if fault := _invoice_fault(book, lane, lock):
        return fault
    expires_s = book.state.invoices[lock.hash].expires_s
    return f"the invoice expired at {expires_s}" if expires_s * 1_000 <= book.now_ms else ""


def _invoice_fault(book: LockBook, lane: Lane, lock: Lock) -> str:
    invoice = book.state.invoices.get(lock.hash)
    if invoice is None:
        return "no invoice of the payee has that hash"
    if invoice.asset != lane.asset:
        return "the invoice is in another asset"
    if lock.amount < invoice.amount:
        asked, locked = (money(each, lane.asset, named=True) for each in (invoice.amount, lock.amount))
        return f"the invoice is over {asked}, the lock over {locked}"
    return ""


def _judge_passing(book: LockBook, lane: Lane, lock: Lock, hops: Sequence[Hop], *, asked: bool) -> Verdict:
    hop, settings = hops[0], book.settings
    outgoing = Lock(hop.amount, lock.hash, hop.expiry_s)
    if hop.peer in (book.me, lane.payer):
        return Verdict("a way names everybody once")
    fee = quote(settings.schedules, (Stake(lane.asset, hop.amount, 0),))
    if fee is None:
        return Verdict(_not_forwarded(settings, lane.asset, hop.amount))
    if small := settings.small_fault(lane.asset, hop.amount, book.reveal_cost, asked=asked):
        return Verdict(small)
    if lock.amount - hop.amount < fee:
        offered, wanted = (money(each, lane.asset, named=True) for each in (lock.amount - hop.amount, fee))
        return Verdict(f"fee too low: {offered}; this hub asks {wanted}", fee)
    fault = forward_fault(lock, outgoing, fee, settings.of(lane))
    to = book.lane_to(hop.peer, lane.asset, hop.amount, own=False)
    if fault or isinstance(to, str):
        return Verdict(fault or str(to))
    return Verdict(lock_fault(to.known, outgoing) or book.time_fault(to, outgoing), lane=to)


def _not_forwarded(settings: LockSettings, asset: Address, amount: int) -> str:
    known = next((each for each in settings.schedules if each.asset == asset), None)
    if known is None:
        return "this node does not forward payments of that asset"
    least, most = money(known.least, asset, named=True), money(known.most, asset, named=True)
    return f"{money(amount, asset)} under a lock; this hub passes on {least} to {most}"


def take(book: LockBook, peer: Address, message: Locked, limited: str = "") -> bool:
    """The payer's newest voucher: is it known already, or an older one? Else it is taken, and its new locks are opened,
    passed on, or refused. `limited`: why only one that ends locks is taken now. Raises PeerError; LockRefused for a
    voucher that this node does not take."""
    lane = book.shared(peer, message.channel)
    if peer != lane.payer:
        raise PeerError("the payee of a channel sends a voucher to its payer")
    voucher = LockedVoucher(lane.channel, amount_of(message.amount), locks_of(message.locks), message.signature)
    if message.number <= lane.number or voucher == lane.voucher:
        return True
    if lane.phase != "open":
        raise LockRefused(f"the channel is {lane.phase}")
    # A lock that has arrived is judged once, and stands until its end if it fails: not before its time can be judged.
    unready = limited or ("" if book.chain.head_s else CHAIN_UNSEEN)
    if unready and not set(voucher.locks) < set(lane.locks):
        raise LockRefused(unready)
    if lane.token:
        raise PeerError("this node was restored from a backup, and has not recovered yet")
    keep(book, lane, message.number, voucher)
    onward = {name: hops_of(hops) for name, hops in message.onward}
    _act(book, lane, onward)
    return False


def keep(book: LockBook, lane: Lane, number: int, voucher: LockedVoucher) -> None:
    """Store a voucher that is not worse than the one before, and what became of the locks that are gone. Raises
    LockRefused."""
    ends_s = max((lock.expiry_s for lock in voucher.locks if lock not in lane.locks), default=0) - book.time_s
    if ends_s > lane.challenge_duration_s:  # it would stand, and keep the channel open, as long as its payer likes
        raise LockRefused(f"a lock that ends in {ends_s} s; a dispute over its channel ends before")
    ended = frozenset(lock.hash for lock in lane.locks if book.fate(lane, lock) == "ended")
    accept(lane.known, voucher, book.verifier(lane.payer), ended)
    book.do(
        VoucherTaken(
            lane.channel, number, amount_bytes(voucher.amount), wire_locks(voucher.locks), voucher.signature,
            book.now_ms,
        )
    )  # fmt: skip
    for lock in lane.locks:
        if lock not in voucher.locks:
            book.over(lane, lock, "ended" if lock.hash in ended else "paid")


def _act(book: LockBook, before: Lane, onward: Mapping[bytes, tuple[Hop, ...]]) -> None:
    """On the locks that are new in a lane."""
    for lock in book.lane(before.channel).locks:
        if lock not in before.locks and not _use_fault(book, lock.hash):
            _arrived(book, book.lane(before.channel), lock, onward.get(lock.hash, ()))


def _arrived(book: LockBook, lane: Lane, lock: Lock, hops: tuple[Hop, ...]) -> None:
    verdict = judge(book, lane, lock, hops)
    book.do(LockArrived(lock.hash, lane.channel, wire_hops(hops), book.now_ms))
    if verdict.fault:
        book.do(LockFailed(lock.hash, verdict.fault, book.now_ms))
    elif verdict.lane is None:
        book.do(SecretLearned(lock.hash, book.state.invoices[lock.hash].preimage, book.now_ms))
    else:
        outgoing = Lock(hops[0].amount, lock.hash, hops[0].expiry_s)
        terms = book.settings.of(verdict.lane)
        book.promise(verdict.lane, offer(verdict.lane.known, outgoing, book.signer, book.chain.head_s, terms))
        book.do(LockPassed(lock.hash, verdict.lane.channel, book.now_ms))
