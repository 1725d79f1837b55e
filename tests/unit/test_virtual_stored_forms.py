"""What nodes keep on disk of their virtual channels: every fact is read back from, and written as, the bytes in
tests/golden."""

from __future__ import annotations

import json
from typing import get_args

import msgspec
import pytest

from scapp.channels.adjudicator_status import Status
from scapp.channels.ledger.chain_facts import Enforceable, Seen, Shown, VirtualExitStarted, VirtualSeen
from scapp.channels.reading import SignedState
from scapp.channels.virtual import events
from scapp.channels.virtual.events import VirtualEvent
from scapp.channels.virtual.record import VirtualRecord, create, evolve
from tests.support.tree import ROOT
from tests.support.virtual_net import Net

GOLDEN: dict[str, str] = json.loads((ROOT / "tests" / "golden" / "virtual-forms.json").read_text())
CHANNEL, HASH, SIGNATURE, TOKEN = b"\xc0" * 32, b"\x06" * 32, b"\x04" * 65, b"\x06" * 16
AMOUNTS = (2**255).to_bytes(32, "big") + (7).to_bytes(32, "big")
STATE = SignedState(
    (b"\x0a" * 20, b"\x0b" * 20), 7, b"\x0c" * 20, 600, b"", b"outcome", 3, False, (SIGNATURE, b"")
)  # fmt: skip
SIDE = events.Side(b"\x0a" * 20, b"\xc1" * 32, HASH, b"\x07" * 32, True)
FACTS: list[VirtualEvent] = [
    events.VirtualCreated(
        CHANNEL, 1,
        events.Agreed(
            "app", (b"\x0a" * 20, b"\x0b" * 20, b"\x0d" * 20), 2**63, b"\x0c" * 20, 86_400, (HASH, b"\x07" * 32),
            ((bytes(20), AMOUNTS),), b"app data", (5).to_bytes(32, "big"),
        ),
        SIDE, None, 1_700_000_000_000,
    ),
    events.Signed(CHANNEL, "final", 9, AMOUNTS, b"app data", (SIGNATURE, b"", b"\x05" * 65)),
    events.Rejected(CHANNEL, 2, "too small a fee"),
    events.JoiningRefused(CHANNEL, 2),
    events.EndWanted(CHANNEL, "its owner wants it to end"),
    events.TotalKnown(CHANNEL, HASH),
    events.GuaranteeHeld(CHANNEL, 1),
    events.GuaranteeGone(CHANNEL, 0, True),
    events.NeighbourReady(CHANNEL, "cleared"),
    events.SettledOnChain(CHANNEL, AMOUNTS),
    events.VirtualRestored(CHANNEL, TOKEN),
    events.NeighbourTold(CHANNEL, 1, TOKEN),
    VirtualSeen(
        CHANNEL,
        Seen(
            Shown(2**40, HASH, (), Status(7, 2**40, b"\x07" * 20), Enforceable(STATE, (STATE,))),
            Shown(2**40 - 3, HASH, (), Status(0, 0, bytes(20))),
            2**40 - 60,
        ),
        Enforceable(STATE),
    ),
    VirtualExitStarted(CHANNEL, "no answer"),
]  # fmt: skip
EVENTS = {str(msgspec.inspect.type_info(type(event)).tag): event for event in FACTS}  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", EVENTS)
def test_facts_of_virtual_channels_keep_their_bytes(name: str) -> None:
    """A node of this release reads what earlier ones stored, and writes what they read."""
    assert msgspec.msgpack.encode(EVENTS[name]).hex() == GOLDEN[name]
    assert msgspec.msgpack.decode(bytes.fromhex(GOLDEN[name]), type=VirtualEvent) == EVENTS[name]


def test_no_fact_of_a_virtual_channel_is_without_its_bytes() -> None:
    """A new fact brings its golden encoding, and the file holds no other."""
    assert {type(event) for event in FACTS} == set(get_args(VirtualEvent))
    assert set(GOLDEN) == set(EVENTS)


def test_every_fact_folds() -> None:
    """In any order behind the first: nothing that was stored keeps a node from starting."""
    created = FACTS[0]
    assert isinstance(created, events.VirtualCreated)
    record = create(created)
    for event in FACTS[1:]:
        record = evolve(record, event)
    assert record.channel_id == CHANNEL
    assert (record.on_chain, record.total) == (((2**255, 7),), int.from_bytes(HASH, "big"))


def test_a_record_is_the_same_after_a_snapshot() -> None:
    """As JSON, amounts of 256 bits included."""
    net = Net(3, funds=2**200)
    channel = net.open(net.agreement(amounts=((2**199, 0),)))
    net.run()
    for party in net.parties:
        record = party.records[channel]
        assert msgspec.json.decode(msgspec.json.encode(record), type=VirtualRecord) == record
