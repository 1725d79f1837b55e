"""Whole nodes on one virtual loop: `node.Node` with its books, purses, routes and channels, over a simulated disk,
network, chain and clock.

A node that crashes loses its loop of work no sooner than its next step, but from that moment on nothing it does reaches
a disk, a peer or the chain. `watch` (see `checks.py`) sees everything that is stored and said.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

from scapp.channels.books.service import NodeBooks
from scapp.channels.books.setup import BooksSetup
from scapp.channels.books.step import BooksTerms
from scapp.channels.chain.client import Unavailable
from scapp.channels.chain.support import App
from scapp.channels.channel.terms import ChainTerms
from scapp.channels.errors import CorruptionError, LocalError, ScappError
from scapp.channels.log.port import Append, LogClosed
from scapp.channels.node import Node
from scapp.channels.onchain import Revealed, Transaction
from scapp.channels.payments.locked.terms import LockSettings
from scapp.channels.restoring import mark_restored
from scapp.channels.routing.fees import Schedule
from scapp.channels.routing.own import HubTerms
from scapp.channels.signing import Signer
from scapp.channels.transport.fake import FakeNetwork, FakeTransport
from scapp.channels.types import ZERO_ADDRESS, Address, Hash, Signature
from scapp.channels.virtual.opening import Apps
from tests.simulation.hubs.committer import Committer
from tests.support.disk import DiskLog, SimDisk
from tests.support.fakes import SumAdmission
from tests.support.ledger_scene import LOCK_APP, PAYMENT_APP, TWO_PARTY_APP, Willing
from tests.support.node_cast import START_MS, FixedPolicy
from tests.support.plain_chain import PlainChain, PlainService
from tests.support.virtual_loop import VirtualLoop

NAMES = ("alice", "bob", "carol", "dave", "eve")
CHALLENGE_S = 1_200
DROP_PAUSE_S = 0.5
TERMS = ChainTerms(challenge_duration_min_s=600, margin_s=60, conclude_delay_s=120, silence_timeout_s=0)


class Watch(Protocol):
    """Who looks at what nodes do."""

    def signed(self, node: HubNode, signature: bytes) -> None: ...

    def begun(self, node: HubNode) -> None: ...

    def stored(self, node: HubNode, append: Append) -> None: ...

    def said(self, node: HubNode, peer: Address, message: bytes) -> None: ...


class NotedSigner(Signer):
    """A key whose signatures the watch hears of."""

    __slots__ = ("node",)
    node: HubNode

    def sign(self, h: Hash) -> Signature:
        made = super().sign(h)
        self.node.net.watch.signed(self.node, made)
        return made


class Network(FakeNetwork):
    """Steps of the network take up to `delay_ms` each. A link that drops has time to be of use before the next one
    does: whatever is said again when a link comes up would otherwise never be through."""

    delay_ms = 0
    drops = 0.0
    draw: random.Random
    _dropped_s = 0.0

    def _take_step(self) -> Any:
        now_s = asyncio.get_running_loop().time()
        self.drop_rate = self.drops if now_s > self._dropped_s + DROP_PAUSE_S else 0.0
        return super()._take_step()

    def drop_link(self, one: Address, other: Address) -> None:
        self._dropped_s = asyncio.get_running_loop().time()
        super().drop_link(one, other)

    def wake(self) -> None:
        if not self.delay_ms:
            super().wake()
        elif not self._pump_due:
            self._pump_due = True
            asyncio.get_running_loop().call_later(self.draw.uniform(0, self.delay_ms / 1_000), self._pump)


class Transport(FakeTransport):
    """What its node says passes the node's `tap`, which may say something else, or nothing."""

    node: HubNode

    def send(self, peer: Address, message: bytes, on_acked: Callable[[], None] | None = None) -> None:
        if not self._running:
            raise LocalError("the process is gone")
        self.node.net.watch.said(self.node, peer, message)
        for each in self.node.tap(peer, message):
            super().send(peer, each, on_acked)
            self.node.net.messages += 1


class Service(PlainService):
    """The node's view of the chain; `blind` while its endpoint hangs."""

    sparse = True
    blind = False
    clock: Callable[[], int]
    node: HubNode

    def send(self) -> None:
        """As the node's `act` says; it may die over it."""
        for channel, wants in list(self.wants.items()):
            for wanted in wants:
                for _ in range(self.node.act(wanted)):
                    self._chain.carry_out(self._signer, channel, wanted)

    def look(self) -> None:
        if not self.blind and self._on_view is not None:
            super().look()
            self.followed_ms = self.clock()

    async def revealed(self, hashes: Sequence[bytes]) -> Revealed:
        if self.blind:
            raise Unavailable("the endpoint hangs")
        return await super().revealed(hashes)


class HubNode:
    """One node across its lives."""

    def __init__(self, net: HubNet, index: int) -> None:
        self.net, self.index, self.name = net, index, NAMES[index]
        self.signer = NotedSigner(bytes([index + 1]) * 32)
        self.signer.node = self
        self.address = self.signer.address
        self.disk = SimDisk()
        self.node: Node | None = None
        self.policy = Willing()
        self.clock_offset_ms = 0
        self.crash_in = 0  # so many writes from now; 0 for not at all
        self.crash_where = "before"
        self.restores = 0
        self.fault = ""  # why it does not start
        self.counters: dict[str, int] = {}  # of its earlier lives
        self.tap: Callable[[Address, bytes], Sequence[bytes]] = lambda peer, message: (message,)
        self.act: Callable[[Transaction], int] = lambda wanted: 1  # how often a transaction is sent now

    @property
    def up(self) -> bool:
        return self.node is not None

    @property
    def process(self) -> Node:
        """Raises LocalError, as whoever asks a process that is gone hears nothing else."""
        if self.node is None:
            raise LocalError("the process is gone")
        return self.node

    @property
    def books(self) -> NodeBooks:
        found = self.process.books
        assert found is not None
        return found

    def now(self) -> int:
        return self.net.now_ms + self.clock_offset_ms

    async def start(self) -> None:
        """Begin from the disk. A log that cannot be opened keeps it from starting."""
        if self.up or self.fault:
            return
        try:
            self.log = DiskLog(self.disk)
        except CorruptionError as error:
            self.fault = str(error)
            return
        self.net.watch.begun(self)
        self.committer = Committer(self.log, self.counts_down, lambda append: self.net.watch.stored(self, append))
        self.transport = Transport(self.net.network, self.address)
        self.transport.node = self
        self.service = Service(self.net.chain, self.signer)
        self.service.clock = self.now
        self.service.node = self
        nonces = itertools.count(self.index * 1_000_000 + self.net.random.getrandbits(16))
        node = Node(
            signer=self.signer,
            log=self.log,
            committer=self.committer,
            transport=self.transport,
            admission=SumAdmission(),
            policy=FixedPolicy("accept", []),
            clock_ms=self.now,
            nonce=lambda: next(nonces),
            chain=self.service,
            terms=TERMS,
            books=BooksSetup(
                policy=self.policy,
                apps=Apps(PAYMENT_APP, TWO_PARTY_APP, LOCK_APP),
                terms=BooksTerms(virtual_timeout_s=120, conclude_delay_s=120),
                locks=self.net.locks,
                hub=HubTerms(announce=True, schedules=(Schedule(ZERO_ADDRESS, 1, 0),), duration_min_s=600),
            ),
        )
        self.node = node
        try:
            await node.start()
        except ScappError:
            if self.node is node:  # it did not die while it started
                raise
            return
        if self.node is node:
            for other in self.net.nodes:
                if other is not self:
                    node.add_peer(other.address, "sim:1")

    def counts_down(self, where: str) -> bool:
        """A write comes (`before`), or is done (`after`): does the process die here?"""
        if not self.crash_in or where != self.crash_where:
            return False
        self.crash_in -= 1
        if self.crash_in:
            return False
        self.net.saw(
            "hubs: a crash between a write and acting on it" if where == "after" else "hubs: a crash before a write"
        )
        self.crash()
        return True

    def crash(self) -> None:
        """The process is gone, and the power: what is left is what the disk then holds."""
        node = self._leave()
        if node is not None:
            self.disk.power_cut(self.net.random)

    def _leave(self) -> Node | None:
        node, self.node = self.node, None
        if node is None:
            return None
        self.crash_in = 0
        for name, count in node.counters().items():
            self.counters[name] = self.counters.get(name, 0) + count
        self.committer.die()
        self.log._store.close()
        if self.transport._running:
            self.net.network.crash(self.address)
        self.service.watched, self.service.wants = {}, {}
        self.service._on_view = self.service._on_head = None
        self.net.bury(node.stop())
        return node

    async def stop(self) -> None:
        """The process ends in order."""
        node = self.node
        if node is None:
            return
        await node.stop()
        if self.node is not node:
            return  # it died meanwhile
        for name, count in node.counters().items():
            self.counters[name] = self.counters.get(name, 0) + count
        self.node = None
        self.committer.die()
        try:
            self.log.close()
        except LogClosed:
            self.net.saw("hubs: a disk refused the last writes of an orderly stop")

    async def restore(self, backup: SimDisk) -> None:
        """The disk is lost; a backup takes its place, and the node starts."""
        self._leave()
        self.disk = backup.copy()
        self.fault = ""
        self.restores += 1
        log = DiskLog(self.disk)
        mark_restored(log, self.net.random.randbytes(16), self.now(), self.now() - 1)
        log.close()
        await self.start()

    def count(self, counter: str) -> int:
        """A counter over all lives."""
        return self.counters.get(counter, 0) + (self.node.counters().get(counter, 0) if self.node is not None else 0)


class HubNet:
    """`random` is drawn from by what happens now; the life seeds it anew before each act."""

    def __init__(self, loop: VirtualLoop, count: int, seed: int, watch: Callable[[HubNet], Watch]) -> None:
        self.loop = loop
        self.random = random.Random(seed)
        self.network = Network(seed, automatic=True)
        self.network.draw = random.Random(seed)
        self.jumped_ms = 0  # time that passed at once
        self.messages = 0
        self.seen: set[str] = set()
        self.tasks: set[asyncio.Task[Any]] = set()
        self.nodes = [HubNode(self, index) for index in range(count)]
        self.by_address = {node.address: node for node in self.nodes}
        apps: dict[bytes, App] = {PAYMENT_APP: "payment", TWO_PARTY_APP: "two-party", LOCK_APP: "hash-lock"}
        self.chain = PlainChain([node.signer for node in self.nodes], START_MS // 1_000, apps=apps)
        self.locks = LockSettings()
        self.watch = watch(self)

    @property
    def now_ms(self) -> int:
        return START_MS + self.jumped_ms + int(self.loop.time() * 1_000)

    def saw(self, condition: str) -> None:
        self.seen.add(condition)

    def spawn(self, story: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Something that somebody waits for; that a node refuses it, or is gone, is no fault."""
        task = self.loop.create_task(_tried(story))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def bury(self, story: Coroutine[Any, Any, Any]) -> None:
        """What is left of a process ends when it notices."""
        task = self.loop.create_task(_suppressed(story))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def pass_time(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def mine(self, seconds: int = 12, *, keep_out: bool = False) -> None:
        """Everybody sends what it wants, a block comes, everybody who hears of it sees it."""
        for node in self.nodes:
            if node.up:
                node.service.send()
        leave = [each.hash for each in self.chain.chain.mempool if keep_out and self.random.random() < 0.5]
        if leave:
            self.saw("hubs: a transaction waited in the mempool")
        self.jumped_ms += 1_000 * seconds
        self.chain.chain.mine(max(self.chain.chain.head.time_s + 1, self.now_ms // 1_000), leave=leave)
        self.look()

    def look(self) -> None:
        for node in self.nodes:
            if node.up:
                node.service.look()

    def challenge_ends_s(self) -> int:
        """When the first challenge of those that stand ends; 0 without any."""
        world, now_s = self.chain.chain.world, self.chain.chain.head.time_s
        ends = [world.status_of(channel).finalizes_at for channel in world.status]
        return min((end for end in ends if end > now_s), default=0)


async def _tried(story: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await story
    except (ScappError, TimeoutError):
        return None


async def _suppressed(story: Coroutine[Any, Any, Any]) -> None:
    try:
        await story
    except Exception:  # a process that is gone may fail in any way: nobody hears it
        return
