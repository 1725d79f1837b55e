"""The passwords of the keys in a node's or watchtower's directory."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from scapp.channels.errors import LocalError
from scapp.runtime.config import Config
from scapp.runtime.keys_file import CHAIN_KEY, CHANNEL_KEY


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
