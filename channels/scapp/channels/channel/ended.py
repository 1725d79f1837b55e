"""Has the money of a funded channel left it on chain for good, or was a deposit taken back? ADR 0046."""

from __future__ import annotations

from typing import Protocol

import msgspec

from scapp.channels.adjudicator_status import Mode, Status
from scapp.channels.channel.chain_rules import amounts, holds

GIVEN_UP = "which went while this node was away for longer than a challenge lasts, and which it does not make again"


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
    """What is known of the channel beside the chain. Per asset: all deposits together, those with what is announced
    and not deposited yet, and the smallest one. `leaving`: this node will not deposit any more. `challenge_duration` in
    seconds."""

    totals: tuple[int, ...]
    claims: tuple[int, ...]
    deposits: tuple[int, ...]
    challenge_duration: int
    final_signed: bool
    leaving: bool


def with_end(
    known: Known | None, latest: InBlock, confirmed: InBlock, expected: Expected, before_s: int, now_s: int
) -> tuple[bool, tuple[bytes, ...]]:
    """`ended`, and what was `held` before it. Holdings alone do not tell; what was finalized, signed as final, or long
    enough unseen (since `before_s`) to be finalized was paid out.

    A payout leaves nothing of what was confirmed. With all of that there, an unconfirmed deposit alone is missing, and
    the channel goes on, for its states count on no more. What is missing stays in `held`: see `given_up`.

    Where this node would deposit again, a confirmed payout stays one: who deposits after it, as if it had been taken
    back, would else lure others into a channel that anybody can end with its newest state once more."""
    now = latest.holdings
    known_end = known is not None and known.ended
    held = now if known is None else known.held if known_end else known.latest.holdings
    if latest.status.mode(now_s) is Mode.FINALIZED:
        return True, held if known_end or not holds(now, amounts(held)) else now
    if known is None:
        return False, now
    unseen_s = now_s - before_s
    before = known.confirmed.holdings
    if _left(known, before, confirmed.holdings, expected, unseen_s, now_s):
        return True, held if holds(held, amounts(before)) else before
    if known.ended:
        if holds(now, amounts(held)):
            return False, now
        lures = not (expected.final_signed or expected.leaving) and not holds(confirmed.holdings, amounts(held))
        back = not lures and _is_back(expected, known.latest.holdings, now)
        return not back, now if back else held
    goes_on = any(amounts(before)) and holds(now, amounts(before))
    if _concluded(held, now, expected) if goes_on else _left(known, held, now, expected, unseen_s, now_s):
        return True, held
    return False, _with_missing(known, now, expected, away=unseen_s >= expected.challenge_duration)


def given_up(seen: Known) -> tuple[int, ...]:
    """Per asset: up to which holdings this node deposits nothing. It saw that much there before it was away for longer
    than a challenge lasts, and less is there now: who deposits it again would pay for a payout that nobody saw. 0 where
    nothing is missing."""
    levels = zip(amounts(seen.held), amounts(seen.latest.holdings), strict=True)
    return tuple(had if had > now and not seen.ended else 0 for had, now in levels)


def _with_missing(known: Known, now: tuple[bytes, ...], expected: Expected, *, away: bool) -> tuple[bytes, ...]:
    """What is there, and what is given up, as far as the newest state still has it announced."""
    levels = zip(amounts(known.held), amounts(known.latest.holdings), amounts(now), expected.claims, strict=True)
    kept = (max(left, min(had if away or had > seen else left, claim)) for had, seen, left, claim in levels)
    return tuple(amount.to_bytes(32, "big") for amount in kept)


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
    return unseen_s >= expected.challenge_duration or _concluded(before, now, expected)


def _concluded(before: tuple[bytes, ...], now: tuple[bytes, ...], expected: Expected) -> bool:
    """Are they less by what a conclusion pays, which this node has signed?"""
    if holds(now, amounts(before)):
        return False
    sums = zip(amounts(now), amounts(before), expected.totals, strict=True)
    return expected.final_signed and all(left <= max(0, had - total) for left, had, total in sums)
