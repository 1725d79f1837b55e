"""Locks, child processes and error texts of the embedded server; `embedded.py` puts them together."""

from __future__ import annotations

import fcntl
import os
import subprocess
import threading
from pathlib import Path

import psycopg

from scapp.runtime.database.port import DatabaseError

LOG_BYTES_MAX = 16 * 1024 * 1024


def open_lock(file: Path, operation: int) -> int:
    """A descriptor that holds the lock until it is closed, also by the end of the process."""
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise DatabaseError(f"{file} cannot be opened: {error.strerror}; is the folder another user's?") from error
    try:
        fcntl.flock(descriptor, operation)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def spawn_from_lasting_thread(command: list[str], log: int) -> subprocess.Popen[bytes]:
    """Start a child from a thread that lasts as long as the child: Linux sends the parent-death signal when the
    *thread* that forked ends, and whoever calls us may be a short-lived one."""
    started: list[subprocess.Popen[bytes] | BaseException] = []
    ready = threading.Event()

    def keep() -> None:
        try:
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment(), start_new_session=True
            )
        except BaseException as error:
            started.append(error)
            return
        finally:
            os.close(log)
            if started:
                ready.set()
        started.append(child)
        ready.set()
        child.wait()

    threading.Thread(target=keep, name="scapp-postgres-keeper", daemon=True).start()
    ready.wait()
    child = started[0]
    if isinstance(child, BaseException):
        raise DatabaseError(f"{command[0]} cannot be started: {child}") from child
    return child


def is_going_down(error: psycopg.OperationalError) -> bool:
    """Whether a failed connection says that the server is about to be gone, or was gone just now."""
    signs = ("shutting down", "closed the connection", "Connection refused", "No such file", "administrator command")
    return any(sign in str(error) for sign in signs)


def environment() -> dict[str, str]:
    """What the server needs of our environment; PG* variables and secrets of the node are none of its business."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "TMPDIR") if name in os.environ}
    return kept | {"LC_ALL": "C", "TZ": "UTC"}


def explained(text: str) -> str:
    """The server's own words, with what to do about the usual causes in front."""
    hints = {
        "No space left on device": "the disk is full: free space and start again; nothing is lost. ",
        "could not bind": "the port is taken: choose another, or leave the port out. ",
        "Address already in use": "the port is taken: choose another, or leave the port out. ",
        "Permission denied": "a file or folder is not accessible to the server's user; a directory that was copied has "
        "lost its owners: copy it with them, or delete its pg/, which is derived again. ",
    }
    hint = next((advice for sign, advice in hints.items() if sign in text), "")
    return hint + text.strip()


def open_log(file: Path) -> int:
    """A descriptor that appends to the server's log; a log that has grown too long is put aside first."""
    if file.exists() and file.stat().st_size > LOG_BYTES_MAX:
        file.replace(file.with_name(file.name + ".old"))
    return os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def log_tail(log: Path, lines: int = 8) -> str:
    """The last lines of the server's log, empty when there is none."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""
