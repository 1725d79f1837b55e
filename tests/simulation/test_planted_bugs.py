"""Lives find every bug that is planted on purpose (`bugs.py`), each within 500 seeds and by the rule that it breaks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest

from tests.simulation.bugs import BUGS
from tests.simulation.hubs.bugs import HUB_BUGS
from tests.simulation.hubs.life import play_hubs
from tests.simulation.life import play
from tests.simulation.run import HUB_SEEDS

SEEDS_MAX = 500
RARE = {
    "rule 1: damage is not noticed",
    "rule 3: own entries",
    "rule 3: any state root",
    "rule 6: any log root",
    "rule 6: counters reused",
    "rule 7: any v",
    "rule 7: deadline",
    "rule 8: given up too late",
    "rule 8: plays on in a dispute",
    "rule 8: plays on under a challenge",
    "rule 9: a second life",
    "rule 10: no restore is noted",
    "rule 10: nobody is heard",
}
"""These take ten seconds and more each."""


QUICK_HUBS = {"rule 1: books say before they store"}
"""Of the bugs in ledgers and payments."""


def failures(play: Callable[[int], object] = play, step: int = 1) -> Iterator[str]:
    """What is said of each seed that fails, beginning with the first."""
    for seed in range(0, SEEDS_MAX, step):
        try:
            play(seed)
        except Exception as error:
            yield str(error) or repr(error)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in RARE else name for name in BUGS]
)
def test_lives_find_a_planted_bug(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the rule it breaks, and not by an accident of the planting."""
    plant, text = BUGS[name]
    plant(monkeypatch)
    _find(text, failures())


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "name", [name if name in QUICK_HUBS else pytest.param(name, marks=pytest.mark.slow) for name in HUB_BUGS]
)
def test_lives_with_ledgers_find_a_planted_bug(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for nodes with ledgers, in those of 500 seeds that play them."""
    plant, text = HUB_BUGS[name]
    plant(monkeypatch)
    _find(text, failures(play_hubs, HUB_SEEDS))


def _find(text: str, failed: Iterator[str]) -> None:
    others: list[str] = []
    for said in failed:
        if re.search(text, said):
            return
        others.append(said)
    raise AssertionError(f"nothing matches {text!r}; said was {others[:5]}")


def test_every_safety_rule_has_a_planted_bug() -> None:
    rules = {int(name.split()[1].rstrip(":")) for name in BUGS}
    assert rules == set(range(1, 12))
