"""Where an embedded server may live and under which user, its locks, its log, and what is said when that fails."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from scapp.runtime.database import places, server_process
from scapp.runtime.database.binaries import find_binaries
from scapp.runtime.database.places import PidFile, Places, choose_places, is_running, read_pid_file
from scapp.runtime.database.port import DatabaseError
from tests.support.folders import open_folder

NOBODY_KNOWN = 54_321
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root hands the server to another user")


@pytest.fixture
def folder() -> Iterator[Path]:
    base = open_folder("scapp-places-")
    yield base
    shutil.rmtree(base)


def test_a_user_who_is_not_root_keeps_everything_in_place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing moves, and the binaries are used where they are."""
    monkeypatch.setattr(os, "geteuid", lambda: 1_000)
    chosen = choose_places(folder)
    assert (chosen.home, chosen.uid, chosen.gid, chosen.moved_because) == (folder, -1, -1, None)
    binaries = find_binaries()
    assert chosen.usable(binaries) is binaries


def test_a_cluster_of_somebody_else_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "cluster").mkdir()
    other = os.geteuid() + NOBODY_KNOWN
    monkeypatch.setattr(os, "geteuid", lambda: other)
    with pytest.raises(DatabaseError, match=rf"cluster belongs to user \w+, and this is {other}: run as the user who"):
        choose_places(folder)


def test_root_without_anybody_to_run_the_server_is_told_what_to_do(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(places, "_SERVER_USERS", ("no-such-user",))
    with pytest.raises(DatabaseError, match="none of the users no-such-user exists"):
        choose_places(folder)


@as_root
def test_what_lies_behind_a_closed_folder_goes_to_the_systems_place(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless it is temporary; and a folder there that is not root's is not touched."""
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    system = folder / "system"
    monkeypatch.setattr(places, "_SYSTEM_HOME", system)
    monkeypatch.setattr(places.tempfile, "gettempdir", lambda: str(folder / "temporary"))
    chosen = choose_places(closed / "pg")
    assert chosen.home.parent == system
    assert str(closed) in (chosen.moved_because or "")
    assert choose_places(closed / "pg") == chosen
    os.chown(chosen.home, NOBODY_KNOWN, NOBODY_KNOWN)
    with pytest.raises(DatabaseError, match=f"belongs to user {NOBODY_KNOWN}, not to root: remove it"):
        choose_places(closed / "pg")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (None, None),
        ("", None),
        ("no number\n", None),
        ("4711\n/data\n", PidFile(4711, "")),
        ("4711\na\nb\nc\nd\ne\nf\nready   \n", PidFile(4711, "ready")),
    ],
    ids=["missing", "empty", "garbage", "half written", "whole"],
)
def test_a_pid_file_may_be_in_any_condition(folder: Path, text: str | None, found: PidFile | None) -> None:
    """The server may be writing it this moment, or may have died while it did."""
    (folder / "cluster").mkdir()
    if text is not None:
        (folder / "cluster" / "postmaster.pid").write_text(text)
    assert read_pid_file(Places(folder, folder)) == found


def test_a_stranger_with_the_servers_number_is_not_the_server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux tells by the working directory; elsewhere only whether there is such a process."""
    here = Places(folder, folder)
    gone = 2**22 + 1  # above the largest process number
    assert not is_running(gone, here)
    if sys.platform == "linux":
        assert not is_running(os.getpid(), here)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert is_running(os.getpid(), here)
    assert not is_running(gone, here)

    def forbidden(pid: int, number: int) -> None:
        raise PermissionError(errno.EPERM, "not yours")

    monkeypatch.setattr(os, "kill", forbidden)
    assert is_running(1, here)


def test_a_lock_that_cannot_be_had_leaves_no_descriptor_open(folder: Path) -> None:
    with pytest.raises(DatabaseError, match="missing/lock cannot be opened: No such file"):
        server_process.open_lock(folder / "missing" / "lock", fcntl.LOCK_EX)
    held = server_process.open_lock(folder / "lock", fcntl.LOCK_EX)
    before = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0
    with pytest.raises(BlockingIOError):
        server_process.open_lock(folder / "lock", fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert (len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0) == before
    os.close(held)
    os.close(server_process.open_lock(folder / "lock", fcntl.LOCK_EX | fcntl.LOCK_NB))


def test_a_program_that_does_not_start_is_named(folder: Path) -> None:
    """And the log's descriptor is closed, which would otherwise stay with the node."""
    log = server_process.open_log(folder / "log")
    with pytest.raises(DatabaseError, match="/no/such/postgres cannot be started: "):
        server_process.spawn_from_lasting_thread(["/no/such/postgres"], log)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(log)


def test_a_child_outlives_the_call_that_started_it(folder: Path) -> None:
    log = server_process.open_log(folder / "log")
    child = server_process.spawn_from_lasting_thread([sys.executable, "-c", "print('here')"], log)
    assert child.wait(20) == 0
    assert server_process.log_tail(folder / "log") == "here"


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("FATAL: could not write: No space left on device", "the disk is full"),
        ('could not bind IPv4 address "127.0.0.1"', "the port is taken"),
        ("could not open file: Permission denied", "not accessible to the server's user"),
    ],
)
def test_the_servers_words_come_with_advice(said: str, advice: str) -> None:
    """The server's own text stays."""
    assert server_process.explained(said).startswith(advice) or advice in server_process.explained(said)
    assert said in server_process.explained(said)
    assert server_process.explained("  strange  ") == "strange"


def test_a_log_that_has_grown_too_long_is_put_aside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = folder / "log"
    assert server_process.log_tail(file) == ""
    file.write_text("old\n" * 20)
    monkeypatch.setattr(server_process, "LOG_BYTES_MAX", 10)
    os.close(server_process.open_log(file))
    assert (folder / "log.old").read_text().startswith("old")
    assert server_process.log_tail(file) == ""
    assert server_process.log_tail(folder / "log.old", lines=2) == "old\nold"


@pytest.mark.parametrize("said", ["the database system is shutting down", "connection refused", "role does not exist"])
def test_only_a_server_that_is_going_is_waited_for(said: str) -> None:
    """Other refusals are told at once."""
    expected = "shutting" in said
    assert server_process.is_going_down(psycopg.OperationalError(said)) is expected


def test_the_server_learns_nothing_of_the_nodes_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCAPP_KEY_PASSWORD", "secret")
    monkeypatch.setenv("PGHOST", "elsewhere")
    given = server_process.environment()
    assert not {"SCAPP_KEY_PASSWORD", "PGHOST"} & set(given)
    assert given["LC_ALL"] == "C"
