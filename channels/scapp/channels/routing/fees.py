"""What hubs ask for standing in a virtual channel: a base and millionths of what the channel locks, rounded up."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from scapp.channels.errors import LocalError
from scapp.channels.types import U256_MAX, Address

MILLION = 1_000_000


class Stake(msgspec.Struct, frozen=True, gc=False):
    """What a virtual channel holds of one asset: the left party's amount and the right party's, in smallest units."""

    asset: Address
    left: int
    right: int

    @property
    def total(self) -> int:
        """What the channel locks in each ledger on its way."""
        return self.left + self.right


class Schedule(msgspec.Struct, frozen=True, gc=False):
    """A hub's terms for one asset: it forwards channels that lock `least` to `most` of it, for `base` plus `ppm`
    millionths of what they lock; amounts are in the asset's smallest unit."""

    asset: Address
    base: int
    ppm: int
    least: int = 0
    most: int = U256_MAX

    def takes(self, amount: int) -> bool:
        """May a channel lock that much?"""
        return self.least <= amount <= self.most


def price(schedule: Schedule, amount: int) -> int:
    """The fee for a channel that locks `amount`: exact, parts of a unit rounded up. Raises LocalError."""
    if not 0 <= amount <= U256_MAX:
        raise LocalError(f"a channel that locks {amount}; allowed are 0 to 2^256-1")
    return schedule.base - (-amount * schedule.ppm // MILLION)


def quote(schedules: Sequence[Schedule], stakes: Sequence[Stake]) -> int | None:
    """The fee for a channel with those stakes, in the first one's asset; None if the hub does not forward it.

    Fees are paid in the first asset. There is no rate between assets, so an asset that costs something must stand
    first: else a great stake would pass for the price of a small one before it."""
    terms = {schedule.asset: schedule for schedule in schedules}
    found = [terms.get(stake.asset) for stake in stakes]
    if not stakes or any(s is None or not s.takes(stake.total) for s, stake in zip(found, stakes, strict=True)):
        return None
    first, *further = [schedule for schedule in found if schedule is not None]
    if any(schedule.base or schedule.ppm for schedule in further):
        return None
    return price(first, stakes[0].total)
