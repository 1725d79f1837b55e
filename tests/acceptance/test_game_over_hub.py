"""The game for stakes over a hub: node processes, their databases, a real EVM. Bob is the hub; he has no game."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from scapp.game import GameView, commit, commitment, read_view, reveal, wasm_bytes
from scapp.runtime.cli.amounts import COIN
from tests.support.cluster import eventually
from tests.support.command import document, run
from tests.support.funded_cluster import FundedCluster, funded_cluster, quick_chain
from tests.support.ledger_cluster import DEPOSIT, open_ledger, restart, sent, settle, shown, wait_virtual

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
STAKE = 6 * 10**14
FEE = 1_000
CARDS = {"alice": (3, 2, 1), "carol": (1, 3, 2)}
"""By round; Alice takes the first prize, Carol the others."""
PLAYERS = tuple(CARDS)
HUB = "bob"
SALT = bytes(range(32))


@pytest.fixture(scope="module")
def three() -> Iterator[FundedCluster]:
    with quick_chain() as chain, funded_cluster(3, chain, backend="embedded") as found:
        for name in PLAYERS:
            found.client(name).deploy(wasm_bytes())
        yield found


class Match:
    """One over the hub, opened as a person does it."""

    def __init__(self, nodes: FundedCluster) -> None:
        self.nodes = nodes
        done = opening(nodes, "--stake", f"{STAKE}wei", "--params", json.dumps({"cards": 3}))
        assert done.returncode == 0, f"{done.stderr}\n{shown(nodes)}"
        self.channel: str = json.loads(done.stdout)["channel_id"]

    def hide(self, name: str, round_number: int) -> None:
        author = bytes.fromhex(self.nodes.addresses[name][2:])
        card = CARDS[name][round_number - 1]
        self._send(name, commit(commitment(SALT, bytes.fromhex(self.channel[2:]), author, round_number, card)))

    def show(self, name: str, round_number: int) -> None:
        self._send(name, reveal(CARDS[name][round_number - 1], SALT))

    def play(self, round_number: int) -> None:
        for name in PLAYERS:
            self.hide(name, round_number)
        for name in PLAYERS:
            self.show(name, round_number)

    def _send(self, name: str, message: dict[str, dict[str, object]]) -> None:
        (receipt,) = self.nodes.client(name).send(self.channel, message)
        assert receipt.status == "accepted", receipt

    def close(self) -> dict[str, int]:
        """By its last player, and what everybody won: a part of both stakes for each point, as the tables have it."""
        amounts = self.amounts()
        self.nodes.client("carol").close_channel(self.channel)
        wait_virtual(self.nodes, self.nodes.names, self.channel, lambda now: now.phase == "released")
        for name in PLAYERS:
            eventually(
                lambda name=name: self.nodes.client(name).channel(self.channel).phase == "settled" or None,  # type: ignore[misc]
                lambda name=name: self.nodes.state(name, self.channel),  # type: ignore[misc]
            )
        return amounts

    def amounts(self) -> dict[str, int]:
        (_, *prizes), scores = self.prizes(), self.scores()
        assert scores["carol"] == sum(prizes)
        owed = dict(zip(PLAYERS, map(int, self.nodes.client("alice").channel(self.channel).amounts), strict=True))
        assert owed == {name: 2 * STAKE * score // 6 for name, score in scores.items()}
        return owed

    def prizes(self) -> list[int]:
        return [each.prize for each in self._view("alice").rounds]

    def scores(self) -> dict[str, int]:
        """The same at both."""
        sequence = self.nodes.client("alice").channel(self.channel).sequence
        for name in PLAYERS:
            self.nodes.wait_derived(name, self.channel, sequence)
        found = [{PLAYERS[p.seat]: p.score for p in self._view(name).players} for name in PLAYERS]
        assert found[0] == found[1]
        assert self._view("carol").over
        return found[0]

    def _view(self, name: str) -> GameView:
        node = self.nodes.client(name)
        return read_view(node, node.deployment("goofspiel").schema, self.channel)


def opening(nodes: FundedCluster, *more: str) -> subprocess.CompletedProcess[str]:
    """`scapp channel open` at Alice's."""
    home = str(nodes.nodes["alice"].home)
    channel = ["channel", "open", "carol", "--app", "goofspiel"]
    return run("-C", home, *channel, "--fund", "virtual", "--via", HUB, "--fee", f"{FEE}wei", *more)


def open_ledgers(nodes: FundedCluster) -> dict[str, str]:
    """Each player's with the hub."""
    return {name: open_ledger(nodes, name, HUB) for name in PLAYERS}


def has(nodes: FundedCluster, name: str, ledger: str) -> tuple[int, int, int]:
    """What a node has free in a ledger, what its peer has, what is locked."""
    (found,) = nodes.client(name).ledger(ledger).assets
    return int(found.mine), int(found.theirs), int(found.locked)


def check_verified(nodes: FundedCluster, channel: str) -> None:
    """Both databases follow from the log that both signed; the hub has nothing of it but the guarantees."""
    verdicts = [nodes.client(name).verify(channel) for name in PLAYERS]
    assert all(verdict.ok for verdict in verdicts), verdicts
    assert len({(verdict.found_root, verdict.sequence) for verdict in verdicts}) == 1
    logs = [list(nodes.client(name).log(channel)) for name in PLAYERS]
    assert logs[0] == logs[1]
    hub = nodes.client(HUB)
    assert hub.deployments() == []
    assert hub.channels() == []
    assert hub.virtual(channel).role == "hub"


def settle_and_check(
    nodes: FundedCluster, ledgers: dict[str, str], before: dict[str, int], won: dict[str, int]
) -> None:
    """The ledgers have what the match came to, and the chain pays that."""
    fees = {"alice": FEE, "carol": 0}
    for name, ledger in ledgers.items():
        mine = DEPOSIT - fees[name] - STAKE + won[name]
        assert has(nodes, name, ledger) == (mine, 2 * DEPOSIT - mine, 0)
        assert has(nodes, HUB, ledger) == (2 * DEPOSIT - mine, mine, 0)
        settle(nodes, ledger, name, HUB)
        assert nodes.held(ledger) == 0
    gained = {who: nodes.balance(nodes.addresses[who]) - before[who] for who in nodes.names}
    assert gained == {
        "alice": DEPOSIT - FEE - STAKE + won["alice"],
        "bob": 2 * DEPOSIT + FEE,
        "carol": DEPOSIT - STAKE + won["carol"],
    }


def on_chain(nodes: FundedCluster) -> dict[str, int]:
    """What the ledgers pay to."""
    return {who: nodes.balance(nodes.addresses[who]) for who in nodes.names}


def test_a_match_over_a_hub_without_a_transaction(three: FundedCluster) -> None:
    """From two ledgers' deposits to their payouts nothing is sent to the chain, and everybody is paid what the match
    said. The hub has its fee, and no more than that: neither the game nor its log."""
    nodes, before = three, on_chain(three)
    ledgers = open_ledgers(nodes)
    transactions = sent(nodes)
    match = Match(nodes)
    for name, ledger in ledgers.items():
        assert has(nodes, name, ledger)[2] == 2 * STAKE, "locked for the match"
    for number in (1, 2, 3):
        match.play(number)
    won = match.close()
    check_verified(nodes, match.channel)
    assert sent(nodes) == transactions
    settle_and_check(nodes, ledgers, before, won)


def test_a_player_killed_in_the_middle_goes_on(three: FundedCluster) -> None:
    """Carol's node dies after she has hidden a card, and again while the match is closed."""
    nodes, before = three, on_chain(three)
    ledgers = open_ledgers(nodes)
    transactions = sent(nodes)
    match = Match(nodes)
    match.play(1)
    match.hide("carol", 2)
    restart(nodes, "carol")
    match.hide("alice", 2)
    match.show("alice", 2)
    match.show("carol", 2)
    match.play(3)
    owed = match.amounts()
    nodes.client("alice").close_channel(match.channel)
    restart(nodes, "carol")
    won = match.close()
    assert won == owed
    check_verified(nodes, match.channel)
    assert sent(nodes) == transactions
    settle_and_check(nodes, ledgers, before, won)


def test_the_match_goes_on_without_the_hub_and_closes_once_it_is_back(three: FundedCluster) -> None:
    """Players need no hub to play: it is killed in the middle, and comes back when all is played."""
    nodes, before = three, on_chain(three)
    ledgers = open_ledgers(nodes)
    transactions = sent(nodes)
    match = Match(nodes)
    match.play(1)
    nodes.kill_node(HUB)
    match.play(2)
    match.play(3)
    won = match.amounts()
    closing = nodes.client("alice").close_channel(match.channel, wait_s=3)
    assert closing.phase in ("closing", "closed"), closing
    assert closing.waiting_for, "the players are told what is missing"
    for name in PLAYERS:
        assert has(nodes, name, ledgers[name])[2] == 2 * STAKE, "it is locked until the hub is back"
    nodes.start(HUB)
    assert match.close() == won
    check_verified(nodes, match.channel)
    assert sent(nodes) == transactions
    settle_and_check(nodes, ledgers, before, won)


def test_a_bond_has_no_place_over_a_hub(three: FundedCluster) -> None:
    """The bonds' slot is nobody's who has a ledger: the command says so, and nothing is opened."""
    slots = [(three.addresses["alice"], STAKE), (three.addresses["carol"], STAKE), ("0x" + "00" * 18 + "dead", 0)]
    arguments = [part for to, amount in slots for part in ("--slot", f"{COIN}:{to}:{amount}")]
    refused = opening(three, *arguments, "--params", json.dumps({"cards": 3, "bond_percent": 25}))
    assert refused.returncode != 0
    assert "3 slots" in refused.stderr + refused.stdout
    assert "must be funded directly" in refused.stderr + refused.stdout
    assert all(channel.phase == "settled" for channel in three.client("alice").channels())


def test_the_demo_plays_over_a_hub(tmp_path: Path) -> None:
    """Nothing is created or lost in the ledgers; the hub earns its fee; the chain hears of nothing in between."""
    found = document("demo", "--fund", "virtual", "--cards", "3", "--dir", str(tmp_path), "--no-keep")
    assert found["equal"]
    assert found["transactions"] == 0
    before, after = ({row["name"]: int(row[when]) for row in found["ledgers"]} for when in ("before", "after"))
    assert sum(before.values()) == sum(after.values())
    assert after["hub"] - before["hub"] == int(found["fee"]) > 0
    for row in found["money"]:
        assert int(row["owed"]) == after[row["name"]]
        assert 0 < int(row["fees"]) < 10**16, row
