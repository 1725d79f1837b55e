"""Bugs planted into the chain side of channels, and the bad weather that finds each of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from scapp.channels.channel import (
    chain_rules,
    chain_view,
    checking,
    ended,
    engine,
    ordering,
    settling,
    signing_rules,
)
from scapp.channels.errors import ScappError
from tests.scenarios.test_chain_weather import Weather

SEEDS = 250
IMPORTERS = (chain_view, checking, engine, ordering, signing_rules)


def never(*_: Any, **__: Any) -> bool:
    return False


def always(*_: Any, **__: Any) -> bool:
    return True


def nothing(*_: Any, **__: Any) -> tuple[()]:
    return ()


def unaware(*_: Any, **__: Any) -> None:
    return None


BUGS: dict[str, tuple[Any, str, Callable[..., Any]]] = {
    "goes on whatever the chain shows": (chain_rules, "hindrance", unaware),
    "takes unconfirmed deposits for funding": (chain_rules, "is_funded", always),
    "does not answer a stale challenge": (settling, "_answer", nothing),
    "does not conclude": (settling, "_concludes", never),
    "does not pay out": (settling, "payout", unaware),
    "does not leave": (settling, "_leave", nothing),
    "takes every payout for a reorganisation": (ended, "_left", never),
    "takes every reorganisation for a payout": (ended, "_left", always),
}


RARE = "takes every reorganisation for a payout"


@pytest.mark.parametrize("bug", [pytest.param(bug, marks=pytest.mark.slow if bug == RARE else ()) for bug in BUGS])
def test_planted_bugs_on_the_chain_side_are_found(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some seed fails for each; without the bug all of them pass (test_chain_weather.py)."""
    module, name, broken = BUGS[bug]
    original = getattr(module, name)
    for user in (module, *(IMPORTERS if module is chain_rules else ())):
        if getattr(user, name, None) is original:
            monkeypatch.setattr(user, name, broken)
    for seed in range(SEEDS):
        weather = Weather(seed)
        try:
            weather.run()
            weather.check()
        except (AssertionError, ScappError):
            return
    pytest.fail(f"{SEEDS} seeds did not find it")
