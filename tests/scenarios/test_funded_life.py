"""Funded channels from deposit to payout: the plain story, deposit order, several assets, top-ups, crashes."""

from __future__ import annotations

import pytest

from scapp.channels.chain import calls
from scapp.channels.channel.setup import SetupError
from scapp.channels.errors import LocalError
from scapp.channels.onchain import Conclude, Deposit
from scapp.channels.types import ZERO_ADDRESS, Address, ChannelId
from tests.support.plain_chain import CONFIRMATIONS, TOKEN
from tests.support.sim import START_MS
from tests.support.sim_chain import DURATION_S, ChainSim, close, running

COIN = (ZERO_ADDRESS,)
ASSETS = {"coin": COIN, "token": (TOKEN,), "both": (ZERO_ADDRESS, TOKEN)}
BROUGHT = ((5, 7), (3, 4), (2, 0))


def started(count: int, assets: tuple[Address, ...] = COIN) -> tuple[ChainSim, bytes]:
    """A channel that is fully funded and runs."""
    return running([each[: len(assets)] for each in BROUGHT[:count]], assets=assets)


@pytest.mark.parametrize("assets", ASSETS)
@pytest.mark.parametrize("count", [2, 3])
def test_deposit_play_close_and_payout(count: int, assets: str) -> None:
    """What the app says at the end is what everybody's account gains or loses."""
    sim, channel = started(count, ASSETS[assets])
    sim.nodes[1].submit(channel, b"move:0:1:2")  # the first two slots of the first asset
    sim.run()
    close(sim, channel)
    sim.until(lambda: set(sim.phases(channel)) == {"settled"})
    nothing = (0,) * (len(ASSETS[assets]) - 1)
    assert [sim.paid(node) for node in sim.nodes] == [(-2, *nothing), (2, *nothing), (0, *nothing)][:count]
    kinds = [type(each) for _, each in sim.transactions]
    assert kinds.count(Conclude) == 1, "one participant pays for the conclusion"
    assert all(node.engine(channel).wanted(sim.head_time_s(), node.now()) == () for node in sim.nodes)


@pytest.mark.parametrize("count", [2, 3])
def test_deposits_go_in_the_order_of_their_priority(count: int) -> None:
    """Nobody deposits before all that ranks before it is confirmed."""
    sim, channel = started(count)
    order = [index for index, each in sim.transactions if isinstance(each, Deposit)]
    assert order == list(range(count))
    held = 0
    for block in sim.chain.blocks:
        for transaction in block.transactions:
            below = sim.chain.block(max(0, block.number - 1 - CONFIRMATIONS))
            assert below is not None
            assert below.world.held(ZERO_ADDRESS, ChannelId(channel)) == held
            held += transaction.value


def test_nothing_is_deposited_before_everybody_has_signed_the_prefund_state() -> None:
    sim = ChainSim(3)
    sim.silence(sim.nodes[2])
    channel = sim.fund((5,), (3,), (2,))
    sim.run()
    sim.blocks(20)
    assert sim.phases(channel)[:2] == ["opening", "opening"]
    assert sim.transactions == []


def test_a_deposit_of_a_stranger_makes_ours_smaller_and_hurts_nobody() -> None:
    """One wei of somebody else is topped up; what is too much stays for whoever ranks first."""
    sim = ChainSim(2)
    channel = sim.fund((5,), (3,))
    sim.run()
    sim.raw(sim.nodes[1], calls.Deposit(ZERO_ADDRESS, ChannelId(channel), 0, 1), 1)
    sim.until(lambda: set(sim.phases(channel)) == {"running"})
    assert sim.chain.world.held(ZERO_ADDRESS, ChannelId(channel)) == 8
    close(sim, channel)
    sim.until(lambda: set(sim.phases(channel)) == {"settled"})
    assert [sim.paid(node) for node in sim.nodes] == [(1,), (-1,)]


def test_a_payout_with_dust_left_behind_is_settled() -> None:
    """A stranger's wei must not keep a channel open for ever."""
    sim, channel = started(2)
    sim.raw(sim.nodes[1], calls.Deposit(ZERO_ADDRESS, ChannelId(channel), 8, 1), 1)
    sim.blocks(5)
    close(sim, channel)
    sim.until(lambda: set(sim.phases(channel)) == {"settled"})
    sim.raw(sim.nodes[0], calls.Deposit(ZERO_ADDRESS, ChannelId(channel), 1, 1), 1)
    sent = len(sim.transactions)
    sim.blocks(10)
    assert set(sim.phases(channel)) == {"settled"}
    assert len(sim.transactions) == sent


@pytest.mark.parametrize("paid_out", [False, True])
def test_a_first_deposit_that_went_while_its_owner_was_away_is_not_made_again(*, paid_out: bool) -> None:
    """A reorganisation dropped it; or all was paid out, and what had been confirmed before is there again as a lure.
    Both look alike, and cost Bob nothing."""
    sim = ChainSim(2)
    channel = sim.fund((5,), (3,))
    alice, bob = sim.nodes
    sim.until(lambda: sim.chain.world.held(ZERO_ADDRESS, ChannelId(channel)) == 8)
    sim.silence(bob)
    if paid_out:
        alice.input(channel, lambda engine, _: engine.leave("test"))
        sim.until(lambda: sim.phases(channel)[0] == "settled", seconds=120)
        assert [sim.paid(node) for node in sim.nodes] == [(0,), (0,)]
        sim.silence(alice)
        sim.raw(alice, calls.Deposit(ZERO_ADDRESS, ChannelId(channel), 0, 5), 5)
    else:
        sim.chain.reorganise(1, drop=True)
    sim.blocks(6, DURATION_S // 5)
    sim.unsilence(bob)
    sim.blocks(5)
    assert sim.phases(channel)[1] == "funding"
    assert "does not make again; close or leave it" in bob.engine(channel).waiting_for
    assert sim.chain.world.held(ZERO_ADDRESS, ChannelId(channel)) == 5
    bob.input(channel, lambda engine, _: engine.leave("test"))
    sim.until(lambda: sim.phases(channel)[1] == "settled", seconds=120)
    assert [sim.paid(node) for node in sim.nodes] == [(0,), (0,)]


def test_when_participant_0_does_not_conclude_the_next_one_does() -> None:
    """Each waits its turn, so that nobody waits for ever and rarely two pay."""
    sim, channel = started(3)
    close(sim, channel)
    sim.silence(sim.nodes[0])
    sim.until(lambda: sim.phases(channel)[1:] == ["settled"] * 2)
    assert [index for index, each in sim.transactions if isinstance(each, Conclude)] == [1]


def test_the_operator_need_not_wait_for_the_participants_before() -> None:
    sim, channel = started(2)
    close(sim, channel)
    bob = sim.nodes[1]
    assert bob.engine(channel).wanted(sim.head_time_s(), START_MS) == ()
    bob.input(channel, lambda engine, _: engine.conclude_now())
    assert [type(each) for each in bob.engine(channel).wanted(sim.head_time_s(), START_MS)] == [Conclude]


def test_a_running_channel_has_nothing_to_conclude() -> None:
    sim, channel = started(2)
    with pytest.raises(LocalError, match="running"):
        sim.nodes[0].engine(channel).conclude_now()


@pytest.mark.parametrize("index", [0, 1])
def test_funding_goes_on_after_a_crash_at_any_time(index: int) -> None:
    """What was wanted before the crash is wanted after it, and nothing twice."""
    sim = ChainSim(2)
    channel = sim.fund((5,), (3,))
    sim.run()
    for _ in range(30):
        sim.block()
        sim.nodes[index].crash()
        sim.nodes[index].start()
        sim.show()
    assert sim.phases(channel) == ["running", "running"]
    assert sim.chain.world.held(ZERO_ADDRESS, ChannelId(channel)) == 8
    assert sum(isinstance(each, Deposit) for _, each in sim.transactions) == 2


@pytest.mark.parametrize(
    ("amounts", "reason"),
    [
        ([(5,), (0,)], None),
        ([(0,), (0,)], "begins with nothing"),
    ],
)
def test_slots_that_cannot_be_funded_are_refused(amounts: list[tuple[int]], reason: str | None) -> None:
    """A participant may bring nothing; somebody must bring something."""
    sim = ChainSim(2)
    if reason is None:
        sim.fund(*amounts)
        return
    with pytest.raises(SetupError, match=reason):
        sim.fund(*amounts)


def test_pause_points_are_said_in_words() -> None:
    """For each moment of funding and payout, who is waited for and for what."""
    sim = ChainSim(2)
    channel = sim.fund((5,), (3,))
    sim.run()
    said: list[tuple[str, str]] = []

    def note() -> bool:
        words = tuple(node.engine(channel).waiting_for for node in sim.nodes)
        if not said or said[-1] != words:
            said.append(words)
        return set(sim.phases(channel)) == {"running"}

    sim.until(note)
    assert said == [
        ("the chain to be read", "the chain to be read"),
        ("this node's deposit of 5 wei", "participant 0's deposit of 5 wei"),
        ("participant 1's deposit of 3 wei", "this node's deposit of 3 wei, once those before it are confirmed"),
        ("participant 1's deposit of 3 wei", "this node's deposit of 3 wei"),
        ("the deposits to be confirmed", "the deposits to be confirmed"),
        ("", ""),
    ]
    said.clear()
    close(sim, channel)
    sim.until(lambda: note() or set(sim.phases(channel)) == {"settled"})
    assert [words[0] for words in said] == [
        "the final state to be concluded on chain",
        "the payout to be confirmed",
        "",
    ]
