"""`python -m tests.simulation.run SEEDS FIRST`, or `make sim SEEDS=… FIRST=…`: play that many lives and report.

A seed is the life of one app channel, and every fourth one a life of nodes with ledgers besides.

The last line is `N seeds, V violations, coverage C of D`. The exit status is 0 when V is 0 and, from 2,000 seeds on,
every condition of `conditions.py` was reached. A seed that fails is shrunk, and its transcript printed.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import msgspec

from tests.simulation.conditions import CONDITIONS, NOT_YET_REACHABLE
from tests.simulation.hubs.life import HubLife
from tests.simulation.hubs.plan import HubPlan, draw_hub_plan
from tests.simulation.life import Life
from tests.simulation.plan import Plan, draw_plan
from tests.simulation.shrink import failure, shrink
from tests.simulation.transcript import transcript

FULL_COVERAGE_SEEDS = 2_000
HUB_SEEDS = 4
SEEDS_PER_PIECE = 20
SHRUNK_MAX = 3
LISTED_MAX = 20
KEPT = Path(__file__).parent / "kept"
KEPT_HUBS = KEPT / "hubs"
TRANSCRIPT_LINES_MAX = 200


class Played(msgspec.Struct):
    """What some seeds came to."""

    reached: Counter[str] = msgspec.field(default_factory=Counter)
    violations: dict[int, str] = {}
    simulated_s: float = 0.0
    messages: int = 0

    def add(self, other: Played) -> None:
        self.reached.update(other.reached)
        self.violations.update(other.violations)
        self.simulated_s += other.simulated_s
        self.messages += other.messages


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Lives are full of what nodes warn of; whoever plays them within a process of tests wants its own messages."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def play_seeds(seeds: range) -> Played:
    """Play each seed; what fails is a violation, whatever it is."""
    played = Played()
    with quiet():
        for seed in seeds:
            for plan in plans_of(seed):
                _play(plan, played)
    return played


def plans_of(seed: int) -> list[Plan | HubPlan]:
    """What is played for a seed."""
    return [draw_plan(seed), draw_hub_plan(seed)] if seed % HUB_SEEDS == 0 else [draw_plan(seed)]


def _play(plan: Plan | HubPlan, played: Played) -> None:
    life: Life | HubLife | None = None
    try:
        life = Life(plan) if isinstance(plan, Plan) else HubLife(plan)
        played.reached.update(life.play())
    except Exception as error:
        played.violations[plan.seed] = f"{type(error).__name__}: {error}"
    if life is not None:
        played.simulated_s += life.seconds
        played.messages += life.messages


def play_all(first: int, count: int, jobs: int) -> Played:
    """All seeds, in so many processes."""
    end = first + count
    pieces = [range(at, min(at + SEEDS_PER_PIECE, end)) for at in range(first, end, SEEDS_PER_PIECE)]
    total = Played()
    if jobs == 1 or len(pieces) == 1:
        for piece in pieces:
            total.add(play_seeds(piece))
        return total
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        for played in pool.map(play_seeds, pieces):
            total.add(played)
    return total


def report(played: Played, count: int, seconds: float) -> Iterator[str]:
    """Lines for people, the result last."""
    for what in CONDITIONS:
        if played.reached[what]:
            yield f"{played.reached[what]:7} of {count}: {what}"
    missing = [what for what in CONDITIONS if not played.reached[what]]
    yield from (f"missing: {what}" for what in missing)
    yield from (f"not yet reachable: {what}" for what in NOT_YET_REACHABLE)
    for seed, text in sorted(played.violations.items())[:LISTED_MAX]:
        yield f"seed {seed}: {text}; again: make sim SEEDS=1 FIRST={seed}"
    if len(played.violations) > LISTED_MAX:
        yield f"and {len(played.violations) - LISTED_MAX} more seeds"
    for seed in sorted(played.violations)[:SHRUNK_MAX]:
        long = _failing(seed)
        plan = shrink(long)
        lines = transcript(plan)
        yield f"--- seed {seed}, shrunk from {len(long.acts)} acts to {len(plan.acts)} ---"
        yield from lines if len(lines) <= TRANSCRIPT_LINES_MAX else ["…", *lines[-TRANSCRIPT_LINES_MAX:]]
    yield (
        f"{seconds:.1f} s; {played.simulated_s / seconds:,.0f} simulated seconds per second, "
        f"{played.messages / seconds:,.0f} messages per second"
    )
    reached = len(CONDITIONS) - len(missing)
    yield f"{count} seeds, {len(played.violations)} violations, coverage {reached} of {len(CONDITIONS)}"


def _failing(seed: int) -> Plan | HubPlan:
    """The plan of a seed that fails; the first one if none does."""
    plans = plans_of(seed)
    return next((plan for plan in plans if failure(plan)), plans[0])


def exit_status(played: Played, count: int) -> int:
    """0 without violations and, from some number of seeds on, with every condition reached."""
    whole = all(played.reached[what] for what in CONDITIONS)
    return 1 if played.violations or (count >= FULL_COVERAGE_SEEDS and not whole) else 0


def main(arguments: list[str]) -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seeds", type=int, nargs="?", default=1_000)
    parser.add_argument("first", type=int, nargs="?", default=0)
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--transcript", action="store_true", help="print the transcript of the first seed and end")
    parser.add_argument("--keep", metavar="NAME", help="shrink the first seed's failure below kept/, and end")
    chosen = parser.parse_args(arguments)
    if chosen.keep:
        plan = shrink(_failing(chosen.first))
        folder = KEPT if isinstance(plan, Plan) else KEPT_HUBS
        text = msgspec.json.format(msgspec.json.encode(plan), indent=1)
        (folder / f"{chosen.keep}.json").write_bytes(text + b"\n")
        return 0
    if chosen.transcript:
        print("\n".join(line for plan in plans_of(chosen.first) for line in transcript(plan)))
        return 0
    began = time.monotonic()
    played = play_all(chosen.first, chosen.seeds, chosen.jobs)
    with quiet():
        for line in report(played, chosen.seeds, time.monotonic() - began):
            print(line)
    return exit_status(played, chosen.seeds)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
