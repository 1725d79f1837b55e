"""Who brings what into a funded channel, read from its outcome slots (docs/reference/app-channel.md section 7).

Within each asset, slot i belongs to participant i: it names where participant i is paid, and how much participant i
deposits. Slots after those begin with nothing; an app may pay third parties through them. The last slots of an asset
may be room for top-ups (ADR 0060, `top_ups.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Literal

import msgspec

from scapp.channels.abi import OutcomeSlot, group_slots
from scapp.channels.backing import ASSETS_MAX
from scapp.channels.outcome import is_external
from scapp.channels.types import Address, Destination


class Share(msgspec.Struct, frozen=True, gc=False):
    """One participant's part of one asset, in its smallest unit. A deposit is safe once everything that ranks before
    it is on chain (`safety`), and fills the holdings up to `target`."""

    safety: int
    target: int

    @property
    def amount(self) -> int:
        """What the participant deposits."""
        return self.target - self.safety


class Room(msgspec.Struct, frozen=True, gc=False):
    """Where an asset may grow, as positions in the outcome: `reserves[i]` is what participant i says it deposits,
    `headroom` what nobody has said that of; nothing ranks after it, and nothing of it is on chain."""

    reserves: tuple[int, ...]
    headroom: int


class Shares(msgspec.Struct, frozen=True, gc=False):
    """`of[i][k]` is participant i's share of asset k; `assets` stand in the order of their first slots, `totals` are
    what is deposited before the channel runs."""

    assets: tuple[Address, ...]
    totals: tuple[int, ...]
    of: tuple[tuple[Share, ...], ...]
    rooms: tuple[Room | None, ...]
    sums: tuple[int, ...]  # of all slots, headroom included
    owned: frozenset[int]  # positions in the outcome of the participants' own slots

    @property
    def grows(self) -> bool:
        """May deposits follow while the channel runs?"""
        return any(self.rooms)

    def position(self, index: int, asset: Address) -> int | None:
        """Where participant `index`'s own slot of the asset stands in the outcome; None for another asset."""
        return sorted(self.owned)[self.assets.index(asset) * len(self.of) + index] if asset in self.assets else None

    def claims(self, amounts: tuple[int, ...]) -> tuple[int, ...]:
        """What a state with these amounts owes, per asset: all but the headroom."""
        pairs = zip(self.rooms, self.sums, strict=True)
        return tuple(total if room is None else total - amounts[room.headroom] for room, total in pairs)

    def asked(self, index: int, before: tuple[int, ...], after: tuple[int, ...]) -> tuple[int, ...]:
        """How much more than the one state the other one asks participant `index` to deposit, per asset."""
        mine = (room.reserves[index] if room is not None else None for room in self.rooms)
        return tuple(0 if i is None else max(0, after[i] - before[i]) for i in mine)

    def needed(self, amounts: tuple[int, ...]) -> tuple[int, ...]:
        """What must be on chain under a state with these amounts, per asset: all that it owes but the reserves, whose
        owners deposit after it is signed."""
        pairs = zip(self.claims(amounts), self.rooms, strict=True)
        return tuple(owed if room is None else owed - sum(amounts[i] for i in room.reserves) for owed, room in pairs)


Renews = Literal["", "asked", "proposed"]


class Stakes(msgspec.Struct, frozen=True, gc=False):
    """What this node would bring into a proposed channel, for whoever decides about it. Amounts by asset."""

    deposits: dict[Address, int]
    pays_to: tuple[Destination, ...]  # our slots' destinations
    others: tuple[Address, ...]
    at_stake: dict[Address, dict[Address, int]]  # other participant: our deposits in channels with it that are open
    renews: Renews = ""  # of a successor, to which nobody deposits: "asked" for by our operator just so, or "proposed"


def shares_of(slots: tuple[OutcomeSlot, ...], count: int) -> Shares:
    """The shares of a channel with `count` participants. Raises ValueError for slots that cannot be funded."""
    groups = group_slots(slots)
    if not groups:
        raise ValueError("a funded channel needs outcome slots")
    columns = [_column(asset, group, count) for asset, group in groups]
    starts = list(accumulate((len(group) for _, group in groups), initial=0))
    return Shares(
        tuple(Address(asset) for asset, _ in groups),
        tuple(column[-1].target for column in columns),
        tuple(zip(*columns, strict=True)),
        tuple(_room(group, count, start) for (_, group), start in zip(groups, starts, strict=False)),
        tuple(sum(amount for _, _, amount in group) for _, group in groups),
        frozenset(start + index for start in starts[:-1] for index in range(count)),
    )


def with_room(slots: Sequence[OutcomeSlot], count: int, headroom: int) -> list[OutcomeSlot]:
    """The slots of one asset, participants' first, with room for top-ups of that much together."""
    mine = [(asset, destination, 0) for asset, destination, _ in slots[:count]]
    asset, first, _ = slots[0]
    return [*slots, *mine, (asset, first, headroom)]


def _room(group: list[OutcomeSlot], count: int, start: int) -> Room | None:
    """The room for top-ups among the slots of one asset, the first of which stands at `start` in the outcome."""
    headroom = len(group) - 1
    if headroom < 2 * count or not group[headroom][2]:
        return None
    if group[headroom - count :] != with_room(group[:count], count, group[headroom][2])[count:]:
        return None
    return Room(tuple(range(start + headroom - count, start + headroom)), start + headroom)


def check_virtual(slots: tuple[OutcomeSlot, ...]) -> None:
    """The slots of a virtual channel: what the chain's app for two parties takes, in each asset slot 0 for the first
    party and slot 1 for the other, at the same two accounts everywhere. Raises ValueError for any others."""
    groups = group_slots(slots)
    if not 1 <= len(groups) <= ASSETS_MAX or any(len(group) != 2 for _, group in groups):
        raise ValueError(
            f"{len(slots)} slots of {len(groups)} assets: a virtual channel has two in each of 1 to {ASSETS_MAX} "
            "assets, its parties'; one with more slots, as for bonds, must be funded directly"
        )
    for asset, group in groups:
        _column(asset, group, 2)
    paid = {tuple(destination for _, destination, _ in group) for _, group in groups}
    if len(paid) != 1 or len(set(next(iter(paid)))) != 2:
        raise ValueError("a virtual channel pays its two parties at the same two different accounts in each asset")


def brought(slots: tuple[OutcomeSlot, ...], index: int) -> dict[Address, int]:
    """What participant `index` brings into a funded channel, by asset, zeros left out."""
    mine = {Address(asset): group[index][2] for asset, group in group_slots(slots)}
    return {asset: amount for asset, amount in mine.items() if amount}


def put_up(shares: Shares, index: int, amounts: tuple[int, ...], allowed: tuple[int, ...]) -> dict[Address, int]:
    """What participant `index` has in a running channel with these amounts, by asset, zeros left out: what it brought,
    and where there is room for top-ups what it has by now if that is more, with what it is `allowed` to add."""
    found: dict[Address, int] = {}
    for k, (asset, room) in enumerate(zip(shares.assets, shares.rooms, strict=True)):
        amount = shares.of[index][k].amount
        at = shares.position(index, asset)
        if room is not None and at is not None:
            amount = max(amount, amounts[at] + amounts[room.reserves[index]]) + (allowed[k] if allowed else 0)
        if amount:
            found[asset] = amount
    return found


def _column(asset: bytes, group: list[OutcomeSlot], count: int) -> tuple[Share, ...]:
    name = f"asset 0x{asset.hex()}"
    if len(group) < count:
        raise ValueError(f"{name} has {len(group)} slots for {count} participants: slot i belongs to participant i")
    if _room(group, count, 0) is not None:
        group = [*group[:-1], (*group[-1][:2], 0)]
    for index, (_, destination, amount) in enumerate(group):
        if not is_external(Destination(destination)) or not any(destination):
            raise ValueError(f"slot {index} of {name} pays 0x{destination.hex()}, which is no account")
        if index >= count and amount:
            raise ValueError(f"slot {index} of {name} begins with {amount}, but nobody deposits for it")
    targets = list(accumulate(amount for _, _, amount in group[:count]))
    if not targets[-1]:
        raise ValueError(f"{name} begins with nothing: there is nothing to deposit")
    return tuple(Share(before, target) for before, target in zip([0, *targets], targets, strict=False))
