"""What each participant would be paid if somebody fell silent: `scapp test --stall`.

A dispute pays the last outcome that all have signed, and nothing later. So whoever stops signing after k entries fixes
the outcome after k entries, for everybody and whoever it is; what differs between stallers is what they gain by it.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class Prefix(msgspec.Struct, frozen=True):
    """The log up to and with one accepted entry: `amounts` is the outcome after it, by slot."""

    entries: int
    step: str
    amounts: tuple[int, ...]


class Staller(msgspec.Struct, frozen=True):
    """What falling silent here does for one participant, in one asset. `over_next` and `over_end`: how much more it has
    than after the next entry, and than at the end of the log; `others_lose` is the most that one other has less than at
    the end. `over_next` is None at the end."""

    gets: int
    over_next: int | None
    over_end: int
    others_lose: int


class Moment(msgspec.Struct, frozen=True):
    """After `entries` entries: what is paid, by participant and to all others, and by who stalls."""

    entries: int
    step: str
    paid: dict[str, int]
    others: int
    stallers: dict[str, Staller]


class AssetStalls(msgspec.Struct, frozen=True):
    """Every moment of a log, in one asset (`0x…`)."""

    asset: str
    moments: list[Moment]


def stalls(slots: Sequence[tuple[str, str | None]], names: Sequence[str], log: Sequence[Prefix]) -> list[AssetStalls]:
    """`slots` has the asset and the participant that each one pays, None for anybody else."""
    assets = dict.fromkeys(asset for asset, _ in slots)
    return [AssetStalls(asset, _moments(asset, slots, names, log)) for asset in assets]


def _moments(
    asset: str, slots: Sequence[tuple[str, str | None]], names: Sequence[str], log: Sequence[Prefix]
) -> list[Moment]:
    def to(prefix: Prefix, name: str | None) -> int:
        pairs = zip(slots, prefix.amounts, strict=True)
        return sum(amount for slot, amount in pairs if slot == (asset, name))

    paid = [{name: to(prefix, name) for name in names} for prefix in log]
    found = []
    for index, prefix in enumerate(log):
        here, end = paid[index], paid[-1]
        following = paid[index + 1] if index + 1 < len(log) else None
        stallers = {
            name: Staller(
                here[name],
                here[name] - following[name] if following else None,
                here[name] - end[name],
                max([0, *(end[other] - here[other] for other in names if other != name)]),
            )
            for name in names
        }
        found.append(Moment(prefix.entries, prefix.step, here, to(prefix, None), stallers))
    return found
