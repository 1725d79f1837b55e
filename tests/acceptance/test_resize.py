"""Money leaves a channel that goes on: two node processes over a real EVM, our contracts and the published ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from scapp.reducers import library
from scapp.runtime import devchain
from scapp.runtime.cli.amounts import COIN
from scapp.runtime.cli.main import scapp
from tests.support.cluster import eventually
from tests.support.funded_cluster import FundedCluster, funded_cluster, quick_chain

STAKE, MOVED, OUT = 10**15, 3 * 10**14, 10**14
PAID = {"alice": "0x" + "77" * 20, "bob": "0x" + "78" * 20}
pytestmark = pytest.mark.slow


def run(nodes: FundedCluster, name: str, *args: str) -> dict[str, object]:
    done = CliRunner().invoke(scapp, ["-C", str(nodes.nodes[name].home), "--json", *args])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def reach(nodes: FundedCluster, channel: str, phase: str) -> None:
    for name in nodes.names:
        eventually(
            lambda name=name: True if nodes.client(name).channel(channel).phase == phase else None,  # type: ignore[misc]
            lambda name=name: nodes.state(name, channel),  # type: ignore[misc]
        )


def paid(nodes: FundedCluster) -> dict[str, str]:
    return {nodes.addresses[name]: account for name, account in PAID.items()}


def check_rows(nodes: FundedCluster, *channels: str) -> None:
    """The old channel's tables end with what everybody was owed, the successor's begin with what was kept, and both are
    what their logs give."""
    sql = "SELECT is_final, amounts::text FROM scapp.cursors WHERE channel_id = $1::bytea"
    ends = [True, f"{{{STAKE - MOVED},{STAKE + MOVED}}}"], [False, f"{{{STAKE - MOVED - 2 * OUT},{MOVED - OUT}}}"]
    for name in nodes.names:
        for channel, end in zip(channels, ends, strict=True):
            eventually(
                lambda name=name, channel=channel, end=end: (  # type: ignore[misc]
                    nodes.rows(name, sql, "\\x" + channel[2:]) == [end] or None
                ),
                lambda name=name, channel=channel: str(nodes.rows(name, sql, "\\x" + channel[2:])),  # type: ignore[misc]
            )
            assert nodes.client(name).verify(channel).ok


def deployed(chain: devchain.Chain) -> dict[str, bytes]:
    from tests.chain import published

    found = {}
    for name in ("NitroAdjudicator", "ConsensusApp"):
        receipt = chain.send(devchain.DEPLOYER, None, published.load(name).creation_code())
        found[name] = bytes.fromhex(receipt["contractAddress"][2:])
    return found


@pytest.mark.parametrize(
    "ours", [pytest.param(True, id="our contracts"), pytest.param(False, marks=pytest.mark.published_contracts)]
)
def test_both_take_something_out_and_play_on(ours: bool) -> None:
    """Bob asks, Alice proposes with her own part, one transaction moves and pays; Bob is killed meanwhile."""
    published, backend = (None, "embedded") if ours else (deployed, "none")
    with (
        quick_chain() as chain,
        funded_cluster(2, chain, published=published and published(chain), backend=backend) as nodes,
    ):
        nodes.deploy(library.wasm_bytes("ledger"))
        alice = nodes.client("alice")
        channel = alice.open_channel(
            ["bob"], "ledger", fund="direct", stakes={COIN: STAKE}, payouts=paid(nodes), challenge_duration_s=3_600
        ).channel_id
        for name in ("alice", "bob"):
            client = nodes.client(name)
            eventually(lambda client=client: client.channels() or None, lambda: "no proposal")  # type: ignore[misc]
        if nodes.client("bob").channel(channel).phase == "proposed":
            nodes.client("bob").accept(channel)
        reach(nodes, channel, "running")
        (receipt,) = alice.send(channel, {"transfer": {"to": nodes.addresses["bob"], "amount": MOVED}})
        assert receipt.status == "accepted", receipt
        asked = run(nodes, "bob", "channel", "resize", channel, "--withdraw", str(STAKE + OUT))
        assert asked["phase"] == "running"
        eventually(lambda: alice.channel(channel).waiting_for or None, lambda: nodes.state("alice", channel))
        found = run(nodes, "alice", "channel", "resize", channel, "--withdraw", str(2 * OUT), "--wait", "0")
        successor = str(found["channel_id"])
        assert found["renews"] == channel
        eventually(
            lambda: True if alice.channel(channel).phase in ("closed", "settled") else None,
            lambda: nodes.state("alice", channel),
        )
        nodes.kill_node("bob")
        nodes.start("bob")
        reach(nodes, successor, "running")
        reach(nodes, channel, "settled")
        assert nodes.balance(PAID["alice"]) == 2 * OUT
        assert nodes.balance(PAID["bob"]) == STAKE + OUT
        assert nodes.held(channel) == 0
        assert nodes.held(successor) == STAKE - 3 * OUT
        if ours:
            check_rows(nodes, channel, successor)
        (receipt,) = nodes.client("bob").send(
            successor, {"transfer": {"to": nodes.addresses["alice"], "amount": MOVED - OUT}}
        )
        assert receipt.status == "accepted", "he has kept just that"
        alice.close_channel(successor, wait_s=60)
        reach(nodes, successor, "settled")
        assert nodes.balance(PAID["alice"]) == STAKE - MOVED + MOVED - OUT
        assert nodes.balance(PAID["bob"]) == STAKE + OUT


def test_one_who_vanishes_while_it_is_agreed_holds_up_nothing_for_good(tmp_path: Path) -> None:
    """Bob is asked, and gone: the old channel is left by a challenge as ever, and the successor is given up."""
    with quick_chain() as chain, funded_cluster(2, chain, more='[policy]\naccept = "none"') as nodes:
        nodes.deploy(library.wasm_bytes("ledger"))
        alice, bob = nodes.client("alice"), nodes.client("bob")
        channel = alice.open_channel(
            ["bob"], "ledger", fund="direct", stakes={COIN: STAKE}, payouts=paid(nodes), challenge_duration_s=3
        ).channel_id
        eventually(lambda: bob.accept(channel) if bob.channels("proposed") else None, lambda: "no proposal")
        reach(nodes, channel, "running")
        successor = alice.resize(channel, {COIN: OUT}).channel_id
        eventually(lambda: bob.channels("proposed") or None, lambda: "no successor")
        nodes.kill_node("bob")
        alice.challenge(channel)
        eventually(
            lambda: True if alice.channel(channel).phase == "settled" else None, lambda: nodes.state("alice", channel)
        )
        assert [nodes.balance(PAID[name]) for name in ("alice", "bob")] == [STAKE, STAKE]
        assert alice.channel(successor).phase == "rejected"
        assert "is left" in alice.channel(successor).reason
