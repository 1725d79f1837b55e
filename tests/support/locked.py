"""Nodes with locked payments between them, over the fake network and a registry of preimages; disks may fail."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

from scapp.channels.errors import LocalError, PeerError
from scapp.channels.log.memory import MemoryLog
from scapp.channels.log.port import Append, LogClosed
from scapp.channels.onchain import Revealed
from scapp.channels.payments.book import PurseTerms
from scapp.channels.payments.events import amount_bytes
from scapp.channels.payments.locked import paying
from scapp.channels.payments.locked.book import LockBook
from scapp.channels.payments.locked.events import (
    InvoiceMade,
    LaneClosed,
    LaneOpened,
    LaneRecovered,
    LaneSettled,
    LockArrived,
    LockFailed,
    LockOver,
    LockPassed,
    LocksEvent,
    LocksForgotten,
    LocksRestored,
    PaymentBegun,
    SecretLearned,
    VoucherPromised,
    VoucherTaken,
)
from scapp.channels.payments.locked.invoice import Invoice
from scapp.channels.payments.locked.records import Hop, Lane, Transit
from scapp.channels.payments.locked.runner import LockRunner
from scapp.channels.payments.locked.terms import LockSettings
from scapp.channels.payments.locks import hash_of
from scapp.channels.routing.fees import Schedule
from scapp.channels.signing import Signer
from scapp.channels.transport.fake import FakeNetwork, FakeTransport
from scapp.channels.types import ZERO_ADDRESS, ZERO_HASH, Address, ChannelId

HEAD_S = 1_700_000_000
MARGIN_S = 100
DURATION_S = 2_000
START = 100
FEE = 2
PREIMAGE = b"\x11" * 32
SETTINGS = LockSettings(margin_s=MARGIN_S, schedules=(Schedule(ZERO_ADDRESS, FEE, 0),))


def every_event() -> list[LocksEvent]:
    """One of each type, in an order in which a node can have them: it pays in one lane, and is paid in another."""
    out, back, payer, payee = b"\xc1" * 32, b"\xc2" * 32, b"\x0a" * 20, b"\x0b" * 20
    start, amount, signature, name = amount_bytes(100), amount_bytes(30), b"\x05" * 65, hash_of(PREIMAGE)
    hops = ((payee, amount, HEAD_S + 200),)
    return [
        LaneOpened(out, payer, payee, bytes(20), start, DURATION_S, b"", HEAD_S * 1_000),
        LaneOpened(back, payee, payer, bytes(20), start, DURATION_S, b"\x06" * 16, HEAD_S * 1_000),
        LaneRecovered(back, True, HEAD_S * 1_000),
        InvoiceMade(b"\x12" * 32, PREIMAGE, bytes(20), amount, HEAD_S + 60, "tea", HEAD_S * 1_000),
        PaymentBegun(name, "scapp1", hops, HEAD_S * 1_000),
        VoucherPromised(out, 1, bytes(32), ((amount, name, HEAD_S + 200),), signature, HEAD_S * 1_000),
        LockPassed(name, out, HEAD_S * 1_000),
        LockFailed(name, "no", HEAD_S * 1_000),
        SecretLearned(name, PREIMAGE, HEAD_S * 1_000),
        LockOver(name, out, "paid", HEAD_S * 1_000),
        VoucherTaken(back, 1, amount, ((amount, b"\x12" * 32, HEAD_S + 100),), signature, HEAD_S * 1_000),
        LockArrived(b"\x12" * 32, back, (), HEAD_S * 1_000),
        LocksRestored(b"\x07" * 16, HEAD_S * 1_000, HEAD_S * 1_000 - 1),
        LaneClosed(out, amount, HEAD_S * 1_000),
        LaneSettled(out, HEAD_S * 1_000),
        LocksForgotten((out,), (name,), HEAD_S * 1_000),
    ]


class Disk:
    """Appends, until the one that is to fail: `lost` before it is written, else right after."""

    def __init__(self, log: MemoryLog) -> None:
        self.log = log
        self.appends = 0
        self.fails_at = 0
        self.lost = False

    async def append(self, append: Append) -> None:
        self.appends += 1
        if self.appends == self.fails_at and self.lost:
            raise LogClosed("the disk has failed")
        self.log.append(append)
        if self.appends == self.fails_at:
            raise LogClosed("the process has died")


class LockNode:
    """One node; `live` is one life of it."""

    def __init__(self, net: LockNet, key: int) -> None:
        self.net, self.signer, self.log = net, Signer(bytes([key]) * 32), MemoryLog()
        self.address = self.signer.address
        self.counters: Counter[str] = Counter()
        self.deaf: set[str] = set()  # tags of messages that it does not hear
        self.limited: dict[Address, str] = {}  # peers for whom it begins nothing, and why
        self.settings = SETTINGS
        self.revealed: list[bytes] = []
        self.sees_chain = True
        self.reveal_cost = 0

    async def live(self) -> LockNode:
        self.disk = Disk(self.log)
        self.transport = FakeTransport(self.net.network, self.address)
        self.runner = LockRunner(
            signer=self.signer,
            settings=self.settings,
            log=self.log,
            committer=self.disk,
            send=self._send,
            clock_ms=lambda: self.net.now_ms,
            head_s=lambda: self.net.head_s if self.sees_chain else 0,
            revealed=self.net.revealed,
            reveal_cost=lambda: self.reveal_cost,
            limit=lambda peer, _: self.limited.get(peer, ""),
            counters=self.counters,
        )
        await self.runner.start()
        await self.transport.start(self._receive, self._on_link)
        for other in self.net.nodes:
            if other is not self:
                self.transport.add_peer(other.address, "sim:1")
        return self

    async def die(self) -> None:
        await self.transport.stop()
        await self.runner.stop()

    async def restart(self) -> None:
        await self.die()
        await self.live()

    @property
    def book(self) -> LockBook:
        return self.runner.book

    def transit(self) -> Transit | None:
        return self.book.state.transits.get(hash_of(PREIMAGE))

    def lane(self, channel: ChannelId) -> Lane:
        return self.book.state.lanes[channel]

    def reveal_due(self) -> None:
        """Put on chain what has to go there."""
        for lane in self.book.state.locked():
            for preimage in self.runner.reveals(lane):
                self.net.reveal(preimage)
                self.revealed.append(preimage)

    def _send(self, peer: Address, message: bytes) -> bool:
        if self.runner.failure:
            return False
        try:
            self.transport.send(peer, message)
        except LocalError:
            return False
        return True

    async def _receive(self, peer: Address, data: bytes) -> None:
        if any(tag.encode() in data[:16] for tag in self.deaf):
            return
        try:
            self.runner.receive(peer, data)
        except PeerError:
            self.counters["refused"] += 1

    def _on_link(self, peer: Address, connected: bool) -> None:
        self.runner.link(peer, connected)


class LockNet:
    """Alice, hubs, Bob in a row, a lane of `START` from each to the next."""

    def __init__(self, count: int = 3, seed: int = 1) -> None:
        self.network = FakeNetwork(seed=seed, automatic=True)
        self.now_ms = HEAD_S * 1_000
        self.head_s = HEAD_S
        self.registry: dict[bytes, int] = {}
        self.nodes = [LockNode(self, key + 1) for key in range(count)]
        self.lanes = [ChannelId(bytes([0xC0 + at]) * 32) for at in range(count - 1)]

    async def start(self) -> LockNet:
        for node in self.nodes:
            await node.live()
        for channel, payer, payee in zip(self.lanes, self.nodes, self.nodes[1:], strict=False):
            terms = PurseTerms(
                channel=channel, payer=payer.address, payee=payee.address, asset=ZERO_ADDRESS, start=START
            )
            for node in (payer, payee):
                await node.runner.input(lambda book, terms=terms: book.open(terms, DURATION_S))  # type: ignore[misc]
        return self

    async def end(self) -> None:
        for node in self.nodes:
            await node.die()

    async def revealed(self, hashes: Sequence[bytes]) -> Revealed:
        return Revealed(self.head_s, tuple(self.registry.get(each, 0) for each in hashes))

    def reveal(self, preimage: bytes) -> None:
        self.registry.setdefault(hash_of(preimage), self.head_s)

    async def idle(self) -> None:
        """Until nothing moves any more."""
        quiet = 0
        while quiet < 20:
            await asyncio.sleep(0)
            quiet = 0 if self.network.possible_steps() else quiet + 1

    async def later(self, seconds: int) -> None:
        """The chain and the clocks go on; everybody looks at the chain, and says again what was not answered."""
        self.head_s += seconds
        self.now_ms += seconds * 1_000
        for node in self.nodes:
            if not node.runner.failure:
                node.runner.tick()
                node.reveal_due()
        await self.idle()

    async def invoiced(self, amount: int = 30) -> Invoice:
        """An invoice of the last node, always of the same preimage."""
        bob = self.nodes[-1]
        expires_s = self.head_s + 3_600
        await bob.runner.input(lambda book: _invoice(book, amount, expires_s))
        return Invoice(
            network=ZERO_HASH, app=ZERO_ADDRESS, payee=bob.address, asset=ZERO_ADDRESS, amount=amount,
            hash=hash_of(PREIMAGE), expires_s=expires_s,
        )  # fmt: skip

    async def pay(self, invoice: Invoice, fee: int = FEE) -> str:
        """Ask the way, then lock; why not, or ""."""
        alice, hubs = self.nodes[0], [node.address for node in self.nodes[1:-1]]
        planned: list[tuple[Hop, ...]] = []
        await alice.runner.input(lambda book: planned.append(paying.plan(book, invoice, hubs, [fee] * len(hubs))))
        (hops,) = planned
        reply = await alice.runner.asks.ask(invoice.hash, invoice.asset, hops)
        if reply.fault:
            return reply.fault
        try:
            await alice.runner.input(lambda book: paying.begin(book, invoice, "scapp1", hops))
        except LocalError as error:
            return str(error)
        await self.idle()
        return ""


def _invoice(book: LockBook, amount: int, expires_s: int) -> None:
    book.invoice(PREIMAGE, ZERO_ADDRESS, amount, expires_s, "")
