"""Ledgers and payments over the API and the command line, against books that do at once what they are asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from scapp.channels.books.income import Income
from scapp.channels.books.info import LedgerRequest, PaymentChannelRequest, RouteRequest
from scapp.channels.routing.paths import Route
from scapp.channels.types import U256_MAX, ZERO_ADDRESS, Address, ChannelId
from scapp.runtime.api.ledger_views import waiting_text
from scapp.runtime.cli.amounts import COIN
from scapp.runtime.cli.main import scapp
from scapp.runtime.client import Refused
from scapp.runtime.ledger_documents import VirtualView
from tests.support.api_harness import Harness, served
from tests.support.fake_service import BOB, CAROL

TOKEN = "0x" + "70" * 20


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Harness]:
    with served(tmp_path / "alice") as harness:
        harness.client.add_peer("0x" + BOB.hex(), "h:1", "bob")
        harness.client.add_peer("0x" + CAROL.hex(), "h:2", "carol")
        yield harness


def run(node: Harness, *args: str, code: int = 0) -> Result:
    result = CliRunner().invoke(scapp, ["-C", str(node.home), *args])
    assert result.exit_code == code, result.output
    return result


def test_open_a_ledger_in_two_assets(node: Harness) -> None:
    """Deposits of each side by asset; what one side leaves out is nothing."""
    run(
        node, "ledger", "open", "bob", "--deposit", "3gwei", "--peer-deposit", f"100:{TOKEN}",
        "--pay-to", "0x" + CAROL.hex(), "--challenge-duration", "600",
    )  # fmt: skip
    (request,) = node.books.requests
    assert request == LedgerRequest(
        peer=BOB,
        funds=((ZERO_ADDRESS, 3 * 10**9, 0), (bytes.fromhex(TOKEN[2:]), 0, 100)),  # type: ignore[arg-type]
        challenge_duration_s=600,
        pay_to=CAROL,
    )


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("ledger", "open", "bob"), "needs --deposit or --peer-deposit"),
        (("ledger", "open", "bob", "--deposit", "1", "--deposit", "2"), "is named twice"),
        (("ledger", "open", "bob", "--deposit", "much"), "--deposit"),
        (("payments", "open", "carol", "5", "--via", "bob", "--fee", "1", "--fee", "2"), "2 fees for 1 hubs"),
        (("ledger", "recover", "0808", "--json"), "--override"),
    ],
)
def test_what_is_written_wrong(node: Harness, args: tuple[str, ...], says: str) -> None:
    """Exit code 2, and what is allowed."""
    assert says in run(node, *args, code=2).output


def test_a_ledger_that_does_not_run_in_time(node: Harness) -> None:
    """Exit code 4: it may still run; one that is rejected is exit code 1."""
    node.books.opens_to = "funding"
    found = run(node, "ledger", "open", "bob", "--deposit", "5", "--wait", "0.1", code=4)
    assert "scapp ledger show 0x31313131" in found.stderr
    node.books.opens_to = "rejected"
    run(node, "ledger", "open", "bob", "--deposit", "5", code=1)


def test_answer_list_and_show_ledgers(node: Harness) -> None:
    """By the beginning of the id; people see names and amounts, programs a document."""
    node.books.put_ledger(8, BOB, "proposed")
    assert "proposed" in run(node, "ledger", "list").stdout
    assert "1000 wei of this node" in run(node, "ledger", "accept", "0808").stdout
    (found,) = json.loads(run(node, "ledger", "list", "--json").stdout)["ledgers"]
    assert (found["peer_name"], found["phase"], found["assets"][0]["locked"]) == ("bob", "running", "100")
    run(node, "ledger", "accept", "0808", code=1)
    assert "no ledger 0x9999" in run(node, "ledger", "show", "0x9999", code=1).stderr
    node.books.put_ledger(9, CAROL, "proposed")
    assert "rejected" in run(node, "ledger", "reject", "0909", "--reason", "no").stdout


def test_change_and_end_a_ledger(node: Harness) -> None:
    """Top up, transfer, close; what does not happen in time is exit code 4."""
    node.books.put_ledger(8, BOB)
    assert "1005 wei of this node" in run(node, "ledger", "top-up", "0808", "5").stdout
    assert "1003 wei of this node" in run(node, "ledger", "transfer", "0808", "2", "--yes").stdout
    run(node, "ledger", "transfer", "0808", f"2:{TOKEN}", "--yes", code=1)
    node.books.stuck = True
    run(node, "ledger", "top-up", "0808", "5", "--wait", "0.1", code=4)
    run(node, "ledger", "close", "0808", "--wait", "0.1", code=4)
    node.books.stuck = False
    assert "settled" in run(node, "ledger", "close", "0808").stdout
    for command in ("challenge", "withdraw"):
        node.books.put_ledger(8, BOB)
        run(node, "ledger", command, "0808", *(["--yes"] if command == "challenge" else []))
    with pytest.raises(Refused, match="highest signed state"):
        node.client._post("/v1/ledgers/0808/recover", bytes, {"override": False})
    assert node.client.recover_ledger("0808").phase == "running"


def test_a_peer_names_the_only_ledger_with_it(node: Harness) -> None:
    """By name or address. One that is over counts only when there is no other; several are listed."""
    address = "0x" + BOB.hex()
    assert "there is no ledger with bob" in run(node, "ledger", "show", "bob", code=1).stderr
    node.books.put_ledger(8, BOB, "settled")
    assert "settled" in run(node, "ledger", "show", "bob").stdout
    node.books.put_ledger(9, BOB)
    node.books.put_ledger(10, CAROL)
    for name in ("bob", address):
        assert "0x09090909" in run(node, "ledger", "show", name).stdout
    assert "1005 wei of this node" in run(node, "ledger", "top-up", "bob", "5").stdout
    node.books.put_ledger(11, BOB, "funding")
    found = run(node, "ledger", "close", "bob", code=1).stderr
    assert "bob may be 2 ledgers: 0x090909090909, running, with bob; 0x0b0b0b0b0b0b, funding, with bob" in found
    assert "0x0a0a" in run(node, "ledger", "show", "0a0a").stdout
    assert "'mallory' is not a ledger id" in run(node, "ledger", "show", "mallory", code=1).stderr


def test_several_ledgers_whose_ids_begin_alike_are_listed(node: Harness) -> None:
    one = node.books.put_ledger(8, BOB)
    other = ChannelId(one[:30] + b"zz")
    node.books.of_ledgers[other] = msgspec.structs.replace(node.books.of_ledgers[one], channel_id=other)
    assert "2 ledger ids: 0x080808080808, running, with bob; " in run(node, "ledger", "show", "0808", code=1).stderr


def test_a_peer_names_the_only_payment_channel_with_it(node: Harness) -> None:
    """As payer or payee, whoever of both the peer is; those that are over only when no other is there."""
    node.books.put_virtual(5, CAROL, "released")
    node.books.put_virtual(6, CAROL)
    node.books.put_virtual(7, BOB)
    assert "0x06060606" in run(node, "payments", "show", "carol").stdout
    assert "released" in run(node, "payments", "close", "carol").stdout
    node.books.put_virtual(8, BOB)
    found = run(node, "payments", "close", "bob", code=1).stderr
    assert "bob may be 2 payment channels: 0x070707070707, running, " in found
    node.client.add_peer("0x" + "99" * 20, "h:3", "dave")
    assert "there is no payment channel with dave" in run(node, "voucher", "show", "dave", code=1).stderr


def test_a_settled_ledger_holds_nothing_any_more(node: Harness) -> None:
    """The list shows no amounts of it as if they were there; the details say what they were."""
    node.books.put_ledger(8, BOB, "settled")
    (row,) = [line for line in run(node, "ledger", "list").stdout.splitlines() if "settled" in line]
    assert "wei" not in row
    found = run(node, "ledger", "show", "bob").stdout
    assert "1000 wei of this node, 500 wei of the peer by the last state of both" in found
    assert "holds" not in found


def test_take_a_top_up_back(node: Harness) -> None:
    """In coin, or in a token; what the peer has not signed in time is exit code 4."""
    channel = node.books.put_ledger(8, BOB)
    run(node, "ledger", "cancel-top-up", "bob")
    run(node, "ledger", "cancel-top-up", "bob", "--asset", TOKEN, code=1)
    assert node.books.requests == [("cancel", ZERO_ADDRESS), ("cancel", bytes.fromhex(TOKEN[2:]))]
    info = node.books.of_ledgers[channel]
    announced = msgspec.structs.replace(info.assets[0], announced=7)
    node.books.of_ledgers[channel] = msgspec.structs.replace(info, assets=(announced,))
    assert "not done" in run(node, "ledger", "cancel-top-up", "bob", "--wait", "0.1", code=4).stderr
    run(node, "ledger", "cancel-top-up", "bob", "--asset", "much", code=2)


def test_what_waits_for_a_chain_that_does_not_answer_says_so(node: Harness) -> None:
    """A deposit that was announced and is not made; nothing of it where the chain is not what is waited for."""
    channel = node.books.put_ledger(8, BOB)
    info = node.books.of_ledgers[channel]
    announced = msgspec.structs.replace(info.assets[0], announced=7)
    waits = msgspec.structs.replace(info, assets=(announced,), waiting_for="the deposit of this node: 7 wei")
    fault = "no endpoint of the chain answers: http://h: TimeoutError"
    assert waiting_text(info, fault) == info.waiting_for
    assert waiting_text(waits, "") == "the deposit of this node: 7 wei"
    assert waiting_text(waits, fault) == f"the deposit of this node: 7 wei; the chain does not answer: {fault}"


def test_what_a_hub_has_earned_is_listed_by_peer_and_asset(node: Harness) -> None:
    """With a sum for each asset; times are days or moments, of this machine's zone if they name none."""
    bob, token = Address(BOB), Address(bytes.fromhex(TOKEN[2:]))
    assert run(node, "ledger", "income").stdout == "nothing earned\n"
    node.books.earned = [
        Income(ZERO_ADDRESS, bob, 2, 5 * 10**17, 3, 10**17),
        Income(ZERO_ADDRESS, Address(CAROL), 0, 0, 1, 4 * 10**17),
        Income(token, bob, 1, 7),
    ]
    found = run(node, "ledger", "income", "--since", "2026-11-01T00:00:00+00:00", "--until", "2026-12-01T00:00Z").stdout
    assert node.books.requests[-1] == ("income", 1_793_491_200_000, 1_796_083_200_000)
    lines = [line.split() for line in found.splitlines()]
    assert ["bob", "2", "0.5", "eth", "3", "0.1", "eth", "0.6", "eth"] in lines
    assert ["all", "2", "0.5", "eth", "4", "0.5", "eth", "1", "eth"] in lines
    document = json.loads(run(node, "ledger", "income", "--since", "2026-11-01", "--json").stdout)
    assert document["rows"][0] == {
        "asset": COIN, "peer": "0x" + BOB.hex(), "peer_name": "bob", "channels": 2, "channel_fees": str(5 * 10**17),
        "payments": 3, "payment_fees": str(10**17), "total": str(6 * 10**17),
    }  # fmt: skip
    assert document["until_ms"] > document["since_ms"]
    assert "no time" in run(node, "ledger", "income", "--since", "yesterday", code=2).stderr
    with pytest.raises(Refused, match="since=5 and until=5"):
        node.client.income(5, 5)


def test_open_pay_and_close_a_payment_channel(node: Harness) -> None:
    """Over a hub for a fee; `pay` finds the channel by its payee."""
    run(node, "payments", "open", "carol", "100", "--via", "bob", "--fee", "3")
    (request,) = node.books.requests
    assert request == PaymentChannelRequest(payee=CAROL, amount=100, via=(BOB,), fees=(3,))
    assert "paid 7 wei in 0x32323232" in run(node, "pay", "carol", "7").stdout
    assert json.loads(run(node, "pay", "3232", "1", "--json").stdout)["paid"] == "8"
    assert "8 wei" in run(node, "payments", "list").stdout
    assert "(this node)" in run(node, "payments", "show", "3232").stdout
    assert "disputed" in run(node, "payments", "challenge", "3232", "--yes", "--wait", "0").stdout
    assert "released" in run(node, "payments", "close", "3232").stdout
    assert run(node, "payments", "list").stdout == "no payment channels\n"
    assert "released" in run(node, "payments", "list", "--all").stdout


def test_what_cannot_be_paid(node: Harness) -> None:
    """To whom, and how much is left; a name that is no peer's is taken for a channel's beginning."""
    says = run(node, "pay", "carol", "7", code=1).stderr
    assert "no payment channel to carol is open" in says
    assert "scapp payments open carol" in says
    node.books.put_virtual(7, CAROL)
    node.books.put_virtual(8, CAROL, paid=40)
    assert "the most is 90 wei" in run(node, "pay", "carol", "91", code=1).stderr
    assert "no payment channel to 0x" in run(node, "pay", "0x" + "99" * 20, "1", code=1).stderr
    assert "scapp payments list" in run(node, "pay", "dave", "1", code=1).stderr
    assert "scapp ledger list" in run(node, "ledger", "show", "dave", code=1).stderr


def test_a_hub_does_not_say_what_was_paid_before_the_end(node: Harness) -> None:
    """It sees no voucher, so it shows no amount."""
    node.books.put_virtual(7, CAROL, paid=0, role="hub")
    assert "unknown to hubs" in run(node, "payments", "show", "0707").stdout
    for command in (("payments", "history"), ("voucher", "show")):
        assert "only its payer and its payee see" in run(node, *command, "0707", code=1).stderr
    node.books.put_virtual(7, CAROL, phase="released", paid=40, role="hub")
    assert "40 wei" in run(node, "payments", "show", "0707").stdout


def test_vouchers_as_files(node: Harness, tmp_path: Path) -> None:
    """One is made by a payment, shown again without one, and taken once; what it is not is refused."""
    node.books.put_virtual(7, CAROL, paid=0)
    assert "nothing was paid" in run(node, "voucher", "show", "0707", code=1).stderr
    file = tmp_path / "voucher.json"
    assert str(file) in run(node, "voucher", "create", "carol", "7", "-o", str(file)).stderr
    made = json.loads(file.read_text())
    assert (made["ChannelId"], made["Amount"]) == ("0x" + "07" * 32, 7)
    assert json.loads(run(node, "voucher", "show", "0707").stdout) == made
    assert ", 7 wei altogether" in run(node, "voucher", "import", str(file)).stdout
    file.write_text(file.read_text().replace('"Amount":7', '"Amount":9'))
    taken = json.loads(run(node, "voucher", "import", str(file), "--json").stdout)
    assert (taken["added"], taken["paid"]) == ("2", "9")
    for text, says in (("{", "cannot be read"), (file.read_text().replace(":9,", ":101,"), "insufficient funds")):
        file.write_text(text)
        assert says in run(node, "voucher", "import", str(file), code=1).stderr


def test_a_voucher_is_redeemed_on_chain_from_its_file(node: Harness, tmp_path: Path) -> None:
    """It is taken, and its channel goes to the chain, if the user agrees."""
    node.books.put_virtual(7, CAROL, paid=0)
    file = tmp_path / "voucher.json"
    run(node, "voucher", "create", "carol", "7", "-o", str(file))
    file.write_text(file.read_text().replace('"Amount":7', '"Amount":9'))
    run(node, "voucher", "redeem", str(file), "--wait", "0", code=130)
    assert node.client.virtual("0707").phase == "running"
    found = json.loads(run(node, "voucher", "redeem", str(file), "--wait", "0", "--json").stdout)
    assert (found["phase"], found["paid"]) == ("disputed", "9")
    file.write_text("{")
    assert "cannot be read" in run(node, "voucher", "redeem", str(file), "--yes", code=1).stderr


def test_the_recovery_of_a_payment_channel_is_ended_only_on_purpose(node: Harness) -> None:
    """Not without saying so, over the API either."""
    node.books.put_virtual(7, CAROL, phase="recovering")
    run(node, "payments", "recover", "0707", code=2)
    with pytest.raises(Refused, match="recovers by itself"):
        node.client._post("/v1/virtual/0707/recover", VirtualView, {"override": False})
    assert "running" in run(node, "payments", "recover", "0707", "--override").stdout


def test_history_of_a_payment_channel(node: Harness) -> None:
    """In pages; the receipt of a payment that waited says that it was seen."""
    node.books.put_virtual(7, CAROL, paid=0)
    assert "nothing yet" in run(node, "payments", "history", "0707").stdout
    assert "the payee holds it" in run(node, "pay", "0707", "5", "--wait", "1").stdout
    run(node, "pay", "0707", "6")
    assert "11 wei" in run(node, "payments", "history", "0707", "--from", "1").stdout
    page = node.client.payments("0707", 1, 5)
    assert [(row.version, row.kind, row.amounts, row.total) for row in page.rows] == [(1, "paid", ["6"], "11")]
    assert page.next == 2
    assert node.client.payments("0707", 2).next == 2
    assert node.client.voucher("0707").paid == "11"
    assert node.client.payments("0x" + "0a" * 32, 0, 5).rows  # forgotten by the books, and in the log
    assert "11\n" in run(node, "payments", "history", "0x" + "0a" * 32).stdout
    for unknown in ("0a0a", "0x" + "0b" * 32):
        with pytest.raises(Refused, match="no virtual channel") as refused:
            node.client.payments(unknown, 0, 5)
        assert refused.value.code == "unknown_channel"


def test_the_ways_to_a_node(node: Harness) -> None:
    """Hubs by name, fees, whether all have enough; exit code 1 when there is none."""
    assert "no way to carol is known" in run(node, "route", "carol", "100", code=1).stdout
    node.books.of_routes = [
        Route((BOB,), (3,), True, 99),
        Route((BOB, CAROL), (1, 1), False, 77),
        Route((), (), True, 5),
    ]
    text = run(node, "route", "carol", "100", "--peer-amount", "7", "--fee-max", "9", "--hubs-max", "2").stdout
    lines = [line.split("  ") for line in text.splitlines()[1:]]
    assert [line[0] for line in lines][:2] == ["bob", "bob, carol"]
    assert "this node's ledger" in text
    assert "may have enough" in text
    expected = RouteRequest(to=CAROL, amounts=((ZERO_ADDRESS, 100, 7),), fee_max=9, hubs_max=2)
    assert node.books.requests[-1] == expected
    found = json.loads(run(node, "route", "carol", f"100:{TOKEN}", "--json").stdout)["routes"]
    assert [(each["fee"], each["expires_ms"]) for each in found] == [("3", 99), ("2", 77), ("0", None)]
    assert node.books.requests[-1].fee_max == U256_MAX  # type: ignore[attr-defined]
    run(node, "route", "carol", "100", "--hubs-max", "6", code=2)


def test_open_a_payment_channel_over_hubs_that_the_node_finds(node: Harness) -> None:
    """The node tries; its refusal tells what was tried."""
    refused = run(node, "payments", "open", "carol", "100", "--via", "auto", "--fee-max", "9", "--wait", "5", code=1)
    assert "no hub announces a way" in refused.stderr
    assert node.books.requests == [(9, 5.0)]
    node.books.of_routes = [Route((BOB,), (3,), True, 99)]
    assert "running" in run(node, "payments", "open", "carol", "100", "--via", "auto").stdout
    assert node.books.requests[1:] == [(U256_MAX, 90.0), PaymentChannelRequest(payee=CAROL, amount=100)]
    run(node, "payments", "open", "carol", "100", "--via", "bob", "--fee-max", "9", code=2)
    run(node, "payments", "open", "carol", "100", "--via", "bob,auto", code=2)
    node.client.add_peer("0x" + "99" * 20, "h:3", "dave")
    run(node, "payments", "open", "carol", "100", "--via", "bob,dave")
    assert node.books.requests[-1].via == (BOB, b"\x99" * 20)  # type: ignore[attr-defined]
    with pytest.raises(Refused, match="either names its hubs"):
        node.client.open_payments("carol", COIN, 5, via=["bob"], fees=[0], routed=True)


def test_open_an_app_channel_over_hubs_that_the_node_finds(node: Harness) -> None:
    """Both put the same in; the node tries the ways, and takes the first that is not refused."""
    node.deploy()
    opened = ("channel", "open", "carol", "--app", "duel", "--fund", "virtual", "--stake", "100", "--via", "auto")
    assert "no way is left" in run(node, *opened, code=1).stderr
    node.books.of_routes = [Route((BOB,), (3,), True, 99)]
    run(node, *opened, "--fee-max", "9", "--wait", "5")
    asked = RouteRequest(to=CAROL, amounts=((ZERO_ADDRESS, 100, 100),), fee_max=9)
    assert node.books.requests[-1] == asked
    (request,) = node.service.requests
    assert (request.fund, request.via, request.fees) == ("virtual", (BOB,), (3,))
    run(node, *opened, "--fee", "1", code=2)
    run(node, *opened[:-2], "--via", "bob", "--fee-max", "1", code=2)
    with pytest.raises(Refused, match="names no hubs"):
        node.client.open_channel(["carol"], "duel", fund="virtual", via=["bob"], fees=[0], routed=True)


def test_open_an_app_channel_over_a_hub(node: Harness) -> None:
    """Stakes come from ledgers; hubs belong to no other way of funding."""
    node.deploy()
    command = ("channel", "open", "carol", "--app", "duel", "--fund", "virtual", "--via", "bob")
    run(node, *command, "--fee", "3", "--stake", "5")
    (request,) = node.service.requests
    assert (request.fund, request.via, request.fees) == ("virtual", (BOB,), (3,))
    assert [amount for _, _, amount in request.slots] == [5, 5]
    run(node, *command, code=2)
    run(node, *command, "--stake", "5", "--fee", "1", "--fee", "2", code=2)
    run(node, "channel", "open", "carol", "--app", "duel", "--fund", "direct", "--stake", "5", "--via", "bob", code=2)


def test_pay_without_a_channel(node: Harness) -> None:
    """What is missing, and the command that opens one."""
    node.books.put_virtual(7, BOB, paid=99)
    assert "scapp payments open bob" in run(node, "pay", "bob", "5", code=1).stderr
    assert "no virtual channel 0xdddd" in run(node, "pay", "0xdddd", "5", code=1).stderr
    run(node, "pay", "0707", "5", code=1)
    with pytest.raises(Refused, match="256 bits"):
        node.client.open_ledger("bob", {COIN: 2**256})
