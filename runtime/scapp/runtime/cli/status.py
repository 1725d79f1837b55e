"""`scapp status` and `scapp peers`: the node at a glance, and whom it knows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from scapp.runtime.cli.common import common, emit, printable, settings, table
from scapp.runtime.cli.ledger import OVER

if TYPE_CHECKING:
    from scapp.runtime.chain_documents import ChainStatusView
    from scapp.runtime.client import Client
    from scapp.runtime.documents import ChannelView
    from scapp.runtime.ledger_documents import LedgerView


@click.command()
@common
@click.option("--counters", is_flag=True, help="Also show the node's metrics")
def status(counters: bool) -> None:
    """Show a running node at a glance."""
    import msgspec

    from scapp.runtime.cli.amounts import size_text

    with settings().client() as node:
        found = node.status()
        channels = node.channels(over=False)
        metrics = node.counters() if counters else {}
        chain = node.chain()
        ledgers = _ledgers(node) if chain.connected else None
    document = {
        **msgspec.to_builtins(found),
        "derived": {c.channel_id: msgspec.to_builtins(c.derived) for c in channels if c.derived},
    }
    if chain.connected:
        document["chain"] = msgspec.to_builtins(chain)
    if ledgers is not None:
        document["ledgers"] = msgspec.to_builtins(ledgers)
    if counters:
        document["counters"] = metrics
    lines = [
        ("address", found.address),
        ("home", found.home),
        ("listens", found.listen),
        ("version", f"{found.version} (pid {found.pid})"),
        *(
            [("log", f"NOTHING IS SIGNED until the next start: {found.log_failure}; mend the disk, start again")]
            if found.log_failure
            else []
        ),
        ("database", f"{found.database.backend}: {found.database.state} {found.database.detail}".rstrip()),
        ("psql", f'psql "{found.database.url}"' if found.database.url else "-"),
        ("peers", f"{found.peers_connected} of {found.peers_known} connected"),
        ("apps", str(found.apps)),
        ("channels", ", ".join(f"{n} {phase}" for phase, n in sorted(found.channels.items())) or "none"),
        ("accepts", found.policy),
        ("disk", f"{size_text(found.log_bytes)} of log, {size_text(found.disk_free_bytes)} free"),
        *(_chain_lines(chain, channels) if chain.connected else ()),
        *_ledger_lines(ledgers or ()),
    ]
    behind = [c for c in channels if c.derived and c.derived.sequence < c.sequence]
    lines += [(f"  {c.channel_id[:12]}", _lag(c.derived, c.sequence)) for c in behind]
    lines += sorted((name, str(count)) for name, count in metrics.items())
    lines += [(f"  {channel_id[:12]}", f"CORRUPT: {reason}") for channel_id, reason in found.corrupt.items()]
    width = max(len(name) for name, _ in lines)
    emit(document, "\n".join(f"{name.ljust(width)}  {printable(value)}" for name, value in lines))


def _chain_lines(chain: ChainStatusView, channels: Sequence[ChannelView]) -> list[tuple[str, str]]:
    """The chain at a glance; `scapp chain status` has the rest."""
    from scapp.runtime.cli.amounts import COIN, amount_text

    behind = f", {chain.lag_blocks} not processed" if chain.lag_blocks else ""
    balance = amount_text(chain.balance, COIN) if chain.balance is not None else "unknown"
    held: dict[str, int] = {}
    for asset in (asset for c in channels if c.chain is not None for asset in c.chain.assets):
        held[asset.asset] = held.get(asset.asset, 0) + int(asset.confirmed)
    funded = ", ".join(amount_text(str(amount), asset) for asset, amount in sorted(held.items()) if amount)
    lines = [
        ("chain", f"{chain.chain_id} at {chain.endpoint}"),
        ("  fault", chain.fault),
        ("  block", f"{chain.head if chain.head is not None else '-'}{behind}"),
        ("  account", f"{chain.account} with {balance}; {chain.pending} transactions under way"),
        ("  in channels", funded and f"{funded}, confirmed, of all participants"),
    ]
    return [(name, value) for name, value in lines if value]


def _ledgers(node: Client) -> list[LedgerView] | None:
    """None where they stay closed because their log is damaged: the status says why (`corrupt`)."""
    from scapp.runtime.client import ClientError

    try:
        return node.ledgers()
    except ClientError as error:
        if error.code != "corrupt":
            raise
        return None


def _ledger_lines(ledgers: Sequence[LedgerView]) -> list[tuple[str, str]]:
    """How many there are, and this node's money in them; `scapp ledger list` has each."""
    from scapp.runtime.cli.amounts import amount_text

    if not ledgers:
        return []
    phases = Counter(each.phase for each in ledgers)
    lines = [("ledgers", ", ".join(f"{n} {phase}" for phase, n in sorted(phases.items())))]
    sums: dict[str, Counter[str]] = {}
    for asset in (asset for each in ledgers if each.phase not in OVER for asset in each.assets):
        sums.setdefault(asset.asset, Counter()).update(mine=int(asset.mine), locked=int(asset.locked))
    for address, of in sorted(sums.items()):
        mine, locked = (amount_text(str(of[name]), address) for name in ("mine", "locked"))
        lines.append(("  in them", f"{mine} of this node free, {locked} locked"))
    waiting = sum(bool(each.waiting_for) for each in ledgers)
    return [*lines, *([("  waiting", f"{waiting}; `scapp ledger list` says for what")] if waiting else ())]


def _lag(derived: object, sequence: int) -> str:
    from scapp.runtime.documents import DerivedView

    assert isinstance(derived, DerivedView)
    why = f": {derived.detail}" if derived.detail else ""
    return f"database at {derived.sequence} of {sequence}, {derived.state}{why}"


@click.group()
def peers() -> None:
    """Add and list other nodes."""


@peers.command()
@common
@click.argument("address")
@click.argument("endpoint", metavar="HOST:PORT")
@click.option("--name", help="A name to use instead of the address")
def add(address: str, endpoint: str, name: str | None) -> None:
    """Add or change a peer. The default policy accepts channels for known apps from peers in this list."""
    if not re.fullmatch("0x[0-9a-fA-F]{40}", address):
        raise click.BadParameter(f"{address!r} is not 0x and 40 hex digits", param_hint="ADDRESS")
    with settings().client() as node:
        peer = node.add_peer(address, endpoint, name)
    emit(peer, f"{peer.name or peer.address} at {peer.endpoint}")


@peers.command()
@common
@click.argument("peer")
def remove(peer: str) -> None:
    """Take PEER (address or name) out of the list: it is not trusted and not dialled any more, and its link ends. What
    runs with it goes on once it connects by itself."""
    with settings().client() as node:
        removed = node.remove_peer(peer)
    emit(removed, f"{removed.name or removed.address} is not in the peers list any more; its link is ended")


@peers.command("list")
@common
def list_() -> None:
    """List peers and their links."""
    with settings().client() as node:
        found = node.peers()
    rows = [
        (p.name, p.address, p.endpoint, "up" if p.connected else "down", p.queued, p.sent, p.received, p.last_error)
        for p in found
    ]
    headers = ("name", "address", "endpoint", "link", "queued", "sent", "received", "last error")
    emit(
        {"peers": found},
        table(headers, rows, right=(4, 5, 6)) if rows else "no peers; `scapp peers add` makes one known",
    )
