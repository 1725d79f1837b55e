"""A node's keys on disk, and private files in general; `scapp keys` and `compose.py` use it.

A node has a channel key and, where channels hold money, a chain key whose account pays for transactions: what one signs
never needs the other. A key is a file of mode 0600: `key` holds 32 bytes as hexadecimal, `key.json` an encrypted
Ethereum keystore; the chain key's files are `chain-key` and `chain-key.json`.
Files that others may read are refused. `eth_account` is imported only to read or write a keystore.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path

import msgspec

from scapp.channels.crypto import keccak256
from scapp.channels.errors import LocalError
from scapp.channels.ethereum_packages import eth_account
from scapp.channels.types import Address

CHANNEL_KEY, CHAIN_KEY = "key", "chain-key"
_FLAGS = {CHANNEL_KEY: "", CHAIN_KEY: " --chain"}
LOG = "log"  # the event log, which is of one channel key
_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


class KeyInfo(msgspec.Struct, frozen=True):
    """A key file; `address` is the Ethereum address of the key."""

    path: Path
    kind: str  # "raw" | "keystore"
    address: Address


def check_private(path: Path) -> None:
    """Raises LocalError when group or others may read or write the file."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise LocalError(f"{path} has mode {mode:04o}: others can read it. Run `chmod 600 {path}`")


def write_private(path: Path, text: str, *, replace: bool = False) -> None:
    """Write a file of mode 0600 durably and atomically. Raises LocalError when it exists and `replace` is not set."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            temporary.replace(path)
        else:
            os.link(temporary, path)  # fails when it exists, where a rename would overwrite a key
    except FileExistsError:
        raise LocalError(f"{path} exists already; nothing was written") from None
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def address_of(secret: bytes) -> Address:
    """The Ethereum address of a 32-byte private key."""
    from coincurve import PrivateKey

    public = PrivateKey(secret).public_key.format(compressed=False)
    return Address(keccak256(public[1:])[12:])


def new_key(home: Path, password: str | None = None, role: str = CHANNEL_KEY) -> KeyInfo:
    """Create the node's key of that role. Raises LocalError when the directory has one: a key is never overwritten."""
    found = find_key(home, role)
    if found is not None:
        what = "has a key already" if role == CHANNEL_KEY else "has a chain key already"
        raise LocalError(f"{home} {what} ({found.name}); a node has exactly one, choose another --home")
    if role == CHANNEL_KEY and (home / LOG).exists():
        raise LocalError(f"{home} has a log of another key: put that one to {home / role}, or choose another --home")
    secret = _fresh_secret()
    if password is None:
        path, text = home / role, "0x" + secret.hex() + "\n"
    else:
        path, text = home / f"{role}.json", json.dumps(_encrypt(secret, password)) + "\n"
    write_private(path, text)
    return KeyInfo(path, "raw" if password is None else "keystore", address_of(secret))


def _fresh_secret() -> bytes:
    while True:
        secret = secrets.token_bytes(32)
        if 0 < int.from_bytes(secret) < _ORDER:
            return secret


def find_key(home: Path, role: str = CHANNEL_KEY) -> Path | None:
    """The file of that key in a node directory, if there is one."""
    for name in (role, f"{role}.json"):
        if (home / name).exists():
            return home / name
    return None


def key_info(home: Path, role: str = CHANNEL_KEY) -> KeyInfo:
    """What can be said of the key without a password. Raises LocalError."""
    path = require_key(home, role)
    check_private(path)
    if path.name == role:
        return KeyInfo(path, "raw", address_of(_read_raw(path)))
    return KeyInfo(path, "keystore", Address(bytes.fromhex(str(_read_keystore(path)["address"]).removeprefix("0x"))))


def load_key(home: Path, password: Callable[[], str], role: str = CHANNEL_KEY) -> bytes:
    """The 32-byte private key; `password` is asked only for a keystore. Raises LocalError."""
    path = require_key(home, role)
    check_private(path)
    if path.name == role:
        return _read_raw(path)
    try:
        return bytes(eth_account().Account.decrypt(_read_keystore(path), password()))
    except ValueError as error:
        raise LocalError(f"{path} cannot be unlocked: {error}. Is the password right?") from None


def require_key(home: Path, role: str = CHANNEL_KEY) -> Path:
    """The file of that key in a node directory. Raises LocalError when there is none, or no directory."""
    path = find_key(home, role)
    if path is None:
        what = "key" if role == CHANNEL_KEY else "chain key"
        if role == CHANNEL_KEY and (home / LOG).exists():
            raise LocalError(f"no key in {home}, whose log was written under one; put that one to {home / role}")
        raise LocalError(f"no {what} in {home}; create one with `scapp -C {home} keys new{_FLAGS[role]}`")
    return path


def _read_raw(path: Path) -> bytes:
    text = path.read_text("utf-8").strip()
    try:
        secret = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        secret = b""
    if len(secret) != 32 or not 0 < int.from_bytes(secret) < _ORDER:
        raise LocalError(f"{path} is not a key: allowed are 64 hexadecimal digits of a secp256k1 key")
    return secret


def _read_keystore(path: Path) -> dict[str, object]:
    try:
        document = json.loads(path.read_text("utf-8"))
        bytes.fromhex(str(document["address"]).removeprefix("0x"))
    except (ValueError, KeyError, TypeError) as error:
        raise LocalError(f"{path} is not an Ethereum keystore: {error!r}") from None
    assert isinstance(document, dict)
    return document


def _encrypt(secret: bytes, password: str) -> dict[str, object]:
    return dict(eth_account().Account.encrypt(secret, password))
