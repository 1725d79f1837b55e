"""A channel that grows: two node processes over a real EVM; what is topped up is played for and paid out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from scapp.reducers import library
from scapp.runtime.cli.amounts import COIN
from scapp.runtime.cli.main import scapp
from tests.support.cluster import eventually
from tests.support.funded_cluster import funded_cluster, quick_chain

STAKE, MORE = 10**15, 3 * 10**14
PAID = "0x" + "77" * 20
pytestmark = pytest.mark.slow


def run(home: Path, *args: str) -> dict[str, object]:
    done = CliRunner().invoke(scapp, ["-C", str(home), "--json", *args])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def test_a_top_up_is_deposited_played_for_and_paid_out() -> None:
    """Bob brings more while the channel runs, pays all of it to Alice's account elsewhere, and she moves it on."""
    with quick_chain() as chain, funded_cluster(2, chain) as nodes:
        nodes.deploy(library.wasm_bytes("ledger"))
        alice, bob = nodes.client("alice"), nodes.client("bob")
        opened = alice.open_channel(
            ["bob"], "ledger", fund="direct", stakes={COIN: STAKE}, headroom={COIN: 10**18},
            payouts={"bob": PAID}, challenge_duration_s=3_600,
        )  # fmt: skip
        channel = opened.channel_id
        eventually(lambda: bob.accept(channel) if bob.channels("proposed") else None, lambda: "no proposal")
        eventually(
            lambda: True if alice.channel(channel).phase == "running" else None, lambda: nodes.state("alice", channel)
        )
        assert nodes.held(channel, COIN) == 2 * STAKE, "room costs nothing"
        home = nodes.nodes["bob"].home
        words = [json.dumps({name: {"amount": MORE}}) for name in ("top_up", "claim")]
        run(home, "channel", "top-up", channel, str(MORE), "--message", words[0], "--then", words[1], "--wait", "60")
        assert nodes.held(channel, COIN) == 2 * STAKE + MORE
        (receipt,) = bob.send(channel, {"transfer": {"to": nodes.addresses["alice"], "amount": STAKE + MORE - 5}})
        assert receipt.status == "accepted", receipt
        before = nodes.balance(nodes.addresses["alice"])
        alice.close_channel(channel, wait_s=60)
        for name in nodes.names:
            eventually(
                lambda name=name: True if nodes.client(name).channel(channel).phase == "settled" else None,  # type: ignore[misc]
                lambda name=name: nodes.state(name, channel),  # type: ignore[misc]
            )
        assert nodes.balance(nodes.addresses["alice"]) - before == 2 * STAKE + MORE - 5
        assert nodes.balance(PAID) == 5
        home = nodes.nodes["alice"].home
        (own, _) = run(home, "chain", "accounts")["accounts"]  # type: ignore[misc]
        assert (own["key"], own["account"]) == ("channel key", nodes.addresses["alice"])
        sent = run(home, "chain", "send", PAID, "all")
        assert sent["block"] is not None
        assert nodes.balance(PAID) == 5 + int(str(sent["amount"]))
        status = run(home, "status")
        assert status["chain"]["connected"] is True  # type: ignore[index]
