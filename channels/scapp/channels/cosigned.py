"""A state with all its signatures, for somebody who was not there; `reading.EntrySource` hands them out.

Nothing but these bytes is needed to tell what the participants of which channel put their names to.
"""

from __future__ import annotations

import msgspec

from scapp.channels.abi import InvalidValue
from scapp.channels.app_data import AppData, decode_app_data
from scapp.channels.crypto import keccak256
from scapp.channels.errors import ScappError
from scapp.channels.outcome import encode_outcome, outcome_of_slots
from scapp.channels.reading import SignedState
from scapp.channels.signing import ORDER, SIGNATURE_BYTES, Verifier
from scapp.channels.state import FixedPart, check_fixed_part, encode_state_of_outcome
from scapp.channels.types import Address, ChannelId


class NotCosigned(ScappError):
    """The bytes are not a state under the signatures of all participants; the text says which part fails."""


class Cosigned(msgspec.Struct, frozen=True, gc=False):
    """What all participants of `channel_id` signed at `turn`."""

    channel_id: ChannelId
    turn: int
    is_final: bool
    app_data: AppData


def check_cosigned(signed: SignedState) -> Cosigned:
    """What was signed; raises NotCosigned unless every participant signed exactly this."""
    participants = tuple(map(Address, signed.participants))
    try:
        channel_id = check_fixed_part(
            FixedPart(participants, signed.nonce, Address(signed.app_definition), signed.challenge_duration)
        )
        app_data = decode_app_data(signed.app_data)
        encoded = encode_state_of_outcome(
            channel_id, signed.app_data, signed.outcome, signed.turn, is_final=signed.is_final
        )
    except InvalidValue as error:
        raise NotCosigned(str(error)) from None
    if len(signed.signatures) != len(participants):
        raise NotCosigned(f"{len(signed.signatures)} signatures for {len(participants)} participants")
    state_hash = keccak256(encoded)
    for index, (participant, signature) in enumerate(zip(participants, signed.signatures, strict=True)):
        if not Verifier(participant).matches(state_hash, signature):
            raise NotCosigned(f"signature {index} is not by participant 0x{participant.hex()} over this state")
    return Cosigned(channel_id, signed.turn, signed.is_final, app_data)


def low_s(signature: bytes) -> bytes:
    """The form that is taken here of a signature whose s is high, which the contracts take as well
    (docs/reference/nitro.md section 2). Anything else stays as it is."""
    s = int.from_bytes(signature[32:64], "big")
    if len(signature) != SIGNATURE_BYTES or not ORDER // 2 < s < ORDER or signature[64] not in (27, 28):
        return signature
    return signature[:32] + (ORDER - s).to_bytes(32, "big") + bytes((55 - signature[64],))


def encode_slots_outcome(slots: tuple[tuple[bytes, bytes, int], ...], amounts: tuple[int, ...]) -> bytes:
    """`SignedState.outcome` of an app channel."""
    return encode_outcome(outcome_of_slots(slots, amounts))
