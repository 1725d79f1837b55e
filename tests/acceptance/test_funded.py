"""Money end to end: node processes over a real EVM deposit, play, close, and are paid what the app said."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scapp.reducers import library
from scapp.runtime.cli.amounts import COIN
from scapp.runtime.devchain import Chain
from tests.support.cluster import eventually
from tests.support.funded_cluster import FundedCluster, funded_cluster, quick_chain

LEDGER = library.wasm_bytes("ledger")
STAKE = 10**15
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def chain() -> Iterator[Chain]:
    with quick_chain() as found:
        yield found


@pytest.fixture(scope="module")
def two(chain: Chain) -> Iterator[FundedCluster]:
    with funded_cluster(2, chain) as found:
        found.deploy(LEDGER)
        yield found


def open_funded(nodes: FundedCluster, asset: str = COIN, amount: int = STAKE, duration: int = 3_600) -> str:
    """A running channel in which everybody has deposited `amount`."""
    others = nodes.names[1:]
    found = nodes.client(nodes.names[0]).open_channel(
        others, "ledger", fund="direct", stakes={asset: amount}, challenge_duration_s=duration, wait_s=60
    )
    assert found.phase == "running", nodes.state(nodes.names[0], found.channel_id)
    assert nodes.held(found.channel_id, asset) == amount * len(nodes.names)
    return found.channel_id


def pay(nodes: FundedCluster, sender: str, channel: str, recipient: str, amount: int) -> None:
    message = {"transfer": {"to": nodes.addresses[recipient], "amount": amount}}
    (receipt,) = nodes.client(sender).send(channel, message)
    assert receipt.status == "accepted", receipt


def settled(nodes: FundedCluster, channel: str) -> None:
    """At every node, and nothing is left in the contract."""
    for name in nodes.names:
        eventually(
            lambda name=name: True if nodes.client(name).channel(channel).phase == "settled" else None,  # type: ignore[misc]
            lambda name=name: nodes.state(name, channel),  # type: ignore[misc]
        )


@pytest.mark.parametrize("asset", ["coin", "token"])
def test_deposit_play_close_and_get_paid(two: FundedCluster, asset: str) -> None:
    """Everybody is paid what the reducer's outcome says, by one transaction, to their channel addresses."""
    name, amount = (COIN, STAKE) if asset == "coin" else (two.token, 500)
    before = {who: two.balance(two.addresses[who], name) for who in two.names}
    channel = open_funded(two, name, amount)
    pay(two, "alice", channel, "bob", amount // 5)
    closed = two.client("bob").close_channel(channel, wait_s=60)
    assert closed.phase in ("closed", "settled"), closed
    settled(two, channel)
    gained = {who: two.balance(two.addresses[who], name) - before[who] for who in two.names}
    assert gained == {"alice": amount - amount // 5, "bob": amount + amount // 5}
    assert two.held(channel, name) == 0
    kinds = {t.kind: t.status for t in two.client("alice").channel(channel).chain.transactions}  # type: ignore[union-attr]
    assert kinds["deposit"] == kinds["conclude"] == "confirmed"


def test_a_silent_counterparty_costs_nothing_but_time(two: FundedCluster) -> None:
    """Bob is stopped after a payment; Alice leaves by command and gets what the last co-signed state says."""
    before = two.balance(two.addresses["alice"])
    channel = open_funded(two, duration=4)
    pay(two, "bob", channel, "alice", STAKE // 4)
    two.drop_client("bob")
    two.nodes["bob"].ask_to_stop()
    two.nodes["bob"].wait_stopped()
    try:
        left = two.client("alice").challenge(channel, wait_s=60)
        assert left.phase == "settled", two.state("alice", channel)
        assert two.balance(two.addresses["alice"]) - before == STAKE + STAKE // 4
    finally:
        two.start("bob")
    settled(two, channel)
