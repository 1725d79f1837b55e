"""What a node is told: defaults, a TOML file, the environment and flags, each stronger than the one before.

`compose.py` builds a node from the result. Every setting is `section.key`; its environment variable is
`SCAPP_SECTION_KEY`. Unknown names are refused with the closest known one, wherever they come from.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from scapp.channels.abi import InvalidValue
from scapp.channels.addresses import parse_address
from scapp.channels.chain.rpc_link import shown_endpoint
from scapp.channels.errors import LocalError
from scapp.channels.types import Address
from scapp.runtime.ledger_settings import HubSettings, LedgerSettings, PaymentSettings

CONFIG_FILE = "scapp.toml"
_ENV_ALIASES = {"SCAPP_DATABASE": ("database", "backend")}


class ConfigError(LocalError):
    """A setting is unknown or its value is not allowed; the text names it, where it came from and what is allowed."""


class NodeSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where other nodes reach this one, the longest frame (both ends of a link need the same; what an app's signed
    limits ask for must fit), and how its key is unlocked. Tables that channels keep in memory for signing are freed, of
    those idle for longest, beyond a number of channels and a sum."""

    listen: str = "127.0.0.1:7420"
    frame_bytes_max: Annotated[int, msgspec.Meta(ge=65_536, le=268_435_456)] = 4_194_304
    key_password_file: str = ""
    channels_in_memory_max: Annotated[int, msgspec.Meta(ge=1)] = 1_024
    memory_mib_max: Annotated[int, msgspec.Meta(ge=1)] = 512


class ApiSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The local HTTP API. `hosts`: further Host names it answers to; `origins`: web pages that may call it."""

    listen: str = "127.0.0.1:7421"
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    body_bytes_max: int = 33_554_432


class DatabaseSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where derived tables live. `url` is read when `backend` is "url" (and implies it when set). Tables that channels
    keep in memory for deriving are freed, of those idle for longest, beyond a number of channels and a sum."""

    backend: Literal["embedded", "url", "pglite", "none"] = "embedded"
    url: str = ""
    channels_in_memory_max: Annotated[int, msgspec.Meta(ge=1)] = 1_024
    memory_mib_max: Annotated[int, msgspec.Meta(ge=1)] = 512


class PolicySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which proposed channels are accepted without asking (`allow` is read by "allow-list")."""

    accept: Literal["none", "known-deployments", "allow-list"] = "known-deployments"
    allow: tuple[str, ...] = ()


class ChainSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The chain that funds channels; without `urls` the node has none, and its channels are unfunded. `id`,
    `adjudicator`, `consensus_app` and `confirmations` must then be given: a wrong guess costs money (ADR 0012). Without
    the other apps this node opens and forwards no payment channels, no virtual app channels, no payments by invoice."""

    urls: tuple[str, ...] = ()
    id: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 0
    adjudicator: str = ""
    consensus_app: str = ""
    virtual_payment_app: str = ""
    two_party_app: str = ""
    hash_lock_app: str = ""
    confirmations: Annotated[int, msgspec.Meta(ge=-1, le=10_000)] = -1  # -1: not given
    start_block: Annotated[int, msgspec.Meta(ge=0)] = 0
    poll_s: Annotated[float, msgspec.Meta(gt=0, le=600)] = 4.0
    fee_max_gwei: Annotated[float, msgspec.Meta(gt=0)] = 200.0
    key_password_file: str = ""


class FundingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which of those channels are accepted at once although this node has to deposit: "limits" are those whose deposits
    stay within `deposit_max` per channel and, together with all open channels with the same participant, within
    `exposure_max`. Both are amounts by asset (`coin`, or a token's address), 0 where none is named. `pay_to`: accounts
    that this node may be paid to, besides its channel address and its chain account. `successors`: whether channels are
    accepted that take over from one of this node's (`channel resize`), other than those that its operator asked for."""

    accept: Literal["ask", "limits"] = "ask"
    deposit_max: dict[str, str] = {}
    exposure_max: dict[str, str] = {}
    pay_to: tuple[str, ...] = ()
    successors: Literal["ask", "accept"] = "ask"


class DisputeSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How funded channels are left, answered and ended; all in seconds of the chain's clock, as in
    `scapp.channels.channel.terms`. `watchtowers`: `http(s)://TOKEN@host:port` of those that get dispute packages;
    `redemptions`: of payment channels to this node too, with vouchers redeemed (docs/reference/watchtower.md)."""

    challenge_duration_min_s: Annotated[int, msgspec.Meta(ge=1)] = 3_600
    challenge_duration_max_s: Annotated[int, msgspec.Meta(ge=1, lt=2**32)] = 2_592_000
    margin_s: Annotated[int, msgspec.Meta(ge=0)] = 600
    conclude_delay_s: Annotated[int, msgspec.Meta(ge=0)] = 60
    funding_timeout_s: Annotated[int, msgspec.Meta(ge=0)] = 3_600
    silence_timeout_s: Annotated[int, msgspec.Meta(ge=0)] = 0
    watchtowers: tuple[str, ...] = ()
    redemptions: bool = False


class LogSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the process prints on stderr. `levels`: logger name to level, over `level`."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "human"] = "auto"
    levels: dict[str, Literal["debug", "info", "warning", "error"]] = {}


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings. `peers`: name to `0xADDRESS@host:port`. `web`: name of a page to the folder of its files."""

    node: NodeSettings = NodeSettings()
    api: ApiSettings = ApiSettings()
    database: DatabaseSettings = DatabaseSettings()
    policy: PolicySettings = PolicySettings()
    chain: ChainSettings = ChainSettings()
    funding: FundingSettings = FundingSettings()
    disputes: DisputeSettings = DisputeSettings()
    ledgers: LedgerSettings = LedgerSettings()
    payments: PaymentSettings = PaymentSettings()
    hub: HubSettings = HubSettings()
    log: LogSettings = LogSettings()
    peers: dict[str, str] = {}
    web: dict[str, str] = {}


_TABLES = {"peers": "name = '0xADDRESS@host:port'", "web": "name = 'FOLDER'"}
"""Sections whose keys are the operator's own."""
_PAGE_NAME = re.compile(r"(?!scapp$)[a-z0-9][a-z0-9-]{0,47}")
_SECTIONS: dict[str, type[msgspec.Struct]] = {
    "node": NodeSettings,
    "api": ApiSettings,
    "database": DatabaseSettings,
    "policy": PolicySettings,
    "chain": ChainSettings,
    "funding": FundingSettings,
    "disputes": DisputeSettings,
    "ledgers": LedgerSettings,
    "payments": PaymentSettings,
    "hub": HubSettings,
    "log": LogSettings,
}


def known_settings() -> list[str]:
    """Every `section.key`, in the order of the reference."""
    return [f"{section}.{field}" for section, kind in _SECTIONS.items() for field in kind.__struct_fields__]


def load_config(
    home: Path,
    *,
    file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> Config:
    """Merge defaults < file (`file`, else `home/scapp.toml` when there) < environment < flags (`section.key`: value).

    Raises ConfigError."""
    environ = os.environ if environ is None else environ
    tree: dict[str, Any] = {}
    named = file or (Path(environ["SCAPP_CONFIG"]) if environ.get("SCAPP_CONFIG") else None)
    path = named or home / CONFIG_FILE
    if named is not None or path.exists():
        _merge(tree, _read_file(path), str(path))
    for (section, key), (name, text) in _from_environment(environ).items():
        _set(tree, section, key, text, name)
    for dotted, value in (flags or {}).items():
        section, key = _split(dotted, "the command line")
        _set(tree, section, key, value, "the command line")
    return _build(tree)


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the configuration file {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error


def _merge(tree: dict[str, Any], found: Mapping[str, Any], origin: str) -> None:
    for section, values in found.items():
        if section in _TABLES:
            if not isinstance(values, dict):
                raise ConfigError(f"{origin}: `{section}` is {values!r}; allowed is a table of {_TABLES[section]}")
            tree[section] = dict(values)
            continue
        if section not in _SECTIONS:
            raise ConfigError(f"{origin}: unknown section [{section}]{_closest(section, [*_SECTIONS, *_TABLES])}")
        if not isinstance(values, dict):
            raise ConfigError(f"{origin}: `{section}` is {values!r}; allowed is a section [{section}]")
        for key, value in values.items():
            _set(tree, section, key, value, origin)


def _from_environment(environ: Mapping[str, str]) -> dict[tuple[str, str], tuple[str, str]]:
    by_name = {f"SCAPP_{name.replace('.', '_').upper()}": _pair(name) for name in known_settings()}
    by_name.update(_ENV_ALIASES)
    found = {}
    for name, text in sorted(environ.items()):
        if name in by_name:
            if text:
                found[by_name[name]] = (name, text)
        elif _is_meant(name, list(by_name)):
            raise ConfigError(f"unknown environment variable {name}{_closest(name, list(by_name))}")
    return found


def _is_meant(name: str, known: list[str]) -> bool:
    """Whether an unknown variable must be a misspelt setting; other SCAPP_ variables are clients' and tests'."""
    sections = tuple(f"SCAPP_{section.upper()}_" for section in _SECTIONS)
    return name.startswith(sections) or bool(difflib.get_close_matches(name, known, n=1, cutoff=0.88))


def _pair(dotted: str) -> tuple[str, str]:
    section, key = dotted.split(".")
    return section, key


def _split(dotted: str, origin: str) -> tuple[str, str]:
    if dotted not in known_settings():
        raise ConfigError(f"{origin}: unknown setting {dotted!r}{_closest(dotted, known_settings())}")
    return _pair(dotted)


def _set(tree: dict[str, Any], section: str, key: str, value: Any, origin: str) -> None:
    fields = _SECTIONS[section].__struct_fields__
    if key not in fields:
        raise ConfigError(f"{origin}: unknown key `{key}` in [{section}]{_closest(key, list(fields))}")
    kind = msgspec.inspect.type_info(_SECTIONS[section])
    assert isinstance(kind, msgspec.inspect.StructType)
    declared = next(f.type for f in kind.fields if f.name == key)
    if isinstance(value, str):
        value = _from_text(value, declared)
    try:
        checked = msgspec.convert({key: value}, _SECTIONS[section])
    except msgspec.ValidationError as error:
        reason = str(error).split(" - at `")[0]
        raise ConfigError(
            f"{origin}: {section}.{key} = {value!r} is not allowed: {reason}{_allowed(declared)}"
        ) from None
    tree.setdefault(section, {})[key] = getattr(checked, key)


def _from_text(value: str, declared: msgspec.inspect.Type) -> Any:
    """Environment and flags are text: lists are comma-separated, tables `name=value,name=value`."""
    if isinstance(declared, msgspec.inspect.BoolType):
        return {"true": True, "false": False}.get(value.lower(), value)
    if isinstance(declared, msgspec.inspect.IntType):
        return int(value) if value.lstrip("-").isdigit() else value
    if isinstance(declared, msgspec.inspect.FloatType):
        try:
            return float(value)
        except ValueError:
            return value
    if isinstance(declared, msgspec.inspect.VarTupleType):
        return [part.strip() for part in value.split(",") if part.strip()]
    if isinstance(declared, msgspec.inspect.DictType):
        return dict(part.strip().split("=", 1) for part in value.split(",") if "=" in part)
    return value


def _allowed(declared: msgspec.inspect.Type) -> str:
    if isinstance(declared, msgspec.inspect.LiteralType):
        return f"; allowed are {', '.join(sorted(map(str, declared.values)))}"
    return ""


def _closest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(known)}"


def _build(tree: dict[str, Any]) -> Config:
    parts: dict[str, Any] = {section: kind(**tree.get(section, {})) for section, kind in _SECTIONS.items()}
    database: DatabaseSettings = parts["database"]
    if database.url and "backend" not in tree.get("database", {}):
        parts["database"] = database = DatabaseSettings(backend="url", url=database.url)
    if database.backend == "url" and not database.url:
        raise ConfigError("database.backend is 'url' but database.url is empty; set SCAPP_DATABASE_URL=postgresql://…")
    _check_chain(parts["chain"])
    for url in parts["disputes"].watchtowers:
        if not url.startswith(("http://", "https://")) or not urllib.parse.urlsplit(url).username:
            raise ConfigError(f"disputes.watchtowers: {shown_endpoint(url)!r} is not http(s)://TOKEN@host:port")
    for name in ("node", "api"):
        parse_listen(parts[name].listen, f"{name}.listen")
    for name, text in tree.get("peers", {}).items():
        parse_peer(text, f"peers.{name}")
    for name, text in tree.get("web", {}).items():
        if not _PAGE_NAME.fullmatch(name) or not isinstance(text, str) or not text:
            raise ConfigError(
                f"web.{name} = {text!r} is not allowed: a name of a-z, 0-9 and -, not 'scapp', stands for a folder"
            )
    return Config(**parts, **{section: tree.get(section, {}) for section in _TABLES})


def _check_chain(chain: ChainSettings) -> None:
    """With `urls`, everything that must not be guessed is there."""
    if not chain.urls:
        return
    for url in chain.urls:
        if not url.startswith(("http://", "https://", "ws://", "wss://")):
            raise ConfigError(f"chain.urls: {shown_endpoint(url)!r} is not an http, https, ws or wss URL")
    missing = [name for name in ("id", "adjudicator", "consensus_app") if not getattr(chain, name)]
    missing += ["confirmations"] if chain.confirmations < 0 else []
    if missing:
        needed = ", ".join(f"chain.{name}" for name in missing)
        raise ConfigError(f"chain.urls is set but {needed} {'are' if len(missing) > 1 else 'is'} not; none is guessed")
    for name in ("adjudicator", "consensus_app", "virtual_payment_app", "two_party_app", "hash_lock_app"):
        if getattr(chain, name):
            read_address(getattr(chain, name), f"chain.{name}")


def parse_listen(text: str, name: str) -> tuple[str, int]:
    """`host:port` (or `[v6]:port`) to its parts; port 0 lets the system choose."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65_535:
        raise ConfigError(f"{name} = {text!r} is not host:port with a port from 0 to 65535")
    return host.strip("[]"), int(port)


def read_address(text: str, name: str) -> Address:
    """An address as people write it: `0x` may be missing; upper and lower case mixed must carry a right checksum."""
    try:
        return parse_address(f"0x{text}" if len(text) == 40 else text)
    except InvalidValue as error:
        raise ConfigError(f"{name}: {error}") from None


def parse_peer(text: str, name: str) -> tuple[Address, str]:
    """`0xADDRESS@host:port` to (20 bytes, "host:port")."""
    address, at, endpoint = text.partition("@") if isinstance(text, str) else ("", "", "")
    if not at:
        raise ConfigError(f"{name} = {text!r} is not 0xADDRESS@host:port (an address has 40 hex digits)")
    parse_listen(endpoint, name)
    return read_address(address, name), endpoint


def config_as_toml(config: Config) -> str:
    """The settings as a file that `load_config` reads back; a password inside database.url is hidden."""
    lines: list[str] = []
    for section in _SECTIONS:
        lines.append(f"[{section}]")
        for key, value in _shown(section, getattr(config, section)).items():
            lines.append(f"{key} = {_toml(value)}")
        lines.append("")
    for section in _TABLES:
        if found := getattr(config, section):
            lines += [f"[{section}]", *(f"{_toml(name)} = {_toml(text)}" for name, text in found.items()), ""]
    return "\n".join(lines)


def config_as_document(config: Config) -> dict[str, Any]:
    """The settings as plain values, fit for display as `config_as_toml` is."""
    return {section: _shown(section, getattr(config, section)) for section in _SECTIONS} | {"peers": config.peers}


def _shown(section: str, settings: msgspec.Struct) -> dict[str, Any]:
    values: dict[str, Any] = msgspec.to_builtins(settings)
    if section == "database":
        values["url"] = hide_password(values["url"])
    for name in {"chain": ("urls",), "disputes": ("watchtowers",)}.get(section, ()):
        values[name] = [shown_endpoint(url) for url in values[name]]
    return values


def hide_password(url: str) -> str:
    """A database URL fit for display."""
    scheme, separator, rest = url.partition("://")
    user, at, host = rest.rpartition("@")
    return f"{scheme}{separator}{user.partition(':')[0]}:***@{host}" if at and ":" in user else url


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_toml(k)} = {_toml(v)}" for k, v in value.items()) + " }" if value else "{}"
    return msgspec.json.encode(value).decode()
