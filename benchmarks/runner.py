"""Runs the measures, prints a line for each, and writes `benchmarks/out/latest.json`; timing stands in `timing.py`.

Writing a measure
-----------------
Every module `benchmarks/<name>.py` may expose `MEASURES: list[Measure]`; nothing has to be registered anywhere.

    from benchmarks.runner import Measure, Result
    from benchmarks.timing import Side, compare

    def run() -> Result:
        import scapp.channels.state  # imports of the product stay inside, so that discovery stays cheap
        subject, reference = Side(ours, units=1000), Side(theirs, units=1000)
        outcome = compare(subject, reference, clock="thread")
        return Result(value=outcome.rate, unit="events/s", ratio=outcome.ratio)

    MEASURES = [Measure("G11", "rebuild 1000 events from disk, against eventsourcing", goal=20, run=run)]

* `Side(call, units)`: `call()` does `units` units of work. `compare` alternates slots of subject and reference in
  one process, at least nine rounds, and gives the median of the per-round ratios (subject rate / reference rate,
  so more is better). Clocks: "thread" (CPU of this thread), "process" (CPU of all threads), "wall".
* Goal as a ratio: give `Result.ratio`; it is compared with `goal`.
* Goal as an absolute figure: leave `ratio` out; `value` is compared with `goal`.
* `lower_is_better=True` turns the comparison round (at most the goal instead of at least).
* Several goals in one measure: `Result.of_parts(value, unit, [Part(name, measured, goal, lower_is_better), …])`,
  and `goal=1`: the ratio reported is the smallest of measured/goal (goal/measured where lower is better).
* What cannot be measured here (a program is missing) raises `Unmeasured(reason)`.

Exit status: 0 when everything asked for was measured, also when a goal is missed (`SHORT`); 1 when something
could not be measured; 2 for an unknown name.
"""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
LATEST = HERE / "out" / "latest.json"
_NOT_MEASURES = {"runner", "timing", "common"}


class Unmeasured(Exception):
    """The measure cannot be taken on this machine; its text says what is missing."""


@dataclass(frozen=True)
class Part:
    """One goal of a measure that has several."""

    name: str
    measured: float
    goal: float
    lower_is_better: bool = False

    @property
    def ratio(self) -> float:
        """How far above its goal the part is: 1 is just reached."""
        return self.goal / self.measured if self.lower_is_better else self.measured / self.goal


@dataclass(frozen=True)
class Result:
    """What a measure found; `notes` are printed below its line."""

    value: float
    unit: str
    ratio: float | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def of_parts(cls, value: float, unit: str, parts: Sequence[Part], notes: Sequence[str] = ()) -> Result:
        """A result whose ratio is that of its weakest part; the measure's goal must then be 1."""
        lines = [
            f"{part.name}: {part.measured:.3g} (goal {'at most' if part.lower_is_better else 'at least'} {part.goal:g})"
            for part in parts
        ]
        return cls(value, unit, min(part.ratio for part in parts), (*lines, *notes))


@dataclass(frozen=True)
class Measure:
    """A named figure with its goal. `name` as in the table of goals, for example "G1"."""

    name: str
    title: str
    goal: float
    run: Callable[[], Result]
    lower_is_better: bool = False


def reaches(measure: Measure, result: Result) -> bool:
    """Whether the result meets the goal of its measure."""
    figure = result.value if result.ratio is None else result.ratio
    return figure <= measure.goal if measure.lower_is_better else figure >= measure.goal


def discover() -> tuple[dict[str, Measure], dict[str, str]]:
    """All measures by name, in order of their names, and the modules that could not be imported with the reason."""
    found: dict[str, Measure] = {}
    broken: dict[str, str] = {}
    for module in pkgutil.iter_modules([str(HERE)]):
        if module.name in _NOT_MEASURES or module.name.startswith("_"):
            continue
        try:
            imported = importlib.import_module(f"benchmarks.{module.name}")
        except Exception:
            broken[module.name] = traceback.format_exc()
            continue
        for measure in getattr(imported, "MEASURES", []):
            if measure.name in found:
                raise ValueError(f"two measures are called {measure.name}")
            found[measure.name] = measure
    return dict(sorted(found.items(), key=lambda item: _order(item[0]))), broken


def _order(name: str) -> tuple[str, int, str]:
    letters = name.rstrip("0123456789")
    digits = name[len(letters) :]
    return letters, int(digits or 0), name


def _line(measure: Measure, result: Result) -> str:
    ratio = "-" if result.ratio is None else f"{result.ratio:.3g}"
    verdict = "ok" if reaches(measure, result) else "SHORT"
    return f"{measure.name} {result.value:.6g} {ratio} {measure.goal:g} {verdict}"


def _entry(measure: Measure, result: Result) -> dict[str, Any]:
    entry: dict[str, Any] = {"value": result.value, "unit": result.unit}
    if result.ratio is not None:
        entry["ratio"] = result.ratio
    return {**entry, "goal": measure.goal, "lower_is_better": measure.lower_is_better}


def _save(path: Path, entries: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(entries, indent=2) + "\n")
    temporary.replace(path)


def _load(path: Path) -> dict[str, Any]:
    try:
        loaded = json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return loaded if isinstance(loaded, dict) else {}


def run_measures(measures: Sequence[Measure], path: Path, *, keep_others: bool) -> int:
    """Take the measures one after another, print each line as it comes; returns how many could not be taken.

    The file is rewritten after each one. A measure that failed loses its old entry: it is not the latest."""
    entries = _load(path) if keep_others else {}
    failures = 0
    for measure in measures:
        entries.pop(measure.name, None)
        try:
            result = measure.run()
        except Unmeasured as reason:
            failures += 1
            print(f"{measure.name} not measured: {reason}", file=sys.stderr, flush=True)
        except Exception:
            failures += 1
            print(f"{measure.name} failed:\n{traceback.format_exc()}", file=sys.stderr, flush=True)
        else:
            entries[measure.name] = _entry(measure, result)
            print(_line(measure, result), flush=True)
            for note in (f"{measure.title} [{result.unit}]", *result.notes):
                print(f"    {note}", flush=True)
        _save(path, dict(sorted(entries.items(), key=lambda item: _order(item[0]))))
    return failures


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of `python -m benchmarks`; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure scapp beside its references.")
    parser.add_argument("--only", default="", metavar="NAME", help="one measure, or several with commas between")
    parser.add_argument("--list", action="store_true", help="print names, goals and titles, measure nothing")
    options = parser.parse_args(arguments)
    measures, broken = discover()
    wanted = [name.strip() for name in options.only.split(",") if name.strip()]
    for name, reason in broken.items():
        print(f"benchmarks/{name}.py cannot be imported:\n{reason}", file=sys.stderr)
    if unknown := [name for name in wanted if name not in measures]:
        print(f"unknown measure {', '.join(unknown)}; there are {', '.join(measures)}", file=sys.stderr)
        return 2
    chosen = [measures[name] for name in wanted] if wanted else list(measures.values())
    if options.list:
        for measure in chosen:
            print(f"{measure.name} {measure.goal:g} {measure.title}")
        return 0
    failures = run_measures(chosen, LATEST, keep_others=bool(wanted))
    return 1 if failures or (broken and not wanted) else 0
