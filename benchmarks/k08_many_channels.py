"""K8: 10,000 channels derived by one process, twice each, so that every channel but the last few has to be loaded again
from its tables; value = peak resident memory of that process in MiB, its log included.

The process is a child of its own (`python -m benchmarks.k08_many_channels DSN`), because a peak cannot be taken back.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks._server import folder, server
from benchmarks._transfers import TransferLog, draw, worker_over
from benchmarks.runner import Measure, Result

CHANNELS = 10_000
MESSAGES = 2  # in each of two batches


class _Logs:
    """Many channels as one EntrySource; readers see as many batches of each as `shown`."""

    def __init__(self, count: int) -> None:
        self.shown = 2
        self._logs: dict[bytes, TransferLog] = {}
        for number in range(count):
            log = TransferLog(number)
            for seed in (1, 2):
                log.append(draw(MESSAGES, number * 2 + seed))
            log.forget_kernel()
            self._logs[log.context.channel_id] = log

    def contexts(self) -> list[Any]:
        return [log.context for log in self._logs.values()]

    def archived(self) -> dict[bytes, Any]:
        return {}

    def archive_version(self) -> int:
        return 0

    def batches(self, channel_id: bytes, position: int = 0) -> Iterator[Any]:
        found = list(self._logs[channel_id].batches(channel_id))[: self.shown]
        yield from found[position:]


def child(dsn: str, count: int) -> None:
    """Derive everything, and print what it took as JSON."""
    from scapp.runtime.database.server import ServerBackend

    log = _Logs(count)
    backend = ServerBackend(dsn)
    worker = worker_over(log, backend)
    seconds = []
    for log.shown in (2, 3):
        began = time.perf_counter()
        worker.run_once()
        seconds.append(time.perf_counter() - began)
    worker.stop()
    done = sum(
        status.cursor is not None and status.cursor.sequence == 1 + 2 * MESSAGES for status in worker.status().values()
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"peak": peak, "done": done, "seconds": seconds}))


def run() -> Result:
    with folder() as at, server(at / "pg") as backend:
        command = [sys.executable, "-m", "benchmarks.k08_many_channels", backend.dsn, str(CHANNELS)]
        ended = subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=Path(__file__).parents[1])
    found = json.loads(ended.stdout)
    assert found["done"] == CHANNELS, found
    first, second = (CHANNELS / seconds for seconds in found["seconds"])
    notes = (f"channels/s: {first:,.0f} from the start, {second:,.0f} loaded again from their tables",)
    return Result(found["peak"], "MiB", notes=notes)


MEASURES = [Measure("K8", "10,000 channels derived by one process", 1024, run, lower_is_better=True)]

if __name__ == "__main__":
    child(sys.argv[1], int(sys.argv[2]))
