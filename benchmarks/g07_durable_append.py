"""G7: 1000 events made durable with one sync, against a plain file: append the same bytes, fdatasync."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from benchmarks._log_events import event_bytes
from benchmarks.runner import Measure, Result
from benchmarks.timing import Side, compare

EVENTS = 1000


def run() -> Result:
    from scapp.channels.log.port import Append, StreamWrite
    from scapp.channels.log.rocks import RocksLog

    events = event_bytes(EVENTS)
    with tempfile.TemporaryDirectory(prefix="scapp-bench-") as root, RocksLog(Path(root) / "log") as log:
        descriptor = os.open(Path(root) / "plain", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        stream = b"\x01" * 32

        def append() -> None:
            log.append(Append((StreamWrite(stream, log.version(stream), events),)))

        def write_plain() -> None:
            os.write(descriptor, b"".join(events))
            os.fdatasync(descriptor)

        outcome = compare(Side(append, EVENTS), Side(write_plain, EVENTS), clock="wall", rounds=21)
        os.close(descriptor)
    return Result(outcome.rate, "events/s", outcome.ratio, (f"plain file {outcome.reference_rate:.0f} events/s",))


MEASURES = [Measure("G7", "durable append, 1000 events per sync, against file append + fdatasync", goal=0.25, run=run)]
