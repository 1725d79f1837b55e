"""`scapp voucher`: vouchers as files, for payees that this node does not reach now."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

import click

from scapp.runtime.cli.common import Problem, common, emit, settings, short, tell
from scapp.runtime.cli.described import wait_option
from scapp.runtime.cli.payments import channel_to, settle_on_chain

if TYPE_CHECKING:
    from scapp.runtime.ledger_documents import PaymentView, VoucherView

VOUCHER_BYTES_MAX = 1_024


@click.group()
def voucher() -> None:
    """Vouchers as files: a payment may reach its payee in any way, and counts once.

    A CHANNEL is the id of a payment channel, the beginning of it, or its other end when there is only one with it."""


@voucher.command()
@common
@click.argument("to", metavar="PAYEE|CHANNEL")
@click.argument("amount", metavar="AMOUNT[:ASSET]")
@click.option("-o", "--output", type=click.File("w", lazy=True), default="-", help="File to write  [standard output]")
def create(to: str, amount: str, output: IO[str]) -> None:
    """Pay AMOUNT, and write the voucher over everything paid so far in the channel.

    It is paid with this command, whatever becomes of the file; the node also sends it to the payee when it can."""
    from scapp.runtime.cli.amounts import parse_stake

    asset, number = parse_stake(amount, "AMOUNT")
    with settings().client() as node:
        found = node.pay(channel_to(node, to, asset, number), number)
    _written(found, output)


@voucher.command()
@common
@click.argument("channel")
@click.option("-o", "--output", type=click.File("w", lazy=True), default="-", help="File to write  [standard output]")
def show(channel: str, output: IO[str]) -> None:
    """Write the largest voucher of a payment channel again; nothing is paid."""
    with settings().client() as node:
        found = node.voucher(channel)
    if not found.voucher:
        raise Problem(f"nothing was paid in {short(found.channel_id, 12)} yet", code="refused")
    _written(found, output)


@voucher.command("import")
@common
@click.argument("file", type=click.File("r"))
def import_(file: IO[str]) -> None:
    """Take the voucher in FILE (- for standard input), at the payee's node."""
    from scapp.runtime.cli.amounts import amount_text

    text = file.read(VOUCHER_BYTES_MAX + 1).strip()
    with settings().client() as node:
        found = node.take_voucher(text)
    added, paid = (amount_text(n, found.asset) for n in (found.added, found.paid))
    emit(found, f"{added} more in {short(found.channel_id, 12)}, {paid} altogether, from {found.payer}")


@voucher.command()
@common
@click.argument("file", type=click.File("r"))
@click.option("--yes", is_flag=True, help="Do not ask")
@wait_option(30.0)
def redeem(file: IO[str], yes: bool, wait_s: float) -> None:
    """Take the voucher in FILE to the chain, at the payee's node: its channel is settled there, without the others.

    For when they are silent. `scapp payments close` gives the payee the same in its ledger, without a transaction."""
    with settings().client() as node:
        found = node.take_voucher(file.read(VOUCHER_BYTES_MAX + 1).strip())
    settle_on_chain(found.channel_id, yes=yes, wait_s=wait_s)


def _written(found: PaymentView | VoucherView, output: IO[str]) -> None:
    if output.name == "-" or settings().json:
        emit(found, found.voucher)
    if output.name != "-":
        output.write(found.voucher + "\n")
        tell(f"the voucher of {short(found.channel_id, 12)} is in {output.name}")
