"""Turns one virtual channel on as far as it goes, and says what it wants of this node's ledgers.

Like everything here it computes the pause point from the record and never stores it: asked again, it says the same.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from scapp.channels.books.step import NOTHING, Context, Step
from scapp.channels.ledger.balances import Guarantee
from scapp.channels.ledger.consensus import Ledger
from scapp.channels.ledger.proposals import Add, Remove
from scapp.channels.types import Address
from scapp.channels.virtual import abort, defunding, funding
from scapp.channels.virtual.events import GuaranteeGone, GuaranteeHeld, Side, VirtualEvent
from scapp.channels.virtual.pending import news
from scapp.channels.virtual.record import RIGHT, VirtualRecord, evolve

Place = Literal["unknown", "absent", "queued", "held"]
"""The guarantee in a ledger: the ledger is not to be seen, or there is none on that side; not there; proposed and not
countersigned; in the co-signed state (where a removal may be queued)."""


class Funding(msgspec.Struct, frozen=True, gc=False):
    """How things stand in this node's two ledgers. `impossible`: why the guarantee cannot be put into one of them, an
    empty string otherwise (the ledger lacks funds, or is closing)."""

    left: Place = "unknown"
    right: Place = "unknown"
    impossible: str = ""


def place_of(record: VirtualRecord, at: int, ledger: Ledger | None) -> Place:
    """Where the guarantee stands in the ledger on that side; `ledger` is None while it does not run, or recovers: one
    from a backup may not know of a guarantee that stands."""
    side = record.right if at == RIGHT else record.left
    if side is None or ledger is None or ledger.channel_id != side.ledger:
        return "unknown"
    held = {each.asset: each.find(record.channel_id) for each in ledger.current.assets}
    if any(held.values()):
        wanted = funding.guarantee(record, at, side)
        expected = [Guarantee(wanted.target, part.amount, wanted.left, wanted.right) for part in wanted.parts]
        found = [held.get(part.asset) for part in wanted.parts]
        return "held" if found == expected else "unknown"
    for each in ledger.queue:
        if isinstance(each.proposal, Add) and each.proposal.target == record.channel_id:
            return "queued"
    return "absent"


def crank(record: VirtualRecord, places: Funding, context: Context) -> Step:
    """The next facts, this node's signatures among them, and what its neighbours should hear of them."""
    events: list[VirtualEvent] = []
    now = record
    while (event := _next(now, places, context)) is not None:
        events.append(event)
        now = evolve(now, event)
    return Step(tuple(events), news(record, now)) if events else NOTHING


def _next(record: VirtualRecord, places: Funding, context: Context) -> VirtualEvent | None:
    if record.over:
        return None
    noted = _noted(record, places)
    if noted is not None or record.recovering or record.on_chain is not None:
        return noted
    return (
        abort.decide(record, places.impossible, context)
        or funding.decide(record, context, proposed=places.right == "queued")
        or defunding.decide(record, context)
    )


def _noted(record: VirtualRecord, places: Funding) -> VirtualEvent | None:
    """What the ledgers show that the record does not say yet."""
    for at, side in record.sides:
        place = places.right if at == RIGHT else places.left
        if place == "held" and not record.held[at]:
            return GuaranteeHeld(record.channel_id, at)
        if place == "absent" and not record.gone[at] and (record.held[at] or _never_comes(record, side)):
            return GuaranteeGone(record.channel_id, at, record.on_chain is not None)
    return None


def _never_comes(record: VirtualRecord, side: Side) -> bool:
    """Will a guarantee that is not in a ledger never come? Its leader knows once it has given the channel up. And with
    a complete final state it was there, before this node was restored."""
    given_up = record.signed(record.aborted) or record.on_chain is not None
    return (side.leads and given_up) or (record.final is not None and record.final.complete)


def ledger_wants(record: VirtualRecord) -> tuple[tuple[Address, Add | Remove], ...]:
    """(neighbour, change) that this node wants of its ledgers now: as their leader it proposes them, as their follower
    it signs them when they are proposed."""
    if record.recovering:
        return ()
    wants: list[tuple[Address, Add | Remove]] = []
    for at, side in record.sides:
        if funding.wants_guarantee(record, at, side):
            wants.append((Address(side.peer), funding.guarantee(record, at, side)))
        wants += [(Address(side.peer), change) for change in defunding.removals(record, at, side)]
    return tuple(wants)


def deadline_ms(record: VirtualRecord, context: Context) -> int | None:
    """When time alone makes `crank` decide something, by this node's clock; None if never."""
    return abort.deadline_ms(record, context)
