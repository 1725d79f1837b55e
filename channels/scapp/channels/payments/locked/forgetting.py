"""What locked payments may forget, so that memory and snapshots do not grow with what others pay and propose. Pure.

A payment is forgotten when no lock of it is left anywhere and nobody can begin it again: its invoice has expired, for
those that know it. A hub that has forgotten a hash may pass a second lock on it on; its payee has no invoice for that.
"""

from __future__ import annotations

from collections.abc import Callable

from scapp.channels.payments.locked.book import LockBook
from scapp.channels.payments.locked.events import LocksForgotten
from scapp.channels.payments.locked.invoice import expires_s
from scapp.channels.payments.locked.records import Transit
from scapp.channels.types import ChannelId

KEPT_MAX = 2_048
"""Payments, invoices and lanes, of each, that are kept though they may go: the newest."""


def size(book: LockBook) -> int:
    """How much is remembered."""
    return len(book.state.lanes) + len(book.state.transits) + len(book.state.invoices)


def forgettable(book: LockBook, is_over: Callable[[ChannelId], bool]) -> LocksForgotten | None:
    """The oldest of what is over, beyond what is kept; None if there is nothing to forget. `is_over`: is the channel of
    a settled lane gone for good? Looks at everything."""
    hashes = _payments(book)
    gone, state = set(hashes), book.state
    legs = [
        leg
        for transit in state.transits.values()
        if transit.hash not in gone
        for leg in (transit.incoming, transit.outgoing)
    ]
    needed = {leg.channel for leg in legs if leg is not None}  # to show what they are in
    settled = sorted(
        (lane.opened_ms, lane.channel)
        for lane in state.lanes.values()
        if lane.phase == "settled" and lane.channel not in needed and is_over(lane.channel)
    )
    lanes = tuple(channel for _, channel in settled[: max(0, len(settled) - KEPT_MAX)])
    return LocksForgotten(lanes, hashes, book.now_ms) if lanes or hashes else None


def _payments(book: LockBook) -> tuple[bytes, ...]:
    """Hashes of payments, and of invoices that nobody has paid."""
    state = book.state
    locked = {lock.hash for lane in state.locked() for lock in lane.locks}
    ended = [(each.begun_ms, name) for name, each in state.transits.items() if _is_done(book, each)]
    ended += [(each.made_ms, name) for name, each in state.invoices.items() if name not in state.transits]
    may_go = sorted(item for item in ended if item[1] not in locked)
    found: list[bytes] = []
    for _, name in may_go[: max(0, len(may_go) - KEPT_MAX)]:
        invoiced, transit = state.invoices.get(name), state.transits.get(name)
        last_s = invoiced.expires_s if invoiced is not None else 0
        if transit is not None and transit.invoice:
            last_s = max(last_s, expires_s(transit.invoice))
        if last_s * 1_000 <= book.now_ms:
            found.append(name)
    return tuple(found)


def _is_done(book: LockBook, transit: Transit) -> bool:
    """Have its locks ended as well? Before that a neighbour that was restored may ask for the preimage."""
    legs = (transit.incoming, transit.outgoing)
    return transit.over and all(leg is None or leg.expiry_s < book.chain.head_s for leg in legs)
