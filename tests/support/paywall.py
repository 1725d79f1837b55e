"""A paywall over real payments for tests: two nodes' purses, a till and a wallet on them, a service with ranges."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from yarl import URL

from examples.paywall.prices import Price, PriceList
from examples.paywall.proxy import Paywall, Settings
from examples.paywall.spending import Spending
from examples.paywall.till import ChannelTerms, TillRefused, TillUnreachable
from scapp.channels.errors import LocalError, PeerError
from scapp.channels.nitro_json import write_voucher
from scapp.channels.payments.vouchers import Voucher
from scapp.channels.transport.fake import FakeNetwork
from scapp.channels.types import Address, ChannelId
from tests.support.payments import ASSET, CHANNEL, PAYEE, PAYER, PayingNode, terms

FUNDS = 1_000_000
BODY = b"".join(hashlib.sha256(number.to_bytes(4, "big")).digest() for number in range(8_000))  # 256,000 bytes


class NodeTill:
    """The payee's side of a `PayingNode`."""

    def __init__(self, node: PayingNode) -> None:
        self.node = node
        self.asked = 0
        self.reachable = True

    @property
    def payee(self) -> Address:
        return self.node.signer.address

    @property
    def endpoint(self) -> str:
        return "payee.example:9735"

    async def channel(self, channel: ChannelId) -> ChannelTerms | None:
        self._reach()
        try:
            purse = self.node.payments.purse(channel).purse
        except LocalError:
            return None
        return ChannelTerms(purse.payer, purse.asset, purse.credited)

    async def take(self, voucher: Voucher) -> int:
        self._reach()
        try:
            await self.node.payments.take(voucher)
        except (LocalError, PeerError) as error:
            raise TillRefused(str(error)) from error
        return self.node.payments.purse(voucher.channel).purse.credited

    def _reach(self) -> None:
        self.asked += 1
        if not self.reachable:
            raise TillUnreachable("connection refused")


class NodeWallet:
    """The payer's side."""

    def __init__(self, node: PayingNode) -> None:
        self.node = node

    @property
    def payee(self) -> Address:
        return PAYEE.address

    async def pay(self, amount: int) -> str:
        return write_voucher((await self.node.payments.pay(CHANNEL, amount)).voucher)

    async def voucher(self) -> str:
        largest = self.node.payments.purse(CHANNEL).purse.largest
        return write_voucher(largest) if largest is not None else ""


class Service:
    """What is sold: `/file` with ranges, `/endless` in pieces, `/echo` of what is posted, and faults."""

    def __init__(self) -> None:
        self.requests: list[web.BaseRequest] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.counts: Counter[str] = Counter()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.append(request)
        self.counts[f"{request.method} {request.path}"] += 1
        await self.gate.wait()
        if request.path.endswith("/file"):
            return self._file(request)
        if request.path.endswith("/endless"):
            return await self._endless(request)
        if request.path.endswith("/broken"):
            return web.Response(status=500, text="out of order")
        if request.path.endswith("/missing"):
            return web.Response(status=404, text="no such thing")
        if request.path.endswith("/hang-up"):
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        body = await request.read()
        return web.json_response({"method": request.method, "bytes": len(body), "headers": dict(request.headers)})

    def _file(self, request: web.BaseRequest) -> web.Response:
        several = request.headers.get("Range", "").removeprefix("bytes=").split(",")
        if len(several) > 1:
            parts = [
                f"--b\r\nContent-Range: bytes {each}/{len(BODY)}\r\n\r\n".encode() + _part(each) for each in several
            ]
            kind = {"Content-Type": "multipart/byteranges; boundary=b"}
            return web.Response(status=206, body=b"\r\n".join((*parts, b"--b--\r\n")), headers=kind)
        wanted = request.http_range
        if wanted.start is None and wanted.stop is None:
            return web.Response(body=BODY, headers={"Accept-Ranges": "bytes", "Set-Cookie": "a=b"})
        start, stop, _ = wanted.indices(len(BODY))
        if start >= stop:
            return web.Response(status=416, headers={"Content-Range": f"bytes */{len(BODY)}"})
        headers = {"Content-Range": f"bytes {start}-{stop - 1}/{len(BODY)}"}
        return web.Response(status=206, body=BODY[start:stop], headers=headers)

    async def _endless(self, request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for at in range(0, len(BODY), 1000):
            await response.write(BODY[at : at + 1000])
            await asyncio.sleep(0)
        return response


def _part(text: str) -> bytes:
    """Of the file: `first-last`."""
    first, last = map(int, text.split("-"))
    return BODY[first : last + 1]


class Shop:
    """Everything together. `url` is the paywall's; `restart` gives it a new life on the same file."""

    def __init__(self, path: Path, price: Price, by_prefix: dict[str, Price], grace_s: float) -> None:
        network = FakeNetwork(automatic=True)
        self.network = network
        self.payer, self.payee = PayingNode(PAYER, network), PayingNode(PAYEE, network)
        self.till, self.wallet = NodeTill(self.payee), NodeWallet(self.payer)
        self.service = Service()
        self.prices = PriceList(ASSET, price, by_prefix)
        self.url = ""
        self._path = path
        self._grace_s = grace_s
        self._runners: list[web.ServerRunner | web.AppRunner] = []

    async def start(self, *, linked: bool) -> None:
        await self.payer.start(*([PAYEE.address] if linked else []))
        await self.payee.start()
        for node in (self.payer, self.payee):
            await node.payments.open(terms(start=FUNDS))
        service = web.ServerRunner(web.Server(self.service.handle), shutdown_timeout=1)
        self._service_url = URL(await self._listen(service)) / "below"
        await self.open()
        self.session = aiohttp.ClientSession()

    async def open(self) -> None:
        """The paywall begins."""
        self.spending = Spending(self._path)
        self.paywall = Paywall(self.till, self.prices, self.spending, Settings(self._service_url, self._grace_s, 5.0))
        self._front = web.AppRunner(self.paywall.application(), access_log=None, shutdown_timeout=1)
        self.url = await self._listen(self._front)

    async def close(self) -> None:
        await self._front.cleanup()
        self.spending.close()
        self._runners.remove(self._front)

    async def _listen(self, runner: web.ServerRunner | web.AppRunner) -> str:
        await runner.setup()
        self._runners.append(runner)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        return f"http://{host}:{port}"

    async def stop(self) -> None:
        await self.session.close()
        for runner in reversed(self._runners):
            await runner.cleanup()
        self.spending.close()
        await self.payer.stop()
        await self.payee.stop()

    async def get(self, path: str, voucher: str = "", **headers: str) -> tuple[int, Any]:
        """Status, and the body: parsed if it is a document, else its bytes."""
        return await self.send("GET", path, voucher, **headers)

    async def send(self, method: str, path: str, voucher: str = "", data: bytes | None = None, **headers: str) -> Any:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if voucher:
            sent["Scapp-Voucher"] = voucher
        async with self.session.request(method, URL(self.url + path, encoded=True), headers=sent, data=data) as answer:
            self.answer = answer
            return answer.status, (await answer.json() if answer.content_type.endswith("json") else await answer.read())

    async def read_into(self, got: bytearray, path: str, voucher: str, **headers: str) -> None:
        """A body as it comes, also when it is cut."""
        async with self.session.get(f"{self.url}{path}", headers={"Scapp-Voucher": voucher, **headers}) as answer:
            assert answer.status == 200
            async for chunk in answer.content.iter_any():
                got += chunk

    def spent(self) -> int:
        return self.spending.spent(CHANNEL)


@asynccontextmanager
async def shop(
    path: Path,
    price: Price,
    by_prefix: dict[str, Price] | None = None,
    *,
    grace_s: float = 0.0,
    linked: bool = False,
) -> AsyncIterator[Shop]:
    made = Shop(path / "spending.db", price, by_prefix or {}, grace_s)
    await made.start(linked=linked)
    try:
        yield made
    finally:
        await made.stop()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.002)
