"""Safety rule 4: a proposal that was replaced is completed later. Nobody's log forks, nothing is lost or doubled."""

from __future__ import annotations

import itertools

import pytest

from scapp.channels.channel.full_set import fully_signed
from scapp.channels.channel.messages import Countersign, Refuse, encode_message
from scapp.channels.entries import Kind, decode_entry
from tests.support.checkers import Watch, check_log
from tests.support.mallory import Mallory, stored
from tests.support.sim import Sim


def play_on(sim: Sim, mallory: Mallory, channel: bytes, rounds: int = 3) -> None:
    """From here on Mallory signs what is proposed last, so that the others can show that they are alive."""
    alice = sim.nodes[0]
    for _ in range(rounds):
        for _ in range(3):
            candidates = alice.engine(channel).state.candidates
            if candidates and not candidates[-1].signatures[mallory.index]:
                answer = mallory.countersign(alice, candidates[-1].turn)
                for node in sim.nodes:
                    if node is not mallory.node:
                        mallory.say(node, answer)
        sim.tick(31_000)
        sim.run()


def payloads(sim: Sim, channel: bytes) -> list[list[bytes]]:
    """The honest logs, without entry 0."""
    return [[decode_entry(e).payload for e in node.supported(channel)[1:]] for node in sim.nodes]


def refused_then_completed(count: int, author: int, code: str, told: list[int]) -> tuple[Sim, Mallory, bytes]:
    """Mallory, the last participant, refuses the entry of `author`, then signs the replaced proposal after all; the
    nodes in `told` get her signature."""
    sim = Sim(count)
    Watch(sim, set(range(count - 1)))
    channel = sim.nodes[0].open(sim.nodes[1:], slots=(10, 5))
    sim.run()
    mallory = Mallory(sim, sim.nodes[-1], channel)
    alice = sim.nodes[0]
    sim.nodes[author].submit(channel, b"first", b"second")
    sim.run()
    replaced = alice.engine(channel).state.candidates[-1]
    if code == "time":
        sim.now_ms += 70_000
    mallory.say(alice, Refuse(channel, replaced.turn, code, "not this one", 0))
    newest = alice.engine(channel).state.candidates[-1]
    assert newest.turn > replaced.turn
    assert alice.decided == [] or author != 0
    for index in told:
        mallory.say(sim.nodes[index], mallory.countersign(alice, replaced.turn))
    return sim, mallory, channel


CASES = [
    (count, author, code, told)
    for count, code in itertools.product((2, 3, 4), ("mine", "time"))
    for author in range(count - 1)
    for told in ([0], [count - 2], list(range(count - 1)))
]


@pytest.mark.parametrize(("count", "author", "code", "told"), CASES)
def test_rule_4_a_replaced_proposal_that_is_completed_wins(count: int, author: int, code: str, told: list[int]) -> None:
    """Its content is proposed again above everything signed, also when its time is old; both messages count, once,
    and nobody was told that they were refused."""
    sim, mallory, channel = refused_then_completed(count, author, code, told)
    honest = sim.nodes[:-1]
    assert any(fully_signed(n.engine(channel).state) for n in honest)
    for _ in range(2):  # the honest tell each other before Mallory signs anything else
        sim.tick(31_000)
        sim.run()
    play_on(sim, mallory, channel)
    for node in honest:
        state = node.engine(channel).state
        assert payloads(sim, channel)[node.index] == [b"first", b"second"], node.engine(channel).waiting_for
        assert state.candidates == ()
        assert state.outstanding == ()
        assert node.decided == []
        check_log(node.log, channel)
    assert len({n.engine(channel).state.turn for n in honest}) == 1
    sim.nodes[0].submit(channel, b"third")
    play_on(sim, mallory, channel)
    assert all(log[-1] == b"third" for log in payloads(sim, channel)[:-1])


@pytest.mark.parametrize("author", [0, 1])
def test_rule_4_mallory_completes_both_turns(author: int) -> None:
    """The higher turn may win then, but with everybody; each message is in the log or told as refused, never both."""
    sim, mallory, channel = refused_then_completed(3, author, "mine", [1])
    play_on(sim, mallory, channel)
    logs = payloads(sim, channel)[:2]
    assert logs[0] == logs[1] == [b"second"]
    assert [c for n in sim.nodes[:2] for c, _, _ in n.decided] == [1]
    for node in sim.nodes[:2]:
        assert node.engine(channel).state.outstanding == ()
        check_log(node.log, channel)


@pytest.mark.parametrize("restart", [0, 1])
def test_rule_4_the_fork_is_resolved_across_restarts(restart: int) -> None:
    """Whoever crashes while a replaced proposal is complete goes on to the same end."""
    sim, mallory, channel = refused_then_completed(3, 1, "mine", [0, 1])
    sim.nodes[restart].crash()
    sim.nodes[restart].start()
    play_on(sim, mallory, channel, rounds=4)
    assert payloads(sim, channel)[:2] == [[b"first", b"second"]] * 2
    assert all(n.decided == [] for n in sim.nodes[:2])


@pytest.mark.parametrize(("count", "author"), [(2, 0), (3, 0), (3, 1)])
def test_rule_4_without_completion_the_replacement_decides(count: int, author: int) -> None:
    """The left out message is told as refused exactly once, when the replacement is supported and not before."""
    sim, mallory, channel = refused_then_completed(count, author, "mine", [])
    assert all(n.decided == [] for n in sim.nodes)
    play_on(sim, mallory, channel)
    for node in sim.nodes[:-1]:
        assert payloads(sim, channel)[node.index] == [b"second"]
        assert [c for c, _, _ in node.decided] == ([1] if node.index == author else [])
        assert node.engine(channel).state.outstanding == ()
        check_log(node.log, channel)
    for node in sim.nodes[:-1]:
        node.crash()
        node.start()
    play_on(sim, mallory, channel)
    assert [len(n.decided) for n in sim.nodes[:-1]] == [int(i == author) for i in range(count - 1)]


def test_rule_4_who_holds_a_full_set_answers_everything_else_with_it() -> None:
    """Carol has signed only the replaced turn: she appends it. Bob, who signed more, does not, and tells the others."""
    sim, _mallory, channel = refused_then_completed(3, 0, "mine", [1])
    bob = sim.nodes[1]
    full = fully_signed(bob.engine(channel).state)
    assert full is not None
    assert len(bob.supported(channel)) == 1
    assert fully_signed(sim.nodes[0].engine(channel).state) is None
    sim.tick(31_000)
    sim.tick(31_000)
    sim.run()
    told = fully_signed(sim.nodes[0].engine(channel).state)
    assert told is not None
    assert told.turn == full.turn
    assert len(sim.nodes[0].supported(channel)) == 1


def test_rule_5_a_final_state_that_was_refused_is_concluded_later() -> None:
    """Its replacement has the same outcome, so it does not matter which one the chain sees; both logs end closed."""
    sim = Sim(3)
    channel = sim.nodes[0].open(sim.nodes[1:], slots=(10, 5))
    sim.run()
    mallory = Mallory(sim, sim.nodes[-1], channel)
    alice, bob = sim.nodes[:2]
    alice.submit(channel, b"", kind=Kind.CLOSE)
    sim.run()
    first = alice.engine(channel).state.candidates[-1]
    sim.now_ms += 70_000
    mallory.say(alice, Refuse(channel, first.turn, "time", "late"))
    second = alice.engine(channel).state.candidates[-1]
    assert second.turn > first.turn
    assert second.is_final
    assert second.amounts == first.amounts
    for node in (alice, bob):
        mallory.say(node, mallory.countersign(alice, first.turn))
    play_on(sim, mallory, channel)
    assert [n.engine(channel).phase for n in (alice, bob)] == ["closed"] * 2
    assert [decode_entry(n.supported(channel)[-1]).kind for n in (alice, bob)] == [Kind.CLOSE] * 2
    for node in (alice, bob):
        check_log(node.log, channel)


@pytest.mark.parametrize("entry", [-1, 0])
def test_a_refused_final_state_is_never_replaced_by_a_running_one(entry: int) -> None:
    """Whatever Mallory blames, what was final stays final."""
    sim = Sim(2)
    channel = sim.nodes[0].open(sim.nodes[1:])
    sim.run()
    mallory = Mallory(sim, sim.nodes[-1], channel)
    alice = sim.nodes[0]
    alice.submit(channel, b"", kind=Kind.CLOSE)
    sim.run()
    final = alice.engine(channel).state.candidates[-1]
    before = stored(alice, channel)
    mallory.say(alice, Refuse(channel, final.turn, "mine", "no close", entry))
    assert stored(alice, channel) == before
    assert "no close" in alice.engine(channel).waiting_for


def test_mallory_signs_two_states_of_one_turn_as_sequencer() -> None:
    """Bob and Carol get different proposals of a turn: neither is supported, both keep what they hold."""
    sim = Sim(3)
    channel = sim.nodes[0].open(sim.nodes[1:])
    sim.run()
    mallory = Mallory(sim, sim.nodes[0], channel)
    bob, carol = sim.nodes[1:]
    ours = mallory.proposal(mallory.state(bob, [mallory.entry(b"for bob")]))
    theirs = mallory.proposal(mallory.state(carol, [mallory.entry(b"for carol")]))
    for node, message in ((bob, ours), (carol, theirs)):
        node.receive(mallory.signer.address, encode_message(message))
    sim.run()
    assert any("wrong signature of participant" in r for n in (bob, carol) for r in n.refused)
    for node in (bob, carol):
        assert len(node.supported(channel)) == 1
        assert node.engine(channel).state.turn == 1
        check_log(node.log, channel)
    state = mallory.state(bob, [mallory.entry(b"for both")])
    for node in (bob, carol):
        mallory.say(node, mallory.proposal(state))
    assert payloads(sim, channel)[1:] == [[b"for both"]] * 2


def test_mallory_as_sequencer_completes_two_forks_and_every_log_takes_the_same() -> None:
    """Both of two competing turns are signed by all; the higher one wins with everybody who signed both."""
    sim = Sim(3)
    channel = sim.nodes[0].open(sim.nodes[1:])
    sim.run()
    mallory = Mallory(sim, sim.nodes[0], channel)
    bob, carol = sim.nodes[1:]
    sim.tap = lambda sender, to, data: data if to == mallory.signer.address else None  # countersigns between them wait
    first = mallory.state(bob, [mallory.entry(b"five")])
    for node in (bob, carol):
        mallory.say(node, mallory.proposal(first))
    second = mallory.state(bob, [mallory.entry(b"six")])
    mallory.say(bob, mallory.proposal(second))
    sim.tap = None
    signatures = (
        mallory.sign(first),
        *(n.engine(channel).state.candidate(first.turn).signatures[n.index] for n in (bob, carol)),
    )
    full = mallory.supported(first, signatures)
    mallory.say(carol, full)
    assert payloads(sim, channel)[2] == [b"five"]
    mallory.say(bob, full)
    assert payloads(sim, channel)[1] == []
    assert "fork" in mallory.propose(bob, [mallory.entry(b"seven", counter=1)])
    assert mallory.heard_of(Countersign)
    again = mallory.state(carol, (), turn=second.turn + 1)
    assert mallory.say(carol, mallory.proposal(again)) == ""
    over = mallory.state(bob, first.entries, turn=second.turn + 1, time_ms=first.time_ms)
    assert mallory.say(bob, mallory.proposal(over)) == ""
    assert payloads(sim, channel)[1:] == [[b"five"]] * 2
    assert bob.engine(channel).state.turn == carol.engine(channel).state.turn == second.turn + 1
    for node in (bob, carol):
        check_log(node.log, channel)
