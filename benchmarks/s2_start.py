"""S2: how long a node needs until it has its channels back, with 10,000 events in its log.

Counted, in seconds on the wall: a fresh interpreter, the imports of `scapp.channels.node`, opening the log on disk and
rebuilding every channel in it (`driver.load`: decode, check, fold). Not counted: connecting to peers, the database,
and the reducer's tables. The log was closed in order, as by a node that was stopped; the files are in the page cache.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.runner import Measure, Result
from benchmarks.timing import ROUNDS_MIN

EVENTS = 10_000
KEY = b"\x22" * 32

START = f"""
import sys
from pathlib import Path
import scapp.channels.node
from scapp.channels.driver import load
from scapp.channels.log.rocks import RocksLog
from scapp.channels.signing import Signer

log, signer = RocksLog(Path(sys.argv[1])), Signer(bytes.fromhex("{KEY.hex()}"))
channels = [load(log, stream, signer) for stream in log.streams()]
print(sum(channel.version for channel in channels), flush=True)
sys.stdin.read()  # the clock has stopped; now the log may be closed
log.close()
"""


def start(directory: Path) -> float:
    """Seconds until all channels are there, in a process of its own."""
    began = time.perf_counter()
    arguments = [sys.executable, "-c", START, str(directory)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        found = child.stdout.readline()
        seconds = time.perf_counter() - began
        if int(found or 0) < EVENTS:
            raise RuntimeError(f"{found or 0} events were rebuilt, {EVENTS} are in the log")
    return seconds


def run() -> Result:
    """Each event is a state that this node has signed and that is supported by it."""
    from benchmarks.channel_pair import Pair

    with tempfile.TemporaryDirectory(prefix="scapp-bench-") as root:
        pair = Pair(Path(root))
        for number in range(EVENTS):
            pair.round_([b"%032d" % number])
        pair.close()
        start(Path(root) / "b")  # compiled files and the disk cache are warm afterwards
        seconds = statistics.median(start(Path(root) / "b") for _ in range(ROUNDS_MIN))
    return Result(seconds, "s")


MEASURES = [Measure("S2", f"start of a node with {EVENTS} events", goal=1, run=run, lower_is_better=True)]
