"""S6: what 10,000 events add to a node's start; S7: what a million do when there is a snapshot.

A start is a fresh interpreter that imports `scapp.channels.node`, opens the log on disk and rebuilds every channel
(`driver.load`), as in S2. Counted is the process time (user and system) up to that point. The reference is the same
program over a log without a channel, in alternating slots.

Each event is a state that the node signed and that is supported by it. S6 folds all events (no snapshot was saved). In
S7 the events of one round are written again and again under rising turns, as `_long_log` tells, because co-signing a
million rounds takes an hour; the snapshot is one that a node saves, followed by as many events as come until the next.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.runner import Measure, Result
from benchmarks.timing import ROUNDS_MIN

FEW, MANY = 10_000, 1_000_000
KEY = b"\x22" * 32

START = f"""
import sys, time
from pathlib import Path
import scapp.channels.node
from scapp.channels.driver import load
from scapp.channels.log.rocks import RocksLog
from scapp.channels.signing import Signer

log, signer = RocksLog(Path(sys.argv[1])), Signer(bytes.fromhex("{KEY.hex()}"))
channels = [load(log, stream, signer) for stream in log.streams()]
print(sum(channel.version for channel in channels), time.process_time(), flush=True)
log.close()
"""


def _start(directory: Path, events: int) -> float:
    """Process seconds of one start."""
    answer = subprocess.run([sys.executable, "-c", START, str(directory)], capture_output=True, text=True, check=True)
    found, seconds = answer.stdout.split()
    if int(found) < events:
        raise RuntimeError(f"{found} events were rebuilt, {events} are in the log")
    return float(seconds)


def _starts(empty: Path, full: Path, events: int) -> tuple[float, float]:
    """Medians over alternating starts: of the full log, and of the empty one."""
    _start(full, events)
    _start(empty, 0)
    pairs = [(_start(full, events), _start(empty, 0)) for _ in range(ROUNDS_MIN)]
    return statistics.median(ours for ours, _ in pairs), statistics.median(theirs for _, theirs in pairs)


def _empty(path: Path) -> Path:
    from scapp.channels.log.rocks import RocksLog

    RocksLog(path).close()
    return path


def run_few() -> Result:
    from benchmarks.channel_pair import Pair

    with tempfile.TemporaryDirectory(prefix="scapp-bench-") as root:
        pair = Pair(Path(root))
        for number in range(FEW):
            pair.round_([b"%032d" % number])
        pair.close()
        ours, theirs = _starts(_empty(Path(root) / "empty"), Path(root) / "b", FEW)
    return Result((ours - theirs) * 1000, "ms", notes=(f"with events {ours:.3f} s, an empty log {theirs:.3f} s",))


def _long_log(path: Path) -> None:
    """A countersigner's log of a million states. Signatures are those of one state: a start does not verify them, for
    what stands in the log was verified when it came."""
    import msgspec

    from benchmarks.channel_pair import Pair
    from scapp.channels.channel.events import StateCompleted, decode_event, encode_event
    from scapp.channels.driver import load
    from scapp.channels.log.port import Append, StreamWrite
    from scapp.channels.log.rocks import RocksLog
    from scapp.channels.signing import Signer
    from scapp.channels.state_snapshots import BYTES_PER_EVENT, StateSnapshots

    with tempfile.TemporaryDirectory(prefix="scapp-bench-") as root:
        pair = Pair(Path(root))
        for number in range(4):
            pair.round_([b"%032d" % number])
        pair.close()
        with RocksLog(Path(root) / "b") as short:
            (stream,) = short.streams()
            events = [data for page in short.read(stream) for data in page.events]
    pattern: Any = decode_event(events[-1])
    assert isinstance(pattern, StateCompleted)
    replace = msgspec.structs.replace

    def event(number: int) -> bytes:
        """The state after the pattern's by `number`."""
        old = pattern.state
        last = tuple(counter + number if counter else 0 for counter in old.last)
        state = replace(old, turn=old.turn + number, sequence=old.sequence + number * len(old.entries), last=last)
        return encode_event(StateCompleted(state))

    with RocksLog(path) as log:
        log.append(Append((StreamWrite(stream, 0, events),)), durable=False)
        version, size = len(events), 0
        for until in (MANY, None):
            end = until if until is not None else version + max(1_000, size // BYTES_PER_EVENT) - 1
            while version < end:
                page = [event(number - len(events) + 1) for number in range(version, min(version + 10, end))]
                log.append(Append((StreamWrite(stream, version, page),)), durable=False)
                version += len(page)
            if until is not None:
                StateSnapshots(log, load(log, stream, Signer(KEY))).save()
                snapshot = log.load_snapshot(stream, "channel")
                assert snapshot is not None
                size = len(snapshot.data)


def run_many() -> Result:
    with tempfile.TemporaryDirectory(prefix="scapp-bench-") as root:
        _long_log(Path(root) / "long")
        ours, theirs = _starts(_empty(Path(root) / "empty"), Path(root) / "long", MANY)
    notes = (f"with events {ours:.3f} s, an empty log {theirs:.3f} s",)
    return Result(ours, "s", ours / theirs, notes)


MEASURES = [
    Measure("S6", f"start with {FEW} events beyond an empty log", goal=300, run=run_few, lower_is_better=True),
    Measure("S7", f"start with {MANY} events and a snapshot / an empty log", 1.3, run_many, lower_is_better=True),
]
