"""P3: a payment channel over one hub, from the payer's call until its channel runs, beside the least that it can take.

Three nodes with their logs in RocksDB, every append durable, and 10 ms from each to the other. What goes from node to
node one after another is eight messages, each behind an append: the proposal to the hub and on to the payee; their
signatures back, with which the payer proposes to lock its part; the hub's agreement, the payer's signature under the
postfund state, and the hub's. The payer stores that one too. A ledger has room for 400 channels, so a thousand stand
between four payers and four payees.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.runner import Measure, Part, Result

LATENCY_S = 0.010
MESSAGES, APPENDS = 8, 9
SINGLE = 30
OPEN = 1_000
TOGETHER = 64
HUB, PAIRS = 0, ((1, 2), (3, 4), (5, 6), (7, 8))


async def _measured(root: Path) -> tuple[float, float, float]:
    """Medians in seconds: of one channel, of one beside `OPEN` that are open, and of a bare fdatasync."""
    from benchmarks._paying import fdatasync_p50
    from scapp.channels.log.rocks import RocksLog
    from scapp.channels.transport.fake import FakeTransport
    from tests.support.ledger_scene import LedgerScene

    delay_s = 0.0

    class Far(FakeTransport):
        """What is said arrives later."""

        def send(self, peer: Any, message: bytes, on_acked: Any = None) -> None:
            if delay_s:
                asyncio.get_running_loop().call_later(delay_s, super().send, peer, message, on_acked)
            else:
                super().send(peer, message, on_acked)

    scene = LedgerScene(9)
    scene.cast.transport = Far
    for index in range(9):
        (root / str(index)).mkdir()
        scene.logs[index] = RocksLog(root / str(index))
    await scene.start()
    try:
        for payer, payee in PAIRS:
            await scene.ledger(payer, HUB, (10**9, 10**9))
            await scene.ledger(HUB, payee, (10**9, 10**9))
        delay_s = LATENCY_S
        await _opened(scene)
        alone = statistics.median([await _opened(scene) for _ in range(SINGLE)])
        bare = fdatasync_p50(root, 200)
        for round_ in range(OPEN // TOGETHER + 1):
            await asyncio.gather(*(_opened(scene, PAIRS[round_ % len(PAIRS)]) for _ in range(TOGETHER)))
        among = statistics.median([await _opened(scene) for _ in range(SINGLE)])
        return alone, among, bare
    finally:
        await scene.end()
        for log in scene.logs:
            log.close()


async def _opened(scene: Any, pair: tuple[int, int] = PAIRS[0]) -> float:
    """Open one; seconds until it runs at the payer."""
    from scapp.channels.books.info import PaymentChannelRequest

    payer, payee = pair
    request = PaymentChannelRequest(
        payee=scene.address(payee), amount=10, via=(scene.address(HUB),), fees=(0,), challenge_duration_s=3_600
    )
    runs, running = asyncio.Event(), set()

    def told(event: Any) -> None:
        if event.kind == "virtual" and event.detail.startswith("running"):
            running.add(event.channel_id)
            runs.set()

    end = scene.nodes[payer].subscribe(told)
    began = time.perf_counter()
    channel = await scene.books(payer).open_payments(request)
    while channel not in running:
        runs.clear()
        await runs.wait()
    took = time.perf_counter() - began
    end()
    return took


def run() -> Result:
    with tempfile.TemporaryDirectory(prefix="scapp-bench-") as root:
        alone, among, bare = asyncio.run(_measured(Path(root)))
    least = MESSAGES * LATENCY_S + 2 * APPENDS * bare
    parts = (
        Part("to eight messages and twice nine fdatasyncs", alone / least, 1, lower_is_better=True),
        Part(f"with {OPEN:,} open, to none open", among / alone, 1.25, lower_is_better=True),
    )
    notes = (f"with {OPEN:,} open: {among * 1e3:.1f} ms", f"fdatasync: {bare * 1e3:.2f} ms")
    return Result.of_parts(alone * 1e3, "ms", parts, notes)


MEASURES = [Measure("P3", "a payment channel over one hub, 10 ms between nodes", 1, run)]
