"""The local API, unhappy paths: who may ask, what is refused, and that every refusal is a document."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scapp.runtime.api.errors import STATUS_OF_CODE
from scapp.runtime.api.routes import ROUTES
from tests.support.api_harness import RAW_WASM, Harness, served
from tests.support.fake_service import ALICE, BOB


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    """One server for all tests here: each makes what it needs under a name or number of its own."""
    with served(tmp_path_factory.mktemp("node")) as harness:
        yield harness


def ask(
    harness: Harness,
    method: str,
    path: str,
    body: bytes | None = None,
    *,
    token: str | None = "operator",
    media: str = "application/json",
    **headers: str,
) -> tuple[int, dict[str, Any], http.client.HTTPMessage]:
    """Status, JSON document and headers of one raw request; `token` "operator" stands for the real one."""
    given = dict(headers)
    if token is not None:
        given["Authorization"] = f"Bearer {harness.operator if token == 'operator' else token}"
    if body is not None:
        given["Content-Type"] = media
    connection = http.client.HTTPConnection(harness.url.removeprefix("http://"), timeout=10)
    try:
        connection.request(method, path, body=body, headers=given)
        response = connection.getresponse()
        return response.status, json.loads(response.read()), response.headers
    finally:
        connection.close()


def refused(answer: tuple[int, dict[str, Any], Any], code: str) -> str:
    """Check that the answer is this error, whole; returns its message."""
    status, document, _ = answer
    assert set(document) == {"error"}, document
    assert set(document["error"]) == {"code", "message", "hint"}
    assert (document["error"]["code"], status) == (code, STATUS_OF_CODE[code])
    return str(document["error"]["message"])


@pytest.mark.parametrize("route", [r for r in ROUTES if r.permission], ids=lambda r: r.name)
def test_every_path_but_two_needs_a_token(shared: Harness, route: Any) -> None:
    """No token, a wrong one, and a scheme that is not Bearer: all 401, before anything else is looked at."""
    path = route.path.replace("{channel}", "0xabcd").replace("{ledger}", "0xabcd")
    path = path.replace("{app}", "duel").replace("{projection}", "duel").replace("{peer}", "bob")
    refused(ask(shared, route.method, path, token=None), "unauthorized")
    answer = ask(shared, route.method, path, token="scapp_wrong")
    refused(answer, "unauthorized")
    assert answer[2]["WWW-Authenticate"] == "Bearer"
    refused(ask(shared, route.method, path, token=None, Authorization=f"Basic {shared.operator}"), "unauthorized")


def test_open_paths_are_health_and_the_description_only() -> None:
    """What answers without a token tells nothing about channels or peers."""
    assert {route.path for route in ROUTES if route.permission is None} == {"/v1/health", "/v1/openapi.json"}


@pytest.mark.parametrize(
    ("permissions", "method", "path", "allowed"),
    [
        (("read",), "GET", "/v1/status", True),
        (("read",), "POST", "/v1/channels/0xabcd/messages", False),
        (("read",), "POST", "/v1/peers", False),
        (("send",), "POST", "/v1/channels/0xabcd/messages", True),
        (("send",), "GET", "/v1/status", False),
        (("send",), "POST", "/v1/channels", False),
        (("read", "send"), "POST", "/v1/deployments", False),
        (("read", "send"), "POST", "/v1/channels/0xabcd/accept", False),
        (("channels",), "POST", "/v1/channels/0xabcd/accept", True),
        (("channels",), "POST", "/v1/channels/0xabcd/deploy", False),
        (("read", "send", "channels"), "POST", "/v1/projections/duel/remove", False),
        (("read", "send", "channels"), "POST", "/v1/channels/0xabcd/replay", False),
        (("admin",), "POST", "/v1/channels/0xabcd/messages", True),
        (("admin",), "GET", "/v1/channels", True),
    ],
)
def test_a_token_permits_what_it_names(
    shared: Harness, permissions: tuple[str, ...], method: str, path: str, allowed: bool
) -> None:
    """A token without the permission gets 403 with both named; with it the request goes on (to 404 here)."""
    name = f"{'-'.join(permissions)}-{path.replace('/', '.')}"
    token = shared.tokens.add(name, permissions)  # type: ignore[arg-type]
    status, document, _ = answer = ask(shared, method, path, token=token)
    if allowed:
        assert status in (200, 404), document
    else:
        assert name in refused(answer, "forbidden")


def test_a_revoked_token_stops_working(shared: Harness) -> None:
    """The next request is refused, without a restart."""
    token = shared.tokens.add("brief", ("read",))
    assert ask(shared, "GET", "/v1/status", token=token)[0] == 200
    shared.tokens.revoke("brief")
    refused(ask(shared, "GET", "/v1/status", token=token), "unauthorized")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:7421", "", "127.0.0.1.evil.example", "localhost@evil"])
def test_a_foreign_host_name_is_refused(shared: Harness, host: str) -> None:
    """DNS rebinding: a page's own name that resolves to 127.0.0.1 gets nothing, with or without a token."""
    refused(ask(shared, "GET", "/v1/status", Host=host), "bad_host")
    refused(ask(shared, "GET", "/v1/health", token=None, Host=host), "bad_host")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:9", "[::1]:7421"])
def test_local_host_names_are_answered(shared: Harness, host: str) -> None:
    """The loopback names work, whatever the port says (it may be forwarded)."""
    assert ask(shared, "GET", "/v1/status", Host=host)[0] == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:3000"])
def test_a_foreign_origin_is_refused(shared: Harness, origin: str) -> None:
    """A page that is not listed in api.origins may not call, and gets no CORS header."""
    answer = ask(shared, "GET", "/v1/status", Origin=origin)
    refused(answer, "bad_origin")
    assert answer[2]["Access-Control-Allow-Origin"] is None


def test_answers_are_not_cached_or_sniffed(shared: Harness) -> None:
    """They carry channel data; and no cookie is ever set."""
    headers = ask(shared, "GET", "/v1/status")[2]
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Set-Cookie"] is None


@pytest.mark.parametrize(
    "body", [b"{", b"nonsense", b"\xff\xfe", b'{"peers": ["x",]}', b'{"params": ' + b"[" * 100_000]
)
def test_bad_json(shared: Harness, body: bytes) -> None:
    """Malformed, not UTF-8, nested without end: told apart from a document of the wrong shape."""
    refused(ask(shared, "POST", "/v1/channels", body), "bad_json")


@pytest.mark.parametrize(
    ("path", "document", "says"),
    [
        ("/v1/channels", {}, "peers"),
        ("/v1/channels", {"peers": [], "app": "duel"}, "length"),
        ("/v1/channels", {"peers": "bob", "app": "duel"}, "array"),
        ("/v1/channels", {"peers": ["bob"], "app": "duel", "aps": 1}, "aps"),
        ("/v1/channels", {"peers": ["bob"], "app": "duel", "wait_s": 1e9}, "wait_s"),
        ("/v1/channels", {"peers": ["bob"], "app": "duel", "slots": [{"asset": "0x"}]}, "asset"),
        ("/v1/peers", {"address": "0x12", "endpoint": "h:1"}, "address"),
        ("/v1/peers", {"address": "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAeD", "endpoint": "h:1"}, "wrong checksum"),
        ("/v1/peers", {"address": "0x" + "1" * 40, "endpoint": "h:1", "name": "two words"}, "name"),
        ("/v1/query", {"sql": ""}, "sql"),
        ("/v1/query", {"sql": "select 1", "rows_max": 0}, "rows_max"),
        ("/v1/query", {"sql": "select 1", "timeout_s": 0}, "timeout_s"),
    ],
)
def test_a_document_of_the_wrong_shape(shared: Harness, path: str, document: Any, says: str) -> None:
    """The message names the field; unknown fields are errors, not defaults."""
    assert says in refused(ask(shared, "POST", path, json.dumps(document).encode()), "bad_request")


def test_a_mistyped_destination_gets_no_money(shared: Harness) -> None:
    """An address in mixed case carries a checksum; one wrong digit would pay somebody else."""
    slot = {"asset": "0x" + "00" * 20, "destination": "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAeD", "amount": "1"}
    wish = {"peers": ["0x" + BOB.hex()], "app": shared.deploy().name, "slots": [slot]}
    answer = ask(shared, "POST", "/v1/channels", json.dumps(wish).encode())
    message = refused(answer, "bad_request")
    assert "destination" in message
    assert "wrong checksum" in message


def test_a_form_is_not_taken_for_json(shared: Harness) -> None:
    """A foreign page can post forms and plain text without asking; neither is read."""
    for media in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        refused(ask(shared, "POST", "/v1/query", b'{"sql": "select 1"}', media=media), "unsupported_media_type")
    refused(ask(shared, "POST", "/v1/deployments", b"\x00asm-x", media="text/plain"), "unsupported_media_type")


def test_a_body_above_the_limit(shared: Harness) -> None:
    """Refused by size, for JSON and for modules; the node goes on."""
    refused(ask(shared, "POST", "/v1/query", b'{"sql": "' + b"x" * 300_000 + b'"}'), "too_large")
    refused(ask(shared, "POST", "/v1/deployments", b"\x00asm-" + b"x" * 300_000, media="application/wasm"), "too_large")
    assert ask(shared, "GET", "/v1/health", token=None)[0] == 200


def test_unknown_path_and_method(shared: Harness) -> None:
    """404 and 405 are documents as well, and say what there is."""
    assert "/v2/status" in refused(ask(shared, "GET", "/v2/status"), "not_found")
    assert "GET" in refused(ask(shared, "DELETE", "/v1/status"), "method_not_allowed")


@pytest.mark.parametrize(
    ("channel", "code"),
    [
        ("0x" + "ee" * 32, "unknown_channel"),
        ("0xeeee", "unknown_channel"),
        ("0xee", "bad_request"),
        ("zzzzzz", "bad_request"),
        ("0x" + "ee" * 33, "unknown_channel"),
        ("0x" + "zz" * 32, "unknown_channel"),
    ],
)
@pytest.mark.parametrize("tail", ["", "/entries"])
def test_unknown_channel(shared: Harness, channel: str, code: str, tail: str) -> None:
    """Unknown, too short, or no channel id at all."""
    refused(ask(shared, "GET", f"/v1/channels/{channel}{tail}"), code)


def test_an_ambiguous_prefix_is_refused(shared: Harness) -> None:
    """Two channels that begin alike need more digits."""
    shared.channel(number=0x51)
    other = bytes.fromhex("5151") + b"\x07" * 30
    shared.run(lambda: shared.service.state(other, (ALICE, BOB), shared.deploy().deployment, "running"))  # type: ignore[arg-type]
    refused(ask(shared, "GET", "/v1/channels/0x5151"), "ambiguous")
    assert ask(shared, "GET", "/v1/channels/0x515107")[0] == 200


def test_open_needs_a_known_app_and_known_peers(shared: Harness) -> None:
    """Both errors say what is known and how to add."""
    body = {"peers": ["0x" + BOB.hex()], "app": "chess"}
    assert "chess" in refused(ask(shared, "POST", "/v1/channels", json.dumps(body).encode()), "unknown_app")
    shared.deploy()
    body = {"peers": ["mallory"], "app": "duel"}
    assert "mallory" in refused(ask(shared, "POST", "/v1/channels", json.dumps(body).encode()), "unknown_peer")


def test_accept_of_an_unknown_app_says_deploy(shared: Harness) -> None:
    """Signing for code one does not have is refused before the node is asked."""
    channel = shared.channel("proposed", number=0x61)
    info = shared.service.infos[channel]
    import msgspec

    shared.service.infos[channel] = msgspec.structs.replace(info, deployment_id=b"\x99" * 32)
    answer = ask(shared, "POST", f"/v1/channels/0x{channel.hex()}/accept")
    refused(answer, "unknown_app")
    assert "deploy" in answer[1]["error"]["hint"]


def test_what_the_node_refuses_is_refused(shared: Harness) -> None:
    """A LocalError of the node comes through with its own words and 409."""
    channel = shared.channel("opening", number=0x62)
    path = f"/v1/channels/0x{channel.hex()}"
    assert "proposed" in refused(ask(shared, "POST", path + "/accept"), "refused")
    assert "running" in refused(ask(shared, "POST", path + "/close"), "refused")
    assert "running" in refused(ask(shared, "POST", path + "/messages", b'{"messages": [{"json": 1}]}'), "refused")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{}", "bad_request"),
        (b'{"messages": []}', "bad_request"),
        (b'{"messages": [{"json": 1}], "tick": true}', "bad_request"),
        (b'{"messages": [{}]}', "bad_request"),
        (b'{"messages": [{"json": 1, "hex": "00"}]}', "bad_request"),
        (b'{"messages": [{"hex": "0"}]}', "bad_payload"),
        (b'{"messages": [{"hex": "xy"}]}', "bad_payload"),
        (b'{"messages": [{"base64": "###"}]}', "bad_payload"),
        (b'{"messages": [{"json": {"$hex": "xy"}}]}', "bad_payload"),
        (b'{"messages": [{"json": {"$hex": 5}}]}', "bad_payload"),
        (b'{"messages": [{"json": 18446744073709551616}]}', "bad_payload"),
    ],
)
def test_payloads_that_cannot_be_sent(shared: Harness, body: bytes, code: str) -> None:
    """Nothing is submitted when one of the messages is wrong."""
    channel = shared.channel(number=0x63)
    before = shared.service.infos[channel].sequence
    refused(ask(shared, "POST", f"/v1/channels/0x{channel.hex()}/messages", body), code)
    assert shared.service.infos[channel].sequence == before


def test_json_for_an_app_with_raw_payloads(shared: Harness) -> None:
    """Raw bytes have no JSON form: the error names the ways that work, and those work."""
    app = shared.deploy(RAW_WASM)
    channel = bytes([0x64]) * 32
    shared.run(lambda: shared.service.state(channel, (ALICE, BOB), app.deployment, "running"))  # type: ignore[arg-type]
    path = f"/v1/channels/0x{channel.hex()}/messages"
    answer = ask(shared, "POST", path, b'{"messages": [{"json": {"a": 1}}]}')
    refused(answer, "bad_payload")
    assert "hex" in answer[1]["error"]["hint"]
    assert ask(shared, "POST", path, b'{"messages": [{"hex": "0xdead"}]}')[0] == 200


def test_a_payload_above_the_signed_limit(shared: Harness) -> None:
    """Refused here, with the limit, before a counter is spent."""
    channel = shared.channel(number=0x65)
    body = json.dumps({"messages": [{"hex": "00" * 16_385}]}).encode()
    assert "16384" in refused(ask(shared, "POST", f"/v1/channels/0x{channel.hex()}/messages", body), "bad_payload")


@pytest.mark.parametrize("query", ["from=-1", "from=x", "limit=0", "limit=1001", "from=1e3", "from=%C2%B2"])
def test_paging_parameters_out_of_range(shared: Harness, query: str) -> None:
    channel = shared.channel(number=0x66)
    refused(ask(shared, "GET", f"/v1/channels/0x{channel.hex()}/entries?{query}"), "bad_request")


@pytest.mark.parametrize("limits", ["[]", "{", '{"fuel": 1}', '{"rows_max": 0}', '{"rows_max": "many"}'])
def test_limits_of_a_deployment_are_checked(shared: Harness, limits: str) -> None:
    from urllib.parse import quote

    path = f"/v1/deployments?limits={quote(limits)}"
    refused(ask(shared, "POST", path, b"\x00asm-duel", media="application/wasm"), "bad_request")


def test_a_bad_module_is_refused_with_the_reason(shared: Harness) -> None:
    """And is not stored."""
    before = shared.apps.all()
    answer = ask(shared, "POST", "/v1/deployments", b"MZ", media="application/wasm")
    assert "00 61 73 6d" in refused(answer, "bad_module")
    assert shared.apps.all() == before


def test_a_projection_that_is_not_here_is_not_found(shared: Harness) -> None:
    assert "known: duel" in refused(ask(shared, "GET", "/v1/projections/nobody"), "unknown_projection")


def test_database_trouble_has_its_own_codes(shared: Harness) -> None:
    """Bad SQL is the caller's, a database that is down is not; signing goes on in both cases."""
    channel = shared.channel(number=0x67)
    refused(ask(shared, "POST", "/v1/query", b'{"sql": "syntax"}'), "bad_sql")
    refused(ask(shared, "POST", f"/v1/channels/0x{channel.hex()}/verify"), "refused")
    shared.derived.down = True
    try:
        refused(ask(shared, "POST", "/v1/query", b'{"sql": "select 1"}'), "database_down")
        refused(ask(shared, "POST", f"/v1/channels/0x{channel.hex()}/verify"), "database_down")
        health = ask(shared, "GET", "/v1/health", token=None)[1]
        assert health == {"ok": True, "database": "down"}
        sent = ask(shared, "POST", f"/v1/channels/0x{channel.hex()}/messages", b'{"messages": [{"json": 1}]}')
        assert sent[1]["receipts"][0]["status"] == "accepted"
    finally:
        shared.derived.down = False


def test_a_bug_is_told_without_its_insides(shared: Harness, caplog: pytest.LogCaptureFixture) -> None:
    """500, no traceback and no message of the exception in the answer; the log has it."""
    counters = shared.service.counters
    shared.service.counters = lambda: {}["secret detail"]  # type: ignore[method-assign]
    try:
        message = refused(ask(shared, "GET", "/v1/counters"), "internal")
    finally:
        shared.service.counters = counters  # type: ignore[method-assign]
    assert "secret detail" not in message
    assert "secret detail" in caplog.text


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("kinds=rows,news", "bad_request"),
        ("from=0xabcd", "bad_request"),
        ("from=0xabcd:x", "bad_request"),
        ("from=0xabcd:1:2:3", "bad_request"),
        ("from=0xeeee:1", "unknown_channel"),
        ("channel=0xeeee", "unknown_channel"),
    ],
)
def test_a_stream_that_cannot_be_followed(shared: Harness, query: str, code: str) -> None:
    """Refused as a document with a status, before the stream begins."""
    refused(ask(shared, "GET", f"/v1/stream?{query}"), code)


def test_origins_that_are_allowed(tmp_path: Path) -> None:
    """A page named in api.origins may call and is told so; a host named in api.hosts is answered."""
    from scapp.runtime.config import ApiSettings

    settings = ApiSettings(listen="127.0.0.1:0", origins=("https://app.example",), hosts=("node.example",))
    with served(tmp_path, settings) as harness:
        answer = ask(harness, "GET", "/v1/status", Origin="https://app.example", Host="node.example")
        assert answer[0] == 200
        assert answer[2]["Access-Control-Allow-Origin"] == "https://app.example"
        refused(ask(harness, "GET", "/v1/status", Origin="https://evil.example"), "bad_origin")
