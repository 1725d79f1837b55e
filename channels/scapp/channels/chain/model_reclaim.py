"""What `reclaim` makes of a ledger's allocations, with the contract's reasons in its order; part of the model."""

from __future__ import annotations

from collections.abc import Sequence

from scapp.channels.chain.model_world import OVERFLOW, SILENT, Revert
from scapp.channels.outcome import Allocation, split_guarantee_metadata
from scapp.channels.payouts import reclaim_effects
from scapp.channels.types import U256_MAX

OUT_OF_BOUNDS = "panic 0x32"


def dissolved(source: Sequence[Allocation], target: Sequence[Allocation], index: int) -> tuple[Allocation, ...]:
    """The ledger's allocations without the guarantee at `index`. Raises Revert."""
    metadata = source[index].metadata
    if len(metadata) < 64:
        raise Revert(SILENT)
    sides = split_guarantee_metadata(metadata[:64])
    reclaimed, left = 0, [False, False]
    for at, item in enumerate(source):
        if at == index:
            continue
        gained = item.amount
        for which, side in enumerate(sides):
            if not left[which] and item.destination == side:
                if which >= len(target):
                    raise Revert(OUT_OF_BOUNDS)
                left[which] = True
                gained += target[which].amount
                reclaimed += target[which].amount
                if max(gained, reclaimed) > U256_MAX:
                    raise Revert(OVERFLOW)
    for found, name in zip(left, ("left", "right"), strict=True):
        if not found:
            raise Revert(f"could not find {name}")
    if reclaimed != source[index].amount:
        raise Revert("totalReclaimed!=guarantee.amount")
    return reclaim_effects(source, target, index)
