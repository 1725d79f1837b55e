"""Real nodes with ledgers lose their disks and come back from old backups: one, then two at once."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scapp.runtime.cli.amounts import COIN
from tests.support.cluster import environment, eventually
from tests.support.funded_cluster import FundedCluster, funded_cluster, quick_chain
from tests.support.ledger_cluster import DEPOSIT, open_ledger, settle, shown, wait_ledger, wait_virtual

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def scapp(*arguments: str) -> str:
    command = [sys.executable, "-m", "scapp.runtime.cli.main", *arguments]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def back_up(nodes: FundedCluster, name: str, target: str) -> Path:
    """Online: the node runs and is paid through meanwhile."""
    made = nodes.folder / f"{target}.tar"
    scapp("-C", str(nodes.folder / name), "backup", str(made), "--keys")
    return made


def restore(nodes: FundedCluster, backups: dict[str, Path]) -> None:
    """All of these lose their disks at the same time."""
    for name in backups:
        nodes.kill_node(name)
        nodes.nodes[name].wait_stopped()
    for name, backup in backups.items():
        home = nodes.folder / name
        shutil.rmtree(home)
        scapp("-C", str(home), "restore", str(backup))
        nodes.start(name)


def test_stale_backups_of_a_hub_and_of_hub_and_payee_at_once() -> None:
    """The hub comes back from before a channel that runs, asks for it, and goes on by itself. Then hub and payee come
    back at once: each says that the other was restored as well and names the command; after that the channel ends with
    all that was paid, and everybody is paid out."""
    with quick_chain() as chain, funded_cluster(3, chain) as nodes:
        before = {who: nodes.balance(nodes.addresses[who]) for who in nodes.names}
        left, right = open_ledger(nodes, "alice", "bob"), open_ledger(nodes, "bob", "carol")
        old = back_up(nodes, "bob", "old")
        alice = nodes.client("alice")
        channel = alice.open_payments("carol", COIN, 1_000, via=["bob"], fees=[3], wait_s=30).channel_id
        alice.pay(channel, 100)
        wait_virtual(nodes, ["carol"], channel, lambda now: now.paid == "100")

        restore(nodes, {"bob": old})
        for ledger in (left, right):
            wait_ledger(nodes, "bob", ledger, lambda now: now.phase == "running")
        wait_virtual(nodes, ["bob"], channel, lambda now: now.phase == "running")

        backups = {name: back_up(nodes, name, f"{name}-newer") for name in ("bob", "carol")}
        alice.pay(channel, 150)
        wait_virtual(nodes, ["carol"], channel, lambda now: now.paid == "250")
        restore(nodes, backups)
        wait_ledger(nodes, "bob", left, lambda now: now.phase == "running")  # Alice tells
        for name in ("bob", "carol"):
            wait_ledger(nodes, name, right, lambda now: "was restored as well" in now.waiting_for)
        said = nodes.client("carol").ledger(right).waiting_for
        assert f"scapp ledger recover {right} --override" in said
        scapp("-C", str(nodes.folder / "carol"), *said.partition("scapp ")[2].split())
        for name in ("bob", "carol"):
            wait_ledger(nodes, name, right, lambda now: now.phase == "running")
            eventually(
                lambda name=name: nodes.client(name).virtual(channel).phase == "running" or None,  # type: ignore[misc]
                lambda: shown(nodes),
            )
        wait_virtual(nodes, ["carol"], channel, lambda now: now.paid == "250")
        nodes.client("carol").close_virtual(channel)
        wait_virtual(nodes, nodes.names, channel, lambda now: now.phase == "released")
        settle(nodes, left, "alice", "bob")
        settle(nodes, right, "carol", "bob")
        gained = {who: nodes.balance(nodes.addresses[who]) - before[who] for who in nodes.names}
        assert gained == {"alice": DEPOSIT - 253, "bob": 2 * DEPOSIT + 3, "carol": DEPOSIT + 250}
