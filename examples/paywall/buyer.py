"""The other side: fetches what is behind a paywall, pays what it asks for within a limit, and goes on where it broke.

What is paid beyond need is not lost: it stays as credit with the seller.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

import aiohttp
import msgspec
from aiohttp import hdrs

from examples.paywall.offers import KEY_HEADER, PRICE_HEADER, STREAM_HEADER, VOUCHER_HEADER, read_body_tariff
from scapp.channels.errors import LocalError
from scapp.channels.payments.streaming import PaymentStream
from scapp.channels.types import Address

ATTEMPTS_MAX = 8
OFFER_BYTES_MAX = 65_536
CHUNK_BYTES = 65_536


class Wallet(Protocol):
    """The payer's node, as far as one payment channel goes."""

    @property
    def payee(self) -> Address: ...

    async def pay(self, amount: int) -> str:
        """Pay so much more; a voucher over it in go-nitro's JSON, once it is durable."""
        ...

    async def voucher(self) -> str:
        """The newest voucher, "" when nothing was paid yet."""
        ...


class NotBought(Exception):
    """The seller asks for more than the limit, for somebody else, or does not answer as it should."""


class _BodyPrice(msgspec.Struct):
    price: str
    bytes: int


class _Prices(msgspec.Struct):
    request: str
    body: _BodyPrice


class _Offer(msgspec.Struct):
    payee: str
    missing: str
    reason: str
    price: _Prices


class Buyer:
    """`limit`: the most that all of this buyer's requests may pay."""

    def __init__(self, session: aiohttp.ClientSession, wallet: Wallet, limit: int) -> None:
        self.paid = 0
        self._session = session
        self._wallet = wallet
        self._limit = limit

    async def fetch(self, url: str, write: Callable[[bytes], Awaitable[object]], *, stream: bool = False) -> int:
        """GET the whole of `url`; how many bytes it has. With `stream` it is paid while it comes, a chunk ahead, by
        vouchers that the payer's node brings; without, when it is asked for. Raises NotBought, aiohttp.ClientError."""
        key, received, fault = uuid.uuid4().hex, 0, ""
        voucher = await self._wallet.voucher()
        for _ in range(ATTEMPTS_MAX):
            async with self._session.get(url, headers=_headers(key, voucher, received, stream)) as answer:
                if answer.status == 402:
                    offer = await self._read_offer(answer)
                    fault, voucher = offer.reason, await self._pay(int(offer.missing))
                    continue
                if answer.status not in (200, 206):
                    raise NotBought(f"{url}: {answer.status} {answer.reason}")
                ahead = self._stream(answer) if stream else None
                skip = received if answer.status == 200 else 0  # the service gives no ranges
                try:
                    async for chunk in self._read(answer, ahead):
                        new, skip = chunk[skip:], max(0, skip - len(chunk))
                        await write(new)
                        received += len(new)
                    return received
                except aiohttp.ClientPayloadError as error:
                    fault, voucher = f"cut after {received} bytes: {error}", await self._wallet.voucher()
        raise NotBought(f"{url}: not served after {ATTEMPTS_MAX} attempts: {fault}")

    def _stream(self, answer: aiohttp.ClientResponse) -> PaymentStream:
        text = answer.headers.get(PRICE_HEADER, "0, 0/1")
        try:
            return PaymentStream(self._pay, read_body_tariff(text), self._limit - self.paid)
        except (ValueError, LocalError):
            raise NotBought(f"a price that cannot be read: {text[:100]}") from None

    async def _read(self, answer: aiohttp.ClientResponse, ahead: PaymentStream | None) -> AsyncIterator[bytes]:
        """The body, with the next chunk paid before it is waited for."""
        read = 0
        while True:
            if ahead is not None:
                await ahead.use(read + CHUNK_BYTES)
            chunk = await answer.content.read(CHUNK_BYTES)
            if not chunk:
                return
            read += len(chunk)
            yield chunk

    async def _read_offer(self, answer: aiohttp.ClientResponse) -> _Offer:
        data = await answer.content.read(OFFER_BYTES_MAX)
        try:
            offer = msgspec.json.decode(data, type=_Offer)
            valid = int(offer.missing) >= 0 and int(offer.price.body.price) >= 0 and offer.price.body.bytes > 0
        except ValueError as error:  # msgspec's own errors are ValueErrors
            raise NotBought(f"an offer that cannot be read: {error}") from None
        if not valid:
            raise NotBought(f"an offer that makes no sense: {data[:200]!r}")
        if offer.payee.lower() != f"0x{self._wallet.payee.hex()}":
            raise NotBought(f"to be paid to {offer.payee}; the payment channel is to 0x{self._wallet.payee.hex()}")
        return offer

    async def _pay(self, amount: int) -> str:
        if amount == 0:
            return await self._wallet.voucher()
        if self.paid + amount > self._limit:
            raise NotBought(f"{amount} more to pay after {self.paid}; the limit is {self._limit}")
        self.paid += amount
        return await self._wallet.pay(amount)


def _headers(key: str, voucher: str, received: int, stream: bool) -> dict[str, str]:
    headers = {KEY_HEADER: key, hdrs.ACCEPT_ENCODING: "identity"}
    if voucher:
        headers[VOUCHER_HEADER] = voucher
    if received:
        headers[hdrs.RANGE] = f"bytes={received}-"
    if stream:
        headers[STREAM_HEADER] = "1"
    return headers
