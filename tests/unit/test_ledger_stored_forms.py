"""What nodes keep on disk of their ledgers: every fact is read back from, and written as, the bytes in tests/golden."""

from __future__ import annotations

import json
from typing import get_args

import msgspec
import pytest

from scapp.channels.adjudicator_status import Status
from scapp.channels.ledger import events
from scapp.channels.ledger.balances import Parties, opening_balances
from scapp.channels.ledger.chain_facts import Enforceable, LedgerExitStarted, LedgerSeen, Seen, Shown
from scapp.channels.ledger.events import LedgerEvent
from scapp.channels.ledger.proposals import Add, Expand, Merge, Part, Proposal, Remove, Retract, Transfer, apply
from scapp.channels.ledger.wire import balances_to_wire, to_wire
from scapp.channels.reading import SignedState
from scapp.channels.types import Address, ChannelId, Destination
from tests.support.tree import ROOT

GOLDEN: dict[str, str] = json.loads((ROOT / "tests" / "golden" / "ledger-forms.json").read_text())
CHANNEL = b"\xc0" * 32
COIN, TOKEN = Address(bytes(20)), Address(b"\x70" * 20)
LEADER, FOLLOWER = (Destination(bytes(12) + letter * 20) for letter in (b"\xaa", b"\xbb"))
V = ChannelId(b"\xff" * 32)
ADD = Add(V, LEADER, FOLLOWER, (Part(COIN, 2**255, 7), Part(TOKEN, 3, 0)), 5)
PROPOSALS: dict[str, Proposal] = {
    "add": ADD,
    "remove": Remove(V, (Part(COIN, 2**255, 9),), 5),
    "transfer": Transfer(TOKEN, 2**64, 1),
    "expand": Expand(COIN, 9, 0),
    "merge": Merge(COIN, 0),
    "retract": Retract(COIN, 1),
}
OPENING = opening_balances(Parties(LEADER, FOLLOWER), [(COIN, 9, 2**255), (TOKEN, 5, 5)])
BALANCES = apply(apply(OPENING, PROPOSALS["expand"]), Add(V, LEADER, FOLLOWER, (Part(TOKEN, 3, 1),)))
SIGNATURE, OTHER, HASH = b"\x04" * 65, b"\x05" * 65, b"\x06" * 32
HELD = (b"\x0e" * 32, bytes(32))
STATE = SignedState(
    (b"\x0a" * 20, b"\x0b" * 20), 7, b"\x0c" * 20, 600, b"", b"outcome", 3, False, (SIGNATURE, b"")
)  # fmt: skip
FACTS: list[LedgerEvent] = [
    events.LedgerCreated(
        CHANNEL, 1, (b"\x0a" * 20, b"\x0b" * 20), 2**63, b"\x0c" * 20, 86_400, (LEADER, FOLLOWER),
        ((COIN, HASH, bytes(32)),), 1_700_000_000_000, SIGNATURE,
    ),
    events.LedgerRejected(CHANNEL, 1, "no money"),
    events.StageSigned(CHANNEL, 1, 0, SIGNATURE),
    *(events.ProposalSigned(CHANNEL, 7, to_wire(each), HASH, SIGNATURE, 3) for each in PROPOSALS.values()),
    events.FollowerSigned(CHANNEL, 7, SIGNATURE),
    events.Countersigned(CHANNEL, 7, to_wire(ADD), SIGNATURE, OTHER, 3),
    events.Requested(CHANNEL, 3, to_wire(PROPOSALS["transfer"])),
    events.RequestDropped(CHANNEL, 3, "insufficient funds"),
    events.AskDeclined(CHANNEL, 3, "insufficient funds"),
    events.CloseRequested(CHANNEL, 1),
    events.FinalStateSigned(CHANNEL, 8, 0, SIGNATURE, 1_700_000_000_000),
    events.LedgerRestored(CHANNEL, b"\x06" * 16, 1_700_000_000_000, 1_600_000_000_000),
    events.PeerRestoreSeen(CHANNEL, b"\x06" * 16, 263, 17),
    events.LedgerRecovered(CHANNEL, 263, False, 3, (2, 3), balances_to_wire(BALANCES), (SIGNATURE, OTHER)),
    LedgerSeen(
        CHANNEL,
        Seen(
            Shown(2**40, HASH, HELD, Status(7, 2**40, b"\x07" * 20), Enforceable(STATE, (STATE,))),
            Shown(2**40 - 3, HASH, (bytes(32), bytes(32)), Status(0, 0, bytes(20))),
            2**40 - 60,
        ),
        True,
        HELD,
        (HASH, b"outcome"),
    ),
    LedgerExitStarted(CHANNEL, "no answer"),
]  # fmt: skip


def name_of(event: LedgerEvent) -> str:
    """Its tag, and for a proposal which one."""
    tag: str = msgspec.inspect.type_info(type(event)).tag  # type: ignore[attr-defined, assignment]
    return f"{tag} {msgspec.to_builtins(event)[3][0]}" if isinstance(event, events.ProposalSigned) else tag


EVENTS = {name_of(event): event for event in FACTS}


@pytest.mark.parametrize("name", EVENTS)
def test_facts_of_ledgers_keep_their_bytes(name: str) -> None:
    """A node of this release reads what earlier ones stored, and writes what they read."""
    assert msgspec.msgpack.encode(EVENTS[name]).hex() == GOLDEN[name]
    assert msgspec.msgpack.decode(bytes.fromhex(GOLDEN[name]), type=LedgerEvent) == EVENTS[name]


def test_no_fact_of_a_ledger_is_without_its_bytes() -> None:
    """A new fact, or a new kind of change, brings its golden encoding, and the file holds no other."""
    assert {type(event) for event in FACTS} == set(get_args(LedgerEvent))
    assert {type(each) for each in PROPOSALS.values()} == set(get_args(Proposal))
    assert set(GOLDEN) == set(EVENTS)
