"""Vouchers: what the payer signs, what the payee keeps (docs/reference/nitro.md section 11). Pure.

A voucher's amount is everything paid so far, so one that is lost or comes twice or late changes nothing.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from scapp.channels.errors import PeerError
from scapp.channels.signing import Verifier
from scapp.channels.state import encode_redemption, voucher_hash
from scapp.channels.types import U256_MAX, Address, ChannelId, Hash, Signature


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


def sign_voucher(channel: ChannelId, total: int, signer: VoucherSigner) -> Voucher:
    """It must be durable at the payer before it leaves, or a restart would pay less than was promised."""
    return Voucher(channel, total, signer.sign(voucher_hash(channel, total)))


def is_signed(voucher: Voucher, payer: Verifier) -> bool:
    """Did the payer sign it? v need not be the right one: `redemption_app_data` mends it, and that is a fifth faster
    than to recover the signer of each (`Verifier.signed`)."""
    if not 0 < voucher.amount <= U256_MAX:
        return False
    return payer.signed(voucher_hash(voucher.channel, voucher.amount), voucher.signature)


def redemption_app_data(voucher: Voucher, payer: Verifier) -> bytes:
    """App data of the state with which the payee takes `voucher.amount` on chain (turn 2, proof: the postfund).

    Raises InvalidSignature when the payer did not sign it."""
    signature = payer.completed(voucher_hash(voucher.channel, voucher.amount), voucher.signature)
    return encode_redemption(voucher.amount, signature)
