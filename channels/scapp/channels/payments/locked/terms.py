"""What a node asks of locked payments, its operator's choice, and what it knows of the chain at the moment. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from scapp.channels.payments.hops import LockTerms
from scapp.channels.payments.locked.records import Lane
from scapp.channels.payments.locks import Lock
from scapp.channels.routing.fees import Schedule
from scapp.channels.types import ZERO_ADDRESS, Address, asset_unit, money

LOCKS_USUAL = 16


class LockSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`margin_s` as in `LockTerms`. `locks_max`: in one lane at a time. `locked_max`: the most that this node has under
    locks to one neighbour, by asset; where none is named, what it pays itself has no such limit, and what it passes on
    is limited by `schedules`: its fees, and the least and most that it forwards. It passes on nothing of other assets.

    `least_percent`: what it passes on is worth at least so much of what a reveal on chain costs; 0 for no such bound.
    `least_named`: assets whose least amount its operator has chosen, which counts instead."""

    margin_s: int = 3_600
    locks_max: int = LOCKS_USUAL
    locked_max: Mapping[Address, int] = {}
    schedules: tuple[Schedule, ...] = ()
    least_percent: int = 0
    least_named: frozenset[Address] = frozenset()

    def of(self, lane: Lane) -> LockTerms:
        """For locks in one lane."""
        return LockTerms(margin_s=self.margin_s, challenge_duration_s=lane.challenge_duration_s)

    def most(self, asset: Address, *, own: bool) -> int | None:
        """`locked_max` as it applies to what this node pays itself, or passes on."""
        named = self.locked_max.get(asset)
        if named is not None or own:
            return named
        return next((each.most for each in self.schedules if each.asset == asset), 0)

    def small_fault(self, asset: Address, amount: int, reveal_cost: int, *, asked: bool) -> str:
        """Why so little is not passed on, or "". One that has arrived needs half of what is `asked` for: it was agreed
        to at the price of some blocks before, and stands until its end if it fails."""
        if not self.least_percent or asset in self.least_named:
            return ""
        if asset != ZERO_ADDRESS:  # nobody says what gas costs in it
            unit = asset_unit(asset)
            return f"this hub passes nothing {unit} on under locks: it names no least amount (hub.amount_min)"
        least = -(-reveal_cost * self.least_percent // (100 if asked else 200))
        if amount >= least:
            return ""
        more = f"{money(least, asset, named=True)} or more, by what a reveal on chain costs now"
        return f"{money(amount, asset)} under a lock; this hub passes on {more}"


class ChainClock(msgspec.Struct, frozen=True, kw_only=True):
    """`head_s`: timestamp of the chain's newest block, 0 while unknown. `seen_s`: that of the newest confirmed block
    when `revealed` was read at it: when the preimage of a hash was first revealed on chain, 0 for not yet; only of
    hashes that were asked for."""

    head_s: int = 0
    seen_s: int = 0
    revealed: Mapping[bytes, int] = {}

    def fate(self, lock: Lock) -> Literal["opened", "ended"] | None:
        """What became of a lock for good, whatever the chain does from here on; None while that is open, or unknown."""
        at_s = self.revealed.get(lock.hash)
        if at_s is None:
            return None
        if 0 < at_s <= lock.expiry_s:
            return "opened"
        return "ended" if self.seen_s > lock.expiry_s else None
