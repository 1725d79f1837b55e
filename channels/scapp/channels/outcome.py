"""Outcomes: who is owed what in which asset, their encoding and the sums over them (docs/reference/nitro.md section 3).

An outcome is an ordered list of single-asset exits, each with an ordered list of allocations; order is payment
priority. `payouts.py` computes what a chain does with one.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence

import msgspec

from scapp.channels import abi
from scapp.channels.abi import InvalidValue, OutcomeSlot
from scapp.channels.crypto import keccak256
from scapp.channels.types import Address, Destination, Hash


class AllocationType(enum.IntEnum):
    """What the adjudicator does with an allocation. Guarantees are type 2; go-nitro's 1 is a defect."""

    SIMPLE = 0
    WITHDRAW_HELPER = 1
    GUARANTEE = 2


class Allocation(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """`amount` units for `destination`, an unsigned 256-bit integer in the asset's smallest unit."""

    destination: Destination
    amount: int
    allocation_type: int = AllocationType.SIMPLE
    metadata: bytes = b""


class AssetMetadata(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """0 default, 1 ERC721, 2 ERC1155, 3 qualified (on another chain)."""

    asset_type: int = 0
    metadata: bytes = b""


NO_METADATA = AssetMetadata()


class SingleAssetExit(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The allocations of one asset; 20 zero bytes are the chain's own coin."""

    asset: Address
    allocations: tuple[Allocation, ...]
    metadata: AssetMetadata = NO_METADATA


Outcome = tuple[SingleAssetExit, ...]


# Type, offset and length of a guarantee's metadata, which are always two words and follow directly.
_GUARANTEE_TAIL = abi.word(AllocationType.GUARANTEE) + abi.word(4 * abi.WORD) + abi.word(2 * abi.WORD)


def _tail(allocation_type: int, metadata: bytes) -> bytes:
    """An allocation from its third word on."""
    if allocation_type == AllocationType.GUARANTEE and len(metadata) == 2 * abi.WORD:
        return _GUARANTEE_TAIL + metadata
    type_ = abi.uint(allocation_type, 8, "allocation type")
    return type_ + abi.word(4 * abi.WORD) + abi.dynamic_bytes(metadata)


def allocations_body(allocations: Sequence[Allocation]) -> bytes:
    """Body of `(bytes32,uint256,uint8,bytes)[]`."""
    bodies: list[bytes] = []
    sizes_differ = False
    for allocation in allocations:
        destination, amount = allocation.destination, allocation.amount
        if len(destination) != 32:
            abi.wrong_length(destination, 32, "destination")
        if amount >> 256:
            abi.uint(amount, 256, "amount")
        tail = abi.SIMPLE_ALLOCATION_TAIL
        if allocation.metadata or allocation.allocation_type:
            tail = _tail(allocation.allocation_type, allocation.metadata)
            sizes_differ = True
        bodies.append(destination + amount.to_bytes(32, "big") + tail)
    if sizes_differ:
        return abi.dynamic_array(bodies)
    return b"".join((abi.equal_array_head(len(bodies), abi.SIMPLE_ALLOCATION_BYTES), *bodies))


def _exit_body(exit_: SingleAssetExit) -> bytes:
    asset = abi.address(exit_.asset, "asset")
    metadata = exit_.metadata
    allocations = allocations_body(exit_.allocations)
    if not metadata.asset_type and not metadata.metadata:
        return b"".join((asset, abi.PLAIN_EXIT_TAIL, allocations))
    type_ = abi.uint(metadata.asset_type, 8, "asset type")
    body = type_ + abi.word(0x40) + abi.dynamic_bytes(metadata.metadata)
    return b"".join((asset, abi.word(0x60), abi.word(0x60 + len(body)), body, allocations))


def outcome_body(outcome: Outcome) -> bytes:
    """The outcome as a dynamic field of another tuple: without the leading offset of `encode_outcome`."""
    return abi.dynamic_array([_exit_body(exit_) for exit_ in outcome])


def encode_outcome(outcome: Outcome) -> bytes:
    """`abi.encode(Exit[])`: the bytes the contract's `outcomeBytes` arguments carry."""
    return abi.OFFSET_OF_ONLY_ARGUMENT + outcome_body(outcome)


def outcome_hash(outcome: Outcome) -> Hash:
    """keccak256 of `encode_outcome`."""
    return Hash(keccak256(encode_outcome(outcome)))


def is_external(destination: Destination) -> bool:
    """Whether a payout leaves the adjudicator: twelve zero bytes and an address. Otherwise it is a channel id."""
    return destination[:12] == bytes(12)


def address_to_destination(address: Address) -> Destination:
    """The external destination that pays `address`."""
    return Destination(abi.address(address, "address"))


def destination_to_address(destination: Destination) -> Address:
    """The last 20 bytes; for an external destination, who is paid."""
    return Address(abi.bytes32(destination, "destination")[12:])


def guarantee_metadata(left: Destination, right: Destination) -> bytes:
    """Metadata of a guarantee: 64 bytes, the two destinations of the ledger outcome that fund the target."""
    return abi.bytes32(left, "left") + abi.bytes32(right, "right")


def split_guarantee_metadata(metadata: bytes) -> tuple[Destination, Destination]:
    """(left, right) of a guarantee; raises `InvalidValue` unless it is exactly 64 bytes."""
    if len(metadata) != 64:
        abi.wrong_length(metadata, 64, "guarantee metadata")
    return Destination(metadata[:32]), Destination(metadata[32:])


def total(allocations: Iterable[Allocation]) -> int:
    """Sum of all amounts."""
    return sum(allocation.amount for allocation in allocations)


def totals(outcome: Outcome) -> dict[Address, int]:
    """Per asset, everything allocated; exits of the same asset are added up."""
    sums: dict[Address, int] = {}
    for exit_ in outcome:
        sums[exit_.asset] = sums.get(exit_.asset, 0) + total(exit_.allocations)
    return sums


def totals_for(outcome: Outcome, destination: Destination) -> dict[Address, int]:
    """Per asset, what is allocated to `destination` (0 where nothing is)."""
    sums: dict[Address, int] = {}
    for exit_ in outcome:
        mine = total(item for item in exit_.allocations if item.destination == destination)
        sums[exit_.asset] = sums.get(exit_.asset, 0) + mine
    return sums


def deposit_safety_threshold(outcome: Outcome, interested: Destination) -> dict[Address, int]:
    """Per asset, the holdings from which a deposit for `interested` is safe: all that ranks before its allocation.

    The whole total where it has none; its first allocation counts. Raises `InvalidValue` when two exits share an
    asset, because they would then compete for the same holdings and no single figure is right."""
    thresholds: dict[Address, int] = {}
    for exit_ in outcome:
        if exit_.asset in thresholds:
            raise InvalidValue(f"asset 0x{exit_.asset.hex()} has two exits; a threshold needs one exit per asset")
        threshold = 0
        for allocation in exit_.allocations:
            if allocation.destination == interested:
                break
            threshold += allocation.amount
        thresholds[exit_.asset] = threshold
    return thresholds


def affords(allocations: Sequence[Allocation], index: int, funding: int) -> bool:
    """Whether `funding` pays allocation `index` in full after all that rank before it; no for an index outside."""
    if not 0 <= index < len(allocations):
        return False
    return funding - total(allocations[:index]) >= allocations[index].amount


def divert_to_guarantee(
    exit_: SingleAssetExit,
    left: Destination,
    right: Destination,
    left_amount: int,
    right_amount: int,
    target: Destination,
    *,
    guarantee_type: int = AllocationType.GUARANTEE,
) -> SingleAssetExit:
    """Take both deposits from the two parties' simple allocations and append one guarantee for `target`.

    Raises `InvalidValue` for a missing party, a negative deposit, or one above what the party has."""
    deposits = {left: left_amount, right: right_amount}
    if left == right:
        raise InvalidValue(f"left and right are the same destination 0x{left.hex()}")
    remaining: list[Allocation] = []
    for allocation in exit_.allocations:
        deposit = deposits.pop(allocation.destination, 0)
        if not 0 <= deposit <= allocation.amount:
            raise InvalidValue(
                f"deposit of {deposit} from 0x{allocation.destination.hex()}; allowed are 0 to {allocation.amount}"
            )
        remaining.append(msgspec.structs.replace(allocation, amount=allocation.amount - deposit))
    if deposits:
        raise InvalidValue(f"no allocation for {', '.join('0x' + missing.hex() for missing in deposits)}")
    guarantee = Allocation(target, left_amount + right_amount, guarantee_type, guarantee_metadata(left, right))
    return msgspec.structs.replace(exit_, allocations=(*remaining, guarantee))


def outcome_of_slots(slots: Sequence[OutcomeSlot], amounts: Sequence[int]) -> Outcome:
    """The outcome an app channel's slots stand for, with `amounts` in place of the slots' own.

    Raises `InvalidValue` when the numbers differ, or when the slots of one asset do not stand together."""
    if len(amounts) != len(slots):
        raise InvalidValue(f"{len(amounts)} amounts for {len(slots)} outcome slots")
    remaining = iter(amounts)
    return tuple(
        SingleAssetExit(
            Address(asset),
            tuple(Allocation(Destination(destination), next(remaining)) for _, destination, _ in group),
        )
        for asset, group in abi.group_slots(slots)
    )
