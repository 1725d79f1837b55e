"""What we can say of where we stand: our status, and the newest full signature set we hold."""

from __future__ import annotations

import msgspec

from scapp.channels.app_data import encode_app_data
from scapp.channels.channel.events import Signed
from scapp.channels.channel.messages import Status, Supported, encode_message
from scapp.channels.channel.model import ChannelState, Head
from scapp.channels.channel.session import Session
from scapp.channels.channel.setup import Setup
from scapp.channels.outcome import encode_outcome
from scapp.channels.reading import SignedState
from scapp.channels.types import Signature


def fully_signed(state: ChannelState) -> Signed | None:
    """A candidate with all signatures that could not be appended because something above it is signed."""
    for candidate in state.candidates[::-1]:
        if b"" not in candidate.signatures:
            return candidate
    return None


def newest_full(state: ChannelState) -> Signed | Head | None:
    """The newest state we hold under all signatures: the head, or a replaced proposal that was completed."""
    return fully_signed(state) or state.head


def enforceable(state: ChannelState, full: Signed | Head) -> tuple[Signature, ...]:
    """The signatures of a state that has them all, as the contracts take them: what a full set is outside this node.

    Stored ones may carry any v, for their senders chose it (ADR 0026)."""
    return state.setup.completed(state.setup.hash(full), full.signatures)


def newest_enforceable(state: ChannelState) -> Signed | Head | None:
    """The newest state that the contracts take: ours, or one that somebody else has shown to the chain."""
    newest = newest_full(state)
    if state.chain is not None:
        for shown in (state.chain.latest.registered, state.chain.confirmed.registered):
            if shown is not None and b"" not in shown.signatures and (newest is None or shown.turn > newest.turn):
                newest = shown
    return newest


def for_contracts(state: ChannelState, full: Signed | Head) -> SignedState:
    """A state that has all signatures, in the form in which it goes to the chain."""
    return signed_state(state.setup, full, enforceable(state, full))


def signed_state(setup: Setup, state: Signed | Head, signatures: tuple[bytes, ...]) -> SignedState:
    """The state and its signatures for somebody who does not know the channel."""
    fixed = setup.fixed
    return SignedState(
        participants=fixed.participants,
        nonce=fixed.nonce,
        app_definition=fixed.app_definition,
        challenge_duration=fixed.challenge_duration,
        app_data=encode_app_data(setup.deployment_id, state.sequence, state.log_root, state.state_root, state.time_ms),
        outcome=encode_outcome(setup.outcome(state.amounts)),
        turn=state.turn,
        is_final=state.is_final,
        signatures=signatures,
    )


def supported_message(state: ChannelState, session: Session) -> bytes | None:
    """The newest full signature set we hold, encoded; kept, for a peer may ask again and again."""
    full = newest_full(state)
    if full is None:
        return None
    if session.full is None or session.full[0] != full.turn:
        session.full = full.turn, encode_message(as_supported(state.setup, full, enforceable(state, full)))
    return session.full[1]


def as_supported(setup: Setup, full: Signed | Head, signatures: tuple[bytes, ...]) -> Supported:
    """The message that says that a state has these signatures of all."""
    return Supported(
        setup.channel_id,
        full.turn,
        full.is_final,
        full.sequence,
        full.log_root,
        full.state_root,
        full.amounts,
        full.time_ms,
        signatures,
    )


def status_message(state: ChannelState, *, answer: bool, recovery: bytes = b"", floor: int = -1) -> bytes:
    """Where we stand, encoded; `recovery` and `floor` as in `recovery.py`."""
    signed = max(state.next_turn() - 1, floor)
    status = Status(state.setup.channel_id, state.turn, signed, state.sequence, state.log_root, answer)
    if recovery:
        status = msgspec.structs.replace(status, recovery=recovery, decided=state.decided[state.setup.my_index])
    return encode_message(status)
