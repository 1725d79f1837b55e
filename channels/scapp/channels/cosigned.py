"""A state with all its signatures, for somebody who was not there; `reading.EntrySource` hands them out.

Nothing but these bytes is needed to tell what the participants of which channel put their names to.
"""

from __future__ import annotations

import msgspec

from scapp.channels.abi import InvalidValue
from scapp.channels.app_data import AppData, decode_app_data
from scapp.channels.crypto import keccak256
from scapp.channels.curve import ORDER
from scapp.channels.errors import ScappError
from scapp.channels.outcome import encode_outcome, outcome_of_slots
from scapp.channels.reading import SignedState
from scapp.channels.signing import SIGNATURE_BYTES, Verifier
from scapp.channels.state import FixedPart, check_fixed_part, encode_state_of_outcome
from scapp.channels.types import Address, ChannelId


class NotCosigned(ScappError):
    """The bytes are not a state under the signatures of all participants; the text says which part fails."""


class Cosigned(msgspec.Struct, frozen=True, gc=False):
    """What `signers` signed at `turn` of `channel_id`: all its participants, or the two whose app it is."""

    channel_id: ChannelId
    turn: int
    is_final: bool
    app_data: AppData
    signers: tuple[Address, ...]


def check_cosigned(signed: SignedState, two_party_app: Address | None = None) -> Cosigned:
    """What was signed; raises NotCosigned unless every participant signed exactly this.

    A channel whose app definition is `two_party_app` belongs to its first and its last participant: from turn 2 on
    their signatures are enough. Whoever does not know that app's address on the channel's chain leaves it out."""
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
    last = len(participants) - 1
    pair = signed.turn >= 2 and two_party_app is not None and signed.app_definition == two_party_app
    signers: list[Address] = []
    for index, (participant, signature) in enumerate(zip(participants, signed.signatures, strict=True)):
        if pair and not signature and 0 < index < last:
            continue
        if not Verifier(participant).matches(state_hash, signature):
            what = "is missing, or not" if not signature else "is not"
            raise NotCosigned(f"signature {index} {what} by participant 0x{participant.hex()} over this state")
        signers.append(participant)
    return Cosigned(channel_id, signed.turn, signed.is_final, app_data, tuple(signers))


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
