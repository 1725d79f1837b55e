"""VirtualFund: guarantees go into the ledgers along the path, then the postfund state is signed (ADR 0015).

Where a hub passes fees on, its right ledger takes the guarantee only after its left one, so that it has been paid
before it pays. Hubs sign the postfund state after both ends: whoever gives the channel up later has then shown that it
had not signed, and nobody uses a channel and takes the fee back.
"""

from __future__ import annotations

from scapp.channels.books.step import Context
from scapp.channels.ledger.proposals import Add, Part
from scapp.channels.types import Destination
from scapp.channels.virtual.events import Side, VirtualEvent
from scapp.channels.virtual.milestones import sign
from scapp.channels.virtual.record import LEFT, RIGHT, VirtualRecord


def decide(record: VirtualRecord, context: Context, *, proposed: bool = False) -> VirtualEvent | None:
    """This node's postfund signature, once it may be given. In an app channel its two parties give theirs elsewhere.
    `proposed`: this node has signed, as leader, the change that puts the guarantee into its right ledger.

    To a payer that is enough: it has nothing from the channel, so whoever let it run without the payer's guarantee
    would pay for it (ADR 0068). Everybody else waits until its ledgers hold theirs."""
    if record.is_app_party or record.postfund is None or record.signed(record.postfund):
        return None
    pays = record.agreement.kind == "payment" and record.my_index == 0
    if not (record.guaranteed or (pays and proposed)):
        return None
    if not record.prefund.complete or record.cleared or record.leaving:
        return None
    if record.aborting or record.end_wanted or record.final is not None or record.rejected_by >= 0:
        return None
    if record.is_hub and not (record.signed(record.postfund, 0) and record.signed(record.postfund, -1)):
        return None
    return sign(record, "postfund", context)


def wants_guarantee(record: VirtualRecord, at: int, side: Side) -> bool:
    """Should the guarantee go into that ledger? A follower agrees even while the channel is given up: its leader may
    have signed before it knew, and what is signed can only be followed by a removal. A leader begins nothing then."""
    if not record.prefund.complete or record.held[at] or record.gone[at]:
        return False
    fee = record.agreement.fee_in(ledger_index(record, at))
    if at == RIGHT and fee and record.left is not None and not record.held[LEFT]:
        return False
    if not side.leads:
        return True
    if record.aborting or record.end_wanted or record.rejected_by >= 0 or record.leaving:
        return False
    if record.final is not None:
        return False  # it was there before anybody signed that state: a restored leader has forgotten it, and its end
    # The payer of this fee, to the left, agrees only when it has been paid itself; the queue must not wait for that.
    return not (at == LEFT and fee and record.my_index > 1 and not record.left_held)


def guarantee(record: VirtualRecord, at: int, side: Side) -> Add:
    """The change that puts it in."""
    left, right = (side.mine, side.theirs) if at == RIGHT else (side.theirs, side.mine)
    return Add(
        record.channel_id,
        Destination(left),
        Destination(right),
        tuple(Part(each.asset, each.total, each.first) for each in record.agreement.assets),
        fee=record.agreement.fee_in(ledger_index(record, at)),
    )


def ledger_index(record: VirtualRecord, at: int) -> int:
    """Which ledger on the path it is: number i lies between participants i and i + 1."""
    return record.my_index if at == RIGHT else record.my_index - 1
