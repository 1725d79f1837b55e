"""A disk that takes no more writes under a running node: said in words, nothing lost, and mended by a restart."""

from __future__ import annotations

import resource

import pytest

from scapp.reducers import library
from scapp.runtime.client import NodeFailed
from tests.support.cluster import Cluster, cluster

LEDGER = library.wasm_bytes("ledger")
WITHOUT_DATABASE = '[database]\nbackend = "none"\n'


def limit_files(nodes: Cluster, name: str, size: int) -> None:
    """Let the node's process write no file beyond `size` bytes; the kernel then refuses as a full disk does."""
    hard = resource.prlimit(nodes.nodes[name].pid, resource.RLIMIT_FSIZE)[1]
    resource.prlimit(nodes.nodes[name].pid, resource.RLIMIT_FSIZE, (size, hard))


def test_a_full_disk_stops_signing_in_words_and_loses_nothing() -> None:
    """Callers hear why (the node's own log file is as full); the peer goes on; a restart with room mends it."""
    with cluster(2, WITHOUT_DATABASE) as nodes:
        nodes.deploy(LEDGER)
        alice, bob = nodes.client("alice"), nodes.client("bob")
        params = {"issuer": nodes.addresses["alice"]}
        channel = alice.open_channel(["bob"], "ledger", params=params, wait_s=20).channel_id
        mint = {"mint": {"to": nodes.addresses["bob"], "amount": 5}}
        assert alice.send(channel, mint)[0].status == "accepted"
        limit_files(nodes, "alice", 1)
        with pytest.raises(NodeFailed, match="the disk refused a write") as caught:
            alice.send(channel, mint)
        assert caught.value.code == "storage_failed"
        assert "start the node again" in caught.value.hint
        with pytest.raises(NodeFailed, match="nothing is signed"):
            alice.health()
        assert alice.channel(channel).phase == "halted"
        with pytest.raises(NodeFailed, match="File too large") as refused:
            alice.add_peer("0x" + "11" * 20, "127.0.0.1:1", "carol")
        assert refused.value.code == "storage_failed"
        assert [peer.name for peer in alice.peers()] == ["bob"]
        assert bob.health().ok
        assert bob.channel(channel).phase == "running"

        nodes.drop_client("alice")
        nodes.nodes["alice"].ask_to_stop()
        nodes.nodes["alice"].wait_stopped()
        nodes.start("alice")
        alice = nodes.client("alice")
        assert alice.channel(channel).sequence == 2
        assert alice.send(channel, mint)[0].status == "accepted"
        assert alice.channel(channel).log_root == bob.channel(channel).log_root
