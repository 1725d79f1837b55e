"""S11: what 10,000 closed channels cost a start beside 10 that live. For another number of them:
`python -m benchmarks.s11_closed_channels 100000`.

A start is a fresh interpreter that imports `scapp.channels.node`, opens the log on disk and starts the node, without a
peer, a chain or a database. Counted are the process time (user and system) and the memory that is resident then. The
logs come from two engines that co-sign each channel: opening, three messages, the final state.

The reference is the same program over a log with the 10 channels that live. Before it the first start of the log, which
finds out that the channels are over: that one reads them all, and so does every start of a release that does not know.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.runner import Measure, Part, Result

CLOSED, LIVE, MESSAGES = 10_000, 10, 3
STARTS = 5
EACH_US_MAX = 20.0  # 2 s for 100,000 channels
LOG_BYTES, EACH_BYTES = 40_000_000, 600
"""Memory: what RocksDB keeps of the newest pages of any log, and of each channel; 100 MB for 100,000 of them."""
KEY = b"\x22" * 32

START = f"""
import asyncio, sys, time
from pathlib import Path
from scapp.channels.log.committer import Committer
from scapp.channels.log.rocks import RocksLog
from scapp.channels.node import Node
from scapp.channels.signing import Signer
from scapp.channels.transport.fake import FakeNetwork, FakeTransport

def resident(name):
    line = next(line for line in open("/proc/self/status") if line.startswith(name))
    return int(line.split()[1]) * 1024

async def main():
    log, signer = RocksLog(Path(sys.argv[1])), Signer(bytes.fromhex("{KEY.hex()}"))
    committer = Committer(log)
    node = Node(
        signer=signer, log=log, committer=committer, transport=FakeTransport(FakeNetwork(), signer.address),
        admission=None, policy=None, clock_ms=lambda: time.time_ns() // 1_000_000, nonce=time.time_ns,
    )
    await node.start()
    print(time.process_time(), resident("VmRSS"), resident("VmHWM"), len(node.channels()), flush=True)
    await node.stop()
    committer.close()
    log.close()

asyncio.run(main())
"""


def _start(directory: Path) -> tuple[float, float, float, int]:
    """Process seconds, bytes then and at most, and channels in memory."""
    answer = subprocess.run([sys.executable, "-c", START, str(directory)], capture_output=True, text=True, check=True)
    seconds, now, peak, channels = answer.stdout.split()
    return float(seconds), float(now), float(peak), int(channels)


def _log(directory: Path, closed: int) -> Path:
    """The countersigner's log of that many closed channels, and the living ones."""
    from benchmarks.channel_pair import Pair

    pair = Pair(directory)
    for number in range(closed + LIVE):
        if number:
            pair.begin(7 + number)
        for message in range(MESSAGES):
            pair.round_([b"%032d" % message])
        if number < closed:
            pair.end()
        pair.exchange()
    pair.close()
    return directory / "b"


def run(closed: int = CLOSED) -> Result:
    with tempfile.TemporaryDirectory(prefix="scapp-bench-") as root:
        few, many = _log(Path(root) / "few", 0), _log(Path(root) / "many", closed)
        _start(few)
        first = _start(many)
        pairs = [(_start(many), _start(few)) for _ in range(STARTS)]
    if {one[3] for pair in pairs for one in pair} != {LIVE}:
        raise RuntimeError(f"channels in memory: {[(a[3], b[3]) for a, b in pairs]}, {LIVE} live")
    ours, theirs = ([statistics.median(one[n] for one in side) for n in range(3)] for side in zip(*pairs, strict=True))
    each_us, more_bytes = (ours[0] - theirs[0]) / closed * 1e6, ours[2] - theirs[2]
    bytes_max = LOG_BYTES + EACH_BYTES * closed
    parts = [
        Part("processor time of each closed channel, in microseconds", each_us, EACH_US_MAX, True),
        Part("memory that they add at the most, in MB", more_bytes / 1e6, bytes_max / 1e6, True),
    ]
    notes = [
        f"{name}: {one[0]:.2f} s, {one[1] / 1e6:.0f} MB, {one[2] / 1e6:.0f} MB at the most"
        for name, one in (("first start", first), ("start", ours), ("without them", theirs))
    ]
    return Result.of_parts(ours[0], "s", parts, (f"{ours[0] / theirs[0]:.2f} times a start without them", *notes))


MEASURES = [Measure("S11", f"start with {CLOSED} closed channels", goal=1, run=run)]

if __name__ == "__main__":
    found = run(int(sys.argv[1]))
    sys.stdout.write("\n".join(found.notes) + "\n")
