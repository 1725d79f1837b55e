"""A participant whose log lacks what everybody signed, itself included, gets it back from the others (rules 4, 6)."""

from __future__ import annotations

import msgspec
import pytest

from scapp.channels.channel.events import StateAdopted, decode_event
from scapp.channels.channel.messages import Entries, EntriesWanted, Status, Supported
from scapp.channels.entries import decode_entry
from tests.support.checkers import check_log
from tests.support.mallory import Mallory, stored
from tests.support.sim import Sim, SimNode


def behind(count: int, batches: int) -> tuple[Sim, SimNode, bytes]:
    """The last participant has lost the end of its log: an older copy of its disk was put back."""
    sim = Sim(count)
    channel = sim.nodes[0].open(sim.nodes[1:], slots=(10, 5))
    sim.run()
    sim.nodes[0].submit(channel, b"first")
    sim.run()
    last = sim.nodes[-1]
    old = last.log.durable_copy()
    for i in range(batches):
        sim.nodes[i % count].submit(channel, b"batch %d" % i)
        sim.run()
    last.crash()
    last.log = old
    return sim, last, channel


def adopted(node: SimNode, channel: bytes) -> int:
    events = [decode_event(data) for page in node.log.read(channel) for data in page.events]
    return sum(isinstance(event, StateAdopted) for event in events)


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("batches", [1, 7])
def test_the_full_set_and_its_entries_are_adopted(count: int, batches: int) -> None:
    """Checked like a proposal: entries lead to the signed log root, and the app gives the signed state root."""
    sim, node, channel = behind(count, batches)
    node.start()
    sim.run()
    assert adopted(node, channel) == 1
    check = check_log(node.log, channel)
    assert check is not None
    assert check.log == sim.nodes[0].supported(channel)
    assert len(check.log) == 2 + batches
    sim.nodes[0].submit(channel, b"goes on")
    sim.run()
    assert decode_entry(node.supported(channel)[-1]).payload == b"goes on"


@pytest.mark.parametrize("bend", ["altered", "reordered", "cut", "too many", "none", "elsewhere", "short"])
def test_rule_6_entries_that_do_not_lead_to_the_signed_root_are_not_adopted(bend: str) -> None:
    """Mallory answers instead of an honest node: nothing is stored, and the honest answer is taken afterwards."""
    sim, node, channel = behind(3, 4)
    alice = sim.nodes[0]
    entries = alice.supported(channel)
    mallory = Mallory(sim, sim.nodes[1], channel)
    sim.tap = lambda sender, to, data: None if sender == 0 else data
    node.start()
    sim.run()
    head = alice.engine(channel).state.head
    assert head is not None
    state = mallory.state(alice, (), turn=head.turn)
    before = stored(node, channel)
    mallory.say(node, mallory.supported(state, head.signatures))
    wanted = mallory.heard_of(EntriesWanted)[-1]
    right = entries[wanted.first : wanted.end]
    first, wrong = (
        wanted.first,
        {
            "altered": [*right[:-1], right[-1] + b"!"],
            "reordered": right[::-1],
            "cut": [*right[:-1], right[-1][:5]],
            "too many": [*right[::-1], *right],
            "none": [],
            "elsewhere": right,
            "short": [b""] * len(right),
        }[bend],
    )
    mallory.say(node, Entries(channel, first + (bend == "elsewhere"), tuple(wrong)))
    assert stored(node, channel) == before
    sim.tap = None
    sim.settle(rounds=4)
    assert node.supported(channel) == entries


def test_rule_4_a_full_set_below_what_is_signed_is_not_appended() -> None:
    """The lost turn was signed by all, and so was a higher one since: the log does not fork, and no turn is reused."""
    sim, node, channel = behind(3, 1)
    alice = sim.nodes[0]
    mallory = Mallory(sim, alice, channel)
    sim.tap = lambda sender, to, data: None
    node.start()
    sim.run()
    sim.tap = None
    head = alice.engine(channel).state.head if channel in alice.drivers else None
    assert head is not None
    node.admission.load(node.engine(channel).state.setup.context, [node.supported(channel)])
    higher = mallory.state(node, [mallory.entry(b"other", counter=9)], turn=head.turn + 5)
    assert mallory.say(node, mallory.proposal(higher)) == ""
    assert node.engine(channel).state.signed_turn == head.turn + 5
    before = stored(node, channel)
    lost = Supported(
        channel,
        head.turn,
        head.is_final,
        head.sequence,
        head.log_root,
        head.state_root,
        head.amounts,
        head.time_ms,
        tuple(head.signatures),  # type: ignore[arg-type]
    )
    assert "rule 4" in mallory.say(node, lost)
    assert stored(node, channel) == before
    check_log(node.log, channel)


def test_asking_often_costs_no_state() -> None:
    """A flood of wishes and statuses stores nothing, and everybody still answers others."""
    sim = Sim(3)
    channel = sim.nodes[0].open(sim.nodes[1:])
    sim.run()
    sim.nodes[0].submit(channel, b"x")
    sim.run()
    mallory = Mallory(sim, sim.nodes[2], channel)
    alice = sim.nodes[0]
    before = stored(alice, channel)
    for i in range(300):
        mallory.say(alice, EntriesWanted(channel, i % 3, 2**63 - 1))
        mallory.say(alice, Status(channel, -1, -1, 0, bytes(32), True))
    assert stored(alice, channel) == before
    answers = mallory.heard_of(Entries)
    assert {len(m.entries) for m in answers} == {1, 2}
    assert msgspec.structs.astuple(answers[0])[0] == channel
