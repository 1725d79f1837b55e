"""Money end to end: node processes over a real EVM deposit, play, close, and are paid what the app said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from scapp.reducers import library
from scapp.runtime import devchain
from scapp.runtime.cli.amounts import COIN
from scapp.runtime.devchain import Chain
from tests.support.cluster import eventually
from tests.support.command import document
from tests.support.funded_cluster import FundedCluster, funded_cluster, quick_chain
from tests.support.towers import (
    challenge_with,
    exported,
    give_tower,
    record_of,
    running_tower,
    tower_turn,
)

LEDGER = library.wasm_bytes("ledger")
CONFORMANCE = (Path(__file__).parents[1] / "golden" / "conformance.wasm").read_bytes()
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
        found.deploy(CONFORMANCE)
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


def open_both(nodes: FundedCluster) -> str:
    """A running channel of the conformance reducer, which pays as it is told: coin and token from everybody."""
    found = nodes.client(nodes.names[0]).open_channel(
        nodes.names[1:], "conformance", fund="direct", stakes={COIN: STAKE, nodes.token: 100},
        params={"greeting": "hello"}, challenge_duration_s=3_600, wait_s=90,
    )  # fmt: skip
    assert found.phase == "running", nodes.state(nodes.names[0], found.channel_id)
    return found.channel_id


def close_and_compare(nodes: FundedCluster, channel: str, amounts: dict[str, tuple[int, int]]) -> None:
    """Have the app pay coin and token so, close, and compare what everybody has more at the end."""
    before = {who: _assets(nodes, who) for who in nodes.names}
    flat = [amounts[who][asset] for asset in (0, 1) for who in nodes.names]
    (receipt,) = nodes.client(nodes.names[-1]).send(channel, {"pay": {"amounts": flat}})
    assert receipt.status == "accepted", receipt
    nodes.client(nodes.names[0]).close_channel(channel, wait_s=60)
    settled(nodes, channel)
    after = {who: _assets(nodes, who) for who in nodes.names}
    assert {who: (a[0] - b[0], a[1] - b[1]) for who, a, b in ((n, after[n], before[n]) for n in nodes.names)} == amounts


def _assets(nodes: FundedCluster, who: str) -> tuple[int, int]:
    address = nodes.addresses[who]
    return nodes.balance(address), nodes.balance(address, nodes.token)


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


def test_coin_and_token_in_one_channel(two: FundedCluster) -> None:
    """Each asset is deposited and paid by itself."""
    close_and_compare(two, open_both(two), {"alice": (0, 150), "bob": (2 * STAKE, 50)})


def test_three_participants(chain: Chain) -> None:
    """They deposit in the order of their priority, and one of them concludes for all."""
    with funded_cluster(3, chain) as three:
        three.deploy(CONFORMANCE)
        expected = {"alice": (STAKE // 2, 0), "bob": (0, 300), "carol": (2 * STAKE + STAKE // 2, 0)}
        close_and_compare(three, open_both(three), expected)


@pytest.mark.published_contracts
@pytest.mark.parametrize("count", [2, 3])
def test_the_published_contracts_work_as_well(chain: Chain, count: int) -> None:
    """The same nodes with the addresses of the published adjudicator and consensus app."""
    from tests.chain import published

    deployed = {}
    for name in ("NitroAdjudicator", "ConsensusApp"):
        receipt = chain.send(devchain.DEPLOYER, None, published.load(name).creation_code())
        deployed[name] = bytes.fromhex(receipt["contractAddress"][2:])
    with funded_cluster(count, chain, published=deployed) as nodes:
        nodes.deploy(CONFORMANCE)
        expected = {"alice": (0, 100 * count), "bob": (2 * STAKE, 0), "carol": (STAKE * (count - 2), 0)}
        close_and_compare(nodes, open_both(nodes), {name: expected[name] for name in nodes.names})


def test_a_watchtower_answers_for_a_node_that_is_away(chain: Chain, tmp_path: Path) -> None:
    """Alice's database of old states is used against Bob, who is away: his tower clears the challenge, and the channel
    goes on when he is back."""
    with funded_cluster(2, chain) as nodes, running_tower(nodes, tmp_path) as (url, token):
        nodes.deploy(CONFORMANCE)
        give_tower(nodes, "bob", url, token)
        channel = open_both(nodes)
        old = exported(nodes, "alice", channel)
        (receipt,) = nodes.client("bob").send(channel, {"pay": {"amounts": [0, 2 * STAKE, 0, 200]}})
        assert receipt.status == "accepted"
        eventually(lambda: tower_turn(url, token, channel, receipt.turn), lambda: "the tower has the package")
        nodes.drop_client("bob")
        nodes.nodes["bob"].ask_to_stop()
        nodes.nodes["bob"].wait_stopped()
        nodes.drop_client("alice")  # her node is honest, and would answer itself
        nodes.nodes["alice"].ask_to_stop()
        nodes.nodes["alice"].wait_stopped()
        challenge_with(nodes, "alice", old)
        eventually(lambda: True if record_of(nodes, channel)[1] else None, lambda: "a challenge stands")
        eventually(
            lambda: True if record_of(nodes, channel) == (receipt.turn, 0) else None,
            lambda: str(record_of(nodes, channel)),
        )
        nodes.start("alice", "bob")
        nodes.client("bob").close_channel(channel, wait_s=60)
        settled(nodes, channel)
        assert _assets(nodes, "bob") == (2 * STAKE, 200)


@pytest.mark.parametrize("players", [2, 3])
def test_the_demo_plays_for_stakes(players: int, tmp_path: Path) -> None:
    """Everybody's account ends with what the game said, less what its transactions cost; nothing is created or lost."""
    demo = ["demo", "--players", str(players), "--fund", "direct", "--cards", "3"]
    found = document(*demo, "--dir", str(tmp_path), "--no-keep")
    assert found["equal"]
    money = found["money"]
    assert len(money) == players
    assert sum(int(row["owed"]) for row in money) == sum(int(row["stake"]) for row in money)
    assert all(0 < int(row["fees"]) < 10**16 for row in money), money
