"""A shorter life that fails in the same way: acts and faults are left out as long as it still does.

Delta debugging over the list of acts (Zeller and Hildebrandt, 2002), then each setting of the plan by itself.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import TypeVar

import msgspec

from tests.simulation.hubs.life import HubLife
from tests.simulation.hubs.plan import HubPlan
from tests.simulation.life import Life
from tests.simulation.plan import Act, Plan
from tests.support.checkers import Broken

REPLAYS_MAX = 600
_CALM: dict[str, object] = {
    "closing": False,
    "loss": 0.0,
    "duplicate": 0.0,
    "reorder": 0.0,
    "delay_ms": 0,
    "fickle": False,
    "picky": -1,
    "unwilling": -1,
    "skew_ms": 0,
    "kernel": False,
    "slots": False,
    "hostile": -1,
    "chain": False,
}
_CALM_HUBS: dict[str, object] = {
    "drops": 0.0,
    "duplicate": 0.0,
    "delay_ms": 0,
    "skew_ms": 0,
    "calm": True,
    "hostile": -1,
    "restored": (),
}
AnyPlan = TypeVar("AnyPlan", bound=Plan | HubPlan)


def failure(plan: Plan | HubPlan) -> str:
    """How the plan fails, in a form that does not change with its numbers; empty when it does not."""
    try:
        (Life(plan) if isinstance(plan, Plan) else HubLife(plan)).play()
    except Exception as error:
        return kind_of(error)
    return ""


def kind_of(error: Exception) -> str:
    """A checker's rule, or the place where something else went wrong."""
    text = str(error)
    if isinstance(error, AssertionError) and text[:1].isdigit():
        return f"rule {text.partition(':')[0]}"
    if isinstance(error, Broken):
        return text.partition(":")[0]
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {place.name}"


def shrink(plan: AnyPlan, fails: Callable[[AnyPlan], str] = failure) -> AnyPlan:
    """The smallest plan found; the plan itself when it does not fail."""
    wanted = fails(plan)
    if not wanted:
        return plan
    left = REPLAYS_MAX

    def still(acts: tuple[Act, ...]) -> bool:
        nonlocal left
        left -= 1
        return left >= 0 and fails(msgspec.structs.replace(plan, acts=acts)) == wanted

    acts = _fewer(plan.acts, still)
    plan = msgspec.structs.replace(plan, acts=acts)
    for name, value in (_CALM if isinstance(plan, Plan) else _CALM_HUBS).items():
        calmer = msgspec.structs.replace(plan, **{name: value})
        if calmer != plan and fails(calmer) == wanted:
            plan = calmer
    return msgspec.structs.replace(plan, acts=_fewer(plan.acts, still))


def _fewer(acts: tuple[Act, ...], still: Callable[[tuple[Act, ...]], bool]) -> tuple[Act, ...]:
    pieces = 2
    while acts:
        size = max(1, len(acts) // pieces)
        for start in range(0, len(acts), size):
            rest = acts[:start] + acts[start + size :]
            if still(rest):
                acts, pieces = rest, max(2, pieces - 1)
                break
        else:
            if size == 1:
                break
            pieces = min(len(acts), pieces * 2)
    return acts
