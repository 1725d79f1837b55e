"""What a node asks of locked payments, its operator's choice, and what it knows of the chain at the moment. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from scapp.channels.payments.hops import LockTerms
from scapp.channels.payments.locked.records import Lane
from scapp.channels.payments.locks import Lock
from scapp.channels.routing.fees import Schedule
from scapp.channels.types import Address

LOCKS_USUAL = 16


class LockSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`margin_s` as in `LockTerms`. `locks_max`: in one lane at a time. `locked_max`: the most that this node has under
    locks to one neighbour, by asset; where none is named, what it pays itself has no such limit, and what it passes on
    is limited by `schedules`: its fees, and the most that it forwards. It passes on nothing of other assets."""

    margin_s: int = 3_600
    locks_max: int = LOCKS_USUAL
    locked_max: Mapping[Address, int] = {}
    schedules: tuple[Schedule, ...] = ()

    def of(self, lane: Lane) -> LockTerms:
        """For locks in one lane."""
        return LockTerms(margin_s=self.margin_s, challenge_duration_s=lane.challenge_duration_s)

    def most(self, asset: Address, *, own: bool) -> int | None:
        """`locked_max` as it applies to what this node pays itself, or passes on."""
        named = self.locked_max.get(asset)
        if named is not None or own:
            return named
        return next((each.most for each in self.schedules if each.asset == asset), 0)


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
