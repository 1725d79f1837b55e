"""The answer 402: what has to be paid, to whom, and how."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from examples.paywall.credit import Account
from examples.paywall.prices import Price
from examples.paywall.till import Till
from scapp.channels.payments.streaming import Tariff
from scapp.channels.types import Address

VOUCHER_HEADER = "Scapp-Voucher"
STREAM_HEADER = "Scapp-Stream"
CREDIT_HEADER = "Scapp-Credit"
PRICE_HEADER = "Scapp-Price"
KEY_HEADER = "Idempotency-Key"


def price_text(price: Price) -> str:
    """A price in a header of every answer that is sold: `REQUEST, PRICE/BYTES`."""
    return f"{price.request}, {price.body.price}/{price.body.units}"


def read_body_tariff(text: str) -> Tariff:
    """What a price's text says of bodies. Raises ValueError, LocalError."""
    price, _, units = text.partition(",")[2].partition("/")
    return Tariff(int(price), int(units))


def offer(till: Till, asset: Address, price: Price, reason: str, account: Account | None, missing: int) -> web.Response:
    """Amounts are decimal texts: JSON's numbers end where payments begin. `missing` is what the next voucher has to add
    to the channel's last one."""
    document: dict[str, Any] = {
        "error": "payment_required",
        "reason": reason,
        "payee": f"0x{till.payee.hex()}",
        "endpoint": till.endpoint,
        "asset": f"0x{asset.hex()}",
        "price": {
            "request": str(price.request),
            "body": {"price": str(price.body.price), "bytes": price.body.units},
        },
        "voucher_header": VOUCHER_HEADER,
        "missing": str(missing),
    }
    if account is not None:
        document |= {
            "channel": f"0x{account.channel.hex()}",
            "paid": str(account.paid),
            "spent": str(account.spent),
            "credit": str(account.credit),
        }
    return web.json_response(document, status=402, headers={"Cache-Control": "no-store"})
