"""Watchtower processes beside a funded cluster, and what cheaters send that they have to answer."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from scapp.channels.adjudicator_status import unpack_status
from scapp.channels.chain import calls
from scapp.channels.chain.support import App
from scapp.channels.crypto import keccak256
from scapp.channels.signing import Signer
from scapp.channels.state import challenge_hash, encode_state_of_outcome
from scapp.channels.types import Address, ChannelId, Hash
from scapp.runtime import devchain
from scapp.runtime.api.auth import TokenStore
from scapp.runtime.disputes.packages import read_package
from scapp.runtime.keys_file import CHAIN_KEY, key_info, load_key, new_key
from tests.support.cluster import environment, eventually
from tests.support.funded_cluster import FundedCluster


@contextlib.contextmanager
def running_tower(nodes: FundedCluster, home: Path) -> Iterator[tuple[str, str]]:
    """A watchtower process with an account of its own: its URL, and a token for clients."""
    settings = (nodes.nodes["alice"].home / "scapp.toml").read_text()
    (home / "scapp.toml").write_text("[chain]" + settings.partition("[chain]")[2].partition("[funding]")[0])
    new_key(home, role=CHAIN_KEY)
    nodes.chain.fund(key_info(home, CHAIN_KEY).address, 10**20)
    token = TokenStore(home).add("bob", ["send", "read"])
    command = [sys.executable, "-m", "scapp.runtime.cli.main", "-C", str(home), "--json", "watchtower"]
    with subprocess.Popen(
        [*command, "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True, env=environment()
    ) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())["url"], token
        finally:
            process.terminate()


def give_tower(nodes: FundedCluster, name: str, url: str, token: str) -> None:
    """Restart a node with the tower in its settings."""
    node = nodes.nodes[name]
    nodes.drop_client(name)
    node.ask_to_stop()
    node.wait_stopped()
    config = node.home / "scapp.toml"
    line = f'[disputes]\nwatchtowers = ["{url.replace("://", f"://{token}@")}"]'
    config.write_text(config.read_text().replace("[disputes]", line))
    nodes.start(name)


def tower_turn(url: str, token: str, channel: str, turn: int | None) -> bool | None:
    """True once the tower can defend that turn."""
    request = urllib.request.Request(f"{url}/v1/status", headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request) as answer:
        found = {each["channel_id"]: each["turn"] for each in json.load(answer)["channels"]}
    return True if found.get(channel, -1) >= (turn or 0) else None


def exported(nodes: FundedCluster, name: str, channel: str) -> bytes:
    """The dispute package that a node has exported, once it has."""
    path = nodes.nodes[name].home / "disputes" / f"{channel}.json"
    return eventually(lambda: path.read_bytes() if path.exists() else None, lambda: str(path))


def challenge_with(nodes: FundedCluster, name: str, package: bytes) -> None:
    """What a cheater's own program would send: a challenge with an old state, signed with the channel key."""
    found = nodes.chain.contracts
    apps: dict[bytes, App] = {found["ConsensusApp"]: "consensus", found["TwoPartyApp"]: "two-party"}
    defence = read_package(package, devchain.CHAIN_ID, Address(nodes.adjudicator), apps)
    state = defence.state
    signer = Signer(load_key(nodes.nodes[name].home, lambda: ""))
    encoded = encode_state_of_outcome(
        defence.channel, state.app_data, state.outcome, state.turn, is_final=state.is_final
    )
    signature = signer.sign(challenge_hash(Hash(keccak256(encoded))))
    data = calls.encode_call(calls.Challenge(defence.proof, state, signature))
    receipt = nodes.chain.send(bytes.fromhex(nodes.accounts[name][2:]), nodes.adjudicator, data)
    assert receipt["status"] == "0x1", receipt


def await_record(nodes: FundedCluster, channel: str, turn: int) -> None:
    """Until that turn is recorded on chain and no challenge stands."""
    eventually(lambda: True if record_of(nodes, channel) == (turn, 0) else None, lambda: str(record_of(nodes, channel)))


def record_of(nodes: FundedCluster, channel: str) -> tuple[int, int]:
    """Turn record and finalizesAt on chain."""
    data = calls.encode_call(calls.StatusOf(ChannelId(bytes.fromhex(channel[2:]))))
    call = {"to": devchain.hexed(nodes.adjudicator), "data": devchain.hexed(data)}
    status = unpack_status(Hash(bytes.fromhex(nodes.chain.rpc("eth_call", call, "latest")[2:])))
    return status.turn_record, status.finalizes_at
