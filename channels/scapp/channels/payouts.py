"""What the adjudicator does with a finalized outcome: transfer and reclaim effects, without side effects.

Mirrors the published contract exactly (docs/reference/nitro.md sections 3.1 and 3.2), its weak guarantee check
included: predictions must equal what the chain will do. Nothing may rely on that check as a protection.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import msgspec

from scapp.channels.abi import InvalidValue
from scapp.channels.outcome import Allocation, AllocationType, split_guarantee_metadata
from scapp.channels.types import U256_MAX, Destination


class TransferEffects(msgspec.Struct, frozen=True, gc=False):
    """`remaining` is the new outcome; `exits` are what is paid, one per selected allocation, zeros included."""

    remaining: tuple[Allocation, ...]
    allocates_only_zeros: bool
    exits: tuple[Allocation, ...]
    total_payouts: int


_NOTHING = Allocation(Destination(bytes(32)), 0)


def transfer_effects(holdings: int, allocations: Sequence[Allocation], indices: Sequence[int] = ()) -> TransferEffects:
    """Pay the allocations at `indices` (none means all) out of `holdings`, by priority.

    Allocations that are not selected keep what ranks for them reserved. An index beyond the list pays nothing to
    nobody. Raises `InvalidValue` for indices that do not strictly increase, and where the contract reverts with
    `cannot transfer a guarantee`."""
    _check_indices(indices)
    surplus = holdings
    remaining: list[Allocation] = []
    exits: list[Allocation] = []
    selected = 0
    for position, allocation in enumerate(allocations):
        pays = min(allocation.amount, surplus)
        surplus -= pays
        if indices and not (selected < len(indices) and indices[selected] == position):
            remaining.append(allocation)
            continue
        # The contract looks at the type of allocation `selected`, not of the one it pays: section 23, defect 1.
        if allocations[selected].allocation_type == AllocationType.GUARANTEE:
            raise InvalidValue(f"cannot transfer a guarantee: allocation {selected} is one")
        remaining.append(msgspec.structs.replace(allocation, amount=allocation.amount - pays))
        exits.append(msgspec.structs.replace(allocation, amount=pays))
        selected += 1
    exits += [_NOTHING] * (len(indices) - selected)
    return TransferEffects(
        tuple(remaining),
        all(allocation.amount == 0 for allocation in remaining),
        tuple(exits),
        sum(exit_.amount for exit_ in exits),
    )


def _check_indices(indices: Sequence[int]) -> None:
    if indices and indices[0] < 0:
        raise InvalidValue(f"index {indices[0]} is negative")
    if any(later <= earlier for earlier, later in itertools.pairwise(indices)):
        raise InvalidValue(f"indices {list(indices)} must strictly increase")


def reclaim_effects(
    source: Sequence[Allocation], target: Sequence[Allocation], guarantee_index: int
) -> tuple[Allocation, ...]:
    """The ledger's new allocations after its guarantee is dissolved into the target channel's outcome.

    The guarantee goes; its left and right party get what the target's first and second allocation say. Destinations
    of the target and further allocations in it are not read, as in the contract. Raises `InvalidValue` where the
    contract reverts; whether the allocation is a guarantee at all is looked at before, by `predict_reclaim`."""
    guarantee = _allocation_at(source, guarantee_index)
    if len(guarantee.metadata) < 64:
        raise InvalidValue(f"guarantee metadata of {len(guarantee.metadata)} bytes; left and right need 64")
    # The contract's decoder ignores what follows the two words; `split_guarantee_metadata` would refuse it.
    left, right = split_guarantee_metadata(guarantee.metadata[:64])
    if len(target) < 2:
        raise InvalidValue(f"the target outcome has {len(target)} allocations; reclaim reads the first two")
    remaining = [allocation for index, allocation in enumerate(source) if index != guarantee_index]
    for destination, amount, name in ((left, target[0].amount, "left"), (right, target[1].amount, "right")):
        _credit(remaining, destination, amount, name)
    reclaimed = target[0].amount + target[1].amount
    if reclaimed != guarantee.amount:
        raise InvalidValue(f"the target pays {reclaimed}; the guarantee holds {guarantee.amount}")
    return tuple(remaining)


def predict_reclaim(
    source: Sequence[Allocation], target: Sequence[Allocation], guarantee_index: int
) -> tuple[Allocation, ...]:
    """What the contract's `reclaim` makes of the ledger: `reclaim_effects`, for allocations of type 2 only."""
    kind = _allocation_at(source, guarantee_index).allocation_type
    if kind != AllocationType.GUARANTEE:
        raise InvalidValue(f"allocation {guarantee_index} is of type {kind}, not a guarantee allocation")
    return reclaim_effects(source, target, guarantee_index)


def _allocation_at(source: Sequence[Allocation], index: int) -> Allocation:
    if not 0 <= index < len(source):
        raise InvalidValue(f"guarantee index {index}; the source has {len(source)} allocations")
    return source[index]


def _credit(allocations: list[Allocation], destination: Destination, amount: int, name: str) -> None:
    for index, allocation in enumerate(allocations):
        if allocation.destination == destination:
            credited = allocation.amount + amount
            if credited > U256_MAX:
                raise InvalidValue(f"{name} would have {credited}, more than 2**256 - 1")
            allocations[index] = msgspec.structs.replace(allocation, amount=credited)
            return
    raise InvalidValue(f"could not find {name} 0x{destination.hex()} in the source outcome")
