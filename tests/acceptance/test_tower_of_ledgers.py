"""A watchtower answers for ledgers and payment channels of a node that is away, over a real EVM."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from scapp.runtime.cli.amounts import COIN
from scapp.runtime.devchain import Chain
from tests.support.cluster import eventually
from tests.support.funded_cluster import FundedCluster, funded_cluster, quick_chain
from tests.support.ledger_cluster import DEPOSIT, open_ledger, settle, shown, wait_ledger, wait_virtual
from tests.support.towers import (
    challenge_with,
    exported,
    give_tower,
    record_of,
    running_tower,
    tower_turn,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def chain() -> Iterator[Chain]:
    with quick_chain() as found:
        yield found


def away(nodes: FundedCluster, name: str) -> None:
    nodes.drop_client(name)
    nodes.nodes[name].ask_to_stop()
    nodes.nodes[name].wait_stopped()


def test_an_older_state_of_a_ledger_is_answered_for_a_node_that_is_away(chain: Chain, tmp_path: Path) -> None:
    """Alice registers the state before her payment while Bob is away: the tower clears the challenge, and the ledger
    pays out what it came to."""
    with funded_cluster(2, chain) as nodes, running_tower(nodes, tmp_path) as (url, token):
        give_tower(nodes, "bob", url, token)
        before = {who: nodes.balance(nodes.addresses[who]) for who in nodes.names}
        ledger = open_ledger(nodes, "alice", "bob")
        old = exported(nodes, "alice", ledger)
        turn = nodes.client("alice").transfer(ledger, COIN, DEPOSIT // 4, wait_s=30).turn
        eventually(lambda: tower_turn(url, token, ledger, turn), lambda: "the tower has the package")
        away(nodes, "bob")
        away(nodes, "alice")  # her node is honest, and would answer itself
        challenge_with(nodes, "alice", old)
        eventually(
            lambda: True if record_of(nodes, ledger) == (turn, 0) else None, lambda: str(record_of(nodes, ledger))
        )
        nodes.start("alice", "bob")
        for name in nodes.names:
            wait_ledger(nodes, name, ledger, lambda now: now.phase == "running")
        settle(nodes, ledger, "alice", "bob")
        gained = {who: nodes.balance(nodes.addresses[who]) - before[who] for who in nodes.names}
        assert gained == {"alice": DEPOSIT - DEPOSIT // 4, "bob": DEPOSIT + DEPOSIT // 4}


def test_a_voucher_is_redeemed_for_a_payee_that_is_away(chain: Chain, tmp_path: Path) -> None:
    """Alice takes her payment channel to the chain as if she had paid nothing while Bob is away. His tower shows his
    voucher; he goes on from there when he is back, and the ledger pays him."""
    with funded_cluster(2, chain, more="redemptions = true") as nodes, running_tower(nodes, tmp_path) as (url, token):
        give_tower(nodes, "bob", url, token)
        ledger = open_ledger(nodes, "alice", "bob")
        channel = nodes.client("alice").open_payments("bob", COIN, 1_000, challenge_duration_s=20, wait_s=30).channel_id
        nodes.client("alice").pay(channel, 400)
        wait_virtual(nodes, ["bob"], channel, lambda now: now.paid == "400")
        eventually(lambda: tower_turn(url, token, channel, 2), lambda: "the tower has the redemption")
        away(nodes, "bob")
        nodes.client("alice").challenge_virtual(channel)
        eventually(lambda: True if record_of(nodes, channel)[0] == 2 else None, lambda: str(record_of(nodes, channel)))
        nodes.start("bob")
        wait_virtual(nodes, ["alice", "bob"], channel, lambda now: now.phase == "released")
        found = nodes.client("bob").ledger(ledger)
        assert found.assets[0].mine == str(DEPOSIT + 400), shown(nodes)
        settle(nodes, ledger, "alice", "bob")
