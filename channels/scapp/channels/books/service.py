"""A node's ledgers, virtual channels and payments, put together: implements `info.BooksPort`. `node.py` owns one.

Corrupt books stop the books alone: the node's app channels go on, and every call here says what is wrong.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from scapp.channels.books import proposals, wishes
from scapp.channels.books.backing import AppChannels, BooksBacking
from scapp.channels.books.defending import Defences
from scapp.channels.books.engine import Books, Input
from scapp.channels.books.income import Income, read_income
from scapp.channels.books.info import (
    Begin,
    End,
    LedgerInfo,
    LedgerRequest,
    PaymentChannelRequest,
    PaymentReceipt,
    RouteRequest,
    VirtualInfo,
)
from scapp.channels.books.link import BooksLink
from scapp.channels.books.loading import load_books
from scapp.channels.books.locks import BooksLocks, lock_runner
from scapp.channels.books.messages import decode_message, prefix_of
from scapp.channels.books.proposals import Rules
from scapp.channels.books.purses import Purses
from scapp.channels.books.routes import BooksRoutes
from scapp.channels.books.runner import BooksRunner
from scapp.channels.books.setup import BooksSetup, payment_runner, rules_of
from scapp.channels.books.snapshots import BooksCodec
from scapp.channels.books.state import BooksState
from scapp.channels.books.step import Step
from scapp.channels.books.view import ledger_info, virtual_info
from scapp.channels.books.volumes import Volumes
from scapp.channels.chain_desk import ChainDesk
from scapp.channels.errors import CorruptionError, LocalError, PeerError
from scapp.channels.ledger import closing
from scapp.channels.ledger import leaving as ledger_leaving
from scapp.channels.ledger import opening as ledger_opening
from scapp.channels.payments.history import PaymentRow
from scapp.channels.payments.purse import Purse
from scapp.channels.payments.runner import PaymentRunner
from scapp.channels.payments.vouchers import Voucher
from scapp.channels.routing.paths import Route
from scapp.channels.routing.statements import network_of
from scapp.channels.runner import Shared
from scapp.channels.types import ZERO_ADDRESS, Address, ChannelId, money
from scapp.channels.virtual import defunding
from scapp.channels.virtual import leaving as virtual_leaving
from scapp.channels.virtual.record import VirtualRecord

logger = logging.getLogger("scapp.books")


def open_books(
    shared: Shared,
    desk: ChainDesk,
    setup: BooksSetup | None,
    nonce: Callable[[], int],
    apps: AppChannels,
) -> NodeBooks:
    """The books of a node with a chain; without one there are no ledgers. `apps` are the node's app channels."""
    setup = setup or BooksSetup()
    rules, payments = rules_of(shared, desk, setup), payment_runner(shared, setup.payment_limits)
    return NodeBooks(shared, desk, rules, setup, payments, nonce, apps)


class NodeBooks:
    """Belongs to the node's event loop. `desk` is the node's chain, which ledgers need."""

    def __init__(
        self,
        shared: Shared,
        desk: ChainDesk,
        rules: Rules,
        setup: BooksSetup,
        payments: PaymentRunner,
        nonce: Callable[[], int],
        apps: AppChannels,
    ) -> None:
        self._shared = shared
        self._desk = desk
        self._rules = rules
        self._terms = setup.terms
        self._volumes = Volumes(setup.volume)
        self.defences = Defences(self._open_books, lambda channel: self._purses.plain(channel), setup.presigns)
        self._payments = payments
        self._locks = lock_runner(shared, desk, setup.locks, self._limited)
        self._locked: BooksLocks | None = None
        self._income = asyncio.Lock()  # each reading takes a thread for long
        self._nonce = nonce
        self._read: tuple[BooksState, BooksCodec] | None = None  # until the start
        self._runner: BooksRunner | None = None
        self.fault = ""  # why the books stay closed
        self.backing = BooksBacking(shared.signer.address, rules, apps, self._open_books, self._put)
        self._routes = BooksRoutes(shared, network_of(desk.chain_id, desk.adjudicator), setup.hub, self._open_books)

    # Life

    async def read(self) -> frozenset[ChannelId]:
        """Rebuild the books from the log, first of all. The channels over ledgers that they know: of the purses that
        are settled nobody asks for another one."""
        codec = BooksCodec()
        try:
            state = await asyncio.to_thread(load_books, self._shared.log, codec, self._shared.signer.address)
        except CorruptionError as error:
            self._stay_closed(error)
            return frozenset()
        self._read = state, codec
        return frozenset(state.virtuals)

    async def start(self, damaged: frozenset[ChannelId]) -> None:
        """Go on where the log ends (`read`, `load_purse`), before the node talks to the chain and to peers; without the
        purses whose streams are damaged."""
        if self._read is None:
            return
        try:
            await self._locks.start()
        except CorruptionError as error:
            self._stay_closed(error)
            return
        self._begin(*self._read, damaged)
        self._read = None

    def _stay_closed(self, error: CorruptionError) -> None:
        self.fault = f"the books are corrupt and stay closed: {error}"
        self._shared.counters["books_corrupt"] += 1
        logger.error("%s", self.fault)

    def load_purse(self, stream: bytes) -> None:
        """Rebuild the purse of a stream (`is_purse`), before `start`. Raises CorruptionError."""
        self._payments.load(stream)

    def _begin(self, state: BooksState, codec: BooksCodec, damaged: frozenset[ChannelId]) -> None:
        books = Books(
            state,
            self._shared.signer,
            self._terms,
            lambda books, channel: proposals.judge(books, channel, self._rules),
            self.backing.app_state,
        )
        desk = self._desk
        self._runner = runner = BooksRunner(
            self._shared, books, codec, self._after, lambda: desk.head_time_s, lambda: desk.followed_ms
        )
        self._link = BooksLink(self._desk, runner)
        network = network_of(desk.chain_id, desk.adjudicator)
        self._locked = BooksLocks(self._shared, runner, self._locks, network, self._rules.apps.locks, self._ways)
        desk.on_head.append(lambda _: self._locks.on_head())
        self._purses = Purses(runner, self._payments, self._locked, damaged)
        runner.try_input(lambda books: books.start())

    def _ways(self, to: Address, asset: Address, amount: int, fee_max: int) -> list[Route]:
        return self._routes.find(RouteRequest(to=to, amounts=((asset, amount, 0),), fee_max=fee_max))

    def _open_books(self) -> Books | None:
        return self._runner.books if self._runner is not None else None

    def _put(self, decide: Input) -> None:
        if self._runner is not None:
            self._runner.try_input(decide)

    def _after(self, touched: tuple[ChannelId, ...]) -> None:
        self._link.update(touched)
        self._purses.update(touched)
        self._routes.changed(touched)
        self.backing.update(touched)
        self.defences.update(touched)

    async def stop(self) -> None:
        """Finish what is being decided."""
        if self._runner is not None:
            await self._purses.stop()
            await self._locks.stop()
            await self._runner.stop()
        await self._payments.stop()

    # Peers and time

    async def on_message(self, peer: Address, data: bytes) -> None:
        """A message of one of the `PREFIXES`; returns when it is queued: what is said is said again until
        it is answered. Raises PeerError for one that cannot be read or taken now."""
        prefix = prefix_of(data)
        if prefix == b"p:":
            self._payments.receive(peer, data)
            return
        if prefix == b"r:":
            self._routes.receive(peer, data)
            return
        if self._runner is None:
            raise PeerError(self.fault or "the books are not open yet")
        if prefix == b"k:":
            self._locks.receive(peer, data)
            return
        message = decode_message(data)
        limited = self._limited(peer, len(data))
        await self._runner.queue(lambda books: proposals.receive(books, peer, message, self._rules, limited), len(data))

    def _limited(self, peer: Address, size: int) -> str:
        """Why nothing new is begun for a peer that says so many bytes more, or ""."""
        return self._volumes.count(peer, size, self._shared.clock_ms())

    def on_link(self, peer: Address, connected: bool) -> None:
        """A link has come up or gone down."""
        self._routes.link(peer, connected)
        if self._runner is not None:
            self._locks.link(peer, connected)
        if not connected:
            return
        if self._runner is not None:
            self._runner.try_input(lambda books: books.link_up(peer))
        self._payments.link_up(peer)

    def tick(self) -> None:
        """Time has passed, a second or so."""
        if self._runner is not None:
            self._runner.tick()
            self._purses.forget_old()
            self._locks.tick()
        self._payments.tick(self._shared.clock_ms())
        self._routes.tick()

    def _running(self) -> BooksRunner:
        if self._runner is None:
            raise CorruptionError(self.fault or "the books are not open yet")
        return self._runner

    # The local service

    @property
    def locked(self) -> BooksLocks:
        """See `info.BooksPort`; so for all methods below."""
        self._running()
        assert self._locked is not None
        return self._locked

    def ledgers(self) -> list[LedgerInfo]:
        books = self._running().books
        return [ledger_info(books, record) for record in books.state.ledgers.values()]

    def ledger(self, channel_id: ChannelId) -> LedgerInfo:
        books = self._running().books
        return ledger_info(books, wishes.ledger_of(books, channel_id))

    def virtuals(self) -> list[VirtualInfo]:
        return [self.virtual(channel) for channel in self._running().books.state.virtuals]

    def virtual(self, channel_id: ChannelId) -> VirtualInfo:
        books = self._running().books
        record = wishes.virtual_of(books, channel_id)
        purse, damaged = self._purses.info(channel_id), channel_id in self._purses.damaged
        info = virtual_info(books, record, purse, app_lost=self.backing.is_lost(record), damaged=damaged)
        return self.locked.shown(record, info)

    async def open_ledger(self, request: LedgerRequest) -> ChannelId:
        return await self._new(lambda books: wishes.open_ledger(books, request, self._rules, self._nonce()))

    async def accept_ledger(self, channel_id: ChannelId) -> None:
        await self._input(lambda books: ledger_opening.accept(wishes.ledger_of(books, channel_id), books.context))

    async def reject_ledger(self, channel_id: ChannelId, reason: str) -> None:
        await self._input(lambda books: ledger_opening.reject(wishes.ledger_of(books, channel_id), reason))

    async def top_up(self, channel_id: ChannelId, asset: Address, amount: int) -> None:
        has = await self._desk.funds(asset)  # not known: the deposit waits for the chain like any other
        if has is not None and (has < amount or (has == amount and asset == ZERO_ADDRESS)):  # some is left for fees
            needed = money(amount, asset, named=True)
            raise LocalError(f"the chain account has {money(has, asset)}, too little to deposit {needed}")
        await self._input(lambda books: wishes.top_up(books, channel_id, asset, amount))

    async def cancel_top_up(self, channel_id: ChannelId, asset: Address) -> None:
        await self._input(lambda books: wishes.hold_deposit(books, channel_id, asset, hold=True))
        try:
            if await self._desk.is_depositing(channel_id, asset):
                raise LocalError("the deposit was sent, and cannot be taken back")
            await self._input(lambda books: wishes.retract(books, channel_id, asset))
        finally:
            await self._input(lambda books: wishes.hold_deposit(books, channel_id, asset, hold=False))

    async def transfer(self, channel_id: ChannelId, asset: Address, amount: int) -> None:
        await self._input(lambda books: wishes.transfer(books, channel_id, asset, amount))

    async def close_ledger(self, channel_id: ChannelId) -> None:
        await self._input(lambda books: closing.close(wishes.ledger_of(books, channel_id)))

    async def challenge_ledger(self, channel_id: ChannelId) -> None:
        await self._input(
            lambda books: ledger_leaving.leave(wishes.ledger_of(books, channel_id), "the operator's decision")
        )

    async def withdraw_ledger(self, channel_id: ChannelId) -> None:
        await self._input(lambda books: wishes.withdraw(books, channel_id))

    async def challenge_virtual(self, channel_id: ChannelId) -> None:
        await self._input(
            lambda books: virtual_leaving.leave(wishes.virtual_of(books, channel_id), "the operator's decision")
        )

    async def recover_ledger(self, channel_id: ChannelId) -> None:
        await self._input(lambda books: wishes.recover(books, channel_id))

    async def open_payments(self, request: PaymentChannelRequest) -> ChannelId:
        return await self._new(lambda books: wishes.open_payments(books, request, self._rules, self._nonce()))

    def routes(self, request: RouteRequest) -> list[Route]:
        self._running()
        return self._routes.find(request)

    async def over_routes(self, question: RouteRequest, begin: Begin, end: End, timeout: float) -> ChannelId:
        self._running()
        return await self._routes.over_routes(question, begin, end, timeout)

    async def open_payments_routed(self, request: PaymentChannelRequest, fee_max: int, timeout: float) -> ChannelId:
        return await self._routes.open(self, request, fee_max, timeout)

    async def pay(self, channel_id: ChannelId, amount: int, wait_s: float = 0.0) -> PaymentReceipt:
        record = wishes.virtual_of(self._running().books, channel_id)
        if self.locked.keeps(record):
            raise LocalError("this payment channel takes locks: it pays invoices (`scapp pay INVOICE`)")
        paid = await self._payments.pay(channel_id, amount, wait_s=wait_s)
        return PaymentReceipt(
            channel_id=channel_id,
            amount=amount,
            paid=paid.total,
            remaining=self._payments.purse(channel_id).purse.start - paid.total,
            voucher=paid.voucher,
            seen=paid.seen,
        )

    def voucher(self, channel_id: ChannelId) -> Voucher | None:
        return self._payments.purse(channel_id).purse.largest

    async def take_voucher(self, voucher: Voucher) -> int:
        return await self._payments.take(voucher)

    async def recover_payments(self, channel_id: ChannelId) -> None:
        if self.locked.purse(channel_id) is not None:
            await self.locked.recover(channel_id)
        else:
            await self._payments.recover(channel_id)

    async def payment_history(self, channel_id: ChannelId, from_version: int, rows_max: int) -> list[PaymentRow]:
        if self.locked.purse(channel_id) is not None:
            raise LocalError("this payment channel takes locks; `scapp payments locked --all` shows what is paid in it")
        return await self._payments.history(channel_id, from_version, rows_max)

    async def income(self, since_ms: int, until_ms: int) -> list[Income]:
        async with self._income:
            return await asyncio.to_thread(read_income, self._shared.log, since_ms, until_ms)

    async def close_virtual(self, channel_id: ChannelId) -> None:
        await self._input(lambda books: defunding.end(wishes.virtual_of(books, channel_id), "a participant wants it"))

    async def wait_ledger(
        self, channel_id: ChannelId, done: Callable[[LedgerInfo], bool], timeout: float
    ) -> LedgerInfo:
        async with asyncio.timeout(timeout):
            await self._running().wait_until(lambda: done(self.ledger(channel_id)))
        return self.ledger(channel_id)

    async def wait_virtual(
        self, channel_id: ChannelId, done: Callable[[VirtualInfo], bool], timeout: float
    ) -> VirtualInfo:
        books = self._running().books
        last: tuple[VirtualRecord | None, Purse | None] = (None, None)

        def happened() -> bool:
            """Asked whenever anything changes, by everybody who waits: a look at the records comes first."""
            nonlocal last
            now = books.state.virtuals.get(channel_id), self._purses.purse(channel_id)
            if now[0] is last[0] and now[1] is last[1] and now[0] is not None:
                return False
            last = now
            return done(self.virtual(channel_id))

        async with asyncio.timeout(timeout):
            await self._running().wait_until(happened)
        return self.virtual(channel_id)

    async def _input(self, decide: Input) -> None:
        await self._running().input(decide)

    async def _new(self, decide: Input) -> ChannelId:
        """An input whose first event begins a record: its id."""
        found: list[ChannelId] = []

        def noted(books: Books) -> Step:
            step = decide(books)
            found.append(ChannelId(step.events[0].channel))
            return step

        await self._input(noted)
        return found[0]
