"""Money leaves a channel that goes on: its successor takes over the rest, and nobody can lose by it at any step."""

from __future__ import annotations

import pytest

from scapp.channels.onchain import Conclude, Deposit
from scapp.channels.types import ZERO_ADDRESS, ChannelId
from tests.support.sim_chain import ChainSim, close, play, running

COIN = ZERO_ADDRESS


def resized(*brought: int, out: dict[int, int]) -> tuple[ChainSim, bytes, bytes]:
    """A channel that ran, its successor, and all that follows until the one is settled and the other runs."""
    sim, channel = running([(amount,) for amount in brought])
    new = sim.resize(channel, {index: {COIN: amount} for index, amount in out.items()})
    sim.run()
    return sim, channel, new


def amounts(sim: ChainSim, channel: bytes, index: int = 0) -> tuple[int, ...]:
    state = sim.nodes[index].engine(channel).state
    assert state.head is not None
    return state.setup.unpack(state.head.amounts)


def held(sim: ChainSim, channel: bytes) -> int:
    return sim.chain.world.held(COIN, ChannelId(channel))


@pytest.mark.parametrize("count", [2, 3])
def test_what_is_taken_out_is_paid_and_the_rest_goes_on(count: int) -> None:
    sim, channel = running([(10,)] * count)
    play(sim, channel, b"move:0:1:4")
    new = sim.resize(channel, {0: {COIN: 1}, 1: {COIN: 6}})
    sim.until(lambda: set(sim.phases(new)) == {"running"})
    assert set(sim.phases(channel)) == {"settled"}
    assert [sim.paid(node)[0] for node in sim.nodes] == [-9, -4, -10][:count], "10 in, 1 and 6 out"
    assert (held(sim, channel), held(sim, new)) == (0, 10 * count - 7)
    assert amounts(sim, new) == (5, 8, 10)[:count]
    play(sim, new, b"move:1:0:2")
    close(sim, new)
    sim.until(lambda: set(sim.phases(new)) == {"settled"})
    assert [sim.paid(node)[0] for node in sim.nodes] == [-2, 2, 0][:count]
    conclusions = [each for _, each in sim.transactions if isinstance(each, Conclude)]
    assert len(conclusions) == 2, "one transaction moved and paid"
    assert len([each for _, each in sim.transactions if isinstance(each, Deposit)]) == count, "and nobody deposited"
