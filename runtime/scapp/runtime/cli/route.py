"""`scapp route`: the ways to a node over hubs that announce themselves."""

from __future__ import annotations

from collections.abc import Iterable

import click

from scapp.channels.routing.paths import HUBS_SEARCHED_MAX, HUBS_USUAL
from scapp.runtime.cli.common import REFUSED, common, emit, settings, short, table

AUTO = "auto"
"""In place of hubs: those of the best route."""


def hubs_of(via: Iterable[str]) -> list[str] | None:
    """The hubs that `--via` names, each by itself or with commas between them; None for AUTO."""
    hubs = [name for each in via for name in each.split(",") if name]
    if AUTO in hubs and len(hubs) > 1:
        raise click.UsageError(f"--via {AUTO} finds all hubs; it stands alone")
    return None if hubs == [AUTO] else hubs


@click.command()
@common
@click.argument("to")
@click.argument("amount", metavar="AMOUNT[:ASSET]")
@click.option("--peer-amount", default="0", metavar="AMOUNT", help="What TO puts in itself (app channels)  [nothing]")
@click.option("--fee-max", metavar="AMOUNT", help="Most to pay all hubs together  [no limit]")
@click.option(
    "--hubs-max",
    type=click.IntRange(0, HUBS_SEARCHED_MAX),
    default=HUBS_USUAL,
    show_default=True,
    help="Most hubs on a way",
)
@click.option(
    "--challenge-duration", type=click.IntRange(1), default=86_400, show_default=True, metavar="SECONDS",
    help="Of the channel: hubs take only some",
)  # fmt: skip
def route(to: str, amount: str, peer_amount: str, fee_max: str | None, hubs_max: int, challenge_duration: int) -> None:
    """Show the cheapest ways to TO (address or name) for a channel in which this node puts AMOUNT.

    Opens nothing; `scapp payments open TO AMOUNT --via auto` does, and tries the next way if one fails."""
    from scapp.runtime.cli.amounts import COIN, amount_text, parse_amount, parse_stake

    asset, number = parse_stake(amount, "AMOUNT")
    coin = asset == COIN
    with settings().client() as node:
        found = node.routes(
            to,
            {asset: (number, parse_amount(peer_amount, coin=coin, option="--peer-amount"))},
            fee_max=parse_amount(fee_max, coin=coin, option="--fee-max") if fee_max is not None else None,
            hubs_max=hubs_max,
            challenge_duration_s=challenge_duration,
        )
        names = {peer.address.lower(): peer.name for peer in node.peers()}
    rows = [
        (
            ", ".join(names.get(hub) or short(hub, 12) for hub in each.hubs) or "this node's ledger",
            amount_text(each.fee, asset),
            "all have enough" if each.sure else "may have enough",
        )
        for each in found
    ]
    nothing = f"no way to {to} is known for that amount: the hubs on it and {to} itself have to announce their ledgers"
    text = table(("over", "fee", "hubs"), rows, right=(1,)) if rows else nothing
    emit({"routes": found}, text)
    if not found:
        click.get_current_context().exit(REFUSED)
