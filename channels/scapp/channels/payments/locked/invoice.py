"""Invoices as text: what a payee asks for, signed by it, so that whoever pays knows whom and for which hash. Pure.

`scapp1` and base32 (lower case, no padding) of a MessagePack array, the payee's signature (65 bytes) at its end.
"""

from __future__ import annotations

import base64
import binascii

import msgspec

from scapp.channels.crypto import keccak256
from scapp.channels.errors import LocalError
from scapp.channels.payments.vouchers import VoucherSigner
from scapp.channels.signing import InvalidSignature, recover
from scapp.channels.types import U256_MAX, Address, Hash, Signature

PREFIX = "scapp1"
TEXT_MAX = 1_024
MEMO_MAX = 128
_DOMAIN = b"scapp: invoice".ljust(32, b"\0")
_SIGNATURE_BYTES = 65


class Invoice(msgspec.Struct, frozen=True, kw_only=True):
    """`network` tells chains and adjudicators apart (`routing.statements.network_of`), `app` is the contract at which
    the preimage of `hash` opens locks. `expires_s`: no lock for it is opened after that (seconds since 1970)."""

    network: Hash
    app: Address
    payee: Address
    asset: Address
    amount: int
    hash: bytes
    expires_s: int
    memo: str = ""


class _Body(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="1"):
    network: bytes
    app: bytes
    payee: bytes
    asset: bytes
    amount: bytes
    hash: bytes
    expires_s: int
    memo: str


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Body).decode


def write_invoice(invoice: Invoice, signer: VoucherSigner) -> str:
    """The text, signed by the payee."""
    length = max(1, (invoice.amount.bit_length() + 7) // 8)
    body = _encode(
        _Body(
            invoice.network,
            invoice.app,
            invoice.payee,
            invoice.asset,
            invoice.amount.to_bytes(length, "big"),
            invoice.hash,
            invoice.expires_s,
            invoice.memo,
        )
    )
    data = body + signer.sign(_digest(body))
    return PREFIX + base64.b32encode(data).decode("ascii").rstrip("=").lower()


def read_invoice(text: str) -> Invoice:
    """Raises LocalError for text that is no invoice; who signed it is its payee."""
    text = text.strip()
    if len(text) > TEXT_MAX or not is_invoice(text):
        raise LocalError(f"an invoice begins with {PREFIX} and has {TEXT_MAX} characters at most")
    try:
        body, signature = _parts(text)
        found = _decode(body)
        signed = recover(_digest(body), Signature(signature)) == found.payee
    except (ValueError, binascii.Error, RecursionError, InvalidSignature):  # msgspec's own errors are ValueErrors
        raise LocalError("the invoice cannot be read: it is damaged, or of another version") from None
    if not signed:
        raise LocalError("the invoice is damaged: its payee has not signed this")
    lengths = tuple(map(len, (found.network, found.app, found.asset, found.hash)))
    amount = int.from_bytes(found.amount, "big")
    if lengths != (32, 20, 20, 32) or not 0 < amount <= U256_MAX or not 0 < found.expires_s < 2**48:
        raise LocalError("the invoice says what no payee would: its fields are out of range")
    if len(found.memo.encode()) > MEMO_MAX:
        raise LocalError(f"the invoice's memo is longer than {MEMO_MAX} bytes")
    return Invoice(
        network=Hash(found.network),
        app=Address(found.app),
        payee=Address(found.payee),
        asset=Address(found.asset),
        amount=amount,
        hash=found.hash,
        expires_s=found.expires_s,
        memo=found.memo,
    )


def expires_s(text: str) -> int:
    """When an invoice expires, whoever signed it; 0 for text that can never be paid."""
    try:
        return _decode(_parts(text)[0]).expires_s
    except (ValueError, binascii.Error, RecursionError):
        return 0


def _parts(text: str) -> tuple[bytes, bytes]:
    """What is signed, and the signature."""
    encoded = text[len(PREFIX) :].upper()
    data = base64.b32decode(encoded + "=" * (-len(encoded) % 8))
    return data[:-_SIGNATURE_BYTES], data[-_SIGNATURE_BYTES:]


def is_invoice(text: str) -> bool:
    """Does it look like one?"""
    return text.startswith(PREFIX)


def _digest(body: bytes) -> Hash:
    return Hash(keccak256(_DOMAIN + body))
