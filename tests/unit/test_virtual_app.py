"""Virtual app channels at their two app parties: real engines, a stand-in for ledgers and hubs (`sim_backing.py`)."""

from __future__ import annotations

from scapp.channels.entries import Kind
from tests.support.checkers import Watch, check_log
from tests.support.sim import Sim
from tests.support.sim_backing import SimBacking


def test_a_whole_life_through_a_hub() -> None:
    sim = Sim(2, seed=3)
    Watch(sim)
    behind = SimBacking(sim, 1)
    channel = behind.open((7, 3))
    sim.run()
    alice, bob = sim.nodes
    assert [n.engine(channel).phase for n in sim.nodes] == ["funding"] * 2
    print(alice.engine(channel).waiting_for)
    behind.calm()
    assert [n.engine(channel).phase for n in sim.nodes] == ["running"] * 2
    bob.submit(channel, b"move:0:1:2")
    sim.run()
    alice.submit(channel, b"", kind=Kind.CLOSE)
    sim.run()
    assert [n.engine(channel).phase for n in sim.nodes] == ["closed"] * 2
    print(alice.engine(channel).waiting_for)
    behind.calm()
    assert [n.engine(channel).phase for n in sim.nodes] == ["settled"] * 2
    assert behind.behind[channel].paid == (5, 5)
    for node in sim.nodes:
        check_log(node.log, channel)
