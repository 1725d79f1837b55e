"""What the payer of a lane decides: to begin a payment, to pay for a preimage (docs/reference/payments.md). Pure."""

from __future__ import annotations

from collections.abc import Sequence

from scapp.channels.errors import LocalError, PeerError
from scapp.channels.payments.hops import fulfil, offer
from scapp.channels.payments.locked.book import CHAIN_UNSEEN, LockBook
from scapp.channels.payments.locked.events import LockFailed, LockPassed, PaymentBegun, SecretLearned
from scapp.channels.payments.locked.invoice import Invoice
from scapp.channels.payments.locked.messages import HOPS_MAX, Failed
from scapp.channels.payments.locked.records import Hop, Lane
from scapp.channels.payments.locked.state import wire_hops
from scapp.channels.payments.locks import Lock, hash_of
from scapp.channels.types import U256_MAX, Address

REASON_MAX = 200


def plan(book: LockBook, invoice: Invoice, hubs: Sequence[Address], fees: Sequence[int]) -> tuple[Hop, ...]:
    """The locks along a way: each hub has its fee, each lock ends a margin before the one before. Raises LocalError."""
    if not book.chain.head_s:
        raise LocalError(CHAIN_UNSEEN)
    path = (book.me, *hubs, invoice.payee)
    if len(set(path)) != len(path) or len(hubs) >= HOPS_MAX:
        raise LocalError(f"a way names everybody once, and {HOPS_MAX - 1} hubs at most")
    if len(fees) != len(hubs) or min(fees, default=0) < 0:
        raise LocalError(f"{len(fees)} fees for {len(hubs)} hubs")
    margin_s = book.settings.margin_s
    # The payee wants one margin, by its own clock too, and time passes. From the newest block, as long as that is not
    # old: every node on the way knows it, and reads its own clock.
    from_s = max(book.chain.head_s, book.time_s - margin_s // 2)
    amount, expiry_s = invoice.amount, from_s + 2 * margin_s
    hops = [Hop(invoice.payee, amount, expiry_s)]
    for hub, fee in zip(reversed(hubs), reversed(fees), strict=True):
        amount, expiry_s = amount + fee, expiry_s + margin_s
        hops.insert(0, Hop(hub, amount, expiry_s))
    if amount > U256_MAX:
        raise LocalError("amount and fees come to more than 2^256-1")
    return tuple(hops)


def known_fault(book: LockBook, invoice: Invoice) -> str:
    """Why this node must not begin to pay the invoice, or "". A hash is paid once: as long as a lock on it may open,
    another one could be opened as well."""
    transit = book.state.transits.get(invoice.hash)
    if transit is not None and not transit.over and not transit.left_alone:
        return "it is being paid already"
    if transit is not None and transit.status == "paid":
        return "it is paid already"
    if invoice.hash in book.state.invoices or invoice.payee == book.me:
        return "it is this node's own invoice"
    if invoice.expires_s * 1_000 <= book.now_ms:
        return f"the invoice expired at {invoice.expires_s}"
    return ""


def first_fault(book: LockBook, hops: Sequence[Hop], asset: Address, name: bytes) -> str:
    """Why this node cannot put the first lock of a way into one of its lanes, or ""."""
    lane = book.lane_to(hops[0].peer, asset, hops[0].amount, own=True)
    if isinstance(lane, str):
        return lane
    return book.time_fault(lane, Lock(hops[0].amount, name, hops[0].expiry_s))


def begin(book: LockBook, invoice: Invoice, text: str, hops: Sequence[Hop]) -> None:
    """Put the first lock into a lane. Raises LocalError."""
    fault = known_fault(book, invoice)
    lane = book.lane_to(hops[0].peer, invoice.asset, hops[0].amount, own=True)
    if fault or isinstance(lane, str):
        raise LocalError(fault or str(lane))
    lock = Lock(hops[0].amount, invoice.hash, hops[0].expiry_s)
    known = offer(lane.known, lock, book.signer, book.chain.head_s, book.settings.of(lane))
    book.do(PaymentBegun(invoice.hash, text, wire_hops(hops), book.now_ms))
    book.promise(lane, known)
    book.do(LockPassed(invoice.hash, lane.channel, book.now_ms))


def secret_told(book: LockBook, peer: Address, channel: bytes, preimage: bytes) -> Lane:
    """The payee of a lane shows the preimage of a lock: it is paid, and what this node is paid for it will be claimed.
    The lane as it stands then; nothing changes when that was done. Raises PeerError."""
    lane, name = book.shared(peer, channel), hash_of(preimage)
    if lane.payee != peer:
        raise PeerError("the payer of a channel tells its payee a preimage")
    transit = book.state.transits.get(name)
    if transit is None or transit.outgoing is None or transit.outgoing.channel != lane.channel:
        raise PeerError("this preimage opens no lock of the channel")
    if not transit.preimage:
        book.do(SecretLearned(name, preimage, book.now_ms))
    lock = lane.known.lock(name)
    # A lane that ends on chain is paid there. A restored payer has first to hear what it has signed.
    if lock is not None and lane.phase == "open" and not lane.token and book.may_open(lock):
        book.promise(lane, fulfil(lane.known, preimage, book.signer))
        book.over(lane, lock, "paid")
    return book.lane(channel)


def failure_told(book: LockBook, peer: Address, told: Failed) -> None:
    """The payee of a lane says that a lock will not be opened: everybody before it may know. The lock stands, for it
    was signed. Raises PeerError."""
    lane = book.shared(peer, told.channel)
    transit = book.state.transits.get(told.hash)
    leg = transit.outgoing if transit is not None else None
    if transit is None or leg is None or leg.channel != lane.channel or lane.payee != peer:
        raise PeerError("says of a lock that is none that it failed")
    if leg.expiry_s == told.expiry_s and leg.fate is None and not (transit.fault or transit.preimage):
        book.do(LockFailed(told.hash, told.reason[:REASON_MAX] or "no reason given", book.now_ms))
