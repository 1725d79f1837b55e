"""Between the books and locked payments: what the chain must do for locks, and the payments that the owner asks for.

Facts of locked payments have a stream of their own (`payments.locked`); the books hold the channels that they go
through, and take those to the chain.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from itertools import islice
from typing import TypeVar

import msgspec

from scapp.channels.books.engine import Books
from scapp.channels.books.info import InvoiceInfo, InvoiceRequest, LockedInfo, PayInvoiceRequest, VirtualInfo
from scapp.channels.books.runner import BooksRunner
from scapp.channels.books.step import NOTHING, Step
from scapp.channels.chain_desk import ChainDesk
from scapp.channels.errors import LocalError
from scapp.channels.ledger.chain_facts import Enforceable
from scapp.channels.payments.book import PurseTerms
from scapp.channels.payments.locked import claims, recovering
from scapp.channels.payments.locked import paying as payer
from scapp.channels.payments.locked.asking import Reply
from scapp.channels.payments.locked.book import LockBook
from scapp.channels.payments.locked.events import LaneSettled, LockOver, LocksEvent
from scapp.channels.payments.locked.invoice import Invoice, read_invoice, write_invoice
from scapp.channels.payments.locked.records import Hop, Invoiced, Lane, Status, Transit
from scapp.channels.payments.locked.runner import LockRunner
from scapp.channels.payments.locked.terms import LockSettings
from scapp.channels.payments.purse import Purse
from scapp.channels.routing.paths import Route
from scapp.channels.runner import Shared
from scapp.channels.service import NodeEvent
from scapp.channels.types import ZERO_ADDRESS, Address, ChannelId, Hash
from scapp.channels.virtual import leaving as virtual_leaving
from scapp.channels.virtual import settling
from scapp.channels.virtual.record import VirtualRecord

T = TypeVar("T")

WAYS_MAX = 4
SHOWN_MAX = 1_000
"""Invoices, or payments, in one answer."""


def lock_runner(
    shared: Shared, desk: ChainDesk, settings: LockSettings, limit: Callable[[Address, int], str]
) -> LockRunner:
    """The locked payments of a node with a chain, not started."""
    return LockRunner(
        signer=shared.signer,
        settings=settings,
        log=shared.log,
        committer=shared.committer,
        send=shared.send,
        clock_ms=shared.clock_ms,
        head_s=lambda: desk.head_time_s,
        revealed=desk.revealed,
        reveal_cost=lambda: desk.reveal_cost,
        limit=limit,
        counters=shared.counters,
    )


class BooksLocks:
    """Belongs to the node's event loop; implements `locked.port.LockPort`. `app` is the contract of hash locks, zero
    where there is none; `find` gives ways to a payee by announcements."""

    def __init__(
        self,
        shared: Shared,
        runner: BooksRunner,
        locks: LockRunner,
        network: Hash,
        app: Address,
        find: Callable[[Address, Address, int, int], Sequence[Route]],
    ) -> None:
        self._runner = runner
        self._locks = locks
        self._signer = shared.signer
        self._network = network
        self._app = app
        self._find = find
        self._emit = shared.emit
        self._redeemed: dict[ChannelId, frozenset[bytes]] = {}  # with which locks this node has redeemed last
        locks.port = self

    # What locks want of the books

    def changed(self, lanes: Sequence[Lane]) -> None:
        """See `LockPort`; so for the next."""
        for lane in lanes:
            if lane.payee == self._signer.address:
                self._claim(lane)

    def over(self, events: Sequence[LocksEvent]) -> None:
        for event in events:
            if isinstance(event, LaneSettled):
                self._redeemed.pop(ChannelId(event.channel), None)
            elif isinstance(event, LockOver) and event.fate != "ended":
                transit = self._locks.book.state.transits.get(event.hash)
                if transit is not None:  # None: forgotten by now
                    self._tell(transit, ChannelId(event.channel))
        self._runner.wake()

    def is_over(self, channel: ChannelId) -> bool:
        record = self._runner.books.state.virtuals.get(channel)
        return record is None or record.over

    def _tell(self, transit: Transit, channel: ChannelId) -> None:
        leg = transit.incoming
        if transit.role == "payee" and leg is not None and leg.channel == channel:
            lane = self._locks.book.lane(channel)
            self._emit(NodeEvent(kind="paid", channel_id=channel, peer=lane.payer, detail=f"invoice of {leg.amount}"))

    def _claim(self, lane: Lane) -> None:
        book, channel = self._locks.book, lane.channel
        preimages, unpaid = self._locks.reveals(lane), claims.unpaid(book, lane)
        again = lane.phase == "closed" and self._redeemed.get(channel, claims.opened(book, lane)) != claims.opened(
            book, lane
        )

        def decide(books: Books) -> Step:
            record = books.state.virtuals.get(channel)
            if record is None:
                return NOTHING
            if books.disputes.reveal(channel, preimages):
                books.touch(channel)
            if again and not record.over:
                books.disputes.redeem(channel, self.redemption(record))
                books.touch(channel)
            if unpaid and not (record.leaving or record.over or record.recovering):
                return virtual_leaving.leave(record, unpaid)
            return NOTHING

        record = self._runner.books.state.virtuals.get(channel)
        if record is not None and (preimages or unpaid or again or self._runner.books.disputes.reveals(channel)):
            self._runner.try_input(decide)

    def redemption(self, record: VirtualRecord) -> Enforceable:
        """The payee's state that takes the newest voucher with all locks that were opened. Raises LocalError."""
        book = self._locks.book
        lane = book.lane(record.channel_id)
        if lane.voucher is None:
            raise LocalError("nothing was promised in this payment channel")
        opened = claims.opened(book, lane)
        found = settling.redemption(record, lane.voucher, self._signer, opened)
        self._redeemed[lane.channel] = opened
        return found

    # Purses (`purses.LaneKeeper`)

    def keeps(self, record: VirtualRecord) -> bool:
        return self._app != ZERO_ADDRESS and record.agreement.fixed.app_definition == self._app

    def purse(self, channel: ChannelId) -> Purse | None:
        lane = self._locks.book.state.lanes.get(channel)
        return lane.purse if lane is not None else None

    async def open(self, terms: PurseTerms, challenge_duration_s: int, token: bytes) -> None:
        await self._locks.input(lambda book: book.open(terms, challenge_duration_s, token))

    async def close(self, channel: ChannelId, total: int | None) -> int:
        await self._locks.input(lambda book: book.close(channel, total))
        final = self._locks.book.lane(channel).final
        assert final is not None
        return final

    async def settle(self, channel: ChannelId) -> None:
        await self._locks.input(lambda book: book.settle(channel))

    async def end_on_chain(self, channel: ChannelId) -> None:
        await self._locks.input(lambda book: book.end_on_chain(channel))

    def shown(self, record: VirtualRecord, info: VirtualInfo) -> VirtualInfo:
        """What is locked in such a channel, for its owner."""
        if not self.keeps(record):
            return info
        lane = self._locks.book.state.lanes.get(record.channel_id)
        locks = self._locks.book.pending(lane) if lane is not None and lane.phase == "open" else []
        waiting_for = info.waiting_for
        if lane is not None and info.phase == "recovering" and not record.recovering:
            waiting_for = recovering.cannot_tell(self._locks.book, lane) or waiting_for
        if locks and (record.end_wanted or record.final is not None) and info.phase in ("running", "closing"):
            waiting_for = f"{len(locks)} locks, which end at {max(lock.expiry_s for lock in locks)} at the latest"
        locked = sum(lock.amount for lock in locks)
        return msgspec.structs.replace(info, locks=True, locked=locked, waiting_for=waiting_for)

    # What the owner wants

    async def invoice(self, request: InvoiceRequest) -> InvoiceInfo:
        """Make an invoice, durably. Raises LocalError."""
        if self._app == ZERO_ADDRESS:
            raise LocalError("this node knows no contract of hash locks (chain.hash_lock_app)")
        preimage, found = secrets.token_bytes(32), []

        def decide(book: LockBook) -> None:
            expires_s = book.now_ms // 1_000 + request.expires_in_s
            found.append(book.invoice(preimage, request.asset, request.amount, expires_s, request.memo))

        await self._locks.input(decide)
        return self._invoice_info(self._locks.book.state.invoices[found[0]])

    def invoices(self) -> list[InvoiceInfo]:
        """The newest that this node has made, oldest first."""
        return [self._invoice_info(each) for each in _newest(self._locks.book.state.invoices)]

    def _invoice_info(self, invoiced: Invoiced) -> InvoiceInfo:
        transit = self._locks.book.state.transits.get(invoiced.hash)
        text = write_invoice(
            Invoice(
                network=self._network,
                app=self._app,
                payee=self._signer.address,
                asset=invoiced.asset,
                amount=invoiced.amount,
                hash=invoiced.hash,
                expires_s=invoiced.expires_s,
                memo=invoiced.memo,
            ),
            self._signer,
        )
        leg = transit.incoming if transit is not None and transit.role == "payee" else None
        return InvoiceInfo(
            invoice=text,
            hash=invoiced.hash,
            asset=invoiced.asset,
            amount=invoiced.amount,
            expires_s=invoiced.expires_s,
            memo=invoiced.memo,
            paid=leg is not None and leg.fate in ("paid", "opened"),
        )

    def payments(self) -> list[LockedInfo]:
        """The newest locked payments that this node has had part in, oldest first."""
        return [self._info(each) for each in _newest(self._locks.book.state.transits)]

    def payment(self, name: bytes) -> LockedInfo:
        """Raises LocalError for a hash without payment."""
        transit = self._locks.book.state.transits.get(name)
        if transit is None:
            raise LocalError(f"no payment under the hash 0x{name.hex()} at this node")
        return self._info(transit)

    def _info(self, transit: Transit) -> LockedInfo:
        invoice = read_invoice(transit.invoice) if transit.invoice else None
        first = transit.outgoing if transit.role == "payer" else transit.incoming
        lane = self._locks.book.state.lanes.get(first.channel) if first is not None else None
        locked = first.amount if first is not None else 0
        amount = invoice.amount if invoice is not None else locked
        return LockedInfo(
            hash=transit.hash,
            role=transit.role,
            status=transit.status,
            asset=lane.asset if lane is not None else ZERO_ADDRESS,
            amount=amount,
            fee=_fee(transit, locked - amount),
            payee=transit.hops[-1].peer if transit.hops else None,
            incoming=transit.incoming.channel if transit.incoming is not None else None,
            outgoing=transit.outgoing.channel if transit.outgoing is not None else None,
            expiry_s=first.expiry_s if first is not None else 0,
            preimage=transit.preimage,
            reason=transit.fault,
            begun_ms=transit.begun_ms,
        )

    async def pay(self, request: PayInvoiceRequest) -> LockedInfo:
        """Pay an invoice: ask ways until one would do it, lock, and wait for the end of it up to `wait_s`. The same
        invoice again is the same payment. Raises LocalError: nothing is locked then, and the text says what was tried
        and who refused what."""
        invoice = read_invoice(request.invoice)
        if (invoice.network, invoice.app) != (self._network, self._app):
            raise LocalError("the invoice is of another chain, or of other contracts, than this node's")
        known = self._locks.book.state.transits.get(invoice.hash)
        if known is None or known.role != "payer" or known.status == "failed":
            await self._lock(invoice, request)
        await self._settled(invoice.hash, request.wait_s)
        return self.payment(invoice.hash)

    async def _lock(self, invoice: Invoice, request: PayInvoiceRequest) -> None:
        """Put the first lock on a way that all on it agree to."""
        tried: list[str] = []
        hops: tuple[Hop, ...] | None = None
        for hubs, fees in self._ways(invoice, request):
            hops = await self._agreed(invoice, hubs, fees, request.fee_max, tried)
            if hops is not None:
                break
        if hops is None:
            raise LocalError("no way would pay it: " + "; ".join(dict.fromkeys(tried)))
        agreed = hops
        await self._locks.input(lambda book: payer.begin(book, invoice, request.invoice, agreed))

    def _ways(self, invoice: Invoice, request: PayInvoiceRequest) -> list[tuple[tuple[Address, ...], tuple[int, ...]]]:
        """Hubs and what each gets at first, in the order in which they are tried."""
        if not request.routed:
            return [(request.via, request.fees or (0,) * len(request.via))]
        ways: list[tuple[tuple[Address, ...], tuple[int, ...]]] = [((), ())]
        ways += [
            (route.hubs, route.fees)
            for route in self._find(invoice.payee, invoice.asset, invoice.amount, request.fee_max)
        ]
        book = self._locks.book
        neighbours = dict.fromkeys(
            lane.payee for name in book.state.live_lanes if (lane := book.state.lanes[name]).payer == book.me
        )
        ways += [((hub,), (0,)) for hub in neighbours]
        usable = {
            hubs: fees
            for hubs, fees in reversed(ways)
            if invoice.payee not in hubs and (hubs[0] if hubs else invoice.payee) in neighbours
        }
        if not usable:
            raise LocalError("no payment channel that takes locks leads there; `scapp payments open --locks` opens one")
        return list(reversed(usable.items()))[:WAYS_MAX]

    async def _agreed(
        self, invoice: Invoice, hubs: tuple[Address, ...], fees: tuple[int, ...], fee_max: int, tried: list[str]
    ) -> tuple[Hop, ...] | None:
        """The locks of a way that all on it agree to, their fees found out on the way; or None, with what was said."""
        for _ in range(len(hubs) + 2):
            hops = await self._planned(invoice, hubs, fees)
            reply = await self._locks.asks.ask(invoice.hash, invoice.asset, hops)
            if not reply.fault:
                return hops
            raised = _raised(hubs, fees, reply)
            if raised is None or sum(raised) > fee_max:
                hint = "" if raised is None else f" (fees up to {fee_max} are allowed)"
                tried.append(f"0x{reply.by.hex()}: {reply.fault}{hint}")
                return None
            fees = raised
        tried.append("hubs that ask for more each time")
        return None

    async def _planned(self, invoice: Invoice, hubs: tuple[Address, ...], fees: tuple[int, ...]) -> tuple[Hop, ...]:
        """The locks of a way, if this node can make the first one. Raises LocalError."""
        found: list[tuple[Hop, ...]] = []

        def decide(book: LockBook) -> None:
            if fault := payer.known_fault(book, invoice):
                raise LocalError(fault)
            hops = payer.plan(book, invoice, hubs, fees)
            if fault := payer.first_fault(book, hops, invoice.asset, invoice.hash):
                raise LocalError(fault)
            found.append(hops)

        await self._locks.input(decide)
        return found[0]

    async def _settled(self, name: bytes, wait_s: float) -> None:
        """Wait until the payment is paid, or will not be."""
        if wait_s <= 0:
            return
        try:
            async with asyncio.timeout(wait_s):
                await self._runner.wait_until(lambda: self._status(name) != "locked")
        except TimeoutError:
            return

    def _status(self, name: bytes) -> Status | None:
        transit = self._locks.book.state.transits.get(name)
        return transit.status if transit is not None else None

    async def recover(self, channel: ChannelId) -> None:
        """End a restored lane's recovery without the other's answer, at the operator's risk."""
        await self._locks.input(lambda book: book.recovered(channel, by_operator=True))


def _newest(known: dict[bytes, T]) -> list[T]:
    """Those that came last, the newest at the end."""
    return list(islice(reversed(known.values()), SHOWN_MAX))[::-1]


def _raised(hubs: tuple[Address, ...], fees: tuple[int, ...], reply: Reply) -> tuple[int, ...] | None:
    """Fees with what the hub asks that was offered less; None when that is not what it said. It may be the answer to a
    question before, said twice: then they stay as they are."""
    if reply.by not in hubs or not reply.fee:
        return None
    at = hubs.index(reply.by)
    return (*fees[:at], max(fees[at], reply.fee), *fees[at + 1 :])


def _fee(transit: Transit, of_payer: int) -> int:
    """What hubs get of a payment, or this hub."""
    if transit.role == "payer":
        return max(0, of_payer)
    if transit.incoming is not None and transit.outgoing is not None:
        return transit.incoming.amount - transit.outgoing.amount
    return 0
