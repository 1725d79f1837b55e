"""Payments under hash locks in lives of nodes with ledgers: who pays which invoice, and what must have come of it.

Locks end by the chain's clock, and whoever has to answer one there must be awake for it, as for a challenge
(`Ending._awake`): `ends_s` says when the next one ends.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from scapp.channels.books.info import PayInvoiceRequest, PaymentChannelRequest
from scapp.channels.payments.locked import paying
from scapp.channels.payments.locked.book import LockBook
from scapp.channels.payments.locked.events import (
    LaneRecovered,
    LocksEvent,
    VoucherPromised,
    VoucherTaken,
    decode_locks_event,
)
from scapp.channels.payments.locked.invoice import read_invoice
from scapp.channels.payments.locked.records import Leg, Transit
from scapp.channels.payments.locked.state import LocksState, voucher_of
from scapp.channels.payments.locked.terms import LockSettings
from scapp.channels.payments.locks import LockedVoucher
from scapp.channels.routing.fees import Schedule
from scapp.channels.types import ZERO_ADDRESS, ChannelId
from tests.simulation.hubs.net import HubNet, HubNode
from tests.support.checkers import require

MARGIN_S = 600
LANE_S = 6 * MARGIN_S
"""The challenge duration of a lane: time for three hubs."""
FEE_MAX = 10
INVOICE_S = 10**6
SEEN_S = 600
"""In which the chain has confirmed a lock's end."""
SETTINGS = LockSettings(margin_s=MARGIN_S, schedules=(Schedule(ZERO_ADDRESS, 1, 0),))
UNASKED = -1
"""In place of how long a payer waits: it locks without asking, and for no fee, so a hub has to leave the lock alone."""
_GOOD = ("paid", "opened")


class KeptLocks:
    """What one node has stored of locked payments: as its disk has it now, and each lane's vouchers over all lives."""

    def __init__(self) -> None:
        self.state = LocksState()
        self.promised: defaultdict[ChannelId, dict[int, LockedVoucher]] = defaultdict(dict)
        self.taken: defaultdict[ChannelId, dict[int, LockedVoucher]] = defaultdict(dict)

    def stored(self, data: bytes, saw: Callable[[str], None]) -> None:
        event: LocksEvent = decode_locks_event(data)
        self.state.next(event)
        match event:
            case VoucherPromised():
                self.promised[ChannelId(event.channel)][event.number] = voucher_of(event)
            case VoucherTaken():
                self.taken[ChannelId(event.channel)][event.number] = voucher_of(event)
            case LaneRecovered(by_operator=False):
                saw("hubs: a restored lane recovered")
            case _:
                pass

    def ends_s(self, now_s: int) -> int:
        """When the next lock of an unsettled lane ends; 0 without any."""
        ends = [lock.expiry_s for lane in self.state.locked() for lock in lane.locks]
        return min((end for end in ends if end > now_s), default=0)


def worth(net: HubNet, vouchers: Iterable[LockedVoucher]) -> int:
    """The most that a payee can show for one of them: with the locks that were opened on chain in time."""
    revealed = net.chain.chain.world.revealed
    return max((_worth(revealed, each) for each in vouchers), default=0)


def _worth(revealed: dict[bytes, int], voucher: LockedVoucher) -> int:
    opened = [lock for lock in voucher.locks if 0 < revealed.get(lock.hash, 0) <= lock.expiry_s]
    return voucher.amount + sum(lock.amount for lock in opened)


class Paying:
    """What owners of nodes want of locked payments. `receipts`: payees, and hashes of payments that their payers were
    told are paid."""

    def __init__(self, net: HubNet, hostile: int) -> None:
        self.net = net
        self._hostile = hostile
        self.receipts: list[tuple[int, bytes]] = []

    def open_lane(self, node: HubNode, neighbour: HubNode) -> None:
        self.net.spawn(self._open(node, neighbour, self.net.random.randrange(60, 200)))

    @staticmethod
    async def _open(node: HubNode, other: HubNode, amount: int) -> None:
        request = PaymentChannelRequest(payee=other.address, amount=amount, challenge_duration_s=LANE_S, locks=True)
        await node.books.open_payments(request)

    def pay_invoice(self, amount: int) -> None:
        """Of those who can pay somebody by what stands open one does."""
        draw = self.net.random
        paths = self._paths()
        if paths:
            how = draw.choice([0, 0, 5]) if draw.random() < 0.85 else UNASKED
            self.net.spawn(self._pay(draw.choice(paths), amount, draw.randbytes(32), how))

    def _paths(self) -> list[list[HubNode]]:
        """Along lanes of nodes that are there; those over hubs, and those with Mallory on them, count more."""
        nodes, found = self.net.nodes, list[list[HubNode]]()
        for step in (1, -1):
            for first in range(len(nodes)):
                path = [nodes[first]]
                while 0 <= (at := path[-1].index + step) < len(nodes) and self._is_open(path[-1], nodes[at]):
                    path = [*path, nodes[at]]
                    found += [path] * min(2, len(path) - 1) * (4 if self._has_mallory(path) else 1)
        return found

    def _has_mallory(self, path: Sequence[HubNode]) -> bool:
        return any(node.index == self._hostile for node in path)

    @staticmethod
    def _is_open(payer: HubNode, payee: HubNode) -> bool:
        if not (payer.up and payee.up):
            return False
        lanes = payer.books._locks.book.state.with_peer(payee.address)
        return any(lane.payer == payer.address and lane.phase == "open" for lane in lanes)

    async def _pay(self, path: Sequence[HubNode], amount: int, preimage: bytes, wait_s: float) -> None:
        payer, *hubs, payee = path
        invoice = await self._invoice(payee, amount, preimage)
        if wait_s == UNASKED:
            await payer.books.locked._locks.input(partial(_begin, text=invoice, hubs=hubs))
            return
        request = PayInvoiceRequest(
            invoice=invoice, via=tuple(each.address for each in hubs), fee_max=FEE_MAX, wait_s=wait_s
        )
        found = await payer.books.locked.pay(request)
        if found.status == "paid":
            self.receipts.append((payee.index, found.hash))

    @staticmethod
    async def _invoice(payee: HubNode, amount: int, preimage: bytes) -> str:
        """With a preimage that is the plan's, so that a seed plays the same life again."""
        locked, found = payee.books.locked, list[bytes]()

        def decide(book: LockBook) -> None:
            expires_s = book.now_ms // 1_000 + INVOICE_S
            found.append(book.invoice(preimage, ZERO_ADDRESS, amount, expires_s, ""))

        await locked._locks.input(decide)
        return locked._invoice_info(locked._locks.book.state.invoices[found[0]]).invoice

    # The end

    def verdict(self, honest: Sequence[HubNode], kept: Mapping[int, KeptLocks]) -> None:
        """Who has paid has passed it on or has its receipt; whoever has shown a preimage is paid. Nodes that were
        restored may have forgotten a payment, so they are not asked."""
        for node in honest:
            locks = kept[node.index]
            for transit in locks.state.transits.values():
                self._look(node, transit)
                if not node.restores:
                    _none_loses(node, transit, self.net.chain.chain.head.time_s)
            if not node.restores:
                self._holds_what_was_paid(node, locks)
        for index, name in self.receipts:
            payee = self.net.nodes[index]
            if payee in honest and not payee.restores:
                incoming = kept[index].state.transits[name].incoming
                require(_is_paid(incoming), f"1: {payee.name} was not paid for a receipt of 0x{name.hex()[:8]}")

    def _holds_what_was_paid(self, node: HubNode, locks: KeptLocks) -> None:
        """What a node takes for paid has to be in a voucher."""
        legs = [transit.incoming for transit in locks.state.transits.values() if _is_paid(transit.incoming)]
        for lane in {leg.channel for leg in legs if leg is not None}:
            paid = sum(leg.amount for leg in legs if leg is not None and leg.channel == lane)
            held = worth(self.net, locks.taken[lane].values())
            require(held >= paid, f"7: {node.name} takes {paid} for paid, and holds vouchers for {held}")

    def _look(self, node: HubNode, transit: Transit) -> None:
        legs = (transit.incoming, transit.outgoing)
        fates = {leg.fate for leg in legs if leg is not None}
        if "opened" in fates:
            self.net.saw("hubs: a lock was opened on chain")
        if "ended" in fates:
            self.net.saw("hubs: a lock came back")
        if transit.role == "hub" and all(map(_is_paid, legs)):
            self.net.saw("hubs: an invoice was paid over a hub")


def _begin(book: LockBook, text: str, hubs: Sequence[HubNode]) -> None:
    invoice = read_invoice(text)
    hops = paying.plan(book, invoice, [each.address for each in hubs], [0] * len(hubs))
    paying.begin(book, invoice, text, hops)


def _none_loses(node: HubNode, transit: Transit, head_s: int) -> None:
    name, incoming, outgoing = f"0x{transit.hash.hex()[:8]}", transit.incoming, transit.outgoing
    legs = [leg for leg in (incoming, outgoing) if leg is not None and leg.fate is None]
    # One may be younger than its lane's end: its payee had closed the lane and has refused it.
    require(all(leg.expiry_s > head_s - SEEN_S for leg in legs), f"7: {node.name} still waits for the locks of {name}")
    if transit.role == "payee" and transit.preimage and incoming is not None:
        require(_is_paid(incoming), f"7: {node.name} has shown the preimage of {name} and was not paid")
    if transit.role == "hub" and _is_paid(outgoing):
        require(_is_paid(incoming), f"7: {node.name} has paid for {name} and was not paid for it")
        assert incoming is not None
        assert outgoing is not None
        require(incoming.amount > outgoing.amount, f"7: {node.name} had no fee for {name}")


def _is_paid(leg: Leg | None) -> bool:
    return leg is not None and leg.fate in _GOOD
