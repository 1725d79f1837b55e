"""The paywall, with a real service behind it, a real HTTP client before it and real vouchers: what is served is paid,
nothing is paid twice, and nothing of an answer leaves unpaid."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from examples.paywall import accounts
from examples.paywall.buyer import Buyer, NotBought
from examples.paywall.credit import Account, Visit
from examples.paywall.passing import is_plain
from examples.paywall.prices import Price, PriceList
from scapp.channels.nitro_json import read_voucher, write_voucher
from scapp.channels.payments.streaming import Tariff
from scapp.channels.payments.vouchers import Voucher, sign_voucher
from scapp.channels.types import ChannelId
from tests.support.payments import ASSET, CHANNEL, MALLORY, PAYEE, PAYER, terms
from tests.support.paywall import BODY, FUNDS, shop, until

PER_REQUEST = Price(request=5)
PER_BYTE = Price(request=5, body=Tariff(3, 1_000))
BODY_PRICE = 3 * len(BODY) // 1_000
WHOLE = 5 + BODY_PRICE


async def test_without_voucher_the_answer_says_what_to_pay(tmp_path: Path) -> None:
    """402, with everything a client needs to pay; the service hears nothing."""
    async with shop(tmp_path, PER_BYTE) as it:
        status, offer = await it.get("/file")
        assert status == 402
        assert offer == {
            "error": "payment_required",
            "reason": "send a voucher in the header Scapp-Voucher",
            "payee": f"0x{PAYEE.address.hex()}",
            "endpoint": "payee.example:9735",
            "asset": f"0x{ASSET.hex()}",
            "price": {"request": "5", "body": {"price": "3", "bytes": 1000}},
            "voucher_header": "Scapp-Voucher",
            "missing": "5",
        }
        assert it.answer.headers["Cache-Control"] == "no-store"
        assert not it.service.requests


async def test_a_voucher_buys_requests_until_it_is_spent(tmp_path: Path) -> None:
    """Twelve buy two requests of five; the third is told what is missing, and bought by a voucher over that."""
    async with shop(tmp_path, PER_REQUEST) as it:
        voucher = await it.wallet.pay(12)
        for credit in ("7", "2"):
            status, body = await it.get("/file", voucher)
            assert (status, body) == (200, BODY)
            assert it.answer.headers["Scapp-Credit"] == credit
            assert it.answer.headers["Set-Cookie"] == "a=b"
        status, offer = await it.get("/file", voucher)
        assert (status, offer["missing"], offer["credit"], offer["spent"]) == (402, "3", "2", "10")
        status, _ = await it.get("/file", await it.wallet.pay(3))
        assert status == 200
        assert it.service.counts["GET /below/file"] == 3
        assert it.spent() == 15 == it.payee.payments.purse(CHANNEL).purse.paid


async def test_what_the_service_hears_is_the_request_without_the_voucher(tmp_path: Path) -> None:
    """Method, query, body and headers pass; what belongs to the connection or to the paywall does not."""
    async with shop(tmp_path, PER_REQUEST) as it:
        voucher = await it.wallet.pay(5)
        headers = {"X_Kept": "yes", "Connection": "X-Dropped", "X_Dropped": "no", "TE": "trailers"}
        status, heard = await it.send("POST", "/deep/echo?a=%2F&b", voucher, b"x" * 100_000, **headers)
        assert (status, heard["method"], heard["bytes"]) == (200, "POST", 100_000)
        names = {name.lower() for name in heard["headers"]}
        assert {"x-kept", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"} <= names
        assert not {"scapp-voucher", "x-dropped", "te"} & names
        (request,) = it.service.requests
        assert request.raw_path == "/below/deep/echo?a=%2F&b"


@pytest.mark.parametrize(
    ("voucher", "status", "reason"),
    [
        ("{", 400, "cannot be read"),
        ("x" * 2_000, 400, "2000 characters"),
        (write_voucher(sign_voucher(CHANNEL, 50, MALLORY)), 402, "not signed by the channel's payer"),
        (write_voucher(sign_voucher(CHANNEL, FUNDS + 1, PAYER)), 402, "insufficient funds"),
        (write_voucher(sign_voucher(ChannelId(b"\xee" * 32), 50, PAYER)), 402, "no payment channel to"),
        (write_voucher(Voucher(CHANNEL, 0, b"")), 402, "not signed"),
    ],
)
async def test_a_voucher_that_pays_nothing_is_refused(tmp_path: Path, voucher: str, status: int, reason: str) -> None:
    async with shop(tmp_path, PER_REQUEST) as it:
        got, answer = await it.get("/file", voucher)
        assert got == status
        assert reason in answer["reason"]
        assert not it.service.requests


async def test_an_old_voucher_adds_nothing_and_is_still_a_key(tmp_path: Path) -> None:
    """Requests overtake each other; but only who has a voucher of the channel spends its credit."""
    async with shop(tmp_path, PER_REQUEST) as it:
        old, new = await it.wallet.pay(5), await it.wallet.pay(5)
        assert (await it.get("/file", new))[0] == 200
        assert (await it.get("/file", old))[0] == 200
        assert (await it.get("/file", old))[0] == 402
        forged = write_voucher(Voucher(CHANNEL, 5, sign_voucher(CHANNEL, 5, MALLORY).signature))
        await it.wallet.pay(5)
        assert (await it.get("/file", forged))[0] == 402


async def test_a_channel_in_another_asset_pays_nothing(tmp_path: Path) -> None:
    async with shop(tmp_path, PER_REQUEST) as it:
        other = ChannelId(b"\xc5" * 32)
        for node in (it.payer, it.payee):
            await node.payments.open(_in_other_asset(other))
        voucher = (await it.payer.payments.pay(other, 50)).voucher
        status, answer = await it.get("/file", write_voucher(voucher))
        assert status == 402
        assert "the channel pays in 0xb6" in answer["reason"]


def _in_other_asset(channel: ChannelId) -> object:
    import msgspec

    return msgspec.structs.replace(terms(channel), asset=b"\xb6" * 20)


async def test_a_body_is_covered_before_its_first_byte(tmp_path: Path) -> None:
    """Of known length: what is missing is told, nothing is charged, and the same voucher's credit stays."""
    async with shop(tmp_path, PER_BYTE) as it:
        status, offer = await it.get("/file", await it.wallet.pay(100))
        assert (status, offer["missing"], offer["credit"]) == (402, str(WHOLE - 100), "100")
        assert it.spent() == 0
        status, body = await it.get("/file", await it.wallet.pay(WHOLE - 100))
        assert (status, body) == (200, BODY)
        assert it.spent() == WHOLE


async def test_a_part_costs_what_a_part_has(tmp_path: Path) -> None:
    """Ranges are the service's; their bytes are counted."""
    async with shop(tmp_path, PER_BYTE) as it:
        status, body = await it.get("/file", await it.wallet.pay(WHOLE), Range="bytes=1000-2999")
        assert (status, body) == (206, BODY[1000:3000])
        assert it.answer.headers["Content-Range"] == f"bytes 1000-2999/{len(BODY)}"
        assert it.spent() == 5 + 6
        status, body = await it.send("HEAD", "/file", await it.wallet.voucher())
        assert (status, body, it.answer.headers["Content-Length"]) == (200, b"", str(len(BODY)))
        assert it.spent() == 5 + 6 + 5


async def test_several_parts_cost_their_bytes_and_a_wrong_part_costs_the_request(tmp_path: Path) -> None:
    """What the service makes of them comes through as it is, its heads between the parts included."""
    async with shop(tmp_path, PER_BYTE) as it:
        status, body = await it.get("/file", await it.wallet.pay(WHOLE), Range="bytes=0-9,5000-5999")
        assert (status, it.answer.content_type) == (206, "multipart/byteranges")
        assert BODY[:10] in body
        assert BODY[5_000:6_000] in body
        assert len(body) < 1_200
        assert it.spent() == 5 + -(-3 * len(body) // 1_000)
        before = it.spent()
        status, body = await it.get("/file", await it.wallet.voucher(), Range=f"bytes={len(BODY)}-")
        assert (status, body, it.answer.headers["Content-Range"]) == (416, b"", f"bytes */{len(BODY)}")
        assert it.spent() == before + 5


async def test_a_body_that_pays_as_it_comes_is_cut_where_the_credit_ends(tmp_path: Path) -> None:
    """To the byte, and so that no client takes it for the whole; what was sent is charged and no more."""
    async with shop(tmp_path, PER_BYTE) as it:
        for path, headers in (("/file", {"Scapp-Stream": "1"}), ("/endless", {})):
            before = it.spent()
            voucher = await it.wallet.pay(5 + 30)
            got = bytearray()
            with pytest.raises(aiohttp.ClientPayloadError):
                await it.read_into(got, path, voucher, **headers)
            assert got == BODY[:10_000]
            assert it.spent() - before == 35


async def test_a_body_goes_on_when_more_is_paid_in_time(tmp_path: Path) -> None:
    """By another request, or by the payer's node straight to the payee's."""
    async with shop(tmp_path, PER_BYTE, grace_s=5, linked=True) as it:
        fetched = asyncio.create_task(it.get("/endless", await it.wallet.pay(5 + 30)))
        await until(lambda: it.spent() == 35)
        await it.payer.payments.pay(CHANNEL, 100, wait_s=5)
        await until(lambda: it.spent() == 135)
        status, _ = await it.get("/missing", await it.wallet.pay(5 + 1 + BODY_PRICE - 130))
        assert status == 404
        status, body = await fetched
        assert (status, body) == (200, BODY)
        assert it.spent() == WHOLE + 5 + 1


async def test_what_the_service_fails_to_answer_is_not_charged(tmp_path: Path) -> None:
    """Its faults, and its silence; what it says about a request is an answer."""
    async with shop(tmp_path, PER_REQUEST) as it:
        voucher = await it.wallet.pay(20)
        assert (await it.get("/broken", voucher)) == (500, b"out of order")
        status, answer = await it.get("/hang-up", voucher)
        assert (status, answer["error"]) == (502, "bad_gateway")
        assert it.spent() == 0
        assert (await it.get("/missing", voucher))[0] == 404
        assert it.spent() == 5


async def test_requests_at_once_never_spend_the_same_coin(tmp_path: Path) -> None:
    """Ten at the same time with credit for three: three are served."""
    async with shop(tmp_path, PER_REQUEST) as it:
        voucher = await it.wallet.pay(15)
        it.service.gate.clear()
        requests = [asyncio.create_task(it.get("/file", voucher)) for _ in range(10)]
        await until(lambda: sum(task.done() for task in requests) == 7)
        it.service.gate.set()
        statuses = sorted([(await task)[0] for task in requests])
        assert statuses == [200] * 3 + [402] * 7
        assert it.spent() == 15


async def test_a_repeated_request_is_charged_once(tmp_path: Path) -> None:
    """Under one key: the request once, each byte once, also where the first one broke; another request is refused."""
    async with shop(tmp_path, PER_BYTE) as it:
        voucher = await it.wallet.pay(5 + 30)
        with pytest.raises(aiohttp.ClientPayloadError):
            await it.get("/file", voucher, Idempotency_Key="k", Scapp_Stream="1")
        assert it.spent() == 35
        status, body = await it.get("/file", voucher, Idempotency_Key="k", Range="bytes=0-9999")
        assert (status, body, it.spent()) == (206, BODY[:10_000], 35)
        voucher = await it.wallet.pay(6)
        status, body = await it.get("/file", voucher, Idempotency_Key="k", Range="bytes=9000-11999")
        assert (status, body, it.spent()) == (206, BODY[9_000:12_000], 41)
        assert (await it.get("/other", voucher, Idempotency_Key="k"))[0] == 422
        assert (await it.get("/file", voucher, Idempotency_Key="k" * 300))[0] == 400


async def test_two_requests_with_one_key_do_not_run_at_once(tmp_path: Path) -> None:
    async with shop(tmp_path, PER_REQUEST) as it:
        voucher = await it.wallet.pay(50)
        it.service.gate.clear()
        first = asyncio.create_task(it.get("/file", voucher, Idempotency_Key="k"))
        await until(lambda: bool(it.service.requests))
        assert (await it.get("/file", voucher, Idempotency_Key="k"))[0] == 409
        it.service.gate.set()
        assert (await first)[0] == 200
        for _ in range(7):
            assert (await it.get("/file", voucher, Idempotency_Key="k"))[0] == 200
        assert (await it.get("/file", voucher, Idempotency_Key="k"))[0] == 422
        assert it.spent() == 5


async def test_a_restart_forgets_neither_spending_nor_keys(tmp_path: Path) -> None:
    """What was bought stays bought, what was spent stays spent."""
    async with shop(tmp_path, PER_REQUEST) as it:
        voucher = await it.wallet.pay(7)
        assert (await it.get("/file", voucher, Idempotency_Key="k"))[0] == 200
        await it.close()
        await it.open()
        assert (await it.get("/file", voucher, Idempotency_Key="k"))[0] == 200
        status, offer = await it.get("/file", voucher)
        assert (status, offer["missing"], offer["spent"]) == (402, "3", "5")


async def test_a_node_that_does_not_answer_is_no_reason_to_give_anything_away(tmp_path: Path) -> None:
    """Nor to ask it again for every request: what it said of a channel is known."""
    async with shop(tmp_path, PER_REQUEST) as it:
        voucher = await it.wallet.pay(10)
        it.till.reachable = False
        assert (await it.get("/file", voucher))[0] == 503
        it.till.reachable = True
        assert (await it.get("/file", voucher))[0] == 200
        asked, it.till.reachable = it.till.asked, False
        assert (await it.get("/file", voucher))[0] == 200
        assert it.till.asked == asked
        assert (await it.get("/file", voucher))[0] == 503


async def test_accounts_in_use_are_kept_and_others_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for one: a second buyer comes while the first is served; neither spends anything twice."""
    monkeypatch.setattr(accounts, "ACCOUNTS_KEPT", 1)
    async with shop(tmp_path, PER_REQUEST) as it:
        other = ChannelId(b"\xc5" * 32)
        for node in (it.payer, it.payee):
            await node.payments.open(terms(other))
        voucher = await it.wallet.pay(5)
        another = write_voucher((await it.payer.payments.pay(other, 10)).voucher)
        it.service.gate.clear()
        first = asyncio.create_task(it.get("/file", voucher))
        await until(lambda: bool(it.service.requests))
        second = asyncio.create_task(it.get("/file", another))
        await until(lambda: len(it.service.requests) == 2)
        assert (await it.get("/file", voucher))[0] == 402
        it.service.gate.set()
        assert [(await task)[0] for task in (first, second)] == [200, 200]
        assert (await it.get("/file", another))[0] == 200
        assert (await it.get("/file", another))[0] == 402
        assert (await it.get("/file", voucher))[0] == 402


async def test_free_paths_are_free_and_no_way_around(tmp_path: Path) -> None:
    """A path with dot segments might be another one to the service, at another price."""
    async with shop(tmp_path, PER_REQUEST, {"/free": Price(), "/free/not": Price(request=1)}) as it:
        assert (await it.get("/free/file"))[0] == 200
        assert (await it.get("/freedom/file"))[0] == 402
        assert (await it.get("/free/not/file"))[0] == 402
        async with it.session.get(URL(f"{it.url}/free/../file", encoded=True)) as answer:
            assert answer.status == 400
        async with it.session.get(f"{it.url}/free/", headers={"Upgrade": "websocket"}) as answer:
            assert answer.status == 501


@pytest.mark.parametrize("path", ["/a/../b", "/a/%2e%2e/b", "/a/%252E./b", "/a/..;x/b", "/a/..%5cb", "/."])
def test_paths_with_dot_segments_are_seen_however_they_are_written(path: str) -> None:
    assert not is_plain(URL(f"http://host{path}", encoded=True))
    assert is_plain(URL("http://host/a.b/..c/d..", encoded=True))


async def test_a_buyer_pays_what_is_asked_within_its_limit(tmp_path: Path) -> None:
    """First the request, then the body; a second purchase uses what is left."""
    async with shop(tmp_path, PER_BYTE) as it:
        got = bytearray()

        async def write(data: bytes) -> None:
            got.extend(data)

        buyer = Buyer(it.session, it.wallet, limit=WHOLE + 6)
        assert await buyer.fetch(f"{it.url}/file", write) == len(BODY)
        assert bytes(got) == BODY
        assert buyer.paid == WHOLE == it.spent()
        with pytest.raises(NotBought, match=f"more to pay after {WHOLE + 5}; the limit is {WHOLE + 6}"):
            await buyer.fetch(f"{it.url}/file", write)
        with pytest.raises(NotBought, match="404 Not Found"):
            await buyer.fetch(f"{it.url}/missing", write)


async def test_a_buyer_pays_while_it_comes(tmp_path: Path) -> None:
    """A chunk ahead, its vouchers brought by its node; a body that ends early costs no more than it has."""
    async with shop(tmp_path, PER_BYTE, grace_s=5, linked=True) as it:
        got = bytearray()

        async def write(data: bytes) -> None:
            got.extend(data)

        buyer = Buyer(it.session, it.wallet, limit=10_000)
        assert await buyer.fetch(f"{it.url}/endless", write, stream=True) == len(BODY)
        assert bytes(got) == BODY
        assert it.spent() == WHOLE
        assert WHOLE <= buyer.paid <= WHOLE + Tariff(3, 1_000).cost(65_536)


async def test_a_buyer_goes_on_where_the_body_was_cut(tmp_path: Path) -> None:
    """Its limit ends the first attempt; with more to spend, the rest is fetched by a range and paid like that."""
    async with shop(tmp_path, PER_BYTE) as it:
        got = bytearray()

        async def write(data: bytes) -> None:
            got.extend(data)

        await it.wallet.pay(5 + 30)
        buyer = Buyer(it.session, it.wallet, limit=10_000)
        it.paywall._settings = it.paywall._settings.__class__(it.paywall._settings.service, 0.0)
        assert await buyer.fetch(f"{it.url}/file", write, stream=True) == len(BODY)
        assert bytes(got) == BODY
        assert it.service.counts["GET /below/file"] > 1


async def test_a_buyer_pays_nobody_but_its_payee(tmp_path: Path) -> None:
    """An offer of somebody else, and one that makes no sense."""
    async with shop(tmp_path, PER_REQUEST) as it:

        class Elsewhere:
            payee = MALLORY.address
            pay, voucher = it.wallet.pay, it.wallet.voucher

        async def write(data: bytes) -> None:
            raise AssertionError

        with pytest.raises(NotBought, match="to be paid to 0x"):
            await Buyer(it.session, Elsewhere(), limit=100).fetch(f"{it.url}/file", write)
        assert await it.wallet.voucher() == ""


def test_longest_prefix_counts_by_whole_segments() -> None:
    prices = PriceList(ASSET, Price(9), {"/a": Price(1), "/a/b/": Price(2)})
    asked = {"/": 9, "/a": 1, "/a/": 1, "/ab": 9, "/a/b": 2, "/a/bc": 1, "/a/b/c": 2}
    assert {path: prices.of(path).request for path in asked} == asked


def test_a_visit_counts_each_byte_once() -> None:
    """One stretch is remembered; a gap begins another."""
    visit = Visit("GET /")
    assert visit.new_bytes(0, 10) == 10
    visit.delivered(0, 10)
    assert [visit.new_bytes(*part) for part in ((0, 10), (5, 15), (10, 12), (20, 30))] == [0, 5, 2, 10]
    visit.delivered(5, 15)
    assert (visit.low, visit.high) == (0, 15)
    visit.delivered(20, 30)
    assert (visit.low, visit.high) == (20, 30)
    assert visit.new_bytes(0, 25) == 20


def test_an_account_holds_and_spends_what_it_has() -> None:
    account = Account(CHANNEL, PAYER.address, ASSET, paid=10, spent=4)
    assert not account.hold(7)
    assert account.hold(5)
    assert account.credit == 1
    account.spend(3)
    account.release(2)
    assert (account.spent, account.held, account.credit) == (7, 0, 3)
    assert read_voucher(write_voucher(sign_voucher(CHANNEL, 3, PAYER))).amount == 3
