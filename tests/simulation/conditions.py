"""What must happen *sometimes*: a simulation that never got there proves nothing about it (`run.py` reports).

A condition is a sentence that `Sim.saw` is told while a life plays, or that `reached` finds in it afterwards.
"""

from __future__ import annotations

from scapp.channels.channel.events import (
    Recovered,
    StateAdopted,
    StateCompleted,
    StateRecalled,
    StateSigned,
    SubmissionsDropped,
    decode_event,
)
from scapp.channels.entries import decode_entry
from tests.simulation.hubs.conditions import HUB_CONDITIONS
from tests.simulation.plan import HOSTILE_ACTS
from tests.support.sim import Sim, SimNode

NETWORK = (
    "a message was lost",
    "a message was duplicated",
    "messages changed places",
    "a message was delayed",
    "a message met a partition",
    "a partition healed",
    "a connection broke with messages on it",
)
DISK = (
    "a crash before a write",
    "a crash between a write and acting on it",
    "unsynced writes were lost",
    "a torn record was cut",
    "the unsynced end was damaged",
    "a node refused to start on a damaged disk",
    "a channel of a damaged disk stayed closed, its node went on",
    "a corrupt outbox was passed over",
    "a damaged snapshot was passed over",
    "a write found the disk full",
    "a sync failed",
    "a channel halted: LogWriteFailed",
    "a disk was slow",
    "a base was loaded from a snapshot",
)
DATABASE = (
    "batches were signed while the database was away",
    "the database was away",
    "the database was slow",
    "a database that was behind caught up",
)
CHANNEL = (
    "closed",
    "a channel that is over went to the disk",
    "a channel that is over was asked for",
    "something was refused",
    "a proposal was refused",
    "a replaced proposal was completed",
    "a submission was dropped",
    "a dropped submission came back",
    "retimed",
    "lost before the first write",
    "a channel was rejected",
    "a state was refused for its time",
    "a clock jumped",
    "the real kernel ran",
    "the real kernel refused a message",
    "a restart found a proposal in flight",
    "a restart found a final state in flight",
    "everybody restarted",
)
PEERS = (*(f"Mallory: {kind}" for kind in HOSTILE_ACTS), "an honest node refused a peer's message")
CHAIN = (
    "a dispute was raised",
    "a stale challenge was answered",
    "a challenge came during play",
    "the chain was reorganised",
    "a reorganisation undid a deposit",
    "a reorganisation undid a challenge",
    "an event of the chain was missed",
    "a transaction waited in the mempool",
    "a refused final state was concluded later",
    "a channel was concluded on chain",
    "a payout was withdrawn",
    "Mallory: challenge",
)
VIRTUAL = (
    "a backing was repeated",
    "a virtual channel was not funded",
    "a virtual channel was released",
    "a virtual channel was settled on chain",
    "the ledgers of a virtual channel were disputed",
    "a dispute of the ledgers was cleared",
    "a virtual channel was given up",
)
RESTORE = (
    "a node came back from a backup",
    "a node came back from a stale backup",
    "a state was adopted",
    "a state was recalled",
    "a restored node went on",
)
CONDITIONS = (*NETWORK, *DISK, *DATABASE, *CHANNEL, *PEERS, *CHAIN, *VIRTUAL, *RESTORE, *HUB_CONDITIONS)

NOT_YET_REACHABLE: tuple[str, ...] = ()
"""What needs a part that the simulator does not have yet; each moves up when it gets it."""


def reached(sim: Sim, channel: bytes, nodes: list[SimNode]) -> set[str]:
    """What the logs of these nodes and what they told their owners show; the rest was told while it happened."""
    seen: set[str] = set()
    present = [n for n in nodes if n.up and channel in n.drivers]
    if any(n.engine(channel).state.final_signed for n in present):
        seen.add("closed")
    if any(n.engine(channel).state.rejected is not None for n in present):
        seen.add("a channel was rejected")
    if any(n.refused for n in nodes):
        seen.add("something was refused")
    told = [t for n in nodes for t in n.told]
    if any(t.kind == "refused" for t in told):
        seen.add("a proposal was refused")
    if any(t.kind == "refused" and "time:" in t.detail for t in told):
        seen.add("a state was refused for its time")
    if any("completed after it was replaced" in t.detail for t in told):
        seen.add("a replaced proposal was completed")
    for node in present:
        seen |= _in_log(node, channel)
    return seen


def _in_log(node: SimNode, channel: bytes) -> set[str]:
    seen: set[str] = set()
    events = [decode_event(e) for page in node.log.read(channel) for e in page.events]
    if any(isinstance(e, StateAdopted) for e in events):
        seen.add("a state was adopted")
    if any(isinstance(e, StateRecalled) for e in events):
        seen.add("a state was recalled")
    if any(isinstance(e, Recovered) for e in events):
        seen.add("a restored node went on")
    dropped = {(r.author, r.counter) for e in events if isinstance(e, SubmissionsDropped) for r in e.refused}
    if dropped:
        seen.add("a submission was dropped")
    if dropped & {(e.author, e.counter) for e in map(decode_entry, node.supported(channel))}:
        seen.add("a dropped submission came back")
    if node.index == 0 and _retimed([e.state.entries for e in events if isinstance(e, StateSigned | StateCompleted)]):
        seen.add("retimed")
    return seen


def _retimed(signed: list[tuple[bytes, ...]]) -> bool:
    """Was a proposal repeated with another time and nothing else changed?"""
    bare = [tuple((e.author, e.counter, e.payload) for e in map(decode_entry, entries)) for entries in signed]
    pairs = zip(signed, signed[1:], bare, bare[1:], strict=False)
    return any(a != b and x == y for a, b, x, y in pairs)


def in_flight(node: SimNode, channel: bytes) -> set[str]:
    """What a node that comes back finds unfinished."""
    if channel not in node.drivers:
        return set()
    candidates = node.engine(channel).state.candidates
    seen = {"a restart found a proposal in flight"} if candidates else set()
    if any(c.is_final for c in candidates):
        seen.add("a restart found a final state in flight")
    return seen
