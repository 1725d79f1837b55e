"""What nodes refuse, what they tell listeners, and vouchers handed over as files: node processes over a real EVM."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from scapp.channels.types import money
from scapp.runtime.cli.amounts import COIN
from scapp.runtime.client import Client, ClientError
from scapp.runtime.devchain import Chain
from tests.support.cluster import eventually
from tests.support.command import document, run
from tests.support.funded_cluster import FundedCluster, funded_cluster, quick_chain
from tests.support.ledger_cluster import DEPOSIT, open_ledger, settle, shown, wait_ledger, wait_virtual

NOWHERE = "0x" + "ab" * 32
FEE = """
[hub.fee_base]
coin = "7"
"""
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def chain() -> Iterator[Chain]:
    with quick_chain() as found:
        yield found


@pytest.fixture(scope="module")
def apart(chain: Chain) -> Iterator[FundedCluster]:
    """Alice and Carol know Bob, and not each other. Alice and Bob have a ledger."""
    with funded_cluster(3, chain, introduced=False, more=FEE) as nodes:
        for one, other in (("alice", "bob"), ("bob", "alice"), ("bob", "carol"), ("carol", "bob")):
            _introduce(nodes, one, other)
        open_ledger(nodes, "alice", "bob")
        yield nodes


def _introduce(nodes: FundedCluster, one: str, other: str) -> None:
    file = nodes.nodes[other].file()
    assert file is not None
    nodes.client(one).add_peer(file.address, file.listen, other)


def test_unknown_ids_and_second_ledgers_are_refused(apart: FundedCluster) -> None:
    """Each with an error that says what is wrong; the node goes on as if nothing had been asked."""
    alice = apart.client("alice")
    before = shown(apart)
    calls = [alice.ledger, alice.accept_ledger, alice.reject_ledger, alice.close_ledger, alice.challenge_ledger,
             alice.withdraw_ledger, alice.recover_ledger, lambda it: alice.transfer(it, COIN, 1),
             lambda it: alice.top_up_ledger(it, COIN, 1), alice.virtual, alice.close_virtual,
             alice.challenge_virtual, alice.recover_payments, alice.voucher, alice.payments,
             lambda it: alice.pay(it, 1)]  # fmt: skip
    for call in calls:
        assert _code(lambda call=call: call(NOWHERE)) == "unknown_channel"
        assert _code(lambda call=call: call("0x12")) == "bad_request"
    for one, other in (("alice", "bob"), ("bob", "alice")):
        with pytest.raises(ClientError, match="one is enough"):
            apart.client(one).open_ledger(other, {COIN: 5})
    with pytest.raises(ClientError, match="needs another node"):
        alice.open_ledger(apart.addresses["alice"], {COIN: 5})
    assert _code(lambda: alice.open_ledger("carol", {COIN: 5})) == "unknown_peer"
    assert shown(apart) == before


def _code(call: object) -> str:
    assert callable(call)
    with pytest.raises(ClientError) as caught:
        call()
    return caught.value.code


def test_channels_that_nobody_would_guarantee_are_refused(apart: FundedCluster) -> None:
    """Without a ledger with the first on the way, or between the hub and the payee; below the hub's fee, for more than
    the payer has. Nothing stays locked."""
    alice, carol = apart.client("alice"), apart.addresses["carol"]
    with pytest.raises(ClientError, match="no running ledger"):
        alice.open_payments(carol, COIN, 1_000)
    with pytest.raises(ClientError, match="names everybody once"):
        alice.open_payments(carol, COIN, 1_000, via=["bob", "bob"], fees=[7, 7])
    with pytest.raises(ClientError, match="2 fees for 1 hubs"):
        alice.open_payments(carol, COIN, 1_000, via=["bob"], fees=[7, 7])
    found = alice.open_payments(carol, COIN, 1_000, via=["bob"], fees=[7], wait_s=30)
    assert (found.phase, found.reason[:18]) == ("rejected", "there is no ledger")
    _guaranteed(apart)
    said = f"{money(DEPOSIT + 1)} are needed, fees included; this node has {DEPOSIT}"
    with pytest.raises(ClientError, match=re.escape(said)):
        alice.open_payments(carol, COIN, DEPOSIT - 6, via=["bob"], fees=[7])
    found = alice.open_payments(carol, COIN, 1_000, via=["bob"], fees=[6], wait_s=30)
    assert found.phase == "rejected", found
    assert "a fee of 6; this hub asks 7 wei" in found.reason
    assert _code(lambda: alice.pay(found.channel_id, 1)) == "refused"
    for name in ("alice", "carol"):
        (ledger,) = apart.client(name).ledgers()
        wait_ledger(apart, name, ledger.channel_id,
                    lambda now: [(it.mine, it.locked) for it in now.assets] == [(str(DEPOSIT), "0")])  # fmt: skip


def _guaranteed(nodes: FundedCluster) -> str:
    """The ledger between Bob and Carol, opened when it is first wanted."""
    found = nodes.client("carol").ledgers()
    return found[0].channel_id if found else open_ledger(nodes, "bob", "carol")


def test_vouchers_handed_over_as_files(apart: FundedCluster, tmp_path: Path) -> None:
    """Carol, whom Alice's node does not reach, is paid with files. Old ones, doubled ones and forged ones add nothing;
    what comes over the link later counts once; and the ledgers pay what the files said."""
    nodes = apart
    right = _guaranteed(nodes)
    opened = nodes.client("alice").open_payments(
        nodes.addresses["carol"], COIN, 1_000, via=["bob"], fees=[7], wait_s=30
    )
    channel = opened.channel_id
    assert opened.phase == "running", shown(nodes)
    files = [tmp_path / f"{number}.json" for number in range(3)]
    for number, file in enumerate(files, 1):
        home = str(nodes.nodes["alice"].home)
        document("-C", home, "voucher", "create", channel, f"{100 * number}wei", "-o", str(file))
    assert nodes.client("carol").virtual(channel).paid == "0"
    added = [_imported(nodes, files[index]) for index in (1, 0, 1, 2)]
    assert added == [("300", "300"), ("0", "300"), ("0", "300"), ("300", "600")]
    text = files[2].read_text()
    forged, cut = tmp_path / "forged.json", tmp_path / "cut.json"
    forged.write_text(text.replace('"Amount":600', '"Amount":601'))
    assert "wrong signer" in _refused(nodes, "carol", forged)
    assert "no payment channel" in _refused(nodes, "bob", files[2])
    cut.write_text(text[:40])
    assert _refused(nodes, "carol", cut)
    assert nodes.client("carol").virtual(channel).paid == "600"
    _introduce(nodes, "carol", "alice")
    _introduce(nodes, "alice", "carol")
    assert nodes.client("alice").pay(channel, 50, wait_s=30).seen
    assert nodes.client("carol").close_virtual(channel, wait_s=30).phase == "released", shown(nodes)
    (asset,) = nodes.client("carol").ledger(right).assets
    assert (asset.mine, asset.locked) == (str(DEPOSIT + 650), "0")


def _imported(nodes: FundedCluster, file: Path) -> tuple[str, str]:
    """What a voucher that Carol takes adds, and what she has altogether."""
    found = document("-C", str(nodes.nodes["carol"].home), "voucher", "import", str(file))
    return found["added"], found["paid"]


def _refused(nodes: FundedCluster, name: str, file: Path) -> str:
    """What is said of a voucher that this node does not take."""
    done = run("-C", str(nodes.nodes[name].home), "voucher", "import", str(file))
    assert done.returncode != 0, done.stdout
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


class Listener(threading.Thread):
    """Follows a node's own events; links aside, which come as they like."""

    def __init__(self, client: Client) -> None:
        super().__init__(daemon=True)
        self._client = client
        self._heard: list[tuple[str, str]] = []

    def run(self) -> None:
        for item in self._client.stream(kinds=["node"]):
            if item.channel_id is not None:
                self._heard.append((item.channel_id, f"{item.event} {item.detail}"))

    def of(self, channel: str) -> list[str]:
        return [text for each, text in self._heard if each == channel]

    @property
    def listens(self) -> bool:
        return bool(self._heard)


def test_payer_hub_and_payee_are_told_what_happens(chain: Chain) -> None:
    """Each step once and in order, in the streams of all three; nobody but the payee is told of payments."""
    with funded_cluster(3, chain) as nodes:
        listeners = {name: Listener(nodes.nodes[name].client()) for name in nodes.names}
        for listener in listeners.values():
            listener.start()
        for pair in (("alice", "bob"), ("bob", "carol")):
            _until_both_hear(nodes, listeners, *pair)
        left, right = open_ledger(nodes, "alice", "bob"), open_ledger(nodes, "bob", "carol")
        opened = nodes.client("alice").open_payments("carol", COIN, 1_000, via=["bob"], fees=[7], wait_s=30)
        channel = opened.channel_id
        for amount in (100, 200):
            assert nodes.client("alice").pay(channel, amount, wait_s=30).seen
        assert nodes.client("carol").close_virtual(channel, wait_s=30).phase == "released"
        wait_virtual(nodes, nodes.names, channel, lambda now: now.phase == "released")
        settle(nodes, left, "alice", "bob")
        settle(nodes, right, "carol", "bob")
        end = ["virtual closing: a participant wants it", "virtual released: a participant wants it"]
        expected = {
            ("alice", channel): ["virtual opening", "virtual funding", "virtual running", *end],
            ("bob", channel): ["virtual proposed", "virtual opening", "virtual funding", "virtual running", *end],
            ("carol", channel): ["virtual proposed", "virtual funding", "virtual running",
                                 "paid 100 more, 100 altogether", "paid 200 more, 300 altogether", *end],
            ("alice", left): _ledger("opening", "funding", "running", "closing", "closed", "settled"),
            ("bob", left): _ledger("proposed", "funding", "running", "closed", "settled"),
            ("bob", right): _ledger("opening", "funding", "running", "closing", "closed", "settled"),
            ("carol", right): _ledger("proposed", "funding", "running", "closing", "closed", "settled"),
            ("alice", right): [],
            ("carol", left): [],
        }  # fmt: skip

        def heard() -> dict[tuple[str, str], list[str]]:
            return {(name, each): listeners[name].of(each) for name, each in expected}

        eventually(lambda: True if heard() == expected else None, lambda: f"{heard()}\nexpected: {expected}", 10)


def _ledger(*phases: str) -> list[str]:
    return [f"ledger {phase}" for phase in phases]


def _until_both_hear(nodes: FundedCluster, listeners: dict[str, Listener], one: str, other: str) -> None:
    """A stream tells what happens once it stands. Until both ends hear of it, a ledger is proposed for which the other
    one would have to deposit more than its limit, and withdrawn."""

    def heard() -> bool | None:
        ledger = nodes.client(one).open_ledger(other, {COIN: 1}, {COIN: 10**19}).channel_id
        nodes.client(one).reject_ledger(ledger)
        wait_ledger(nodes, one, ledger, lambda now: now.phase == "rejected")
        return (listeners[one].listens and listeners[other].listens) or None

    eventually(heard, lambda: f"{one} and {other} are told nothing")
