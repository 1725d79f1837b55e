"""The contract of chain clients, over the model."""

from __future__ import annotations

import asyncio

import pytest

from scapp.channels.chain.client import Unavailable
from scapp.channels.chain.fake import FakeClient, Faults
from tests.contracts.chain_client_contract import CHAIN_ID, Bench, ChainClientContract
from tests.support import chain_stories as story


class FakeBench(Bench):
    def __init__(self) -> None:
        self.chain = story.new_chain()
        self.client = FakeClient(self.chain, CHAIN_ID)
        self.adjudicator, self.token = story.ADJUDICATOR, story.TOKEN

    async def mine(self, leave: bool = False) -> None:
        self.chain.mine(leave={item.hash for item in self.chain.mempool} if leave else ())
        self.client.announce()

    async def reorganise(self, depth: int) -> None:
        self.chain.reorganise(depth, drop=True)


class TestFake(ChainClientContract):
    @pytest.fixture
    def bench(self):
        return FakeBench()


async def test_a_hint_wakes_who_waits():
    """At once; a hint that is lost leaves it to the time."""
    bench = FakeBench()
    waiting = asyncio.ensure_future(bench.client.changed(60))
    await asyncio.sleep(0)
    await bench.mine()
    await asyncio.wait_for(waiting, 5)
    bench.client.faults = Faults(hints_lost=1)
    await bench.mine()
    await bench.client.changed(0.01)


async def test_what_is_down_answers_nothing():
    """Until it is up again."""
    bench = FakeBench()
    bench.client.faults.down = True
    with pytest.raises(Unavailable):
        await bench.client.head()
    bench.client.faults.down = False
    assert await bench.client.head()
