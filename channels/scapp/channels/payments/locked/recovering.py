"""Lanes after a restore from a backup: nothing is signed in one before its other party has told what it knows. Pure.

What this node had promised, and which lock it passed on for which, comes back from its neighbours: locks of both lanes
meet under their hash. It passes on none that it does not remember; but what it is shown the preimage of, it claims.
What it is told is judged like what is said in the ordinary way (`taking.py`): else it goes on recovering, and its
operator can read why.
"""

from __future__ import annotations

from scapp.channels.errors import PeerError
from scapp.channels.payments.events import amount_bytes, amount_of
from scapp.channels.payments.hops import LockRefused
from scapp.channels.payments.locked.book import CHAIN_UNSEEN, LockBook
from scapp.channels.payments.locked.events import LockArrived, LockFailed, LockPassed, PaymentBegun, SecretLearned
from scapp.channels.payments.locked.messages import PREIMAGES_MAX, LaneHeld
from scapp.channels.payments.locked.records import FORGOTTEN, Lane
from scapp.channels.payments.locked.state import locks_of, wire_locks
from scapp.channels.payments.locked.taking import keep, reopen_fault
from scapp.channels.payments.locks import Lock, LockedVoucher, hash_of, locked_voucher_hash
from scapp.channels.payments.messages import NO_TOKEN
from scapp.channels.types import Address


def answer(book: LockBook, lane: Lane, token: bytes) -> LaneHeld:
    """What this node knows of a lane, for one who asks: its newest voucher, and preimages that may still be needed."""
    voucher = lane.voucher
    # Its payer hears no preimage of a lock that may have ended, whatever it says of a restore (`speaking`).
    since_s = book.time_s if lane.payee == book.me else book.chain.head_s
    preimages = [
        transit.preimage
        for transit in book.state.transits.values()
        if transit.preimage
        and any(
            leg is not None and leg.channel == lane.channel and leg.expiry_s >= since_s
            for leg in (transit.incoming, transit.outgoing)
        )
    ]
    return LaneHeld(
        lane.channel,
        NO_TOKEN if lane.token else token,  # one that recovers does not know either
        lane.number,
        amount_bytes(lane.paid),
        wire_locks(lane.locks),
        voucher.signature if voucher is not None else b"",
        tuple(preimages[-PREIMAGES_MAX:]),
    )


def held(book: LockBook, peer: Address, message: LaneHeld) -> None:
    """The other party tells what it knows of a lane that recovers. Raises PeerError, and then it goes on recovering."""
    lane = book.shared(peer, message.channel)
    if not lane.token:
        return
    book.held_refused.pop(lane.channel, None)
    if message.number > lane.number:
        try:
            _learn(book, lane, message)
        except PeerError as refused:
            book.held_refused[lane.channel] = str(refused)
            raise
    for lock in book.lane(lane.channel).locks:
        _adopt(book, book.lane(lane.channel), lock)
    for preimage in message.preimages:
        transit = book.state.transits.get(hash_of(preimage))
        if transit is not None and not transit.preimage:
            book.do(SecretLearned(transit.hash, preimage, book.now_ms))
    if message.token == lane.token:
        book.recovered(lane.channel, by_operator=False)
    elif message.token == NO_TOKEN:
        book.peer_recovers.add(lane.channel)


def cannot_tell(book: LockBook, lane: Lane) -> str:
    """Why a lane that recovers does not, though its other party is there, and what an operator can do; or nothing."""
    if not lane.token:
        return ""
    peer, command = f"0x{lane.peer_of(book.me).hex()}", f"scapp payments recover 0x{lane.channel.hex()} --override"
    if refused := book.held_refused.get(lane.channel):
        waits = f"a voucher from {peer} that this node can take: the one it tells is refused ({refused})"
        passes = refused == CHAIN_UNSEEN  # it is asked again, and nobody should go on without it
        return waits if passes else f"{waits}; to go on with what this node knows itself: {command}"
    if lane.channel not in book.peer_recovers:
        return ""
    return (
        f"nothing: {peer} was restored as well and cannot tell its newest voucher; only an "
        f"override helps, at one of the two: {command}"
    )


def _learn(book: LockBook, lane: Lane, message: LaneHeld) -> None:
    """A voucher that is newer than what this node knows."""
    locks = locks_of(message.locks)
    voucher = LockedVoucher(lane.channel, amount_of(message.amount), locks, message.signature)
    if lane.payer == book.me:
        _recall(book, lane, message.number, voucher)
        return
    if not book.chain.head_s and not set(locks) <= set(lane.locks):  # as in `take`: each of them is judged once
        raise LockRefused(CHAIN_UNSEEN)
    keep(book, lane, message.number, voucher)


def _recall(book: LockBook, lane: Lane, number: int, voucher: LockedVoucher) -> None:
    """A voucher of this node's own that its log does not hold."""
    signed = book.verifier(book.me).signed(locked_voucher_hash(voucher), voucher.signature)
    if not signed or voucher.most > lane.start or voucher.amount < lane.paid:
        raise PeerError(f"a voucher for {voucher.amount} given back to its payer, who did not sign it")
    book.recall(lane, number, voucher)


def _adopt(book: LockBook, lane: Lane, lock: Lock) -> None:
    """A lock that is in a lane's voucher and that this node may have forgotten."""
    transit = book.state.transits.get(lock.hash)
    legs = (transit.incoming, transit.outgoing) if transit is not None else ()
    if any(leg is not None and leg.is_of(lane.channel, lock) for leg in legs):
        return
    if lane.payer == book.me:
        if transit is None or transit.over:
            book.do(PaymentBegun(lock.hash, "", (), book.now_ms))
        book.do(LockPassed(lock.hash, lane.channel, book.now_ms))
    elif transit is None or transit.over or transit.incoming is None:
        book.do(LockArrived(lock.hash, lane.channel, (), book.now_ms))
        invoice = book.state.invoices.get(lock.hash)
        if invoice is not None and (fault := reopen_fault(book, lane, lock)):
            book.do(LockFailed(lock.hash, fault, book.now_ms))
        elif invoice is not None:
            book.do(SecretLearned(lock.hash, invoice.preimage, book.now_ms))
        elif transit is None or transit.over:
            book.do(LockFailed(lock.hash, FORGOTTEN, book.now_ms))
