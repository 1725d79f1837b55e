"""What a node has to say about its lanes: computed from the book, so that it can be said again after anything. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from scapp.channels.payments.events import amount_bytes
from scapp.channels.payments.locked.book import LockBook
from scapp.channels.payments.locked.events import (
    LaneOpened,
    LockArrived,
    LockFailed,
    LocksEvent,
    SecretLearned,
    VoucherPromised,
    VoucherTaken,
)
from scapp.channels.payments.locked.messages import Failed, LaneWanted, Locked, LockMessage, Secret
from scapp.channels.payments.locked.records import Lane
from scapp.channels.payments.locked.state import wire_hops, wire_locks
from scapp.channels.payments.locks import Lock
from scapp.channels.types import ChannelId

_IN_USE = "a payment with that hash is known here already"


def pending(book: LockBook, lane: Lane, seen: int) -> list[LockMessage]:
    """What the other party of a lane may lack; `seen` is the number of the newest voucher that it is known to hold."""
    if lane.phase == "settled":
        return []
    if lane.token:
        return [LaneWanted(lane.channel, lane.token)]
    if lane.payer == book.me:
        return [_locked(book, lane)] if lane.voucher is not None and seen < lane.number else []
    return [said for lock in lane.locks if (said := _of_lock(book, lane, lock)) is not None]


def _locked(book: LockBook, lane: Lane) -> Locked:
    assert lane.voucher is not None
    onward = tuple(
        (lock.hash, wire_hops(transit.hops[1:]))
        for lock in lane.locks
        if (transit := book.state.transits.get(lock.hash)) is not None
    )
    amount, locks = amount_bytes(lane.voucher.amount), wire_locks(lane.voucher.locks)
    return Locked(lane.channel, lane.number, amount, locks, lane.voucher.signature, onward)


def _of_lock(book: LockBook, lane: Lane, lock: Lock) -> LockMessage | None:
    """To the payer of a lock."""
    transit = book.state.transits.get(lock.hash)
    leg = transit.incoming if transit is not None else None
    if transit is None or leg is None or not leg.is_of(lane.channel, lock):
        return Failed(lane.channel, lock.hash, lock.expiry_s, _IN_USE)
    if leg.fate is not None:
        return None  # by a voucher, which the payer knows, or by the chain, which it sees
    if transit.preimage:  # behind the lock's end it would be given away: the payer has one that lasts longer
        return Secret(lane.channel, transit.preimage) if book.time_s <= lock.expiry_s else None
    return Failed(lane.channel, lock.hash, lock.expiry_s, transit.fault) if transit.fault else None


def touched(book: LockBook, events: Iterable[LocksEvent]) -> list[ChannelId]:
    """Lanes whose other party has to hear of these facts."""
    found: dict[bytes, None] = {}
    for event in events:
        if isinstance(event, VoucherPromised | VoucherTaken | LaneOpened):
            found[event.channel] = None
        elif isinstance(event, LockArrived | SecretLearned | LockFailed):
            transit = book.state.transits.get(event.hash)  # perhaps forgotten by now
            if transit is not None and transit.incoming is not None:
                found[transit.incoming.channel] = None
    return [ChannelId(channel) for channel in found if channel in book.state.lanes]
