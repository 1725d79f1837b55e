"""Status, answers to it, and what a send says when it goes out.

Everything a peer may have missed can be told again from the state; anyone who has it answers.
"""

from __future__ import annotations

from itertools import groupby

import msgspec

from scapp.channels.channel import recovery
from scapp.channels.channel.effects import (
    Effect,
    Fetch,
    PendingSend,
    Send,
    SendCountersign,
    SendDecisions,
    SendNow,
    SendProposal,
    SendPropose,
    SendRejected,
    SendSubmit,
    SendSupported,
)
from scapp.channels.channel.events import Event, Signed
from scapp.channels.channel.full_set import fully_signed, newest_full, status_message, supported_message
from scapp.channels.channel.messages import (
    Countersign,
    Decisions,
    EntriesWanted,
    Message,
    Proposal,
    Propose,
    Rejected,
    Status,
    Submit,
    SuccessorProposal,
    VirtualProposal,
    encode_message,
)
from scapp.channels.channel.model import ChannelState, Head, Submission
from scapp.channels.channel.session import NOTHING, Session, Step
from scapp.channels.deployment import encode_deployment

STATUS_FIRST_MS = 1_000
STATUS_SLOWEST_MS = 30_000
SUBMIT_ITEMS_MAX = 1_000
SUBMIT_BYTES_MAX = 1_048_576
DECISIONS_MAX = 256


def receive_status(state: ChannelState, session: Session, index: int, message: Status) -> Step:
    """Tell the sender what it lacks, and our own status when asked."""
    session.peer_turns[index] = max(session.peer_turns[index], message.supported_turn)
    events: tuple[Event, ...] = ()
    if message.recovery and not message.answer:
        recovery.hear(state, session, index, message)
    effects: list[Effect] = [SendNow(index, m) for m in lacking(state, session, index, message.supported_turn)]
    if message.answer:
        if message.recovery:
            events, answers = recovery.answer(state, session, index, message)
            effects.extend(answers)
        effects.append(SendNow(index, status_message(state, answer=message.supported_turn > state.turn)))
    return Step(events, tuple(effects))


def lacking(state: ChannelState, session: Session, peer: int, supported_turn: int) -> list[bytes]:
    """Messages for a peer whose latest supported turn is `supported_turn`, computed from state alone."""
    sends: list[Send] = []
    if state.rejected is not None:
        sends.append(SendRejected(peer))
    full = newest_full(state)
    if full is not None and supported_turn < full.turn:
        sends.append(SendSupported(peer, full.turn))
    sends.extend(pending(state, peer))
    return [message for send in sends for message in materialize(state, session, send)]


def pending(state: ChannelState, peer: int) -> list[PendingSend]:
    """What we have to say to a peer until a fact shows it done (ADR 0007): computed, never stored."""
    if state.rejected is not None:
        return []
    sends = _in_flight(state, peer, state.candidates[-1]) if state.candidates else []
    if peer == 0 and state.outstanding:
        sends.append(SendSubmit(peer, state.outstanding[0].counter))
    return sends


def _in_flight(state: ChannelState, peer: int, newest: Signed) -> list[PendingSend]:
    if state.setup.my_index != 0:
        return [SendCountersign(peer, newest.turn)]
    if newest.signatures[peer]:
        return []
    return [SendProposal(peer) if newest.turn == 0 else SendPropose(peer, newest.turn)]


def materialize(state: ChannelState, session: Session, send: Send) -> list[bytes]:
    """The encoded messages a send stands for now; empty when it no longer matters."""
    kind = type(send)
    if kind is SendPropose:
        return _propose(state, session, send.peer, send.turn)  # type: ignore[union-attr]
    if kind is SendCountersign:
        return _countersign(state, send.turn)  # type: ignore[union-attr]
    message: Message | None = None
    match send:
        case SendSubmit(_, first_counter):
            return _submits(state, first_counter)
        case SendDecisions(peer, counter):
            message = _decisions(state, peer, counter)
        case SendSupported(_, turn):
            full = newest_full(state)
            encoded = supported_message(state, session) if full is not None and full.turn >= turn else None
            return [encoded] if encoded is not None else []
        case SendProposal(peer):
            message = _proposal(state, peer)
        case SendRejected(_):
            message = Rejected(state.setup.channel_id, state.rejected) if state.rejected is not None else None
    return [encode_message(message)] if message is not None else []


def _decisions(state: ChannelState, peer: int, counter: int) -> Decisions | None:
    refused = [r for r in state.remembered if r.author == peer and r.counter >= counter]
    return Decisions(state.setup.channel_id, tuple(refused[:DECISIONS_MAX])) if refused else None


def _propose(state: ChannelState, session: Session, peer: int, turn: int) -> list[bytes]:
    candidate = state.candidate(turn)
    if candidate is None or state.setup.my_index != 0:
        return []
    full = fully_signed(state) if len(state.candidates) > 1 else None  # the newest one would be the head by that
    if full is not None and candidate.log_root == full.log_root and session.peer_turns[peer] == full.turn:
        return [encode_message(_as_propose(state, candidate, candidate.sequence, ()))]
    wire = session.wire
    if wire is None or wire[0] != turn:
        wire = turn, encode_message(_as_propose(state, candidate, state.sequence, candidate.entries))
        session.wire = wire
    return [wire[1]]


def _as_propose(state: ChannelState, candidate: Signed, first: int, entries: tuple[bytes, ...]) -> Propose:
    return Propose(
        state.setup.channel_id,
        candidate.turn,
        candidate.is_final,
        first,
        entries,
        candidate.log_root,
        candidate.state_root,
        candidate.amounts,
        candidate.time_ms,
        state.since_head,
        candidate.signatures[0],
    )


def _countersign(state: ChannelState, turn: int) -> list[bytes]:
    setup = state.setup
    signed: Head | Signed | None = state.head
    if signed is None or signed.turn != turn:
        signed = state.candidate(turn)
    signature = signed.signatures[setup.my_index] if signed is not None else b""
    return [encode_message(Countersign(setup.channel_id, turn, signature))] if signature else []


def _submits(state: ChannelState, first_counter: int) -> list[bytes]:
    """Runs of consecutive counters of one kind, each within a frame."""
    left = [s for s in state.outstanding if s.counter >= first_counter]
    messages: list[bytes] = []
    runs = groupby(enumerate(left), key=lambda pair: (pair[1].counter - pair[0], pair[1].kind))
    for (_, kind), run in runs:
        for chunk in _chunks([submission for _, submission in run]):
            payloads = tuple(s.payload for s in chunk)
            messages.append(encode_message(Submit(state.setup.channel_id, chunk[0].counter, kind, payloads)))
    return messages


def _chunks(run: list[Submission]) -> list[list[Submission]]:
    chunks: list[list[Submission]] = []
    size = 0
    for submission in run:
        size += len(submission.payload)
        if not chunks or len(chunks[-1]) >= SUBMIT_ITEMS_MAX or size > SUBMIT_BYTES_MAX:
            chunks.append([])
            size = len(submission.payload)
        chunks[-1].append(submission)
    return chunks


def _proposal(state: ChannelState, peer: int) -> Proposal | None:
    prefund = state.candidate(0)
    if prefund is None or prefund.signatures[peer] or state.setup.my_index != 0:
        return None
    fixed = state.setup.fixed
    created_slots = tuple((a, d, v.to_bytes(32, "big")) for a, d, v in state.setup.slots)
    setup = state.setup
    proposal = Proposal(
        setup.channel_id,
        setup.participants,
        fixed.nonce,
        fixed.app_definition,
        fixed.challenge_duration,
        encode_deployment(state.setup.deployment),
        created_slots,
        prefund.entries[0],
        prefund.state_root,
        prefund.time_ms,
        prefund.signatures[0],
    )
    if setup.renews is not None:
        return SuccessorProposal(**msgspec.structs.asdict(proposal), renews=setup.renews[0], base_turn=setup.renews[1])
    if not setup.virtual:
        return proposal
    fees = tuple(fee.to_bytes(32, "big") for fee in setup.fees)
    return VirtualProposal(**msgspec.structs.asdict(proposal), hubs=setup.hubs, fees=fees)


def receive_entries_wanted(state: ChannelState, index: int, message: EntriesWanted) -> Step:
    """Serve a range of the supported log."""
    end = min(message.end, state.sequence)
    if message.first >= end:
        return NOTHING
    return Step(effects=(Fetch(index, message.first, end),))


def unsettled(state: ChannelState, session: Session) -> bool:
    """Is there something that only another participant can bring on?"""
    if state.rejected is not None or state.phase in ("proposed", "closed", "settled"):
        return False
    if state.recovering:
        return True
    waiting = bool(state.candidates or state.outstanding or session.held or session.wanted)
    return waiting or state.turn < 1


def tick(state: ChannelState, session: Session, now_ms: int) -> Step:
    """While unsettled, ask everybody where they stand: after a second, then ever less often."""
    if not unsettled(state, session):
        session.status_wait_ms = 0
        return NOTHING
    if session.status_wait_ms == 0:
        session.status_wait_ms = STATUS_FIRST_MS
        session.next_status_ms = now_ms + STATUS_FIRST_MS
        return NOTHING
    left_ms = session.next_status_ms - now_ms
    if 0 < left_ms <= session.status_wait_ms:  # more is left only when the clock was set back
        return NOTHING
    session.status_wait_ms = min(2 * session.status_wait_ms, STATUS_SLOWEST_MS)
    session.next_status_ms = now_ms + session.status_wait_ms
    return Step(effects=tuple(effect for peer in state.setup.others for effect in greet(state, session, peer)))


def greet(state: ChannelState, session: Session, peer: int) -> tuple[Effect, ...]:
    """Ask a peer where it stands. One that has not stored our proposal does not know the channel: it gets that."""
    proposal = materialize(state, session, SendProposal(peer))
    if state.recovering:
        messages = [*proposal, status_message(state, answer=True, recovery=state.recovery.token)]
        return tuple(SendNow(peer, message) for message in messages)
    messages = proposal or [status_message(state, answer=True)]
    return tuple(SendNow(peer, message) for message in messages)
