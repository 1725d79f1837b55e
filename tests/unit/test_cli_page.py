"""`scapp page`: the address it makes, what its token may do, and who can read it."""

from __future__ import annotations

import json
import stat
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from click.testing import CliRunner, Result

from scapp.runtime.api.auth import TokenStore
from scapp.runtime.cli.main import scapp
from tests.support.api_harness import served


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A running node that serves one page."""
    with served(tmp_path):
        (tmp_path / "scapp.toml").write_text(f"[web]\nduel = '{tmp_path}'\n")
        yield tmp_path


def page(home: Path, *args: str) -> Result:
    return CliRunner().invoke(scapp, ["-C", str(home), "--json", "page", *args])


def fields(home: Path, *args: str) -> dict[str, str]:
    """What stands behind the `#`."""
    done = page(home, "duel", "--no-open", *args)
    assert done.exit_code == 0, done.output
    parts = urlsplit(json.loads(done.stdout)["url"])
    assert (parts.path, parts.query) == ("/app/duel/", "")
    return {name: values[0] for name, values in parse_qs(parts.fragment).items()}


def test_the_address_stays_the_same_and_its_token_is_no_operators(home: Path) -> None:
    first, again = fields(home), fields(home)
    assert first == again
    assert set(first) == {"token", "secret"}
    record = TokenStore(home).find(first["token"])
    assert record is not None
    assert record.permissions == ("read", "send", "channels")


def test_a_page_that_may_spend_is_asked_for(home: Path) -> None:
    """What costs money is not in a page's token unless its operator says so, and ends when it is said otherwise."""
    plain = fields(home)
    staking = fields(home, "--funds")
    record = TokenStore(home).find(staking["token"])
    assert record is not None
    assert record.permissions == ("read", "send", "channels", "funds")
    assert TokenStore(home).find(plain["token"]) is None
    assert fields(home, "--funds") == staking
    assert fields(home)["secret"] == staking["secret"]
    assert TokenStore(home).find(staking["token"]) is None
    assert page(home, "duel", "--funds", "--watch").exit_code == 2


def test_a_page_to_watch_has_no_secret_and_may_only_read(home: Path) -> None:
    watching = fields(home, "--watch")
    assert set(watching) == {"token"}
    record = TokenStore(home).find(watching["token"])
    assert record is not None
    assert record.permissions == ("read",)
    assert fields(home)["token"] != watching["token"]


def test_a_new_token_ends_the_old_one_and_keeps_the_secret(home: Path) -> None:
    old = fields(home)
    new = fields(home, "--new-token")
    assert TokenStore(home).find(old["token"]) is None
    assert TokenStore(home).find(new["token"]) is not None
    assert new["secret"] == old["secret"]


def test_only_this_user_can_read_what_is_handed_over(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The browser is given a file's name, not the address: command lines are for everybody to see."""
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    done = page(home, "duel")
    assert done.exit_code == 0
    address = json.loads(done.stdout)["url"]
    assert opened == [(home / "pages" / "duel.html").as_uri()]
    assert address.replace("&", "&amp;") in (home / "pages" / "duel.html").read_text()
    assert stat.S_IMODE((home / "pages").stat().st_mode) == 0o700
    for path in (home / "pages").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_a_page_that_is_not_served_is_an_error_that_helps(home: Path) -> None:
    done = page(home, "chess", "--no-open")
    assert done.exit_code == 1
    error = json.loads(done.stdout)["error"]
    assert (error["code"], error["message"]) == ("not_found", "the node serves no page 'chess'")
    assert '[web] chess = "FOLDER"' in error["hint"]
