"""Lives from seeds: a sample is safe and recovers, and a seed plays the same life every time and everywhere.

`make sim` plays thousands; `.ci/run` and `make nightly` say how many (docs/reference/simulation.md).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from zlib import crc32

import msgspec
import pytest

from tests.simulation import bugs, run
from tests.simulation.conditions import CONDITIONS
from tests.simulation.hubs.life import HubLife, play_hubs
from tests.simulation.hubs.plan import HubPlan
from tests.simulation.life import Life, play
from tests.simulation.plan import Plan, draw_plan
from tests.simulation.run import KEPT, KEPT_HUBS, plans_of
from tests.simulation.shrink import failure, shrink
from tests.simulation.transcript import transcript

SAMPLE = 60
HUB_SAMPLE = 3


def test_a_sample_of_networks_stays_safe_and_recovers() -> None:
    """Whatever is reached is known by name: a condition that is told under another name would never be missed."""
    seen: set[str] = set()
    for seed in range(SAMPLE):
        seen |= play(seed)
    for seed in range(HUB_SAMPLE):
        seen |= play_hubs(seed)
    assert len(seen & set(CONDITIONS)) > len(CONDITIONS) // 2


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_a_seed_plays_the_same_life_in_every_process(hash_seed: str) -> None:
    """A failing seed can be replayed exactly: nothing depends on the order of a set or on an address."""
    code = "from tests.simulation.test_seeds import story; print(story())"
    paths = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == story()


def story() -> str:
    """What some lives came to, of every kind, as a number."""
    lines = [line for seed in range(8) for plan in plans_of(seed) for line in transcript(plan)]
    return f"{crc32(chr(10).join(lines).encode()):08x}"


def test_a_failure_is_shrunk_to_a_short_story(monkeypatch: pytest.MonkeyPatch) -> None:
    """It fails by the same rule, with few acts left, and its transcript ends with what is wrong."""
    plan = draw_plan(1)
    assert failure(plan) == ""
    assert shrink(plan) is plan
    bugs.fork_appends_below_what_is_signed(monkeypatch)
    seed = next(seed for seed in range(500) if failure(draw_plan(seed)))
    long = draw_plan(seed)
    short = shrink(long)
    assert len(short.acts) <= len(long.acts) // 2
    assert failure(short) == failure(long) != ""
    lines = transcript(short)
    assert lines[-1].startswith("!! ")
    assert any(" >> " in line for line in lines)
    assert any(" == " in line for line in lines)


def test_the_last_line_of_a_run_is_its_result(capsys: pytest.CaptureFixture[str]) -> None:
    """Below 2,000 seeds missing conditions are printed and do not fail."""
    assert run.main(["3", "7", "--jobs", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    missing = [line for line in lines if line.startswith("missing: ")]
    assert lines[-1] == f"3 seeds, 0 violations, coverage {len(CONDITIONS) - len(missing)} of {len(CONDITIONS)}"


def test_a_violation_fails_the_run_and_says_how_to_play_it_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bugs.signatures_without_sync(monkeypatch)
    assert run.main(["1", "0", "--jobs", "1"]) == 1
    printed = capsys.readouterr().out
    assert "again: make sim SEEDS=1 FIRST=0" in printed
    assert printed.splitlines()[-1].startswith("1 seeds, 1 violations, ")


def test_many_seeds_must_reach_every_condition() -> None:
    """From 2,000 seeds on the exit status is 1 when one is missing."""
    played = run.Played()
    played.reached.update(CONDITIONS)
    assert run.exit_status(played, run.FULL_COVERAGE_SEEDS) == 0
    del played.reached[CONDITIONS[0]]
    assert run.exit_status(played, run.FULL_COVERAGE_SEEDS) == 1
    assert run.exit_status(played, run.FULL_COVERAGE_SEEDS - 1) == 0


def test_a_plan_is_the_seeds_alone() -> None:
    """Drawing it twice gives equal plans, and plans of different seeds differ."""
    assert draw_plan(5) == draw_plan(5)
    assert msgspec.structs.replace(draw_plan(6), seed=5) != draw_plan(5)


@pytest.mark.parametrize("plan", sorted(KEPT.glob("*.json")), ids=lambda path: path.stem)
def test_what_once_failed_is_kept_as_a_plan(plan: Path) -> None:
    """Shrunk plans of failures (`--keep`): their seeds mean something else by now, they do not."""
    Life(msgspec.json.decode(plan.read_bytes(), type=Plan)).play()


@pytest.mark.parametrize("plan", sorted(KEPT_HUBS.glob("*.json")), ids=lambda path: path.stem)
def test_what_once_failed_among_nodes_with_ledgers_is_kept_as_a_plan(plan: Path) -> None:
    """The same for lives of nodes with ledgers."""
    HubLife(msgspec.json.decode(plan.read_bytes(), type=HubPlan)).play()
