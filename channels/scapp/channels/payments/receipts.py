"""What a payment's caller is told, and the payments that wait for it."""

from __future__ import annotations

import asyncio

import msgspec

from scapp.channels.errors import LocalError, ScappError
from scapp.channels.payments.vouchers import Voucher


class Payment(msgspec.Struct, frozen=True, gc=False):
    """What became of one payment: it is promised, durably. `total` is what was paid with it; `voucher` covers it, and
    later ones of the channel that were asked for at the same time. `seen`: the payee has said that it holds that."""

    amount: int
    total: int
    voucher: Voucher
    seen: bool


class PaymentRefused(LocalError):
    """The payee does not take the voucher of a payment. It stays promised, and the payee may take it later."""


class Asked:
    """A payment until its receipt. `total` and `voucher` stand once it is decided; `stored`: it is durable, and waits
    for the payee."""

    __slots__ = ("amount", "future", "stored", "total", "voucher", "wait")

    def __init__(self, amount: int, wait: bool, future: asyncio.Future[Payment]) -> None:
        self.amount = amount
        self.wait = wait
        self.future = future
        self.stored = False
        self.total = 0
        self.voucher: Voucher | None = None

    def end(self, *, seen: bool) -> None:
        assert self.voucher is not None
        if not self.future.done():
            self.future.set_result(Payment(self.amount, self.total, self.voucher, seen))

    def fail(self, error: ScappError) -> None:
        if not self.future.done():
            self.future.set_exception(error)
