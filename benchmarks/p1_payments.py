"""P1: payments between two processes, each durable at both ends, beside signing and checking alone in two processes.

Counted are payments whose payee has said that it holds them durably. Once over 1,024 channels with one payment on its
way in each, so that every payment has a voucher, signature, check, stored event and receipt of its own; and once over a
single channel with 1,024 on their way, which share vouchers as they gather.

P2: one payment at a time, from the call to the payee's word that it is durable there: the median beside that of two
bare fdatasyncs and one round trip between two blocking sockets.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks._paying import CHANNELS, PayingSide, both, channel, fdatasync_p50
from benchmarks.runner import Measure, Part, Result
from benchmarks.timing import ROUNDS_MIN

SLOT_SECONDS = 0.5
ON_THEIR_WAY = 1_024
SINGLE = 200


def _pay_for(loop: asyncio.AbstractEventLoop, side: PayingSide, channels: int, seconds: float) -> float:
    """Payments per second, `ON_THEIR_WAY` at a time, from the first to the last receipt."""
    return loop.run_until_complete(_pay(side, channels, seconds))


async def _pay(side: PayingSide, channels: int, seconds: float) -> float:
    loop, ask = asyncio.get_running_loop(), side.payments.ask
    done = loop.create_future()
    clock = time.perf_counter
    began = clock()
    end = began + seconds
    open_, count = ON_THEIR_WAY, 0

    def next_payment(number: int) -> None:
        ask(channel(number), 1, wait=True).add_done_callback(lambda future: paid(number, future))

    def paid(number: int, future: asyncio.Future[Any]) -> None:
        nonlocal open_, count
        assert future.result().seen
        count += 1
        if clock() < end:
            next_payment(number)
        else:
            open_ -= 1
            if not open_:
                done.set_result(None)

    for number in range(ON_THEIR_WAY):
        next_payment(number % channels)
    await done
    return count / (clock() - began)


def run() -> Result:
    rates: dict[str, list[float]] = {"own": [], "shared": [], "bare": []}
    with tempfile.TemporaryDirectory(prefix="scapp-bench-") as root, both(Path(root)) as (loop, side, other):
        _pay_for(loop, side, CHANNELS, SLOT_SECONDS)
        _pay_for(loop, side, 1, SLOT_SECONDS)
        for _ in range(ROUNDS_MIN):
            rates["bare"].append(other.bare_in_both(SLOT_SECONDS))
            rates["own"].append(_pay_for(loop, side, CHANNELS, SLOT_SECONDS))
            rates["shared"].append(_pay_for(loop, side, 1, SLOT_SECONDS))
    own, shared = (
        statistics.median(ours / most for ours, most in zip(rates[name], rates["bare"], strict=True))
        for name in ("own", "shared")
    )
    rate = statistics.median(rates["own"])
    parts = (
        Part("a voucher each, 1,024 channels, to signing and checking alone", own, 0.35),
        Part("one channel, vouchers shared, to signing and checking alone", shared, 0.35),
    )
    notes = (
        f"bare: {statistics.median(rates['bare']):,.0f} pairs/s in two processes",
        f"one channel: {statistics.median(rates['shared']):,.0f} payments/s",
    )
    return Result.of_parts(rate, "payments/s", parts, notes)


def run_single() -> Result:
    ours, bare = [], []
    with tempfile.TemporaryDirectory(prefix="scapp-bench-") as root, both(Path(root)) as (loop, side, other):
        loop.run_until_complete(_one_at_a_time(side, SINGLE))
        for _ in range(ROUNDS_MIN):
            bare.append(2 * fdatasync_p50(Path(root), SINGLE) + other.round_trip_p50(SINGLE))
            ours.append(statistics.median(loop.run_until_complete(_one_at_a_time(side, SINGLE))))
    ratio = statistics.median(mine / least for mine, least in zip(ours, bare, strict=True))
    note = f"two fdatasyncs and a round trip: {statistics.median(bare) * 1e3:.2f} ms"
    return Result(statistics.median(ours) * 1e3, "ms", ratio, (note,))


async def _one_at_a_time(side: PayingSide, payments: int) -> list[float]:
    times = []
    for _ in range(payments):
        began = time.perf_counter()
        payment = await side.payments.pay(channel(0), 1, wait_s=10)
        times.append(time.perf_counter() - began)
        assert payment.seen
    return times


MEASURES = [
    Measure("P1", "payments between two processes, durable at both ends", 1, run),
    Measure(
        "P2", "one payment at a time, against two fdatasyncs and a round trip", 3, run_single, lower_is_better=True
    ),
]
