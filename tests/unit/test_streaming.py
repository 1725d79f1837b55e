"""Paying as something is used: never too little, never beyond the limit, never twice."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scapp.channels.errors import LocalError
from scapp.channels.payments.streaming import PaymentStream, Stream, Tariff


class Purse:
    """Records payments; `fails_at` is the number of the one that fails."""

    def __init__(self, fails_at: int = -1) -> None:
        self.payments: list[int] = []
        self.fails_at = fails_at

    async def pay(self, amount: int) -> None:
        if len(self.payments) == self.fails_at:
            raise LocalError("unable to pay amount: insufficient funds")
        self.payments.append(amount)


@given(st.integers(1, 50), st.integers(1, 50), st.integers(0, 400), st.lists(st.integers(0, 300), max_size=12))
def test_what_is_paid_covers_what_was_used_and_no_more(price: int, units: int, limit: int, uses: list[int]) -> None:
    """However the uses are cut, and whatever order they are told in."""
    tariff = Tariff(price, units)
    stream = Stream(tariff, limit)
    for used in uses:
        stream = stream.after(used, stream.due(used))
    most = max(uses, default=0)
    assert stream.paid == min(tariff.cost(most), limit)
    assert tariff.cost(tariff.covers(stream.paid)) <= stream.paid
    if tariff.cost(most) <= limit:
        assert tariff.covers(stream.paid) >= most


@pytest.mark.parametrize(("price", "units"), [(-1, 1), (1, 0), (2**256, 1)])
def test_a_tariff_that_cannot_be(price: int, units: int) -> None:
    with pytest.raises(LocalError, match="a price of"):
        Tariff(price, units)


def test_what_is_free_is_covered_by_nothing() -> None:
    assert Tariff(0).covers(0) > 2**64
    assert Tariff(0).cost(10**9) == 0


async def test_a_stream_pays_by_the_byte_until_its_limit() -> None:
    purse = Purse()
    stream = PaymentStream(purse.pay, Tariff(3, 1000), limit=10)
    for used in (1, 900, 1100, 2500, 3333, 9999, 20_000):
        await stream.use(used)
    assert purse.payments == [1, 2, 1, 4, 2]
    assert not stream.running
    assert await stream.use(30_000) == 0


async def test_uses_during_a_payment_are_paid_by_the_next() -> None:
    """Two payments at once would both count from the same total."""
    gate = asyncio.Event()
    purse = Purse()

    async def slow(amount: int) -> None:
        await gate.wait()
        await purse.pay(amount)

    stream = PaymentStream(slow, Tariff(1), limit=100)
    first = asyncio.create_task(stream.use(10))
    await asyncio.sleep(0)
    assert await stream.use(15) == 0
    gate.set()
    assert await first == 10
    assert await stream.use(16) == 6
    assert purse.payments == [10, 6]


async def test_a_stream_by_time_pays_ahead_and_stops_when_told() -> None:
    """The clock is the test's: two a second, with a pause that took longer than asked for."""
    now, naps = 5_000, iter([1_000, 1_700, 1_000, 1_000])
    purse = Purse()
    stream = PaymentStream(purse.pay, Tariff(2, 1000), limit=100)

    async def sleep(seconds: float) -> None:
        nonlocal now
        assert seconds == 1.0
        now += next(naps)
        if now > 9_000:
            stream.stop()

    await stream.by_time(lambda: now, sleep)
    assert purse.payments == [2, 2, 4, 2]


async def test_a_failure_ends_the_stream_and_says_why() -> None:
    purse = Purse(fails_at=1)
    stream = PaymentStream(purse.pay, Tariff(1), limit=10_000)

    async def sleep(seconds: float) -> None:
        return

    times = iter(range(0, 10_000, 1_000))
    with pytest.raises(LocalError, match="insufficient"):
        await stream.by_time(lambda: next(times), sleep)
    assert not stream.running
    assert isinstance(stream.fault, LocalError)
    assert stream.stream.paid == purse.payments[0]
