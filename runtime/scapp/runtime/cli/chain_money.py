"""`scapp chain accounts` and `scapp chain send`: what this directory's keys hold on chain, and moving it elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import click

from scapp.runtime.cli.common import Problem, common, emit, settings, table, waiting

if TYPE_CHECKING:
    from scapp.channels.chain.paying import Payment
    from scapp.channels.chain.rpc import RpcClient
    from scapp.channels.chain.settings import ChainSettings

T = TypeVar("T")
_TOKENS = click.option("--asset", "tokens", multiple=True, metavar="TOKEN", help="Show this token too; may be repeated")


@click.command()
@common
@_TOKENS
def accounts(tokens: tuple[str, ...]) -> None:
    """Show the accounts of this directory's keys on its chain, and what they hold.

    Channels pay out to the channel key's address unless they were opened with --payout; the chain key's account pays
    for deposits and transactions."""
    from scapp.channels.chain.paying import balance_of
    from scapp.channels.types import ZERO_ADDRESS
    from scapp.runtime.cli.amounts import COIN, amount_text
    from scapp.runtime.config import read_address
    from scapp.runtime.keys_file import CHAIN_KEY, CHANNEL_KEY, find_key, key_info

    home = settings().directory
    roles = {CHANNEL_KEY: "channel key", CHAIN_KEY: "chain key"}
    found = {name: key_info(home, role).address for role, name in roles.items() if find_key(home, role)}
    assets = [ZERO_ADDRESS, *(read_address(token, "--asset") for token in tokens)]

    async def read(client: RpcClient, _: ChainSettings) -> list[tuple[str, str, str, int]]:
        return [
            (name, "0x" + account.hex(), COIN if asset == ZERO_ADDRESS else "0x" + asset.hex(),
             await balance_of(client, account, asset))
            for name, account in found.items() for asset in assets
        ]  # fmt: skip

    rows = _on_chain(read)
    document = [{"key": n, "account": a, "asset": asset, "balance": str(has)} for n, a, asset, has in rows]
    emit({"accounts": document}, table(("key", "account", "balance"), [
        (name, account, amount_text(str(has), asset)) for name, account, asset, has in rows
    ]))  # fmt: skip


@click.command()
@common
@click.argument("account")
@click.argument("amount", metavar="AMOUNT[:TOKEN]|all[:TOKEN]")
@click.option(
    "--from", "source", type=click.Choice(["channel", "chain"]), default="channel", show_default=True,
    help="Whose money: the channel key's, where channels pay out, or the chain key's while no node runs",
)  # fmt: skip
@click.option("--yes", is_flag=True, help="Do not ask")
def send(account: str, amount: str, source: str, yes: bool) -> None:
    """Send coin or tokens of this directory's keys to ACCOUNT. Nothing of channels is touched; there is no way back.

    The channel key's address needs some coin for fees, also to send tokens."""
    from scapp.channels.chain.key import ChainKey
    from scapp.channels.chain.paying import pay, prepare
    from scapp.channels.types import ZERO_ADDRESS
    from scapp.runtime import logs
    from scapp.runtime.cli.amounts import COIN, amount_text, parse_stake
    from scapp.runtime.config import load_config, read_address
    from scapp.runtime.home_lock import lock_home
    from scapp.runtime.key_passwords import ask_password
    from scapp.runtime.keys_file import CHAIN_KEY, CHANNEL_KEY, load_key

    home, role = settings().directory, {"channel": CHANNEL_KEY, "chain": CHAIN_KEY}[source]
    recipient = read_address(account, "ACCOUNT")
    whole, _, token = amount.partition(":")
    everything = whole == "all"
    asset_text, number = parse_stake(f"0:{token}" if everything and token else "0" if everything else amount, "AMOUNT")
    asset = ZERO_ADDRESS if asset_text == COIN else read_address(asset_text, "AMOUNT")
    # A node counts the nonces of that account itself, and must not run meanwhile.
    with contextlib.ExitStack() as held:
        if source == "chain":
            held.callback(lock_home(home))
        secret = load_key(home, lambda: ask_password(load_config(home), role), role)
        logs.hide(secret)
        key = ChainKey(secret)

        async def plan(client: RpcClient, chain: ChainSettings) -> Payment:
            return await prepare(
                client, key.address, recipient, asset, None if everything else number, chain.fee_ceiling
            )

        payment = _on_chain(plan)
        shown = amount_text(str(payment.amount), asset_text)
        fees = amount_text(str(payment.fee), COIN)
        if not yes and not settings().json:
            click.confirm(
                f"Send {shown} from 0x{key.address.hex()} to {account} for up to {fees}?", abort=True, err=True
            )

        async def carry_out(client: RpcClient, chain: ChainSettings) -> object:
            return await pay(client, key, chain.chain_id, payment, chain.poll_seconds)

        with waiting("sending"):
            done = _on_chain(carry_out)
    _report(done, key.address, account, asset_text, payment)


def _report(done: object, source: bytes, account: str, asset: str, payment: Payment) -> None:
    from scapp.channels.chain.client import Receipt
    from scapp.runtime.cli.amounts import amount_text

    included = isinstance(done, Receipt)
    hash_ = done.transaction if isinstance(done, Receipt) else done
    assert isinstance(hash_, bytes)
    if isinstance(done, Receipt) and not done.ok:
        raise Problem(f"transaction 0x{hash_.hex()} reverted: nothing was moved but its fees", code="refused")
    document = {
        "transaction": "0x" + hash_.hex(), "from": "0x" + source.hex(), "to": account, "asset": asset,
        "amount": str(payment.amount), "block": done.block if isinstance(done, Receipt) else None,
    }  # fmt: skip
    where = f"in block {document['block']}" if included else "sent, in no block yet"
    emit(document, f"{amount_text(str(payment.amount), asset)} to {account}: transaction 0x{hash_.hex()}, {where}")


def _on_chain(ask: Callable[[RpcClient, ChainSettings], Awaitable[T]]) -> T:
    """Ask the chain of this directory's settings; the endpoint must be of that chain."""
    from scapp.channels.chain.rpc import RpcClient
    from scapp.runtime.chain_setup import chain_settings
    from scapp.runtime.config import load_config

    given = load_config(settings().directory).chain
    if not given.urls:
        raise Problem("no chain is configured", code="refused", hint="[chain] in scapp.toml names one")
    chain = chain_settings(given)

    async def run() -> T:
        client = RpcClient(chain.endpoints, chain.chain_id)
        try:
            return await ask(client, chain)
        finally:
            await client.close()

    return asyncio.run(run())
