"""S9: from `scapp new` to a test that passes, in each language that has its compiler here; seconds on the wall.

Two commands as a developer types them, each a process of its own, in a new folder; caches of compilers are warm from a
first app. The figure is the slowest language, a median of three.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.runner import Measure, Result, Unmeasured
from benchmarks.timing import processor_s

ROUNDS = 3
GREEN = "every message was accepted at least once"


def _scapp(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scapp.runtime.cli.main", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def _seconds(language: str, folder: Path) -> float:
    from scapp.reducers.toolchain import BuildError

    folder.mkdir()
    begin = time.perf_counter()
    for arguments in (("new", "duel", "--lang", language), ("test", "duel")):
        done = _scapp(folder, *arguments)
        if done.returncode != 0:
            raise BuildError((done.stderr or done.stdout).strip())
    assert GREEN in done.stdout, done.stdout
    return time.perf_counter() - begin


def run() -> Result:
    from scapp.reducers.build import LANGUAGES
    from scapp.reducers.toolchain import BuildError

    found: dict[str, float] = {}
    notes = []
    begin = processor_s()
    with tempfile.TemporaryDirectory(prefix="scapp-s9-") as root:
        for language in LANGUAGES.values():
            try:
                times = [_seconds(language, Path(root) / f"{language}{number}") for number in range(ROUNDS + 1)]
            except BuildError as error:
                notes.append(f"{language}: {error}")
                continue
            found[language] = statistics.median(times[1:])  # the first one fills caches
            notes.append(f"{language}: {found[language]:.1f} s, the first time {times[0]:.1f} s")
    notes.append(f"processor time of all {processor_s() - begin:.0f} s, which a busy machine stretches")
    if not found:
        raise Unmeasured("; ".join(notes))
    return Result(max(found.values()), "s", notes=tuple(notes))


MEASURES = [Measure("S9", "scapp new to a green test, slowest language", goal=60, run=run, lower_is_better=True)]
