"""The adjudicator's status word of a channel: packing, fingerprint and mode (docs/reference/nitro.md section 4.2)."""

from __future__ import annotations

import enum

import msgspec

from scapp.channels import abi
from scapp.channels.crypto import keccak256
from scapp.channels.types import ZERO_HASH, Hash

FINGERPRINT_BYTES = 20


class Mode(enum.Enum):
    """Where a channel stands on chain; only FINALIZED pays."""

    OPEN = "open"
    CHALLENGE = "challenge"
    FINALIZED = "finalized"


class Status(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """`finalizes_at` is a block timestamp in seconds, 0 while nothing runs; `fingerprint` has 20 bytes."""

    turn_record: int
    finalizes_at: int
    fingerprint: bytes

    def mode(self, block_timestamp: int) -> Mode:
        """The mode in a block of that timestamp (seconds)."""
        if self.finalizes_at == 0:
            return Mode.OPEN
        return Mode.CHALLENGE if self.finalizes_at > block_timestamp else Mode.FINALIZED


def fingerprint(state: Hash, outcome: Hash) -> bytes:
    """Low 20 bytes of `keccak256(abi.encode(stateHash, outcomeHash))`; both zero after a checkpoint."""
    return keccak256(encode_fingerprint(state, outcome))[-FINGERPRINT_BYTES:]


def encode_fingerprint(state: Hash, outcome: Hash) -> bytes:
    """`abi.encode(bytes32, bytes32)`."""
    if len(state) != 32 or len(outcome) != 32:
        abi.bytes32(state, "state hash")
        abi.bytes32(outcome, "outcome hash")
    return state + outcome


NO_STATE_FINGERPRINT = fingerprint(ZERO_HASH, ZERO_HASH)
"""The fingerprint a checkpoint stores."""


def pack_status(status: Status) -> Hash:
    """`turnNumRecord << 208 | finalizesAt << 160 | fingerprint` as the 32 bytes in storage."""
    if len(status.fingerprint) != FINGERPRINT_BYTES:
        abi.wrong_length(status.fingerprint, FINGERPRINT_BYTES, "fingerprint")
    turn = abi.uint(status.turn_record, 48, "turn record")[-6:]
    finalizes_at = abi.uint(status.finalizes_at, 48, "finalizesAt")[-6:]
    return Hash(turn + finalizes_at + status.fingerprint)


def unpack_status(word: Hash) -> Status:
    """Inverse of `pack_status`; an untouched channel's word is 32 zero bytes."""
    abi.bytes32(word, "status word")
    return Status(int.from_bytes(word[:6], "big"), int.from_bytes(word[6:12], "big"), word[12:])
