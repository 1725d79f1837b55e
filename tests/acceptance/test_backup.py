"""A real node is backed up while it runs, loses its disk, comes back from the backup, and contradicts nothing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from scapp.reducers import library
from scapp.runtime.client import Refused
from scapp.runtime.documents import ChannelView
from tests.support.cluster import Cluster, cluster, environment, eventually

LEDGER = library.wasm_bytes("ledger")
WITHOUT_DATABASE = '[database]\nbackend = "none"\n'


def scapp(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scapp.runtime.cli.main", *arguments]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60)


def phase(nodes: Cluster, name: str, channel: str, wanted: str) -> ChannelView:
    def found() -> ChannelView | None:
        view = nodes.client(name).channel(channel)
        return view if view.phase == wanted else None

    return eventually(found, lambda: f"{wanted}: {nodes.state(name, channel)}")


def lose(nodes: Cluster, name: str) -> Path:
    """The node's directory, which is gone."""
    nodes.kill_node(name)
    nodes.nodes[name].wait_stopped()
    home = nodes.folder / name
    shutil.rmtree(home)
    return home


def test_a_node_that_lost_its_disk_goes_on_from_an_old_backup() -> None:
    """It recovers what it had signed since from the other, above all of it; a proposal from before is turned down."""
    with cluster(2, WITHOUT_DATABASE) as nodes:
        nodes.deploy(LEDGER)
        alice, bob = nodes.client("alice"), nodes.client("bob")
        channel = alice.open_channel(
            ["bob"], "ledger", params={"issuer": nodes.addresses["alice"]}, wait_s=20
        ).channel_id
        mint = {"mint": {"to": nodes.addresses["bob"], "amount": 5}}
        assert alice.send(channel, mint)[0].status == "accepted"
        backup = nodes.folder / "alice.tar"
        made = scapp("-C", str(nodes.folder / "alice"), "--json", "backup", str(backup), "--keys")
        assert made.returncode == 0, made.stderr
        assert msgspec.json.decode(made.stdout)["channels"] == 1
        for _ in range(3):
            assert alice.send(channel, mint)[0].status == "accepted"
        before = bob.channel(channel)

        home = lose(nodes, "alice")
        nodes.drop_client("bob")
        nodes.nodes["bob"].ask_to_stop()
        nodes.nodes["bob"].wait_stopped()
        restored = scapp("-C", str(home), "restore", str(backup))
        assert restored.returncode == 0, restored.stderr
        assert "1 channels" in restored.stdout
        nodes.start("alice")
        alice = nodes.client("alice")
        waiting = alice.channel(channel)
        assert (waiting.phase, waiting.sequence) == ("recovering", 2)
        assert nodes.addresses["bob"] in waiting.waiting_for
        with pytest.raises(Refused, match="the channel is recovering"):
            alice.send(channel, mint)
        again = scapp("-C", str(home), "channel", "recover", channel)
        assert again.returncode == 2
        assert "--override" in again.stderr

        nodes.start("bob")
        found = phase(nodes, "alice", channel, "running")
        assert found.log_root == before.log_root
        assert alice.send(channel, mint)[0].status == "accepted"
        assert alice.channel(channel).turn > before.turn + 1  # type: ignore[operator]
        bob = nodes.client("bob")
        assert bob.send(channel, {"transfer": {"to": nodes.addresses["alice"], "amount": 1}})[0].status == "accepted"
        assert alice.channel(channel).log_root == bob.channel(channel).log_root


@pytest.mark.slow
def test_the_operator_may_go_on_alone_and_a_stopped_node_can_be_backed_up() -> None:
    with cluster(2, WITHOUT_DATABASE) as nodes:
        nodes.deploy(LEDGER)
        alice = nodes.client("alice")
        channel = alice.open_channel(
            ["bob"], "ledger", params={"issuer": nodes.addresses["alice"]}, wait_s=20
        ).channel_id
        nodes.kill_node("bob")
        nodes.drop_client("alice")
        nodes.nodes["alice"].ask_to_stop()
        nodes.nodes["alice"].wait_stopped()
        home, backup = nodes.folder / "alice", nodes.folder / "backup"
        made = scapp("-C", str(home), "backup", str(backup))
        assert made.returncode == 0, made.stderr
        assert "without the keys" in made.stdout
        key = (home / "key").read_text()
        shutil.rmtree(home)
        restored = scapp("-C", str(home), "restore", str(backup))
        assert restored.returncode == 0, restored.stderr
        assert f"put the channel key to {home}/key" in restored.stdout
        (home / "key").write_text(key)
        (home / "key").chmod(0o600)
        nodes.start("alice")
        assert nodes.client("alice").channel(channel).phase == "recovering"
        overridden = scapp("-C", str(home), "channel", "recover", channel, "--override")
        assert overridden.returncode == 0, overridden.stderr
        assert nodes.client("alice").channel(channel).phase == "running"


def test_a_key_that_is_not_the_logs_signs_nothing() -> None:
    """A log under another key would be another participant: its channels stay closed, and say whose they are."""
    with cluster(2, WITHOUT_DATABASE) as nodes:
        nodes.deploy(LEDGER)
        alice = nodes.client("alice")
        channel = alice.open_channel(
            ["bob"], "ledger", params={"issuer": nodes.addresses["alice"]}, wait_s=20
        ).channel_id
        for name in nodes.names:
            nodes.kill_node(name)
            nodes.nodes[name].wait_stopped()
        shutil.copy(nodes.folder / "bob" / "key", nodes.folder / "alice" / "key")
        nodes.start("alice")
        assert nodes.addresses["alice"] in nodes.client("alice").status().corrupt[channel]
