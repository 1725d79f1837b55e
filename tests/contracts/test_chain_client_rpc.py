"""The contract of chain clients, over JSON-RPC to anvil by HTTP and WebSocket; and several endpoints."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest
from aiohttp import web

from scapp.channels.chain import rpc_link
from scapp.channels.chain.calls import TransferTokens, encode_call
from scapp.channels.chain.client import Refused, Unavailable, WrongChain
from scapp.channels.chain.rpc import RpcClient
from scapp.channels.types import Address, Hash
from scapp.runtime.devchain import DEPLOYER
from tests.chain.anvil import Chain, running
from tests.contracts.chain_client_contract import CHAIN_ID, Bench, ChainClientContract
from tests.support.chain_stories import PAYER, RICH


class RpcBench(Bench):
    def __init__(self, chain: Chain, scheme: str) -> None:
        self.chain = chain
        self.client = RpcClient([chain.url.replace("http", scheme)], CHAIN_ID)
        self.adjudicator = Address(chain.contracts["NitroAdjudicator"])
        self.token = Address(chain.contracts["Token"])
        chain.fund(PAYER.address, RICH)
        chain.send(DEPLOYER, self.token, encode_call(TransferTokens(PAYER.address, RICH)))

    async def mine(self, leave: bool = False) -> None:
        self.chain.rpc("evm_mine")

    async def reorganise(self, depth: int) -> None:
        self.chain.rpc("anvil_reorg", depth, [])
        self.chain.rpc("evm_mine")


@pytest.fixture
def chain():
    with running() as started:  # one each: snapshots and reorganisations do not mix
        yield started


class TestRpc(ChainClientContract):
    @pytest.fixture(params=["http", "ws"])
    async def bench(self, request, chain):
        bench = RpcBench(chain, request.param)
        yield bench
        await bench.client.close()


async def test_a_websocket_tells_of_new_blocks(chain):
    """Long before the time is over."""
    client = RpcClient([chain.url.replace("http", "ws")], CHAIN_ID)
    await client.head()
    await client.changed(0.2)  # subscribes
    try:
        async with asyncio.timeout(30):
            while True:
                waiting = asyncio.ensure_future(client.changed(60))
                await asyncio.sleep(0.2)
                chain.rpc("evm_mine")
                done, _ = await asyncio.wait([waiting], timeout=2)
                if done:
                    break
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)
    finally:
        await client.close()


class Endpoint:
    """A JSON-RPC endpoint that answers as it is told: a result for each method, a status, or nothing for long."""

    def __init__(self, **results) -> None:
        self.results = {"eth_chainId": hex(CHAIN_ID), "eth_getBalance": "0x7", **results}
        self.status = 200
        self.hangs = False
        self.asked: list[str] = []

    async def answer(self, request):
        body = json.loads(await request.read())
        if self.hangs:
            await asyncio.sleep(60)
        if self.status != 200:
            return web.Response(status=self.status, text="no")
        calls = body if isinstance(body, list) else [body]
        answers = []
        for call in calls:
            self.asked.append(call["method"])
            found = self.results.get(call["method"])
            part = {"error": found} if isinstance(found, dict) and "message" in found else {"result": found}
            answers.append({"jsonrpc": "2.0", "id": call["id"], **part})
        return web.json_response(answers if isinstance(body, list) else answers[0])

    @contextlib.asynccontextmanager
    async def up(self):
        app = web.Application()
        app.router.add_post("/{path:.*}", self.answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            yield f"http://user:secret@127.0.0.1:{runner.addresses[0][1]}/key/abc?token=def"
        finally:
            await runner.cleanup()


@contextlib.asynccontextmanager
async def two(first: Endpoint, second: Endpoint, **how):
    """A client of both, and a clock that is set by hand."""
    clock = [0.0]
    async with first.up() as one, second.up() as other:
        client = RpcClient([one, other], CHAIN_ID, clock=lambda: clock[0], **how)
        try:
            yield client, clock
        finally:
            await client.close()


@pytest.mark.parametrize("status", [500, 429, 403])
async def test_an_endpoint_that_fails_rests_and_the_next_answers(status):
    """For a while that doubles; then it is asked again, because it stands first."""
    first, second = Endpoint(eth_getBalance="0x1"), Endpoint(eth_getBalance="0x2")
    async with two(first, second) as (client, clock):
        assert await client.balance(PAYER.address) == 1
        first.status = status
        assert await client.balance(PAYER.address) == 2
        assert client.endpoint == client.endpoints[1]
        first.status = 200
        assert await client.balance(PAYER.address) == 2
        clock[0] = 1.5
        assert await client.balance(PAYER.address) == 1
        first.status = second.status = status
        with pytest.raises(Unavailable, match="no endpoint of the chain answers"):
            await client.balance(PAYER.address)


async def test_an_endpoint_that_hangs_is_given_up():
    """After the time a request may take."""
    first, second = Endpoint(), Endpoint(eth_getBalance="0x2")
    async with two(first, second, timeout_s=1.0) as (client, _):
        first.hangs = True
        assert await client.balance(PAYER.address) == 2


async def test_a_busy_endpoint_is_passed_over_and_a_refusal_is_not():
    """A limit of the endpoint is its own; what the chain refuses the next endpoint would refuse as well."""
    first, second = Endpoint(), Endpoint(eth_getBalance="0x2")
    async with two(first, second) as (client, clock):
        first.results["eth_getBalance"] = {
            "code": -32005,
            "message": "daily request count exceeded, request rate limited",
        }
        assert await client.balance(PAYER.address) == 2
        clock[0] = 100
        first.results["eth_sendRawTransaction"] = {"code": -32000, "message": "nonce too low: next nonce 5"}
        with pytest.raises(Refused) as refused:
            await client.send(b"\x02")
        assert refused.value.kind == "nonce-too-low"
        assert "eth_sendRawTransaction" not in second.asked


async def test_an_endpoint_of_another_chain_is_not_used():
    """It is passed over; when there is no other, that is said."""
    first, second = Endpoint(eth_chainId="0x1"), Endpoint(eth_getBalance="0x2")
    async with two(first, second) as (client, _):
        assert await client.balance(PAYER.address) == 2
        assert "eth_getBalance" not in first.asked
    async with two(first, Endpoint(eth_chainId="0x2")) as (client, _):
        with pytest.raises(WrongChain, match="chain 1; configured is chain 1337"):
            await client.balance(PAYER.address)


class SocketEndpoint:
    """Answers over WebSocket, and hangs up when told: before an answer, or after it."""

    hangs_up = ""

    async def talk(self, request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            call = json.loads(message.data)
            if self.hangs_up == "before" and call["method"] == "eth_getBalance":
                break
            await socket.send_json({"jsonrpc": "2.0", "id": call["id"], "result": hex(CHAIN_ID)})
            if self.hangs_up == "after" and call["method"] == "eth_getBalance":
                break
        await socket.close()
        return socket


async def test_a_websocket_that_ends_is_opened_again():
    """Between two questions nobody notices; in the middle of one the endpoint rests for a while."""
    endpoint, clock = SocketEndpoint(), [0.0]
    app = web.Application()
    app.router.add_get("/", endpoint.talk)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    client = RpcClient([f"ws://127.0.0.1:{runner.addresses[0][1]}/"], CHAIN_ID, clock=lambda: clock[0])
    try:
        endpoint.hangs_up = "after"
        assert await client.balance(PAYER.address) == CHAIN_ID
        async with asyncio.timeout(10):
            await client.changed(60)  # the end of a connection wakes as well
        assert await client.balance(PAYER.address) == CHAIN_ID
        endpoint.hangs_up = "before"
        await client.changed(0.2)
        with pytest.raises(Unavailable, match="the connection was closed"):
            await client.balance(PAYER.address)
        endpoint.hangs_up = ""
        with pytest.raises(Unavailable):
            await client.balance(PAYER.address)
        clock[0] = 2
        assert await client.balance(PAYER.address) == CHAIN_ID
    finally:
        await client.close()
        await runner.cleanup()


@pytest.mark.parametrize("nonsense", ["", "no hex", None, 7, [], {"a": 1}, "0x", "0xzz"])
async def test_nonsense_is_a_fault_of_the_endpoint(nonsense):
    """The next one answers."""
    first, second = Endpoint(eth_getBalance=nonsense), Endpoint(eth_getBalance="0x2")
    async with two(first, second) as (client, _):
        assert await client.balance(PAYER.address) == 2
        assert client.endpoint == client.endpoints[1]


async def test_a_shown_endpoint_has_no_secrets():
    """Neither user nor path nor query; and what is no endpoint is refused."""
    async with two(Endpoint(), Endpoint()) as (client, _):
        for shown in client.endpoints:
            assert shown.startswith("http://127.0.0.1:")
            assert not {"user", "secret", "abc", "def"} & set(shown.replace("/", ":").split(":"))
    for wrong in ("ftp://example.org", "example.org:8545", ""):
        with pytest.raises(ValueError, match="is no endpoint"):
            RpcClient([wrong])
    with pytest.raises(ValueError, match="at least one"):
        RpcClient([])


async def test_calldata_that_an_endpoint_does_not_tell_is_no_fault():
    """It is a hint: an endpoint without the method is as good as before."""
    async with two(Endpoint(eth_getTransactionByHash={"message": "method not found"}), Endpoint()) as (client, _):
        assert await client.calldata([Hash(b"\x01" * 32)]) == [None]
        assert await client.balance(PAYER.address) == 7


async def test_an_answer_that_never_ends_is_given_up(monkeypatch):
    """Its length is bounded after unpacking, so that an endpoint cannot fill the memory; the next one is asked."""
    monkeypatch.setattr(rpc_link, "ANSWER_BYTES_MAX", 100_000)
    first, second = Endpoint(eth_getBalance="0x" + "0" * 1_000_000), Endpoint()
    async with two(first, second) as (client, _):
        assert await client.balance(PAYER.address) == 7
