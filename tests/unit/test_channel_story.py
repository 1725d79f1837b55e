"""The plain story of an app channel, told by the simulated network without faults."""

from __future__ import annotations

import pytest

from scapp.channels.entries import Kind, decode_entry
from scapp.channels.errors import LocalError
from tests.support.sim import Sim


@pytest.mark.parametrize("count", [2, 3, 4])
def test_open_order_and_close(count: int) -> None:
    """All participants end with the same log, root and a final state."""
    sim = Sim(count)
    sequencer, *others = sim.nodes
    channel = sequencer.open(others)
    sim.run()
    assert [n.engine(channel).phase for n in sim.nodes] == ["running"] * count
    for round_ in range(3):
        for node in sim.nodes:
            node.submit(channel, b"hello %d from %d" % (round_, node.index))
        sim.run()
    assert len(sequencer.supported(channel)) == 1 + 3 * count
    sim.nodes[-1].submit(channel, b"", kind=Kind.CLOSE)
    sim.run()
    heads = {(n.engine(channel).state.head.turn, n.engine(channel).state.head.log_root) for n in sim.nodes}
    assert len(heads) == 1
    assert [n.engine(channel).phase for n in sim.nodes] == ["closed"] * count
    assert decode_entry(sequencer.supported(channel)[-1]).kind == Kind.CLOSE
    sim.check(channel)


def test_refused_submissions_are_told_with_their_reason_and_leave_no_entry() -> None:
    sim = Sim(2)
    alice, bob = sim.nodes
    channel = alice.open([bob])
    sim.run()
    bob.submit(channel, b"good 1", b"bad one", b"good 2")
    alice.submit(channel, b"bad two")
    sim.run()
    payloads = [decode_entry(e).payload for e in alice.supported(channel)[1:]]
    assert payloads == [b"good 1", b"good 2"]
    assert bob.decided == [(2, "rejected", "the payload is bad")]
    assert alice.decided == [(1, "rejected", "the payload is bad")]


def test_messages_gather_while_a_proposal_is_in_flight() -> None:
    """One signature per party and batch, whatever the number of messages."""
    sim = Sim(2)
    alice, bob = sim.nodes
    channel = alice.open([bob])
    sim.run()
    for i in range(50):
        alice.submit(channel, b"m%d" % i)
    turn_before = alice.engine(channel).state.signed_turn
    sim.run()
    assert len(alice.supported(channel)) == 51
    assert alice.engine(channel).state.turn == turn_before + 1


def test_submitting_to_a_closed_channel_says_so() -> None:
    sim = Sim(2)
    alice, bob = sim.nodes
    channel = alice.open([bob])
    sim.run()
    alice.submit(channel, b"", kind=Kind.CLOSE)
    sim.run()
    with pytest.raises(LocalError, match="closed"):
        bob.engine(channel).submit((b"late",), Kind.MESSAGE)


def test_outcome_follows_the_app() -> None:
    """What the app sets as amounts is what the next state of each participant pays out."""
    sim = Sim(2)
    alice, bob = sim.nodes
    channel = alice.open([bob], slots=(10, 5))
    sim.run()
    bob.submit(channel, b"move:0:1:4")
    sim.run()
    state = bob.engine(channel).state
    assert state.setup.unpack(state.head.amounts) == (6, 9)


def test_a_node_that_restarts_goes_on_where_it_was() -> None:
    sim = Sim(2)
    alice, bob = sim.nodes
    channel = alice.open([bob])
    sim.run()
    bob.submit(channel, b"one")
    sim.run()
    for node in (alice, bob):
        node.crash()
        node.start()
    sim.run()
    bob.submit(channel, b"two")
    alice.submit(channel, b"three")
    sim.run()
    assert len(bob.supported(channel)) == 4
    sim.check(channel)


def test_a_rejected_channel_never_runs() -> None:
    sim = Sim(3)
    alice, bob, carol = sim.nodes
    carol.accept = False
    channel = alice.open([bob, carol])
    sim.run()
    carol.input(channel, lambda e, _: e.reject("not today"))
    sim.run()
    assert [n.engine(channel).phase for n in sim.nodes] == ["rejected"] * 3
    assert "not today" in alice.engine(channel).state.rejected
