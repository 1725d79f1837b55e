"""Settings: what is stronger than what, and that nothing misspelt passes; logs: form, levels, no secrets."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from scapp.runtime import logs
from scapp.runtime.config import Config, ConfigError, config_as_toml, hide_password, known_settings, load_config


def load(tmp_path: Path, text: str = "", environ: dict[str, str] | None = None, **flags: str) -> Config:
    if text:
        (tmp_path / "scapp.toml").write_text(text)
    dotted = {name.replace("__", "."): value for name, value in flags.items()}
    return load_config(tmp_path, environ=environ or {}, flags=dotted)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[nod]\n", "did you mean node?"),
        ("[api]\nlisten_on = 'x:1'\n", "did you mean listen?"),
        ("[log]\nlevel = 'loud'\n", "allowed are debug, error, info, warning"),
        ("[policy]\naccept = 'all'\n", "known-deployments"),
        ("[api]\nlisten = 'nowhere'\n", "host:port"),
        ("[api]\nlisten = 'h:99999'\n", "65535"),
        ("[api]\nbody_bytes_max = 'much'\n", "int"),
        ("[api]\nhosts = 5\n", "array"),
        ("[database]\nbackend = 'url'\n", "SCAPP_DATABASE_URL"),
        ("[database]\nbackend = 'mysql'\n", "embedded, none, pglite, url"),
        ("[peers]\nbob = '0x12@h:1'\n", "40 hexadecimal digits"),
        ("[peers]\nbob = '0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAeD@h:1'\n", "wrong checksum"),
        (
            "[chain]\nurls = ['http://h:1']\n",
            "chain.id, chain.adjudicator, chain.consensus_app, chain.confirmations are",
        ),
        ("[chain]\nurls = ['ftp://user:secret@h/x']\n", "'ftp://h' is not an http, https, ws or wss URL"),
        ("[chain]\npoll_s = 0\n", "> 0.0"),
        ("peers = 3\n", "table"),
        ("api = 3\n", "section [api]"),
        ("[api\n", "not TOML"),
    ],
)
def test_a_file_with_a_mistake(tmp_path: Path, text: str, says: str) -> None:
    """Refused with what is allowed; a misspelt setting never silently means its default."""
    with pytest.raises(ConfigError) as error:
        load(tmp_path, text)
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"SCAPP_DATABSE_URL": "x"}, "did you mean SCAPP_DATABASE_URL?"),
        ({"SCAPP_LOG_LEVEL": "loud"}, "SCAPP_LOG_LEVEL: log.level = 'loud'"),
        ({"SCAPP_CONFIG": "/nowhere/scapp.toml"}, "/nowhere/scapp.toml"),
    ],
)
def test_an_environment_with_a_mistake(tmp_path: Path, environ: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(tmp_path, environ=environ)
    assert says in str(error.value)


def test_other_variables_are_left_alone(tmp_path: Path) -> None:
    """What belongs to clients, tests and measures is no setting; empty means not set."""
    environ = {"SCAPP_HOME": "x", "SCAPP_TOKEN": "t", "SCAPP_TEST_X": "1", "SCAPP_SEED": "1", "SCAPP_LOG_LEVEL": ""}
    assert load(tmp_path, environ=environ) == Config()


def test_flags_over_environment_over_file_over_defaults(tmp_path: Path) -> None:
    """Each level takes one setting away from the level below."""
    text = "[log]\nlevel = 'error'\nformat = 'json'\n[node]\nlisten = 'file:1'\n[api]\nlisten = 'file:2'\n"
    environ = {"SCAPP_NODE_LISTEN": "env:1", "SCAPP_API_LISTEN": "env:2"}
    found = load(tmp_path, text, environ, api__listen="flag:2")
    assert (found.log.level, found.log.format) == ("error", "json")
    assert (found.node.listen, found.api.listen) == ("env:1", "flag:2")
    assert found.database == Config().database


def test_text_becomes_the_settings_type(tmp_path: Path) -> None:
    """Lists by commas, tables by pairs, numbers; a URL implies its backend."""
    environ = {
        "SCAPP_API_ORIGINS": "https://a, https://b",
        "SCAPP_LOG_LEVELS": "scapp.node=debug, aiohttp=error",
        "SCAPP_API_BODY_BYTES_MAX": "1000",
        "SCAPP_DATABASE_URL": "postgresql://h/d",
    }
    found = load(tmp_path, environ=environ)
    assert found.api.origins == ("https://a", "https://b")
    assert found.log.levels == {"scapp.node": "debug", "aiohttp": "error"}
    assert found.api.body_bytes_max == 1000
    assert found.database.backend == "url"
    assert load(tmp_path, environ={"SCAPP_DATABASE": "pglite"}).database.backend == "pglite"


def test_every_setting_survives_a_round_trip(tmp_path: Path) -> None:
    text = "[peers]\nbob = '0x" + "11" * 20 + "@h:1'\n[log]\nlevels = { 'a.b' = 'debug' }\n[policy]\nallow = ['0x1']\n"
    text += "[web]\ngame = '/some/folder'\n"
    found = load(tmp_path, text)
    (tmp_path / "scapp.toml").write_text(config_as_toml(found))
    assert load(tmp_path) == found
    assert len(known_settings()) == len(set(known_settings())) >= 12


@pytest.mark.parametrize("line", ["scapp = 'x'", "'a/b' = 'x'", "Game = 'x'", "game = 1", "game = ''", "'..' = 'x'"])
def test_a_page_has_a_plain_name_and_a_folder(tmp_path: Path, line: str) -> None:
    with pytest.raises(ConfigError, match="is not allowed: a name of"):
        load(tmp_path, f"[web]\n{line}\n")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:p@h/d", "postgresql://u:***@h/d"),
        ("postgresql://u@h/d", "postgresql://u@h/d"),
        ("postgresql://u:p@ss@h/d", "postgresql://u:***@h/d"),
        ("", ""),
    ],
)
def test_passwords_in_urls_are_hidden(url: str, shown: str) -> None:
    assert hide_password(url) == shown


# -- logs ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    root.setLevel(level)
    root.handlers[:] = handlers
    logging.getLogger("some.part").setLevel(logging.NOTSET)
    logging.captureWarnings(False)


@pytest.mark.usefixtures("restored_logging")
def test_json_lines_carry_fields_and_no_secrets() -> None:
    """One object per line; bytes are hexadecimal; keys never appear, by value or by name."""
    out = io.StringIO()
    secret = bytes(range(32))
    logs.hide(secret, "scapp_secret_token")
    logs.configure("debug", "json", stream=out)
    log = logging.getLogger("some.part")
    log.info("sent %s", "x", extra={"peer": b"\x01\x02", "sizes": [1, b"\xff"], "token": "abc", "more": {"key": b"k"}})
    log.warning("the key is %s and the token scapp_secret_token", secret.hex(), extra={"raw": secret})
    try:
        raise ValueError(secret.hex())
    except ValueError:
        log.exception("failed")
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line["level"] for line in lines] == ["info", "warning", "error"]
    assert lines[0]["message"] == "sent x"
    assert (lines[0]["peer"], lines[0]["sizes"], lines[0]["token"]) == ("0x0102", [1, "0xff"], "[hidden]")
    assert lines[0]["more"] == {"key": "[hidden]"}
    assert "ValueError" in lines[2]["exception"]
    assert secret.hex() not in out.getvalue()
    assert "scapp_secret_token" not in out.getvalue()


@pytest.mark.usefixtures("restored_logging")
def test_human_lines_and_levels_per_logger() -> None:
    out = io.StringIO()
    logs.configure("warning", "human", {"some.part": "debug"}, stream=out, colour=True)
    logging.getLogger("some.part").debug("seen", extra={"n": 1})
    logging.getLogger("some.part").debug("away: no route", extra={"reason": "no route", "peer": "0xabcd"})
    logging.getLogger("other").info("not seen")
    logging.getLogger("other").warning("refused: %s", "\x1b[2J\n00:00:00 forged", extra={"why": "\x9b1m"})
    logs.configure("warning", "auto", stream=out)  # not a terminal: JSON, and the earlier handler is gone
    logging.getLogger("other").warning("twice?")
    first, said, attack, second = out.getvalue().splitlines()
    assert "some.part: seen n=1" in first
    assert "\x1b[" in first
    assert said.endswith("some.part: away: no route peer=0xabcd")  # the reason is not said twice
    assert attack.endswith("other: refused: \\x1b[2J\\x0a00:00:00 forged why=\\x9b1m")
    assert json.loads(second)["message"] == "twice?"


@pytest.mark.parametrize("text", ["1024", "999999999999", "big"])
def test_a_frame_limit_that_no_link_could_use_is_refused(tmp_path: Path, text: str) -> None:
    """Below a handshake's needs, beyond memory, or no number at all; the text names the setting."""
    with pytest.raises(ConfigError, match="frame_bytes_max"):
        load_config(tmp_path, environ={"SCAPP_NODE_FRAME_BYTES_MAX": text}, flags={})


def test_the_frame_limit_comes_from_the_environment(tmp_path: Path) -> None:
    config = load_config(tmp_path, environ={"SCAPP_NODE_FRAME_BYTES_MAX": "8388608"}, flags={})
    assert config.node.frame_bytes_max == 8_388_608


CHAIN = """
[chain]
urls = ["https://user:secret@rpc.example/v3/key?x=1", "ws://127.0.0.1:8545"]
id = 5
adjudicator = "0x00000000000000000000000000000000000000aa"
consensus_app = "0x00000000000000000000000000000000000000bb"
confirmations = 3
"""


def test_a_chain_with_all_that_must_not_be_guessed(tmp_path: Path) -> None:
    """The environment gives numbers with fractions too, and no provider's key is ever shown."""
    config = load(tmp_path, CHAIN, {"SCAPP_CHAIN_POLL_S": "0.5"})
    assert (config.chain.id, config.chain.confirmations, config.chain.poll_s) == (5, 3, 0.5)
    shown = config_as_toml(config)
    assert '"https://rpc.example","ws://127.0.0.1:8545"' in shown
    assert "secret" not in shown
    assert "key?" not in shown


def test_an_address_of_a_contract_is_checked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"chain\.consensus_app"):
        load(tmp_path, CHAIN.replace("bb", "b"))
