"""Real nodes over the real chain service, which talks to a simulated chain: coin, token and both; together, alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from scapp.channels.chain.fake import FakeClient
from scapp.channels.chain.key import ChainKey
from scapp.channels.chain.model_chain import ModelChain
from scapp.channels.chain.model_world import Token, World
from scapp.channels.chain.service import LiveChain
from scapp.channels.chain.settings import ChainSettings
from scapp.channels.channel.terms import ChainTerms
from scapp.channels.log.memory import MemoryLog
from scapp.channels.node import Node
from scapp.channels.service import OpenRequest
from scapp.channels.signing import Signer
from scapp.channels.types import ZERO_ADDRESS, Address, ChannelId
from tests.support.node_cast import DEPLOYMENT, Cast, until
from tests.support.plain_chain import ADJUDICATOR, CONSENSUS, RICH, TOKEN

BROUGHT = ((5, 4), (3, 0), (2, 6))
DURATION_S = 36_000  # blocks come fast here: on a busy machine many pass before a node looks
ASSETS = {"coin": (ZERO_ADDRESS,), "token": (TOKEN,), "both": (ZERO_ADDRESS, TOKEN)}


class Live:
    """Nodes, each with an account of its own; blocks come by themselves."""

    def __init__(self) -> None:
        self.cast = Cast()
        self.keys = [ChainKey(bytes([0x40 + index]) * 32) for index in range(3)]
        world = World(ADJUDICATOR, CONSENSUS)
        world.tokens[TOKEN] = Token({key.address: RICH for key in self.keys}, {})
        world.balances |= {key.address: RICH for key in self.keys}
        self.chain = ModelChain(world)
        self.clients: list[FakeClient] = []
        self.nodes: list[Node] = []
        self.block_s = 12
        self._miner = asyncio.create_task(self._mine())

    async def _mine(self) -> None:
        while True:
            await asyncio.sleep(0.02)
            self.chain.mine(self.chain.head.time_s + self.block_s)
            for client in self.clients:
                client.announce()

    async def start(self, count: int) -> list[Node]:
        for index in range(count):
            log = MemoryLog()
            client = FakeClient(self.chain)
            settings = ChainSettings(
                endpoints=(), chain_id=1337, adjudicator=ADJUDICATOR, consensus_app=CONSENSUS, confirmations=2,
                poll_seconds=0.05,
            )  # fmt: skip
            service = LiveChain(settings, client, log, self.keys[index], Signer(bytes([index + 1]) * 32).sign)
            terms = ChainTerms(conclude_delay_s=3_600, funding_timeout_s=0)
            self.clients.append(client)
            self.nodes.append(await self.cast.node(index + 1, log=log, chain=service, terms=terms))
        return self.nodes

    def request(self, assets: tuple[Address, ...]) -> OpenRequest:
        slots = tuple(
            (bytes(asset), bytes(12) + self.keys[index].address, BROUGHT[index][k])
            for k, asset in enumerate(assets)
            for index in range(len(self.nodes))
        )
        peers = tuple(node.address for node in self.nodes[1:])
        return OpenRequest(
            peers=peers, deployment=DEPLOYMENT, slots=slots, challenge_duration=DURATION_S, fund="direct"
        )

    async def phase(self, channel: ChannelId, phase: str, *nodes: Node) -> None:
        for node in nodes:
            await until(node, lambda node=node: any(info.channel_id == channel for info in node.channels()))
            await node.wait_phase(channel, [phase], 20)

    def gains(self, assets: tuple[Address, ...]) -> list[tuple[int, ...]]:
        """What each account has more or less than at the beginning, fees left out."""
        found = []
        for key in self.keys[: len(self.nodes)]:
            world = self.chain.world
            fees = sum(
                receipt.fee * 60_000
                for block in self.chain.blocks
                for sent, receipt in zip(block.transactions, block.receipts, strict=True)
                if sent.sender == key.address
            )
            has = {ZERO_ADDRESS: world.balances[key.address] + fees, TOKEN: world.tokens[TOKEN].balances[key.address]}
            found.append(tuple(has[asset] - RICH for asset in assets))
        return found

    async def end(self) -> None:
        self._miner.cancel()
        await self.cast.end()


@pytest.fixture
async def live() -> AsyncIterator[Live]:
    made = Live()
    try:
        yield made
    finally:
        await made.end()


@pytest.mark.parametrize("assets", ASSETS)
@pytest.mark.parametrize("count", [2, 3])
async def test_deposit_play_close_and_payout(live: Live, count: int, assets: str) -> None:
    """Two and three nodes, for each kind of asset; somebody ends with two units more of the first one."""
    nodes = await live.start(count)
    channel = await nodes[0].open_channel(live.request(ASSETS[assets]))
    await live.phase(channel, "running", *nodes)
    (receipt,) = await nodes[1].submit(channel, [b"move:0:1:2"])
    assert receipt.status == "accepted"
    await nodes[1].close_channel(channel)
    await live.phase(channel, "settled", *nodes)
    nothing = (0,) * (len(ASSETS[assets]) - 1)
    assert live.gains(ASSETS[assets]) == [(-2, *nothing), (2, *nothing), (0, *nothing)][:count]


async def test_one_node_leaves_alone(live: Live) -> None:
    """The other is gone for good; a challenge, its time, and the payout of both assets."""
    alice, bob = await live.start(2)
    channel = await alice.open_channel(live.request(ASSETS["both"]))
    await live.phase(channel, "running", alice, bob)
    await bob.submit(channel, [b"move:0:1:2"])
    await alice.stop()
    await bob.challenge(channel)
    live.block_s = 1_200
    await live.phase(channel, "settled", bob)
    assert live.gains(ASSETS["both"]) == [(-2, 0), (2, 0)]
