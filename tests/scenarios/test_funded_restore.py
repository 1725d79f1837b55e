"""A funded channel of a node that was restored from an old backup: it claims nothing that may be old (rule 10)."""

from __future__ import annotations

import pytest

from scapp.channels.errors import LocalError
from scapp.channels.onchain import Challenge, Checkpoint, Deposit
from tests.support.sim_chain import ChainSim, close, play, running


def restored(*, asleep: bool) -> tuple[ChainSim, bytes]:
    """Bob goes on with a backup from before the last two batches, while Alice is away or there."""
    sim, channel = running([(5,), (3,)])
    alice, bob = sim.nodes
    backup = bob.log.durable_copy()
    play(sim, channel, b"move:0:1:1", b"move:0:1:2")
    if asleep:
        sim.silence(alice)
    bob.restore(backup)
    sim.show()
    sim.run()
    return sim, channel


def test_it_neither_leaves_nor_challenges_while_it_recovers() -> None:
    """Its newest state is not the newest: to claim it would be a cheat's challenge."""
    sim, channel = restored(asleep=True)
    bob = sim.nodes[1]
    assert bob.engine(channel).phase == "recovering"
    with pytest.raises(LocalError, match="recovering"):
        bob.engine(channel).leave("too slow")
    sim.blocks(30)
    assert not [each for index, each in sim.transactions if index == 1 and isinstance(each, Challenge)]
    assert [type(each) for index, each in sim.transactions if index == 1] == [Deposit], "the one from before"


def test_it_goes_on_once_the_other_has_told_and_is_paid_right() -> None:
    """Nothing of the two batches is lost, and the money follows them."""
    sim, channel = restored(asleep=False)
    sim.settle()
    assert sim.phases(channel) == ["running", "running"]
    close(sim, channel)
    sim.until(lambda: set(sim.phases(channel)) == {"settled"})
    assert [sim.paid(node) for node in sim.nodes] == [(-3,), (3,)]
    assert not [each for _, each in sim.transactions if isinstance(each, Challenge | Checkpoint)]
