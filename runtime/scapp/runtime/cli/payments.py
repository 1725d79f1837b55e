"""`scapp payments` and `scapp pay`: payment channels over ledgers, and payments in them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from scapp.runtime.cli.common import Problem, common, emit, settings, short, table, waiting
from scapp.runtime.cli.described import described, end, wait_option
from scapp.runtime.cli.invoices import WAIT_S, invoice, invoices, locked, pay_invoice
from scapp.runtime.cli.route import hubs_of

if TYPE_CHECKING:
    from scapp.runtime.client import Client
    from scapp.runtime.ledger_documents import PaymentView, VirtualView

WAIT = wait_option(30.0)
OPEN_WAIT_S = 90.0
"""Four tries (`routing.attempts`), each given up after `payments.funding_timeout_s` of silence, fit into it."""


@click.group()
def payments() -> None:
    """Payment channels: opened, paid in and closed over ledgers, without a transaction.

    A CHANNEL is its id, the beginning of it, or its other end (address or name) when there is only one with it."""


@payments.command("open")
@common
@click.argument("payee")
@click.argument("amount", metavar="AMOUNT[:ASSET]")
@click.option(
    "--via",
    "via",
    multiple=True,
    metavar="HUB",
    help="A hub between this node and the payee, in order; auto: the cheapest that are announced",
)
@click.option("--fee", "fees", multiple=True, metavar="AMOUNT", help="What each hub gets, in the same asset  [nothing]")
@click.option("--fee-max", metavar="AMOUNT", help="With --via auto: most to pay all hubs together  [no limit]")
@click.option(
    "--challenge-duration", type=click.IntRange(1), default=86_400, show_default=True, metavar="SECONDS",
    help="How long a dispute on chain waits for an answer",
)  # fmt: skip
@click.option("--locks", is_flag=True, help="One that takes hash locks: it pays invoices, from hub to hub")
@wait_option(OPEN_WAIT_S)
def open_(
    payee: str,
    amount: str,
    via: tuple[str, ...],
    fees: tuple[str, ...],
    fee_max: str | None,
    challenge_duration: int,
    locks: bool,
    wait_s: float,
) -> None:
    """Open a payment channel to PAYEE (address or name) in which up to AMOUNT can be paid.

    Without --via this node and the payee need a ledger with each other; with it, each has one with its neighbour. With
    --via auto other hubs are tried, while it waits, when some refuse."""
    from scapp.runtime.cli.amounts import COIN, parse_amount, parse_fees, parse_stake

    asset, number = parse_stake(amount, "AMOUNT")
    hubs = hubs_of(via)
    if fee_max is not None and hubs is not None:
        raise click.UsageError("--fee-max belongs to --via auto")
    with settings().client() as node, waiting("opening the payment channel"):
        found = node.open_payments(
            payee,
            asset,
            number,
            via=hubs or (),
            fees=parse_fees(fees, len(hubs or ()), asset),
            routed=hubs is None,
            fee_max=None if fee_max is None else parse_amount(fee_max, coin=asset == COIN, option="--fee-max"),
            challenge_duration_s=challenge_duration,
            locks=locks,
            wait_s=wait_s,
        )
    _settled(found, "running", wait_s)


@payments.command("list")
@common
@click.option("--all", "everything", is_flag=True, help="Those that are over as well")
def list_(everything: bool) -> None:
    """List payment channels, those that this node forwards among them."""
    with settings().client() as node:
        found = [each for each in node.virtuals("payment") if everything or each.phase not in OVER]
    rows = [
        (short(each.channel_id, 12), each.role, short(each.participants[0], 12), short(each.participants[-1], 12),
         each.phase, _paid(each), _whole(each), each.waiting_for or each.reason)
        for each in found
    ]  # fmt: skip
    headers = ("channel", "role", "payer", "payee", "phase", "paid", "of", "waiting for")
    emit({"channels": found}, table(headers, rows, right=(5, 6)) if rows else "no payment channels")


@payments.command()
@common
@click.argument("channel")
def show(channel: str) -> None:
    """Show one payment channel."""
    with settings().client() as node:
        found = node.virtual(channel)
    emit(found, lambda: _described(found))


@payments.command()
@common
@click.argument("channel")
@click.option("--override", is_flag=True, help="Go on without the other's answer; needed, for it is a risk")
def recover(channel: str, override: bool) -> None:
    """End the recovery of a payment channel that was restored from a backup.

    It ends by itself when the other end has told its largest voucher.
    With --override this node may promise again what it promised after the backup, or agree to less than it was."""
    if not override:
        raise click.UsageError("recovery ends by itself when the other has answered; --override ends it now, at a risk")
    with settings().client() as node:
        found = node.recover_payments(channel)
    emit(found, lambda: _described(found))


@payments.command()
@common
@click.argument("channel")
@click.option("--from", "first", type=click.IntRange(0), default=0, metavar="VERSION", help="Begin at this fact  [0]")
@click.option("--limit", type=click.IntRange(1, 1_000), default=100, show_default=True, help="Rows at most")
def history(channel: str, first: int, limit: int) -> None:
    """Show what was paid in a channel: the payer's single payments, the payee's vouchers.

    By its whole id also of a channel that the node has forgotten; amounts are then in the asset's smallest unit."""
    from scapp.runtime.cli.amounts import amount_text, time_text
    from scapp.runtime.client import Refused

    with settings().client() as node:
        found = node.payments(channel, first, limit)
        try:
            asset = node.virtual(channel).assets[0].asset
        except Refused:
            asset = ""

    def shown(amount: str) -> str:
        return amount_text(amount, asset) if asset else amount

    rows = [
        (str(row.version), time_text(row.at_ms // 1000), row.kind,
         ", ".join(map(shown, row.amounts)), shown(row.total) if row.total is not None else "")
        for row in found.rows
    ]  # fmt: skip
    emit(found, table(("version", "time", "what", "amounts", "total"), rows, right=(4,)) if rows else "nothing yet")


@payments.command()
@common
@click.argument("channel")
@WAIT
def close(channel: str, wait_s: float) -> None:
    """End a payment channel: what was paid moves in the ledgers, the rest comes back."""
    with settings().client() as node, waiting("closing the payment channel"):
        found = node.close_virtual(channel, wait_s)
    _settled(found, "released", wait_s)


@payments.command()
@common
@click.argument("channel")
@click.option("--yes", is_flag=True, help="Do not ask")
@WAIT
def challenge(channel: str, yes: bool, wait_s: float) -> None:
    """Settle a payment channel on chain, without the others: the payee redeems its voucher so.

    For when they are silent. The ledgers follow by themselves if their other parties answer; leave those that do not
    by `scapp ledger challenge`. There is no way back."""
    settle_on_chain(channel, yes=yes, wait_s=wait_s)


def settle_on_chain(channel: str, *, yes: bool, wait_s: float) -> None:
    """End a payment channel by the chain, once the user has agreed."""
    with settings().client() as node:
        if not yes and not settings().json:
            click.confirm("Take this payment channel to the chain? Nothing more is paid in it", abort=True, err=True)
        with waiting("settling the payment channel on chain"):
            found = node.challenge_virtual(channel, wait_s)
    _settled(found, "released", wait_s)


@click.command()
@common
@click.argument("to", metavar="PAYEE|CHANNEL|INVOICE")
@click.argument("amount", metavar="AMOUNT[:ASSET]", required=False)
@click.option("--via", "via", multiple=True, metavar="HUB", help="Of an invoice: hubs in order, or auto")
@click.option("--fee-max", metavar="AMOUNT", help="Of an invoice: most to pay all hubs together  [nothing]")
@click.option(
    "--wait", "wait_s", type=click.FloatRange(0, 300), metavar="SECONDS",
    help="Wait for the payee to hold it as well  [0; an invoice: 30]",
)  # fmt: skip
def pay(to: str, amount: str | None, via: tuple[str, ...], fee_max: str | None, wait_s: float | None) -> None:
    """Pay AMOUNT in a payment channel that is open, named by its payee (address or name) or by itself; or pay an
    INVOICE (`scapp payments invoice`), over payment channels that take locks.

    A payment in a channel is durable at this node when the command ends, and valid from then on. That of an invoice
    happens on its whole way or not at all; the same invoice again is the same payment."""
    from scapp.channels.payments.locked.invoice import is_invoice
    from scapp.runtime.cli.amounts import amount_text, parse_stake

    if is_invoice(to):
        if amount is not None:
            raise click.UsageError("an invoice says its amount itself")
        pay_invoice(to, via, fee_max, WAIT_S if wait_s is None else wait_s)
        return
    if amount is None or via or fee_max is not None:
        raise click.UsageError("a payment in a channel needs AMOUNT, and neither --via nor --fee-max")
    asset, number = parse_stake(amount, "AMOUNT")
    with settings().client() as node:
        channel = channel_to(node, to, asset, number)
        found = node.pay(channel, number, wait_s or 0.0)

    def text(found: PaymentView = found) -> str:
        paid, together, rest = (amount_text(n, asset) for n in (found.amount, found.paid, found.remaining))
        seen = "; the payee holds it" if found.seen else ""
        return f"paid {paid} in {short(found.channel_id, 12)}: {together} altogether, {rest} left{seen}"

    emit(found, text)


for _command in (invoice, invoices, locked):
    payments.add_command(_command)
_ADDRESS = re.compile("0x[0-9a-fA-F]{40}")
OVER = ("released", "rejected", "failed")


def channel_to(node: Client, to: str, asset: str, amount: int) -> str:
    """A channel in which this can be paid: the one named, or the fullest that fits to this payee."""
    from scapp.runtime.cli.amounts import amount_text

    peer = next((peer.address for peer in node.peers() if peer.name == to), None)
    address = (peer or to).lower()
    to_peer = [
        each for each in node.virtuals("payment")
        if each.role == "payer" and each.participants[-1].lower() == address
        and each.phase == "running" and each.assets[0].asset == asset.lower()
    ]  # fmt: skip
    usable = [each for each in to_peer if not each.locks]
    if peer is None and not usable and not _ADDRESS.fullmatch(to):
        return to  # a channel's id; the node says what is wrong with it
    fits = [each for each in usable if _left(each) >= amount]
    if not fits:
        most = amount_text(str(max(map(_left, usable))), asset) if usable else ""
        but = "; the one that takes hash locks pays invoices alone" if to_peer else ""
        raise Problem(
            f"no payment channel to {to} has that much left; the most is {most}" if most
            else f"no payment channel to {to} is open in that asset{but}",
            code="refused",
            hint=f"`scapp payments open {to} AMOUNT` opens one; `scapp payments list` shows what there is",
        )  # fmt: skip
    return min(fits, key=_left).channel_id


def _paid(found: VirtualView) -> str:
    """What this node knows was paid: a hub sees no voucher, only the end."""
    from scapp.runtime.cli.amounts import amount_text

    if found.role == "hub" and found.phase not in OVER:
        return "unknown to hubs"
    return amount_text(found.paid, found.assets[0].asset)


def _left(found: VirtualView) -> int:
    return int(found.assets[0].first) + int(found.assets[0].last) - int(found.paid)


def _whole(found: VirtualView) -> str:
    from scapp.runtime.cli.amounts import amount_text

    first = found.assets[0]
    return amount_text(str(int(first.first) + int(first.last)), first.asset)


def _settled(found: VirtualView, wanted: str, wait_s: float) -> None:
    end(found, _described(found), "payments", (wanted,), OVER, wait_s)


def _described(found: VirtualView) -> str:
    from scapp.runtime.cli.amounts import amount_text

    asset = found.assets[0].asset
    roles = ["payer", *(f"hub {index}" for index in range(1, len(found.participants) - 1)), "payee"]
    return described(
        [
            ("channel", found.channel_id),
            ("phase", found.phase),
            ("waiting for", found.waiting_for),
            ("reason", found.reason),
            *(
                (roles[index], f"{address}{' (this node)' if index == found.my_index else ''}")
                for index, address in enumerate(found.participants)
            ),
            ("holds", _whole(found)),
            ("paid", _paid(found)),
            ("locked", amount_text(found.locked, asset) if int(found.locked) else ""),
            ("takes", "hash locks" if found.locks else ""),
            *(("fee", f"{amount_text(fee, asset)} to hub {i}") for i, fee in enumerate(found.fees, 1) if int(fee)),
            ("challenge", f"{found.challenge_duration_s} s"),
        ]
    )
