"""Vouchers of one payment channel: what the payer signs, what the payee keeps (docs/reference/nitro.md section 11).

A voucher's amount is everything paid so far, so one that is lost or comes twice or late changes nothing. A `Purse` is a
value: each function gives the next one. A new voucher must be durable at the payer before it leaves, or a restart would
pay less than was promised; at the payee before what it pays for is given away.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from scapp.channels.errors import LocalError, PeerError
from scapp.channels.signing import Verifier
from scapp.channels.state import encode_redemption, voucher_hash
from scapp.channels.types import Address, ChannelId, Hash, Signature


class VoucherSigner(Protocol):
    """`scapp.channels.signing.Signer`, as far as it is needed here."""

    @property
    def address(self) -> Address: ...

    def sign(self, voucher_hash: Hash, /) -> Signature: ...


class VoucherRefused(PeerError):
    """Not a voucher of this channel's payer within its balance; nothing changed."""


class Voucher(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """`amount`: everything paid so far in the channel, in its asset's smallest unit."""

    channel: ChannelId
    amount: int
    signature: bytes


class Purse(msgspec.Struct, frozen=True, gc=False):
    """What has been paid in one channel. `start` is the payer's balance at its beginning; `largest` the voucher that
    counts, None before the first."""

    channel: ChannelId
    payer: Address
    payee: Address
    start: int
    largest: Voucher | None = None

    @property
    def paid(self) -> int:
        return self.largest.amount if self.largest is not None else 0

    @property
    def remaining(self) -> int:
        return self.start - self.paid


def pay(purse: Purse, amount: int, signer: VoucherSigner, limit: int | None = None) -> tuple[Purse, Voucher]:
    """The payer's next voucher, which adds `amount`. Raises LocalError; `limit` bounds what one payment may be."""
    if signer.address != purse.payer:
        raise LocalError("only the payer of a channel can pay in it")
    if amount <= 0:
        raise LocalError(f"a payment of {amount}; it must be at least 1")
    if amount > purse.remaining:
        raise LocalError(f"unable to pay amount: insufficient funds: {purse.remaining} of {purse.start} remain")
    if limit is not None and amount > limit:
        raise LocalError(f"a payment of {amount} is above this payer's limit of {limit}")
    total = purse.paid + amount
    voucher = Voucher(purse.channel, total, signer.sign(voucher_hash(purse.channel, total)))
    return msgspec.structs.replace(purse, largest=voucher), voucher


def receive(purse: Purse, voucher: Voucher, me: Address, verifier: Verifier) -> tuple[Purse, int]:
    """The payee takes a voucher: the purse and what it adds, 0 for one that is known or older. Raises VoucherRefused.

    `verifier` is the payer's, kept by the caller because finding its key costs as much as a signature."""
    if voucher.channel != purse.channel:
        raise VoucherRefused(f"a voucher of channel 0x{voucher.channel.hex()}")
    if me != purse.payee:
        raise VoucherRefused("vouchers of this channel are its payee's")
    if voucher.amount > purse.start:
        raise VoucherRefused(f"channel has insufficient funds: {voucher.amount} of {purse.start}")
    if voucher.amount <= purse.paid:
        return purse, 0
    if verifier.address != purse.payer or not verifier.matches(
        voucher_hash(purse.channel, voucher.amount), voucher.signature
    ):
        raise VoucherRefused(f"wrong signer: only 0x{purse.payer.hex()} pays in this channel")
    return msgspec.structs.replace(purse, largest=voucher), voucher.amount - purse.paid


def redemption_app_data(voucher: Voucher) -> bytes:
    """App data of the state with which the payee takes `voucher.amount` on chain (turn 2, proof: the postfund)."""
    return encode_redemption(voucher.amount, Signature(voucher.signature))
