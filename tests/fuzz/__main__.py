"""`python -m tests.fuzz --inputs N [--only NAME] [--first K] [--engine plain|atheris|both]`, or `make fuzz INPUTS=N`.

Each decoder of `targets.py` gets N inputs, in processes of its own: half from the plain mutator, numbered from K, half
from atheris, which follows coverage. Where atheris is not installed the mutator makes all, and the last line says so.
What is found stays in build/fuzz, to be mended and put into tests/fuzz/corpus/NAME, which every test run repeats.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.fuzz.targets import targets

ROOT = Path(__file__).resolve().parents[2]
FOUND = ROOT / "build" / "fuzz"
HOURS_MAX = 12


def run(name: str, count: int, first: int, engine: str) -> tuple[str, str]:
    """One decoder with one engine: a line of report, and what is to be said when something was found."""
    began = time.monotonic()
    command = [sys.executable, "-m", "tests.fuzz.one", name, str(count), str(first), str(FOUND), engine]
    try:
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": "0"}, capture_output=True, text=True,
            errors="replace", timeout=HOURS_MAX * 3600,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"{name:12} {engine:8} {count:>9,} inputs  HUNG", f"{name}: not done after {HOURS_MAX} h"
    line = f"{name:12} {engine:8} {count:>9,} inputs {time.monotonic() - began:7.1f} s"
    if done.returncode == 0:
        return line, ""
    tail = "\n".join((done.stdout + done.stderr).splitlines()[-40:])
    return f"{line}  FOUND", f"--- {name} with {engine} (inputs are in {FOUND})\n{tail}"


def main() -> int:
    """Exit status 0 when nothing was found."""
    names = [target.name for target in targets()]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=20_000, help="per decoder")
    parser.add_argument("--only", choices=names, help="one decoder")
    parser.add_argument("--first", type=int, default=0, help="number of the first input, and the seed of atheris")
    parser.add_argument("--engine", choices=("plain", "atheris", "both"), default="both")
    parser.add_argument("--workers", type=int, default=2)
    chosen = parser.parse_args()
    has_atheris = importlib.util.find_spec("atheris") is not None
    if chosen.engine == "atheris" and not has_atheris:
        parser.error("atheris is not installed here; --engine plain does without")
    engines = ["plain", "atheris"] if chosen.engine == "both" and has_atheris else [chosen.engine]
    engines = ["plain" if engine == "both" else engine for engine in engines]
    count = -(-chosen.inputs // len(engines))
    jobs = [(name, engine) for name in names if chosen.only in (None, name) for engine in engines]
    with ThreadPoolExecutor(chosen.workers) as pool:
        results = list(pool.map(lambda job: run(job[0], count, chosen.first, job[1]), jobs))
    for line, _ in results:
        print(line)
    found = [text for _, text in results if text]
    print("\n".join(found))
    skipped = (
        "" if has_atheris or chosen.engine == "plain" else "; atheris is not installed, the mutator made all inputs"
    )
    print(f"{len(jobs)} runs, {count * len(jobs):,} inputs, {len(found)} findings{skipped}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
