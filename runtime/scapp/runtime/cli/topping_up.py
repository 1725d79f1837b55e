"""A top-up from beginning to end, for `scapp channel top-up`: permission, announcement, deposit, use."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from scapp.runtime.cli.common import Problem

if TYPE_CHECKING:
    from scapp.runtime.client import Client
    from scapp.runtime.documents import ChannelView, ReceiptView

PAUSE_S = 1.0


def announce(node: Client, channel: str, asset: str, amount: int, message: object) -> ChannelView:
    """Permit the deposit, and have the app say that it comes. Raises Problem when the app refuses."""
    node.top_up(channel, asset, amount)
    if message is not None:
        _accepted(*node.send(channel, message))
    return node.channel(channel)


def use(node: Client, channel: str, asset: str, message: object, wait_s: float) -> bool:
    """Once the deposit is confirmed, here and at everybody else, the app is told; False when that takes longer than
    `wait_s`. Raises Problem when the app refuses for another reason."""
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        if _is_confirmed(node.channel(channel), asset):
            (receipt,) = node.send(channel, message)
            if receipt.code != "unfunded":  # another node has not seen it yet
                _accepted(receipt)
                return True
        time.sleep(PAUSE_S)
    return False


def _is_confirmed(found: ChannelView, asset: str) -> bool:
    known = found.chain.assets if found.chain is not None else []
    return any(each.asset == asset.lower() and int(each.confirmed) >= int(each.needed) for each in known)


def _accepted(receipt: ReceiptView) -> None:
    if receipt.status == "refused":
        hint = "the permission stands: `scapp send` says it again"
        raise Problem(f"{receipt.code}: {receipt.reason}", code="refused", hint=hint)
