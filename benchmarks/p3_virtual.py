"""P3: a payment channel over one hub, from the payer's call until its channel runs, beside the least that it can take.

Three nodes with their logs in RocksDB, every append durable, and 10 ms from each to the other. What goes from node to
node one after another is six messages, each behind an append: the proposal to the hub and on to the payee; the payee's
signature back, with which the hub proposes to lock its part; the payee's agreement and its signature under the postfund
state; and the hub's, which has the payer's by then. The payer stores that one too. A ledger has room for 400 channels,
so a thousand stand between four payers and four payees.

The nodes share one event loop, in which each would hold up the others: a payee therefore hears of everything 2.5 ms
later, when its payer has done what the same word of the hub asks of it. Two of the six messages go there. The loop
waits in `select`, whose timers are late by a tenth of a millisecond or two; `epoll` rounds up to whole ones. What a
timer of 10 ms takes in this loop while nothing else happens in it is measured, and is what a message costs at least.

The fdatasyncs that count are measured one behind another, on a processor and a disk that are awake. A note says what
one costs together with one signature and one check, less than any step of the path has, after 10 ms in which nothing
happened: no node can do with less between two messages, and two bare fdatasyncs may be less than that (ADR 0078).
"""

from __future__ import annotations

import asyncio
import selectors
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.runner import Measure, Part, Result

LATENCY_S = 0.010
PAYEE_LATER_S = 0.0025
MESSAGES, TO_PAYEE, APPENDS = 6, 2, 7
SINGLE = 30
OPEN = 1_000
TOGETHER = 64
BARE = 7  # timers and syncs for each single channel
HUB, PAIRS = 0, ((1, 2), (3, 4), (5, 6), (7, 8))


class _Network:
    """Who can be reached, and what a message takes, to some of them more than to others."""

    def __init__(self, later: dict[Any, float]) -> None:
        self.delay_s = 0.0
        self.later = later
        self.nodes: dict[Any, _Line] = {}


class _Line:
    """`transport.port.Transport` in process: what is said is handed over so much later, in its order."""

    network: _Network

    def __init__(self, _: Any, address: Any) -> None:
        self._address = address
        self._arrived: dict[Any, deque[tuple[bytes, Callable[[], None] | None]]] = {}
        self._readers: dict[Any, asyncio.Task[None]] = {}

    async def start(self, handler: Any, on_link: Any) -> None:
        self._handler, self._on_link = handler, on_link
        self.network.nodes[self._address] = self

    async def stop(self) -> None:
        del self.network.nodes[self._address]

    def add_peer(self, peer: Any, _: str) -> None:
        asyncio.get_running_loop().call_soon(self._on_link, peer, True)

    def peers(self) -> list[Any]:
        return []

    def send(self, peer: Any, message: bytes, on_acked: Callable[[], None] | None = None) -> None:
        delay_s = self.network.delay_s + self.network.later.get(peer, 0.0)
        asyncio.get_running_loop().call_later(delay_s, self._arrive, peer, message, on_acked)

    def _arrive(self, peer: Any, message: bytes, on_acked: Callable[[], None] | None) -> None:
        there = self.network.nodes.get(peer)
        if there is not None:
            there._take(self._address, message, on_acked)

    def _take(self, peer: Any, message: bytes, on_acked: Callable[[], None] | None) -> None:
        waiting = self._arrived.setdefault(peer, deque())
        waiting.append((message, on_acked))
        if peer not in self._readers:
            self._readers[peer] = asyncio.create_task(self._read(peer, waiting))

    async def _read(self, peer: Any, waiting: deque[tuple[bytes, Callable[[], None] | None]]) -> None:
        while waiting:
            message, on_acked = waiting.popleft()
            await self._handler(peer, message)
            if on_acked is not None:
                asyncio.get_running_loop().call_later(self.network.delay_s, on_acked)
        del self._readers[peer]


async def _measured(root: Path) -> tuple[float, float, float, float, float]:
    """Medians in seconds: of one channel, of one beside `OPEN` that are open, of a bare fdatasync, of a bare timer, of
    a bare step."""
    from benchmarks._paying import fdatasync_p50
    from scapp.channels.log.rocks import RocksLog
    from tests.support.ledger_scene import LedgerScene

    scene = LedgerScene(9)
    network = _Line.network = _Network({scene.address(payee): PAYEE_LATER_S for _, payee in PAIRS})
    scene.cast.transport = _Line  # type: ignore[assignment]
    for index in range(9):
        (root / str(index)).mkdir()
        scene.logs[index] = RocksLog(root / str(index))
    await scene.start()
    try:
        for payer, payee in PAIRS:
            await scene.ledger(payer, HUB, (10**9, 10**9))
            await scene.ledger(HUB, payee, (10**9, 10**9))
        network.delay_s = LATENCY_S
        await _opened(scene)
        singles, syncs, timers, steps = [], [], [], []
        for _ in range(SINGLE):  # by turns, for whatever else the machine does comes and goes
            singles.append(await _opened(scene))
            syncs.append(fdatasync_p50(root, BARE))
            timers.append(await _timer_p50())
            steps.append(await _step(root))
        alone, bare, timer, step = map(statistics.median, (singles, syncs, timers, steps))
        for round_ in range(OPEN // TOGETHER + 1):
            await asyncio.gather(*(_opened(scene, PAIRS[round_ % len(PAIRS)]) for _ in range(TOGETHER)))
        among = statistics.median([await _opened(scene) for _ in range(SINGLE)])
        return alone, among, bare, timer, step
    finally:
        await scene.end()
        for log in scene.logs:
            log.close()


async def _timer_p50() -> float:
    """Seconds that a message's timer takes in this loop while nothing else happens."""
    loop = asyncio.get_running_loop()
    times: list[float] = []
    for _ in range(BARE):
        rang: asyncio.Future[float] = loop.create_future()
        began = time.perf_counter()
        loop.call_later(LATENCY_S, lambda rang: rang.set_result(time.perf_counter()), rang)
        times.append(await rang - began)
    return statistics.median(times)


async def _step(root: Path) -> float:
    """Seconds for one check, one signature and one fdatasync after a message's time in which nothing happened."""
    from benchmarks._paying import PAYER_KEY, fdatasync_p50
    from scapp.channels.signing import Signer, Verifier

    signer, digest = Signer(PAYER_KEY), bytes(range(32))
    verifier, signature = Verifier(signer.address), signer.sign(digest)  # type: ignore[arg-type]
    await asyncio.sleep(LATENCY_S)
    began = time.perf_counter()
    verifier.matches(digest, signature)  # type: ignore[arg-type]
    signer.sign(digest)  # type: ignore[arg-type]
    return time.perf_counter() - began + fdatasync_p50(root, 1)


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
    with (
        tempfile.TemporaryDirectory(prefix="scapp-bench-") as root,
        asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner,
    ):
        alone, among, bare, timer, step = runner.run(_measured(Path(root)))
    least = MESSAGES * timer + TO_PAYEE * PAYEE_LATER_S + 2 * APPENDS * bare
    parts = (
        Part(f"to {MESSAGES} messages and twice {APPENDS} fdatasyncs", alone / least, 1, lower_is_better=True),
        Part(f"with {OPEN:,} open, to none open", among / alone, 1.25, lower_is_better=True),
    )
    notes = (
        f"with {OPEN:,} open: {among * 1e3:.1f} ms",
        f"fdatasync: {bare * 1e3:.2f} ms",
        f"a timer of {LATENCY_S * 1e3:.0f} ms: {timer * 1e3:.2f} ms",
        f"check, sign, sync after such a timer: {step * 1e3:.2f} ms, of {2 * bare * 1e3:.2f} ms for a whole step",
    )
    return Result.of_parts(alone * 1e3, "ms", parts, notes)


MEASURES = [Measure("P3", "a payment channel over one hub, 10 ms between nodes", 1, run)]
