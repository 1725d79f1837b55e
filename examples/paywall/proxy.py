"""The paywall: takes requests, sees that they are paid, passes them on, and counts what it serves (README.md).

A request is checked, paid for and passed on in that order. What the service does not answer is not charged.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp
from aiohttp import hdrs, web
from yarl import URL

from examples.paywall.accounts import Accounts, Refused
from examples.paywall.credit import ATTEMPTS_MAX, Account, Visit
from examples.paywall.offers import (
    CREDIT_HEADER,
    KEY_HEADER,
    PRICE_HEADER,
    STREAM_HEADER,
    VOUCHER_HEADER,
    offer,
    price_text,
)
from examples.paywall.passing import address_at, body_bytes, first_byte, is_plain, passed_on
from examples.paywall.prices import Price, PriceList
from examples.paywall.sale import Sale, Unpaid
from examples.paywall.spending import Spending
from examples.paywall.till import Till, TillUnreachable

logger = logging.getLogger("paywall")

CHUNK_BYTES = 65_536
KEY_CHARACTERS_MAX = 255


@dataclass(frozen=True)
class Settings:
    """`service`: where requests go. `grace_s`: how long a body waits for further payment before it is cut."""

    service: URL
    grace_s: float = 10.0
    service_silence_s: float = 60.0


class Paywall:
    """Sells all paths and methods of a service. `clock_ms` gives milliseconds since 1970."""

    def __init__(
        self,
        till: Till,
        prices: PriceList,
        spending: Spending,
        settings: Settings,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._till = till
        self._prices = prices
        self._spending = spending
        self._settings = settings
        self._clock_ms = clock_ms
        self._accounts = Accounts(till, spending, prices.asset)
        self._busy: set[tuple[bytes, str]] = set()  # idempotency keys of requests that are being served
        self._session: aiohttp.ClientSession | None = None

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        app.on_startup.append(self._start)
        app.on_cleanup.append(self._stop)
        return app

    async def _start(self, _: web.Application) -> None:
        silence = self._settings.service_silence_s
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=silence, sock_read=silence)
        # Bodies pass as they are: it is their bytes that are sold.
        self._session = aiohttp.ClientSession(auto_decompress=False, timeout=timeout)
        self._spending.forget(self._clock_ms())

    async def _stop(self, _: web.Application) -> None:
        if self._session is not None:
            await self._session.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        """One request, from its voucher to its last byte."""
        if not is_plain(request.rel_url):
            return _problem(400, "bad_request", "the path has dot segments")
        if hdrs.UPGRADE in request.headers:
            return _problem(501, "not_supported", "upgraded connections are not sold")
        price = self._prices.of(request.path)
        if price.is_free:
            return await self._serve(request, None)
        account: Account | None = None
        try:
            presented = request.headers.get(VOUCHER_HEADER, "")
            if not presented:
                raise Unpaid(f"send a voucher in the header {VOUCHER_HEADER}", price.request)
            async with self._accounts.present(presented) as account:
                try:
                    return await self._sell(request, account, price)
                except Unpaid:
                    if not await self._accounts.refresh(account):
                        raise
                    return await self._sell(request, account, price)
        except Refused as refused:
            if refused.status == 400:
                return _problem(400, "bad_request", refused.reason)
            return self._offer(price, refused.reason, account, price.request)
        except Unpaid as unpaid:
            return self._offer(price, unpaid.reason, account, unpaid.missing)
        except TillUnreachable as error:
            logger.error("the payee's node does not answer: %s", error)
            return _problem(503, "not_now", "payments cannot be checked at the moment")

    def _offer(self, price: Price, reason: str, account: Account | None, missing: int) -> web.Response:
        return offer(self._till, self._prices.asset, price, reason, account, missing)

    async def _sell(self, request: web.Request, account: Account, price: Price) -> web.StreamResponse:
        key, what = request.headers.get(KEY_HEADER, ""), f"{request.method} {request.path_qs}"
        visit = (self._spending.visit(account.channel, key) if key else None) or Visit(what)
        busy = (account.channel, key)
        if len(key) > KEY_CHARACTERS_MAX:
            return _problem(400, "bad_request", f"{KEY_HEADER} has more than {KEY_CHARACTERS_MAX} characters")
        if visit.what != what:
            return _problem(422, "idempotency", f"this {KEY_HEADER} was used for {visit.what}")
        if busy in self._busy:
            return _problem(409, "idempotency", f"a request with this {KEY_HEADER} is being served")
        if visit.attempts >= ATTEMPTS_MAX:
            return _problem(422, "idempotency", f"this {KEY_HEADER} was used {visit.attempts} times")
        sale = Sale(account, price, visit, lambda: self._spending.save(account, key, visit, self._clock_ms()))
        if key:
            self._busy.add(busy)
        try:
            sale.begin()
            return await self._serve(request, sale)
        finally:
            self._busy.discard(busy)
            sale.give_back()

    async def _serve(self, request: web.Request, sale: Sale | None) -> web.StreamResponse:
        """Pass the request on, and the answer back. Raises Unpaid before anything of the answer has left."""
        try:
            answer = await self._ask(request)
        except (aiohttp.ClientError, TimeoutError) as error:
            logger.warning("%s %s: the service does not answer: %r", request.method, request.path, error)
            return _problem(502, "bad_gateway", "the service does not answer")
        async with answer:
            if sale is not None and answer.status < 500:
                sale.position = first_byte(answer.status, answer.headers)
                size = body_bytes(request.method, answer)
                # What has an effect has had it by now: its answer is sent as far as the credit reaches.
                if size is not None and request.method == hdrs.METH_GET and STREAM_HEADER not in request.headers:
                    sale.check_body(size)
                sale.charge_request()
                return await self._pass_back(request, answer, sale)
            return await self._pass_back(request, answer, None)

    async def _ask(self, request: web.Request) -> aiohttp.ClientResponse:
        assert self._session is not None
        headers = passed_on(request.headers)
        headers.add(hdrs.X_FORWARDED_FOR, request.remote or "unknown")
        headers[hdrs.X_FORWARDED_HOST] = request.host
        headers[hdrs.X_FORWARDED_PROTO] = request.scheme
        url = address_at(self._settings.service, request.rel_url)
        body = request.content if request.body_exists else None
        return await self._session.request(request.method, url, headers=headers, data=body, allow_redirects=False)

    async def _pass_back(
        self, request: web.Request, answer: aiohttp.ClientResponse, sale: Sale | None
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=passed_on(answer.headers))
        if sale is not None:
            response.headers[CREDIT_HEADER] = str(sale.account.credit)
            response.headers[PRICE_HEADER] = price_text(sale.price)
        try:
            await response.prepare(request)
            async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
                if not await self._send(response, chunk, sale):
                    self._cut(request, "nothing more was paid")
                    return response
            await response.write_eof()
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            # Of the service or of the buyer; an answer that has begun can only be broken off.
            self._cut(request, repr(error))
        return response

    async def _send(self, response: web.StreamResponse, chunk: bytes, sale: Sale | None) -> bool:
        """All of a chunk, as far as it is paid; False when it is not, and nobody paid in time."""
        while sale is not None and chunk:
            paid = sale.charge_body(len(chunk))
            if paid:
                await response.write(chunk[:paid])
                chunk = chunk[paid:]
            elif not await self._accounts.wait_for_more(sale.account, self._settings.grace_s):
                return False
        if chunk:
            await response.write(chunk)
        return True

    def _cut(self, request: web.Request, reason: str) -> None:
        """End the connection without the end of the body, so that nobody takes a part for the whole."""
        logger.info("%s %s: cut: %s", request.method, request.path, reason)
        if request.transport is not None:
            request.transport.close()


def _problem(status: int, error: str, reason: str) -> web.Response:
    return web.json_response({"error": error, "reason": reason}, status=status)
