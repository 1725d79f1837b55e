"""Has the money of a funded channel left it on chain for good, or was a deposit taken back? ADR 0046."""

from __future__ import annotations

from typing import Protocol

import msgspec

from scapp.channels.adjudicator_status import Mode, Status
from scapp.channels.channel.chain_rules import amounts, holds


class InBlock(Protocol):
    """What one block shows; `holdings` are 32 bytes each."""

    @property
    def holdings(self) -> tuple[bytes, ...]: ...

    @property
    def status(self) -> Status: ...


class Known(Protocol):
    """What the fact before said."""

    @property
    def latest(self) -> InBlock: ...

    @property
    def confirmed(self) -> InBlock: ...

    @property
    def ended(self) -> bool: ...

    @property
    def held(self) -> tuple[bytes, ...]: ...


class Expected(msgspec.Struct, frozen=True, gc=False):
    """What is known of the channel beside the chain. Per asset: all deposits together, and the smallest one. `leaving`:
    this node will not deposit any more. `challenge_duration` in seconds."""

    totals: tuple[int, ...]
    deposits: tuple[int, ...]
    challenge_duration: int
    final_signed: bool
    leaving: bool


def with_end(
    known: Known | None, latest: InBlock, confirmed: InBlock, expected: Expected, before_s: int, now_s: int
) -> tuple[bool, tuple[bytes, ...]]:
    """`ended`, and what was `held` before it. Holdings alone do not tell; what was finalized, signed as final, or long
    enough unseen (since `before_s`) to be finalized was paid out.

    Where this node would deposit again, a confirmed payout stays one: who deposits after it, as if it had been taken
    back, would else lure others into a channel that anybody can end with its newest state once more."""
    now = latest.holdings
    held = known.held if known is not None else now
    if latest.status.mode(now_s) is Mode.FINALIZED:
        known_end = known is not None and known.ended
        return True, held if known_end or not holds(now, amounts(held)) else now
    if known is None:
        return False, now
    unseen_s = now_s - before_s
    before = known.confirmed.holdings
    if _left(known, before, confirmed.holdings, expected, unseen_s, now_s):
        return True, held if holds(held, amounts(before)) else before
    if holds(now, amounts(held)):
        return False, now
    if known.ended:
        lures = not (expected.final_signed or expected.leaving) and not holds(confirmed.holdings, amounts(held))
        back = not lures and _is_back(expected, known.latest.holdings, now)
        return not back, now if back else held
    ended = _left(known, held, now, expected, unseen_s, now_s)
    return ended, held if ended else now


def _is_back(expected: Expected, before: tuple[bytes, ...], now: tuple[bytes, ...]) -> bool:
    """Has the chain taken a payout back? Then it holds at least somebody's whole deposit again; less is dust that a
    stranger may add to any channel at any time."""
    rises = zip(amounts(before), amounts(now), expected.deposits, strict=True)
    return any(after > first and after >= deposit for first, after, deposit in rises)


def _left(
    known: Known, before: tuple[bytes, ...], now: tuple[bytes, ...], expected: Expected, unseen_s: int, now_s: int
) -> bool:
    """Are the holdings less than before because they were paid out?"""
    if holds(now, amounts(before)):
        return False
    statuses = (known.latest.status, known.confirmed.status)
    if any(status.mode(now_s) is Mode.FINALIZED for status in statuses):
        return True
    if unseen_s >= expected.challenge_duration:
        return True
    sums = zip(amounts(now), amounts(before), expected.totals, strict=True)
    return expected.final_signed and all(left <= max(0, had - total) for left, had, total in sums)
