"""Signed states and vouchers in go-nitro's JSON (docs/reference/nitro.md section 14), for exchange with its tools.

Field order is go-nitro's, addresses and hashes are lower-case hexadecimal, byte strings base64, amounts bare numbers
of any size. Go writes a nil byte string as `null` and an empty one as `""`; both read as empty here, and what go-nitro
itself builds without metadata is written as it writes it. Every reader raises `InvalidValue` for anything unexpected.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from scapp.channels.abi import InvalidValue
from scapp.channels.nitro_values import (
    base64_text,
    compact,
    fixed_bytes,
    from_base64,
    get,
    hexed,
    items,
    list_in,
    number,
    object_in,
    parse,
    short,
    signature,
    signature_text,
)
from scapp.channels.outcome import Allocation, AssetMetadata, Outcome, SingleAssetExit
from scapp.channels.payments.vouchers import Voucher
from scapp.channels.state import FixedPart, VariablePart
from scapp.channels.types import U48_MAX, U64_MAX, U256_MAX, Address, ChannelId, Destination

_U8_MAX, _U32_MAX = 2**8 - 1, 2**32 - 1


class SignedState(msgspec.Struct, frozen=True, gc=False):
    """A state and who has signed it: participant index to signature. Signatures are not checked here."""

    fixed: FixedPart
    variable: VariablePart
    signatures: dict[int, bytes]


def write_signed_state(signed: SignedState) -> str:
    """`{"State":{…},"Sigs":{"0":"0x…"}}` without spaces."""
    fixed, variable = signed.fixed, signed.variable
    state = {
        "Participants": [hexed(participant) for participant in fixed.participants],
        "ChannelNonce": fixed.nonce,
        "AppDefinition": hexed(fixed.app_definition),
        "ChallengeDuration": fixed.challenge_duration,
        "AppData": base64_text(variable.app_data),
        "Outcome": [_exit_object(exit_) for exit_ in variable.outcome],
        "TurnNum": variable.turn,
        "IsFinal": variable.is_final,
    }
    # Go sorts map keys as strings, so participant 10 comes before participant 2.
    ordered = sorted(signed.signatures.items(), key=lambda item: str(item[0]))
    return compact({"State": state, "Sigs": {str(index): signature_text(value) for index, value in ordered}})


def read_fixed_part(text: str | bytes) -> FixedPart:
    """A fixed part by itself."""
    return _fixed_part(parse(text))


def read_signed_state(text: str | bytes) -> SignedState:
    """Inverse of `write_signed_state`; unknown fields are ignored, as Go does."""
    whole = parse(text)
    state = object_in(whole, "State")
    fixed = _fixed_part(state)
    is_final = get(state, "IsFinal")
    if not isinstance(is_final, bool):
        raise InvalidValue(f"IsFinal is {short(is_final)}, not true or false")
    variable = VariablePart(
        read_outcome_value(get(state, "Outcome")),
        from_base64(state, "AppData"),
        number(state, "TurnNum", U48_MAX),
        is_final,
    )
    return SignedState(fixed, variable, _by_index(object_in(whole, "Sigs"), len(fixed.participants)))


def _fixed_part(value: Any) -> FixedPart:
    return FixedPart(
        tuple(Address(fixed_bytes(item, 20, "participant")) for item in list_in(value, "Participants")),
        number(value, "ChannelNonce", U64_MAX),
        Address(fixed_bytes(get(value, "AppDefinition"), 20, "AppDefinition")),
        number(value, "ChallengeDuration", _U32_MAX),
    )


def _by_index(sigs: Mapping[str, Any], participants: int) -> dict[int, bytes]:
    signatures = {}
    for key, value in sigs.items():
        if key not in {str(index) for index in range(participants)}:
            raise InvalidValue(f"signature of participant {key!r}; there are 0 to {participants - 1}")
        signatures[int(key)] = signature(value)
    return signatures


def write_outcome(outcome: Outcome) -> str:
    """An outcome as go-nitro's `Exit`."""
    return compact([_exit_object(exit_) for exit_ in outcome])


def read_outcome(text: str | bytes) -> Outcome:
    """Inverse of `write_outcome`."""
    return read_outcome_value(parse(text))


def read_outcome_value(value: Any) -> Outcome:
    """An outcome from already parsed JSON; `null` is Go's nil slice and reads as empty."""
    return tuple(_exit(item) for item in items(value, "Outcome"))


def _exit(value: Any) -> SingleAssetExit:
    metadata = object_in(value, "AssetMetadata")
    return SingleAssetExit(
        Address(fixed_bytes(get(value, "Asset"), 20, "Asset")),
        tuple(_allocation(item) for item in list_in(value, "Allocations")),
        AssetMetadata(number(metadata, "AssetType", _U8_MAX), from_base64(metadata, "Metadata")),
    )


def _allocation(value: Any) -> Allocation:
    return Allocation(
        Destination(fixed_bytes(get(value, "Destination"), 32, "Destination")),
        number(value, "Amount", U256_MAX),
        number(value, "AllocationType", _U8_MAX),
        from_base64(value, "Metadata"),
    )


def _exit_object(exit_: SingleAssetExit) -> dict[str, Any]:
    metadata = {"AssetType": exit_.metadata.asset_type, "Metadata": base64_text(exit_.metadata.metadata)}
    allocations = [
        {
            "Destination": hexed(allocation.destination),
            "Amount": allocation.amount,
            "AllocationType": allocation.allocation_type,
            "Metadata": base64_text(allocation.metadata) if allocation.metadata else None,
        }
        for allocation in exit_.allocations
    ]
    return {"Asset": hexed(exit_.asset), "AssetMetadata": metadata, "Allocations": allocations}


def write_voucher(voucher: Voucher) -> str:
    """`{"ChannelId":…,"Amount":…,"Signature":…}` without spaces."""
    text = signature_text(voucher.signature)
    return compact({"ChannelId": hexed(voucher.channel), "Amount": voucher.amount, "Signature": text})


def read_voucher(text: str | bytes) -> Voucher:
    """Inverse of `write_voucher`; the signature is not checked here."""
    value = parse(text)
    return Voucher(
        ChannelId(fixed_bytes(get(value, "ChannelId"), 32, "ChannelId")),
        number(value, "Amount", U256_MAX),
        signature(get(value, "Signature")),
    )
