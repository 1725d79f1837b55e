"""Routes over hubs for a node's books: the router is fed with ledgers, links, messages and time, and a channel is
opened over the best route, then over the next one while that fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import msgspec

from scapp.channels.books.engine import Books
from scapp.channels.books.info import Begin, BooksPort, End, PaymentChannelRequest, RouteRequest, WayEnd
from scapp.channels.errors import LocalError
from scapp.channels.ledger.proposals import room_fault
from scapp.channels.ledger.record import LedgerRecord
from scapp.channels.routing.attempts import Attempts
from scapp.channels.routing.fees import Stake
from scapp.channels.routing.messages import decode_message, encode_message
from scapp.channels.routing.own import HubTerms, OwnLedger
from scapp.channels.routing.paths import Route
from scapp.channels.routing.router import Router
from scapp.channels.runner import Shared
from scapp.channels.types import Address, ChannelId, Hash
from scapp.channels.virtual.record import RIGHT, VirtualRecord

_UNDECIDED = frozenset(("proposed", "opening", "funding"))


class BooksRoutes:
    """Belongs to the node's event loop. `books` gives the books, None while they are closed."""

    def __init__(self, shared: Shared, network: Hash, terms: HubTerms, books: Callable[[], Books | None]) -> None:
        self._shared = shared
        self._books = books
        self._router = Router(shared.signer, network, terms)
        self._stale = True  # ledgers have changed since the router was told of them

    def changed(self, channels: Iterable[ChannelId]) -> None:
        """These records have changed."""
        books = self._books()
        if books is not None and not books.state.ledgers.keys().isdisjoint(channels):
            self._stale = True

    def receive(self, peer: Address, data: bytes) -> None:
        """A message with the tag "r:…". Raises PeerError."""
        self._refresh()
        self._router.on_message(peer, decode_message(data), self._shared.clock_ms())

    def link(self, peer: Address, connected: bool) -> None:
        self._router.on_link(peer, connected)

    def tick(self) -> None:
        """Say what is to be said."""
        self._refresh()
        for send in self._router.tick(self._shared.clock_ms()):
            self._shared.send(send.peer, encode_message(send.message))

    def find(self, request: RouteRequest, attempts: Attempts | None = None) -> list[Route]:
        """The best routes as things stand. Raises LocalError."""
        self._refresh()
        return self._router.routes(
            request.to,
            tuple(Stake(asset, first, last) for asset, first, last in request.amounts),
            self._shared.clock_ms(),
            challenge_duration_s=request.challenge_duration_s,
            fee_max=request.fee_max,
            hubs_max=request.hubs_max,
            attempts=attempts,
        )

    async def open(self, books: BooksPort, request: PaymentChannelRequest, fee_max: int, timeout_s: float) -> ChannelId:
        """Open a payment channel; see `over_routes`."""

        async def begin(route: Route) -> ChannelId:
            return await books.open_payments(msgspec.structs.replace(request, via=route.hubs, fees=route.fees))

        async def end(channel: ChannelId, route: Route, left_s: float) -> WayEnd:
            # Who proposed the guarantee waits for its hub's word to end it (ADR 0068), but not with the next route.
            info = await books.wait_virtual(
                channel, lambda now: now.phase not in _UNDECIDED or now.reason != "", left_s
            )
            return WayEnd(runs=info.phase == "running", reason=info.reason)

        question = RouteRequest(
            to=request.payee,
            amounts=((request.asset, request.amount, 0),),
            challenge_duration_s=request.challenge_duration_s,
            fee_max=fee_max,
        )
        return await self.over_routes(question, begin, end, timeout_s)

    async def over_routes(self, question: RouteRequest, begin: Begin, end: End, timeout_s: float) -> ChannelId:
        """Open a channel over the best route, and over the next ones while they fail. Returns the channel that runs, or
        that is under way when the time is over. Raises LocalError when no way is left: what was tried, and why it
        failed."""
        ends, attempts, to = asyncio.get_running_loop().time() + timeout_s, Attempts(), f"0x{question.to.hex()}"
        while (route := attempts.next(self.find(question, attempts))) is not None:
            try:
                channel = await begin(route)
            except LocalError as error:  # of this node's own ledger, which may have changed since the way was found
                attempts = attempts.failed(route, str(error))
                continue
            try:
                found = await end(channel, route, ends - asyncio.get_running_loop().time())
            except TimeoutError:
                return channel
            if found.runs:
                self._router.succeeded(route)
                return channel
            hub = self._culprit(channel)
            if found.final or hub == question.to:
                raise LocalError(f"{to} does not take it: {found.reason}")
            self._router.failed(route, self._shared.clock_ms(), hub)
            attempts = attempts.failed(route, found.reason, hub)
        if not attempts.tried:
            raise LocalError(
                f"no hub announces a way to {to} for that amount and fee; hubs and payee have to announce their "
                f"ledgers (hub.announce), --via HUB needs no announcement"
            )
        raise LocalError(f"no way to {to} is left: {attempts.account}")

    def _culprit(self, channel: ChannelId) -> Address | None:
        """Who kept a channel of ours from being funded, if that can be told."""
        books = self._books()
        record = books.state.virtuals.get(channel) if books is not None else None
        return culprit(record) if record is not None else None

    def _refresh(self) -> None:
        books = self._books()
        if books is None or not self._stale:
            return
        self._stale = False
        ledgers = [_own(record) for record in books.state.ledgers.values() if _takes_more(record)]
        self._router.announce(ledgers, self._shared.clock_ms())


def culprit(record: VirtualRecord) -> Address | None:
    """The neighbour, if it has refused, is missing under the prefund state, or its ledger with this node could not hold
    the guarantee. None if it was somebody further on: only the neighbour says who, and a hostile one would name others,
    or the payee."""
    if record.right is None:
        return None
    if record.rejected_by > 0:
        at_neighbour = record.rejected_by == 1
    elif not record.prefund.complete:
        at_neighbour = not record.prefund.signatures[1]
    else:
        at_neighbour = record.agreement.count > 2 and not record.held[RIGHT]
    return Address(record.right.peer) if at_neighbour else None


def _takes_more(record: LedgerRecord) -> bool:
    """May a channel come into it, whatever its funds?"""
    return record.usable and record.ledger is not None and not room_fault(record.ledger.proposed, 1)


def _own(record: LedgerRecord) -> OwnLedger:
    """With everything that this node has proposed already."""
    assert record.ledger is not None
    assets = record.ledger.proposed.assets
    if record.leads:
        return OwnLedger(record.peer, tuple((each.asset, each.leader, each.follower) for each in assets))
    return OwnLedger(record.peer, tuple((each.asset, each.follower, each.leader) for each in assets))
