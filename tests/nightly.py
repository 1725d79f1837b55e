"""What does not fit into continuous integration: `python -m tests.nightly [--fresh] [--only STAGE]`, or `make nightly`.

Runs stage after stage, each in pieces, and notes after every piece in tests/qualification.json how it ended and on
which commit. An interrupted run goes on where it stopped; `--take FILE` adds what another machine's run has noted.
docs/reference/qualification.md is the same as a table.
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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.targets import targets

ROOT = Path(__file__).resolve().parent.parent
LOGS = ROOT / ".nightly"
RECORD = ROOT / "tests" / "qualification.json"
PAGE = ROOT / "docs" / "reference" / "qualification.md"
WRITTEN = tuple(str(each.relative_to(ROOT)) for each in (RECORD, PAGE))
SEEDS, SEEDS_PER_PIECE = 20_000, 2_000  # from 2,000 on, every condition must be reached
KILLS, KILL_RUNS = 120, 3
FAULTS, CHAOS_RUNS = 300, 8  # a fault takes about three seconds
STORIES, STORIES_PER_PIECE = 600, 100
FUZZ_INPUTS, FUZZ_INPUTS_PER_PIECE = 1_000_000, 250_000

HEAD = """# Qualification

What `make nightly` last ran, and how it ended. It is resumable: finished pieces are not run again for the same commit.
A sample of each stage is in `.ci/run`. A whole run takes about ten hours, so its pieces may come from several commits
and machines: the table says from which. Every piece's own result is in `tests/qualification.json`.

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

## Last result of each piece
"""


@dataclass(frozen=True)
class Piece:
    """One command; `name` is its key in the record, `row` its row of the table. `module` is what Python runs."""

    stage: str
    name: str
    arguments: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    module: tuple[str, ...] = ("pytest", "-q", "-p", "no:cacheprovider")
    row: str = ""

    @property
    def key(self) -> str:
        return f"{self.stage}/{self.name}"


Record = dict[str, dict[str, object]]
"""Of each piece that was ever run: `commit`, `at` (UTC), `python`, `ok`, `seconds`, and `summary`, the last line of
what it printed."""


def pieces() -> Iterator[Piece]:
    """Everything a whole run does, in order."""
    for first in range(0, SEEDS, SEEDS_PER_PIECE):
        seeds = (str(SEEDS_PER_PIECE), str(first))
        yield Piece("simulation", f"seeds {first}", seeds, module=("tests.simulation.run",), row="seeds")
    yield Piece("power", "every write", (), module=("tests.simulation.killed",))
    for run in range(KILL_RUNS):
        test = ("tests/acceptance/test_kill.py", "-s")
        yield Piece("kills", f"run {run}", test, {"SCAPP_KILLS": str(KILLS)}, row="runs")
    for run in range(CHAOS_RUNS):
        test = ("tests/acceptance/test_chaos.py", "-s", "-m", "slow")
        yield Piece("chaos", f"run {run}", test, {"SCAPP_CHAOS": str(FAULTS)}, row="runs")
    for first in range(0, STORIES, STORIES_PER_PIECE):
        stories = {"SCAPP_CHAIN_FIRST": str(first), "SCAPP_CHAIN_STORIES": str(STORIES_PER_PIECE)}
        test = ("tests/chain/test_differential.py", "-m", "slow", "--timeout", "7200")
        yield Piece("contracts", f"stories {first}", test, stories, row="stories")
    for target in targets():
        for first in range(0, FUZZ_INPUTS, FUZZ_INPUTS_PER_PIECE):
            asked = ("--inputs", str(FUZZ_INPUTS_PER_PIECE), "--first", str(first), "--only", target.name)
            yield Piece("fuzz", f"{target.name} {first}", asked, module=("tests.fuzz",), row=target.name)
    profile = {"SCAPP_HYPOTHESIS_PROFILE": "nightly"}
    for folder in ("spec", "unit", "contracts", "stateful", "scenarios", "simulation", "postgres", "acceptance"):
        yield Piece("properties", folder, (f"tests/{folder}", "-m", "not slow", "--timeout", "7200"), profile)
    yield Piece("slow", "all", ("tests", "-m", "slow", "--timeout", "7200"), {"SCAPP_FUEL_STEP": "1"})


def commit() -> str:
    """The commit under test, marked when the tree differs from it."""
    git = ("git", "-C", str(ROOT))
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout
    changed = subprocess.run([*git, "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True)
    others = [line for line in changed.stdout.splitlines() if not line.endswith(WRITTEN)]
    return head.strip() + ("+changes" if others else "")


def run_piece(piece: Piece, version: str, log: Path) -> dict[str, object]:
    """Run one piece; what it printed goes to `log`."""
    command = [sys.executable, "-m", *piece.module, *piece.arguments]
    began = time.monotonic()
    with log.open("w") as out:
        done = subprocess.run(command, cwd=ROOT, env={**os.environ, **piece.environment}, stdout=out, stderr=out)
    lines = log.read_text().strip().splitlines()
    return {
        "commit": version,
        "at": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%MZ"),
        "python": platform.python_version(),
        "ok": done.returncode == 0,
        "seconds": round(time.monotonic() - began),
        "summary": lines[-1].strip("= ") if lines else "nothing was printed",
    }


def is_done(record: Record, piece: Piece, version: str) -> bool:
    """Is it green on this commit? A changed tree is another one each time."""
    last = record.get(piece.key)
    return last is not None and last["ok"] is True and last["commit"] == version and "+" not in version


def newest(one: Record, other: Record) -> Record:
    """The later result of each piece."""
    return {key: max((each[key] for each in (one, other) if key in each), key=_when) for key in {**one, **other}}


def _when(result: dict[str, object]) -> str:
    return str(result["at"])


def page(record: Record, everything: Sequence[Piece]) -> str:
    """The table: what ran, not what should have run."""
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
    lines = ["| stage | pieces | green | seconds | commit | date | last line |", "|---|---|---|---|---|---|---|"]
    rows: dict[tuple[str, str], list[Piece]] = {}
    for piece in everything:
        rows.setdefault((piece.stage, piece.row or piece.name), []).append(piece)
    for (stage, row), members in rows.items():
        results = [record[each.key] for each in members if each.key in record]
        failed = [each.name for each in members if each.key in record and not record[each.key]["ok"]]
        green = f"{len(results) - len(failed)} of {len(members)}" + (
            f", **FAILED**: {', '.join(failed)}" if failed else ""
        )
        seconds = sum(int(str(each["seconds"])) for each in results)
        commits = ", ".join(f"`{each}`" for each in dict.fromkeys(str(each["commit"]) for each in results))
        last = max(results, key=_when) if results else {"at": "", "summary": "not run yet"}
        lines.append(
            f"| {stage} | {row} | {green} | {seconds:,} | {commits} | {_when(last)[:10]} | {last['summary']} |"
        )
    return head + "\n".join(lines) + "\n"


def main() -> int:
    """Exit status 0 when every piece of the chosen stages is green."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fresh", action="store_true", help="run again what is green on this commit")
    parser.add_argument("--only", help="one stage of those in the table, such as fuzz")
    parser.add_argument(
        "--take", type=Path, metavar="FILE", help="only add the results of another run's qualification.json"
    )
    chosen = parser.parse_args()
    version = commit()
    logs = LOGS / version
    logs.mkdir(parents=True, exist_ok=True)
    record: Record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    everything = list(pieces())

    def note(more: Record) -> None:
        known = {**record, **more}
        record.clear()
        record.update({each.key: known[each.key] for each in everything if each.key in known})
        RECORD.write_text(json.dumps(record, indent=1) + "\n")
        PAGE.write_text(page(record, everything))

    if chosen.take is not None:
        note(newest(record, json.loads(chosen.take.read_text())))
        return 0
    asked = [piece for piece in everything if chosen.only in (None, piece.stage)]
    for piece in asked:
        if not chosen.fresh and is_done(record, piece, version):
            continue
        print(f"{piece.key} …", flush=True)
        result = run_piece(piece, version, logs / f"{piece.key.replace('/', '-').replace(' ', '-')}.log")
        print(f"  {'ok' if result['ok'] else 'FAILED'}: {result['summary']}", flush=True)
        note({piece.key: result})
    failed = [piece.key for piece in asked if not record[piece.key]["ok"]]
    print(f"{len(asked)} pieces, {len(failed)} failed" + "".join(f"\n  {name}" for name in failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
