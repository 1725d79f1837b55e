"""S1: opening nothing, just rebuilding: 1000 events of one stream from disk to state, in milliseconds."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.g11_reconstruct import rebuild, reopened_log
from benchmarks.runner import Measure, Result
from benchmarks.timing import median_seconds


def run() -> Result:
    with tempfile.TemporaryDirectory(prefix="scapp-bench-") as root, reopened_log(Path(root) / "log") as log:
        milliseconds = median_seconds(lambda: rebuild(log), clock="wall", rounds=21) * 1000
    return Result(milliseconds, "ms")


MEASURES = [Measure("S1", "1000 events rebuilt from disk", goal=100, run=run, lower_is_better=True)]
