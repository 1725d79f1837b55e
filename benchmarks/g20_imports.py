"""G20: CPU it takes to import what a node, a derivation worker and the CLI import, beside `import web3`."""

from __future__ import annotations

import importlib.util
import statistics
import sys

from benchmarks.runner import Measure, Part, Result, Unmeasured
from benchmarks.timing import ROUNDS_MIN, child_cpu_seconds

CLI = "scapp.runtime.cli.main"
SUBJECTS = {
    "scapp.channels.node": ("import scapp.channels.node", 0.35),
    "scapp.runtime.worker": ("import scapp.runtime.worker", 0.35),
    "scapp --help": (
        "import sys; sys.argv = ['scapp', '--help']; from scapp.runtime.cli.main import main; main()",
        0.2,
    ),
}
REFERENCE = "import web3"


def run() -> Result:
    """Child processes in turn, user and system CPU above that of a bare interpreter; medians of per-round shares."""
    for module in ("scapp.channels.node", "scapp.runtime.worker", CLI, "web3"):
        _need(module)
    programs = {"": "pass", REFERENCE: REFERENCE, **{name: program for name, (program, _) in SUBJECTS.items()}}
    for program in programs.values():
        _cpu(program)  # compiled files and the disk cache are warm afterwards
    shares: dict[str, list[float]] = {name: [] for name in SUBJECTS}
    seconds: list[float] = []
    for _ in range(ROUNDS_MIN):
        spent = {name: _cpu(program) for name, program in programs.items()}
        reference = spent[REFERENCE] - spent[""]
        for name in SUBJECTS:
            shares[name].append(max(spent[name] - spent[""], 1e-4) / reference)
        seconds.append(spent["scapp.channels.node"] - spent[""])
    parts = [
        Part(f"{name} / {REFERENCE}", statistics.median(shares[name]), goal, lower_is_better=True)
        for name, (_, goal) in SUBJECTS.items()
    ]
    return Result.of_parts(statistics.median(seconds) * 1000, "ms CPU to import scapp.channels.node", parts)


def _need(module: str) -> None:
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise Unmeasured(f"{module} is not installed")


def _cpu(program: str) -> float:
    return child_cpu_seconds([sys.executable, "-c", program])


MEASURES = [Measure("G20", "CPU of importing node, worker and CLI, against import web3", 1, run)]
