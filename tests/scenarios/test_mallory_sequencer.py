"""Mallory orders: every proposal that breaks a rule is refused with a reason and changes nothing (rules 3, 5, 11)."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from scapp.channels.channel.events import Refused
from scapp.channels.channel.messages import Decisions, Propose, Supported
from scapp.channels.deployment import Limits
from scapp.channels.entries import Kind, decode_entry, encode_entry
from tests.support.mallory import Mallory, stored
from tests.support.sim import Sim, SimNode

LIMITS = Limits(batch_entries_max=4, payload_bytes_max=100, batch_bytes_max=300, time_tolerance_ms=60_000)
TOLERANCE = LIMITS.time_tolerance_ms


def table(count: int = 2) -> tuple[Sim, Mallory, SimNode, bytes]:
    """Mallory opened a channel with honest others; one message of hers and one of Bob's are in the log."""
    sim = Sim(count)
    channel = sim.nodes[0].open(sim.nodes[1:], limits=LIMITS, slots=(10, 5))
    sim.run()
    sim.nodes[1].submit(channel, b"bob 1")
    sim.run()
    sim.nodes[0].submit(channel, b"mallory 1")
    sim.run()
    return sim, Mallory(sim, sim.nodes[0], channel), sim.nodes[1], channel


def bent(m: Mallory, bob: SimNode, **changes: object) -> Propose:
    """One good entry under a state with something changed, and her good signature under that."""
    return m.proposal(m.state(bob, [m.entry()], **changes))


def move(amounts: bytes, by: int) -> bytes:
    """Take `by` out of slot 0 and nowhere else."""
    return (int.from_bytes(amounts[:32], "big") - by).to_bytes(32, "big") + amounts[32:]


def batch(m: Mallory, bob: SimNode, *entries: bytes) -> Propose:
    return m.proposal(m.state(bob, entries))


PROPOSALS: dict[str, tuple[Callable[[Mallory, SimNode], Propose], str]] = {
    "a signature of nobody": (
        lambda m, b: m.proposal(m.state(b, [m.entry()]), signature=bytes(65)),
        "wrong signature",
    ),
    "a signature under another state": (
        lambda m, b: m.proposal(m.state(b, [m.entry()]), signature=m.sign(m.state(b, []))),
        "wrong signature",
    ),
    "a wrong state root": (lambda m, b: bent(m, b, state_root=bytes(32)), "root: state root"),
    "a wrong log root": (lambda m, b: bent(m, b, log_root=bytes(32)), "log: the log root"),
    "an outcome of her own": (
        lambda m, b: bent(m, b, amounts=(11).to_bytes(32, "big") + (4).to_bytes(32, "big")),
        "outcome:",
    ),
    "an outcome with a smaller sum": (
        lambda m, b: bent(m, b, amounts=move(m.state(b, []).amounts, 1)),
        "outcome pays 14",
    ),
    "a slot added": (
        lambda m, b: bent(m, b, amounts=m.state(b, []).amounts + bytes(32)),
        "96 bytes for 2 slots",
    ),
    "amounts cut short": (lambda m, b: bent(m, b, amounts=bytes(63)), "63 bytes for 2 slots"),
    "a turn beyond the lead": (lambda m, b: bent(m, b, turn=m.view_any().turn + 2**16 + 1), "above supported turn"),
    "the greatest turn there is": (lambda m, b: bent(m, b, turn=2**48 - 1), "above supported turn"),
    "a state from the future": (
        lambda m, b: m.proposal(
            m.state(b, [m.entry(time_ms=m.sim.now_ms + TOLERANCE + 100)], time_ms=m.sim.now_ms + TOLERANCE + 100)
        ),
        "time: state time",
    ),
    "an entry after the state's time": (
        lambda m, b: batch(m, b, m.entry(time_ms=m.sim.now_ms + 1)),
        "entry time",
    ),
    "an entry before the log's last": (lambda m, b: batch(m, b, m.entry(time_ms=1)), "entry time"),
    "decreasing times": (
        lambda m, b: batch(m, b, m.entry(counter=2), m.entry(counter=3, time_ms=m.sim.now_ms - 1)),
        "entry time",
    ),
    "a state before the log's last": (lambda m, b: bent(m, b, time_ms=1), "entry time"),
    "a counter used before": (lambda m, b: batch(m, b, m.entry(counter=1)), "counter 1 of author 0 after 1"),
    "a counter twice in a batch": (
        lambda m, b: batch(m, b, m.entry(counter=2), m.entry(counter=2)),
        "counter 2 of author 0 after 2",
    ),
    "Bob's old message again": (
        lambda m, b: batch(m, b, m.entry(b"bob 1", author=1, counter=1)),
        "counter 1 of author 1 after 1",
    ),
    "words in Bob's mouth": (lambda m, b: batch(m, b, m.entry(b"I resign", author=1)), "not what we submitted"),
    "an author who does not exist": (
        lambda m, b: batch(m, b, encode_entry(1, 3, 1, m.sim.now_ms, b"")),
        "author 3 of",
    ),
    "author 255": (lambda m, b: batch(m, b, encode_entry(1, 255, 1, m.sim.now_ms, b"")), "author 255 of"),
    "an entry without header": (lambda m, b: batch(m, b, b"short"), "entry of 5 bytes"),
    "an empty entry": (lambda m, b: batch(m, b, b""), "entry of 0 bytes"),
    "a second opening": (lambda m, b: batch(m, b, m.entry(kind=0)), "kind 0 cannot be submitted"),
    "an unknown kind": (lambda m, b: batch(m, b, m.entry(kind=200)), "kind 200 cannot be submitted"),
    "a tick with payload": (lambda m, b: batch(m, b, m.entry(b"x", kind=2)), "carries no payload"),
    "a payload beyond the limit": (lambda m, b: batch(m, b, m.entry(b"x" * 101)), "the channel's limit is 100"),
    "too many entries": (
        lambda m, b: batch(m, b, *(m.entry(counter=2 + i) for i in range(5))),
        "batch of 5 entries",
    ),
    "too many bytes": (
        lambda m, b: batch(m, b, *(m.entry(b"x" * 90, counter=2 + i) for i in range(3))),
        "324 bytes",
    ),
    "an entry the app refuses": (lambda m, b: batch(m, b, m.entry(b"bad")), "rejected: the payload is bad"),
    "a close that shares its batch": (
        lambda m, b: batch(m, b, m.entry(b"", kind=Kind.CLOSE), m.entry(counter=3)),
        "a close shares its batch",
    ),
    "a close behind another entry": (
        lambda m, b: batch(m, b, m.entry(), m.entry(b"", counter=3, kind=Kind.CLOSE)),
        "a close shares its batch",
    ),
    "final without a close": (lambda m, b: bent(m, b, is_final=True), "final exactly when"),
    "final without any entry": (lambda m, b: m.proposal(m.state(b, [], is_final=True)), "finality"),
    "a close that is not final": (
        lambda m, b: m.proposal(m.state(b, [m.entry(b"", kind=Kind.CLOSE)], is_final=False)),
        "final exactly when",
    ),
    "no entries but another root": (lambda m, b: m.proposal(m.state(b, [], state_root=bytes(32))), "without entries"),
    "no entries but another outcome": (
        lambda m, b: m.proposal(m.state(b, [], amounts=(9).to_bytes(32, "big") + (6).to_bytes(32, "big"))),
        "without entries",
    ),
    "no entries but another time": (lambda m, b: m.proposal(m.state(b, [], time_ms=5)), "without entries"),
    "another channel's id in the hash": (
        lambda m, b: m.proposal(m.state(b, [m.entry()]), signature=other_channels_signature(m, b)),
        "wrong signature",
    ),
}


def other_channels_signature(m: Mallory, bob: SimNode) -> bytes:
    """Her signature under the same words in a second channel with the same participants."""
    second = m.node.open([bob], limits=LIMITS, slots=(10, 5))
    setup = m.node.engine(second).state.setup
    return m.signer.sign(setup.hash(m.state(bob, [m.entry()])))


@pytest.mark.parametrize("name", PROPOSALS)
@pytest.mark.parametrize("count", [2, 3])
def test_rule_3_and_11_a_bad_proposal_is_refused_and_changes_nothing(name: str, count: int) -> None:
    """Refused with a reason, nothing stored or signed; a good proposal afterwards is signed as if nothing had been."""
    _sim, mallory, bob, channel = table(count)
    bob.submit(channel, b"bob 2")
    make, reason = PROPOSALS[name]
    message = make(mallory, bob)
    before = stored(bob, channel)
    assert reason in mallory.say(bob, message)
    assert stored(bob, channel) == before
    good = [mallory.entry(b"good", counter=2), mallory.entry(b"bob 2", author=1)]
    assert mallory.propose(bob, good) == ""
    signed = bob.engine(channel).state
    if count == 2:
        assert bob.supported(channel)[-2:] == good
        assert signed.outstanding == ()
    else:
        assert signed.candidates[-1].entries == tuple(good)


def test_rule_3_a_state_from_the_past_is_refused() -> None:
    sim, mallory, bob, channel = table()
    old = mallory.state(bob, [mallory.entry()])
    sim.now_ms += TOLERANCE + 100
    before = stored(bob, channel)
    assert "time: state time" in mallory.say(bob, mallory.proposal(old))
    assert stored(bob, channel) == before


def test_rule_3_own_messages_may_not_be_omitted_or_reordered() -> None:
    """Bob's 2 and 3 are submitted: 3 without 2, or before it, is refused; 2 listed as refused makes 3 acceptable."""
    _sim, mallory, bob, channel = table()
    bob.submit(channel, b"two", b"three")
    two, three = (mallory.entry(p, author=1, counter=c) for p, c in ((b"two", 2), (b"three", 3)))
    assert "omitted: our submission 2 is left out" in mallory.propose(bob, [three])
    assert "counter 2 of author 1 after 3" in mallory.propose(bob, [three, two])
    state = mallory.state(bob, [three])
    assert mallory.say(bob, mallory.proposal(state, refused=(Refused(1, 2, "no", "not today"),))) == ""
    assert bob.decided == [(2, "no", "not today")]
    assert [decode_entry(e).payload for e in bob.supported(channel)[-1:]] == [b"three"]


def test_rule_3_an_own_message_is_not_included_and_refused_at_once() -> None:
    """Bob would be told that it was refused while it counts, and say it again."""
    _sim, mallory, bob, channel = table()
    bob.submit(channel, b"two")
    state = mallory.state(bob, [mallory.entry(b"two", author=1)])
    refused = (Refused(1, 2, "no", "no"),)
    assert "included and refused at once" in mallory.say(bob, mallory.proposal(state, refused=refused))
    assert bob.decided == []


def test_rule_3_a_message_that_was_refused_does_not_come_back() -> None:
    _sim, mallory, bob, channel = table()
    bob.submit(channel, b"two")
    assert mallory.say(bob, Decisions(channel, (Refused(1, 2, "no", "no"),))) == ""
    assert bob.decided == [(2, "no", "no")]
    assert "not what we submitted" in mallory.propose(bob, [mallory.entry(b"two", author=1)])


def test_rule_2_one_turn_is_signed_once() -> None:
    """A second proposal of a signed turn is refused, also after a restart; the first one again gets the signature."""
    _sim, mallory, bob, channel = table(3)
    first = mallory.proposal(mallory.state(bob, [mallory.entry(b"first")]))
    second = mallory.proposal(mallory.state(bob, [mallory.entry(b"second")]))
    assert first.turn == second.turn
    assert mallory.say(bob, first) == ""
    for _ in range(2):
        before = stored(bob, channel)
        assert "a second proposal of turn" in mallory.say(bob, second)
        mallory.heard.clear()
        assert mallory.say(bob, first) == ""
        assert mallory.heard
        assert stored(bob, channel)[:2] == before[:2]
        bob.crash()
        bob.start()
    assert "a second proposal of turn" in mallory.say(bob, second)


def test_rule_2_a_lower_turn_than_signed_is_never_signed() -> None:
    _sim, mallory, bob, channel = table(3)
    state = mallory.state(bob, [mallory.entry()])
    high = msgspec.structs.replace(state, turn=state.turn + 10)
    assert mallory.say(bob, mallory.proposal(high)) == ""
    assert "is not above turn" in mallory.say(bob, mallory.proposal(state))
    assert [c.turn for c in bob.engine(channel).state.candidates] == [high.turn]


def test_a_turn_that_is_supported_already_is_answered_with_the_full_set() -> None:
    """The stale state is not signed; whoever sent it honestly learns where everybody is."""
    _sim, mallory, bob, channel = table()
    old = mallory.proposal(mallory.state(bob, [mallory.entry()], turn=1))
    before = stored(bob, channel)
    mallory.say(bob, old)
    assert mallory.heard_of(Supported)[-1].turn == bob.engine(channel).state.turn
    assert stored(bob, channel) == before


def test_rule_5_after_a_final_state_only_that_outcome_is_signed() -> None:
    """Neither a non-final state nor a final one with another outcome; the same outcome again is fine."""
    sim, mallory, bob, channel = table(3)
    close = mallory.entry(b"", kind=Kind.CLOSE)
    assert mallory.propose(bob, [close]) == ""
    assert bob.engine(channel).phase == "closing"
    assert "rule 5" in mallory.propose(bob, [mallory.entry()])
    assert "rule 5" in mallory.propose(bob, [])
    other = (9).to_bytes(32, "big") + (6).to_bytes(32, "big")
    assert "rule 5" in mallory.propose(bob, [close], amounts=other)
    bob.crash()
    bob.start()
    sim.run()
    bob.admission.load(bob.engine(channel).state.setup.context, [bob.supported(channel)])
    assert "rule 5" in mallory.propose(bob, [mallory.entry()])
    assert mallory.propose(bob, [close]) == ""
    assert len(bob.engine(channel).state.candidates) == 2


def test_rule_8_no_entry_before_the_postfund_state() -> None:
    """A batch in turn 1 is not signed, and waits in vain."""
    sim = Sim(2)
    alice, bob = sim.nodes
    sim.tap = lambda sender, to, data: None if data[1:].startswith(b"\xa7propose") else data
    channel = alice.open([bob])
    sim.run()
    mallory = Mallory(sim, alice, channel)
    sim.tap = None
    assert bob.engine(channel).state.turn == 0
    mallory.propose(bob, [mallory.entry(b"early", counter=1)])
    assert bob.engine(channel).state.candidates == ()
    assert mallory.propose(bob, []) == ""
    assert bob.engine(channel).state.turn == 1
    assert bob.engine(channel).phase == "running"
