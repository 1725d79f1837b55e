"""Nitro's channel states: fixed and variable part, their hashes and their rules (docs/reference/nitro.md, 1 and 2).

Outcomes stand in `outcome.py`; `abi.StateHasher` is the fast way for app channels, whose outcome keeps its shape.
"""

from __future__ import annotations

import msgspec

from scapp.channels import abi
from scapp.channels.abi import InvalidValue
from scapp.channels.crypto import keccak256
from scapp.channels.outcome import Outcome, is_external, outcome_body
from scapp.channels.types import Address, ChannelId, Destination, Hash, Signature

PARTICIPANTS_MAX = 255
DURATION_BITS = 32


class FixedPart(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What never changes in a channel; its hash is the channel id. `challenge_duration` is in seconds."""

    participants: tuple[Address, ...]
    nonce: int
    app_definition: Address
    challenge_duration: int


class VariablePart(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What each state says anew. `turn` is the turn number: 0 prefund, 1 postfund, running states from 2 on."""

    outcome: Outcome
    app_data: bytes
    turn: int
    is_final: bool


def encode_fixed_part(fixed: FixedPart) -> bytes:
    """`abi.encode(address[], uint64, address, uint48)`: what the channel id is the hash of."""
    participants, nonce, duration = fixed.participants, fixed.nonce, fixed.challenge_duration
    if nonce >> 64 or duration >> 48:
        abi.uint(nonce, 64, "channel nonce")
        abi.uint(duration, 48, "challenge duration")
    for participant in participants:
        if len(participant) != 20:
            abi.wrong_length(participant, 20, "participant")
    return b"".join(
        (
            _PARTICIPANTS_OFFSET,
            nonce.to_bytes(32, "big"),
            abi.address(fixed.app_definition, "app definition"),
            duration.to_bytes(32, "big"),
            len(participants).to_bytes(32, "big"),
            _ADDRESS_PADDING if participants else b"",
            _ADDRESS_PADDING.join(participants),
        )
    )


_PARTICIPANTS_OFFSET = abi.word(4 * abi.WORD)
_ADDRESS_PADDING = bytes(12)


def channel_id(fixed: FixedPart) -> ChannelId:
    """The channel's id; the hash and nothing else, except that an unusable id is refused with `InvalidValue`.

    Ids of channels that a node is to take part in go through `check_fixed_part`."""
    digest = keccak256(encode_fixed_part(fixed))
    if is_external(Destination(digest)):
        # Payouts to it would go to an address instead of the channel. Probability 2^-96 for an honest nonce.
        raise InvalidValue(f"channel id 0x{digest.hex()} begins with twelve zero bytes; take another nonce")
    return ChannelId(digest)


def check_fixed_part(fixed: FixedPart) -> ChannelId:
    """The id of a channel that can work; raises `InvalidValue` for one that cannot.

    Refused are no, doubled or too many participants, a challenge duration above 32 bits (go-nitro's limit; the
    contract's field has 48), numbers and addresses that do not fit their fields, and an unusable id."""
    participants = fixed.participants
    if not 1 <= len(participants) <= PARTICIPANTS_MAX:
        raise InvalidValue(f"{len(participants)} participants; allowed are 1 to {PARTICIPANTS_MAX}")
    if len(set(participants)) != len(participants):
        doubled = next(item for item in participants if participants.count(item) > 1)
        # A signer sets one bit only, so such a channel could never be unanimous.
        raise InvalidValue(f"participant 0x{doubled.hex()} appears more than once")
    abi.uint(fixed.challenge_duration, DURATION_BITS, "challenge duration")
    return channel_id(fixed)


def encode_state(channel: ChannelId, variable: VariablePart) -> bytes:
    """`abi.encode(bytes32, bytes, Exit[], uint48, bool)`; app data stands before the outcome, unlike in the struct."""
    outcome = outcome_body(variable.outcome)
    return _encode_state(channel, variable.app_data, outcome, variable.turn, variable.is_final)


def encode_state_of_outcome(channel: ChannelId, app_data: bytes, outcome: bytes, turn: int, *, is_final: bool) -> bytes:
    """The same with the outcome as `outcome.encode_outcome` gives it, not looked into: whoever compares the hash with
    signatures needs no more. Raises `InvalidValue`."""
    if outcome[: abi.WORD] != abi.OFFSET_OF_ONLY_ARGUMENT:
        raise InvalidValue(f"outcome of {len(outcome)} bytes does not begin as abi.encode(Exit[]) does")
    return _encode_state(channel, app_data, outcome[abi.WORD :], turn, is_final)


def _encode_state(channel: ChannelId, app_data: bytes, outcome: bytes, turn: int, is_final: bool) -> bytes:
    return b"".join((*state_head(channel, app_data, turn, is_final=is_final), outcome))


def state_head(channel: ChannelId, app_data: bytes, turn: int, *, is_final: bool) -> tuple[bytes, ...]:
    """An encoded state up to its outcome's body, in pieces: for outcomes so long that each copy of them counts."""
    encoded = abi.dynamic_bytes(app_data)
    return (
        abi.bytes32(channel, "channel id"),
        abi.STATE_APP_DATA_OFFSET,
        abi.word(abi.STATE_HEAD_BYTES + len(encoded)),
        abi.uint(turn, abi.TURN_BITS, "turn"),
        abi.TRUE if is_final else abi.FALSE,
        encoded,
    )


def state_hash(channel: ChannelId, variable: VariablePart) -> Hash:
    """keccak256 of `encode_state`: what participants sign (through `signing.Signer.sign`)."""
    return Hash(keccak256(encode_state(channel, variable)))


def encode_challenge_message(state: Hash) -> bytes:
    """`abi.encode(bytes32, string "forceMove")`."""
    return abi.bytes32(state, "state hash") + _FORCE_MOVE


_FORCE_MOVE = abi.word(2 * abi.WORD) + abi.dynamic_bytes(b"forceMove")


def challenge_hash(state: Hash) -> Hash:
    """What a challenger signs to register the state whose hash is `state`."""
    return Hash(keccak256(encode_challenge_message(state)))


def encode_voucher(channel: ChannelId, amount: int) -> bytes:
    """`abi.encode(bytes32, uint256)`; `amount` is everything paid so far, not the last payment."""
    if len(channel) != 32 or amount >> 256:
        abi.bytes32(channel, "channel id")
        abi.uint(amount, 256, "voucher amount")
    return channel + amount.to_bytes(32, "big")


def voucher_hash(channel: ChannelId, amount: int) -> Hash:
    """What the payer of a virtual payment channel signs (section 11)."""
    return Hash(keccak256(encode_voucher(channel, amount)))


def encode_redemption(amount: int, signature: Signature) -> bytes:
    """App data of a redemption state: `abi.encode(uint256, (uint8 v, bytes32 r, bytes32 s))`, 128 bytes."""
    if len(signature) != 65:
        abi.wrong_length(signature, 65, "signature")
    return b"".join((abi.uint(amount, 256, "voucher amount"), abi.word(signature[64]), signature[:64]))


def signer_indices(signed_by: int) -> tuple[int, ...]:
    """Participants whose bit is set in a contract's `signedBy` mask, in ascending order."""
    if signed_by < 0:
        raise InvalidValue(f"signedBy is {signed_by}; it must not be negative")
    return tuple(index for index in range(signed_by.bit_length()) if signed_by >> index & 1)


def signer_count(signed_by: int) -> int:
    """How many participants have signed, by a contract's `signedBy` mask."""
    return len(signer_indices(signed_by))
