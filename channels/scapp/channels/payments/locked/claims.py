"""What a payee takes to the chain for its locks (docs/reference/payments.md, "Locked payments"). Pure."""

from __future__ import annotations

from scapp.channels.payments.hops import must_reveal
from scapp.channels.payments.locked.book import LockBook
from scapp.channels.payments.locked.records import Lane, Leg
from scapp.channels.payments.locks import Lock


def reveals(book: LockBook, lane: Lane) -> tuple[bytes, ...]:
    """Preimages to be revealed on chain now: of locks that pay this node, that their payer has not made unconditional,
    and whose end is near; all that are known once the lane is being settled on chain."""
    if lane.payee != book.me or not book.chain.head_s:
        return ()
    preimages = {
        lock.hash: transit.preimage
        for lock in lane.locks
        if (transit := book.state.transits.get(lock.hash)) is not None
        and transit.preimage
        and not transit.invoice  # what this node pays itself nobody pays it for
        and book.fate(lane, lock) is None
        and not _is_paid(transit.incoming, lane, lock)
    }
    known, head_s = frozenset(preimages), book.chain.head_s
    if lane.phase == "closed":
        due = [lock.hash for lock in lane.locks if lock.hash in known and head_s <= lock.expiry_s]
    else:
        due = must_reveal(lane.known, known, head_s, book.time_s, book.settings.of(lane))
    return tuple(preimages[name] for name in due)


def _is_paid(leg: Leg | None, lane: Lane, lock: Lock) -> bool:
    """Is the payment got in another lane, and no less of it? A second lock on its hash is not worth a transaction."""
    if leg is None or leg.fate not in ("paid", "opened"):
        return False
    return not leg.is_of(lane.channel, lock) and lock.amount <= leg.amount


def opened(book: LockBook, lane: Lane) -> frozenset[bytes]:
    """Hashes of a lane's locks that the chain shows as opened: what a redemption counts."""
    return frozenset(lock.hash for lock in lane.locks if book.fate(lane, lock) == "opened")


def unpaid(book: LockBook, lane: Lane) -> str:
    """Why this node has to redeem on chain, or "": a lock was opened there in time, and at its end the payer has still
    not made it unconditional."""
    if lane.payee != book.me or lane.phase != "open":
        return ""
    for lock in lane.locks:
        if book.fate(lane, lock) == "opened" and book.chain.seen_s > lock.expiry_s:
            return f"a lock over {lock.amount} was opened on chain, and its payer has not paid it by its end"
    return ""
