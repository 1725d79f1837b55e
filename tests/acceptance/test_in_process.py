"""Two whole node processes' worth of parts in one event loop: start, serve, stop, and start again."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest
from click.testing import CliRunner

from scapp.channels.errors import LocalError
from scapp.game import wasm_bytes
from scapp.reducers import library
from scapp.runtime.cli.main import scapp
from scapp.runtime.client import Client, NodeFailed, Refused
from scapp.runtime.compose import NodeProcess
from scapp.runtime.config import Config, load_config
from scapp.runtime.key_passwords import ask_password
from scapp.runtime.keys_file import new_key
from tests.support.cluster import eventually
from tests.support.folders import open_folder

T = TypeVar("T")
CHECKER = Path(__file__).parents[2] / "examples" / "check_proof.py"
LEDGER = library.wasm_bytes("ledger")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory that PostgreSQL's own user may enter, also under root."""
    found = open_folder("scapp-test-")
    yield found
    shutil.rmtree(found, ignore_errors=True)


def _prove(node: Client, channel: str, owner: str, folder: Path) -> None:
    """A row and an absence, from real signatures and a real reducer, checked by commands that know no node."""
    file, ledger, game = (folder / name for name in ("proof.json", "ledger.wasm", "game.wasm"))
    ledger.write_bytes(LEDGER)
    game.write_bytes(wasm_bytes())
    for key, turn, values in ((owner, None, {"owner": owner, "balance": "5"}), ("0x" + "ff" * 20, 0, None)):
        file.write_bytes(msgspec.json.encode(node.prove(channel, "account", [key], turn)))
        arguments = ["check-proof", str(file), "--channel", channel, "--module", str(ledger), "--json"]
        result = CliRunner().invoke(scapp, arguments)
        assert result.exit_code == 0, result.stdout
        assert json.loads(result.stdout)["values"] == values
        assert json.loads(result.stdout)["names_proved"]
        subprocess.run([sys.executable, "-I", "-S", CHECKER, file], check=True, timeout=60)
    assert CliRunner().invoke(scapp, ["check-proof", str(file), "--module", str(game)]).exit_code == 5
    for table, keys, message in (("nope", [owner], "has no table 'nope'"), ("account", [], "0 key values")):
        with pytest.raises(Refused, match=message):
            node.prove(channel, table, keys)
    with pytest.raises(Refused, match="turn 99 is not in this node's log"):
        node.prove(channel, "account", [owner], 99)


def _project(node: Client, channel: str) -> None:
    """A projection of the app's own reducer has the same rows; the game's reducer skips what it cannot read."""
    assert node.add_projection("copy", "ledger", LEDGER).schema == "scapp_projection_copy"
    node.add_projection("wrong", "ledger", wasm_bytes())

    def caught_up() -> bool | None:
        return all([each.sequence for each in found.channels] == [2] for found in node.projections()) or None

    eventually(caught_up, lambda: str(node.projections()))
    assert node.query("select balance from scapp_projection_copy.account where balance > 0").rows == [["5"]]
    assert node.query("select count(*) from scapp_projection_wrong.scapp_skipped").rows == [[2]]
    node.upgrade_projection("wrong", LEDGER)
    eventually(lambda: node.projection("wrong").following is None or None, lambda: str(node.projections()))
    assert node.query("select balance from scapp_projection_wrong.account where balance > 0").rows == [["5"]]
    assert [each.name for each in node.remove_projection("wrong")] == ["copy"]
    for unknown in (
        lambda: node.projection("wrong"),
        lambda: node.upgrade_projection("wrong", LEDGER),
        lambda: node.remove_projection("wrong"),
    ):
        with pytest.raises(Refused, match="no projection 'wrong'") as caught:
            unknown()
        assert caught.value.code == "unknown_projection"
    with pytest.raises(Refused, match="not a WebAssembly module") as caught:
        node.add_projection("bad", "ledger", b"no module")
    assert (caught.value.code, "abi.md" in caught.value.hint) == ("bad_module", True)


def _replay(node: Client, channel: str) -> None:
    """Beside the live rows, compared, and in their place; each step through the API."""
    kept = node.replay(channel, compare=True)
    assert (kept.result, kept.difference_count, kept.sequence) == ("kept", 0, 2)
    assert node.query(f"select balance from {kept.schema}.account where balance > 0").rows == [["5"]]
    assert node.replay(channel, compare=True, then="swap").result == "swapped"
    assert node.verify(channel).ok
    assert node.replay(channel, then="drop").result == "dropped"
    assert node.replay(channel, abandon=True).result == "abandoned"


def settings(home: Path, database: str) -> Config:
    flags = {"node.listen": "127.0.0.1:0", "api.listen": "127.0.0.1:0", "database.backend": database}
    return load_config(home, environ={}, flags=flags)


@asynccontextmanager
async def running(home: Path, database: str = "none") -> AsyncIterator[Client]:
    """A started node and a client of it; the client blocks, so it is for threads."""
    process = NodeProcess(home, settings(home, database), lambda _: "")
    file = await process.start()
    try:
        with Client.at_home(home) as client:
            assert client.url == file.api
            yield client
    finally:
        await process.stop()
        await process.stop()  # a second stop does nothing
    assert not (home / "node.json").exists()


async def call(function: Callable[..., T], *args: object, **named: object) -> T:
    return await asyncio.to_thread(function, *args, **named)


async def test_without_a_database_everything_but_queries_works(folder: Path) -> None:
    """Ordering and signing need no database; query and verify say that there is none."""
    for name in ("alice", "bob"):
        new_key(folder / name)
    async with running(folder / "alice") as alice, running(folder / "bob") as bob:
        status = await call(bob.status)
        await call(alice.add_peer, status.address, status.listen, "bob")
        own = await call(alice.status)
        await call(bob.add_peer, own.address, own.listen, "alice")
        await call(alice.deploy, LEDGER)
        await call(bob.deploy, LEDGER)
        opened = await call(alice.open_channel, ["bob"], "ledger", params={"issuer": own.address}, wait_s=20)
        mint = {"mint": {"to": status.address, "amount": 5}}
        (receipt,) = await call(alice.send, opened.channel_id, mint)
        assert receipt.status == "accepted"
        with pytest.raises(NodeFailed, match=r"database\.backend is none"):
            await call(alice.query, "select 1")
        with pytest.raises(NodeFailed, match=r"database\.backend is none"):
            await call(alice.verify, opened.channel_id)
        assert (await call(alice.health)).database == "off"
        counters = await call(alice.counters)
        assert counters["messages_received"] > 0


async def test_a_node_comes_back_with_everything(folder: Path) -> None:
    """Channels, peers, apps, tokens and rows after a stop in order; SQL, verify and events over a real database."""
    for name in ("alice", "bob"):
        new_key(folder / name)
    async with running(folder / "bob") as bob:
        async with running(folder / "alice", "embedded") as alice:
            status, own = await call(bob.status), await call(alice.status)
            await call(alice.add_peer, status.address, status.listen, "bob")
            await call(bob.add_peer, own.address, own.listen, "alice")
            app = await call(alice.deploy, LEDGER)
            await call(bob.deploy, LEDGER)
            opened = await call(alice.open_channel, ["bob"], "ledger", params={"issuer": own.address}, wait_s=20)
            channel = opened.channel_id
            with pytest.raises((Refused, NodeFailed)):
                await call(alice.query, "drop table ledger.account")
            await call(alice.send, channel, {"mint": {"to": status.address, "amount": 5}})
            await call(eventually, lambda: _derived(alice, channel, 2), lambda: str(alice.channel(channel)))
            token = (folder / "alice" / "api.token").read_text()
        async with running(folder / "alice", "embedded") as alice:
            assert (folder / "alice" / "api.token").read_text() == token
            await call(eventually, lambda: _derived(alice, channel, 2), lambda: str(alice.channel(channel)))
            answer = await call(
                alice.query, "select balance from ledger.account where owner = $1::bytea", ["\\x" + status.address[2:]]
            )
            assert answer.rows == [["5"]]
            assert (await call(alice.verify, channel)).ok
            await call(_replay, alice, channel)
            await call(_project, alice, channel)
            await call(_prove, alice, channel, status.address, folder)
            assert (await call(alice.deployment, "ledger")).schema == "ledger"
            assert (await call(alice.deployments))[0].deployment_id == app.deployment_id
            assert [peer.name for peer in await call(alice.peers)] == ["bob"]
            items = alice.stream(channels=[channel], start=[f"{channel}:2:0"], kinds=["rows", "app"])
            kinds = [(await call(next, items)).kind for _ in range(2)]
            assert kinds == ["app", "reset"], "events from the database, then that row changes are gone"
            await call(items.close)  # type: ignore[attr-defined]
            with pytest.raises(Refused, match="syntax error"):
                await call(alice.query, "selec")
            with pytest.raises(Exception, match="longer than"):
                await call(alice.query, "select pg_sleep(5)", timeout_s=0.05)
            with pytest.raises(Refused, match="running"):
                await call(alice.accept, channel)


def _derived(node: Client, channel: str, sequence: int) -> bool | None:
    found = node.channel(channel).derived
    return True if found and found.sequence >= sequence else None


async def test_what_cannot_start_leaves_nothing_running(folder: Path) -> None:
    """No key, a directory that is taken: refused in words, and the directory is free again afterwards."""
    with pytest.raises(LocalError, match="keys new"):
        async with running(folder / "alice"):
            pass
    new_key(folder / "alice")
    async with running(folder / "alice"):
        with pytest.raises(LocalError, match="runs in"):
            async with running(folder / "alice"):
                pass
        assert (folder / "alice" / "node.json").exists(), "the first goes on"
    async with running(folder / "alice"):
        pass


def test_where_the_password_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file, then the environment; without a terminal there is nobody to ask."""
    monkeypatch.delenv("SCAPP_KEY_PASSWORD", raising=False)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(LocalError, match="key_password_file"):
        ask_password(Config())
    monkeypatch.setenv("SCAPP_KEY_PASSWORD", "from the environment")
    assert ask_password(Config()) == "from the environment"
    (tmp_path / "password").write_text("from the file\n")
    given = load_config(tmp_path, environ={}, flags={"node.key_password_file": str(tmp_path / "password")})
    assert ask_password(given) == "from the file"
    missing = load_config(tmp_path, environ={}, flags={"node.key_password_file": str(tmp_path / "nowhere")})
    with pytest.raises(LocalError, match="nowhere"):
        ask_password(missing)


def test_the_demo_tells_what_happens(folder: Path) -> None:
    """Off a terminal: plain lines, then standings, roots, and commands to go on with; a second run goes on there, and
    leaves nothing when it is told to."""
    for keep in (True, False):
        kept = [] if keep else ["--no-keep"]
        result = CliRunner().invoke(scapp, ["demo", "--cards", "3", "--dir", str(folder / "demo"), *kept])
        assert result.exit_code == 0, result.output
        for words in ("round 3 of 3", "hides a card", "Final standings", "equal"):
            assert words in result.output
        assert ("scapp -C" in result.output) is keep
        assert (folder / "demo").exists() is keep
