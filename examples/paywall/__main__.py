"""`python -m examples.paywall sell` puts a paywall before a service; `… buy URL` pays at one (README.md)."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import IO

import aiohttp
import click
from aiohttp import web
from yarl import URL

from examples.paywall.buyer import Buyer, NotBought
from examples.paywall.node import NodeTill, NodeWallet
from examples.paywall.prices import Price, PriceList
from examples.paywall.proxy import Paywall, Settings
from examples.paywall.spending import Spending
from scapp.channels.errors import LocalError
from scapp.channels.payments.streaming import Tariff
from scapp.channels.types import ZERO_ADDRESS, Address
from scapp.runtime.client import Client, ClientError

HOME = click.option(
    "-C", "--home", type=click.Path(path_type=Path, file_okay=False), envvar="SCAPP_HOME",
    default=lambda: Path.home() / ".scapp", help="Directory of the running node  [SCAPP_HOME, else ~/.scapp]",
)  # fmt: skip


class _Tariff(click.ParamType[Tariff]):
    """`PRICE/BYTES`"""

    name = "tariff"

    def convert(self, value: str | Tariff, param: click.Parameter | None, ctx: click.Context | None) -> Tariff:
        if isinstance(value, Tariff):
            return value
        price, _, units = value.partition("/")
        try:
            return Tariff(int(price), int(units or 1))
        except (ValueError, LocalError):
            self.fail(f"{value!r} is not PRICE/BYTES, for example 3/1000", param, ctx)


@click.group()
def main() -> None:
    """HTTP, paid by scapp payment channels."""


@main.command()
@HOME
@click.option("--service", required=True, metavar="URL", help="What is sold, for example http://127.0.0.1:8000")
@click.option("--listen", default="127.0.0.1:8402", show_default=True, metavar="HOST:PORT")
@click.option("--endpoint", default="", metavar="HOST:PORT", help="Where payers reach the node")
@click.option("--asset", default=f"0x{ZERO_ADDRESS.hex()}", metavar="ADDRESS", help="A token  [the chain's coin]")
@click.option("--request", "per_request", type=click.IntRange(0), default=0, help="Price of a request")
@click.option("--body", type=_Tariff(), default="0", metavar="PRICE/BYTES", help="Price of an answer's bytes")
@click.option("--free", multiple=True, metavar="PATH", help="What costs nothing, with all below it")
@click.option(
    "--grace",
    "grace_s",
    type=click.FloatRange(0),
    default=10.0,
    show_default=True,
    help="Seconds that a body waits for further payment",
)
@click.option(
    "--spending", type=click.Path(path_type=Path, dir_okay=False), default=Path("paywall.db"), show_default=True
)
def sell(
    home: Path,
    service: str,
    listen: str,
    endpoint: str,
    asset: str,
    per_request: int,
    body: Tariff,
    free: tuple[str, ...],
    grace_s: float,
    spending: Path,
) -> None:
    """Sell an HTTP service, until interrupted."""
    raw = bytes.fromhex(asset.removeprefix("0x"))
    host, _, port = listen.rpartition(":")
    url = URL(service)
    if len(raw) != 20 or not port.isdigit() or not url.host:
        raise click.UsageError("--asset is an address, --listen HOST:PORT, --service a URL")
    prices = PriceList(Address(raw), Price(per_request, body), dict.fromkeys(free, Price()))
    try:
        till = NodeTill(Client.at_home(home), endpoint)
    except ClientError as error:
        raise click.ClickException(str(error)) from None
    wall = Paywall(till, prices, Spending(spending), Settings(url, grace_s))
    web.run_app(wall.application(), host=host, port=int(port), print=lambda text: click.echo(text, err=True))


@main.command()
@HOME
@click.argument("url")
@click.option("--channel", required=True, help="The payment channel to the seller")
@click.option("--limit", type=click.IntRange(0), required=True, help="The most that may be paid for this")
@click.option("--stream", is_flag=True, help="Pay while it comes")
@click.option("-o", "--output", type=click.File("wb"), default="-")
def buy(home: Path, url: str, channel: str, limit: int, stream: bool, output: IO[bytes]) -> None:
    """Fetch URL, and pay what it costs."""

    async def run() -> tuple[int, int]:
        wallet = NodeWallet(Client.at_home(home), channel)
        try:
            async with aiohttp.ClientSession(auto_decompress=False) as session:
                buyer = Buyer(session, wallet, limit)

                async def write(data: bytes) -> None:
                    await asyncio.to_thread(output.write, data)

                return await buyer.fetch(url, write, stream=stream), buyer.paid
        finally:
            wallet.close()

    try:
        size, paid = asyncio.run(run())
    except (NotBought, ClientError, aiohttp.ClientError) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    click.echo(f"{size} bytes, paid {paid}", err=True)


if __name__ == "__main__":
    main()
