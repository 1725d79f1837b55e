"""What we can say of where we stand: our status, and the newest full signature set we hold."""

from __future__ import annotations

from scapp.channels.channel.events import Signed
from scapp.channels.channel.messages import Status, Supported, encode_message
from scapp.channels.channel.model import ChannelState


def fully_signed(state: ChannelState) -> Signed | None:
    """A candidate with all signatures that could not be appended because something above it is signed."""
    for candidate in state.candidates[::-1]:
        if b"" not in candidate.signatures:
            return candidate
    return None


def supported_message(state: ChannelState) -> Supported | None:
    """The newest full signature set we hold: the head's, or that of a replaced proposal that was completed."""
    full = fully_signed(state) or state.head
    if full is None:
        return None
    return Supported(
        state.setup.channel_id,
        full.turn,
        full.is_final,
        full.sequence,
        full.log_root,
        full.state_root,
        full.amounts,
        full.time_ms,
        full.signatures,
    )


def status_message(state: ChannelState, *, answer: bool) -> bytes:
    """Where we stand, encoded."""
    return encode_message(
        Status(state.setup.channel_id, state.turn, state.signed_turn, state.sequence, state.log_root, answer)
    )
