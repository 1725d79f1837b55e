"""The main job end to end: real node processes, real sockets, real PostgreSQL, one root everywhere."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from scapp.game import wasm_bytes
from scapp.reducers import library
from scapp.runtime.cli.local_nodes import MARK
from scapp.runtime.client import Refused
from tests.support.cluster import Cluster, cluster, environment, eventually
from tests.support.folders import open_folder

LEDGER = library.wasm_bytes("ledger")
SUPPLY = 10**18


@pytest.fixture(scope="module")
def two() -> Iterator[Cluster]:
    with cluster(2) as found:
        found.deploy(LEDGER)
        yield found


def open_ledger(nodes: Cluster, *others: str) -> str:
    """A running ledger channel in which everybody owns SUPPLY."""
    balances = [[address, SUPPLY] for address in nodes.addresses.values()]
    found = nodes.client("alice").open_channel(others or ["bob"], "ledger", params={"balances": balances}, wait_s=30)
    assert found.phase == "running", found
    return found.channel_id


def pay(nodes: Cluster, sender: str, channel: str, recipient: str, *amounts: int) -> list[str]:
    """Statuses of transfers."""
    messages = [{"transfer": {"to": nodes.addresses[recipient], "amount": amount}} for amount in amounts]
    return [receipt.status for receipt in nodes.client(sender).send(channel, *messages)]


def scapp(nodes: Cluster, name: str, *args: str) -> tuple[int, Any]:
    """The command line against a node: exit code and JSON document."""
    return scapp_at(nodes.nodes[name].home, *args)


def scapp_at(home: Path, *args: str) -> tuple[int, Any]:
    """The command line in a directory."""
    command = [sys.executable, "-m", "scapp.runtime.cli.main", "-C", str(home), "--json", *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment())
    return done.returncode, json.loads(done.stdout)


def balances(nodes: Cluster, name: str, channel: str) -> dict[str, int]:
    """The account table at one node."""
    rows = nodes.rows(
        name, "select owner, balance from ledger.account where channel_id = $1::bytea", "\\x" + channel[2:]
    )
    return {owner: int(balance) for owner, balance in rows}


def test_from_open_to_close(two: Cluster) -> None:
    """Open, accepted by policy; messages from both; equal tables; verify at both; close; nothing goes after it."""
    channel = open_ledger(two)
    assert pay(two, "alice", channel, "bob", 5, 6) == ["accepted", "accepted"]
    assert pay(two, "bob", channel, "alice", 1) == ["accepted"]
    expected = {two.addresses["alice"]: SUPPLY - 10, two.addresses["bob"]: SUPPLY + 10}
    for name in two.names:
        two.wait_derived(name, channel, 4)
        assert balances(two, name, channel) == expected
    closed = two.client("bob").close_channel(channel, wait_s=30)
    assert closed.phase == "closed"
    views = {}
    for name in two.names:
        view = eventually(
            lambda name=name: found if (found := two.client(name).channel(channel)).phase == "closed" else None,
            lambda name=name: two.state(name, channel),
        )
        two.wait_derived(name, channel, view.sequence)
        views[name] = view
        code, verdict = scapp(two, name, "verify", channel)
        assert (code, verdict["ok"], verdict["expected_root"]) == (0, True, view.state_root)
    assert views["alice"].state_root == views["bob"].state_root
    assert views["alice"].log_root == views["bob"].log_root
    assert list(two.client("alice").log(channel)) == list(two.client("bob").log(channel))
    with pytest.raises(Refused):
        pay(two, "alice", channel, "bob", 1)


def test_refused_messages_leave_nothing(two: Cluster) -> None:
    """The reducer's reason reaches the sender, at the sequencer and at the other party; log and tables stay."""
    channel = open_ledger(two)
    for name, other in (("alice", "bob"), ("bob", "alice")):
        receipts = two.client(name).send(
            channel,
            {"transfer": {"to": two.addresses[other], "amount": SUPPLY * 2}},
            {"nonsense": 1},
            {"transfer": {"to": two.addresses[other], "amount": 3}},
        )
        assert [receipt.status for receipt in receipts] == ["refused", "refused", "accepted"]
        assert "nonsense" in receipts[1].reason
    assert [entry.kind for entry in two.client("bob").log(channel)] == ["open", "message", "message"]


def test_an_edited_row_is_found(two: Cluster) -> None:
    """Change one row behind scapp's back: verify says which, with exit code 5; the other node stays equal."""
    channel = open_ledger(two)
    pay(two, "alice", channel, "bob", 7)
    for name in two.names:
        two.wait_derived(name, channel, 2)
    import psycopg

    url = two.client("alice").status().database.url.replace("user=scapp_reader", "user=scapp")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "update ledger.account set balance = balance + 1 where channel_id = %s and owner = %s",
            [bytes.fromhex(channel[2:]), bytes.fromhex(two.addresses["bob"][2:])],
        )
    code, verdict = scapp(two, "alice", "verify", channel)
    assert (code, verdict["ok"]) == (5, False)
    assert two.addresses["bob"] in verdict["detail"]
    assert scapp(two, "bob", "verify", channel)[0] == 0


def test_the_stream_tells_both_sides_the_same(two: Cluster) -> None:
    """Entries and app events, in order, at both nodes."""
    channel = open_ledger(two)
    pay(two, "alice", channel, "bob", 1)
    pay(two, "bob", channel, "alice", 2)
    seen = {}
    for name in two.names:
        events: list[Any] = []
        entries: list[int] = []
        for item in two.client(name).stream(channels=[channel], start=[f"{channel}:0:0"], kinds=["entries", "app"]):
            entries += [entry.sequence for entry in item.entries]
            if item.kind == "app":
                events.append((item.sequence, item.topic, item.data))
            if len(events) == 2 and len(entries) == 3:
                break
        seen[name] = (entries, events)
    assert seen["alice"] == seen["bob"]
    assert seen["alice"][0] == [0, 1, 2]
    assert [sequence for sequence, _, _ in seen["alice"][1]] == [1, 2]


def test_three_nodes_and_a_restart() -> None:
    """Three participants; one stops in order and comes back; the channel waits for it, then goes on."""
    with cluster(3) as three:
        three.deploy(LEDGER)
        channel = open_ledger(three, "bob", "carol")
        assert pay(three, "carol", channel, "bob", 4) == ["accepted"]
        three.nodes["bob"].ask_to_stop()
        assert three.nodes["bob"].wait_stopped() == 0
        three.drop_client("bob")
        message = {"transfer": {"to": three.addresses["carol"], "amount": 9}}
        (receipt,) = three.client("alice").send(channel, message, timeout_s=0.3)
        assert receipt.status == "pending"
        three.start("bob")
        for name in three.names:
            view = three.wait_derived(name, channel, 3)
            assert view.sequence == 3
        found = [balances(three, name, channel) for name in three.names]
        assert found[0] == found[1] == found[2]
        assert found[0][three.addresses["carol"]] == SUPPLY + 5
        assert {three.client(name).verify(channel).found_root for name in three.names} == {view.state_root}


def test_policy_leaves_strangers_to_the_operator() -> None:
    """An app that is not deployed here, or policy none: the channel stays proposed until `channel accept`."""
    with cluster(2, '\n[policy]\naccept = "none"\n') as two:
        two.client("alice").deploy(LEDGER)
        opened = two.client("alice").open_channel(["bob"], "ledger", wait_s=0.1)
        assert opened.phase == "opening"
        name = opened.channel_id

        def proposed() -> str | None:
            found = two.client("bob").channels("proposed")
            return found[0].channel_id if found else None

        assert eventually(proposed, lambda: two.nodes["bob"].log_tail()) == name
        code, document = scapp(two, "bob", "channel", "accept", name)
        assert (code, document["error"]["code"]) == (1, "unknown_app")
        code, app = scapp(two, "bob", "deploy", "--from", name)
        assert (code, app["deployment_id"]) == (0, opened.deployment_id)
        assert scapp(two, "bob", "channel", "accept", name)[1]["phase"] == "running"
        rejected = two.client("alice").open_channel(["bob"], "ledger").channel_id
        eventually(lambda: len(two.client("bob").channels("proposed")) or None, lambda: two.nodes["bob"].log_tail())
        assert scapp(two, "bob", "channel", "reject", rejected, "--reason", "not today")[0] == 0

        def told() -> str | None:
            found = two.client("alice").channel(rejected)
            return found.reason if found.phase == "rejected" else None

        assert "not today" in eventually(told, lambda: two.state("alice", rejected))


def test_one_process_at_a_time(two: Cluster) -> None:
    """A second node in the same directory is refused, and the first does not notice."""
    home = two.nodes["alice"].home
    command = [sys.executable, "-m", "scapp.runtime.cli.main", "-C", str(home), "node"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment())
    assert done.returncode == 1
    assert "runs in" in done.stderr
    assert str(two.nodes["alice"].pid) in done.stderr
    assert two.client("alice").status().pid == two.nodes["alice"].pid


def test_an_address_that_is_taken(two: Cluster, tmp_path: Path) -> None:
    """The message names the setting and the flag; nothing of the half-started node stays behind."""
    assert scapp_at(tmp_path, "keys", "new")[0] == 0
    taken = two.client("alice").url.removeprefix("http://")
    for flags, says in ((["--listen", "127.0.0.1:0", "--api", taken], "--api"), (["--listen", taken], "--listen")):
        code, document = scapp_at(tmp_path, "node", "--database", "none", *flags)
        assert code == 1
        assert says in document["error"]["message"]
        assert not (tmp_path / "node.json").exists()


def test_refusals_are_kept_for_whoever_asks(two: Cluster) -> None:
    """Both admissions that refused write it into scapp.rejections, with author, counter and reason."""
    channel = open_ledger(two)
    (receipt,) = two.client("bob").send(channel, {"nonsense": 1})
    sql = "select author, counter, code, reason from scapp.rejections where channel_id = $1::bytea"

    def kept() -> list[list[Any]] | None:
        return two.rows("alice", sql, "\\x" + channel[2:]) or None

    author, counter, code, reason = eventually(kept, lambda: two.state("alice", channel))[0]
    assert (author, int(counter), code) == (1, receipt.counter, "rejected")
    assert "nonsense" in reason


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory that PostgreSQL's own user may enter, also under root."""
    found = open_folder("scapp-test-")
    yield found
    shutil.rmtree(found, ignore_errors=True)


@pytest.mark.parametrize("players", [pytest.param(2, marks=pytest.mark.slow), 3])  # fast with two: test_in_process
def test_the_demo(players: int, folder: Path) -> None:
    """`scapp demo`: a game to its end, equal standings by SQL, equal roots, a directory to go on with."""
    command = [sys.executable, "-m", "scapp.runtime.cli.main", "demo", "--players", str(players), "--cards", "3"]
    folder = folder / "demo"
    done = subprocess.run(
        [*command, "--dir", str(folder), "--json"], capture_output=True, text=True, timeout=110, env=environment()
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert result["equal"]
    assert len(result["standings"]) == len(result["nodes"]) == players
    assert len({node["root"] for node in result["nodes"]}) == 1
    assert (folder / MARK).exists()
    assert not list(folder.glob("*/node.json")), "a node still runs"
    assert result["entries"] == 1 + 2 * 3 * players + 1, "open, a commit and a reveal per card and player, close"


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 130),
        pytest.param(signal.SIGTERM, 130, marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, -9, marks=pytest.mark.slow),
    ],
)
def test_the_demo_leaves_no_process_behind(number: signal.Signals, code: int, folder: Path) -> None:
    """Interrupted, terminated, even killed in the middle: nodes and databases stop, and the directory is reusable."""
    folder = folder / "demo"
    command = [sys.executable, "-m", "scapp.runtime.cli.main", "demo", "--cards", "13", "--dir", str(folder)]
    # Started in a shell's background, this process ignores SIGINT, and its children would do the same.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    ) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "the bots play" in line:
                break
        demo.send_signal(number)
        demo.communicate(timeout=60)
    signal.signal(signal.SIGINT, before)
    assert demo.returncode == code

    def alone() -> bool | None:
        mine = [p for p in psutil.process_iter(["cmdline"]) if str(folder) in " ".join(p.info["cmdline"] or ())]
        return None if mine else True

    eventually(alone, lambda: f"processes still run in {folder}")
    assert not list(folder.glob("*/node.json"))


def test_the_demo_keeps_away_from_other_directories(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    command = [sys.executable, "-m", "scapp.runtime.cli.main", "demo", "--dir", str(tmp_path), "--no-keep"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment())
    assert done.returncode == 1
    assert "not empty" in done.stderr
    assert (tmp_path / "precious").exists()


def test_the_games_module_is_the_one_that_was_built() -> None:
    """The demo deploys the shipped artifact."""
    assert wasm_bytes().startswith(b"\x00asm")
