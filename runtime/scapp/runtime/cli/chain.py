"""`scapp chain`: the chain behind funded channels: how the node stands to it, contracts on it, one to develop with."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from scapp.runtime.cli.chain_money import accounts, send
from scapp.runtime.cli.common import Problem, common, emit, settings, tell, waiting
from scapp.runtime.cli.described import described

if TYPE_CHECKING:
    from scapp.runtime.chain_documents import ChainStatusView


@click.group()
def chain() -> None:
    """The chain on which channels are funded: status, accounts, contracts, and one for development."""


chain.add_command(accounts)
chain.add_command(send)


@chain.command()
@common
def status() -> None:
    """Show how the running node stands to its chain."""
    with settings().client() as node:
        found = node.chain()
    emit(found, lambda: _status_text(found))


def _status_text(found: ChainStatusView) -> str:
    from scapp.runtime.cli.amounts import COIN, amount_text, time_text

    if not found.connected:
        return "this node has no chain: its channels are unfunded (docs/howto/fund-a-channel.md says how to have one)"
    lines = [
        ("chain", str(found.chain_id)),
        ("endpoint", f"{found.endpoint} (of {len(found.endpoints)})"),
        ("fault", found.fault),
        ("newest block", f"{found.head}, {time_text(found.head_time_s)}{_old(found)}" if found.head_time_s else "-"),
        ("processed", f"{found.processed}, {found.lag_blocks} behind" if found.processed is not None else "-"),
        ("confirmations", str(found.confirmations)),
        ("adjudicator", found.adjudicator),
        ("consensus app", found.consensus_app),
        *((f"no {kind} channels over ledgers", why) for kind, why in found.unprotected.items()),
        ("account", found.account),
        ("balance", amount_text(found.balance, COIN) if found.balance is not None else "-"),
        ("channels", f"{found.watched} watched, {found.pending} transactions under way"),
    ]
    return described(lines)


def _old(found: ChainStatusView) -> str:
    from scapp.channels.chain.port import OLD_HEAD_S

    return f": {found.behind_s} s ago, is the endpoint stuck?" if (found.behind_s or 0) > OLD_HEAD_S else ""


@chain.command()
@common
@click.option("--rpc", "url", required=True, metavar="URL", help="JSON-RPC endpoint of the chain")
@click.option("--contract", "names", multiple=True, metavar="NAME", help="One besides those that channels need")
@click.option(
    "--password-file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Password of an encrypted chain key",
)
def deploy(url: str, names: tuple[str, ...], password_file: Path | None) -> None:
    """Put the adjudicator and the contracts of all kinds of channels on a chain.

    The account of this directory's chain key pays for it.

    Needed once for each chain; everybody who plays there names the same addresses."""
    import asyncio
    import logging

    from scapp.channels.chain.deploy import SETTLEMENT, deploy
    from scapp.channels.chain.rpc import RpcClient
    from scapp.channels.types import Address
    from scapp.runtime.chain_setup import load_chain_key
    from scapp.runtime.config import ChainSettings, Config
    from scapp.runtime.key_passwords import ask_password
    from scapp.runtime.keys_file import CHAIN_KEY

    config = Config(chain=ChainSettings(key_password_file=str(password_file or "")))
    key = load_chain_key(settings().directory, lambda: ask_password(config, CHAIN_KEY))

    logging.getLogger("scapp.chain").addHandler(logging.NullHandler())  # the error says it, once

    async def run() -> tuple[int, dict[str, Address]]:
        try:
            client = RpcClient([url])
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--rpc") from None
        try:
            return await client.chain_id(), await deploy(client, key, (*SETTLEMENT, *names))
        finally:
            await client.close()

    with waiting("putting contracts on the chain"):
        chain_id, found = asyncio.run(run())
    addresses = {name: "0x" + address.hex() for name, address in found.items()}
    document = {"chain_id": chain_id, "account": "0x" + key.address.hex(), "contracts": addresses}
    lines = [
        *(f"{name:18} {address}" for name, address in addresses.items()),
        "",
        _toml(url, chain_id, addresses),
        "# confirmations: to be chosen for this chain, docs/adrs/0012-confirmations-per-chain.md",
    ]
    emit(document, "\n".join(lines))


def _toml(url: str, chain_id: int, contracts: dict[str, str]) -> str:
    """The chain as nodes are told of it, but for the confirmations."""
    return "\n".join(
        (
            "For scapp.toml of every node:",
            "",
            "[chain]",
            f'urls = ["{url}"]',
            f"id = {chain_id}",
            f'adjudicator = "{contracts["NitroAdjudicator"]}"',
            f'consensus_app = "{contracts["ConsensusApp"]}"',
            f'virtual_payment_app = "{contracts["VirtualPaymentApp"]}"',
            f'two_party_app = "{contracts["TwoPartyApp"]}"',
            f'hash_lock_app = "{contracts["HashLockPaymentApp"]}"',
        )
    )


@chain.command()
@common
@click.option("--port", type=click.IntRange(0, 65_535), default=8545, show_default=True, help="0: any free one")
@click.option("--block-time", type=click.FloatRange(0.1, 3_600), default=2.0, show_default=True, metavar="SECONDS")
@click.option("--fund", "funded", multiple=True, metavar="ADDRESS", help="Give this account 1,000 eth; may be repeated")
def dev(port: int, block_time: float, funded: tuple[str, ...]) -> None:
    """Run a chain for development with all contracts on it, until Ctrl-C. It forgets everything when it ends."""
    import signal

    from scapp.runtime.config import read_address
    from scapp.runtime.devchain import CHAIN_ID, hexed, running

    accounts = [read_address(text, "--fund") for text in funded]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # else the chain would be left behind
    try:
        with waiting("starting the chain (the first time it is downloaded)"):
            context = running(port, block_seconds=block_time)
            started = context.__enter__()
    except OSError as error:
        taken = "Address already in use" in str(error)
        hint = "choose another with --port" if taken else "pip install 'scapp[devchain]' brings a Node"
        raise Problem(str(error).strip(), code="refused", hint=hint) from None
    try:
        for account in accounts:
            started.fund(account, 10**21)
        contracts = {name: hexed(address) for name, address in started.contracts.items()}
        emit(
            {"url": started.url, "chain_id": CHAIN_ID, "contracts": contracts},
            "\n".join(
                (
                    f"chain {CHAIN_ID} at {started.url}, a block every {block_time:g} s",
                    *(f"  {name:18} {address}" for name, address in contracts.items()),
                    "",
                    _toml(started.url, CHAIN_ID, contracts),
                    "confirmations = 2",
                    "",
                )
            ),
        )
        sys.stdout.flush()
        tell("Ctrl-C ends it")
        signal.pause()
    except KeyboardInterrupt:
        pass
    finally:
        context.__exit__(None, None, None)
