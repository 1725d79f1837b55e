"""The transport contract over the in-process network, and what only that network can do."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from scapp.channels.errors import LocalError
from scapp.channels.signing import Signer
from scapp.channels.transport.fake import FakeNetwork, FakeTransport
from tests.contracts.transport_contract import Bench, TransportContract, numbered
from tests.support.transport_bench import ALICE, BOB, CAROL, LIMITS, Node


class FakeBench(Bench):
    def __init__(self, seed: int) -> None:
        super().__init__()
        self.network = FakeNetwork(seed, automatic=True)

    def make(self, signer: Signer) -> FakeTransport:
        return FakeTransport(self.network, signer.address, LIMITS)

    def break_link(self, one: Node, other: Node) -> None:
        self.network.drop_link(one.address, other.address)


@pytest.fixture(params=[1, 2, 3])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[FakeBench]:
    bench = FakeBench(request.param)
    yield bench
    await bench.close()


class TestFakeTransport(TransportContract):
    """The contract, with three orders of steps."""


async def two_nodes(network: FakeNetwork) -> tuple[Node, Node]:
    alice = await Node(FakeTransport(network, ALICE.address)).start()
    bob = await Node(FakeTransport(network, BOB.address)).start()
    alice.transport.add_peer(bob.address, bob.transport.endpoint)
    return alice, bob


async def test_nothing_happens_without_a_step() -> None:
    """By hand, each call takes one step: link, delivery, acknowledgement."""
    network = FakeNetwork()
    alice, bob = await two_nodes(network)
    alice.send(bob, b"hello")
    assert network.possible_steps() == [("connect", ALICE.address, BOB.address)]
    assert await network.deliver_next()
    assert alice.links == [(bob.address, True)]
    assert bob.messages == []
    assert await network.deliver_next()
    assert bob.bodies() == [b"hello"]
    assert alice.acked == []
    assert await network.deliver_next()
    assert alice.acked == [0]
    assert not await network.deliver_next()


async def test_a_seed_repeats_and_seeds_differ() -> None:
    """One seed always gives the same interleaving of two senders; others give others."""

    async def run(seed: int) -> list[bytes]:
        network = FakeNetwork(seed)
        alice, bob = await two_nodes(network)
        carol = await Node(FakeTransport(network, CAROL.address)).start()
        carol.transport.add_peer(bob.address, bob.transport.endpoint)
        alice.send(bob, *(b"a%d" % n for n in range(10)))
        carol.send(bob, *(b"c%d" % n for n in range(10)))
        await network.run_until_idle()
        return bob.bodies()

    assert await run(7) == await run(7)
    assert len({tuple(await run(seed)) for seed in range(5)}) > 1


async def test_partition_and_heal() -> None:
    """Across a partition nothing passes; after healing everything does, once."""
    network = FakeNetwork(3)
    alice, bob = await two_nodes(network)
    await network.run_until_idle()
    network.partition([alice.address], [bob.address])
    assert alice.links[-1] == (bob.address, False)
    alice.send(bob, *numbered(5))
    assert await network.run_until_idle() == 0
    network.heal()
    await network.run_until_idle()
    assert bob.bodies() == numbered(5)
    assert alice.acked == list(range(5))


@pytest.mark.parametrize("seed", range(10))
async def test_dropping_links_loses_and_doubles_nothing(seed: int) -> None:
    """With links dropping all the time every message still arrives once and in order."""
    network = FakeNetwork(seed, drop_rate=0.3)
    alice, bob = await two_nodes(network)
    alice.send(bob, *numbered(30))
    for _ in range(10_000):
        if len(alice.acked) == 30:
            break
        await network.deliver_next()
    assert bob.bodies() == numbered(30)
    assert (bob.address, False) in alice.links


async def test_duplicates_when_asked_for() -> None:
    """The duplicate rate hands messages over again, next to each other and in order."""
    network = FakeNetwork(5, duplicate_rate=0.5)
    alice, bob = await two_nodes(network)
    alice.send(bob, *numbered(20))
    await network.run_until_idle()
    assert len(bob.messages) > 20
    assert list(dict.fromkeys(bob.bodies())) == numbered(20)
    assert len(alice.acked) == 20


async def test_crash_and_restart() -> None:
    """A crashed node's unacknowledged input is delivered to its next life; its listener hears nothing."""
    network = FakeNetwork(1)
    alice, bob = await two_nodes(network)
    alice.send(bob, b"one")
    await network.deliver_next()
    await network.deliver_next()
    assert bob.bodies() == [b"one"]
    network.crash(bob.address)
    assert bob.links == [(alice.address, True)]
    assert alice.links[-1] == (bob.address, False)
    again = await Node(FakeTransport(network, BOB.address)).start()
    await network.run_until_idle()
    assert again.bodies() == [b"one"]
    assert alice.acked == [0]


async def test_one_node_per_address() -> None:
    """An address joins once."""
    network = FakeNetwork()
    await two_nodes(network)
    with pytest.raises(LocalError, match=ALICE.address.hex()):
        await Node(FakeTransport(network, ALICE.address)).start()


async def test_a_network_that_never_rests_is_an_error() -> None:
    """`run_until_idle` does not run for ever."""
    network = FakeNetwork(1, duplicate_rate=1.0)
    alice, bob = await two_nodes(network)
    alice.send(bob, b"again")
    with pytest.raises(LocalError, match="after 50 steps"):
        await network.run_until_idle(steps_max=50)
