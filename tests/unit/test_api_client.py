"""The local API and its Python client, happy paths: each path once, the stream, and the OpenAPI document."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from openapi_spec_validator import validate

from scapp.channels.log.port import LogReadFailed
from scapp.runtime import client as client_module
from scapp.runtime.api import stream
from scapp.runtime.api.routes import ROUTES
from scapp.runtime.api.stream import RECENT_BATCHES
from scapp.runtime.changes import COPY_NEVER, AppEvent
from scapp.runtime.client import Client, NodeTimeout, NodeUnreachable, NotAllowed, Refused
from scapp.runtime.config import ApiSettings
from scapp.runtime.documents import ChannelList, DerivedView, QueryAnswer, QueryColumn, StreamItem, VerifyAnswer
from scapp.runtime.follow import Committed
from scapp.runtime.net_changes import table_change
from tests.support.api_harness import WASM, Harness, manifest_of, served
from tests.support.changes import changes_of
from tests.support.fake_service import ALICE, BOB, CAROL


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Harness]:
    with served(tmp_path / "alice") as harness:
        yield harness


def test_the_openapi_document_is_valid(node: Harness) -> None:
    """Against the OpenAPI 3.1 schema, and it lists every path that is served."""
    with urllib.request.urlopen(node.url + "/v1/openapi.json", timeout=10) as response:
        document = json.load(response)
    validate(document)
    assert document["openapi"].startswith("3.1")
    listed = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert listed == {(route.method, route.path) for route in ROUTES}
    assert document["servers"] == [{"url": node.url}]


def test_answers_follow_the_openapi_document(node: Harness) -> None:
    """What is served validates against the schema that is published for it."""
    import jsonschema

    channel = node.channel(number=9)
    node.client.send("0x" + channel.hex(), {"move": 1})
    ledger, virtual = node.books.put_ledger(8, BOB), node.books.put_virtual(7, BOB)
    with urllib.request.urlopen(node.url + "/v1/openapi.json", timeout=10) as response:
        document = json.load(response)
    for route in ROUTES:
        if route.method != "GET" or route.response in (None, bytes, str) or route.name == "stream":
            continue
        shown = virtual if route.path.startswith("/v1/virtual") else channel
        path = (
            route.path.replace("{channel}", "0x" + shown.hex())
            .replace("{ledger}", "0x" + ledger.hex())
            .replace("{app}", "duel")
            .replace("{projection}", "duel")
        )
        request = urllib.request.Request(node.url + path, headers={"Authorization": f"Bearer {node.operator}"})
        with urllib.request.urlopen(request, timeout=10) as response:
            answer = json.load(response)
        schema = {"$ref": f"#/components/schemas/{route.response.__name__}", "components": document["components"]}
        jsonschema.validate(answer, schema)


def test_status_peers_and_counters(node: Harness) -> None:
    """A peer that is added is dialled, listed and counted."""
    client = node.client
    peer = client.add_peer("0x" + BOB.hex(), "127.0.0.1:7000", "bob")
    assert (peer.name, peer.connected, peer.endpoint) == ("bob", True, "127.0.0.1:7000")
    assert node.service.linked == {BOB: "127.0.0.1:7000"}
    status = client.status()
    assert (status.address, status.peers_connected, status.peers_known) == ("0x" + ALICE.hex(), 1, 1)
    assert client.counters() == {"batches": 0}
    assert client.health().ok
    assert [p.name for p in client.peers()] == ["bob"]


def test_a_peer_keeps_its_name_and_names_are_unique(node: Harness) -> None:
    client = node.client
    client.add_peer("0x" + BOB.hex(), "h:1", "bob")
    assert client.add_peer("0x" + BOB.hex(), "h:2").name == "bob"
    with pytest.raises(Refused, match="belongs to"):
        client.add_peer("0x" + CAROL.hex(), "h:3", "bob")
    with pytest.raises(Refused, match="itself"):
        client.add_peer("0x" + ALICE.hex(), "h:3")


def test_a_peer_is_removed_by_its_name(node: Harness) -> None:
    """And dialled no longer; one that is refused stays as it was."""
    client = node.client
    client.add_peer("0x" + BOB.hex(), "h:1", "bob")
    removed = client.remove_peer("bob")
    assert (removed.address, removed.connected) == ("0x" + BOB.hex(), False)
    assert BOB not in node.peers
    assert BOB not in node.service.linked
    with pytest.raises(Refused, match="no peer's name") as unknown:
        client.remove_peer("bob")
    assert "peers list" in unknown.value.hint
    with pytest.raises(Refused, match="not in the peers list"):
        client.remove_peer("0x" + BOB.hex())


def test_deploy_is_idempotent_and_limits_make_another_deployment(node: Harness) -> None:
    first = node.client.deploy(WASM)
    assert first == node.client.deploy(WASM) == node.client.deployment("duel")
    assert [(c.name, c.key, c.nullable) for c in first.tables[0].columns] == [
        ("player", True, False),
        ("score", False, False),
        ("note", False, True),
    ]
    other = node.client.deploy(WASM, {"rows_max": 5})
    assert other.deployment_id != first.deployment_id
    assert other.limits["rows_max"] == 5
    assert node.client.deployment(first.deployment_id[:12]).deployment_id == first.deployment_id
    assert len(node.client.deployments()) == 2


def test_open_send_log_close(node: Harness) -> None:
    """The life of a channel through the client; JSON becomes MessagePack and comes back as JSON."""
    client = node.client
    client.deploy(WASM)
    client.add_peer("0x" + BOB.hex(), "h:1", "bob")
    channel = client.open_channel(["bob"], "duel", params={"cards": 3, "salt": {"$hex": "0x00ff"}}, wait_s=5)
    assert (channel.phase, channel.sequence, channel.app) == ("running", 1, "duel")
    name = channel.channel_id[:10]
    receipts = client.send(name, {"move": [3, 4]}, {"hash": {"$hex": "0xabcd"}}, b"\x01")
    assert [(r.status, r.sequence) for r in receipts] == [("accepted", 1), ("accepted", 2), ("accepted", 3)]
    assert [r.status for r in client.tick(name)] == ["accepted"]
    entries = list(client.log(name))
    assert [e.kind for e in entries] == ["open", "message", "message", "message", "tick"]
    assert entries[0].payload[2] == {"cards": 3, "salt": {"$hex": "0x00ff"}}
    assert [e.payload for e in entries[1:4]] == [{"move": [3, 4]}, {"hash": {"$hex": "0xabcd"}}, 1]
    assert client.entries(name, 2, 2).next == 4
    assert client.close_channel(name, wait_s=5).phase == "closed"
    assert [c.phase for c in client.channels("closed")] == ["closed"]
    assert client.channels("running") == []


def test_channels_on_the_disk_are_listed_counted_and_found(node: Harness) -> None:
    """As those in memory; who does not want them says so."""
    live, over = node.channel(), node.channel(number=2)
    info = msgspec.structs.replace(node.service.infos[over], phase="closed")
    node.service.infos[over] = info
    node.service.on_disk.add(over)
    client, name = node.client, "0x" + over.hex()
    assert {c.channel_id: c.phase for c in client.channels()} == {"0x" + live.hex(): "running", name: "closed"}
    assert [c.channel_id for c in client.channels(over=False)] == ["0x" + live.hex()]
    assert [c.channel_id for c in client.channels("closed")] == [name]
    assert client.channels("closed", over=False) == []
    assert client.status().channels == {"running": 1, "closed": 1}
    assert client.channel(name[:12]).derived is None
    node.derived.whole.add(over)
    derived = client.channel(name[:12]).derived
    assert derived is not None
    assert (derived.sequence, derived.turn, derived.state) == (info.sequence, info.turn, "following")


def test_a_channel_on_the_disk_that_the_database_lacks_is_seen_in_status_and_metrics(
    node: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is halted or waits for the database is nobody's secret because it is over."""
    live, over = node.channel(), node.channel(number=2)
    node.client.send("0x" + over.hex(), 1)
    node.service.on_disk.add(over)
    node.derived.cursors[over] = DerivedView(sequence=1, turn=0, state_root="", state="halted", detail="differs")
    assert {c.channel_id for c in node.client.channels(over=False)} == {"0x" + live.hex(), "0x" + over.hex()}
    assert len(node.client.channels()) == 2
    request = urllib.request.Request(node.url + "/v1/metrics", headers={"Authorization": f"Bearer {node.operator}"})
    with urllib.request.urlopen(request, timeout=10) as response:
        assert b"scapp_database_behind_entries 1\n" in response.read()

    async def away(channels: object) -> list[object]:
        raise LogReadFailed("input/output error")

    monkeypatch.setattr(node.service, "read_archived", away)
    with urllib.request.urlopen(request, timeout=10) as response:
        assert b"scapp_database_behind_entries 0\n" in response.read()


def test_channels_on_the_disk_come_in_pages(node: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those in memory first; every channel once."""
    monkeypatch.setattr(client_module, "CHANNELS_PER_PAGE", 2)
    made = [node.channel(number=number) for number in (5, 1, 4, 2, 3, 6)]
    node.service.on_disk.update(made[1:])
    names = ["0x" + bytes([number]).hex() * 32 for number in (5, 1, 2, 3, 4, 6)]
    assert [c.channel_id for c in node.client.channels()] == names
    assert [c.channel_id for c in node.client.channels("running")] == names
    with pytest.raises(Refused, match="is not a channel id"):
        node.client._get("/v1/channels?after=0xnone", ChannelList)


def test_refused_and_pending_receipts(node: Harness) -> None:
    """Each message has its own receipt: one may be refused while its neighbour is accepted."""
    channel = "0x" + node.channel().hex()
    node.service.refused[b"\x01"] = "not your turn"
    accepted, refused = node.client.send(channel, 2, 1)
    assert accepted.status == "accepted"
    assert (refused.status, refused.code, refused.reason) == ("refused", "rejected", "not your turn")
    node.service.stuck = True
    assert [r.status for r in node.client.send(channel, 3, timeout_s=0)] == ["pending"]


def test_accept_and_reject(node: Harness) -> None:
    """The operator's answers to proposals; the reason is kept."""
    proposed = "0x" + node.channel("proposed").hex()
    assert node.client.accept(proposed, wait_s=5).phase == "running"
    other = "0x" + node.channel("proposed", number=2).hex()
    answer = node.client.reject(other, "not today")
    assert (answer.phase, answer.reason) == ("rejected", "not today")


def test_waiting_ends_without_an_error(node: Harness) -> None:
    """The wish is durable: a channel that is still opening is an answer, not a failure."""
    node.service.opens_to = "opening"
    node.deploy()
    assert node.client.open_channel(["0x" + BOB.hex()], "duel", wait_s=0.05).phase == "opening"


def test_pages_deep_in_a_long_log(node: Harness) -> None:
    """Pages join without gap or repetition, from any start, also when positions were remembered before."""
    channel = "0x" + node.channel().hex()
    for _ in range(4):
        node.client.send(channel, *range(600), timeout_s=30)
    everything = [e.sequence for e in node.client.log(channel)]
    assert everything == list(range(2_401))
    assert [e.sequence for e in node.client.log(channel, 2_300)] == list(range(2_300, 2_401))
    assert [e.sequence for e in node.client.entries(channel, 1_500, 3).entries] == [1_500, 1_501, 1_502]
    page = node.client.entries(channel, 9_999)
    assert (page.entries, page.next) == ([], None)


def test_query_and_verify(node: Harness) -> None:
    """Statement and parameters reach the database as they are, and its answers come back so."""
    channel = node.channel()
    node.derived.answer = QueryAnswer(columns=[QueryColumn(name="s", type="int8")], rows=[[7]], truncated=True)
    assert node.client.query("select s from duel.score where player = $1", ["0x01"]) == node.derived.answer
    assert node.derived.asked == [("select s from duel.score where player = $1", ["0x01"])]
    verdict = VerifyAnswer(
        channel_id="0x" + channel.hex(), ok=True, sequence=1, turn=0, expected_root="0x01", found_root="0x01", rows=4
    )
    node.derived.verdicts[channel] = verdict
    assert node.client.verify("0x" + channel.hex()) == verdict


# -- the client itself --------------------------------------------------------------------------------------------


def test_errors_have_types(node: Harness, tmp_path: Path) -> None:
    """Refused, not allowed, unreachable: told apart by class, with code, status and hint."""
    with pytest.raises(Refused) as refused:
        node.client.channel("0x" + "ee" * 32)
    assert (refused.value.code, refused.value.status) == ("unknown_channel", 404)
    assert "channel list" in refused.value.hint
    with pytest.raises(NotAllowed):
        node.with_token("wrong").status()
    with pytest.raises(NotAllowed, match="needs admin"):
        node.with_token(node.tokens.add("reader", ("read",))).deploy(WASM)
    with pytest.raises(NodeUnreachable):
        Client("http://127.0.0.1:1", "t").status()
    with pytest.raises(NodeUnreachable, match="no node runs in"):
        Client.at_home(tmp_path / "nobody")


def test_an_answer_that_does_not_come_in_time(node: Harness) -> None:
    """The wait is bounded, and the connection that still owes an answer is not used again."""
    release = threading.Event()
    node.derived.query = lambda *_: release.wait(10)  # type: ignore[method-assign,assignment,return-value]
    with Client(node.url, node.operator, timeout_s=0.05) as impatient:
        with pytest.raises(NodeTimeout, match="did not answer"):
            impatient.query("select 1", timeout_s=0.05)
        release.set()
        assert impatient.health().ok


def test_the_operators_token_must_be_private(node: Harness) -> None:
    token = node.home / "api.token"
    assert token.stat().st_mode & 0o777 == 0o600
    with Client.at_home(node.home) as client:
        assert client.status().address == "0x" + ALICE.hex()
    token.chmod(0o644)
    with pytest.raises(Exception, match="chmod 600"):
        Client.at_home(node.home)


def test_a_connection_the_node_has_closed_is_replaced(tmp_path: Path) -> None:
    """A client outlives a restart of the node at the same address."""
    with served(tmp_path) as harness:
        client = Client(harness.url, harness.operator)
        client.status()
        port = int(harness.url.rpartition(":")[2])
    with client, served(tmp_path, ApiSettings(listen=f"127.0.0.1:{port}")):
        assert client.status().address == "0x" + ALICE.hex()


# -- the stream ---------------------------------------------------------------------------------------------------


SCORE = manifest_of("duel").tables[0]


def score_row(player: bytes, score: int) -> bytes:
    """A row of the duel app's only table, as the kernel writes it."""
    head = (3).to_bytes(2, "big") + (20).to_bytes(4, "big") + player
    return head + (8).to_bytes(4, "big") + score.to_bytes(8, "big", signed=True) + (-1).to_bytes(4, "big", signed=True)


def derivation(channel: bytes, first: int, end: int) -> Committed:
    """Entries first .. end-1 set Bob's score to `end` and emit one event each."""
    gone = (1).to_bytes(2, "big") + (20).to_bytes(4, "big") + ALICE
    scores = table_change(channel, SCORE, [score_row(BOB, end)], [gone], copy_rows_min=COPY_NEVER)
    events = [AppEvent(sequence, 0, "scored", b"\x81\xa1n" + bytes([sequence])) for sequence in range(first, end)]
    changes = changes_of([scores], events)
    return Committed(channel, first, end, end - 1, changes)  # type: ignore[arg-type]


def take(items: Iterator[StreamItem], count: int) -> list[StreamItem]:
    return [next(items) for _ in range(count)]


def test_the_stream_from_the_start(node: Harness) -> None:
    """Entries, then rows and app events once they are derived, then what happens live; nothing twice."""
    channel = node.channel()
    name = "0x" + channel.hex()
    node.client.send(name, {"move": 1})
    node.run(lambda: node.derived.derive(derivation(channel, 0, 2)))
    items = node.client.stream(channels=[name], start=[f"{name}:0"], kinds=["entries", "rows", "app"])
    entries, rows, *events = take(items, 4)
    assert [e.sequence for e in entries.entries] == [0, 1]
    assert rows.sequence == 2
    assert rows.tables[0].upserts == [{"player": "0x" + BOB.hex(), "score": 2, "note": None}]
    assert rows.tables[0].deletes == [{"player": "0x" + ALICE.hex()}]
    assert [(e.topic, e.sequence, e.data) for e in events] == [("scored", 0, {"n": 0}), ("scored", 1, {"n": 1})]
    node.client.send(name, {"move": 2})
    assert [e.sequence for e in next(items).entries] == [2]
    node.run(lambda: node.derived.derive(derivation(channel, 2, 3)))
    rows, event = take(items, 2)
    assert (rows.kind, rows.sequence, event.kind, event.sequence) == ("rows", 3, "app", 2)
    items.close()  # type: ignore[attr-defined]


def test_the_stream_goes_on_from_two_sequences(node: Harness) -> None:
    """Entries seen up to 3, derived up to 2: the rest of both comes, and nothing before."""
    channel = node.channel()
    name = "0x" + channel.hex()
    node.client.send(name, 1, 2, 3)
    for first in range(4):
        node.run(lambda first=first: node.derived.derive(derivation(channel, first, first + 1)))
    items = node.client.stream(channels=[name], start=[f"{name}:3:2"], kinds=["entries", "app"])
    entries, *events = take(items, 3)
    assert [e.sequence for e in entries.entries] == [3]
    assert [e.sequence for e in events] == [2, 3]
    items.close()  # type: ignore[attr-defined]


def test_without_a_start_the_stream_begins_with_what_is_new(node: Harness) -> None:
    channel = node.channel()
    name = "0x" + channel.hex()
    node.client.send(name, 1)
    items = node.client.stream(kinds=["entries", "node"])
    started = threading.Thread(target=lambda: (_until_followed(node), node.client.send(name, 2)))
    started.start()
    found = take(items, 2)
    started.join()
    assert {item.kind for item in found} == {"node", "entries"}
    assert [e.sequence for item in found for e in item.entries] == [2]
    items.close()  # type: ignore[attr-defined]


def test_a_stream_of_all_channels_begins_behind_those_on_the_disk(node: Harness) -> None:
    """One that comes into memory has nothing new; one that goes there is read to its end; one that is named is read."""
    gone, back = node.channel(), node.channel(number=2)
    for channel in (gone, back):
        node.client.send("0x" + channel.hex(), 1)
    node.service.on_disk.add(back)
    items = node.client.stream(kinds=["entries"])

    def happen() -> None:
        _until_followed(node)
        node.service.on_disk.discard(back)
        node.service.revived.add(back)
        node.client.send("0x" + gone.hex(), 2)
        node.service.on_disk.add(gone)
        node.client.send("0x" + node.channel(number=3).hex(), 3)

    started = threading.Thread(target=happen)
    started.start()
    found = take(items, 2)
    started.join()
    items.close()  # type: ignore[attr-defined]
    assert "0x" + back.hex() not in {item.channel_id for item in found}
    assert ("0x" + gone.hex(), [2]) in [(item.channel_id, [e.sequence for e in item.entries]) for item in found]
    named = node.client.stream(channels=["0x" + gone.hex()], start=[f"0x{gone.hex()}:0"], kinds=["entries"])
    assert [e.sequence for e in next(named).entries] == [0, 1, 2]
    named.close()  # type: ignore[attr-defined]


def test_what_is_derived_after_a_channel_has_gone_to_the_disk_reaches_its_followers(node: Harness) -> None:
    """The database was away while it ended."""
    channel = node.channel()
    name = "0x" + channel.hex()
    items = node.client.stream(kinds=["entries", "rows"])

    def happen() -> None:
        _until_followed(node)
        node.service.on_disk.add(channel)
        node.client.send(name, 1)

    started = threading.Thread(target=happen)
    started.start()
    assert [e.sequence for e in next(items).entries] == [1]  # it was looked at since it went
    started.join()
    other, seen = node.channel(number=3), list[StreamItem]()
    for number in range(4):  # what lies between two entries of another channel is one look at least
        if number == 2:
            node.run(lambda: node.derived.derive(derivation(channel, 0, 2)))
        node.client.send("0x" + other.hex(), number)
        while not any(entry.sequence == number + 1 for item in seen for entry in item.entries or ()):
            seen.append(next(items))
    items.close()  # type: ignore[attr-defined]
    assert [(item.channel_id, item.sequence) for item in seen if item.kind == "rows"] == [(name, 2)]


def _until_followed(node: Harness) -> None:
    """Return once the server has subscribed a follower (it registers before its first line goes out)."""
    import gc
    import time

    from scapp.runtime.api.stream import StreamHub

    hub = next(h for h in gc.get_objects() if isinstance(h, StreamHub) and h._context.service is node.service)
    deadline = time.monotonic() + 10
    while not hub._followers and time.monotonic() < deadline:
        time.sleep(0.001)


def test_row_changes_that_are_gone_are_said_to_be_gone(node: Harness) -> None:
    """After a restart of the node: app events come from the database, rows by `reset`."""
    channel = node.channel()
    name = "0x" + channel.hex()
    node.client.send(name, *range(5))
    node.derived.events[channel] = [AppEvent(sequence, 0, "old", b"\xc0") for sequence in range(4)]
    node.derived.cursors[channel] = DerivedView(sequence=4, turn=3, state_root="0x", state="following")
    items = node.client.stream(channels=[name], start=[f"{name}:6:2"], kinds=["rows", "app"])
    first, second, reset = take(items, 3)
    assert [(e.kind, e.sequence) for e in (first, second, reset)] == [("app", 2), ("app", 3), ("reset", 4)]
    node.run(lambda: node.derived.derive(derivation(channel, 4, 6)))
    rows, *events = take(items, 3)
    assert (rows.kind, rows.sequence) == ("rows", 6)
    assert [e.sequence for e in events] == [4, 5]
    items.close()  # type: ignore[attr-defined]


def test_who_goes_on_right_after_the_nodes_start_does_not_wait_for_news(node: Harness) -> None:
    """How far a channel is derived is known a moment later, and nothing new may come for long."""
    channel = node.channel()
    name = "0x" + channel.hex()
    node.derived.events[channel] = [AppEvent(sequence, 0, "old", b"\xc0") for sequence in range(4)]
    items = node.client.stream(channels=[name], start=[f"{name}:1:2"], kinds=["rows", "app"], idle_s=5)
    known = DerivedView(sequence=4, turn=3, state_root="0x", state="following")
    told = threading.Thread(target=lambda: (_until_followed(node), node.derived.cursors.update({channel: known})))
    told.start()
    assert [(item.kind, item.sequence) for item in take(items, 3)] == [("app", 2), ("app", 3), ("reset", 4)]
    told.join()
    items.close()  # type: ignore[attr-defined]


def test_more_batches_than_are_kept(node: Harness) -> None:
    """A follower that was away too long gets all app events, in order, and one reset."""
    channel = node.channel()
    name = "0x" + channel.hex()
    total = RECENT_BATCHES + 3

    def derive() -> None:
        for first in range(total):
            changes = changes_of(events=[AppEvent(first, 0, "n", b"\xc0")])
            node.derived.derive(Committed(channel, first, first + 1, first, changes))

    node.run(derive)
    items = node.client.stream(channels=[name], start=[f"{name}:0:0"], kinds=["rows", "app"])
    sequences, resets = [], []
    while len(sequences) < total:
        item = next(items)
        if item.kind == "app":
            sequences.append(item.sequence)
        elif item.kind == "reset":
            resets.append(item.sequence)
    assert sequences == list(range(total))
    assert resets == [3]
    items.close()  # type: ignore[attr-defined]


def test_the_stream_says_how_to_go_on(node: Harness) -> None:
    """The id of an event, given back as Last-Event-ID, goes on right after it."""
    channel = node.channel()
    name = "0x" + channel.hex()
    node.client.send(name, 1)
    assert _first_id(node, name, f"{name}:0:0") == f"{name}:2:0"
    node.client.send(name, 2)
    request = urllib.request.Request(
        f"{node.url}/v1/stream?channel={name}&kinds=entries",
        headers={"Authorization": f"Bearer {node.operator}", "Last-Event-ID": f"{name}:2:0"},
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        lines = [response.readline().decode().strip() for _ in range(6)]
    data = next(json.loads(line[5:]) for line in lines if line.startswith("data:"))
    assert [e["sequence"] for e in data["entries"]] == [2]


def _first_id(node: Harness, name: str, start: str) -> str:
    request = urllib.request.Request(
        f"{node.url}/v1/stream?channel={name}&from={start}", headers={"Authorization": f"Bearer {node.operator}"}
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        while True:
            line = response.readline().decode()
            if line.startswith("id:"):
                return line[3:].strip()


def test_going_on_after_any_event_of_a_commit_gives_the_rest_of_it(node: Harness) -> None:
    """Rows come first, then events, two of one message among them; a connection may end after each."""
    channel = node.channel()
    name = "0x" + channel.hex()
    events = [AppEvent(0, 0, "a", b"\xc0"), AppEvent(2, 0, "b", b"\xc0"), AppEvent(2, 1, "c", b"\xc0")]
    node.run(lambda: node.derived.derive(Committed(channel, 0, 4, 1, changes_of(events=events))))
    whole = _read_events(node, name, f"{name}:0:0", 4)
    assert [(kind, topic) for kind, topic, _ in whole] == [("rows", None), ("app", "a"), ("app", "b"), ("app", "c")]
    assert [place.removeprefix(name) for _, _, place in whole] == [":1:0", ":1:1", "", ":1:4"]
    for seen in (0, 1):
        rest = _read_events(node, name, whole[seen][2], 4 - seen)
        assert [topic for _, topic, _ in rest if topic] == ["a", "b", "c"][seen:]
    items = node.client.stream(channels=[name], start=[f"{name}:0:0"], kinds=["rows", "app"])
    assert [item.resume or "" for item in take(items, 4)] == [place for _, _, place in whole]
    items.close()  # type: ignore[attr-defined]
    node.run(lambda: node.derived.derive(derivation(channel, 4, 5)))
    assert _read_events(node, name, whole[3][2], 1) == [("rows", None, f"{name}:1:4")]


def _read_events(node: Harness, name: str, start: str, count: int) -> list[tuple[str, str | None, str]]:
    """Kind, topic and id of what comes first of rows and app events."""
    request = urllib.request.Request(
        f"{node.url}/v1/stream?channel={name}&from={start}&kinds=rows,app",
        headers={"Authorization": f"Bearer {node.operator}"},
    )
    found: list[tuple[str, str | None, str]] = []
    with urllib.request.urlopen(request, timeout=10) as response:
        place = ""
        while len(found) < count:
            line = response.readline().decode().strip()
            if line.startswith("id:"):
                place = line[3:].strip()
            elif line.startswith("data:"):
                item = json.loads(line[5:])
                found.append((item["kind"], item["topic"], place))
            elif not line:
                place = ""
    return found


def test_a_stop_of_the_node_ends_streams(tmp_path: Path) -> None:
    """Followers see the end at once; the stop does not wait for them."""
    with served(tmp_path) as harness:
        name = "0x" + harness.channel().hex()
        items = harness.client.stream(channels=[name], start=[f"{name}:0:0"])
        assert next(items).kind in ("entries", "node")
    rest = [item.kind for item in items]
    assert len(rest) < 3


def test_row_changes_are_kept_within_a_bound_of_memory(node: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest go first, whichever channel they are of; the newest stays, however large."""
    monkeypatch.setattr(stream, "RECENT_BYTES", 5_000)
    first, second = node.channel(), node.channel(number=2)

    def derive() -> None:
        node.derived.derive(derivation(first, 0, 1))
        for number in range(4):
            node.derived.derive(derivation(second, number, number + 1))
        node.derived.derive(derivation(second, 4, 200))

    node.run(derive)
    names = ["0x" + channel.hex() for channel in (first, second)]
    starts = [f"{name}:0:0" for name in names]
    items = node.client.stream(channels=names, start=starts, kinds=["rows"])
    found = {(item.kind, item.channel_id, item.sequence) for item in take(items, 3)}
    assert found == {("reset", names[0], 1), ("reset", names[1], 4), ("rows", names[1], 200)}
    items.close()  # type: ignore[attr-defined]
