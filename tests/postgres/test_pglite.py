"""PGlite's process in the middle: what is missing, what does not start, what does not stop."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import shutil
from pathlib import Path

import psycopg
import pytest

from scapp.runtime.database import pglite
from scapp.runtime.database.pglite import PgliteBackend, find_node
from scapp.runtime.database.port import DatabaseError

NODE = Path("/usr/bin/env")


@pytest.fixture
def backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PgliteBackend:
    """One whose packages count as installed, and which finds a Node that is never asked."""
    made = PgliteBackend(tmp_path / "p")
    node = made.folder / "node"
    node.mkdir(parents=True)
    (node / "installed").write_text((pglite._SOURCE / "package-lock.json").read_text())
    monkeypatch.setattr(pglite, "find_node", lambda: (NODE, ["/bin/false"]))
    return made


def host(backend: PgliteBackend, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Run this instead of the host process."""
    script = backend.folder / "host.py"
    script.write_text(program)
    monkeypatch.setattr(pglite, "_HOST", script)


def test_what_is_missing_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """py-pglite first, then Node."""
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DatabaseError, match=r"needs py-pglite: pip install 'scapp\[pglite\]'"):
        find_node()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: find_spec("json") if name == "py_pglite" else None)
    with pytest.raises(DatabaseError, match="needs Node: install it"):
        find_node()


def test_a_node_that_is_installed_comes_before_the_packaged_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The packaged one is run with its own npm, as a JavaScript file."""
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: find_spec("json"))
    monkeypatch.setattr(shutil, "which", lambda name: f"/opt/{name}")
    assert find_node() == (Path("/opt/node"), ["/opt/npm"])
    monkeypatch.setattr(shutil, "which", lambda name: None)
    node, npm = find_node()
    assert (node.name, npm[0], Path(npm[1]).name) == ("node", str(node), "npm-cli.js")


def test_a_folder_in_use_is_refused_and_can_be_used_afterwards(
    backend: PgliteBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PGlite serves one process."""
    host(backend, monkeypatch, "raise SystemExit(7)")
    other = os.open(backend.folder / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(DatabaseError, match="is in use by another process"):
        backend.start()
    os.close(other)
    with pytest.raises(DatabaseError, match="ended with status 7"):
        backend.start()


@pytest.mark.parametrize(
    ("npm", "limit_s", "said"),
    [("echo registry is down >&2; exit 3", 60, "registry is down"), ("sleep 30", 0.1, r"npm needs more than 0\.1 s")],
)
def test_packages_that_cannot_be_fetched_are_explained(
    backend: PgliteBackend, monkeypatch: pytest.MonkeyPatch, npm: str, limit_s: float, said: str
) -> None:
    """And the folder is free for the next attempt, which says the same."""
    (backend.folder / "node" / "installed").unlink()
    monkeypatch.setattr(pglite, "find_node", lambda: (NODE, ["/bin/sh", "-c", f"exec 2>&1; {npm}"]))
    monkeypatch.setattr(pglite, "INSTALL_TIMEOUT_S", limit_s)
    for _ in range(2):
        with pytest.raises(DatabaseError, match=said):
            backend.start()
    assert not (backend.folder / "node" / "installed").exists()


def test_a_host_that_ends_while_starting_is_quoted(backend: PgliteBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its status and the end of its log; the lock is given back."""
    host(backend, monkeypatch, "import sys; print('not ready'); sys.exit('module is broken')")
    for _ in range(2):
        with pytest.raises(DatabaseError, match=r"ended with status 1 while starting:\n(.*\n)*.*module is broken"):
            backend.start()


def test_a_host_that_does_not_stop_is_killed(backend: PgliteBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says that it is ready and then neither listens nor ends."""
    host(backend, monkeypatch, "import time; print('ready', flush=True); time.sleep(600)")
    monkeypatch.setattr(pglite, "STOP_TIMEOUT_S", 0.2)
    with pytest.raises(psycopg.OperationalError):
        backend.start()
    process = backend._host
    assert process is not None
    with pytest.raises(psycopg.OperationalError):
        backend.connect()
    backend.stop()
    assert process.poll() == -9
    backend.stop()


def test_connecting_to_one_that_was_never_started_fails(tmp_path: Path) -> None:
    with pytest.raises(psycopg.OperationalError):
        PgliteBackend(tmp_path).connect()


def test_a_host_that_is_started_again_has_its_data(pglite_backend: PgliteBackend) -> None:
    """What was committed before the stop is there after it."""
    pglite_backend.start()  # runs already
    with pglite_backend.connect() as connection:
        connection.execute("CREATE TABLE kept (a int)")
        connection.execute("INSERT INTO kept VALUES (1)")
    process = pglite_backend._host
    assert process is not None
    pglite_backend.stop()
    pglite_backend.start()
    with pglite_backend.connect_reader() as connection:
        assert connection.execute("SELECT a FROM kept").fetchall() == [(1,)]
        connection.execute("DROP TABLE kept")
    assert pglite_backend._host is not process
