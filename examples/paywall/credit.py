"""What a payment channel's payer still has to spend here, and what it has been served for it. Pure; `spending.py`
keeps it across restarts.

Credit is what the channel's vouchers say was paid, less what was spent. A request holds what it is about to spend, so
that requests at the same time never spend the same coin.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from scapp.channels.types import Address, ChannelId

ATTEMPTS_MAX = 8
"""Deliveries under one idempotency key: a body that was paid for once is not served for ever."""


@dataclass
class Account:
    """One payment channel. `paid` comes from the payee's node, all else is ours. `guests`: requests that hold on to
    this object; a second one of the same channel would spend its coins again."""

    channel: ChannelId
    payer: Address
    asset: Address
    paid: int = 0
    spent: int = 0
    held: int = 0
    guests: int = 0

    @property
    def credit(self) -> int:
        return max(0, self.paid - self.spent - self.held)

    def hold(self, amount: int) -> bool:
        """Set `amount` aside; False, and nothing has changed, when there is not so much."""
        if amount > self.credit:
            return False
        self.held += amount
        return True

    def release(self, amount: int) -> None:
        """It is not spent after all."""
        self.held -= amount

    def spend(self, amount: int) -> None:
        """Of what is held."""
        self.held -= amount
        self.spent += amount


@dataclass
class Visit:
    """What was charged under one idempotency key, so that a repeated request is charged only for what is new in it.

    `low` to `high`: the bytes of the body that have been delivered, by their place in the whole resource."""

    what: str
    charged: bool = False
    low: int = 0
    high: int = 0
    attempts: int = 0
    busy: bool = field(default=False, compare=False)

    def new_bytes(self, start: int, end: int) -> int:
        """How many bytes of start … end were not delivered before."""
        return (end - start) - max(0, min(end, self.high) - max(start, self.low))

    def delivered(self, start: int, end: int) -> None:
        """One stretch is remembered: what goes on at its end extends it, what begins elsewhere takes its place."""
        if self.low <= start <= self.high and self.high:
            self.high = max(self.high, end)
        else:
            self.low, self.high = start, end
