"""Safety rule 10: a node that comes back from an old backup contradicts nothing that it has signed since."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scapp.channels.channel import recovery, signing_rules
from scapp.channels.channel.events import (
    Recovered,
    Restored,
    Signed,
    StateRecalled,
    decode_event,
)
from scapp.channels.channel.messages import Propose, Recall, Refuse, Status, decode_message, encode_message
from scapp.channels.channel.signing_rules import TURN_LEAD_MAX, BeforeRestore, MayNotSign, check_may_sign
from scapp.channels.entries import Kind
from scapp.channels.errors import LocalError
from scapp.channels.log.memory import MemoryLog
from scapp.channels.log.port import NODE_STREAM
from scapp.channels.restoring import mark_restored, restored_ms
from tests.support.checkers import check_log
from tests.support.sim import Sim, SimNode


def opened(players: int = 2, **faults: Any) -> tuple[Sim, bytes]:
    sim = Sim(players, **faults)
    channel = sim.nodes[0].open(sim.nodes[1:], slots=(10,) * players)
    sim.settle()
    return sim, channel


def say(sim: Sim, node: SimNode, channel: bytes, *payloads: bytes) -> None:
    node.submit(channel, *payloads)
    sim.run()


def events(node: SimNode, channel: bytes) -> list[Any]:
    return [decode_event(data) for page in node.log.read(channel) for data in page.events]


def finals(node: SimNode, channel: bytes) -> list[int]:
    """Turns of final states that left the node, by the record of everything it ever signed."""
    found = []
    for (stream, turn), content in node.signed.items():
        state: Any = decode_event(content)
        if stream == channel and state.state.is_final:
            found.append(turn)
    return found


@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("behind", [1, 5])
def test_a_stale_node_learns_what_it_signed_and_goes_on_above(victim: int, behind: int) -> None:
    """It adopts what the other holds under its signature, and its next turn is above all that it has signed."""
    sim, channel = opened()
    backup = sim.nodes[victim].log.durable_copy()
    for number in range(behind):
        say(sim, sim.nodes[number % 2], channel, b"after the backup %d" % number)
    signed = sim.nodes[victim].engine(channel).state.signed_turn
    log = sim.nodes[1 - victim].supported(channel)
    node = sim.nodes[victim]
    node.restore(backup)
    assert node.engine(channel).phase == "recovering"
    sim.settle()
    assert node.engine(channel).phase == "running"
    assert node.supported(channel) == log
    assert [type(event) for event in events(node, channel)].count(Recovered) == 1
    for speaker in sim.nodes:
        say(sim, speaker, channel, b"goes on, says %d" % speaker.index)
    sim.settle()
    assert node.supported(channel)[len(log) :] == sim.nodes[1 - victim].supported(channel)[len(log) :]
    assert len(node.supported(channel)) == len(log) + 2
    assert min(t for s, t in node.signed if s == channel and t > signed) > signed
    check_log(node.log, channel)


def test_nothing_is_signed_before_everybody_has_answered() -> None:
    """One of three is away: neither submissions nor proposals nor the operator's acceptance get a signature."""
    sim, channel = opened(3)
    alice, bob, carol = sim.nodes
    backup = bob.log.durable_copy()
    say(sim, alice, channel, b"after the backup")
    carol.crash()
    bob.restore(backup)
    before = set(bob.signed)
    alice.submit(channel, b"for bob to sign")
    for _ in range(20):
        sim.run()
        sim.now_ms += 31_000
        alice.tick()
        bob.tick()
    assert bob.engine(channel).phase == "recovering"
    assert "participant 2 (0x" in bob.engine(channel).waiting_for
    assert "restored from a backup" in bob.engine(channel).waiting_for
    assert set(bob.signed) == before
    with pytest.raises(LocalError, match="the channel is recovering"):
        bob.submit(channel, b"mine")
    with pytest.raises(LocalError, match="recovering, there is nothing to accept"):
        bob.engine(channel).accept()
    with pytest.raises(LocalError, match="recovering, it can no longer be rejected"):
        bob.engine(channel).reject("no")
    with pytest.raises(MayNotSign, match="rule 10"):
        check_may_sign(bob.engine(channel).state, bob.engine(channel).state.prefund)
    carol.start()
    sim.settle()
    assert bob.engine(channel).phase == "running"
    assert bob.supported(channel) == alice.supported(channel) == carol.supported(channel)
    assert bob.supported(channel)[-1].endswith(b"for bob to sign")


def lost_countersignature(players: int, last: bytes, kind: Kind = Kind.MESSAGE) -> tuple[Sim, bytes, MemoryLog]:
    """The sequencer's newest proposal has reached participant 1, which signed it; nobody else has it, and all that is
    on its way is lost. The sequencer's backup is from before."""
    sim, channel = opened(players)
    backup = sim.nodes[0].log.durable_copy()
    sim.nodes[0].submit(channel, last, kind=kind)
    second = sim.nodes[1].signer.address
    sim.tap = lambda sender, to, data: (
        data if sender == 0 and to == second and isinstance(decode_message(data), Propose) else None
    )
    sim.queue = [item for item in sim.queue if item[1] == second]
    sim.run()
    sim.tap = None
    return sim, channel, backup


def test_a_signed_proposal_is_recalled_with_its_entries() -> None:
    """Safety rule 4 survives the restore: what may still be completed stays known, and is completed."""
    sim, channel, backup = lost_countersignature(3, b"half signed")
    alice, bob, _ = sim.nodes
    turn = bob.engine(channel).state.candidates[-1].turn
    alice.restore(backup)
    sim.settle()
    recalled = [event for event in events(alice, channel) if isinstance(event, StateRecalled)]
    assert [event.state.turn for event in recalled] == [turn]
    assert alice.supported(channel)[-1].endswith(b"half signed")
    assert alice.supported(channel) == bob.supported(channel)
    say(sim, alice, channel, b"next")
    assert alice.supported(channel)[-1].endswith(b"next")
    assert alice.engine(channel).state.turn > turn + recovery.UNHEARD_TURNS
    check_log(alice.log, channel)


def test_a_final_state_is_never_followed_by_a_non_final_one() -> None:
    """The sequencer signed the end of the channel, and its backup does not know: it learns it, and closes."""
    sim, channel, backup = lost_countersignature(3, b"", Kind.CLOSE)
    alice = sim.nodes[0]
    assert finals(alice, channel)
    alice.restore(backup)
    with pytest.raises(LocalError, match="recovering"):
        alice.submit(channel, b"as if nothing were")
    sim.settle()
    assert [node.engine(channel).phase for node in sim.nodes] == ["closed"] * 3
    assert all(turn >= min(finals(alice, channel)) for s, turn in alice.signed if s == channel and turn > 1)


def test_a_countersigner_does_not_sign_a_turn_again_whose_proposal_comes_again() -> None:
    """It may have signed another state of that turn; the sequencer says the same under a higher one."""
    sim, channel = opened()
    alice, bob = sim.nodes
    backup = bob.log.durable_copy()
    sim.tap = lambda sender, to, data: data if sender == 0 else None  # nothing of bob's arrives
    say(sim, alice, channel, b"signed by bob, unknown to alice")
    turn = bob.engine(channel).state.turn
    sim.tap = None
    bob.restore(backup)
    sim.settle()
    assert alice.supported(channel) == bob.supported(channel)
    assert bob.supported(channel)[-1].endswith(b"unknown to alice")
    assert bob.engine(channel).state.turn > turn
    assert bob.engine(channel).state.recovery.floor >= turn


def test_two_restored_nodes_wait_for_the_operator() -> None:
    """Neither knows what it has signed, so neither can tell; the override takes the risk, and says so in the log."""
    sim, channel = opened()
    alice, bob = sim.nodes
    backups = [node.log.durable_copy() for node in sim.nodes]
    say(sim, alice, channel, b"lost at both")
    highest = alice.engine(channel).state.signed_turn
    for node, backup in zip(sim.nodes, backups, strict=True):
        node.restore(backup)
    for _ in range(5):
        sim.run()
        sim.now_ms += 31_000
        alice.tick()
        bob.tick()
    assert [node.engine(channel).phase for node in sim.nodes] == ["recovering"] * 2
    alice.input(channel, lambda engine, _: engine.recover())
    sim.settle()
    assert [node.engine(channel).phase for node in sim.nodes] == ["running"] * 2
    assert [event.by_operator for event in events(alice, channel) if isinstance(event, Recovered)] == [True]
    say(sim, bob, channel, b"on")
    sim.settle()
    assert alice.engine(channel).state.turn > highest
    with pytest.raises(LocalError, match="nothing to recover from"):
        alice.engine(channel).recover()


def test_it_says_what_it_waits_for_once_all_have_answered() -> None:
    """A supported state that is told and does not come; a state of ours that does not extend the log."""
    sim, channel, backup = lost_countersignature(3, b"half signed")
    alice, bob, carol = sim.nodes
    misfit = recalled(sim, channel, {})
    alice.restore(backup)
    sim.queue.clear()
    engine = alice.engine(channel)
    state = engine.state
    for index, node in ((1, bob), (2, carol)):
        told = Status(channel, 9, 9, 1, state.log_root, False, state.recovery.token)
        alice.receive(node.signer.address, encode_message(told))
        assert ("participant 2 (0x" in engine.waiting_for) == (index == 1)
    assert "the supported state of turn 9" in engine.waiting_for
    for index in (1, 2):
        engine.session.heard[index] = msgspec.structs.replace(engine.session.heard[index], supported_turn=state.turn)
    alice.receive(bob.signer.address, encode_message(misfit))
    engine.session.recalled = {
        turn: msgspec.structs.replace(held, log_root=bytes(32)) for turn, held in engine.session.recalled.items()
    }
    engine.state = state
    engine.session.recalled = engine.session.recalled or {
        misfit.turn: msgspec.structs.replace(bob.engine(channel).state.candidates[-1], log_root=bytes(32))
    }
    assert "only an override helps" in engine.waiting_for
    assert recovery.conclude(state, engine.session) is None


def test_an_answer_to_an_older_greeting_does_not_count() -> None:
    """What was on its way before the restore says nothing about what was signed after it was sent."""
    sim, channel = opened()
    alice, bob = sim.nodes
    backup = bob.log.durable_copy()
    state = alice.engine(channel).state
    old = [
        Status(channel, state.turn, state.signed_turn, state.sequence, state.log_root),
        Status(channel, state.turn, state.signed_turn, state.sequence, state.log_root, False, b"\x01" * 16),
    ]
    say(sim, alice, channel, b"newer")
    bob.restore(backup)
    for message in old:
        bob.receive(alice.signer.address, encode_message(message))
    assert bob.engine(channel).session.heard == {}
    assert bob.engine(channel).phase == "recovering"


def test_an_answer_that_would_leave_no_turn_to_sign_is_refused() -> None:
    sim, channel = opened()
    bob = sim.nodes[1]
    bob.restore(bob.log.durable_copy())
    state = bob.engine(channel).state
    claim = Status(channel, 1, 1 + TURN_LEAD_MAX, 1, state.log_root, False, state.recovery.token)
    bob.receive(sim.nodes[0].signer.address, encode_message(claim))
    assert "says it signed turn" in bob.refused[-1]
    assert bob.engine(channel).phase == "recovering"


def recalled(sim: Sim, channel: bytes, change: dict[str, Any]) -> Recall:
    held: Signed = sim.nodes[1].engine(channel).state.candidates[-1]
    first = held.sequence - len(held.entries)
    made = Recall(
        channel,
        held.turn,
        held.is_final,
        first,
        held.entries,
        held.log_root,
        held.state_root,
        held.amounts,
        held.time_ms,
        held.signatures,
    )
    return msgspec.structs.replace(made, **change)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"signatures": (b"", b"", b"")}, "wrong signature of participant 0"),
        ({"signatures": (b"\x01" * 65, b"", b"")}, "wrong signature of participant 0"),
        ({"signatures": (b"", b"")}, "2 signatures for 3 participants"),
        ({"amounts": bytes(32)}, "outcome has 32 bytes"),
        ({"turn": 9}, "wrong signature"),
        ({"is_final": True}, "wrong signature"),
    ],
)
def test_only_what_we_have_signed_can_be_recalled(change: dict[str, Any], reason: str) -> None:
    sim, channel, backup = lost_countersignature(3, b"half signed")
    alice, bob, _ = sim.nodes
    forged = recalled(sim, channel, change)
    alice.restore(backup)
    sim.queue.clear()
    alice.receive(bob.signer.address, encode_message(forged))
    assert reason in alice.refused[-1]
    assert alice.engine(channel).session.recalled == {}


def test_a_recall_to_a_node_that_was_not_restored_changes_nothing() -> None:
    sim, channel, _ = lost_countersignature(3, b"half signed")
    alice, bob, _ = sim.nodes
    before = alice.engine(channel).state
    alice.receive(bob.signer.address, encode_message(recalled(sim, channel, {})))
    assert alice.engine(channel).state is before
    assert alice.engine(channel).session.recalled == {}


def test_a_turn_below_the_floor_is_refused_by_name() -> None:
    """The last guard, whatever the way to it."""
    sim, channel = opened()
    bob = sim.nodes[1]
    bob.restore(bob.log.durable_copy())
    sim.settle()
    state = bob.engine(channel).state
    floor = msgspec.structs.replace(state.recovery, floor=40)
    with pytest.raises(BeforeRestore, match="turn 40 may have been signed before a restore, at most 40"):
        check_may_sign(msgspec.structs.replace(state, recovery=floor), msgspec.structs.replace(state.prefund, turn=40))


def test_every_channel_and_the_node_are_marked_in_one_append() -> None:
    sim, channel = opened()
    log = sim.nodes[0].log.durable_copy()
    assert restored_ms(log) == 0
    assert mark_restored(log, b"\x07" * 16, 5_000, 4_000) == {}
    assert restored_ms(log) == 5_000
    last = list(log.read(channel))[-1].events[-1]
    assert decode_event(last) == Restored(b"\x07" * 16, 5_000, 4_000)
    mark_restored(log, b"\x08" * 16, 9_000, 5_500)
    assert restored_ms(log) == 9_000
    assert log.version(NODE_STREAM) == 2


def check_finals(sim: Sim, node: SimNode, channel: bytes) -> None:
    """Rule 5 across restores, for final states that others signed as well: what reached nobody, nobody can tell."""
    ended = False
    for (stream, turn), content in node.signed.items():  # in the order of signing
        state: Any = decode_event(content)
        if stream != channel:
            continue
        assert state.state.is_final or not ended, f"{node.name} signed turn {turn} after a final one"
        others = [other.signed.get((channel, turn)) for other in sim.nodes if other is not node]
        ended = ended or (state.state.is_final and content in others)


def life(seed: int, players: int) -> None:
    """Faults, crashes and stale restores at random; then everybody must agree, and nobody contradict themselves."""
    sim, channel = opened(players, seed=seed)
    sim.loss = sim.duplicate = 0.1
    backups = {node.index: node.log.durable_copy() for node in sim.nodes}
    random = sim.random
    closed = False
    for number in range(14):
        speaker = sim.nodes[random.randrange(players)]
        if channel in speaker.drivers and speaker.engine(channel).phase == "running" and not closed:
            closed = random.random() < 0.06
            speaker.submit(channel, b"" if closed else b"m%d" % number, kind=Kind.CLOSE if closed else Kind.MESSAGE)
        for _ in range(random.randrange(12)):
            sim.step()
        draw = random.random()
        victim = sim.nodes[random.randrange(players)]
        if draw < 0.15:
            backups[victim.index] = victim.log.durable_copy()
        elif draw < 0.3 and all(n.engine(channel).phase != "recovering" for n in sim.nodes):
            lost = set(victim.signed)
            victim.restore(backups[victim.index])
            assert set(victim.signed) == lost
        elif draw < 0.45:
            victim.crash()
            victim.start()
        sim.now_ms += 2_000
        for node in sim.nodes:
            node.tick()
    sim.settle()
    logs = [node.supported(channel) for node in sim.nodes]
    assert all(log == logs[0] for log in logs)
    for node in sim.nodes:
        assert node.engine(channel).phase in ("running", "closed")
        check_log(node.log, channel)
        check_finals(sim, node, channel)


@given(st.integers(0, 1_000_000), st.integers(2, 3))
def test_no_life_with_stale_restores_has_two_states_of_one_turn(seed: int, players: int) -> None:
    """`SimNode.note_signed` keeps all that a node ever signed, across restores, and refuses a second one of a turn."""
    life(seed, players)


def found(lives: int) -> list[str]:
    """What went wrong in so many lives."""
    texts = []
    for seed in range(lives):
        try:
            life(seed, 2 + seed % 2)
        except AssertionError as error:
            texts.append(str(error))
    return texts


@pytest.mark.slow
def test_a_restore_without_recovering_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted bug: the log is put in place and nobody is asked."""
    monkeypatch.setattr("tests.support.sim.mark_restored", lambda *arguments: {})
    assert any("twice" in text for text in found(80))


@pytest.mark.slow
def test_a_floor_that_is_forgotten_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted bug: everybody is asked, and the answer is not kept."""
    original = recovery._go_on

    def forgetful(state: Any, session: Any, made: Any, signed: int, *, by_operator: bool) -> Any:
        step = original(state, session, made, signed, by_operator=by_operator)
        events_kept = tuple(Recovered(-1, by_operator) if isinstance(e, Recovered) else e for e in step.events)
        return msgspec.structs.replace(step, events=events_kept)

    monkeypatch.setattr(recovery, "_go_on", forgetful)
    assert any("twice" in text for text in found(80))


def test_the_margin_of_the_sequencer_exceeds_what_it_may_have_in_flight() -> None:
    assert signing_rules.TURN_LEAD_MAX > 2 * recovery.UNHEARD_TURNS


@pytest.mark.parametrize("entries_left", [0, 1])
def test_a_proposal_at_the_floor_is_made_again_above_it_whatever_it_holds(entries_left: int) -> None:
    """The restored participant goes on above the turn in flight; the sequencer proposes that again, also when its
    replacement has left out every entry."""
    sim, channel = opened(3)
    alice, bob, carol = sim.nodes
    carol.restore(carol.log.durable_copy())
    sim.part({carol.index})
    alice.submit(channel, *[b"m"] * (1 + entries_left))
    sim.run()
    turn = alice.engine(channel).state.signed_turn
    bob_refuses = encode_message(Refuse(channel, turn, "mine", "changed my mind", 0))
    sim.send(bob, alice.signer.address, bob_refuses, None)
    sim.run()
    assert len(alice.engine(channel).state.candidates[-1].entries) == entries_left
    sim.settle()
    assert any(isinstance(event, Recovered) for event in events(carol, channel))
    assert [node.engine(channel).waiting_for for node in sim.nodes] == ["", "", ""]
    assert {len(node.supported(channel)) for node in sim.nodes} == {1 + entries_left}
    for node in sim.nodes:
        check_log(node.log, channel)
