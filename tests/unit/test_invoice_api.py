"""Invoices and locked payments over the API and the command line, against books that pay at once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from scapp.channels.books.info import PayInvoiceRequest, PaymentChannelRequest
from scapp.channels.payments.locked.invoice import Invoice, write_invoice
from scapp.channels.signing import Signer
from scapp.channels.types import ZERO_ADDRESS, ZERO_HASH
from scapp.runtime.cli.main import scapp
from tests.support.api_harness import Harness, served
from tests.support.fake_service import BOB, CAROL

PAYEE = Signer(b"\x07" * 32)
INVOICE = write_invoice(
    Invoice(
        network=ZERO_HASH, app=ZERO_ADDRESS, payee=PAYEE.address, asset=ZERO_ADDRESS, amount=30, hash=b"\x21" * 32,
        expires_s=2_000_000_000,
    ),
    PAYEE,
)  # fmt: skip


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


def test_make_and_list_invoices(node: Harness) -> None:
    """People get the text alone, to hand it on; programs a document."""
    assert run(node, "payments", "invoice", "3gwei", "--expires", "60", "--memo", "tea").stdout == "scapp1abc\n"
    (made,) = node.books.locked.made
    assert (made.amount, made.memo) == (3 * 10**9, "tea")
    assert "tea" in run(node, "payments", "invoices").stdout
    (found,) = json.loads(run(node, "payments", "invoices", "--json").stdout)["invoices"]
    assert (found["amount"], found["paid"]) == ("3000000000", False)


def test_pay_an_invoice_over_named_hubs_and_over_any(node: Harness) -> None:
    """Hubs behind one --via or several; the receipt is shown; the same list has it."""
    assert "receipt  0x1111" in run(node, "pay", INVOICE, "--via", "bob,carol", "--fee-max", "5").stdout
    run(node, "pay", INVOICE, "--via", "bob", "--via", "carol", "--fee-max", "5", "--wait", "0")
    run(node, "pay", INVOICE, "--via", "auto")
    named, again, routed = node.books.locked.requests
    assert (named.via, named.fee_max, named.wait_s) == ((BOB, CAROL), 5, 30.0)
    assert (again.via, again.wait_s) == ((BOB, CAROL), 0.0)
    assert routed == PayInvoiceRequest(invoice=INVOICE, routed=True, wait_s=30.0)
    assert "paid" in run(node, "payments", "locked", "--all").stdout
    assert run(node, "payments", "locked").stdout == "no locked payments\n"


def test_what_becomes_of_a_payment_is_the_exit_code(node: Harness) -> None:
    """Refused before anything is locked and refused after it: 1; not known in time: 4; written wrong: 2."""
    assert "this hub asks 2" in run(node, "pay", INVOICE, "--via", "bob", code=1).output
    node.books.locked.status = "failing"
    found = run(node, "pay", INVOICE, code=1)
    assert "no invoice has that hash; what is locked comes back at" in found.stdout
    node.books.locked.status = "locked"
    assert "not paid after 30 s" in run(node, "pay", INVOICE, code=4).output
    assert "damaged" in run(node, "pay", INVOICE[:-4] + "aaaa", code=1).output
    assert "says its amount itself" in run(node, "pay", INVOICE, "5", code=2).output
    assert "needs AMOUNT" in run(node, "pay", "bob", code=2).output


def test_open_a_channel_that_takes_locks(node: Harness) -> None:
    """`pay PAYEE AMOUNT` leaves it alone."""
    run(node, "payments", "open", "carol", "100", "--locks")
    (request,) = node.books.requests
    assert request == PaymentChannelRequest(payee=CAROL, amount=100, locks=True)
