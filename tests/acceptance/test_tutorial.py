"""The tutorials' commands, run as they stand in docs/tutorial."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scapp.channels.crypto import commitment
from scapp.reducers.build import build_reducer
from scapp.runtime.cli.amounts import COIN
from scapp.runtime.cli.processes import free_ports
from scapp.runtime.documents import SlotView
from tests.support.cluster import cluster, environment
from tests.support.folders import open_folder
from tests.support.snippets import blocks
from tests.support.tree import ROOT

PAGES, HOWTO = ROOT / "docs" / "tutorial", ROOT / "docs" / "howto"
PORTS = ("7430", "7431", "7440", "7441")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory that PostgreSQL's own user may enter, also under root."""
    found = open_folder("scapp-test-")
    yield found
    shutil.rmtree(found, ignore_errors=True)


def run_page(name: str, ports: tuple[str, ...], folder: Path) -> str:
    """What its blocks print, run in one shell; free ports take the place of those on the page."""
    script = "\n".join(blocks(PAGES / name, "sh"))
    for port, free in zip(ports, free_ports(len(ports)), strict=True):
        assert port in script
        script = script.replace(port, str(free))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with subprocess.Popen(
        ["bash", "-c", f"set -em\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{script}"],
        cwd=folder, env=environment() | {"PATH": path}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        out, err = process.communicate(timeout=200)
    assert process.returncode == 0, out + err
    return out


def test_the_first_channel(folder: Path) -> None:
    """Every block runs, in one shell, and both databases are equal to the root in the end."""
    out = run_page("first-channel.md", PORTS, folder)
    assert "refused, as it must be" in out
    assert "not your" not in out
    verdicts = re.findall(r"^(equal|DIFFERENT)\s+0x\w+….*?(0x\w{64})", out, re.M)
    assert [verdict for verdict, _ in verdicts] == ["equal", "equal"]
    assert len({root for _, root in verdicts}) == 1
    for name in ("alice", "bob"):
        assert not (folder / name / "node.json").exists(), "the node still runs"


@pytest.mark.slow
def test_alice_hub_and_bob(folder: Path) -> None:
    """Payments and an app over a hub, without a transaction, and everybody is paid what the page says."""
    out = run_page("alice-hub-bob.md", ("8545", *PORTS, "7450", "7451"), folder)
    assert "no transaction since the deposits" in out
    paid = dict(re.findall(r"^(alice|hub|bob) (\d+) wei$", out, re.M))
    fees = 7_002 * 10**9
    assert {name: int(wei) for name, wei in paid.items()} == {
        "alice": 176 * 10**14 - fees,
        "hub": 2 * 10**16 + fees,
        "bob": 34 * 10**14,
    }


@pytest.mark.slow
def test_a_hidden_move_as_the_how_to_sends_it(folder: Path) -> None:
    """Its reducer between two nodes: Bob has hidden a rock, Alice follows the page with a paper, and is owed more."""
    page = HOWTO / "hidden-moves.md"
    (source,), (code,) = blocks(page, "zig"), blocks(page, "python")
    (folder / "rps.zig").write_text(source)
    build_reducer(folder / "rps.zig", folder / "rps.wasm", quick=True)
    with cluster(2) as nodes:
        nodes.deploy((folder / "rps.wasm").read_bytes())
        alice, bob = (nodes.client(name) for name in nodes.names)
        owners = [*nodes.addresses.values(), "0x" + "00" * 18 + "dead"]
        slots = [
            SlotView(asset=COIN, destination=to, amount=each)
            for to, each in zip(owners, ("10", "10", "0"), strict=True)
        ]
        channel = alice.open_channel(["bob"], "rps", slots=slots, wait_s=30).channel_id
        me, salt = (bytes.fromhex(text[2:]) for text in (nodes.addresses["bob"], "0x" + "22" * 32))
        hidden = commitment(salt, bytes.fromhex(channel[2:]), me, 0, b"rock")
        (receipt,) = bob.send(channel, {"commit": {"hash": "0x" + hidden.hex()}})
        assert receipt.status == "accepted", receipt
        exec(compile(code, str(page), "exec"), {"home": nodes.nodes["alice"].home, "channel": channel})
        bob.send(channel, {"reveal": {"choice": "rock", "salt": "0x" + salt.hex()}})
        assert alice.channel(channel).amounts == ["15", "5", "0"]
