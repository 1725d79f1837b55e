"""S4: what the first batch after a restart waits for, in a channel with 10,000 ledger messages, in seconds.

A node that was killed finds its log; admission's base is built from the newest snapshot and the batches after it, and
compared with what is signed. Below stand the same after an orderly stop, which saves a snapshot, and without any
snapshot, when every message runs again.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from benchmarks._ledger_channel import channel_in, module_for, opened, write_channel
from benchmarks.runner import Measure, Result
from benchmarks.timing import median_seconds

MESSAGES = 10_000
AT_ONCE = 96  # so that the kill comes half way between two snapshots


class _WithoutSnapshots:
    """The log, but for its snapshots."""

    def __init__(self, log: Any) -> None:
        self.log = log

    def load_snapshot(self, stream: bytes) -> None:
        return None


def _restart(folder: Path, signer: Any, *, snapshots: bool = True, rounds: int = 9) -> tuple[float, int]:
    """Median seconds of loading, and the sequence the snapshot stands at."""
    from scapp.channels.admission_base import AdmissionBase
    from scapp.runtime.admission import ReducerAdmission
    from scapp.runtime.modules import kernel_maker

    with opened(folder) as log:
        driver, source = channel_in(log, signer)
        found: Any = log if snapshots else _WithoutSnapshots(log)

        def load() -> AdmissionBase:
            base = AdmissionBase(ReducerAdmission(kernel_maker(module_for, track=False)), found, source, driver)
            base.load(MESSAGES + 1)
            return base

        return median_seconds(load, clock="wall", rounds=rounds), load().saved_at


def run() -> Result:
    with tempfile.TemporaryDirectory(prefix="scapp-bench-") as root:
        stopped, killed = Path(root) / "stopped", Path(root) / "killed"
        signer = write_channel(stopped, MESSAGES, killed=killed, at_once=AT_ONCE)
        seconds, at = _restart(killed, signer)
        clean, _ = _restart(stopped, signer)
        whole, _ = _restart(killed, signer, snapshots=False, rounds=3)
    notes = (
        f"killed: a snapshot of {at} entries and the {MESSAGES + 1 - at} after it",
        f"stopped in order: {clean:.3f} s",
        f"without a snapshot: {whole:.3f} s",
    )
    return Result(seconds, "s", notes=notes)


MEASURES = [Measure("S4", "admission ready after a restart, 10,000 messages", goal=0.5, run=run, lower_is_better=True)]
