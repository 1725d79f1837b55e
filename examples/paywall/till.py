"""The payee's node as the paywall needs it: a port, and the node's HTTP API behind it."""

from __future__ import annotations

from typing import Protocol

import msgspec

from scapp.channels.payments.vouchers import Voucher
from scapp.channels.types import Address, ChannelId


class ChannelTerms(msgspec.Struct, frozen=True):
    """A payment channel to this payee. `paid`: what the node's largest voucher says; durable."""

    payer: Address
    asset: Address
    paid: int


class TillRefused(Exception):
    """The node does not take the voucher; its text is meant for the buyer."""


class TillUnreachable(Exception):
    """The node does not answer."""


class Till(Protocol):
    """The payee's node."""

    @property
    def payee(self) -> Address: ...

    @property
    def endpoint(self) -> str:
        """Where payers reach the node, host:port."""
        ...

    async def channel(self, channel: ChannelId) -> ChannelTerms | None:
        """None when the node is not paid in such a channel. Raises TillUnreachable."""
        ...

    async def take(self, voucher: Voucher) -> int:
        """What was paid in the channel altogether, once that is durable. Raises TillRefused,
        TillUnreachable."""
        ...
