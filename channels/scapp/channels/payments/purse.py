"""A purse: what has been paid in one channel, folded from its events (docs/reference/payments.md). Pure.

The payer's purse and the payee's have one form; which one it is says the node's address. `book.py` decides.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from scapp.channels.errors import CorruptionError
from scapp.channels.payments.events import (
    AMOUNT_BYTES,
    PurseClosed,
    PurseEvent,
    PurseOpened,
    PurseRecovered,
    PurseRestored,
    PurseSettled,
    VoucherPaid,
    VoucherRecalled,
    VoucherTaken,
    amount_of,
)
from scapp.channels.payments.vouchers import Voucher
from scapp.channels.types import Address, ChannelId

Phase = Literal["open", "closed", "settled"]


class Purse(msgspec.Struct, frozen=True, array_like=True, gc=False, kw_only=True):
    """`start`: the payer's balance at the beginning. `largest`: the voucher that counts, None before the first.
    `payments`: how many payments the payer's own log holds; at the payee, how many vouchers it took. `final`: what the
    final state gives to the payee, once the purse is closed. `token`: of a restore that is not recovered from yet.
    `uncredited`: what vouchers have added since then; a final state that is forgotten here may make it worthless."""

    channel: ChannelId
    payer: Address
    payee: Address
    asset: Address
    start: int
    opened_ms: int
    largest: Voucher | None = None
    payments: int = 0
    phase: Phase = "open"
    final: int | None = None
    token: bytes = b""
    uncredited: int = 0

    @property
    def paid(self) -> int:
        return self.largest.amount if self.largest is not None else 0

    @property
    def credited(self) -> int:
        """What the payee may count on."""
        return self.paid - self.uncredited

    @property
    def remaining(self) -> int:
        return self.start - self.paid

    @property
    def recovering(self) -> bool:
        return bool(self.token)

    def peer_of(self, me: Address) -> Address:
        """The other party."""
        return self.payee if me == self.payer else self.payer


def create(event: PurseEvent) -> Purse:
    """The purse of a stream's first event. Raises CorruptionError for any other."""
    if not isinstance(event, PurseOpened):
        raise CorruptionError(f"a purse begins with {type(event).__name__}")
    return Purse(
        channel=ChannelId(event.channel),
        payer=Address(event.payer),
        payee=Address(event.payee),
        asset=Address(event.asset),
        start=amount_of(event.start),
        opened_ms=event.at_ms,
    )


def evolve(purse: Purse, event: PurseEvent) -> Purse:
    """The purse after the event. Raises CorruptionError for one that cannot follow."""
    change = msgspec.structs.replace
    match event:
        case VoucherPaid(total, signature, amounts):
            count = len(amounts) // AMOUNT_BYTES
            return change(purse, largest=_larger(purse, total, signature), payments=purse.payments + count)
        case VoucherTaken(total, signature):
            largest = _larger(purse, total, signature)
            uncredited = purse.uncredited + largest.amount - purse.paid if purse.token else 0
            return change(purse, largest=largest, payments=purse.payments + 1, uncredited=uncredited)
        case VoucherRecalled(total, signature):
            return change(purse, largest=_larger(purse, total, signature))
        case PurseClosed(total):
            return change(purse, phase="closed", final=amount_of(total))
        case PurseSettled():
            return change(purse, phase="settled", token=b"")
        case PurseRestored(token):
            return change(purse, token=token) if purse.phase != "settled" else purse
        case PurseRecovered():
            return change(purse, token=b"", uncredited=0)
        case PurseOpened():
            raise CorruptionError(f"purse 0x{purse.channel.hex()} is opened a second time")


def _larger(purse: Purse, total: bytes, signature: bytes) -> Voucher:
    amount = amount_of(total)
    if not purse.paid < amount <= purse.start:
        raise CorruptionError(
            f"purse 0x{purse.channel.hex()}: a voucher for {amount} after {purse.paid}, of {purse.start}"
        )
    return Voucher(purse.channel, amount, signature)


class PurseInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A purse as its owner sees it. `seen`: what the payee has said that it holds since this node started; in the
    payee's own purse what is paid. `waiting_for` says in words what it waits for, or is empty."""

    purse: Purse
    seen: int
    waiting_for: str
