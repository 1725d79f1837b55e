"""Signed states and vouchers in go-nitro's JSON (docs/reference/nitro.md section 14), for exchange with its tools.

Field order is go-nitro's, addresses and hashes are lower-case hexadecimal, byte strings base64, amounts bare numbers
of any size. Go writes a nil byte string as `null` and an empty one as `""`; both read as empty here, and what go-nitro
itself builds without metadata is written as it writes it. Every reader raises `InvalidValue` for anything unexpected.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from scapp.channels.abi import InvalidValue
from scapp.channels.outcome import Allocation, AssetMetadata, Outcome, SingleAssetExit
from scapp.channels.state import FixedPart, VariablePart
from scapp.channels.types import U48_MAX, U64_MAX, U256_MAX, Address, ChannelId, Destination

DEPTH_MAX = 64
_BRACKET = re.compile(r"[\[\]{}]")
_HEX = re.compile(r"0x(?:[0-9a-fA-F]{2})*")
_U8_MAX, _U32_MAX = 2**8 - 1, 2**32 - 1


class SignedState(msgspec.Struct, frozen=True, gc=False):
    """A state and who has signed it: participant index to signature. Signatures are not checked here."""

    fixed: FixedPart
    variable: VariablePart
    signatures: dict[int, bytes]


class Voucher(msgspec.Struct, frozen=True, gc=False):
    """`amount` is everything paid so far in the channel. The signature is not checked here."""

    channel_id: ChannelId
    amount: int
    signature: bytes


def write_signed_state(signed: SignedState) -> str:
    """`{"State":{…},"Sigs":{"0":"0x…"}}` without spaces."""
    fixed, variable = signed.fixed, signed.variable
    state = {
        "Participants": [_hex(participant) for participant in fixed.participants],
        "ChannelNonce": fixed.nonce,
        "AppDefinition": _hex(fixed.app_definition),
        "ChallengeDuration": fixed.challenge_duration,
        "AppData": _base64(variable.app_data),
        "Outcome": [_exit_object(exit_) for exit_ in variable.outcome],
        "TurnNum": variable.turn,
        "IsFinal": variable.is_final,
    }
    # Go sorts map keys as strings, so participant 10 comes before participant 2.
    ordered = sorted(signed.signatures.items(), key=lambda item: str(item[0]))
    return _compact({"State": state, "Sigs": {str(index): _signature_text(value) for index, value in ordered}})


def read_signed_state(text: str | bytes) -> SignedState:
    """Inverse of `write_signed_state`; unknown fields are ignored, as Go does."""
    whole = _parse(text)
    state = _object(whole, "State")
    fixed = FixedPart(
        tuple(Address(_bytes(item, 20, "participant")) for item in _list(state, "Participants")),
        _number(state, "ChannelNonce", U64_MAX),
        Address(_bytes(_get(state, "AppDefinition"), 20, "AppDefinition")),
        _number(state, "ChallengeDuration", _U32_MAX),
    )
    is_final = _get(state, "IsFinal")
    if not isinstance(is_final, bool):
        raise InvalidValue(f"IsFinal is {_short(is_final)}, not true or false")
    variable = VariablePart(
        read_outcome_value(_get(state, "Outcome")),
        _from_base64(state, "AppData"),
        _number(state, "TurnNum", U48_MAX),
        is_final,
    )
    return SignedState(fixed, variable, _signatures(_object(whole, "Sigs"), len(fixed.participants)))


def _signatures(sigs: Mapping[str, Any], participants: int) -> dict[int, bytes]:
    signatures = {}
    for key, value in sigs.items():
        if key not in {str(index) for index in range(participants)}:
            raise InvalidValue(f"signature of participant {key!r}; there are 0 to {participants - 1}")
        signatures[int(key)] = _signature(value)
    return signatures


def write_outcome(outcome: Outcome) -> str:
    """An outcome as go-nitro's `Exit`."""
    return _compact([_exit_object(exit_) for exit_ in outcome])


def read_outcome(text: str | bytes) -> Outcome:
    """Inverse of `write_outcome`."""
    return read_outcome_value(_parse(text))


def read_outcome_value(value: Any) -> Outcome:
    """An outcome from already parsed JSON; `null` is Go's nil slice and reads as empty."""
    return tuple(_exit(item) for item in _items(value, "Outcome"))


def _exit(value: Any) -> SingleAssetExit:
    metadata = _object(value, "AssetMetadata")
    return SingleAssetExit(
        Address(_bytes(_get(value, "Asset"), 20, "Asset")),
        tuple(_allocation(item) for item in _list(value, "Allocations")),
        AssetMetadata(_number(metadata, "AssetType", _U8_MAX), _from_base64(metadata, "Metadata")),
    )


def _allocation(value: Any) -> Allocation:
    return Allocation(
        Destination(_bytes(_get(value, "Destination"), 32, "Destination")),
        _number(value, "Amount", U256_MAX),
        _number(value, "AllocationType", _U8_MAX),
        _from_base64(value, "Metadata"),
    )


def _exit_object(exit_: SingleAssetExit) -> dict[str, Any]:
    metadata = {"AssetType": exit_.metadata.asset_type, "Metadata": _base64(exit_.metadata.metadata)}
    allocations = [
        {
            "Destination": _hex(allocation.destination),
            "Amount": allocation.amount,
            "AllocationType": allocation.allocation_type,
            "Metadata": _base64(allocation.metadata) if allocation.metadata else None,
        }
        for allocation in exit_.allocations
    ]
    return {"Asset": _hex(exit_.asset), "AssetMetadata": metadata, "Allocations": allocations}


def write_voucher(voucher: Voucher) -> str:
    """`{"ChannelId":…,"Amount":…,"Signature":…}` without spaces."""
    signature = _signature_text(voucher.signature)
    return _compact({"ChannelId": _hex(voucher.channel_id), "Amount": voucher.amount, "Signature": signature})


def read_voucher(text: str | bytes) -> Voucher:
    """Inverse of `write_voucher`."""
    value = _parse(text)
    return Voucher(
        ChannelId(_bytes(_get(value, "ChannelId"), 32, "ChannelId")),
        _number(value, "Amount", U256_MAX),
        _signature(_get(value, "Signature")),
    )


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _hex(value: bytes) -> str:
    return "0x" + value.hex()


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _signature_text(signature: bytes) -> str:
    return _hex(signature) if signature else "0x00"


def _parse(text: str | bytes) -> Any:
    try:
        whole = text if isinstance(text, str) else text.decode()
        _check_depth(whole)
        return json.loads(whole)
    except ValueError as error:
        raise error if isinstance(error, InvalidValue) else InvalidValue(f"no JSON: {error}") from error


def _check_depth(text: str) -> None:
    # Python's parser descends once per bracket, and a raised recursion limit lets it run out of stack.
    depth = 0
    for bracket in _BRACKET.findall(text):
        depth += 1 if bracket in "[{" else -1
        if depth > DEPTH_MAX:
            raise InvalidValue(f"JSON nested deeper than {DEPTH_MAX}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:80] + "…"


def _get(value: Any, field: str) -> Any:
    if not isinstance(value, dict):
        raise InvalidValue(f"expected an object with {field}, found {_short(value)}")
    if field not in value:
        raise InvalidValue(f"{field} is missing in {_short(value)}")
    return value[field]


def _object(value: Any, field: str) -> Mapping[str, Any]:
    found = _get(value, field)
    if not isinstance(found, dict):
        raise InvalidValue(f"{field} is {_short(found)}, not an object")
    return found


def _list(value: Any, field: str) -> list[Any]:
    return _items(_get(value, field), field)


def _items(found: Any, field: str) -> list[Any]:
    if found is None:
        return []
    if not isinstance(found, list):
        raise InvalidValue(f"{field} is {_short(found)}, not a list")
    return found


def _number(value: Any, field: str, maximum: int) -> int:
    found = _get(value, field)
    # True and False are integers in Python, floats have lost digits, and negative amounts would move other's money.
    if type(found) is not int or not 0 <= found <= maximum:
        raise InvalidValue(f"{field} is {_short(found)}; allowed are integers from 0 to {maximum}")
    return found


def _bytes(found: Any, length: int, field: str) -> bytes:
    data = _from_hex(found, field)
    if len(data) != length:
        raise InvalidValue(f"{field} has {len(data)} bytes; it must have {length}")
    return data


def _from_hex(found: Any, field: str) -> bytes:
    if not isinstance(found, str) or not _HEX.fullmatch(found):
        raise InvalidValue(f"{field} is {_short(found)}, not 0x and pairs of hexadecimal digits")
    return bytes.fromhex(found[2:])


def _signature(found: Any) -> bytes:
    data = _from_hex(found, "signature")
    if not any(data):
        return b""
    if len(data) != 65:
        raise InvalidValue(f"a signature has 65 bytes, this one {len(data)}")
    return data


def _from_base64(value: Any, field: str) -> bytes:
    found = _get(value, field)
    if found is None:
        return b""
    if not isinstance(found, str):
        raise InvalidValue(f"{field} is {_short(found)}, not base64 text")
    try:
        return base64.b64decode(found, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidValue(f"{field} is {_short(found)}, not base64 text: {error}") from error
