"""One process per node directory: a lock that ends with the process that holds it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

from scapp.channels.errors import LocalError
from scapp.runtime.client import LOCK_FILE, NODE_FILE


def lock_home(home: Path) -> Callable[[], None]:
    """Take the directory for this process; returns how to give it back. A file left behind means nothing, for the lock
    ends with its process at the latest. Raises LocalError, naming the process that has it."""
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
