"""A disk that takes no more writes under a running node: said in words, nothing lost, and mended by a restart."""

from __future__ import annotations

import resource

import pytest
from rocksdict import Options, Rdict

from scapp.reducers import library
from scapp.runtime.client import NodeFailed
from tests.support.cluster import Cluster, cluster

LEDGER = library.wasm_bytes("ledger")
WITHOUT_DATABASE = '[database]\nbackend = "none"\n'


def limit_files(nodes: Cluster, name: str, size: int) -> None:
    """Let the node's process write no file beyond `size` bytes; the kernel then refuses as a full disk does."""
    hard = resource.prlimit(nodes.nodes[name].pid, resource.RLIMIT_FSIZE)[1]
    resource.prlimit(nodes.nodes[name].pid, resource.RLIMIT_FSIZE, (size, hard))


def stop(nodes: Cluster, name: str) -> None:
    nodes.drop_client(name)
    nodes.nodes[name].ask_to_stop()
    nodes.nodes[name].wait_stopped()


def flip_a_bit(nodes: Cluster, name: str, channel: str) -> None:
    """In the middle of one stored page of the channel, below every check of the file system."""
    path = str(nodes.folder / name / "log")
    families = {family: Options(raw_mode=True) for family in Rdict.list_cf(path)}
    store = Rdict(path, Options(raw_mode=True), column_families=families)
    pages = [key for key in store.keys() if key.startswith(bytes.fromhex(channel[2:]))]  # noqa: SIM118 - no mapping
    damaged = bytearray(store[pages[2]])
    damaged[len(damaged) // 2] ^= 1
    store[pages[2]] = bytes(damaged)
    store.close()


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
        assert "the disk refused a write" in alice.status().log_failure
        assert alice.channel(channel).phase == "halted"
        with pytest.raises(NodeFailed, match="File too large") as refused:
            alice.add_peer("0x" + "11" * 20, "127.0.0.1:1", "carol")
        assert refused.value.code == "storage_failed"
        assert [peer.name for peer in alice.peers()] == ["bob"]
        assert bob.health().ok
        assert bob.channel(channel).phase == "running"

        stop(nodes, "alice")
        nodes.start("alice")
        alice = nodes.client("alice")
        assert alice.channel(channel).sequence == 2
        assert alice.send(channel, mint)[0].status == "accepted"
        assert alice.channel(channel).log_root == bob.channel(channel).log_root


def test_a_flipped_bit_in_the_log_closes_one_channel_and_no_other() -> None:
    """It is named with what was expected and found, to whoever asks for it; the other channel goes on."""
    with cluster(2, WITHOUT_DATABASE) as nodes:
        nodes.deploy(LEDGER)
        alice = nodes.client("alice")
        mint = {"mint": {"to": nodes.addresses["bob"], "amount": 5}}
        params = {"issuer": nodes.addresses["alice"]}
        bad, good = (alice.open_channel(["bob"], "ledger", params=params, wait_s=20).channel_id for _ in range(2))
        for channel in (bad, good):
            assert alice.send(channel, mint)[0].status == "accepted"
        stop(nodes, "alice")
        flip_a_bit(nodes, "alice", bad)
        nodes.start("alice")
        alice = nodes.client("alice")
        assert [found.channel_id for found in alice.channels()] == [good]
        assert "checksum expected" in alice.status().corrupt[bad]
        with pytest.raises(NodeFailed, match=r"corrupt and stays closed: .* checksum expected") as caught:
            alice.send(bad, mint)
        assert caught.value.code == "corrupt"
        assert alice.send(good, mint)[0].status == "accepted"
        assert alice.health().ok
