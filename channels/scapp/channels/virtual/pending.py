"""What a neighbour may lack, computed from the record: said when it changes, again while this node waits."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from scapp.channels.books.step import Send
from scapp.channels.types import Address
from scapp.channels.virtual.agreement import pack_amounts, to_message
from scapp.channels.virtual.messages import Final, Postfund, Refused, Said, VirtualMessage
from scapp.channels.virtual.record import LEFT, RIGHT, VirtualRecord
from scapp.channels.virtual.standing import waits

REASON_MAX = 512


def say(record: VirtualRecord, peer: Address) -> Said:
    """All that this node knows and that neighbour may need."""
    right = record.right is not None and record.right.peer == peer
    left = record.left is not None and record.left.peer == peer
    side = record.right if right else record.left
    at = RIGHT if right else LEFT
    # What a neighbour makes its ledger with this node wait for; without fees to pass on, it does not.
    ordered = record.is_hub and record.agreement.fee_in(record.my_index) > 0
    postfund, final, aborted = record.postfund, record.final, record.aborted
    return Said(
        record.channel_id,
        record.prefund.signatures,
        Postfund(postfund.app_data, postfund.signatures) if postfund is not None and any(postfund.signatures) else None,
        Final(final.turn, pack_amounts(final.amounts), final.app_data, final.signatures) if final is not None else None,
        aborted.signatures if aborted is not None else (),
        record.reason[:REASON_MAX] if record.end_wanted else "",
        held=right and ordered and record.held[LEFT],
        cleared=left and ordered and record.gone[RIGHT] and not record.unrefunded[RIGHT],
        never=side is not None
        and side.leads
        and record.gone[at]
        and (aborted is not None or record.on_chain is not None),
        answer=record.recovering,
        token=record.token,
    )


def messages_for(record: VirtualRecord, peer: Address) -> tuple[VirtualMessage, ...]:
    """What there is to tell that neighbour as things stand."""
    if record.rejected and not record.recovering:
        return (Refused(record.channel_id, record.rejected_by, record.reason[:REASON_MAX]),)
    if not record.accepted and not record.recovering:
        return ()
    index = record.my_index + (1 if record.right is not None and record.right.peer == peer else -1)
    if not record.prefund.signatures[index] and not record.recovering:
        return (to_message(record.channel_id, record.agreement, record.prefund.signatures),)
    return (say(record, peer), *_refusals(record, index))


def _refusals(record: VirtualRecord, index: int) -> tuple[Refused, ...]:
    """Who does not take up the channel that is given up, for the neighbour of that index, on the other side: so that it
    does not wait for what cannot come."""
    if record.aborted is None or record.aborted.complete:
        return ()
    reason = record.reason[:REASON_MAX]
    beyond = (each for each in record.refusers if (each > record.my_index) != (index > record.my_index))
    return tuple(Refused(record.channel_id, each, reason) for each in beyond)


def news(before: VirtualRecord | None, after: VirtualRecord, but: Address | None = None) -> tuple[Send, ...]:
    """What a step has changed in what there is to tell the neighbours; nothing to `but`, who has told it."""
    return tuple(
        Send(peer, message)
        for peer in after.peers
        if peer != but
        for message in messages_for(after, peer)
        if before is None or message not in messages_for(before, peer)
    )


def pending(record: VirtualRecord, peer: Address) -> tuple[VirtualMessage, ...]:
    """What to say again to a neighbour, with a request to answer; nothing while this node waits for nobody."""
    if not waits(record):
        return ()
    return tuple(
        msgspec.structs.replace(message, answer=True) if isinstance(message, Said) else message
        for message in messages_for(record, peer)
        if not isinstance(message, Refused)
    )


def coalesced(sends: Iterable[Send]) -> tuple[Send, ...]:
    """Without those that a later one to the same peer about the same channel replaces."""
    kept: dict[object, Send] = {}
    for number, send in enumerate(sends):
        key = (send.peer, send.message.channel) if isinstance(send.message, Said) else number
        kept.pop(key, None)
        kept[key] = send
    return tuple(kept.values())
