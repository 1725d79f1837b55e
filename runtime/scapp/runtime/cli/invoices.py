"""`scapp payments invoice`, `invoices`, `locked`, and `scapp pay INVOICE`: payments under hash locks over hubs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from scapp.runtime.cli.common import REFUSED, TIMEOUT, common, emit, settings, short, table, tell, waiting
from scapp.runtime.cli.described import described
from scapp.runtime.cli.route import hubs_of

if TYPE_CHECKING:
    from scapp.runtime.invoice_documents import InvoiceView, LockedPaymentView

WAIT_S = 30.0


@click.command()
@common
@click.argument("amount", metavar="AMOUNT[:ASSET]")
@click.option(
    "--expires", "expires_s", type=click.IntRange(1), default=3_600, show_default=True, metavar="SECONDS",
    help="How long it may be paid",
)  # fmt: skip
@click.option("--memo", default="", help="What it is for; the payer reads it")
def invoice(amount: str, expires_s: int, memo: str) -> None:
    """Ask to be paid AMOUNT: prints an invoice, which its payer gives to `scapp pay`.

    It is paid over payment channels that take locks, from hub to hub, in all of them or in none."""
    from scapp.runtime.cli.amounts import parse_stake

    asset, number = parse_stake(amount, "AMOUNT")
    with settings().client() as node:
        found = node.make_invoice(asset, number, expires_in_s=expires_s, memo=memo)
    emit(found, found.invoice)


@click.command()
@common
@click.option("--all", "everything", is_flag=True, help="Those that are paid or have expired as well")
def invoices(everything: bool) -> None:
    """List this node's invoices."""
    import time

    from scapp.runtime.cli.amounts import amount_text, time_text

    now_s = time.time()
    with settings().client() as node:
        found = [each for each in node.invoices() if everything or not (each.paid or each.expires_s <= now_s)]

    def row(each: InvoiceView) -> tuple[str, ...]:
        state = "paid" if each.paid else "expired" if each.expires_s <= now_s else "open"
        return short(each.hash, 12), state, amount_text(each.amount, each.asset), time_text(each.expires_s), each.memo

    headers = ("hash", "state", "amount", "until", "memo")
    emit({"invoices": found}, table(headers, list(map(row, found)), right=(2,)) if found else "no invoices")


@click.command()
@common
@click.option("--all", "everything", is_flag=True, help="Those that are over as well")
def locked(everything: bool) -> None:
    """List payments under hash locks that this node pays, passes on, or is paid."""
    from scapp.runtime.cli.amounts import amount_text, time_text

    with settings().client() as node:
        found = [each for each in node.locked_payments() if everything or each.status in ("locked", "failing")]
    rows = [
        (short(each.hash, 12), each.role, each.status, amount_text(each.amount, each.asset),
         amount_text(each.fee, each.asset), time_text(each.expiry_s), each.reason)
        for each in found
    ]  # fmt: skip
    headers = ("hash", "role", "status", "amount", "fee", "lock ends", "reason")
    emit({"payments": found}, table(headers, rows, right=(3, 4)) if rows else "no locked payments")


def pay_invoice(text: str, via: tuple[str, ...], fee_max: str | None, wait_s: float) -> None:
    """`scapp pay INVOICE`."""
    from scapp.channels.payments.locked.invoice import read_invoice
    from scapp.runtime.cli.amounts import COIN, parse_amount

    asset = "0x" + read_invoice(text).asset.hex()
    hubs = hubs_of(via)
    allowed = parse_amount(fee_max, coin=asset == COIN, option="--fee-max") if fee_max is not None else 0
    with settings().client() as node, waiting("paying"):
        found = node.pay_invoice(text, via=hubs or (), routed=hubs is None, fee_max=allowed, wait_s=wait_s)
    emit(found, lambda: _described(found))
    if found.status in ("failing", "failed"):
        click.get_current_context().exit(REFUSED)
    if wait_s > 0 and found.status == "locked":
        tell(f"not paid after {wait_s:g} s; it goes on: `scapp payments locked`, or the same command again")
        click.get_current_context().exit(TIMEOUT)


def _described(found: LockedPaymentView) -> str:
    from scapp.runtime.cli.amounts import amount_text, time_text

    back = f"; what is locked comes back at {time_text(found.expiry_s)}" if found.status == "failing" else ""
    return described(
        [
            ("payment", found.hash),
            ("status", found.status),
            ("reason", f"{found.reason}{back}" if found.reason else ""),
            ("payee", found.payee or ""),
            ("amount", amount_text(found.amount, found.asset)),
            ("fee", amount_text(found.fee, found.asset) if int(found.fee) else ""),
            ("channel", found.outgoing or ""),
            ("lock ends", time_text(found.expiry_s) if found.status == "locked" else ""),
            ("receipt", found.preimage if found.preimage != "0x" else ""),
        ]
    )
