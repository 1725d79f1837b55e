"""What the participants of a virtual channel say, taken in: only what proves itself, only where it fits.

A message adds signatures and wishes to what is known, so its order does not matter and a second time it adds nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from scapp.channels.abi import InvalidValue
from scapp.channels.books.step import NOTHING, Send, Step
from scapp.channels.errors import PeerError
from scapp.channels.types import Address
from scapp.channels.virtual.agreement import (
    ABORTED_MARK,
    FINAL_TURN,
    from_message,
    state_of,
    to_message,
    unpack_amounts,
)
from scapp.channels.virtual.defunding import final_fault
from scapp.channels.virtual.events import (
    EndWanted,
    GuaranteeGone,
    JoiningRefused,
    NeighbourReady,
    NeighbourTold,
    Rejected,
    VirtualEvent,
)
from scapp.channels.virtual.messages import Proposed, Refused, Said, Unknown, VirtualMessage
from scapp.channels.virtual.milestones import merged
from scapp.channels.virtual.pending import messages_for, news, say
from scapp.channels.virtual.record import RIGHT, VirtualRecord, evolve


def receive(record: VirtualRecord, peer: Address, message: VirtualMessage) -> Step:
    """Take in what a participant says. Raises PeerError for what is not allowed; then nothing changes. Whatever is new
    is passed on along the path, and an answer given where one was asked for."""
    if peer not in record.agreement.participants or peer == record.agreement.participants[record.my_index]:
        raise PeerError(f"0x{peer.hex()} has no part in virtual channel 0x{message.channel.hex()}")
    if message.channel != record.channel_id:
        raise PeerError(f"a message about channel 0x{message.channel.hex()}")
    events: tuple[VirtualEvent, ...]
    after: VirtualRecord | None = None
    match message:
        case Refused():
            events = tuple(_refused(record, peer, message))
        case Proposed():
            events = tuple(_proposed(record, message))
        case Said():
            events, after = _said(record, peer, message)
        case Unknown():
            events = tuple(_told(record, peer, message))
    if after is None:
        after = record
        for event in events:
            after = evolve(after, event)
    sends = news(record, after, but=peer) if events else ()
    if peer in record.peers:
        sends += _answer(after, peer, message) + _asked_further(after, peer, message)
    return Step(events, sends) if events or sends else NOTHING


def _refused(record: VirtualRecord, peer: Address, message: Refused) -> Iterator[VirtualEvent]:
    """A refusal is not signed: a neighbour's comes from itself, and who it was further on is what its teller says."""
    if message.by == record.my_index or message.by >= record.agreement.count:
        raise PeerError(f"a refusal in the name of participant {message.by}")
    author = record.agreement.participants[message.by]
    if author in record.peers and author != peer:
        raise PeerError(f"a refusal in the name of participant {message.by}, who is this node's neighbour")
    if record.over or record.funded or record.ended is not None:
        return
    reason = message.reason or "a participant does not join"
    if not record.prefund.complete:
        yield Rejected(record.channel_id, message.by, reason)
        return
    if message.by not in record.refusers and not record.signed(record.aborted, message.by):
        yield JoiningRefused(record.channel_id, message.by)
    if not record.end_wanted:
        yield EndWanted(record.channel_id, reason)


def _proposed(record: VirtualRecord, message: Proposed) -> Iterator[VirtualEvent]:
    if from_message(message) != record.agreement:
        raise PeerError("proposed again with other terms")
    known = record.prefund
    event = merged(record, "prefund", known.turn, known.amounts, known.app_data, message.prefund)
    if event is not None:
        yield event


def _said(record: VirtualRecord, peer: Address, message: Said) -> tuple[tuple[VirtualEvent, ...], VirtualRecord]:
    """Each part is judged by what the parts before it have added. The record with all that is new in it as well."""
    parts: tuple[Callable[[VirtualRecord, Address, Said], Iterator[VirtualEvent]], ...] = (
        _milestones,
        _final,
        _wishes,
        _ledgers,
        _told,
    )
    found: list[VirtualEvent] = []
    for part in parts:
        for event in part(record, peer, message):
            record = evolve(record, event)
            found.append(event)
    return tuple(found), record


def _milestones(record: VirtualRecord, _: Address, message: Said) -> Iterator[VirtualEvent]:
    start = record.agreement.start
    event = merged(record, "prefund", 0, start, record.agreement.app_data, message.prefund)
    if event is not None:
        yield event
    if message.postfund is not None and any(message.postfund.signatures):
        app_data, given = message.postfund.app_data, message.postfund.signatures
        if record.postfund is None and not _binding(record, given):
            raise PeerError("the postfund state of an app channel comes with the signatures of both its parties")
        event = merged(record, "postfund", 1, start, app_data, given)
        if event is not None:
            record = evolve(record, event)
            yield event
    # Whoever holds the complete postfund state knows that nobody could abort: who says so all the same has signed both.
    if message.aborted and not record.funded and not record.signed(record.final):
        event = merged(record, "aborted", FINAL_TURN, start, ABORTED_MARK, message.aborted)
        if event is not None:
            yield event


def _final(record: VirtualRecord, _: Address, message: Said) -> Iterator[VirtualEvent]:
    final = message.final
    # Before this node's own postfund signature a final state could take from a hub what only one ledger guarantees.
    if final is None or record.aborting or not record.signed(record.postfund):
        return
    try:
        amounts = unpack_amounts(final.amounts)
        state = state_of(record.agreement, "final", final.turn, amounts, final.app_data)
    except InvalidValue as error:
        raise PeerError(f"final state: {error}") from None
    fault = final_fault(record, state)
    if fault:
        raise PeerError(f"final state: {fault}")
    if record.final is None and not _binding(record, final.signatures):
        raise PeerError("a final state without the signatures of those who decide on it")
    event = merged(record, "final", final.turn, amounts, final.app_data, final.signatures)
    if event is not None:
        yield event


def _binding(record: VirtualRecord, signatures: tuple[bytes, ...]) -> bool:
    """Are there those without which a state is nobody's: the payer's, or both app parties'?"""
    if len(signatures) != record.agreement.count:
        return False
    return bool(signatures[0]) and (record.agreement.kind == "payment" or bool(signatures[-1]))


def _wishes(record: VirtualRecord, _: Address, message: Said) -> Iterator[VirtualEvent]:
    if message.end and not record.end_wanted and not record.over and record.ended is None:
        yield EndWanted(record.channel_id, message.end)


def _ledgers(record: VirtualRecord, peer: Address, message: Said) -> Iterator[VirtualEvent]:
    if record.left is not None and record.left.peer == peer and message.held and not record.left_held:
        yield NeighbourReady(record.channel_id, "held")
    if record.right is not None and record.right.peer == peer and message.cleared and not record.right_cleared:
        yield NeighbourReady(record.channel_id, "cleared")
    for at, side in record.sides:
        index = record.my_index + (1 if at == RIGHT else -1)
        # Only its leader can put the guarantee in, and it says so once it has signed that the channel is not funded.
        given_up = record.signed(record.aborted, index) or record.on_chain is not None
        leader_aborts = side.peer == peer and not side.leads and given_up
        if message.never and leader_aborts and not record.held[at] and not record.gone[at]:
            yield GuaranteeGone(record.channel_id, at, record.on_chain is not None)


def _told(record: VirtualRecord, peer: Address, message: Said | Unknown) -> Iterator[VirtualEvent]:
    if not record.recovering or message.echo != record.token:
        return
    for at, side in record.sides:
        if side.peer == peer and not record.told[at]:
            yield NeighbourTold(record.channel_id, at, record.token)


def _answer(record: VirtualRecord, peer: Address, message: VirtualMessage) -> tuple[Send, ...]:
    """Who proposes, or asks, hears what there is to say. A node that recovers does not repeat another's token: it does
    not know what it would vouch for."""
    if isinstance(message, Refused):
        return ()
    if isinstance(message, Unknown):
        again = to_message(record.channel_id, record.agreement, record.prefund.signatures)
        return (Send(peer, again),) if record.accepted and not record.rejected else ()
    messages = messages_for(record, peer)
    if isinstance(message, Proposed):
        return tuple(Send(peer, each) for each in messages if not isinstance(each, Proposed))
    echo = message.token if not record.recovering else b""
    if not message.answer and not echo:
        return ()
    if echo and not any(isinstance(each, Said) for each in messages):
        messages = (*messages, say(record, peer))
    return tuple(
        Send(peer, msgspec.structs.replace(each, answer=False, echo=echo) if isinstance(each, Said) else each)
        for each in messages
    )


def _asked_further(record: VirtualRecord, peer: Address, message: VirtualMessage) -> tuple[Send, ...]:
    """A question about a channel that is given up goes on to the other neighbour where this node has nothing more to
    wait for and would not ask by itself. That one may have refused before it knew that everybody had signed the prefund
    state; it signs once it hears of that."""
    if not (isinstance(message, Said) and message.answer and record.over):
        return ()
    if record.aborted is None or record.aborted.complete or not record.prefund.complete:
        return ()
    return tuple(
        Send(each, msgspec.structs.replace(say(record, each), answer=True)) for each in record.peers if each != peer
    )
