"""Pages that the node serves: what is found, what is not, and who may call from them."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from scapp.channels.errors import LocalError
from scapp.runtime.api.pages import HEADERS, MEDIA, Pages
from tests.support.api_harness import Harness, served

OUTSIDE = "what the page's folder does not hold"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    folder = tmp_path_factory.mktemp("pages")
    page = folder / "page"
    (page / "sub").mkdir(parents=True)
    (page / "index.html").write_text("<!doctype html>hello")
    (page / "sub" / "more.js").write_text("export {}")
    (page / ".hidden.js").write_text(OUTSIDE)
    (page / "notes.py").write_text(OUTSIDE)
    (folder / "secret.txt").write_text(OUTSIDE)
    (page / "link.txt").symlink_to(folder / "secret.txt")
    with served(tmp_path_factory.mktemp("node"), pages={"game": str(page)}) as harness:
        yield harness


def fetch(
    harness: Harness, path: str, method: str = "GET", **headers: str
) -> tuple[int, bytes, http.client.HTTPMessage]:
    """One raw request: the path goes out as it is, dots and all."""
    connection = http.client.HTTPConnection(harness.url.removeprefix("http://"), timeout=10)
    try:
        connection.putrequest(method, path, skip_host="Host" in headers)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders(b"{}" if method == "POST" else None)
        response = connection.getresponse()
        return response.status, response.read(), response.headers
    finally:
        connection.close()


def code(answer: tuple[int, bytes, http.client.HTTPMessage]) -> str:
    return str(json.loads(answer[1])["error"]["code"])


def test_files_come_with_their_type_and_the_policy(shared: Harness) -> None:
    """Without a token: files hold none."""
    for path, media in (("/app/game/", ".html"), ("/app/game/index.html", ".html"), ("/app/game/sub/more.js", ".js")):
        status, _, headers = fetch(shared, path)
        assert (status, headers["Content-Type"]) == (200, MEDIA[media])
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert {name: headers[name] for name in HEADERS} == HEADERS
    assert fetch(shared, "/app/game")[0] == 308
    assert fetch(shared, "/app/game")[2]["Location"] == "/app/game/"


def test_the_policy_leaves_a_page_nowhere_to_go() -> None:
    """Scripts are files of the node, no text becomes one, nothing is sent elsewhere, no page frames this one."""
    policy = dict(part.strip().partition(" ")[::2] for part in HEADERS["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self' 'wasm-unsafe-eval'"
    assert policy["connect-src"] == policy["style-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert policy["require-trusted-types-for"] == "'script'"


@pytest.mark.parametrize(
    "path",
    [
        "../secret.txt", "..%2fsecret.txt", "%2e%2e/secret.txt", "sub/../../secret.txt", "sub/..%2f..%2fsecret.txt",
        "/etc/hosts.txt", "%2fetc%2fhosts.txt", "..\\secret.txt", "sub//more.js", "./index.html", ".hidden.js",
        "notes.py", "link.txt", "index.html%00.js", "sub", "sub/", "nothing.js", "a" * 5_000 + ".js",
    ],
)  # fmt: skip
def test_nothing_else_is_found(shared: Harness, path: str) -> None:
    """Neither above the folder, by whatever spelling or link, nor hidden, nor of a kind that pages do not have."""
    status, body, _ = answer = fetch(shared, f"/app/game/{path}")
    assert OUTSIDE.encode() not in body
    assert (status, code(answer)) == (404, "not_found")


def test_unknown_pages_and_the_kernel(shared: Harness) -> None:
    """The node's own modules are there for every page; of its package nothing else is."""
    assert code(fetch(shared, "/app/other/")) == "not_found"
    assert fetch(shared, "/app/scapp/kernel.wasm")[1].startswith(b"\0asm")
    assert fetch(shared, "/app/scapp/client.js")[0] == 200
    assert code(fetch(shared, "/app/scapp/../api/auth.py")) == "not_found"


def test_a_foreign_name_or_page_gets_no_files(shared: Harness) -> None:
    """DNS rebinding and cross-origin requests end before a file is looked for."""
    assert code(fetch(shared, "/app/game/", Host="evil.example")) == "bad_host"
    assert code(fetch(shared, "/app/game/", Origin="https://evil.example")) == "bad_origin"


def test_own_pages_may_call_and_only_they(shared: Harness) -> None:
    """A browser names the page's origin with every POST; that of this node is its own Host, port included."""
    own = shared.url.removeprefix("http://")
    headers = {"Authorization": f"Bearer {shared.operator}", "Content-Type": "application/json", "Content-Length": "2"}
    path = "/v1/channels/0xabcd/verify"
    assert code(fetch(shared, path, "POST", Origin=f"http://{own}", **headers)) == "unknown_channel"
    for origin in (f"https://{own}", "http://127.0.0.1:1", f"http://{own}.evil.example", "null", "http://localhost"):
        assert code(fetch(shared, path, "POST", Origin=origin, **headers)) == "bad_origin"


def test_without_pages_nothing_changes(tmp_path: Path) -> None:
    """No path below /app, and no page is the node's own."""
    with served(tmp_path) as harness:
        assert code(fetch(harness, "/app/scapp/client.js")) == "not_found"
        own = harness.url
        assert (
            code(fetch(harness, "/v1/status", Origin=own, Authorization=f"Bearer {harness.operator}")) == "bad_origin"
        )


def test_a_page_is_a_folder_that_exists(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match=re.escape(f"web.game = '{tmp_path / 'none'}' is not a folder")):
        Pages({"game": str(tmp_path / "none")})


def test_a_token_is_told_what_it_permits(shared: Harness) -> None:
    """The page shows what it may do before it is tried."""
    token = shared.tokens.add("page", ("read", "send"))
    status, body, _ = fetch(shared, "/v1/token", Authorization=f"Bearer {token}")
    assert (status, json.loads(body)) == (200, {"name": "page", "permissions": ["read", "send"]})


def test_the_module_is_what_was_deployed(shared: Harness) -> None:
    """Byte for byte: a page runs it over the log."""
    app = shared.deploy()
    bearer = f"Bearer {shared.operator}"
    status, body, headers = fetch(shared, f"/v1/deployments/{app.id.hex()}/module", Authorization=bearer)
    assert (status, headers["Content-Type"]) == (200, "application/wasm")
    assert body == shared.apps.wasm(app.deployment.reducer)
