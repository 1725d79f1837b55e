"""What each kind of Nitro vector must fulfil; `nitro_vectors.py` reads the file, counts and prints.

A check gets one entry and raises: AssertionError where scapp computes something else, anything else where the entry
is malformed or scapp refuses it. Every field that scapp can compute is compared.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from scapp.channels import nitro_json
from scapp.channels.abi import InvalidValue, StateHasher
from scapp.channels.addresses import checksum_address, parse_address, peer_id
from scapp.channels.adjudicator_status import Status, encode_fingerprint, fingerprint, pack_status, unpack_status
from scapp.channels.crypto import keccak256
from scapp.channels.outcome import (
    Allocation,
    AssetMetadata,
    Outcome,
    SingleAssetExit,
    address_to_destination,
    affords,
    deposit_safety_threshold,
    destination_to_address,
    divert_to_guarantee,
    encode_outcome,
    guarantee_metadata,
    is_external,
    outcome_hash,
    split_guarantee_metadata,
    totals,
)
from scapp.channels.payouts import reclaim_effects, transfer_effects
from scapp.channels.signing import Signer, Verifier, eth_digest, normalise_v, recover
from scapp.channels.state import (
    FixedPart,
    VariablePart,
    challenge_hash,
    channel_id,
    encode_challenge_message,
    encode_fixed_part,
    encode_redemption,
    encode_state,
    encode_voucher,
    signer_count,
    signer_indices,
    state_hash,
    voucher_hash,
)
from scapp.channels.types import Address, ChannelId, Destination, Hash

Check = Callable[[Any], None]


# --- reading ---------------------------------------------------------------------------------------------------------


def raw(text: Any) -> bytes:
    """Bytes from 0x and pairs of hexadecimal digits."""
    if not isinstance(text, str) or not re.fullmatch(r"0x(?:[0-9a-fA-F]{2})*", text):
        raise ValueError(f"{text!r} is not 0x and pairs of hexadecimal digits")
    return bytes.fromhex(text[2:])


def number(value: Any) -> int:
    """An integer, written as a JSON number or as decimal digits in a string."""
    if (
        isinstance(value, bool)
        or not isinstance(value, int | str)
        or (isinstance(value, str) and not value.isdecimal())
    ):
        raise ValueError(f"{value!r} is no unsigned integer")
    return int(value)


def same(what: str, computed: object, expected: object) -> None:
    """The comparison all checks use; shows bytes as hexadecimal."""
    if computed != expected:
        raise AssertionError(f"{what}: computed {_shown(computed)}, the vector says {_shown(expected)}")


def _shown(value: object) -> str:
    return "0x" + value.hex() if isinstance(value, bytes) else repr(value)


def allocations(items: Any) -> tuple[Allocation, ...]:
    return tuple(
        Allocation(
            Destination(raw(item["destination"])),
            number(item["amount"]),
            number(item["allocationType"]),
            raw(item["metadata"]),
        )
        for item in items
    )


def outcome(items: Any) -> Outcome:
    return tuple(
        SingleAssetExit(
            Address(raw(item["asset"])),
            allocations(item["allocations"]),
            AssetMetadata(number(item["assetMetadata"]["assetType"]), raw(item["assetMetadata"]["metadata"])),
        )
        for item in items
    )


def fixed_part(item: Any) -> FixedPart:
    nonce = number(item["channelNonce"])
    same("channelNonceHex", nonce, int(item["channelNonceHex"], 16))
    return FixedPart(
        tuple(Address(raw(participant)) for participant in item["participants"]),
        nonce,
        Address(raw(item["appDefinition"])),
        number(item["challengeDuration"]),
    )


def variable_part(item: Any) -> VariablePart:
    if not isinstance(item["isFinal"], bool):
        raise ValueError(f"isFinal is {item['isFinal']!r}")
    return VariablePart(outcome(item["outcome"]), raw(item["appData"]), number(item["turnNum"]), item["isFinal"])


# --- sections of `generated` -----------------------------------------------------------------------------------------


def check_channel_id(entry: Any) -> None:
    fixed = fixed_part(entry["input"])
    same("encoded", encode_fixed_part(fixed), raw(entry["encoded"]))
    same("channelId", channel_id(fixed), raw(entry["channelId"]))


def check_outcome_encoding(entry: Any) -> None:
    decoded = outcome(entry["outcome"])
    same("encoded", encode_outcome(decoded), raw(entry["encoded"]))
    if "outcomeHash" in entry or "kind" not in entry:
        same("outcomeHash", outcome_hash(decoded), raw(entry["outcomeHash"]))
    same("after a JSON round trip", nitro_json.read_outcome(nitro_json.write_outcome(decoded)), decoded)


def check_state_encoding(entry: Any) -> None:
    channel, variable = channel_id(fixed_part(entry["fixedPart"])), variable_part(entry["variablePart"])
    same("channelId", channel, raw(entry["channelId"]))
    same("encoded", encode_state(channel, variable), raw(entry["encoded"]))
    same("stateHash", state_hash(channel, variable), raw(entry["stateHash"]))
    _check_state_hasher(channel, variable, raw(entry["encoded"]))


def _check_state_hasher(channel: ChannelId, variable: VariablePart, encoded: bytes) -> None:
    """The prepared encoder must agree wherever the outcome has a shape it is made for."""
    assets = [exit_.asset for exit_ in variable.outcome]
    items = [(exit_.asset, item) for exit_ in variable.outcome for item in exit_.allocations]
    plain = all(exit_.allocations and exit_.metadata == AssetMetadata() for exit_ in variable.outcome)
    if not plain or len(set(assets)) != len(assets) or any(item.allocation_type or item.metadata for _, item in items):
        return
    hasher = StateHasher(channel, [(asset, item.destination, 0) for asset, item in items])
    amounts = tuple(item.amount for _, item in items)
    prepared = hasher.encode(variable.app_data, amounts, variable.turn, variable.is_final)
    same("StateHasher's encoding", prepared, encoded)


def check_state_hash(generated: Mapping[str, Any]) -> Check:
    """The section repeats hashes of `stateEncoding`; its entries are found there by everything they name."""
    encodings = generated.get("stateEncoding", [])
    names = ("note", "channelId", "turnNum", "isFinal")

    def check(entry: Any) -> None:
        key = [entry[name] for name in names]
        matching = [other for other in encodings if [other.get("note"), other.get("channelId"), *_turn(other)] == key]
        if not matching:
            raise ValueError(f"no entry of stateEncoding has {dict(zip(names, key, strict=True))}")
        hashes = [
            state_hash(channel_id(fixed_part(other["fixedPart"])), variable_part(other["variablePart"]))
            for other in matching
        ]
        assert raw(entry["stateHash"]) in hashes, f"computed {[_shown(h) for h in hashes]}, not {entry['stateHash']}"

    return check


def _turn(entry: Any) -> tuple[Any, Any]:
    return entry["variablePart"]["turnNum"], entry["variablePart"]["isFinal"]


def check_signed(h: Hash, key: Any, signer: Any, digest: Any, signature: Any) -> None:
    """Signing gives these very bytes, and recovering them gives the signer."""
    expected = raw(signature["compact"])
    parts = raw(signature["r"]) + raw(signature["s"]) + bytes([number(signature["v"])])
    same("compact", parts, expected)
    who = Signer(raw(key))
    same("signer", who.address, raw(signer))
    same("digest", eth_digest(h), raw(digest))
    same("signature", who.sign(h), expected)
    same("recovered signer", recover(h, expected), who.address)
    same("Verifier", Verifier(who.address).matches(h, expected), True)


def check_signature(entry: Any) -> None:
    h = Hash(raw(entry["stateHash"]))
    check_signed(h, entry["privateKey"], entry["signer"], entry["digest"], entry["signature"])


def check_challenge(entry: Any) -> None:
    state = Hash(raw(entry["stateHash"]))
    same("preimage", encode_challenge_message(state), raw(entry["preimage"]))
    h = challenge_hash(state)
    same("challengeHash", h, raw(entry["challengeHash"]))
    check_signed(h, entry["privateKey"], entry["challenger"], entry["digest"], entry["challengerSig"])


def check_status(entry: Any) -> None:
    state, result = Hash(raw(entry["stateHash"])), Hash(raw(entry["outcomeHash"]))
    mark = fingerprint(state, result)
    same("fingerprint", mark, raw(entry["fingerprint"]))
    same("fingerprint's preimage", keccak256(encode_fingerprint(state, result))[12:], mark)
    status = Status(number(entry["turnNumRecord"]), number(entry["finalizesAt"]), mark)
    same("statusWord", pack_status(status), raw(entry["statusWord"]))
    same("unpacked", unpack_status(Hash(raw(entry["statusWord"]))), status)


def check_voucher(entry: Any) -> None:
    channel, amount = ChannelId(raw(entry["channelId"])), number(entry["amount"])
    same("encoded", encode_voucher(channel, amount), raw(entry["encoded"]))
    h = voucher_hash(channel, amount)
    same("voucherHash", h, raw(entry["voucherHash"]))
    check_signed(h, entry["privateKey"], entry["signer"], entry["digest"], entry["signature"])
    signature = normalise_v(raw(entry["signature"]["compact"]))
    same("redemptionAppData", encode_redemption(amount, signature), raw(entry["redemptionAppData"]))


def check_guarantee_metadata(entry: Any) -> None:
    left, right = Destination(raw(entry["left"])), Destination(raw(entry["right"]))
    same("encoded", guarantee_metadata(left, right), raw(entry["encoded"]))
    same("split", split_guarantee_metadata(raw(entry["encoded"])), (left, right))


def check_external(entry: Any) -> None:
    destination = Destination(raw(entry["destination"]))
    same("isExternal", is_external(destination), entry["isExternal"])
    address = destination_to_address(destination) if is_external(destination) else None
    same("address", address, None if entry["address"] is None else raw(entry["address"]))
    if address is not None:
        same("back", address_to_destination(address), destination)


def check_transfer_effects(entry: Any) -> None:
    before = allocations(entry["allocations"])
    effects = transfer_effects(number(entry["initialHoldings"]), before, [number(i) for i in entry["indices"]])
    same("newAllocations", effects.remaining, allocations(entry["newAllocations"]))
    same("allocatesOnlyZeros", effects.allocates_only_zeros, entry["allocatesOnlyZeros"])
    same("exitAllocations", effects.exits, allocations(entry["exitAllocations"]))
    same("totalPayouts", effects.total_payouts, number(entry["totalPayouts"]))


def check_reclaim_effects(entry: Any) -> None:
    computed = reclaim_effects(
        allocations(entry["sourceAllocations"]),
        allocations(entry["targetAllocations"]),
        number(entry["indexOfTargetInSource"]),
    )
    same("newSourceAllocations", computed, allocations(entry["newSourceAllocations"]))


def generated_checks(generated: Mapping[str, Any]) -> dict[str, Check]:
    """Section name to its check, in the order they are printed."""
    return {
        "channelId": check_channel_id,
        "outcomeEncoding": check_outcome_encoding,
        "stateEncoding": check_state_encoding,
        "signature": check_signature,
        "challengeMessage": check_challenge,
        "status": check_status,
        "voucher": check_voucher,
        "guaranteeMetadata": check_guarantee_metadata,
        "external": check_external,
        "transferEffects": check_transfer_effects,
        "reclaimEffects": check_reclaim_effects,
        "stateHash": check_state_hash(generated),
    }


# --- kinds of `known` ------------------------------------------------------------------------------------------------


def name32(text: str) -> Destination:
    """A destination from a short name like 0x0a: its digits at the end of 32 bytes."""
    return Destination(bytes.fromhex(text.removeprefix("0x").rjust(64, "0")))


def pairs(items: Any) -> tuple[Allocation, ...]:
    """Allocations from [name, amount] or [name, amount, type]."""
    return tuple(Allocation(name32(item[0]), number(item[1]), *map(number, item[2:])) for item in items)


def nonempty(items: Any) -> Any:
    """An entry without cases would prove nothing."""
    if not items:
        raise ValueError("the entry has no cases")
    return items


def known_keys(entry: Any) -> None:
    for item in nonempty(entry.get("actors") or entry.get("keys")):
        signer = Signer(raw(item["privateKey"]))
        same("address", checksum_address(signer.address), item["address"])
        same("parsed address", parse_address(item["address"]), signer.address)
        if "peerId" in item or "actors" in entry:
            same("peerId", peer_id(signer.public_key), item["peerId"])


def known_state(entry: Any) -> None:
    channel, variable = channel_id(fixed_part(entry["input"])), variable_part(entry["input"]["variablePart"])
    same("channelId", channel, raw(entry["channelId"]))
    h = state_hash(channel, variable)
    same("stateHash", h, raw(entry["stateHash"]))
    signer, signature = Signer(raw(entry["signerPrivateKey"])), entry["signature"]
    same("signer", signer.address, raw(entry["signer"]))
    same("signature", signer.sign(h), raw(signature["r"]) + raw(signature["s"]) + bytes([number(signature["v"])]))


def known_signed_state_json(entry: Any) -> None:
    signed = nitro_json.read_signed_state(entry["json"])
    same("json", nitro_json.write_signed_state(signed), entry["json"])
    h = state_hash(channel_id(signed.fixed), signed.variable)
    for index, signature in nonempty(signed.signatures).items():
        same(f"signer {index}", recover(h, signature), signed.fixed.participants[index])


def known_voucher_json(entry: Any) -> None:
    same("json", nitro_json.write_voucher(nitro_json.read_voucher(entry["json"])), entry["json"])


def known_vouchers_signed(entry: Any) -> None:
    for item in nonempty(entry["vouchers"]):
        h = voucher_hash(ChannelId(raw(entry["channelId"])), number(item["amount"]))
        same("voucherHash", h, raw(item["voucherHash"]))
        same("digest", eth_digest(h), raw(item["digest"]))
        same("signer", recover(h, raw(item["compact"])), raw(entry["signer"]))


def known_external(entry: Any) -> None:
    for destination, expected in nonempty(entry["cases"]):
        same(destination, is_external(Destination(raw(destination))), expected)


def known_address_conversion(entry: Any) -> None:
    for destination, address in nonempty(entry["cases"]):
        same(destination, checksum_address(destination_to_address(Destination(raw(destination)))), address)


def known_bitmask(entry: Any) -> None:
    for mask, count in nonempty(entry["num"]):
        same(f"signers in {mask}", signer_count(number(mask)), count)
    for mask, indices in nonempty(entry["indices"]):
        same(f"indices in {mask}", list(signer_indices(number(mask))), indices)


def known_safety_threshold(entry: Any) -> None:
    whole = tuple(SingleAssetExit(Address(raw(item["asset"])), pairs(item["allocations"])) for item in entry["exit"])
    for name, expected in nonempty(entry["expected"]).items():
        wanted = {raw(asset): amount for asset, amount in expected.items()}
        same(f"threshold for {name}", deposit_safety_threshold(whole, name32(name)), wanted)
    same("totals", totals(whole), {raw(asset): amount for asset, amount in entry["totals"].items()})


def known_affords(entry: Any) -> None:
    items = pairs(entry["allocations"])
    for index, funding, expected in nonempty(entry["cases"]):
        position = len(items) if index == "absent" else number(index)
        same(f"allocation {index} from {funding}", affords(items, position, number(funding)), expected)


def known_divert(entry: Any) -> None:
    before = SingleAssetExit(Address(bytes(20)), pairs(entry["before"]))
    left, right = (allocation.destination for allocation in before.allocations)
    for case in nonempty(entry["cases"]):
        kind = number(case["after"][-1][2])  # the vector was made with go-nitro's guarantee type 1
        after = divert_to_guarantee(
            before,
            left,
            right,
            number(case["left"]),
            number(case["right"]),
            name32(case["target"]),
            guarantee_type=kind,
        )
        *simple, guarantee = pairs(case["after"])
        same("simple allocations", after.allocations[:-1], tuple(simple))
        last = after.allocations[-1]
        same("guarantee", (last.destination, last.amount, last.allocation_type),
             (guarantee.destination, guarantee.amount, guarantee.allocation_type))  # fmt: skip
        same("metadata", last.metadata, left + right)


def known_transfer(entry: Any) -> None:
    effects = transfer_effects(number(entry["initialHoldings"]), pairs(entry["allocations"]), entry["indices"])
    same("newAllocations", effects.remaining, pairs(entry["newAllocations"]))
    same("exitAllocations", effects.exits, pairs(entry["exitAllocations"]))


_GUARANTEE = re.compile(r"guarantee to (0x[0-9a-f]+) left=(0x[0-9a-f]+) right=(0x[0-9a-f]+)")


def known_reclaim(entry: Any) -> None:
    source = []
    for name, amount in entry["sourceAllocations"]:
        if found := _GUARANTEE.fullmatch(name):
            target, left, right = map(name32, found.groups())
            source.append(Allocation(target, number(amount), 2, guarantee_metadata(left, right)))
        else:
            source.append(Allocation(name32(name), number(amount)))
    computed = reclaim_effects(source, pairs(entry["targetAllocations"]), number(entry["indexOfTargetInSource"]))
    same("newSourceAllocations", computed, pairs(entry["newSourceAllocations"]))


def _amounts(text: str) -> dict[str, int]:
    """`{A: 1, C: 2}` in TypeScript's notation."""
    inner = text.strip("{}").strip()
    return {name.strip(): int(amount) for name, amount in (part.split(":") for part in inner.split(",") if inner)}


_NEEDS_A_CHAIN = {"Channel not finalized", "incorrect fingerprint"}


def known_transfer_table(entry: Any) -> None:
    """Rows whose reason lies in the channel's status on chain are not computed here."""
    for cells in nonempty(entry["rows"]):
        row = dict(zip(entry["columns"], cells, strict=True))
        reason = entry["reasons"].get(row["reason"], "")
        if reason not in _NEEDS_A_CHAIN:
            _check_transfer_row(row, reason)


def _check_transfer_row(row: Mapping[str, str], reason: str) -> None:
    names = list(_amounts(row["setOutcome"]))
    kind = 0 if row["isSimple"] == "true" else 2
    before = [Allocation(_letter(name), amount, kind) for name, amount in _amounts(row["setOutcome"]).items()]
    held = _amounts(row["heldBefore"]).get("c", 0)
    indices = [int(index) for index in re.findall(r"\d+", row["indices"])]
    if reason:
        try:
            transfer_effects(held, before, indices)
        except InvalidValue:
            return
        raise AssertionError(f"row {row['n']}: nothing was refused, expected {reason!r}")
    effects = transfer_effects(held, before, indices)
    remaining = dict(zip(names, (allocation.amount for allocation in effects.remaining), strict=True))
    same(f"row {row['n']}, newOutcome", remaining, _amounts(row["newOutcome"]))
    held_after = _amounts(row["heldAfter"])
    same(f"row {row['n']}, held after", held - effects.total_payouts, held_after.pop("c", 0))
    paid = {_letter(name): amount for name, amount in (held_after | _amounts(row["payouts"])).items() if amount}
    same(f"row {row['n']}, payouts", {item.destination: item.amount for item in effects.exits if item.amount}, paid)


def _letter(name: str) -> Destination:
    return Destination(name.encode().rjust(32, b"\0"))


KNOWN_CHECKS: dict[str, Check] = {
    "keys": known_keys,
    "state": known_state,
    "signedStateJSON": known_signed_state_json,
    "outcomeEncoding": check_outcome_encoding,
    "guaranteeMetadata": check_guarantee_metadata,
    "externalDestination": known_external,
    "convertBytes32ToAddress": known_address_conversion,
    "signedByBitmask": known_bitmask,
    "depositSafetyThreshold": known_safety_threshold,
    "affords": known_affords,
    "divertToGuarantee": known_divert,
    "transferEffects": known_transfer,
    "reclaimEffects": known_reclaim,
    "transferTable": known_transfer_table,
    "voucherJSON": known_voucher_json,
    "voucherManagerSigned": known_vouchers_signed,
}
