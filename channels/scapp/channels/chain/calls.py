"""Calls of the contracts as values, and their calldata: what the sender sends, and what the model carries out.

Signatures are 65 bytes as everywhere; in a call they may stand in any order, and a missing one is empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from scapp.channels import abi_types
from scapp.channels.abi import InvalidValue
from scapp.channels.outcome import Allocation, AssetMetadata, Outcome, SingleAssetExit, encode_outcome
from scapp.channels.reading import SignedState
from scapp.channels.types import Address, ChannelId, Destination, Hash, Signature

EXITS = "(address,(uint8,bytes),(bytes32,uint256,uint8,bytes)[])[]"
SIGNATURE = "(uint8,bytes32,bytes32)"
SIGNED_VARIABLE = f"(({EXITS},bytes,uint48,bool),{SIGNATURE}[])"
FIXED = "(address[],uint64,address,uint48)"
CALLDATA_BYTES_MAX = 131_072  # what mempools take of one transaction


class Deposit(msgspec.Struct, frozen=True, tag=True):
    asset: Address
    channel: ChannelId
    expected: int
    amount: int


class Challenge(msgspec.Struct, frozen=True, tag=True):
    """`signature` is the challenger's, over `state.challenge_hash` of the candidate."""

    proof: tuple[SignedState, ...]
    candidate: SignedState
    signature: Signature


class Checkpoint(msgspec.Struct, frozen=True, tag=True):
    proof: tuple[SignedState, ...]
    candidate: SignedState


class Conclude(msgspec.Struct, frozen=True, tag=True):
    candidate: SignedState


class ConcludeAndTransfer(msgspec.Struct, frozen=True, tag=True):
    candidate: SignedState


class TransferAll(msgspec.Struct, frozen=True, tag=True):
    channel: ChannelId
    outcome: Outcome
    state_hash: Hash


class Transfer(msgspec.Struct, frozen=True, tag=True):
    """`outcome` is encoded."""

    asset_index: int
    channel: ChannelId
    outcome: bytes
    state_hash: Hash
    indices: tuple[int, ...]


class Reveal(msgspec.Struct, frozen=True, tag=True):
    """Of the app of hash locks, like the next: open the locks on these preimages' hashes, for every channel."""

    preimages: tuple[bytes, ...]


class RevealedAt(msgspec.Struct, frozen=True, tag=True):
    hash: bytes


class Reclaim(msgspec.Struct, frozen=True, tag=True):
    """The contract's ReclaimArgs: of the source (a ledger) and of the channel that its guarantee is for. Outcomes are
    encoded."""

    channel: ChannelId
    state_hash: Hash
    outcome: bytes
    asset_index: int
    guarantee_index: int
    target_state_hash: Hash
    target_outcome: bytes
    target_asset_index: int


class StatusOf(msgspec.Struct, frozen=True, tag=True):
    channel: ChannelId


class Holdings(msgspec.Struct, frozen=True, tag=True):
    asset: Address
    channel: ChannelId


class Approve(msgspec.Struct, frozen=True, tag=True):
    """Of a token, like the rest."""

    spender: Address
    amount: int


class TransferTokens(msgspec.Struct, frozen=True, tag=True):
    recipient: Address
    amount: int


class Allowance(msgspec.Struct, frozen=True, tag=True):
    owner: Address
    spender: Address


class BalanceOf(msgspec.Struct, frozen=True, tag=True):
    owner: Address


Call = (
    Deposit
    | Challenge
    | Checkpoint
    | Conclude
    | ConcludeAndTransfer
    | TransferAll
    | Transfer
    | Reclaim
    | Reveal
    | RevealedAt
    | StatusOf
    | Holdings
    | Approve
    | TransferTokens
    | Allowance
    | BalanceOf
)

FUNCTIONS: dict[type, tuple[str, str]] = {
    Deposit: ("deposit", "(address,bytes32,uint256,uint256)"),
    Challenge: ("challenge", f"({FIXED},{SIGNED_VARIABLE}[],{SIGNED_VARIABLE},{SIGNATURE})"),
    Checkpoint: ("checkpoint", f"({FIXED},{SIGNED_VARIABLE}[],{SIGNED_VARIABLE})"),
    Conclude: ("conclude", f"({FIXED},{SIGNED_VARIABLE})"),
    ConcludeAndTransfer: ("concludeAndTransferAllAssets", f"({FIXED},{SIGNED_VARIABLE})"),
    TransferAll: ("transferAllAssets", f"(bytes32,{EXITS},bytes32)"),
    Transfer: ("transfer", "(uint256,bytes32,bytes,bytes32,uint256[])"),
    Reclaim: ("reclaim", "((bytes32,bytes32,bytes,uint256,uint256,bytes32,bytes,uint256))"),
    Reveal: ("reveal", "(bytes32[])"),
    RevealedAt: ("revealedAt", "(bytes32)"),
    StatusOf: ("statusOf", "(bytes32)"),
    Holdings: ("holdings", "(address,bytes32)"),
    Approve: ("approve", "(address,uint256)"),
    TransferTokens: ("transfer", "(address,uint256)"),
    Allowance: ("allowance", "(address,address)"),
    BalanceOf: ("balanceOf", "(address)"),
}
_SELECTORS = {kind: abi_types.selector(*function) for kind, function in FUNCTIONS.items()}
_KINDS = {selector: kind for kind, selector in _SELECTORS.items()}


def selector_of(kind: type) -> bytes:
    """The first four bytes of the calldata of such a call."""
    return _SELECTORS[kind]


def encode_call(call: Call) -> bytes:
    """Calldata. Raises InvalidValue for a value that fits no field, and for an outcome that does not decode."""
    return _SELECTORS[type(call)] + abi_types.encode(FUNCTIONS[type(call)][1], _arguments(call))


def _arguments(call: Call) -> tuple[Any, ...]:
    match call:
        case Challenge():
            return (*_supported(call), signature_value(call.signature))
        case Checkpoint():
            return _supported(call)
        case Conclude(candidate) | ConcludeAndTransfer(candidate):
            return (_fixed(candidate), signed_value(candidate))
        case TransferAll():
            return (call.channel, outcome_value(call.outcome), call.state_hash)
        case Reclaim():
            return (_fields(call),)
        case _:
            return _fields(call)


def _fields(call: Call) -> tuple[Any, ...]:
    return tuple(getattr(call, name) for name in call.__struct_fields__)


def _supported(call: Challenge | Checkpoint) -> tuple[Any, ...]:
    return (_fixed(call.candidate), [signed_value(state) for state in call.proof], signed_value(call.candidate))


def decode_call(data: bytes) -> Call:
    """A call from its calldata. Raises InvalidValue for any that is not known here."""
    kind = _KINDS.get(data[:4])
    if kind is None:
        raise InvalidValue(f"no function with the selector 0x{data[:4].hex()} is known")
    values = abi_types.decode(FUNCTIONS[kind][1], data[4:])
    if kind is Challenge:
        fixed, proof, candidate, signature = values
        states = tuple(signed_state(state, fixed) for state in proof)
        return Challenge(states, signed_state(candidate, fixed), signature_of(signature))
    if kind is Checkpoint:
        fixed, proof, candidate = values
        return Checkpoint(tuple(signed_state(state, fixed) for state in proof), signed_state(candidate, fixed))
    if kind in (Conclude, ConcludeAndTransfer):
        call: Call = kind(signed_state(values[1], values[0]))
        return call
    if kind is TransferAll:
        return TransferAll(values[0], outcome_of(values[1]), values[2])
    if kind is Reveal:
        return Reveal(tuple(values[0]))
    plain: Call = kind(*(values[0] if kind is Reclaim else values))
    return plain


def decode_number(data: bytes) -> int:
    """The answer of a function that returns one unsigned integer. Raises InvalidValue."""
    number: int = abi_types.decode("(uint256)", data)[0]
    return number


def outcome_value(outcome: Outcome) -> list[Any]:
    return [
        (
            exit_.asset,
            (exit_.metadata.asset_type, exit_.metadata.metadata),
            [(item.destination, item.amount, item.allocation_type, item.metadata) for item in exit_.allocations],
        )
        for exit_ in outcome
    ]


def outcome_of(value: Sequence[Any]) -> Outcome:
    return tuple(
        SingleAssetExit(
            Address(asset),
            tuple(Allocation(Destination(to), amount, kind, data) for to, amount, kind, data in allocations),
            AssetMetadata(*metadata),
        )
        for asset, metadata, allocations in value
    )


def decode_outcome(data: bytes) -> Outcome:
    """Inverse of `outcome.encode_outcome`. Raises InvalidValue."""
    return outcome_of(abi_types.decode(f"({EXITS})", data)[0])


def signature_value(signature: bytes) -> tuple[int, bytes, bytes]:
    """The contract's (v, r, s)."""
    if len(signature) != 65:
        raise InvalidValue(f"a signature has 65 bytes, this one {len(signature)}")
    return signature[64], signature[:32], signature[32:64]


def signature_of(value: tuple[int, bytes, bytes]) -> Signature:
    v, r, s = value
    return Signature(r + s + bytes((v,)))


def signed_value(state: SignedState) -> tuple[Any, ...]:
    """A SignedVariablePart."""
    outcome = outcome_value(decode_outcome(state.outcome))
    variable = (outcome, state.app_data, state.turn, state.is_final)
    return (variable, [signature_value(signature) for signature in state.signatures if signature])


def signed_state(value: tuple[Any, ...], fixed: Sequence[Any] = ((), 0, bytes(20), 0)) -> SignedState:
    """A SignedVariablePart with its fixed part; signatures in the order in which they came."""
    (outcome, app_data, turn, is_final), signatures = value
    participants, nonce, app, duration = fixed
    encoded = encode_outcome(outcome_of(outcome))
    signed = tuple(map(signature_of, signatures))
    return SignedState(participants, nonce, app, duration, app_data, encoded, turn, is_final, signed)


def without_fixed_part(state: SignedState) -> SignedState:
    """As events show a state."""
    return msgspec.structs.replace(state, participants=(), nonce=0, app_definition=bytes(20), challenge_duration=0)


def _fixed(state: SignedState) -> tuple[Any, ...]:
    return (state.participants, state.nonce, state.app_definition, state.challenge_duration)
