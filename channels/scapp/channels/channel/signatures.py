"""Signatures of others: single ones, and full sets of states we may or may not know (safety rules 4 and 6)."""

from __future__ import annotations

import struct

from scapp.channels.admission import Admitted
from scapp.channels.channel.checking import compare
from scapp.channels.channel.decided import authors_to_tell, last_counters, settled_by
from scapp.channels.channel.effects import (
    COMMIT,
    CommitBatch,
    Effect,
    RollbackBatch,
    SendDecisions,
    SendNow,
    Tell,
)
from scapp.channels.channel.events import Event, SignatureSeen, Signed, StateAdopted, StateSupported, with_signature
from scapp.channels.channel.messages import Countersign, Entries, EntriesWanted, Supported, encode_message
from scapp.channels.channel.model import ChannelState
from scapp.channels.channel.session import NOTHING, Adopting, Rebasing, Session, Step
from scapp.channels.entries import extend_log_root
from scapp.channels.errors import PeerError
from scapp.channels.types import Hash

EARLY_TURNS_MAX = 4


def receive_countersign(state: ChannelState, session: Session, index: int, message: Countersign) -> Step:
    """One participant's signature. Raises PeerError when it is not valid for the state we know."""
    candidate = state.candidate(message.turn)
    if candidate is None:
        if message.turn > state.signed_turn and [i for _, i in session.early].count(index) < EARLY_TURNS_MAX:
            session.early[(message.turn, index)] = message.signature
        return NOTHING
    if candidate.signatures[index]:
        return NOTHING
    if not state.setup.signed[index](candidate_hash(state, session, candidate), message.signature):
        raise PeerError(f"wrong signature of participant {index} under turn {message.turn}")
    signatures = with_signature(candidate.signatures, index, message.signature)
    if b"" in signatures:
        return Step((SignatureSeen(message.turn, index, message.signature),), durable=False)
    return support(state, session, candidate, signatures)


def candidate_hash(state: ChannelState, session: Session, candidate: Signed) -> Hash:
    """State hash of one of our candidates, computed once for the newest."""
    hashed = session.hashed
    return hashed[1] if hashed is not None and hashed[0] == candidate.turn else state.setup.hash(candidate)


def support(state: ChannelState, session: Session, candidate: Signed, signatures: tuple[bytes, ...]) -> Step:
    """All signatures of one of our candidates are here."""
    event: Event = StateSupported(candidate.turn, signatures)
    if candidate is not state.candidates[-1]:
        return Step((event,), (Tell("refused", f"turn {candidate.turn} was completed after it was replaced"),))
    settled = settled_by(state, candidate)
    if session.layer == candidate.turn and not settled:
        # Committing the layer tells nobody anything, and whoever countersigned gives the signatures again (Status), so
        # the sequencer, who orders the next batch at once, may store both in one append.
        return Step((event,), COMMIT, None, True, state.setup.my_index == 0)
    base = _follow(state, session, candidate)
    return Step((event, *settled), (*_told(state, settled), *base.effects), base.ask)


def support_finalized(state: ChannelState, session: Session, candidate: Signed) -> Step:
    """The chain has finalized a fully signed state that lies below what we have signed: it joins the log after all
    (safety rule 4). Nothing is signed in its channel any more."""
    settled = settled_by(state, candidate)
    base = _follow(state, session, candidate)
    return Step((StateAdopted(candidate), *settled), (*_told(state, settled), *base.effects), base.ask)


def _told(state: ChannelState, settled: tuple[Event, ...]) -> tuple[Effect, ...]:
    return tuple(SendDecisions(author, counter) for author, counter in authors_to_tell(state, settled).items())


def _follow(state: ChannelState, session: Session, supported: Signed) -> Step:
    """Bring the admission base to the supported state: commit its layer, or run the batch again when the layer is
    of another batch (`rebased` compares, then commits)."""
    if session.layer == supported.turn:
        return Step(effects=COMMIT)
    if not supported.entries:
        return Step(effects=(RollbackBatch(),))
    session.work = work = Rebasing(state.sequence, supported.entries, True, supported)
    return Step(ask=work)


def rebased(state: ChannelState, session: Session, work: Rebasing, result: Admitted) -> Step:
    """The supported batch ran again on the base; it must give what is signed."""
    fault = compare(state, work.state, result)
    if fault is not None:
        session.failure = f"turn {work.state.turn} is supported but derives differently here: {fault.reason}"
        return Step(effects=(RollbackBatch(), Tell("halted", session.failure)))
    return Step(effects=(CommitBatch(),))


def receive_supported(state: ChannelState, session: Session, index: int, message: Supported) -> Step:
    """A full signature set. Adopt it when it is above ours; raises PeerError when any signature is wrong."""
    if message.turn <= state.turn or state.rejected is not None:
        return NOTHING
    setup = state.setup
    candidate = state.candidate(message.turn)
    if candidate is not None and all(candidate.signatures):
        return NOTHING
    if len(message.signatures) != setup.count:
        raise PeerError(f"{len(message.signatures)} signatures for {setup.count} participants")
    fault = setup.amounts_fault(message.amounts)
    if fault:
        raise PeerError(fault)
    full = Signed(
        turn=message.turn,
        is_final=message.is_final,
        entries=candidate.entries if candidate is not None else (),
        sequence=message.sequence,
        log_root=message.log_root,
        state_root=message.state_root,
        amounts=message.amounts,
        time_ms=message.time_ms,
        signatures=message.signatures,
        last=candidate.last if candidate is not None else state.included,
    )
    state_hash = setup.hash(full)
    for signer, signature in enumerate(message.signatures):
        if not setup.verify(signer, state_hash, signature):
            raise PeerError(f"wrong signature of participant {signer} in the full set of turn {message.turn}")
    if candidate is not None and candidate_hash(state, session, candidate) == state_hash:
        return support(state, session, candidate, message.signatures)
    return _want(state, session, index, full)


def _want(state: ChannelState, session: Session, index: int, full: Signed) -> Step:
    """Fully signed, so by us as well, yet our log does not hold it: fetch the entries and check them."""
    if full.sequence < state.sequence:
        raise PeerError(f"turn {full.turn} is fully signed at sequence {full.sequence}, below our {state.sequence}")
    if full.turn < state.signed_turn:
        raise PeerError(f"turn {full.turn} is fully signed, but turn {state.signed_turn} is signed here (rule 4)")
    if session.wanted is None or session.wanted.turn < full.turn:
        session.wanted = full
        session.fetched = []
    if full.sequence == state.sequence:
        return adopt_when_complete(state, session)
    first = state.sequence + len(session.fetched)
    wanted = EntriesWanted(state.setup.channel_id, first, full.sequence)
    return Step(effects=(SendNow(index, encode_message(wanted)),))


def receive_entries(state: ChannelState, session: Session, index: int, message: Entries) -> Step:
    """Entries we asked for; anything else changes nothing."""
    wanted = session.wanted
    if wanted is None or not message.entries:
        return NOTHING
    if message.first != state.sequence + len(session.fetched):
        return NOTHING
    missing = wanted.sequence - message.first
    session.fetched.extend(message.entries[:missing])
    if len(message.entries) < missing:
        more = EntriesWanted(state.setup.channel_id, message.first + len(message.entries), wanted.sequence)
        return Step(effects=(SendNow(index, encode_message(more)),))
    return adopt_when_complete(state, session)


def adopt_when_complete(state: ChannelState, session: Session) -> Step:
    """All entries are here: do they lead to the signed log root? Then admission runs them."""
    wanted = session.wanted
    assert wanted is not None
    entries = tuple(session.fetched)
    session.fetched = []
    if extend_log_root(state.log_root, entries) != wanted.log_root:
        # Still wanted: the full set is proved, whoever sent these entries; status messages ask again.
        raise PeerError(f"the entries sent for turn {wanted.turn} do not lead to its log root")
    session.wanted = None
    adopted = Signed(
        turn=wanted.turn,
        is_final=wanted.is_final,
        entries=entries,
        sequence=wanted.sequence,
        log_root=wanted.log_root,
        state_root=wanted.state_root,
        amounts=wanted.amounts,
        time_ms=wanted.time_ms,
        signatures=wanted.signatures,
        last=_last(state, entries),
    )
    session.work = work = Adopting(state.sequence, entries, True, adopted)
    return Step(ask=work)


def _last(state: ChannelState, entries: tuple[bytes, ...]) -> tuple[int, ...]:
    try:
        return last_counters(state.included, entries)
    except (struct.error, IndexError) as error:
        raise PeerError(f"an entry cannot be read: {error}") from error


def adopted(state: ChannelState, session: Session, work: Adopting, result: Admitted) -> Step:
    """Admission has run the entries of a fully signed state that our log lacked."""
    fault = compare(state, work.state, result)
    if fault is not None:
        session.failure = f"turn {work.state.turn} is fully signed but derives differently here: {fault.reason}"
        return Step(effects=(RollbackBatch(), Tell("halted", session.failure)))
    session.layer = work.state.turn
    settled = settled_by(state, work.state)
    return Step((StateAdopted(work.state), *settled), (*_told(state, settled), CommitBatch()))
