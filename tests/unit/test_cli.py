"""The command line against a served fake node: exit codes, one JSON document, errors that say what to do."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from scapp.channels import ethereum_packages
from scapp.channels.errors import LocalError
from scapp.channels.types import ChannelId
from scapp.runtime import keys_file
from scapp.runtime.cli import data
from scapp.runtime.cli.common import printable, progress_line, table
from scapp.runtime.cli.demo import command as demo_command
from scapp.runtime.cli.main import COMMANDS, scapp
from scapp.runtime.documents import DerivedView, DifferenceView, QueryAnswer, QueryColumn, StreamItem, VerifyAnswer
from tests.support.api_harness import WASM, Harness, served
from tests.support.fake_service import ALICE, BOB


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Harness]:
    with served(tmp_path / "alice") as harness:
        yield harness


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No node of the person who runs the tests."""
    for name in ("SCAPP_URL", "SCAPP_TOKEN", "SCAPP_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SCAPP_HOME", str(tmp_path / "nobody"))


def run(*args: str, home: Path | None = None, stdin: str = "") -> Result:
    """One command; `home` becomes -C."""
    return CliRunner().invoke(scapp, [*(["-C", str(home)] if home else []), *args], input=stdin)


def document(result: Result, code: int = 0) -> Any:
    """The one JSON document on stdout, after checking the exit code."""
    assert result.exit_code == code, result.output
    lines = result.stdout.splitlines()
    assert len(lines) == 1, lines
    return json.loads(lines[0])


def refused(result: Result, code: int, says: str) -> None:
    """Exit code, text on stderr, nothing on stdout."""
    assert result.exit_code == code, result.output
    assert says in result.stderr
    assert result.stdout == ""


# -- errors -------------------------------------------------------------------------------------------------------


def test_no_node_runs_there(tmp_path: Path) -> None:
    """Exit code 3, and the command that starts one."""
    refused(run("status", home=tmp_path), 3, f"scapp -C {tmp_path} node")


def test_a_node_that_is_gone(node: Harness, tmp_path: Path) -> None:
    """A node.json left by a killed process: unreachable, not a traceback."""
    file = json.loads((node.home / "node.json").read_text())
    file["api"] = "http://127.0.0.1:1"
    (node.home / "node.json").write_text(json.dumps(file))
    refused(run("channel", "list", home=node.home), 3, "does not answer")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["stauts"], "Did you mean 'status'?"),
        (["frobnicate"], "No such command"),
        (["send"], "CHANNEL"),
        (["send", "0xabcd"], "--tick"),
        (["send", "0xabcd", "{not json"], "is not JSON"),
        (["send", "--hex", "0xabcd", "xy"], "is not hexadecimal"),
        (["verify"], "--all"),
        (["deploy"], "MODULE.wasm"),
        (["deploy", "x.wasm", "--example", "game"], "either"),
        (["channel", "open", "bob"], "--app"),
        (["channel", "open", "bob", "--app", "duel", "--params", "{"], "--params"),
        (["channel", "open", "bob", "--app", "duel", "--slot", "a:b"], "ASSET:DESTINATION:AMOUNT"),
        (["keys", "token", "x", "-p", "everything"], "everything"),
        (["log", "0xabcd", "--follow", "-n", "3"], "--follow has no end"),
        (["check-proof", "-", "--channel", "0xabcd"], "whole channel id"),
        (["demo", "--players", "9"], "--players"),
        (["demo", "--players", "3", "--fund", "virtual"], "two parties"),
        (["node", "--set", "nonsense"], "SECTION.KEY=VALUE"),
        (["node", "--accept", "everyone"], "known-deployments"),
        (["node", "--set", "api.lisen=127.0.0.1:1"], "did you mean api.listen?"),
        (["--url", "http://127.0.0.1:1", "status"], "--token"),
    ],
)
def test_wrong_usage(args: list[str], says: str) -> None:
    """Exit code 2; the message names what was wrong. With --json the same as a document."""
    refused(run(*args), 2, says)
    error = document(run("--json", *args), 2)["error"]
    assert says in error["message"]
    assert set(error) == {"code", "message", "hint"}


def test_refused_by_the_node(node: Harness) -> None:
    """Exit code 1 with the node's words and hint, in text and in JSON, wherever --json stands."""
    refused(run("channel", "show", "0xeeee", home=node.home), 1, "scapp channel list")
    for args in (["--json", "channel", "show", "0xeeee"], ["channel", "show", "0xeeee", "--json"]):
        assert document(run(*args, home=node.home), 1)["error"]["code"] == "unknown_channel"


def test_the_token_does_not_permit_it(node: Harness) -> None:
    """Exit code 7."""
    reader = node.tokens.add("reader", ("read",))
    args = ["--url", node.url, "--token", reader]
    assert run(*args, "channel", "list").exit_code == 0
    refused(run(*args, "peers", "add", "0x" + BOB.hex(), "h:1"), 7, "needs channels")


def test_a_token_given_without_a_url_is_used(node: Harness) -> None:
    """--token replaces the operator's token of the directory; it is not ignored."""
    refused(run("--token", "wrong", "status", home=node.home), 7, "unknown token")
    assert run("--token", node.tokens.add("watcher", ("read",)), "status", home=node.home).exit_code == 0


def test_a_message_where_the_channel_belongs(node: Harness) -> None:
    """Exit code 2, before anything is asked of the node."""
    refused(run("send", '{"a": 1}', '{"b": 2}', home=node.home), 2, "CHANNEL it goes to stands before it")


def test_no_command_shows_the_help() -> None:
    """The help stands where errors stand, because nothing was done."""
    refused(run(), 2, "a command is missing\n\nUsage: scapp")


def test_the_demo_leaves_a_running_node_alone(tmp_path: Path) -> None:
    """A node that still runs in the demo's directory is named, and what says where it answers stays."""
    home = tmp_path / "alice"
    home.mkdir()
    (tmp_path / ".scapp-demo").touch()
    (home / "node.json").write_text("{}")
    with (home / "node.lock").open("w+") as held:
        held.write("4242\n")
        held.flush()
        fcntl.flock(held, fcntl.LOCK_EX)
        refused(run("demo", "--dir", str(tmp_path)), 1, "already; stop it first: kill 4242")
    assert (home / "node.json").read_text() == "{}"


def test_the_database_is_down(node: Harness) -> None:
    """Exit code 6; status still answers and says so."""
    node.derived.down = True
    refused(run("query", "select 1", home=node.home), 6, "retried by itself")
    assert document(run("status", "--json", home=node.home))["database"]["state"] == "down"


def test_an_address_that_is_none(node: Harness) -> None:
    refused(run("peers", "add", "0x12", "h:1", home=node.home), 2, "40 hex digits")
    refused(run("peers", "add", "0x" + BOB.hex(), "nowhere", home=node.home), 1, "host:port")


def test_a_module_that_does_not_exist(node: Harness) -> None:
    refused(run("deploy", "nowhere.wasm", home=node.home), 1, "nowhere.wasm")


def test_a_bug_says_so(node: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 70, with the traceback on stderr and no secret in the message."""
    from scapp.runtime.client import Client

    monkeypatch.setattr(Client, "status", lambda self: 1 // 0)
    result = run("status", home=node.home)
    assert result.exit_code == 70
    assert "report it" in result.stderr
    assert "ZeroDivisionError" in result.stderr


def test_interrupted(node: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 130."""
    from scapp.runtime.client import Client

    def interrupt(self: Client) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Client, "status", interrupt)
    assert run("status", home=node.home).exit_code == 130


def test_interrupted_while_sending(node: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 130, and what that means for the messages; with --json one document only."""
    from scapp.runtime.client import Client

    def interrupt(self: Client, channel: str, *messages: object, timeout_s: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Client, "send", interrupt)
    refused(run("send", "0x1234", "{}", home=node.home), 130, "stays submitted; `scapp log 0x1234`")
    assert document(run("--json", "send", "0x1234", "{}", home=node.home), 130)["error"]["code"] == "interrupted"


def test_the_demo_names_commands_that_can_be_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Just `scapp` where that is this program, else the program's path; paths below the current directory are short."""
    program = tmp_path / "bin" / "scapp"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(program), "demo"])
    monkeypatch.setenv("PATH", "/nowhere")
    assert demo_command(str(tmp_path / "demo" / "alice")) == "bin/scapp -C demo/alice"
    monkeypatch.setenv("PATH", str(program.parent))
    assert demo_command("/a place/alice") == "scapp -C '/a place/alice'"


# -- what the commands do -----------------------------------------------------------------------------------------


def test_a_channels_life(node: Harness, tmp_path: Path) -> None:
    """From peers to close, by the command line alone; ids may be shortened and peers named."""
    home = node.home
    module = tmp_path / "duel.wasm"
    module.write_bytes(WASM)
    assert document(run("peers", "add", "0x" + BOB.hex(), "h:1", "--name", "bob", "--json", home=home))["name"] == "bob"
    app = document(run("deploy", str(module), "--limit", "rows_max=9", "--json", home=home))
    assert app["limits"]["rows_max"] == 9
    opened = document(run("channel", "open", "bob", "--app", "duel", "--params", '{"n": 1}', "--json", home=home))
    assert opened["phase"] == "running"
    name = opened["channel_id"][:10]
    sent = document(run("send", name, '{"move": [3, 4]}', "--json", home=home))
    assert [(r["status"], r["sequence"]) for r in sent["receipts"]] == [("accepted", 1)]
    assert run("send", name, "-", home=home, stdin='{"a": 1}\n\n{"a": 2}\n').exit_code == 0
    assert run("send", name, "--hex", "0x01", home=home).exit_code == 0
    assert run("send", name, "--tick", home=home).exit_code == 0
    entries = document(run("log", name, "--json", home=home))["entries"]
    assert [e["payload"] for e in entries[1:5]] == [{"move": [3, 4]}, {"a": 1}, {"a": 2}, 1]
    assert [
        e["sequence"] for e in document(run("log", name, "--from", "2", "-n", "2", "--json", home=home))["entries"]
    ] == [2, 3]
    assert document(run("channel", "list", "--json", home=home))["channels"][0]["sequence"] == 6
    assert document(run("channel", "close", name, "--json", home=home))["phase"] == "closed"


def test_text_for_people(node: Harness) -> None:
    """The same without --json: tables with the facts in them, and what to do next."""
    home = node.home
    channel = "0x" + node.channel().hex()
    run("peers", "add", "0x" + BOB.hex(), "h:1", "--name", "bob", home=home)
    expectations: list[tuple[list[str], list[str]]] = [
        (["status"], ["0x" + ALICE.hex(), "1 running", "known-deployments"]),
        (["status", "--counters"], ["batches"]),
        (["peers", "list"], ["bob", "up", "h:1"]),
        (["peers", "remove", "bob"], ["is not in the peers list any more"]),
        (["deploy", "--list"], ["duel", "1.2.0"]),
        (["channel", "list"], [channel[:12], "running"]),
        (["channel", "show", channel], [channel, "(this node)", "nothing derived yet"]),
        (["send", channel, "1"], ["accepted"]),
        (["log", channel], ["open", "message", "0xa11ce000"]),
        (["query", "select 1"], ["n", "(1 row)"]),
        (["keys", "list"], ["operator", "admin"]),
    ]
    for args, words in expectations:
        result = run(*args, home=home)
        assert result.exit_code == 0, result.output
        assert all(word in result.stdout for word in words), result.stdout


def test_receipts_decide_the_exit_code(node: Harness) -> None:
    """1 when one message was refused, 4 when one is undecided; the receipts are printed in both cases."""
    channel = "0x" + node.channel().hex()
    node.service.refused[b"\x02"] = "not your turn"
    result = run("send", channel, "1", "2", home=node.home)
    assert result.exit_code == 1
    assert "not your turn" in result.stdout
    node.service.stuck = True
    assert [r["status"] for r in document(run("send", channel, "1", "--json", home=node.home), 4)["receipts"]] == [
        "pending"
    ]


def test_a_channel_that_does_not_open_in_time(node: Harness) -> None:
    """Exit code 4, with what it waits for; --wait 0 does not wait and is no error."""
    node.deploy()
    node.service.opens_to = "opening"
    open_ = ["channel", "open", "0x" + BOB.hex(), "--app", "duel", "--wait"]
    result = run(*open_, "0.05", home=node.home)
    assert result.exit_code == 4
    assert "bob's signature" in result.stdout
    assert run(*open_, "0", home=node.home).exit_code == 0
    node.service.opens_to = "rejected"
    assert run(*open_, "5", home=node.home).exit_code == 1


def test_accept_and_reject(node: Harness) -> None:
    """Each prints the channel as it is afterwards; a second answer is refused."""
    one, two = ("0x" + node.channel("proposed", number=n).hex() for n in (1, 2))
    assert document(run("channel", "accept", one, "--json", home=node.home))["phase"] == "running"
    rejected = document(run("channel", "reject", two, "--reason", "no", "--json", home=node.home))
    assert (rejected["phase"], rejected["reason"]) == ("rejected", "no")
    refused(run("channel", "accept", two, home=node.home), 1, "rejected")


def test_verify_exit_codes(node: Harness) -> None:
    """0 when equal, 5 when not; --all asks for every derived channel."""
    channel = node.channel()
    good = VerifyAnswer(
        channel_id="0x" + channel.hex(), ok=True, sequence=1, turn=0, expected_root="0xaa", found_root="0xaa", rows=4
    )
    node.derived.verdicts[channel] = good
    assert document(run("verify", "0x" + channel.hex(), "--json", home=node.home))["ok"]
    node.derived.verdicts[channel] = msgspec.structs.replace(good, ok=False, found_root="0xbb", detail="row 1 differs")
    result = run("verify", "0x" + channel.hex(), home=node.home)
    assert result.exit_code == 5
    assert "DIFFERENT" in result.stdout
    assert "row 1 differs" in result.stdout
    assert "0xaa" in result.stderr
    assert document(run("verify", "--all", "--json", home=node.home)) == {"results": [], "refused": {}}


def test_verify_of_all_goes_on_after_a_channel_that_cannot_be_looked_at(node: Harness) -> None:
    """It is listed, and the exit code is 1 unless something differs."""
    unknown, good = node.channel(), node.channel(number=2)
    for channel in (unknown, good):
        node.derived.cursors[channel] = DerivedView(sequence=1, turn=0, state_root="0x", state="following")
    node.derived.verdicts[good] = VerifyAnswer(
        channel_id="0x" + good.hex(), ok=True, sequence=1, turn=0, expected_root="0xaa", found_root="0xaa", rows=4
    )
    found = run("verify", "--all", home=node.home)
    assert found.exit_code == 1
    assert [line.split("  ")[0] for line in found.stdout.splitlines()[1:3]] == ["equal", "NOT CHECKED"]
    assert "nothing of this channel is derived yet" in found.stdout
    shown = json.loads(run("verify", "--all", "--json", home=node.home).stdout)
    assert ([each["ok"] for each in shown["results"]], list(shown["refused"])) == ([True], ["0x" + unknown.hex()])
    node.derived.verdicts[good] = msgspec.structs.replace(node.derived.verdicts[good], ok=False)
    assert run("verify", "--all", home=node.home).exit_code == 5


def test_verify_names_what_differs(node: Harness) -> None:
    """One line for each difference, the count of the others, and what cannot be named."""
    channel = node.channel()
    found = DifferenceView(
        table="duel.score", kind="changed", key={"player": "0x01"}, found={"player": "0x01", "score": 9},
        expected={"player": "0x01", "score": 4}, text="duel.score (player 0x01) is changed: score is 9, not 4",
    )  # fmt: skip
    node.derived.verdicts[channel] = VerifyAnswer(
        channel_id="0x" + channel.hex(), ok=False, sequence=1, turn=0, expected_root="0xaa", found_root="0xbb", rows=4,
        difference_count=31, differences=[found], notes=["state root over the rows is 0xbb\x1b[2J, signed is 0xaa"],
    )  # fmt: skip
    result = run("verify", "0x" + channel.hex(), home=node.home)
    assert result.exit_code == 5
    lines = result.stdout.splitlines()[2:]
    assert lines == [found.text, "and 30 more differences", "state root over the rows is 0xbb\\x1b[2J, signed is 0xaa"]
    shown = json.loads(run("verify", "0x" + channel.hex(), "--json", home=node.home).stdout)
    assert shown["differences"][0]["expected"] == {"player": "0x01", "score": 4}


def test_progress_of_long_work_in_words(node: Harness) -> None:
    """What a waiting command shows: stage, channel, how much of how much, and how fast."""
    with node.meters.running("verify", "0x" + "ab" * 32) as meter:
        meter.stage("hashing rows", "rows", 500_000)
        meter.advance(120_000)
        (known,) = node.client.work()
    assert node.client.work() == []
    assert (known.work, known.stage, known.done, known.total) == ("verify", "hashing rows", 120_000, 500_000)
    assert known.rate > 0
    known = msgspec.structs.replace(known, rate=95_000.4)
    assert progress_line(known) == "hashing rows, 0xabababab…: 120,000 of 500,000 rows, 95,000/s"
    assert progress_line(msgspec.structs.replace(known, total=None)).endswith("…: 120,000 rows, 95,000/s")


def test_query_shows_values_plainly(node: Harness) -> None:
    """Nulls, nested JSON, and nothing that could drive a terminal."""
    node.derived.answer = QueryAnswer(
        columns=[QueryColumn(name="name", type="text"), QueryColumn(name="n", type="numeric")],
        rows=[["a\x1b[31mred", "340282366920938463463374607431768211456"], [None, "1"], [{"a": [1]}, "2"]],
        truncated=True,
    )
    result = run("query", "select $1", "x", home=node.home)
    assert "\x1b" not in result.stdout
    assert "\\x1b[31mred" in result.stdout
    assert '{"a":[1]}' in result.stdout
    assert "there are more" in result.stdout
    assert node.derived.asked[-1] == ("select $1", ["x"])


def test_tables_align() -> None:
    """Columns are as wide as their widest cell, numbers to the right."""
    assert table(("a", "n"), [("x", 1), ("long", 22)], right=(1,)).splitlines() == ["a      n", "x      1", "long  22"]


def test_what_others_wrote_cannot_command_the_terminal(node: Harness) -> None:
    """A peer's reason, an app's topic, a reducer's words in an error: shown, escaped, on their line."""
    attack, shown = "\x1b]0;owned\x07\x9b2J\r", "\\x1b]0;owned\\x07\\x9b2J\\x0d"
    channel = "0x" + node.channel("proposed").hex()
    node.run(lambda: node.service.set_phase(ChannelId(bytes.fromhex(channel[2:])), "rejected", attack))
    described = run("channel", "show", channel, home=node.home)
    assert f"reason         {shown}" in described.stdout
    item = StreamItem(kind="app", channel_id=channel, sequence=4, topic=attack, data={"a": attack})
    assert [printable(line) for line in data._described(item)] == [
        f'event      4  {shown}  {{"a":"\\u001b]0;owned\\u0007\\x9b2J\\r"}}'
    ]
    result = run("deploy", str(node.home / f"\x1b{1}.wasm"), home=node.home)
    assert "\\x1b1.wasm" in result.stderr
    for text in (described.output, result.output):
        assert not set(text) & set("\x1b\x07\x9b\r")


def test_a_log_that_takes_no_more_writes_is_shown(node: Harness) -> None:
    """Everything else looks well on a node that cannot sign."""
    assert "SIGNED" not in run("status", home=node.home).stdout
    node.log_failure = "log: the disk refused a write"
    shown = run("status", home=node.home).stdout
    assert "NOTHING IS SIGNED until the next start: log: the disk refused a write" in shown
    assert document(run("status", "--json", home=node.home))["log_failure"] == node.log_failure


def test_a_corrupt_channel_is_shown_and_not_unknown(node: Harness) -> None:
    """`status` names it with what is wrong; every command about it says so, by id or its beginning."""
    node.service.damaged[ChannelId(b"\xcc" * 32)] = "page at version 5: checksum expected 9845bbca, found 64ad6da7"
    shown = run("status", home=node.home)
    assert "CORRUPT: page at version 5" in shown.stdout
    assert document(run("status", "--json", home=node.home))["corrupt"]["0x" + "cc" * 32].startswith("page")
    for command in (("channel", "show"), ("send",), ("verify",), ("log",)):
        for name in ("0xcccccc", "0x" + "cc" * 32):
            more = ['{"n": 1}'] if command == ("send",) else []
            result = run(*command, name, *more, home=node.home)
            assert result.exit_code == 6, result.output
            assert "checksum expected" in result.stderr


def test_by_url_from_the_environment(node: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCAPP_URL", node.url)
    monkeypatch.setenv("SCAPP_TOKEN", node.operator)
    assert document(run("status", "--json"))["address"] == "0x" + ALICE.hex()


def test_follow_prints_as_it_happens(node: Harness) -> None:
    """`log --follow` shows the past, then news, and ends with the node."""
    channel = "0x" + node.channel().hex()
    node.client.send(channel, {"n": 1})
    command = [sys.executable, "-m", "scapp.runtime.cli.main", "-C", str(node.home), "log", channel, "-f", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        assert [e["sequence"] for e in first["entries"]] == [0, 1]
        node.client.send(channel, {"n": 2})
        kinds = []
        while "entries" not in kinds:
            item = json.loads(process.stdout.readline())
            kinds.append(item["kind"])
        assert [e["payload"] for e in item["entries"]] == [{"n": 2}]
        process.terminate()


# -- keys and settings --------------------------------------------------------------------------------------------


def test_keys_are_made_once_and_privately(tmp_path: Path) -> None:
    made = document(run("keys", "new", "--json", home=tmp_path))
    key = tmp_path / "key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert document(run("keys", "show", "--json", home=tmp_path))["address"] == made["address"]
    refused(run("keys", "new", home=tmp_path), 1, "already")
    key.chmod(0o640)
    refused(run("keys", "show", home=tmp_path), 1, f"chmod 600 {key}")


def test_the_chain_key_is_another_key(tmp_path: Path) -> None:
    """What pays for transactions never signs states, and neither is made in the other's place."""
    refused(run("keys", "show", "--chain", home=tmp_path), 1, "keys new --chain")
    channel = document(run("keys", "new", "--json", home=tmp_path))
    chain = document(run("keys", "new", "--chain", "--json", home=tmp_path))
    assert chain["address"] != channel["address"]
    assert chain["path"] == str(tmp_path / "chain-key")
    assert document(run("keys", "show", "--chain", "--json", home=tmp_path))["address"] == chain["address"]
    listed = document(run("keys", "list", "--json", home=tmp_path))["keys"]
    assert [(k["name"], k["address"]) for k in listed] == [
        ("channel key", channel["address"]),
        ("chain key", chain["address"]),
    ]
    refused(run("keys", "new", "--chain", home=tmp_path), 1, "has a chain key already")


def test_the_demo_for_stakes_removes_only_its_own(tmp_path: Path) -> None:
    """Its nodes are new each time; a directory that no demo made is left as it is."""
    kept = tmp_path / "funded" / "thesis.txt"
    kept.parent.mkdir()
    kept.write_text("years of work")
    refused(run("demo", "--fund", "direct", "--dir", str(tmp_path)), 1, "not empty")
    assert kept.read_text() == "years of work"


def test_a_known_key_has_its_known_address(tmp_path: Path) -> None:
    """The first account of the well-known development mnemonic."""
    (tmp_path / "key").write_text("0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80\n")
    (tmp_path / "key").chmod(0o600)
    shown = document(run("keys", "show", "--json", home=tmp_path))
    assert shown["address"] == "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266"


@pytest.mark.parametrize("text", ["", "0x12", "zz" * 32, "00" * 32, "ff" * 32])
def test_a_file_that_is_no_key(tmp_path: Path, text: str) -> None:
    """Zero and numbers beyond the curve's order are no keys either."""
    (tmp_path / "key").write_text(text)
    (tmp_path / "key").chmod(0o600)
    refused(run("keys", "show", home=tmp_path), 1, "64 hexadecimal digits")


def test_a_keystore_keeps_the_key_encrypted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made with a password, readable with it alone; its address is known without."""
    account = ethereum_packages.eth_account().Account
    encrypt = account.encrypt
    cheap = staticmethod(lambda key, password: encrypt(key, password, kdf="pbkdf2", iterations=10))
    monkeypatch.setattr(account, "encrypt", cheap)
    result = run("keys", "new", "--password", "--json", home=tmp_path, stdin="correct horse\ncorrect horse\n")
    made = json.loads(result.stdout.splitlines()[-1])
    assert made["kind"] == "keystore"
    assert document(run("keys", "show", "--json", home=tmp_path))["address"] == made["address"]
    secret = keys_file.load_key(tmp_path, lambda: "correct horse")
    assert "0x" + keys_file.address_of(secret).hex() == made["address"]
    assert secret.hex() not in (tmp_path / "key.json").read_text()
    with pytest.raises(LocalError, match="cannot be unlocked"):
        keys_file.load_key(tmp_path, lambda: "wrong")


def test_unlocking_a_keystore_leaves_the_recursion_limit(tmp_path: Path) -> None:
    """Else deeply nested bytes would crash a node with an encrypted key (py_ecc raises the limit to 100,000)."""
    code = "import sys; from scapp.channels import ethereum_packages; before = sys.getrecursionlimit()\n"
    code += "ethereum_packages.eth_account()\n"
    code += "assert sys.getrecursionlimit() == before, sys.getrecursionlimit()"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_tokens_are_shown_once_and_can_be_revoked(node: Harness) -> None:
    made = document(run("keys", "token", "ci", "-p", "read", "-p", "send", "--json", home=node.home))
    assert made["token"] not in (node.home / "tokens.json").read_text()
    assert node.with_token(made["token"]).status().pid
    refused(run("keys", "token", "ci", home=node.home), 1, "already")
    listed = document(run("keys", "list", "--json", home=node.home))["tokens"]
    assert {t["name"]: t["permissions"] for t in listed}["ci"] == ["read", "send"]
    assert run("keys", "token", "ci", "--revoke", home=node.home).exit_code == 0
    refused(run("keys", "token", "ci", "--revoke", home=node.home), 1, "operator")


def test_print_config_reads_back(tmp_path: Path) -> None:
    """What --print-config prints is a file that gives the same settings; a password in it is hidden."""
    args = [
        "--database-url",
        "postgresql://u:secret@h/d",
        "--set",
        "policy.allow=0x" + "11" * 20,
        "--log-level",
        "debug",
    ]
    printed = run("node", *args, "--print-config", home=tmp_path)
    assert printed.exit_code == 0
    assert "secret" not in printed.output
    (tmp_path / "scapp.toml").write_text(printed.stdout)
    again = document(run("node", "--print-config", "--json", home=tmp_path))
    assert again == document(run("node", *args, "--print-config", "--json", home=tmp_path))
    assert again["database"]["backend"] == "url"


@pytest.mark.parametrize(
    ("command", "says"),
    [(("node", "--database", "none", "--api", "127.0.0.1:0"), "keys new"), (("watchtower",), "keys new --chain")],
)
def test_a_node_or_watchtower_without_a_key_is_refused_and_makes_no_directory(
    command: tuple[str, ...], says: str, tmp_path: Path
) -> None:
    """Nor does it write into one that is there."""
    home = tmp_path / "new"
    refused(run(*command, home=home), 1, says)
    assert not home.exists()
    home.mkdir()
    refused(run(*command, home=home), 1, says)
    assert list(home.iterdir()) == []


def test_every_command_has_help() -> None:
    """And says what it does in the list of commands."""
    listing = run("--help").stdout
    for name, (_, _, text) in COMMANDS.items():
        assert text in " ".join(listing.split())
        assert run(name, "--help").exit_code == 0


def test_help_is_fast_because_it_loads_little() -> None:
    """The parts that take long to import stay out of `scapp --help`."""
    code = "import sys; sys.argv = ['scapp', '--help']\nfrom scapp.runtime.cli.main import main\n"
    code += "try: main()\nexcept SystemExit: pass\n"
    code += "print([m for m in ('aiohttp', 'asyncio', 'psycopg', 'wasmtime', 'rich', 'msgspec') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_projections_are_listed_and_refused_without_a_database(node: Harness, tmp_path: Path) -> None:
    """What was kept is shown; what needs a database says so; an unknown name lists those that are known."""
    result = run("projection", "list", home=node.home)
    assert "scapp_projection_duel" in result.stdout
    assert document(run("projection", "status", "duel", "--json", home=node.home))["channels"] == []
    refused(run("projection", "status", "stats", home=node.home), 1, "known: duel")
    node.deploy()
    (tmp_path / "m.wasm").write_bytes(WASM)
    add = ("projection", "add", "stats", str(tmp_path / "m.wasm"), "--app", "duel")
    refused(run(*add, home=node.home), 1, "runs without one")
    refused(run("projection", "upgrade", "duel", str(tmp_path / "m.wasm"), home=node.home), 1, "runs without one")
    refused(run("projection", "remove", "duel", home=node.home), 1, "runs without one")


def test_replay_without_a_database_is_refused(node: Harness) -> None:
    channel = "0x" + node.channel().hex()
    refused(run("replay", channel, "--compare", home=node.home), 6, "runs without a database")
    refused(run("replay", channel, "--swap", "--drop", home=node.home), 2, "exclude each other")
