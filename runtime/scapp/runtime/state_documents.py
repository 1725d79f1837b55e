"""A co-signed state as JSON: the part that proofs and dispute packages share. Bytes are `0x` and hexadecimal."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from scapp.channels.reading import SignedState
from scapp.runtime.documents import AddressText, Document, HexText, Sequence


class ChannelPart(Document, frozen=True, kw_only=True):
    """The channel's fixed part; its hash is the channel id."""

    participants: list[AddressText]
    nonce: Annotated[str, Meta(pattern="^[0-9]{1,20}$", description="unsigned 64-bit integer in decimal")]
    app_definition: AddressText
    challenge_duration_s: Sequence


class StatePart(Document, frozen=True, kw_only=True):
    """What was signed; `outcome` is `abi.encode(Exit[])`."""

    turn: Sequence
    is_final: bool
    app_data: HexText
    outcome: HexText
    signatures: list[HexText]


def parts_of(signed: SignedState) -> tuple[ChannelPart, StatePart]:
    """The two parts of a state's document."""
    channel = ChannelPart(
        participants=[as_text(participant) for participant in signed.participants],
        nonce=str(signed.nonce),
        app_definition=as_text(signed.app_definition),
        challenge_duration_s=signed.challenge_duration,
    )
    state = StatePart(
        turn=signed.turn,
        is_final=signed.is_final,
        app_data=as_text(signed.app_data),
        outcome=as_text(signed.outcome),
        signatures=[as_text(signature) for signature in signed.signatures],
    )
    return channel, state


def signed_state(channel: ChannelPart, state: StatePart) -> SignedState:
    """Inverse of `parts_of`; what it says is checked by `cosigned.check_cosigned`."""
    return SignedState(
        participants=tuple(map(as_bytes, channel.participants)),
        nonce=int(channel.nonce),
        app_definition=as_bytes(channel.app_definition),
        challenge_duration=channel.challenge_duration_s,
        app_data=as_bytes(state.app_data),
        outcome=as_bytes(state.outcome),
        turn=state.turn,
        is_final=state.is_final,
        signatures=tuple(map(as_bytes, state.signatures)),
    )


def as_bytes(text: str) -> bytes:
    """Bytes of a document's `0x…` text, whose form its type has checked."""
    return bytes.fromhex(text[2:])


def as_text(data: bytes) -> str:
    """`0x` and lower-case hexadecimal."""
    return "0x" + bytes(data).hex()
