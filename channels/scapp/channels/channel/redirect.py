"""A final state that passes money on to a successor channel instead of paying it out (ADR 0061).

Such a state's amounts say who is owed what, as ever; a tail behind them says how much of that moves into which channel.
On chain the successor's id is the first destination of each asset, so one conclusion moves and pays.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from scapp.channels.abi import OutcomeSlot
from scapp.channels.outcome import Allocation, Outcome, is_external, outcome_of_slots
from scapp.channels.types import ChannelId, Destination

WORD = 32


class Redirect(msgspec.Struct, frozen=True, gc=False):
    """`moved[i]` of slot i's amount goes to channel `successor`, the rest to the slot's own destination."""

    successor: ChannelId
    moved: tuple[int, ...]

    @property
    def tail(self) -> bytes:
        """What stands behind the amounts in their blob."""
        return self.successor + b"".join(amount.to_bytes(WORD, "big") for amount in self.moved)


def redirect_of(amounts: bytes, slots: int) -> Redirect | None:
    """The redirect in the blob of a state of so many slots; None in one without. The caller checks other lengths."""
    tail = amounts[WORD * slots :]
    if len(tail) != WORD * (slots + 1):
        return None
    moved = tuple(int.from_bytes(tail[at : at + WORD], "big") for at in range(WORD, len(tail), WORD))
    return Redirect(ChannelId(tail[:WORD]), moved)


def fault(redirect: Redirect, amounts: Sequence[int]) -> str:
    """Why it cannot be of a state with these amounts, or an empty string."""
    if is_external(Destination(redirect.successor)):
        return f"0x{redirect.successor.hex()} is no channel to move money to"
    for slot, (moved, amount) in enumerate(zip(redirect.moved, amounts, strict=True)):
        if moved > amount:
            return f"{moved} of slot {slot} move on, which has {amount}"
    return ""


def outcome_with(slots: Sequence[OutcomeSlot], amounts: Sequence[int], redirect: Redirect | None) -> Outcome:
    """What the chain is told: in each asset first the successor, then the slots with what stays."""
    if redirect is None:
        return outcome_of_slots(slots, amounts)
    left = [amount - moved for amount, moved in zip(amounts, redirect.moved, strict=True)]
    moved = outcome_of_slots(slots, redirect.moved)
    return tuple(
        msgspec.structs.replace(exit_, allocations=(_moved(redirect, gone.allocations), *exit_.allocations))
        for exit_, gone in zip(outcome_of_slots(slots, left), moved, strict=True)
    )


def _moved(redirect: Redirect, allocations: Sequence[Allocation]) -> Allocation:
    return Allocation(Destination(redirect.successor), sum(allocation.amount for allocation in allocations))
