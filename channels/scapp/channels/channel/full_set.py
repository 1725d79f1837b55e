"""What we can say of where we stand: our status, and the newest full signature set we hold."""

from __future__ import annotations

import msgspec

from scapp.channels.channel.events import Signed
from scapp.channels.channel.messages import Status, Supported, encode_message
from scapp.channels.channel.model import ChannelState, Head
from scapp.channels.channel.session import Session
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


def supported_message(state: ChannelState, session: Session) -> bytes | None:
    """The newest full signature set we hold, encoded; kept, for a peer may ask again and again."""
    full = newest_full(state)
    if full is None:
        return None
    if session.full is None or session.full[0] != full.turn:
        session.full = full.turn, encode_message(_as_supported(state, full))
    return session.full[1]


def _as_supported(state: ChannelState, full: Signed | Head) -> Supported:
    return Supported(
        state.setup.channel_id,
        full.turn,
        full.is_final,
        full.sequence,
        full.log_root,
        full.state_root,
        full.amounts,
        full.time_ms,
        enforceable(state, full),
    )


def status_message(state: ChannelState, *, answer: bool, recovery: bytes = b"", floor: int = -1) -> bytes:
    """Where we stand, encoded; `recovery` and `floor` as in `recovery.py`."""
    signed = max(state.next_turn - 1, floor)
    status = Status(state.setup.channel_id, state.turn, signed, state.sequence, state.log_root, answer)
    if recovery:
        status = msgspec.structs.replace(status, recovery=recovery, decided=state.decided[state.setup.my_index])
    return encode_message(status)
