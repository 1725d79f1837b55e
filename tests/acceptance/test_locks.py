"""Invoices end to end: node processes over a real EVM, hubs that are killed, locks that end, a claim on chain."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from scapp.runtime.cli.amounts import COIN
from scapp.runtime.client import ClientError
from scapp.runtime.devchain import Chain
from scapp.runtime.invoice_documents import LockedPaymentView
from tests.support.bad_network import BadNetwork, bad_network
from tests.support.cluster import eventually
from tests.support.funded_cluster import FundedCluster, funded_cluster, quick_chain
from tests.support.ledger_cluster import DEPOSIT, open_ledger, sent, settle, shown, wait_ledger, wait_virtual

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

MARGIN_S, DURATION_S = 12, 70
SETTINGS = """
[payments]
lock_margin_s = {margin_s}
"""
DELAY_S = 1.0
"""Between two nodes, so that one can be killed before it hears: an ask crosses it twice, and waits 8 s at most."""
ATTEMPTS_MAX = 10


@pytest.fixture(scope="module")
def chain() -> Iterator[Chain]:
    with quick_chain() as found:
        yield found


@pytest.fixture
def three(chain: Chain) -> Iterator[FundedCluster]:
    """Bob is the hub between Alice and Carol; they know each other once there is a network."""
    with funded_cluster(3, chain, more=SETTINGS.format(margin_s=MARGIN_S), introduced=False) as found:
        yield found


@pytest.fixture
def network(three: FundedCluster) -> Iterator[BadNetwork]:
    with bad_network(three, random.Random(0)) as found:
        yield found


def open_lanes(nodes: FundedCluster, duration_s: int = DURATION_S) -> tuple[list[str], list[str]]:
    """Ledgers, and payment channels that take locks, from Alice to Bob to Carol."""
    ledgers = [open_ledger(nodes, *pair, duration=6) for pair in (("alice", "bob"), ("bob", "carol"))]
    lanes = []
    for payer, payee in (("alice", "bob"), ("bob", "carol")):
        opened = nodes.client(payer).open_payments(
            payee, COIN, 10_000, locks=True, challenge_duration_s=duration_s, wait_s=30
        )
        assert opened.phase == "running", shown(nodes)
        wait_virtual(nodes, [payee], opened.channel_id, lambda now: now.phase == "running")
        lanes.append(opened.channel_id)
    return ledgers, lanes


def payment(nodes: FundedCluster, name: str, hash_: str) -> LockedPaymentView | None:
    """What a node knows of a payment."""
    return next((each for each in nodes.client(name).locked_payments() if each.hash == hash_), None)


def has_status(nodes: FundedCluster, names: list[str], hash_: str, status: str) -> None:
    for name in names:
        eventually(
            lambda name=name: True if (found := payment(nodes, name, hash_)) and found.status == status else None,  # type: ignore[misc]
            lambda: "\n".join(str(payment(nodes, each, hash_)) for each in names),
            patience_s=120,
        )


def agreed(nodes: FundedCluster, invoice: str) -> LockedPaymentView:
    """Locked at the payer; asked again while the way is not up yet, as after a restart."""

    def tried() -> LockedPaymentView | None:
        try:
            return nodes.client("alice").pay_invoice(invoice, via=["bob"], wait_s=0)
        except ClientError:
            return None

    return eventually(tried, lambda: shown(nodes))


def test_a_hub_that_is_killed_in_the_middle_of_payments(chain: Chain) -> None:
    """Each is made once, whenever the hub dies; nothing is sent to the chain, and the ledgers come out right."""
    with funded_cluster(3, chain, more=SETTINGS.format(margin_s=600)) as nodes:
        before = {who: nodes.balance(nodes.addresses[who]) for who in nodes.names}
        ledgers, lanes = open_lanes(nodes, 7_200)
        transactions = sent(nodes)
        for number in range(3):
            made = nodes.client("carol").make_invoice(COIN, 1_000, memo=str(number))
            agreed(nodes, made.invoice)
            nodes.kill_node("bob")
            nodes.start("bob")
            has_status(nodes, nodes.names, made.hash, "paid")
            assert nodes.client("alice").pay_invoice(made.invoice, via=["bob"]).status == "paid"
        for lane, ends in zip(lanes, (["alice", "bob"], ["bob", "carol"]), strict=True):
            nodes.client(ends[1]).close_virtual(lane, wait_s=30)
            wait_virtual(nodes, ends, lane, lambda now: now.phase == "released")
        assert sent(nodes) == transactions
        settle(nodes, ledgers[0], "alice", "bob")
        settle(nodes, ledgers[1], "bob", "carol")
        gained = {who: nodes.balance(nodes.addresses[who]) - before[who] for who in nodes.names}
        assert gained == {"alice": DEPOSIT - 3_000, "bob": 2 * DEPOSIT, "carol": DEPOSIT + 3_000}


def test_a_lock_whose_payee_is_gone_comes_back_and_the_invoice_is_paid_later(
    three: FundedCluster, network: BadNetwork
) -> None:
    """Carol dies before she has the lock, or before her preimage arrives: what is locked is free again once its end is
    confirmed, at Alice's and at the hub's; then the same invoice is paid."""
    nodes = three
    _, lanes = open_lanes(nodes)
    network.slow("bob", "carol", DELAY_S)
    for _ in range(ATTEMPTS_MAX):
        made = nodes.client("carol").make_invoice(COIN, 1_000)
        agreed(nodes, made.invoice)
        nodes.kill_node("carol")
        found = eventually(lambda: payment(nodes, "bob", made.hash), lambda: shown(nodes, ("carol",)))  # noqa: B023
        if found.preimage == "0x":
            break
        nodes.start("carol")  # this machine was slower than the network
    else:
        pytest.fail(f"Carol was faster {ATTEMPTS_MAX} times")
    network.slow("bob", "carol", 0)
    has_status(nodes, ["bob", "alice"], made.hash, "failed")
    assert [nodes.client("alice").virtual(lanes[0]).locked, nodes.client("bob").virtual(lanes[1]).locked] == ["0", "0"]
    nodes.start("carol")
    eventually(lambda: True if agreed(nodes, made.invoice) else None, lambda: shown(nodes))
    has_status(nodes, nodes.names, made.hash, "paid")


def test_a_hub_whose_payer_is_gone_takes_its_lock_on_chain(three: FundedCluster, network: BadNetwork) -> None:
    """Alice dies once her lock is out. The hub pays Carol for the preimage, reveals it on chain before Alice's lock
    ends, redeems the channel with it, and takes its part of the ledger: Alice has paid though she was away."""
    nodes = three
    before = {who: nodes.balance(nodes.addresses[who]) for who in nodes.names}
    ledgers, lanes = open_lanes(nodes)
    network.slow("alice", "bob", DELAY_S)
    paid = 0
    for _ in range(ATTEMPTS_MAX):
        made = nodes.client("carol").make_invoice(COIN, 1_000)
        agreed(nodes, made.invoice)
        eventually(lambda: payment(nodes, "bob", made.hash), lambda: shown(nodes))  # noqa: B023
        nodes.kill_node("alice")
        has_status(nodes, ["carol"], made.hash, "paid")
        paid += 1_000
        if nodes.client("bob").virtual(lanes[0]).locked != "0":
            break
        nodes.start("alice")  # this machine was slower than the network
        has_status(nodes, ["alice"], made.hash, "paid")
    else:
        pytest.fail(f"Alice was faster {ATTEMPTS_MAX} times")
    network.slow("alice", "bob", 0)
    has_status(nodes, ["bob"], made.hash, "paid")  # as the chain shows it, whatever Alice does
    eventually(
        lambda: True if nodes.client("bob").virtual(lanes[0]).phase == "disputed" else None,
        lambda: shown(nodes, ("alice",)),
        patience_s=120,
    )
    nodes.client("bob").challenge_ledger(ledgers[0])
    wait_ledger(nodes, "bob", ledgers[0], lambda now: now.phase == "settled", but=("alice",))
    nodes.start("alice")
    wait_ledger(nodes, "alice", ledgers[0], lambda now: now.phase == "settled")
    nodes.client("carol").close_virtual(lanes[1], wait_s=30)
    settle(nodes, ledgers[1], "bob", "carol")
    gained = {who: nodes.balance(nodes.addresses[who]) - before[who] for who in nodes.names}
    assert gained == {"alice": DEPOSIT - paid, "bob": 2 * DEPOSIT, "carol": DEPOSIT + paid}
