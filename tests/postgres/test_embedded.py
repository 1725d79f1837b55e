"""The life of the embedded server: first start, joining, being killed in every way, and saying what is wrong."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from scapp.runtime.database.binaries import Binaries, copied_binaries, find_binaries, find_system_binaries, reachable
from scapp.runtime.database.embedded import EmbeddedBackend
from scapp.runtime.database.open import open_backend
from scapp.runtime.database.places import choose_places
from scapp.runtime.database.port import DatabaseError
from scapp.runtime.database.server import ServerBackend
from tests.support.folders import open_folder
from tests.support.postgres import rows_of

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root must hand the server to another user")


@pytest.fixture(scope="module")
def template() -> Iterator[Path]:
    """The folder of a server that has run once, to be copied."""
    base = open_folder("scapp-template-")
    backend = EmbeddedBackend(base / "pg")
    backend.start()
    backend.stop()
    yield base / "pg"
    shutil.rmtree(base)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where a test makes its server from nothing."""
    base = open_folder("scapp-life-")
    yield base / "pg"
    EmbeddedBackend(base / "pg").remove()
    shutil.rmtree(base)


@pytest.fixture
def backend(folder: Path, template: Path) -> Iterator[EmbeddedBackend]:
    """A running server in `folder`, copied rather than initialised: that is ten times faster."""
    subprocess.run(["cp", "-a", template, folder], check=True)
    started = EmbeddedBackend(folder)
    started.start()
    yield started
    started.stop()


def write_one(backend: EmbeddedBackend) -> None:
    with backend.connect() as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (a int)")
        connection.execute("INSERT INTO kept VALUES (1)")
        connection.execute("CHECKPOINT")


def count(backend: EmbeddedBackend) -> int:
    with backend.connect() as connection:
        return int(rows_of(connection, "SELECT count(*) FROM kept")[0][0])


def has_ended(process: psutil.Process) -> bool:
    """Whether it runs no more; its parent, which may be this process, need not have noticed yet."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def kill(backend: EmbeddedBackend) -> None:
    """End the postmaster alone and at once; its children find out by themselves."""
    pid = backend.pid
    assert pid is not None
    postmaster = psutil.Process(pid)
    os.kill(pid, signal.SIGKILL)
    postmaster.wait(10)


def test_stop_ends_the_server_and_start_finds_the_data_again(backend: EmbeddedBackend) -> None:
    write_one(backend)
    process = psutil.Process(backend.pid)
    backend.stop()
    backend.stop()
    assert has_ended(process)
    backend.start()
    backend.start()
    assert count(backend) == 1


def test_the_server_does_not_run_as_root_and_its_files_are_closed(backend: EmbeddedBackend, folder: Path) -> None:
    assert psutil.Process(backend.pid).uids().effective != 0
    for file in (folder / "pgpass", folder / "server.log", folder / "lock"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for closed in (folder / "cluster", folder / "run"):
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    assert stat.S_IMODE(folder.parent.stat().st_mode) & 0o022 == 0


def test_a_wrong_password_is_refused(backend: EmbeddedBackend) -> None:
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(backend.dsn, passfile="/nonexistent", password="guess")


def test_it_listens_on_no_network_port(backend: EmbeddedBackend) -> None:
    listening = [c for c in psutil.Process(backend.pid).net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert listening == []


def test_connect_brings_a_killed_server_back(backend: EmbeddedBackend) -> None:
    write_one(backend)
    for _ in range(3):
        kill(backend)
        assert count(backend) == 1


def test_a_stale_pid_file_of_a_stranger_is_no_obstacle(backend: EmbeddedBackend, folder: Path) -> None:
    """After a reboot or in a container the number in the file may be anybody's, here our own."""
    write_one(backend)
    pid_file = folder / "cluster" / "postmaster.pid"
    text = pid_file.read_text()
    backend.stop()
    pid_file.write_text(text.replace(text.split("\n")[0], str(os.getpid()), 1))
    (folder / "run" / ".s.PGSQL.5432").touch()
    (folder / "run" / ".s.PGSQL.5432.lock").write_text(f"{os.getpid()}\n")
    backend.start()
    assert count(backend) == 1


def test_an_interrupted_initialisation_is_done_again(folder: Path) -> None:
    half = folder / "cluster.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    (folder / "pgpass.new").write_text("half")
    backend = EmbeddedBackend(folder)
    backend.start()
    write_one(backend)
    assert count(backend) == 1
    assert not half.exists()


def test_a_second_backend_joins_and_the_last_to_leave_stops_the_server(backend: EmbeddedBackend, folder: Path) -> None:
    second = EmbeddedBackend(folder)
    second.start()
    assert second.pid == backend.pid
    process = psutil.Process(backend.pid)
    backend.stop()
    assert process.is_running()
    write_one(second)
    assert count(second) == 1
    second.stop()
    assert has_ended(process)


_CHILD = """
import sys
from pathlib import Path
from scapp.runtime.database.embedded import EmbeddedBackend
backend = EmbeddedBackend(Path(sys.argv[1]))
backend.start()
with backend.connect() as connection:
    connection.execute("CREATE TABLE IF NOT EXISTS kept (a int)")
    connection.execute("INSERT INTO kept VALUES (1)")
    connection.execute("CHECKPOINT")
print(backend.pid, flush=True)
sys.stdin.read()
backend.stop()
"""


def child(folder: Path) -> tuple[subprocess.Popen[str], int]:
    """Another process with the same database; ends its part when its standard input does."""
    process = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    return process, server_of(process)


def server_of(process: subprocess.Popen[str]) -> int:
    """Process id of the server that the child reports."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        end(process)
        pytest.fail(f"the child ended with status {process.returncode}")
    return int(line)


def end(process: subprocess.Popen[str]) -> None:
    process.communicate(timeout=30)


def interpreter_for(user: pwd.struct_passwd) -> str:
    """This interpreter, or the system's of the same version, whichever that user may run."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for candidate in (os.path.realpath(sys.executable), shutil.which(version, path="/usr/bin:/usr/local/bin")):
        if candidate and reachable(Path(candidate), user.pw_uid, user.pw_gid) is None:
            return candidate
    pytest.skip(f"user {user.pw_name} may run no {version} here")


@pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal is Linux's")
def test_a_killed_parent_leaves_no_server_behind(folder: Path) -> None:
    process, pid = child(folder)
    server = psutil.Process(pid)
    process.kill()
    end(process)
    server.wait(30)
    backend = EmbeddedBackend(folder)
    backend.start()
    assert count(backend) == 1
    backend.stop()


def test_a_start_beside_a_server_that_is_going_down_waits_for_it(folder: Path) -> None:
    process, pid = child(folder)
    server = psutil.Process(pid)
    process.kill()  # its server gets the signal now; no waiting for that here
    backend = EmbeddedBackend(folder)
    backend.start()
    end(process)
    server.wait(30)
    assert count(backend) == 1
    backend.stop()


def test_one_who_joined_goes_on_when_the_starter_is_killed(folder: Path) -> None:
    process, pid = child(folder)
    backend = EmbeddedBackend(folder)
    backend.start()
    assert backend.pid == pid
    process.kill()
    end(process)
    psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=30)
    assert count(backend) == 1
    assert backend.pid != pid
    backend.stop()


def test_processes_starting_at_once_share_one_server(folder: Path) -> None:
    started = [child(folder) for _ in range(3)]
    try:
        assert len({pid for _, pid in started}) == 1
    finally:
        for process, _ in started:
            end(process)


def test_long_paths_work(folder: Path) -> None:
    """A socket path has at most 107 bytes; longer folders get a short one elsewhere."""
    deep = EmbeddedBackend(folder / ("long" * 20) / ("longer" * 10))
    deep.start()
    write_one(deep)
    assert count(deep) == 1
    deep.remove()


@as_root
def test_a_folder_behind_a_closed_one_is_left_closed(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is temporary is moved to a place that is temporary too."""
    monkeypatch.setattr(tempfile, "tempdir", str(folder.parent))
    closed = folder / "closed"
    closed.mkdir(parents=True, mode=0o700)
    backend = EmbeddedBackend(closed / "pg")
    backend.start()
    write_one(backend)
    assert count(backend) == 1
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    assert f"may not enter {closed}" in caplog.text
    moved = choose_places(closed / "pg").home
    assert moved.parent == folder.parent / "scapp-postgres"
    backend.remove()
    assert not moved.exists()


@as_root
def test_binaries_behind_a_closed_folder_are_copied_once(folder: Path) -> None:
    user = pwd.getpwnam("nobody")
    found = find_binaries()
    copied = copied_binaries(found, folder)
    assert copied_binaries(found, folder) == copied
    assert reachable(copied.bin, user.pw_uid, user.pw_gid) is None
    done = subprocess.run([copied.bin / "initdb", "--version"], capture_output=True, text=True, check=True)
    assert str(copied.major) in done.stdout


@as_root
def test_it_runs_for_a_user_who_is_not_root(folder: Path) -> None:
    """In a process of another user, who needs an interpreter that user can reach."""
    folder.mkdir()
    user = pwd.getpwnam("nobody")
    python = interpreter_for(user)
    os.chown(folder, user.pw_uid, user.pw_gid)
    process = subprocess.Popen(
        [python, "-c", _CHILD, str(folder / "mine")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        user=user.pw_uid,
        group=user.pw_gid,
        extra_groups=[],
        cwd="/",
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    pid = server_of(process)
    try:
        assert psutil.Process(pid).uids().effective == user.pw_uid
    finally:
        end(process)


def test_another_major_version_is_refused_by_name(backend: EmbeddedBackend, folder: Path) -> None:
    backend.stop()
    (folder / "cluster" / "PG_VERSION").write_text("9\n")
    with pytest.raises(DatabaseError, match=r"was made by PostgreSQL 9, the binaries here are \d+"):
        backend.start()


def test_a_start_that_fails_says_why_and_can_be_repeated(backend: EmbeddedBackend, folder: Path) -> None:
    backend.stop()
    control = folder / "cluster" / "global" / "pg_control"
    moved = control.rename(folder / "pg_control")
    with pytest.raises(DatabaseError, match="pg_control"):
        backend.start()
    moved.rename(control)
    backend.start()
    with backend.connect() as connection:
        assert rows_of(connection, "SELECT 1") == [(1,)]


def test_a_folder_that_is_a_file_is_refused(folder: Path) -> None:
    folder.parent.joinpath("file").write_text("")
    with pytest.raises(DatabaseError, match=r"file/pg cannot be used"):
        EmbeddedBackend(folder.parent / "file" / "pg").start()


def test_binaries_that_do_not_run_are_named(folder: Path) -> None:
    folder.mkdir()
    missing = Binaries(folder, 18)
    with pytest.raises(DatabaseError, match="initdb"):
        EmbeddedBackend(folder / "x", binaries=missing).start()


def test_the_systems_postgresql_can_stand_in(folder: Path) -> None:
    binaries = find_system_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL of the operating system here")
    backend = EmbeddedBackend(folder, binaries=binaries)
    backend.start()
    write_one(backend)
    assert count(backend) == 1
    backend.stop()


def test_a_server_that_is_not_there_is_named_without_its_password(folder: Path) -> None:
    backend = ServerBackend("postgresql://user:secret@127.0.0.1:1/db")
    with pytest.raises(DatabaseError, match=r"cannot connect to .*127\.0\.0\.1") as caught:
        backend.start()
    assert "secret" not in str(caught.value)


def test_a_database_that_is_not_utf8_is_refused(backend: EmbeddedBackend) -> None:
    with backend.connect() as connection:
        connection.execute(
            "CREATE DATABASE ascii ENCODING 'SQL_ASCII' LOCALE_PROVIDER libc LOCALE 'C' TEMPLATE template0"
        )
    with pytest.raises(DatabaseError, match="server_encoding is 'SQL_ASCII'; scapp needs UTF8"):
        ServerBackend(make_conninfo(backend.dsn, dbname="ascii")).start()


@pytest.mark.parametrize("word", ["", "sqlite", "http://x", "postgres"])
def test_an_unknown_backend_is_refused(word: str, tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="allowed are embedded, pglite, or a postgresql:// URL"):
        open_backend(word, tmp_path)


def test_a_url_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="cannot be read"):
        open_backend("postgresql://host:port:x/%zz", tmp_path)
