"""Paying as something is used: by the second, by the byte, by anything that is counted (docs/reference/payments.md).

Nothing is held by anybody: each step is an ordinary payment of what is due by then. The clock, and how to wait, come
from outside. What is due follows from everything used so far, so rounding never adds up.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from scapp.channels.errors import LocalError
from scapp.channels.types import U256_MAX


class Tariff(msgspec.Struct, frozen=True, gc=False):
    """`price` (of the asset's smallest unit) for every `units` used: 3 per 1,000 bytes, 5 per second."""

    price: int
    units: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.price <= U256_MAX or self.units < 1:
            raise LocalError(f"a price of {self.price} for {self.units} units; neither may be negative, nor units zero")

    def cost(self, used: int) -> int:
        """What so many units cost, rounded up: whoever sells never gives anything away."""
        return -(-used * self.price // self.units)

    def covers(self, amount: int) -> int:
        """How many units are paid by so much, at most; a price of zero covers everything (2^256)."""
        return amount * self.units // self.price if self.price else 1 << 256


class Stream(msgspec.Struct, frozen=True, gc=False):
    """One use of something: `paid` of at most `limit` for `used` units so far."""

    tariff: Tariff
    limit: int
    used: int = 0
    paid: int = 0

    @property
    def spent(self) -> bool:
        """Is less than the next unit left?"""
        return self.tariff.cost(self.used + 1) > self.limit

    def due(self, used: int) -> int:
        """What is to be paid now that `used` units are used altogether, within the limit."""
        return max(0, min(self.tariff.cost(used), self.limit) - self.paid)

    def after(self, used: int, amount: int) -> Stream:
        """Once that is paid."""
        return msgspec.structs.replace(self, used=max(self.used, used), paid=self.paid + amount)


class PaymentStream:
    """Pays for one use, one payment at a time. `pay` makes a payment of an amount and returns once it is promised; what
    it raises ends the stream, and stands in `fault`."""

    def __init__(self, pay: Callable[[int], Awaitable[object]], tariff: Tariff, limit: int) -> None:
        self.stream = Stream(tariff, limit)
        self.fault: Exception | None = None
        self._pay = pay
        self._paying = False
        self._stopped = False

    @property
    def running(self) -> bool:
        """False once it was stopped, has spent its limit, or failed."""
        return not (self._stopped or self.stream.spent or self.fault is not None)

    def stop(self) -> None:
        """Nothing more is paid; a payment on its way is made."""
        self._stopped = True

    async def use(self, used: int) -> int:
        """So many units are used altogether: pay what is due; what this call paid. One that comes while another pays
        leaves it to the next, which pays for both."""
        if self._paying or not self.running:
            return 0
        amount = self.stream.due(used)
        if amount == 0:
            return 0
        self._paying = True
        try:
            await self._pay(amount)
        except Exception as error:
            self.fault = error
            raise
        finally:
            self._paying = False
        self.stream = self.stream.after(used, amount)
        return amount

    async def by_time(
        self, clock_ms: Callable[[], int], sleep: Callable[[float], Awaitable[object]], every_s: float = 1.0
    ) -> None:
        """Pay for time, a unit being a millisecond, until `stop`, the limit or a failure, which is raised. It begins
        with the first interval, so that the payee is never behind."""
        began = clock_ms()
        every_ms = max(1, int(every_s * 1000))
        while self.running:
            await self.use(clock_ms() - began + every_ms)
            if self.running:
                await sleep(every_s)
