"""The books as what stands behind virtual app channels: implements `backing.BackingSource` for this node's ledgers.

Whatever an app channel says is an input of the books; what becomes of it is told after each batch that touched it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from typing import Protocol

from scapp.channels.abi import InvalidValue
from scapp.channels.backing import Backing, VirtualTerms
from scapp.channels.books.engine import Books, Input
from scapp.channels.books.proposals import Rules, age_fault, full_fault, poor_fault, side_with, sides_of
from scapp.channels.books.step import NOTHING, Step
from scapp.channels.chain.calls import decode_outcome
from scapp.channels.errors import LocalError, ScappError
from scapp.channels.ledger.chain_facts import Enforceable
from scapp.channels.reading import SignedState
from scapp.channels.state import FixedPart, VariablePart
from scapp.channels.types import ZERO_ADDRESS, Address, ChannelId, Destination
from scapp.channels.virtual import defunding
from scapp.channels.virtual import leaving as virtual_leaving
from scapp.channels.virtual import opening as virtual_opening
from scapp.channels.virtual.agreement import Agreement, Asset, opened_ms
from scapp.channels.virtual.backing import backing
from scapp.channels.virtual.record import VirtualRecord

logger = logging.getLogger("scapp.books")


class AppChannels(Protocol):
    """The node's app channels, as `service.NodeService` offers them."""

    def enforceable_stack(self, channel_id: ChannelId) -> tuple[SignedState, tuple[SignedState, ...]] | None: ...

    async def shown(self, channel_id: ChannelId, candidate: SignedState) -> None: ...


class BooksBacking:
    """Belongs to the node's event loop. `books` gives the books, None while they are closed; `put` queues an input."""

    def __init__(
        self,
        me: Address,
        rules: Rules,
        apps: AppChannels,
        books: Callable[[], Books | None],
        put: Callable[[Input], None],
    ) -> None:
        self._apps = apps
        self._shown: dict[ChannelId, SignedState] = {}  # what the chain has shown of each, told already
        self._tasks: set[asyncio.Task[None]] = set()
        self._me = me
        self._rules = rules
        self._books = books
        self._put = put
        self._on_backing: Callable[[ChannelId, Backing], None] | None = None

    @property
    def app_definition(self) -> Address:
        """See `BackingSource`; so for all methods below. Zero when the node knows none."""
        return self._rules.apps.app

    def start(self, on_backing: Callable[[ChannelId, Backing], None]) -> None:
        self._on_backing = on_backing

    def fault(self, terms: VirtualTerms) -> str:
        books = self._books()
        if books is None:
            return "this node's ledgers are closed"
        if self.app_definition == ZERO_ADDRESS:
            return "this node knows no contract for app channels over ledgers (chain.two_party_app)"
        if fault := self._rules.guarantee_fault("app"):
            return fault
        assets = len({asset for asset, _, _ in terms.slots})
        for neighbour in _neighbours(terms.participants, self._me):
            if neighbour is None:
                continue
            side = side_with(books, neighbour)
            if side is None:
                return f"there is no running ledger with 0x{neighbour.hex()}"
            if fault := full_fault(books, side, assets) or poor_fault(books, side, _needed(terms, self._me)):
                return fault
        return ""

    def open(self, terms: VirtualTerms, states: tuple[SignedState, ...]) -> None:
        self._try(terms.channel, lambda books: self._open(books, terms, states[0]))
        self.offer(terms.channel, states)

    def offer(self, channel: ChannelId, states: tuple[SignedState, ...]) -> None:
        for state in states:
            self._try(channel, lambda books, state=state: _offer(books, channel, state))  # type: ignore[misc]

    def give_up(self, channel: ChannelId, reason: str) -> None:
        self._try(channel, lambda books: _end(books, channel, reason))

    def dispute(self, channel: ChannelId, reason: str) -> None:
        self._try(channel, lambda books: _leave(books, channel, reason))

    def update(self, channels: Iterable[ChannelId]) -> None:
        """These records have changed: tell whose app channel it is."""
        books = self._books()
        if books is None or self._on_backing is None:
            return
        for channel in channels:
            record = books.state.virtuals.get(channel)
            if record is not None and record.is_app_party:
                self._on_backing(channel, backing(record))
                self._tell_shown(record)

    def app_state(self, channel: ChannelId) -> Enforceable | None:
        """The newest state of an app channel that the chain takes."""
        try:
            found = self._apps.enforceable_stack(channel)
        except ScappError:  # not here, or corrupt
            return None
        return Enforceable(*found) if found is not None else None

    def is_lost(self, record: VirtualRecord) -> bool:
        """Is the app channel of this one not in this node's log? It was opened after the backup from which that came,
        or is corrupt."""
        if not record.is_app_party or record.over or not record.accepted:
            return False
        try:
            self._apps.enforceable_stack(record.channel_id)
        except ScappError:
            return True
        return False

    def _tell_shown(self, record: VirtualRecord) -> None:
        """Whatever state of an app channel is shown to the chain, its app channel should know."""
        newest, channel = record.chain.newest if record.chain is not None else None, record.channel_id
        if newest is None or self._shown.get(channel) == newest.candidate:
            return
        self._shown[channel] = newest.candidate
        task = asyncio.create_task(self._tell(channel, newest.candidate))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell(self, channel: ChannelId, candidate: SignedState) -> None:
        with contextlib.suppress(ScappError):  # not a state of the app's: it cannot be adopted
            await self._apps.shown(channel, candidate)

    def _try(self, channel: ChannelId, decide: Input) -> None:
        def tried(books: Books) -> Step:
            books.touch(channel)  # the answer is what stands, changed or not
            try:
                return decide(books)
            except (LocalError, InvalidValue) as error:
                logger.warning("channel 0x%s: its ledgers refuse: %s", channel.hex(), error)
                if channel not in books.state.virtuals and self._on_backing is not None:
                    self._on_backing(channel, Backing("failed", str(error)))
                return NOTHING

        self._put(tried)

    def _open(self, books: Books, terms: VirtualTerms, prefund: SignedState) -> Step:
        if terms.channel in books.state.virtuals:
            return NOTHING
        if fault := age_fault(books, prefund.nonce):
            raise LocalError(fault)
        # A restored node may have signed more of a channel from before than it knows: it gives nothing up by itself.
        signed = opened_ms(prefund.nonce) > books.state.restored_ms
        left, right, unusable = sides_of(books, _neighbours(terms.participants, self._me), signed=signed)
        step = virtual_opening.propose(
            _agreement(terms, prefund), left, right, self._rules.apps, books.context, prefund.signatures
        )
        return virtual_opening.give_up(step, unusable) if unusable else step


def _neighbours(participants: tuple[Address, ...], me: Address) -> tuple[Address | None, Address | None]:
    at = participants.index(me)
    return (participants[at - 1] if at else None, participants[at + 1] if at + 1 < len(participants) else None)


def _needed(terms: VirtualTerms, me: Address) -> dict[Address, int]:
    """What a party has to put in, by asset: its slot of each, and the first one the fees."""
    at = 0 if terms.participants[0] == me else -1
    found = {Address(asset): group[at][2] for asset, group in _by_asset(terms).items()}
    if at == 0 and found:
        found[next(iter(found))] += sum(terms.fees)
    return found


def _by_asset(terms: VirtualTerms) -> dict[bytes, list[tuple[bytes, bytes, int]]]:
    found: dict[bytes, list[tuple[bytes, bytes, int]]] = {}
    for slot in terms.slots:
        found.setdefault(slot[0], []).append(slot)
    return found


def _agreement(terms: VirtualTerms, prefund: SignedState) -> Agreement:
    """What the two app parties have agreed on. Raises LocalError for slots that no virtual channel may have."""
    by_asset = _by_asset(terms)
    destinations = {tuple(destination for _, destination, _ in slots) for slots in by_asset.values()}
    pair = next(iter(destinations), ())
    if len(destinations) != 1 or len(pair) != 2:
        raise LocalError(
            "a virtual channel pays its two parties, in the same order and at the same places, in each asset"
        )
    return Agreement(
        kind="app",
        fixed=FixedPart(terms.participants, prefund.nonce, Address(prefund.app_definition), prefund.challenge_duration),
        destinations=(Destination(pair[0]), Destination(pair[1])),
        assets=tuple(Asset(Address(asset), slots[0][2], slots[1][2]) for asset, slots in by_asset.items()),
        app_data=prefund.app_data,
        fees=terms.fees,
    )


def _offer(books: Books, channel: ChannelId, state: SignedState) -> Step:
    record = books.state.virtuals.get(channel)
    if record is None or record.over:
        return NOTHING
    part = VariablePart(decode_outcome(state.outcome), state.app_data, state.turn, state.is_final)
    return defunding.offer(record, part, state.signatures)


def _leave(books: Books, channel: ChannelId, reason: str) -> Step:
    record = books.state.virtuals.get(channel)
    return virtual_leaving.leave(record, reason) if record is not None and not record.over else NOTHING


def _end(books: Books, channel: ChannelId, reason: str) -> Step:
    record = books.state.virtuals.get(channel)
    if record is None or record.over or record.ended is not None or record.funded:
        return NOTHING
    return defunding.end(record, reason)
