"""Lives find every bug that is planted on purpose (`bugs.py`), each within 500 seeds and by the rule that it breaks."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.simulation.bugs import BUGS
from tests.simulation.life import play

SEEDS_MAX = 500
RARE = {
    "rule 1: damage is not noticed",
    "rule 3: own entries",
    "rule 3: any state root",
    "rule 6: any log root",
    "rule 7: any v",
    "rule 7: deadline",
    "rule 8: plays on under a challenge",
    "rule 9: a second life",
    "rule 10: no restore is noted",
    "rule 10: nobody is heard",
}
"""These take ten seconds and more each."""


def failures() -> Iterator[str]:
    """What is said of each seed that fails, beginning with the first."""
    for seed in range(SEEDS_MAX):
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
    others: list[str] = []
    for said in failures():
        if re.search(text, said):
            return
        others.append(said)
    raise AssertionError(f"nothing matches {text!r}; said was {others[:5]}")


def test_every_safety_rule_has_a_planted_bug() -> None:
    rules = {int(name.split()[1].rstrip(":")) for name in BUGS}
    assert rules == set(range(1, 12))
