"""How much of the machine a node takes: its log on the disk, what is free there, its memory."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def log_bytes(home: Path) -> int | None:
    """The files of the event log in a node's directory; 0 where there is none, None where the system does not tell."""
    total = 0
    try:
        with contextlib.suppress(FileNotFoundError), os.scandir(home / "log") as files:
            for file in files:
                with contextlib.suppress(FileNotFoundError):  # RocksDB has just put it away
                    total += file.stat().st_size
    except OSError:
        return None
    return total


def disk_free_bytes(home: Path) -> int | None:
    """What the user of this process may still write on the disk of a node's directory; None where the system does not
    tell."""
    try:
        return shutil.disk_usage(home).free
    except OSError:
        return None


def memory_bytes() -> int | None:
    """Resident memory of this process; None where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * _PAGE_BYTES
    except (OSError, IndexError, ValueError):
        return None
