"""`scapp ledger`: open, accept, list, show, top up, close ledgers, and what they do on chain."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from scapp.runtime.cli.common import common, emit, settings, short, table, waiting
from scapp.runtime.cli.described import chain_lines, described, end, not_yet, wait_option

if TYPE_CHECKING:
    from scapp.runtime.ledger_documents import LedgerAssetView, LedgerView

WAIT = wait_option(60.0)
OVER = ("settled", "rejected")


@click.group()
def ledger() -> None:
    """Ledgers: money that this node and a peer hold on chain together, for channels that need no transaction.

    A LEDGER is its id, the beginning of it, or the peer (address or name) with whom there is only one."""


@ledger.command("open")
@common
@click.argument("peer")
@click.option(
    "--deposit", "deposits", multiple=True, metavar="AMOUNT[:ASSET]",
    help="What this node deposits, as 5, 3gwei, 0.1eth, or 100:0xTOKEN; one per asset",
)  # fmt: skip
@click.option(
    "--peer-deposit", "others", multiple=True, metavar="AMOUNT[:ASSET]", help="What the peer is to deposit  [nothing]"
)
@click.option("--pay-to", metavar="ACCOUNT", help="Where this node's part is paid out  [its channel address]")
@click.option(
    "--challenge-duration", type=click.IntRange(1), default=86_400, show_default=True, metavar="SECONDS",
    help="How long a dispute on chain waits for an answer",
)  # fmt: skip
@WAIT
def open_(
    peer: str,
    deposits: tuple[str, ...],
    others: tuple[str, ...],
    pay_to: str | None,
    challenge_duration: int,
    wait_s: float,
) -> None:
    """Propose a ledger to PEER (address or name). It runs once all deposits are confirmed on chain.

    There is one ledger with each peer. Payments and channels over it need no transaction."""
    from scapp.runtime.cli.amounts import by_asset

    mine, theirs = by_asset(deposits, "--deposit"), by_asset(others, "--peer-deposit")
    if not mine and not theirs:
        raise click.UsageError("a ledger needs --deposit or --peer-deposit")
    with settings().client() as node, waiting("opening the ledger: deposits have to be confirmed"):
        found = node.open_ledger(
            peer, mine, theirs, pay_to=pay_to, challenge_duration_s=challenge_duration, wait_s=wait_s
        )
    _settled(found, ("running",), wait_s)


@ledger.command("list")
@common
def list_() -> None:
    """List the node's ledgers, and what is free in them."""
    from scapp.runtime.cli.amounts import amount_text

    with settings().client() as node:
        found = node.ledgers()
    rows = [
        (short(each.channel_id, 12), each.peer_name or short(each.peer, 12), each.phase,
         *(amount_text(text, asset.asset) if asset else "-" for text in
           ((asset.mine, asset.theirs, asset.locked) if asset else ("", "", ""))),
         len(each.channels) if asset else "-", each.waiting_for or each.reason)
        for each in found
        for asset in (each.assets if each.phase not in OVER else ()) or (None,)
    ]  # fmt: skip
    headers = ("ledger", "peer", "phase", "mine", "theirs", "locked", "channels", "waiting for")
    emit({"ledgers": found}, table(headers, rows, right=(3, 4, 5, 6)) if rows else "no ledgers")


@ledger.command()
@common
@click.option("--since", metavar="TIME", help="A day or a moment: 2026-11-01, 2026-11-01T12:00  [the beginning]")
@click.option("--until", metavar="TIME", help="Not that moment, nor what came later  [now]")
def income(since: str | None, until: str | None) -> None:
    """Show what this node has earned as a hub, by the peer that paid it: fees of channels at their opening, of locked
    payments at their end."""
    from scapp.runtime.cli.amounts import amount_text, parse_time

    first, last = parse_time(since, "--since"), parse_time(until, "--until")
    with settings().client(timeout_s=86_400.0) as node, waiting("reading the log"):
        found = node.income(first or 0, last)
    rows: list[tuple[object, ...]] = []
    for asset in dict.fromkeys(each.asset for each in found.rows):
        of = [
            (each.peer_name or short(each.peer, 12), each.channels, int(each.channel_fees), each.payments,
             int(each.payment_fees)) for each in found.rows if each.asset == asset
        ]  # fmt: skip
        if len(of) > 1:
            channels, fees, payments, more = (
                sum(column) for column in list(zip(*(line[1:] for line in of), strict=True))
            )
            of.append(("all", channels, fees, payments, more))
        rows += [
            (who, channels, amount_text(str(fees), asset), payments, amount_text(str(more), asset),
             amount_text(str(fees + more), asset))
            for who, channels, fees, payments, more in of
        ]  # fmt: skip
    headers = ("peer", "channels", "fees", "payments", "fees", "together")
    emit(found, table(headers, rows, right=(1, 2, 3, 4, 5)) if rows else "nothing earned")


@ledger.command()
@common
@click.argument("ledger")
def show(ledger: str) -> None:
    """Show one ledger."""
    with settings().client() as node:
        found = node.ledger(ledger)
    emit(found, lambda: _described(found))


@ledger.command()
@common
@click.argument("ledger")
@WAIT
def accept(ledger: str, wait_s: float) -> None:
    """Accept a proposed ledger; this node then deposits its part."""
    with settings().client() as node, waiting("accepting the ledger: deposits have to be confirmed"):
        found = node.accept_ledger(ledger, wait_s)
    _settled(found, ("running",), wait_s)


@ledger.command()
@common
@click.argument("ledger")
@click.option("--reason", default="rejected by the operator", show_default=True)
def reject(ledger: str, reason: str) -> None:
    """Reject a proposed ledger."""
    with settings().client() as node:
        found = node.reject_ledger(ledger, reason)
    emit(found, lambda: _described(found))


@ledger.command("top-up")
@common
@click.argument("ledger")
@click.argument("amount", metavar="AMOUNT[:ASSET]")
@WAIT
def top_up(ledger: str, amount: str, wait_s: float) -> None:
    """Deposit more into a ledger, while channels over it go on."""
    from scapp.runtime.cli.amounts import parse_stake

    asset, number = parse_stake(amount)
    with settings().client() as node:
        before = node.ledger(ledger)
        with waiting("topping up: the deposit has to be confirmed"):
            found = node.top_up_ledger(ledger, asset, number, wait_s)
    _changed(before, found, asset, wait_s)


@ledger.command("cancel-top-up")
@common
@click.argument("ledger")
@click.option("--asset", default="coin", show_default=True, metavar="ASSET", help="`coin`, or a token's address")
@WAIT
def cancel_top_up(ledger: str, asset: str, wait_s: float) -> None:
    """Take a top-up back whose deposit was not sent to the chain yet; the peer has to sign that."""
    from scapp.runtime.cli.amounts import parse_stake

    address, _ = parse_stake("1" if asset == "coin" else f"1:{asset}", "--asset")
    with settings().client() as node, waiting("taking the top-up back"):
        found = node.cancel_top_up_ledger(ledger, address, wait_s)
    emit(found, _described(found))
    if wait_s > 0 and any(each.asset == address.lower() and int(each.announced) for each in found.assets):
        not_yet(found, "not done", "ledger", wait_s)


@ledger.command()
@common
@click.argument("ledger")
@click.argument("amount", metavar="AMOUNT[:ASSET]")
@click.option("--yes", is_flag=True, help="Do not ask")
@WAIT
def transfer(ledger: str, amount: str, yes: bool, wait_s: float) -> None:
    """Give the peer a part of what this node has in a ledger, for nothing."""
    from scapp.runtime.cli.amounts import amount_text, parse_stake

    asset, number = parse_stake(amount)
    with settings().client() as node:
        before = node.ledger(ledger)
        if not yes and not settings().json:
            to = before.peer_name or before.peer
            click.confirm(f"Give {amount_text(str(number), asset)} to {to}? There is no way back", abort=True, err=True)
        with waiting("transferring"):
            found = node.transfer(ledger, asset, number, wait_s)
    _changed(before, found, asset, wait_s)


@ledger.command()
@common
@click.argument("ledger")
@WAIT
def close(ledger: str, wait_s: float) -> None:
    """End a ledger that funds no channel any more; both are paid out on chain by one transaction."""
    with settings().client() as node, waiting("closing the ledger: the payout has to be confirmed"):
        found = node.close_ledger(ledger, wait_s)
    _settled(found, ("settled",), wait_s)


@ledger.command()
@common
@click.argument("ledger")
@click.option("--yes", is_flag=True, help="Do not ask")
@WAIT
def challenge(ledger: str, yes: bool, wait_s: float) -> None:
    """Leave a ledger without the peer: its newest co-signed state goes to the chain.

    Channels that it funds are settled on chain as well. There is no way back."""
    with settings().client() as node:
        if not yes and not settings().json:
            before = node.ledger(ledger)
            more = f" and what it funds (channels: {len(before.channels)})" if before.channels else ""
            click.confirm(f"Leave ledger {before.channel_id[:12]}…{more}?", abort=True, err=True)
        with waiting("leaving the ledger"):
            found = node.challenge_ledger(ledger, wait_s)
    _settled(found, ("settled",), wait_s)


@ledger.command()
@common
@click.argument("ledger")
@WAIT
def withdraw(ledger: str, wait_s: float) -> None:
    """Have a closed or finalized ledger paid out now, without waiting for the peer to do it."""
    with settings().client() as node, waiting("paying out the ledger"):
        found = node.withdraw_ledger(ledger, wait_s)
    _settled(found, ("settled",), wait_s)


@ledger.command()
@common
@click.argument("ledger")
@click.option("--override", is_flag=True, help="Go on without the peer's answer; needed, for it is a risk")
def recover(ledger: str, override: bool) -> None:
    """End the recovery of a ledger that was restored from a backup, which ends by itself when the peer has answered.

    With --override this node may sign what contradicts a state that it signed after the backup."""
    if not override:
        raise click.UsageError("recovery ends by itself when the peer has answered; --override ends it now, at a risk")
    with settings().client() as node:
        found = node.recover_ledger(ledger)
    emit(found, lambda: _described(found))


def _settled(found: LedgerView, wanted: tuple[str, ...], wait_s: float) -> None:
    end(found, _described(found), "ledger", wanted, ("rejected",), wait_s)


def _changed(before: LedgerView, found: LedgerView, asset: str, wait_s: float) -> None:
    """The same for a change of what this node has of an asset."""
    emit(found, _described(found))
    if wait_s > 0 and _mine(before, asset) == _mine(found, asset):
        not_yet(found, "not done", "ledger", wait_s)


def _mine(found: LedgerView, asset: str) -> str:
    return next((each.mine for each in found.assets if each.asset == asset.lower()), "")


def _described(found: LedgerView) -> str:
    from scapp.runtime.cli.amounts import amount_text, time_text

    return described(
        [
            ("ledger", found.channel_id),
            ("phase", found.phase),
            ("waiting for", found.waiting_for),
            ("reason", found.reason),
            ("peer", f"{found.peer} {found.peer_name}".strip()),
            ("leader", "this node" if found.leads else "the peer"),
            ("turn", "-" if found.turn is None else str(found.turn)),
            *(
                ("held" if found.phase in OVER else "holds", _shares(each, locked=found.phase not in OVER))
                for each in found.assets
                if found.phase != "rejected"
            ),
            *(("funds", channel) for channel in found.channels),
            ("unsigned", f"{found.queued} changes" if found.queued else ""),
            ("challenge", f"{found.challenge_duration_s} s"),
            *(chain_lines(found.chain, amount_text, time_text) if found.chain else ()),
        ]
    )


def _shares(each: LedgerAssetView, *, locked: bool) -> str:
    """What each has of an asset; of a ledger that is over, what its newest co-signed state gave them."""
    from scapp.runtime.cli.amounts import amount_text

    mine, theirs, bound = (amount_text(text, each.asset) for text in (each.mine, each.theirs, each.locked))
    text = f"{mine} of this node, {theirs} of the peer"
    return (
        f"{text}, {bound} locked"
        if locked
        else f"{text} by the last state of both" + (f", {bound} in channels that it funded" if int(each.locked) else "")
    )
