"""A channel after its node was restored from a backup (safety rule 10): it signs nothing until every other participant
has told the highest state it has signed, and then goes on above all of them.

A restored log may be older than what this node has signed since. Every greeting carries the restore's token, and only
a status that echoes it counts: it was written after the restore, whatever else was still on its way. Before it a
participant sends what it holds under our signature (`Recall`), so that a final state is not forgotten. A participant
that recovers itself does not echo, for it does not know either. What this cannot find is a state that all others hide.
"""

from __future__ import annotations

import struct

import msgspec

from scapp.channels.channel.decided import RESTORED, last_counters
from scapp.channels.channel.effects import Effect, SendNow, Tell
from scapp.channels.channel.events import (
    Event,
    Recovered,
    Refused,
    RestoreSeen,
    Signed,
    StateRecalled,
    SubmissionsRefused,
)
from scapp.channels.channel.full_set import fully_signed, newest_full, status_message
from scapp.channels.channel.messages import Recall, Status, encode_message
from scapp.channels.channel.model import ChannelState
from scapp.channels.channel.session import NOTHING, Session, Step
from scapp.channels.channel.signing_rules import REPLACED_MAX, TURN_LEAD_MAX
from scapp.channels.entries import HEADER, extend_log_root
from scapp.channels.errors import LocalError, PeerError

UNHEARD_TURNS = 4 * REPLACED_MAX
"""A restored sequencer is told to go on so far above what the others know: proposals of its own may have reached
nobody, and it keeps no more of them than a quarter of this. A countersigner signs what the sequencer has signed."""
FLOOR_LEAD_MAX = TURN_LEAD_MAX // 2


def hear(state: ChannelState, session: Session, index: int, message: Status) -> None:
    """A participant's answer to our greeting. Raises PeerError for turns that cannot be."""
    if not state.recovering or message.recovery != state.recovery.token:
        return
    if message.signed_turn > message.supported_turn + FLOOR_LEAD_MAX:
        raise PeerError(f"participant {index} says it signed turn {message.signed_turn} over {message.supported_turn}")
    session.heard[index] = message


def answer(
    state: ChannelState, session: Session, index: int, message: Status
) -> tuple[tuple[Event, ...], list[Effect]]:
    """To a participant that recovers: what we hold under its signature, then where we stand and above which turn it may
    go on, with its token. Raises PeerError when it was restored so often that no turn is left before the next state."""
    if state.recovering:
        session.recovers.add(index)
        return (), []
    events, floor = _floor_for(state, index, message.recovery)
    held = [candidate for candidate in state.candidates if candidate.signatures[index]]
    messages = [encode_message(_recall(state, candidate)) for candidate in held]
    messages.append(status_message(state, answer=False, recovery=message.recovery, floor=floor))
    return events, [SendNow(index, data) for data in messages]


def _floor_for(state: ChannelState, index: int, token: bytes) -> tuple[tuple[Event, ...], int]:
    """One floor per restore: the answer to a repeated greeting is the same, the next restore's is above it."""
    if index != 0:
        return (), -1
    told = [(seen, floor) for other, seen, floor in state.recovery.seen if other == index]
    for seen, floor in told:
        if seen == token:
            return (), floor
    floor = max([state.next_turn() - 1, *(floor for _, floor in told)]) + UNHEARD_TURNS
    if floor > state.turn + FLOOR_LEAD_MAX:
        raise PeerError(f"participant {index} was restored too often since turn {state.turn}")
    return (RestoreSeen(index, token, floor),), floor


def _recall(state: ChannelState, held: Signed) -> Recall:
    return Recall(
        state.setup.channel_id,
        held.turn,
        held.is_final,
        state.sequence,
        held.entries,
        held.log_root,
        held.state_root,
        held.amounts,
        held.time_ms,
        held.signatures,
    )


def receive_recall(state: ChannelState, session: Session, index: int, message: Recall) -> Step:
    """Keep a state that we have signed and do not know any more. Raises PeerError unless our signature is under it."""
    if not state.recovering or state.candidate(message.turn) is not None:
        return NOTHING
    setup = state.setup
    if len(message.signatures) != setup.count:
        raise PeerError(f"{len(message.signatures)} signatures for {setup.count} participants")
    fault = setup.amounts_fault(message.amounts)
    if fault:
        raise PeerError(fault)
    held = Signed(
        turn=message.turn,
        is_final=message.is_final,
        entries=message.entries,
        sequence=message.first_sequence + len(message.entries),
        log_root=message.log_root,
        state_root=message.state_root,
        amounts=message.amounts,
        time_ms=message.time_ms,
        signatures=message.signatures,
        last=state.included,  # filled in when the log before it is here
    )
    state_hash = setup.hash(held)
    for signer, signature in enumerate(message.signatures):
        if (signature or signer == setup.my_index) and not setup.signed[signer](state_hash, signature):
            raise PeerError(f"wrong signature of participant {signer} in the recall of turn {message.turn}")
    session.recalled[held.turn] = held
    return NOTHING


def conclude(state: ChannelState, session: Session) -> Step | None:
    """Go on once everybody has been heard and all that is newer has been adopted; None while there is more to come."""
    if session.work is not None or session.wanted is not None or session.failure:
        return None
    if unheard(state, session) or _full_turn(state) < max(told.supported_turn for told in session.heard.values()):
        return None
    events: list[Event] = []
    signed = max(state.signed_turn, *(told.signed_turn for told in session.heard.values()))
    for held in _missing(state, session):
        if not _fits(state, held):
            return None
        events.append(StateRecalled(_completed(state, held)))
        signed = max(signed, held.turn)
    _count(session, events)
    return _go_on(state, session, events, signed, by_operator=False)


def override(state: ChannelState, session: Session) -> Step:
    """The operator takes the risk of having signed something that nobody told. Raises LocalError."""
    if not state.recovering:
        raise LocalError(f"the channel is {state.phase}, there is nothing to recover from")
    signed = max([state.signed_turn, *session.recalled, *(told.signed_turn for told in session.heard.values())])
    missing = [held for held in _missing(state, session) if _fits(state, held)]
    events: list[Event] = [StateRecalled(_completed(state, held)) for held in missing]
    _count(session, events)
    return _go_on(state, session, events, signed, by_operator=True)


def _go_on(state: ChannelState, session: Session, events: list[Event], signed: int, *, by_operator: bool) -> Step:
    floor = signed + (UNHEARD_TURNS if by_operator else 0)
    events += _decided(state, session)
    how = "by the operator" if by_operator else "all participants were heard"
    status = status_message(state, answer=True)
    asked = [SendNow(peer, status) for peer in state.setup.others]  # they send again what waits for us
    return Step((*events, Recovered(floor, by_operator)), (Tell("recovered", f"{how}, above turn {floor}"), *asked))


def _decided(state: ChannelState, session: Session) -> list[Event]:
    """The sequencer decided submissions that it does not know any more; their authors do, and go on after them. What a
    full set holds that is not the log's end yet was not refused."""
    if state.setup.my_index != 0:
        return []
    full = fully_signed(state)
    known = state.decided if full is None else tuple(map(max, state.decided, full.last))
    told = {index: status.decided for index, status in session.heard.items() if status.decided > known[index]}
    reason = "decided before the sequencer was restored"
    refused = tuple(Refused(index, counter, RESTORED, reason) for index, counter in sorted(told.items()))
    return [SubmissionsRefused(refused)] if refused else []


def unheard(state: ChannelState, session: Session) -> list[int]:
    """Participants whose answer is missing."""
    return [index for index in state.setup.others if index not in session.heard]


def waiting_for(state: ChannelState, session: Session) -> str:
    """In words, what a recovering channel waits for."""
    missing = unheard(state, session)
    mute = [index for index in missing if index in session.recovers]
    if mute:
        recover = f"scapp channel recover 0x{state.setup.channel_id.hex()} --override"
        what = (
            f"nothing: {_named(state, mute)} restored as well and cannot tell either; only an override helps, at one "
            f"of them: {recover}"
        )
    elif missing:
        what = f"{_named(state, missing)} to tell the highest state signed"
    else:
        supported = max(told.supported_turn for told in session.heard.values())
        misfits = [held.turn for held in _missing(state, session) if not _fits(state, held)]
        what = f"the supported state of turn {supported}" if _full_turn(state) < supported else "the entries before it"
        if misfits and _full_turn(state) >= supported:
            what = f"nothing: turn {misfits[0]}, signed by this node, does not extend the log; only an override helps"
    return f"{what}; this node was restored from a backup and signs nothing before"


def _named(state: ChannelState, indices: list[int]) -> str:
    named = ", ".join(f"{i} (0x{state.setup.participants[i].hex()})" for i in indices)
    return f"participant{'s' if len(indices) > 1 else ''} {named}"


def _missing(state: ChannelState, session: Session) -> list[Signed]:
    return [session.recalled[turn] for turn in sorted(session.recalled) if turn > state.signed_turn]


def _full_turn(state: ChannelState) -> int:
    """The highest turn that we hold under all signatures. It may lie below what we have signed and so not be the log's
    end: once recovered, the sequencer proposes it again above all that (safety rule 4)."""
    full = newest_full(state)
    return full.turn if full is not None else -1


def _fits(state: ChannelState, held: Signed) -> bool:
    """Does it follow the supported log as we have it by now?"""
    first = held.sequence - len(held.entries)
    return first == state.sequence and extend_log_root(state.log_root, held.entries) == held.log_root


def _completed(state: ChannelState, held: Signed) -> Signed:
    try:
        last = last_counters(state.included, held.entries)
    except (struct.error, IndexError) as error:
        raise PeerError(f"turn {held.turn} has an entry that cannot be read: {error}") from error
    return msgspec.structs.replace(held, last=last)


def _count(session: Session, events: list[Event]) -> None:
    """Counters in what was recalled are taken."""
    for event in events:
        assert isinstance(event, StateRecalled)
        for data in event.state.entries:
            _, author, counter, _ = HEADER.unpack_from(data)
            session.queued[author] = max(session.queued[author], counter)
