"""Real nodes in one process over the in-process transport, for tests of the node's shell."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

from scapp.channels.admission import Admission
from scapp.channels.backing import BackingSource
from scapp.channels.books.setup import BooksSetup
from scapp.channels.chain.port import ChainService
from scapp.channels.channel.events import ChannelCreated
from scapp.channels.channel.shares import Stakes
from scapp.channels.channel.terms import ChainTerms
from scapp.channels.deployment import Deployment
from scapp.channels.idle import IdleBound
from scapp.channels.log.committer import Committer
from scapp.channels.log.memory import MemoryLog
from scapp.channels.node import Node
from scapp.channels.service import OpenRequest
from scapp.channels.signing import Signer
from scapp.channels.transport.fake import FakeNetwork, FakeTransport
from scapp.channels.transport.limits import TransportLimits
from scapp.channels.types import Address, ChannelId
from tests.support.fakes import SumAdmission

START_MS = 1_700_000_000_000
DEPLOYMENT = Deployment(bytes(32))


async def opened(alice: Node, bob: Node) -> ChannelId:
    """A channel that runs at both."""
    channel = await alice.open_channel(OpenRequest(peers=(bob.address,), deployment=DEPLOYMENT))
    for node in (alice, bob):
        await node.wait_phase(channel, ("running",), 5)
    return channel


class FixedPolicy:
    """Always the same answer."""

    def __init__(self, answer: str, stakes: list[Stakes] | None = None) -> None:
        """Whose deposits it was asked about is added to `stakes`."""
        self.answer = answer
        self.stakes = stakes if stakes is not None else []

    def decide(self, proposer: Address, deployment: Deployment, created: ChannelCreated) -> str:
        return self.answer

    def decide_funding(self, stakes: Stakes) -> str:
        self.stakes.append(stakes)
        return self.answer


class Cast:
    """Nodes that are stopped and closed at the end of a test."""

    def __init__(self) -> None:
        self.network = FakeNetwork(seed=1, automatic=True)
        self.transport: type[FakeTransport] = FakeTransport
        self.nodes: list[Node] = []
        self.ends: list[Callable[[], None]] = []
        self.stakes: list[Stakes] = []  # that policies were asked about

    async def node(
        self,
        key: int,
        *,
        policy: str = "accept",
        log: MemoryLog | None = None,
        admission: Admission | None = None,
        modules: dict[bytes, bytes] | None = None,
        frame_bytes_max: int = TransportLimits().frame_bytes_max,
        chain: ChainService | None = None,
        terms: ChainTerms | None = None,
        idle: IdleBound | None = None,
        books: BooksSetup | None = None,
        backing: BackingSource | None = None,
    ) -> Node:
        signer = Signer(bytes([key]) * 32)
        log = log or MemoryLog()
        committer = Committer(log)
        clock = itertools.count(START_MS)
        nonces = itertools.count(key * 1000)
        node = Node(
            signer=signer,
            log=log,
            committer=committer,
            transport=self.transport(self.network, signer.address),
            admission=admission or SumAdmission(),
            policy=FixedPolicy(policy, self.stakes),
            clock_ms=lambda: next(clock),
            nonce=lambda: next(nonces),
            module_of=(modules or {}).get,
            frame_bytes_max=frame_bytes_max,
            chain=chain,
            terms=terms,
            idle=idle,
            books=books,
            backing=backing,
        )
        await node.start()
        self.nodes = [other for other in self.nodes if other.address != node.address]  # it was stopped before
        self.nodes.append(node)
        self.ends.append(committer.close)
        for other in self.nodes[:-1]:
            node.add_peer(other.address, "sim:1")
            other.add_peer(node.address, "sim:1")
        return node

    async def end(self) -> None:
        for node in self.nodes:
            await node.stop()
        for end in self.ends:
            end()


async def until(node: Node, happened: Callable[[], bool]) -> None:
    """Wait for something that the node tells its listeners about."""
    news = asyncio.Event()
    end = node.subscribe(lambda _: news.set())
    async with asyncio.timeout(10):
        while not happened():
            news.clear()
            await news.wait()
    end()
