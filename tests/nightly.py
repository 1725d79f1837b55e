"""What does not fit into continuous integration: `python -m tests.nightly [--fresh] [--only STAGE]`, or `make nightly`.

Runs stage after stage, each in pieces. Finished pieces are remembered per commit in `.nightly/`, so an interrupted
run goes on where it stopped. The table in docs/reference/qualification.md is rewritten after every piece.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.targets import targets

ROOT = Path(__file__).resolve().parent.parent
STATE = ROOT / ".nightly"
PAGE = ROOT / "docs" / "reference" / "qualification.md"
SEEDS, SEEDS_PER_PIECE = 20_000, 2_000  # from 2,000 on, every condition must be reached
KILLS, KILL_RUNS = 120, 3
FAULTS, CHAOS_RUNS = 300, 8  # a fault takes about three seconds
STORIES, STORIES_PER_PIECE = 600, 100
FUZZ_INPUTS, FUZZ_INPUTS_PER_PIECE = 1_000_000, 250_000

HEAD = """# Qualification

What `make nightly` last ran, and how it ended. It is resumable: finished pieces are not run again for the same commit.
A sample of each stage is in `.ci/run`.

| stage | what | sample in `.ci/run` |
|---|---|---|
| simulation | {seeds} seeds of simulated networks with every fault ([simulation](simulation.md)) | 500 seeds |
| power | a scripted life over RocksDB, its process killed at every durable write | in process |
| kills | {runs} runs of {kills} kills -9 of nodes and databases under load, each process {each} times | 30 kills |
| chaos | {chaos_runs} runs of {faults} faults: three nodes in network namespaces, killed, frozen, cut off | 20 faults |
| contracts | {stories} random lives of 150 calls on our contracts and on the published ones | 10 lives |
| properties | all tests with 2,000 examples per property instead of 25 | 50 examples |
| fuzz | {fuzz} inputs for each decoder of foreign bytes, half from a mutator and half from atheris | 20,000 each |
| slow | tests marked slow | the same, with one in 61 amounts of fuel, at most 22 minutes |

## Last result
"""


@dataclass(frozen=True)
class Piece:
    """One command; `name` is its key in the state. `module` is what Python runs."""

    stage: str
    name: str
    arguments: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    module: tuple[str, ...] = ("pytest", "-q", "-p", "no:cacheprovider")


def pieces() -> Iterator[Piece]:
    """Everything a whole run does, in order."""
    for first in range(0, SEEDS, SEEDS_PER_PIECE):
        seeds = (str(SEEDS_PER_PIECE), str(first))
        yield Piece("simulation", f"seeds {first}", seeds, module=("tests.simulation.run",))
    yield Piece("power", "every write", (), module=("tests.simulation.killed",))
    for run in range(KILL_RUNS):
        yield Piece("kills", f"run {run}", ("tests/acceptance/test_kill.py", "-s"), {"SCAPP_KILLS": str(KILLS)})
    for run in range(CHAOS_RUNS):
        test = ("tests/acceptance/test_chaos.py", "-s", "-m", "slow")
        yield Piece("chaos", f"run {run}", test, {"SCAPP_CHAOS": str(FAULTS)})
    for first in range(0, STORIES, STORIES_PER_PIECE):
        stories = {"SCAPP_CHAIN_FIRST": str(first), "SCAPP_CHAIN_STORIES": str(STORIES_PER_PIECE)}
        test = "tests/chain/test_differential.py"
        yield Piece("contracts", f"stories {first}", (test, "-m", "slow", "--timeout", "7200"), stories)
    for target in targets():
        for first in range(0, FUZZ_INPUTS, FUZZ_INPUTS_PER_PIECE):
            asked = ("--inputs", str(FUZZ_INPUTS_PER_PIECE), "--first", str(first), "--only", target.name)
            yield Piece("fuzz", f"{target.name} {first}", asked, module=("tests.fuzz",))
    profile = {"SCAPP_HYPOTHESIS_PROFILE": "nightly"}
    for folder in ("spec", "unit", "contracts", "stateful", "scenarios", "simulation", "postgres", "acceptance"):
        yield Piece("properties", folder, (f"tests/{folder}", "-m", "not slow", "--timeout", "7200"), profile)
    yield Piece("slow", "all", ("tests", "-m", "slow", "--timeout", "7200"), {"SCAPP_FUEL_STEP": "1"})


def commit() -> str:
    """The commit under test, marked when the tree differs from it."""
    git = ("git", "-C", str(ROOT))
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout
    changed = subprocess.run([*git, "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True)
    others = [line for line in changed.stdout.splitlines() if not line.endswith("docs/reference/qualification.md")]
    return head.strip() + ("+changes" if others else "")


def run_piece(piece: Piece, log: Path) -> dict[str, object]:
    """Run one piece; what it printed goes to `log`."""
    command = [sys.executable, "-m", *piece.module, *piece.arguments]
    began = time.monotonic()
    with log.open("w") as out:
        done = subprocess.run(command, cwd=ROOT, env={**os.environ, **piece.environment}, stdout=out, stderr=out)
    lines = log.read_text().strip().splitlines()
    return {
        "stage": piece.stage,
        "ok": done.returncode == 0,
        "seconds": round(time.monotonic() - began),
        "summary": lines[-1].strip("= ") if lines else "nothing was printed",
    }


def write_page(version: str, results: dict[str, dict[str, object]], total: int) -> None:
    """The page says what ran, not what should have run."""
    head = HEAD.format(
        seeds=f"{SEEDS:,}",
        runs=KILL_RUNS,
        kills=KILLS,
        each=KILLS // 4,
        chaos_runs=CHAOS_RUNS,
        faults=FAULTS,
        stories=STORIES,
        fuzz=f"{FUZZ_INPUTS:,}",
    )
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    lines = [f"Commit `{version}`, {today}, Python {platform.python_version()}; {len(results)} of {total} pieces.", ""]
    lines += ["| stage | piece | result | seconds | closing line |", "|---|---|---|---|---|"]
    for name, result in results.items():
        stage, _, piece = name.partition("/")
        verdict = "ok" if result["ok"] else "**FAILED**"
        lines.append(f"| {stage} | {piece} | {verdict} | {result['seconds']} | {result['summary']} |")
    PAGE.write_text(head + "\n".join(lines) + "\n")


def main() -> int:
    """Exit status 0 when every piece of the chosen stages is green."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fresh", action="store_true", help="forget what an earlier run of this commit finished")
    parser.add_argument("--only", help="one stage of those in the table, such as fuzz")
    chosen = parser.parse_args()
    version = commit()
    folder = STATE / version
    folder.mkdir(parents=True, exist_ok=True)
    state = folder / "results.json"
    results: dict[str, dict[str, object]] = {}
    if state.exists() and not chosen.fresh:
        results = {name: r for name, r in json.loads(state.read_text()).items() if r["ok"]}
    everything = list(pieces())
    for piece in everything:
        name = f"{piece.stage}/{piece.name}"
        if chosen.only not in (None, piece.stage) or name in results:
            continue
        print(f"{name} …", flush=True)
        results[name] = run_piece(piece, folder / f"{name.replace('/', '-').replace(' ', '-')}.log")
        print(f"  {'ok' if results[name]['ok'] else 'FAILED'}: {results[name]['summary']}", flush=True)
        state.write_text(json.dumps(results, indent=1))
        write_page(version, results, len(everything))
    failed = [name for name, result in results.items() if not result["ok"]]
    print(f"{len(results)} pieces, {len(failed)} failed" + "".join(f"\n  {name}" for name in failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
