"""A node's or watchtower's directory for one process, and the passwords of the keys in it."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Callable
from pathlib import Path

from scapp.channels.errors import LocalError
from scapp.runtime.client import LOCK_FILE, NODE_FILE
from scapp.runtime.config import Config
from scapp.runtime.keys_file import CHAIN_KEY, CHANNEL_KEY


def lock_home(home: Path) -> Callable[[], None]:
    """Take the directory for this process; returns how to give it back. The lock ends with the process at the
    latest, so a stale file means nothing."""
    descriptor = os.open(home / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.read(descriptor, 32).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise LocalError(
            f"a node or watchtower runs in {home} already (process {holder or 'unknown'}); stop it first"
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    # What an earlier process left behind when it was killed.
    (home / NODE_FILE).unlink(missing_ok=True)
    return lambda: os.close(descriptor)


def ask_password(config: Config, role: str = CHANNEL_KEY) -> str:
    """A keystore's password: from the configured file, the environment, or the terminal. Raises LocalError."""
    file, section, variable, name = {
        CHANNEL_KEY: (config.node.key_password_file, "node", "SCAPP_KEY_PASSWORD", "channel key"),
        CHAIN_KEY: (config.chain.key_password_file, "chain", "SCAPP_CHAIN_KEY_PASSWORD", "chain key"),
    }[role]
    if file:
        path = Path(file).expanduser()
        try:
            return path.read_text("utf-8").rstrip("\n")
        except OSError as error:
            raise LocalError(f"{section}.key_password_file {path}: {error.strerror}") from None
    given = os.environ.get(variable)
    if given is not None:
        return given
    if sys.stdin.isatty():
        import getpass

        return getpass.getpass(f"Password of the {name}: ")
    raise LocalError(f"the {name} is encrypted: set {section}.key_password_file or {variable}")
