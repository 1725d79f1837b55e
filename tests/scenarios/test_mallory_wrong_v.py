"""A signature whose r and s are right and whose v is not: the contracts would recover a stranger from it.

Nodes take it, for whoever signed is bound by r and s; v follows from them, and a node finds the right one before a full
set goes anywhere (ADR 0026). So Mallory gains nothing, wherever her signature travels.
"""

from __future__ import annotations

import msgspec
import pytest

from scapp.channels.channel.events import (
    SignatureSeen,
    StateAdopted,
    StateCompleted,
    StateSigned,
    StateSupported,
    decode_event,
)
from scapp.channels.channel.full_set import enforceable, fully_signed
from scapp.channels.channel.messages import Countersign, Refuse, Status, Supported
from scapp.channels.signing import Verifier
from tests.support.checkers import Watch, check_log, plain_hash, with_other_v
from tests.support.mallory import Mallory
from tests.support.sim import Sim, SimNode


def table(count: int, seat: int) -> tuple[Sim, Mallory, list[SimNode], bytes]:
    """A running channel whose participant `seat` is Mallory, and the honest others, who are watched."""
    sim = Sim(count)
    Watch(sim, set(range(count)) - {seat})
    channel = sim.nodes[0].open(sim.nodes[1:], slots=(10, 5))
    sim.run()
    mallory = Mallory(sim, sim.nodes[seat], channel)
    return sim, mallory, [node for node in sim.nodes if node.index != seat], channel


def flipped(message: Countersign) -> Countersign:
    return msgspec.structs.replace(message, signature=with_other_v(message.signature))


def countersign_flipped(mallory: Mallory, honest: list[SimNode], channel: bytes, payload: bytes) -> None:
    """The sequencer orders a message; Mallory signs for everybody, with the other v."""
    honest[0].submit(channel, payload)
    mallory.sim.run()
    newest = honest[0].engine(channel).state.candidates[-1]
    answer = flipped(mallory.countersign(honest[0], newest.turn))
    for node in honest:
        mallory.say(node, answer)


def stored_signatures(node: SimNode, channel: bytes) -> set[bytes]:
    """Every signature in the node's log."""
    found: set[bytes] = set()
    for page in node.log.read(channel):
        for data in page.events:
            match decode_event(data):
                case StateSigned(state) | StateCompleted(state) | StateAdopted(state):
                    found.update(state.signatures)
                case StateSupported(_, signatures):
                    found.update(signatures)
                case SignatureSeen(_, _, signature):
                    found.add(signature)
    return found


def leaves_with(node: SimNode, channel: bytes) -> int:
    """The turn with which the node can go to the contracts now: each signature recovers its participant."""
    state = node.engine(channel).state
    full = fully_signed(state) or state.head
    assert full is not None
    digest = state.setup.hash(full)
    for participant, signature in zip(state.setup.participants, enforceable(state, full), strict=True):
        assert Verifier(participant).matches(digest, signature)
    return full.turn


@pytest.mark.parametrize("count", [2, 3])
def test_a_countersignature_with_the_wrong_v_binds_and_the_set_can_be_enforced(count: int) -> None:
    """It counts, it is stored as it came, and the exit is as good as with the right v."""
    _sim, mallory, honest, channel = table(count, seat=count - 1)
    countersign_flipped(mallory, honest, channel, b"alice 1")
    for node in honest:
        state = node.engine(channel).state
        assert state.turn == 2
        assert not state.candidates
        wrong = {s for s in stored_signatures(node, channel) if s == state.head.signatures[-1]}  # type: ignore[union-attr]
        assert wrong
        assert not Verifier(mallory.signer.address).matches(state.setup.hash(state.head), wrong.pop())  # type: ignore[arg-type]
        assert leaves_with(node, channel) == 2
        check_log(node.log, channel)


def test_a_proposal_with_the_wrong_v_binds_its_sequencer() -> None:
    """Bob countersigns it, and with that holds a set which he can enforce."""
    _sim, mallory, (bob,), channel = table(2, seat=0)
    state = mallory.state(bob, [mallory.entry()])
    assert mallory.say(bob, mallory.proposal(state, signature=with_other_v(mallory.sign(state)))) == ""
    assert leaves_with(bob, channel) == state.turn
    check_log(bob.log, channel)


def test_a_wrong_v_is_mended_after_a_restart_as_well() -> None:
    """The log holds what came; nothing else is needed to find the right v, not even a key seen before."""
    _sim, mallory, honest, channel = table(2, seat=1)
    countersign_flipped(mallory, honest, channel, b"alice 1")
    alice = honest[0]
    before = stored_signatures(alice, channel)
    alice.crash()
    alice.start()
    assert leaves_with(alice, channel) == 2
    assert stored_signatures(alice, channel) == before
    countersign_flipped(mallory, honest, channel, b"alice 2")  # the first that the restarted node checks is wrong too
    assert leaves_with(alice, channel) == 3


def test_a_set_with_a_wrong_v_is_told_with_the_right_one() -> None:
    """Bob never hears Mallory's signature; the full set that Alice tells him is one that he takes and could enforce."""
    _sim, mallory, (alice, bob), channel = table(3, seat=2)
    alice.submit(channel, b"alice 1")
    mallory.sim.run()
    mallory.say(alice, flipped(mallory.countersign(alice, 2)))
    assert (alice.engine(channel).state.turn, bob.engine(channel).state.turn) == (2, 1)
    for _ in range(2):
        mallory.sim.tick(31_000)
        mallory.sim.run()
    told = bob.engine(channel).state
    assert told.turn == 2
    assert told.head is not None
    assert told.head.signatures == enforceable(alice.engine(channel).state, alice.engine(channel).state.head)  # type: ignore[arg-type]
    assert leaves_with(bob, channel) == 2


def test_a_forgetful_node_is_told_the_right_v() -> None:
    """Mallory asks for the set that holds her own wrong v, as one who has lost it: the answer is the enforceable one,
    the same each time."""
    _sim, mallory, (alice,), channel = table(2, seat=1)
    countersign_flipped(mallory, [alice], channel, b"alice 1")
    for _ in range(3):
        mallory.say(alice, Status(channel, 1, 1, 1, bytes(32), True))
    told = [m for m in mallory.heard_of(Supported) if m.turn == 2]
    assert len(told) == 3
    state = alice.engine(channel).state
    assert state.head is not None
    assert {m.signatures for m in told} == {enforceable(state, state.head)}
    assert told[0].signatures[1] == with_other_v(state.head.signatures[1])


def test_a_wrong_v_before_the_proposal_is_known_counts_when_it_comes() -> None:
    """Signatures that arrive early are checked like the others."""
    sim = Sim(3)
    Watch(sim, {0, 1})
    channel = sim.nodes[0].open(sim.nodes[1:], slots=(10, 5))
    sim.run()
    mallory = Mallory(sim, sim.nodes[2], channel)
    alice, bob = sim.nodes[0], sim.nodes[1]
    state = mallory.state(bob, [mallory.entry(b"alice 1", author=0, counter=1)])
    mallory.say(bob, flipped(Countersign(channel, 2, mallory.sign(state))))
    alice.submit(channel, b"alice 1")
    sim.run()
    assert plain_hash(bob.engine(channel).state.setup, state) == bob.engine(channel).state.setup.hash(state)
    assert bob.engine(channel).state.turn == 2
    assert leaves_with(bob, channel) == 2


def test_a_completed_fork_with_a_wrong_v_is_answered_with_the_right_one() -> None:
    """The full set of a replaced proposal (rule 4) leaves in the enforceable form, too."""
    sim, mallory, (alice,), channel = table(2, seat=1)
    alice.submit(channel, b"alice 1")
    sim.run()
    mallory.say(alice, Refuse(channel, 2, "time", "too old", -1))
    candidates = alice.engine(channel).state.candidates
    assert [c.turn for c in candidates] == [2, 3]
    mallory.say(alice, flipped(mallory.countersign(alice, 2)))
    assert leaves_with(alice, channel) == 2
    mallory.say(alice, Status(channel, 1, 1, 1, bytes(32), True))
    assert 2 in {m.turn for m in mallory.heard_of(Supported)}  # and the watch has looked at each of them
