"""Ledgers, hubs and payments end to end: node processes over a real EVM, from deposits to payouts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scapp.channels.errors import ScappError
from scapp.runtime.cli.amounts import COIN
from scapp.runtime.devchain import DEPLOYER, Chain
from tests.support.funded_cluster import FundedCluster, funded_cluster, quick_chain
from tests.support.ledger_cluster import (
    DEPOSIT,
    open_ledger,
    restart,
    sent,
    settle,
    shown,
    wait_ledger,
    wait_virtual,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def chain() -> Iterator[Chain]:
    with quick_chain() as found:
        yield found


@pytest.fixture(scope="module")
def three(chain: Chain) -> Iterator[FundedCluster]:
    with funded_cluster(3, chain) as found:
        yield found


@pytest.mark.parametrize("asset", ["coin", "token"])
def test_five_payments_over_a_hub(three: FundedCluster, asset: str) -> None:
    """Alice pays Bob over a hub that earns a fee. Between the ledgers' deposits and payouts nothing is sent to the
    chain, and everybody is paid what the payments came to."""
    nodes = three
    name, amount = (COIN, DEPOSIT) if asset == "coin" else (nodes.token, 500)
    fee, each = amount // 100, amount // 10
    before = {who: nodes.balance(nodes.addresses[who], name) for who in nodes.names}
    left = open_ledger(nodes, "alice", "bob", name, amount)
    right = open_ledger(nodes, "bob", "carol", name, amount)
    transactions = sent(nodes)
    opened = nodes.client("alice").open_payments("carol", name, 6 * each, via=["bob"], fees=[fee], wait_s=30)
    channel = opened.channel_id
    assert opened.phase == "running", shown(nodes)
    assert [nodes.client("alice").pay(channel, each).paid for _ in range(5)] == [str(n * each) for n in range(1, 6)]
    wait_virtual(nodes, ["carol"], channel, lambda now: now.paid == str(5 * each))
    assert nodes.client("carol").close_virtual(channel, wait_s=30).phase == "released", shown(nodes)
    wait_virtual(nodes, nodes.names, channel, lambda now: now.phase == "released")
    assert sent(nodes) == transactions
    settle(nodes, left, "alice", "bob")
    settle(nodes, right, "carol", "bob")
    gained = {who: nodes.balance(nodes.addresses[who], name) - before[who] for who in nodes.names}
    paid = 5 * each
    assert gained == {"alice": amount - paid - fee, "bob": 2 * amount + fee, "carol": amount + paid}


def test_restarts_over_two_hubs(chain: Chain) -> None:
    """Each node is killed and started again at another point of the life of a payment channel over two hubs; nothing
    is lost, and no hub loses."""
    with funded_cluster(4, chain) as nodes:
        before = {who: nodes.balance(nodes.addresses[who]) for who in nodes.names}
        ledgers = [open_ledger(nodes, *pair) for pair in (("alice", "bob"), ("carol", "bob"), ("carol", "dave"))]
        restart(nodes, "bob")
        channel = nodes.client("alice").open_payments("dave", COIN, 1_000, via=["bob", "carol"], fees=[2, 3]).channel_id
        restart(nodes, "carol")  # while it is being funded
        wait_virtual(nodes, nodes.names, channel, lambda now: now.phase == "running")
        nodes.client("alice").pay(channel, 300)
        restart(nodes, "alice")
        nodes.client("alice").pay(channel, 400)
        wait_virtual(nodes, ["dave"], channel, lambda now: now.paid == "700")
        restart(nodes, "dave")
        nodes.client("dave").close_virtual(channel)
        restart(nodes, "bob")  # while it is being defunded
        wait_virtual(nodes, nodes.names, channel, lambda now: now.phase == "released")
        for ledger, pair in zip(ledgers, (("alice", "bob"), ("carol", "bob"), ("carol", "dave")), strict=True):
            settle(nodes, ledger, *pair)
        gained = {who: nodes.balance(nodes.addresses[who]) - before[who] for who in nodes.names}
        assert gained == {
            "alice": DEPOSIT - 705,
            "bob": 2 * DEPOSIT + 2,
            "carol": 2 * DEPOSIT + 3,
            "dave": DEPOSIT + 700,
        }


def test_a_hub_that_is_gone_keeps_nothing_of_others(three: FundedCluster) -> None:
    """It is killed after a payment. Payer and payee leave: the voucher is redeemed on chain, both ledgers reclaim by
    it, and when the hub is back it finds what it had."""
    nodes = three
    before = {who: nodes.balance(nodes.addresses[who]) for who in nodes.names}
    left = open_ledger(nodes, "alice", "bob", duration=6)
    right = open_ledger(nodes, "bob", "carol", duration=6)
    opened = nodes.client("alice").open_payments("carol", COIN, 1_000, via=["bob"], challenge_duration_s=6, wait_s=30)
    channel = opened.channel_id
    nodes.client("alice").pay(channel, 400)
    wait_virtual(nodes, ["carol"], channel, lambda now: now.paid == "400")
    nodes.kill_node("bob")
    nodes.client("carol").challenge_ledger(right)
    nodes.client("alice").challenge_ledger(left)
    for name, ledger in (("carol", right), ("alice", left)):
        wait_ledger(nodes, name, ledger, lambda now: now.phase == "settled", but=("bob",))
    nodes.start("bob")
    for ledger in (left, right):
        wait_ledger(nodes, "bob", ledger, lambda now: now.phase == "settled")
    gained = {who: nodes.balance(nodes.addresses[who]) - before[who] for who in nodes.names}
    assert gained == {"alice": DEPOSIT - 400, "bob": 2 * DEPOSIT, "carol": DEPOSIT + 400}
    assert nodes.held(left) == nodes.held(right) == 0


@pytest.mark.published_contracts
def test_nobody_guarantees_channels_on_the_published_contracts(chain: Chain) -> None:
    """Ledgers run on them; a payer refuses to open payments, and says where that would be allowed."""
    from tests.chain import published

    deployed = {}
    for name in ("NitroAdjudicator", "ConsensusApp", "VirtualPaymentApp"):
        receipt = chain.send(DEPLOYER, None, published.load(name).creation_code())
        deployed[name] = bytes.fromhex(receipt["contractAddress"][2:])
    with funded_cluster(2, chain, published=deployed) as nodes:
        open_ledger(nodes, "alice", "bob")
        assert set(nodes.client("alice").chain().unprotected) == {"payment", "app", "locks"}
        with pytest.raises(ScappError, match=r"chain\.adjudicator.*ledgers\.unprotected_guarantees"):
            nodes.client("alice").open_payments("bob", COIN, 1_000)


def test_a_top_up_that_cannot_pay_its_fees_is_taken_back(chain: Chain) -> None:
    """All but one wei of the account is announced: nothing is left to send it with. Taken back, it hinders nobody; more
    than the account has is refused at once."""
    with funded_cluster(2, chain) as nodes:
        before = {who: nodes.balance(nodes.addresses[who]) for who in nodes.names}
        ledger, alice = open_ledger(nodes, "alice", "bob"), nodes.client("alice")
        has = nodes.balance(nodes.accounts["alice"])
        with pytest.raises(ScappError, match="too little to deposit"):
            alice.top_up_ledger("bob", COIN, has)
        alice.top_up_ledger("bob", COIN, has - 1)
        wait_ledger(nodes, "alice", ledger, lambda now: now.assets[0].announced == str(has - 1))
        found = alice.cancel_top_up_ledger("bob", COIN, 30)
        assert (found.assets[0].announced, found.assets[0].mine) == ("0", str(DEPOSIT)), shown(nodes)
        assert nodes.client("bob").top_up_ledger("alice", COIN, 7, 60).assets[0].mine == str(DEPOSIT + 7)
        assert nodes.held(ledger) == 2 * DEPOSIT + 7
        settle(nodes, ledger, "alice", "bob")
        gained = {who: nodes.balance(nodes.addresses[who]) - before[who] for who in nodes.names}
        assert gained == {"alice": DEPOSIT, "bob": DEPOSIT + 7}
