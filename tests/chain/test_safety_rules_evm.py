"""The safety rules about money (docs/reference/app-channel.md section 4) on the compiled contracts, also the published.

The stories are those of `tests/scenarios`, told on the model of the chain: afterwards every transaction that the nodes
and their enemies sent goes to the contracts, which have to do the same.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from scapp.channels.chain import calls
from scapp.channels.chain.contracts import Contract, load
from scapp.channels.driver import advances
from scapp.channels.errors import LocalError
from scapp.channels.onchain import Conclude
from scapp.channels.types import ZERO_ADDRESS, ChannelId
from tests.chain import published
from tests.chain.cast import World
from tests.scenarios.test_disputes import MOVES, register
from tests.support.plain_chain import CONSENSUS, RICH
from tests.support.sim_chain import DURATION_S, ChainSim, close, play, running

BROUGHT = [(5,), (3,), (2,)]
SETS = {"ours": load, "published": published.load}


@pytest.fixture(params=SETS)
def contracts(request: pytest.FixtureRequest) -> Callable[[str], Contract]:
    return SETS[request.param]


def on_contracts(sim: ChainSim, contracts: Callable[[str], Contract], *channels: bytes) -> list[str | None]:
    """Sends all that was sent; after each block events, statuses and holdings, in the end everybody's coin are those of
    the model. The reasons of refusals, None for success, in their order."""
    world = World(contracts)
    world.evm.place(CONSENSUS, world.consensus.address)  # where the channels say that it is
    for node in sim.nodes:
        world.evm.fund(sim.account(node), RICH)
    reasons = []
    for block in sim.chain.blocks[1:]:
        world.evm.timestamp, logs = block.time_s, []
        for sent, receipt in zip(block.transactions, block.receipts, strict=True):
            assert sent.call is not None
            data = calls.encode_call(sent.call)
            done = world.evm.send(sent.sender, world.adjudicator.address, data, sent.value)
            assert done.reason == receipt.reason, sent.call
            reasons.append(done.reason)
            logs += [(log.topics, log.data) for log in done.logs]
        assert logs == [(log.topics, log.data) for log in block.logs]
        for channel in channels:
            assert world.status(channel) == block.world.status.get(ChannelId(channel), bytes(32))
            assert world.holdings(ZERO_ADDRESS, channel) == block.world.held(ZERO_ADDRESS, ChannelId(channel))
    assert [world.evm.balance(sim.account(node)) - RICH for node in sim.nodes] == [
        sim.paid(node)[0] for node in sim.nodes
    ]
    return reasons


def older(sim: ChainSim, channel: bytes, turn: int) -> None:
    """The last participant takes the state of that turn to the chain."""
    states = [state for state, _ in advances(sim.nodes[-1].log, channel)]
    register(sim, sim.nodes[-1], channel, states[turn])


@pytest.mark.parametrize("count", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_rule_5_a_final_state_is_paid_whatever_older_one_is_shown(contracts, count: int) -> None:
    """A stale challenge stands when everybody has closed: the final state ends it at once, and nothing comes after."""
    sim, channel = running(BROUGHT[:count])
    play(sim, channel, *MOVES)
    close(sim, channel)
    older(sim, channel, 1)
    sim.chain.mine()
    older(sim, channel, 2)
    sim.until(lambda: set(sim.phases(channel)) == {"settled"})
    head = sim.nodes[0].engine(channel).state.head
    assert head is not None
    paid = sim.nodes[0].engine(channel).state.setup.unpack(head.amounts)
    assert [sim.paid(node)[0] for node in sim.nodes] == [
        out - each for out, (each,) in zip(paid, BROUGHT, strict=False)
    ]
    on_contracts(sim, contracts, channel)


@pytest.mark.parametrize("count", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_rule_7_an_older_state_is_answered_and_who_is_left_alone_is_paid(contracts, count: int) -> None:
    """By one participant alone: every other is silent, and the last one has tried each of its older states."""
    sim, channel = running(BROUGHT[:count])
    play(sim, channel, *MOVES)
    alice = sim.nodes[0]
    sim.mute = set(range(1, count))
    for turn in range(4):
        older(sim, channel, turn)
        sim.blocks(5)
    assert sim.phases(channel)[0] == "running"
    alice.input(channel, lambda engine, _: engine.leave("test"))
    sim.until(lambda: sim.phases(channel)[0] == "settled", blocks=DURATION_S // 12 + 15)
    assert [sim.paid(node)[0] for node in sim.nodes] == [0, 0, 0][:count], "the moves cancel each other out"
    reasons = on_contracts(sim, contracts, channel)
    assert reasons.count("turnNumRecord decreased.") == 3, "answered once; what is older than the answer is refused"


def test_rule_8_nothing_is_signed_before_funding_or_under_a_challenge(contracts) -> None:
    """Words wait for the last deposit, and again for the answer to a challenge."""
    sim = ChainSim(2)
    channel = sim.fund((5,), (3,))
    sim.run()
    sim.nodes[1].submit(channel, b"move:0:1:1")
    sim.blocks(2)
    assert {node.engine(channel).state.turn for node in sim.nodes} == {0}
    sim.until(lambda: [node.engine(channel).state.turn for node in sim.nodes] == [2, 2])
    older(sim, channel, 0)
    sim.chain.mine()
    sim.show()
    sim.nodes[1].submit(channel, b"move:0:1:1")
    sim.run()
    assert {node.engine(channel).state.signed_turn for node in sim.nodes} == {2}
    sim.until(lambda: [node.engine(channel).state.turn for node in sim.nodes] == [3, 3])
    close(sim, channel)
    sim.until(lambda: set(sim.phases(channel)) == {"settled"})
    assert [sim.paid(node)[0] for node in sim.nodes] == [-2, 2]
    on_contracts(sim, contracts, channel)


def test_rule_9_a_channel_that_was_paid_has_no_second_life(contracts) -> None:
    """The contract has forgotten it: an older state can be registered, and money deposited. Nobody signs anything."""
    sim, channel = running(BROUGHT[:2])
    play(sim, channel, *MOVES)
    close(sim, channel)
    sim.until(lambda: set(sim.phases(channel)) == {"settled"})
    sent = len(sim.transactions)
    sim.raw(sim.nodes[1], calls.Deposit(ZERO_ADDRESS, ChannelId(channel), 0, 1), value=1)
    older(sim, channel, 1)
    sim.blocks(5)
    after = [each for _, each in sim.transactions[sent:]]
    assert all(isinstance(each, Conclude) for each in after), "dust is paid by the final state; nothing is deposited"
    for node in sim.nodes:
        with pytest.raises(LocalError, match="channel is "):
            node.submit(channel, b"word")
    on_contracts(sim, contracts, channel)


def test_money_moves_into_a_successor(contracts) -> None:
    """By one transaction; an older state of the channel that it takes over from comes too late."""
    sim, channel = running(BROUGHT[:2])
    play(sim, channel, *MOVES)
    new = sim.resize(channel, {0: {ZERO_ADDRESS: 2}, 1: {ZERO_ADDRESS: 1}})
    sim.until(lambda: sim.phases(channel) == ["closed", "closed"])
    older(sim, channel, 1)
    sim.until(lambda: sim.phases(new) == ["running", "running"])
    close(sim, new)
    sim.until(lambda: sim.phases(new) == ["settled", "settled"])
    assert [sim.paid(node)[0] for node in sim.nodes] == [0, 0]
    on_contracts(sim, contracts, channel, new)
