"""What payer and payee say to each other (docs/reference/payments.md), as MessagePack arrays whose tags begin "p:".

Everything here is a peer's claim until `book` has checked it. Decoding checks shapes and lengths only. None of it has
to arrive: a voucher is said again until it is seen, and repeated, reordered or stale ones change nothing.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from scapp.channels.channel.messages import B32, B65, MalformedMessage, Short

ITEMS_MAX = 1_024
"""Channels in one message."""

NO_TOKEN = bytes(16)
Token = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]


class Vouchers(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="p:vouchers"):
    """From the payer: (channel, total, signature) of the newest voucher of each of several channels."""

    items: Annotated[tuple[tuple[B32, B32, B65], ...], msgspec.Meta(min_length=1, max_length=ITEMS_MAX)]


class VouchersSeen(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="p:seen"):
    """From the payee: (channel, total) of the largest voucher it holds durably."""

    items: Annotated[tuple[tuple[B32, B32], ...], msgspec.Meta(min_length=1, max_length=ITEMS_MAX)]


class VoucherRefusal(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="p:refused"):
    """From the payee: it does not take the voucher for `total`, and why."""

    channel: B32
    total: B32
    reason: Short


class VoucherWanted(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="p:want"):
    """Ask the other party for the largest voucher it knows. `token` is that of the asker's restore, or `NO_TOKEN`."""

    channel: B32
    token: Token


class VoucherHeld(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="p:held"):
    """Answer to `VoucherWanted`; `total` zero and no signature for none. `token` is echoed only by a node that does not
    recover itself."""

    channel: B32
    token: Token
    total: B32
    signature: Annotated[bytes, msgspec.Meta(max_length=65)]


PaymentMessage = Vouchers | VouchersSeen | VoucherRefusal | VoucherWanted | VoucherHeld

encode_payment_message = msgspec.msgpack.Encoder().encode
_decoder: msgspec.msgpack.Decoder[PaymentMessage] = msgspec.msgpack.Decoder(PaymentMessage)


def decode_payment_message(data: bytes) -> PaymentMessage:
    """Raises MalformedMessage."""
    try:
        return _decoder.decode(data)
    except (ValueError, RecursionError) as error:  # msgspec's own errors are ValueErrors
        raise MalformedMessage(f"message of {len(data)} bytes cannot be read: {error}") from error
