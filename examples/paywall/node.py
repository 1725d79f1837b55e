"""Till and wallet at a node's HTTP API (`scapp.runtime.client`)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from examples.paywall.till import ChannelTerms, TillRefused, TillUnreachable
from scapp.channels.nitro_json import write_voucher
from scapp.channels.payments.vouchers import Voucher
from scapp.channels.types import Address, ChannelId
from scapp.runtime.client import Client, ClientError, Refused

T = TypeVar("T")


class _Calls:
    """The client belongs to one thread; calls take a few milliseconds each."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._thread = ThreadPoolExecutor(1, "paywall-node")

    async def call(self, what: Callable[[Client], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, what, self._client)

    def close(self) -> None:
        self._thread.shutdown()
        self._client.close()


class NodeTill:
    """Implements `till.Till`. `endpoint` is where payers reach the node, where it listens when empty."""

    def __init__(self, client: Client, endpoint: str) -> None:
        status = client.status()
        self.payee = Address(bytes.fromhex(status.address[2:]))
        self.endpoint = endpoint or status.listen
        self._calls = _Calls(client)

    async def channel(self, channel: ChannelId) -> ChannelTerms | None:
        try:
            found = await self._calls.call(lambda client: client.virtual(f"0x{channel.hex()}"))
        except ClientError as error:
            if error.code == "unknown_channel":
                return None
            raise TillUnreachable(str(error)) from error
        if found.kind != "payment" or found.role != "payee":
            return None
        payer, asset = (Address(bytes.fromhex(text[2:])) for text in (found.participants[0], found.assets[0].asset))
        return ChannelTerms(payer, asset, int(found.paid))

    async def take(self, voucher: Voucher) -> int:
        text = write_voucher(voucher)
        try:
            return int((await self._calls.call(lambda client: client.take_voucher(text))).paid)
        except Refused as error:
            raise TillRefused(str(error)) from error
        except ClientError as error:
            raise TillUnreachable(str(error)) from error

    def close(self) -> None:
        self._calls.close()


class NodeWallet:
    """Implements `buyer.Wallet` over one payment channel of the node's. Raises ClientError."""

    def __init__(self, client: Client, channel: str) -> None:
        found = client.virtual(channel)
        self._channel = found.channel_id
        self.payee = Address(bytes.fromhex(found.participants[-1][2:]))
        self._calls = _Calls(client)

    async def pay(self, amount: int) -> str:
        return (await self._calls.call(lambda client: client.pay(self._channel, amount))).voucher

    async def voucher(self) -> str:
        return (await self._calls.call(lambda client: client.voucher(self._channel))).voucher

    def close(self) -> None:
        self._calls.close()
