"""Ledgers between the nodes of a funded cluster: opened, awaited, closed; and what was sent to the chain."""

from __future__ import annotations

from collections.abc import Callable

from scapp.runtime.cli.amounts import COIN
from scapp.runtime.ledger_documents import LedgerView, VirtualView
from tests.support.cluster import eventually
from tests.support.funded_cluster import FundedCluster

DEPOSIT = 10**15


def open_ledger(
    nodes: FundedCluster, left: str, right: str, asset: str = COIN, amount: int = DEPOSIT, duration: int = 3_600
) -> str:
    """A running ledger in which both have deposited `amount`."""
    found = nodes.client(left).open_ledger(
        right, {asset: amount}, {asset: amount}, challenge_duration_s=duration, wait_s=60
    )
    assert found.phase == "running", shown(nodes)
    assert nodes.held(found.channel_id, asset) == 2 * amount
    wait_ledger(nodes, right, found.channel_id, lambda now: now.phase == "running")
    return found.channel_id


def wait_ledger(
    nodes: FundedCluster, name: str, ledger: str, done: Callable[[LedgerView], bool], but: tuple[str, ...] = ()
) -> None:
    """`but` are nodes that cannot be asked."""
    eventually(
        lambda: True if done(nodes.client(name).ledger(ledger)) else None, lambda: shown(nodes, but), patience_s=120
    )


def wait_virtual(nodes: FundedCluster, names: list[str], channel: str, done: Callable[[VirtualView], bool]) -> None:
    for name in names:
        eventually(
            lambda name=name: True if _known(nodes, name, channel, done) else None,  # type: ignore[misc]
            lambda: shown(nodes),
        )


def _known(nodes: FundedCluster, name: str, channel: str, done: Callable[[VirtualView], bool]) -> bool:
    return any(done(each) for each in nodes.client(name).virtuals() if each.channel_id == channel)


def shown(nodes: FundedCluster, but: tuple[str, ...] = ()) -> str:
    """What every node says of its ledgers and channels: for messages of failed tests."""
    return "\n".join(
        f"{name}: {each}" for name in nodes.names if name not in but for of in ("ledgers", "virtuals")
        for each in getattr(nodes.client(name), of)()
    )  # fmt: skip


def sent(nodes: FundedCluster) -> int:
    """Transactions that the nodes' accounts have sent so far."""
    return sum(
        int(nodes.chain.rpc("eth_getTransactionCount", account, "latest"), 16) for account in nodes.accounts.values()
    )


def settle(nodes: FundedCluster, ledger: str, *names: str) -> None:
    """Close a ledger and wait until all of it is paid out."""
    nodes.client(names[0]).close_ledger(ledger)
    for name in names:
        wait_ledger(nodes, name, ledger, lambda now: now.phase == "settled")


def restart(nodes: FundedCluster, name: str) -> None:
    """Kill the process, and start it again."""
    nodes.kill_node(name)
    nodes.start(name)
