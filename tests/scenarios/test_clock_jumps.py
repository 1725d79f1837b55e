"""Clocks that are set forward or back under a running channel: no wrong time is signed, and it goes on afterwards."""

from __future__ import annotations

import pytest

from scapp.channels.channel.ordering import REFUSALS_PER_WINDOW_MAX
from tests.support.checkers import Watch, check_log
from tests.support.sim import Sim, SimNode

HOUR_MS = 3_600_000


def opened(players: int = 2) -> tuple[Sim, bytes]:
    sim = Sim(players)
    Watch(sim)
    channel = sim.nodes[0].open(sim.nodes[1:])
    sim.settle(rounds=2)
    return sim, channel


def rounds(sim: Sim, count: int = 5) -> None:
    for _ in range(count):
        sim.tick(31_000)
        sim.run()


@pytest.mark.parametrize(
    ("victim", "jump_ms"),
    [(0, HOUR_MS), (0, 400 * 24 * HOUR_MS), (1, HOUR_MS), (1, -HOUR_MS), (1, -400 * 24 * HOUR_MS)],
)
def test_a_jump_of_one_clock_stops_the_channel_until_it_is_set_right(victim: int, jump_ms: int) -> None:
    """Times outside the tolerance are refused; what was submitted meanwhile is ordered afterwards."""
    sim, channel = opened()
    node = sim.nodes[victim]
    before = [node.engine(channel).state.turn for node in sim.nodes]
    node.clock_offset_ms = jump_ms
    sim.nodes[0].submit(channel, b"while the clocks differ")
    sim.run()
    rounds(sim)
    assert [node.engine(channel).state.turn for node in sim.nodes] == before
    assert "time" in sim.nodes[0].engine(channel).waiting_for
    node.clock_offset_ms = 0
    rounds(sim)
    sim.nodes[1].submit(channel, b"afterwards")
    rounds(sim)
    logs = [node.supported(channel) for node in sim.nodes]
    assert logs[0] == logs[1]
    assert [entry[-10:] for entry in logs[0]][-1] == b"afterwards"
    assert len(logs[0]) == 3
    for each in sim.nodes:
        check_log(each.log, channel)


@pytest.mark.parametrize("victims", [(0,), (0, 1)], ids=["the sequencer's", "everybody's"])
def test_a_clock_that_goes_back_stamps_the_last_time_again(victims: tuple[int, ...]) -> None:
    """Times in the log never decrease: the last state's time is used until the clocks have passed it."""
    sim, channel = opened()
    sim.nodes[0].submit(channel, b"first")
    sim.run()
    before = sim.nodes[0].engine(channel).state.time_ms
    for victim in victims:
        sim.nodes[victim].clock_offset_ms = -HOUR_MS
    sim.nodes[1].submit(channel, b"second")
    rounds(sim)
    assert [len(node.supported(channel)) for node in sim.nodes] == [3, 3]
    assert sim.nodes[0].engine(channel).state.time_ms == before
    check_log(sim.nodes[1].log, channel)


@pytest.mark.parametrize("jump_ms", [HOUR_MS, -HOUR_MS, -400 * 24 * HOUR_MS])
def test_asking_where_others_stand_does_not_wait_for_a_clock(jump_ms: int) -> None:
    """A lost signature comes back within the usual pauses, whatever the clock has done meanwhile."""
    sim, channel = opened()
    sim.nodes[0].submit(channel, b"signed, and the answer is lost")
    sim.tick(2_000)
    sim.queue.clear()
    for node in sim.nodes:
        node.tick()
    sim.queue.clear()
    sim.now_ms += jump_ms
    for _ in range(4):
        sim.tick(31_000)
        sim.run()
    assert [len(node.supported(channel)) for node in sim.nodes] == [2, 2]


def test_a_clock_that_goes_back_keeps_nobody_limited() -> None:
    """Refusals that seem to lie in the future do not count."""
    sim, channel = opened()
    alice, bob = sim.nodes
    for number in range(REFUSALS_PER_WINDOW_MAX + 1):
        bob.submit(channel, b"bad %d" % number)
        sim.run()
    sim.now_ms -= HOUR_MS
    limited = [text for text in alice.refused if "submissions refused" in text]
    bob.submit(channel, b"good")
    rounds(sim)
    assert _accepted(bob, channel) == [b"good"]
    assert len([text for text in alice.refused if "submissions refused" in text]) == len(limited)


def _accepted(node: SimNode, channel: bytes) -> list[bytes]:
    return [entry[-4:] for entry in node.supported(channel)[1:]]
