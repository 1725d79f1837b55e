"""Node processes as children of this one: started, awaited, stopped or killed. The demo and acceptance tests use it.

A child stops when this process ends in whatever way, because it watches its standard input.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from scapp.channels.errors import LocalError
from scapp.runtime.client import LOCK_FILE, NODE_FILE, Client
from scapp.runtime.client_answers import decoded
from scapp.runtime.config import CONFIG_FILE
from scapp.runtime.documents import NodeFile

LOG_FILE = "node.log"
PORTS_FIRST = 10_000
_POLL_S = 0.02


class NodeChild:
    """One `scapp node` in `home`, which has a key and a `scapp.toml` with fixed ports."""

    def __init__(self, name: str, home: Path, under: Sequence[str] = ()) -> None:
        """`under`: the command that runs the node's, one that becomes it (`ip netns exec …`)."""
        self.name = name
        self.home = home
        self.under = under
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None, "not started"
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self, environ: Mapping[str, str] | None = None) -> None:
        """Start the process; `wait_ready` says when it answers. Raises LocalError when another node runs there."""
        assert not self.running, f"{self.name} runs already"
        refuse_running(self.home)
        # The process itself removes the file of an earlier one, but only once it has the lock.
        (self.home / NODE_FILE).unlink(missing_ok=True)
        command = [*self.under, sys.executable, "-m", "scapp.runtime.cli.main"]
        command += ["-C", str(self.home), "node", "--stop-with-stdin"]
        with (self.home / LOG_FILE).open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env=dict(os.environ if environ is None else environ),
                start_new_session=True,  # Ctrl-C is ours to handle: the children are stopped in order
            )

    def wait_ready(self, timeout_s: float = 30.0) -> NodeFile:
        """Wait until the node answers. Raises LocalError with the end of its log when it does not."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            file = self.file()
            if file is not None and file.pid == self.pid:
                return file
            if not self.running:
                raise LocalError(f"node {self.name} ended while starting:\n{self.log_tail()}")
            time.sleep(_POLL_S)
        raise LocalError(f"node {self.name} did not answer within {timeout_s:g} s:\n{self.log_tail()}")

    def file(self) -> NodeFile | None:
        """What the running node says of itself."""
        try:
            return decoded((self.home / NODE_FILE).read_bytes(), NodeFile)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def client(self, timeout_s: float = 60.0) -> Client:
        return Client.at_home(self.home, timeout_s=timeout_s)

    def ask_to_stop(self) -> None:
        """Send SIGTERM."""
        if self.process is not None and self.running:
            self.process.send_signal(signal.SIGTERM)

    def wait_stopped(self, timeout_s: float = 20.0) -> int | None:
        """The exit status; after the timeout the process is killed."""
        if self.process is None:
            return None
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
        if self.process.stdin is not None:
            self.process.stdin.close()
        return self.process.returncode

    def kill(self) -> None:
        """SIGKILL: nothing is tidied up."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            if self.process.stdin is not None:
                self.process.stdin.close()

    def log_tail(self, lines: int = 12) -> str:
        """The end of the process's log."""
        with contextlib.suppress(OSError):
            return "\n".join((self.home / LOG_FILE).read_text("utf-8", "replace").splitlines()[-lines:])
        return ""


def refuse_running(home: Path) -> None:
    """Raise LocalError when a node runs in this directory."""
    try:
        descriptor = os.open(home / LOCK_FILE, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "PID"
        raise LocalError(f"a node runs in {home} already; stop it first: kill {holder}") from None
    finally:
        os.close(descriptor)


def stop_all(children: Iterable[NodeChild]) -> None:
    """Stop processes together; those that do not stop are killed."""
    found = list(children)
    for child in found:
        child.ask_to_stop()
    for child in found:
        child.wait_stopped()


def free_ports(count: int) -> list[int]:
    """TCP ports of 127.0.0.1 that nobody uses now. They are not among those that the system gives to connections which
    leave this machine: nobody would keep one for a node that is away for a moment."""
    found: list[int] = []
    drawn = range(PORTS_FIRST, max(_outgoing_ports_first(), PORTS_FIRST + 1_000))
    with contextlib.ExitStack() as stack:
        while len(found) < count:
            one = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                one.bind(("127.0.0.1", random.choice(drawn)))  # noqa: S311 - no secret
                found.append(one.getsockname()[1])
    return found


def _outgoing_ports_first() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text("ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return 32_768  # of Linux


def is_free(port: int) -> bool:
    """Whether this TCP port of 127.0.0.1 can be listened on now."""
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as a node does
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def write_settings(home: Path, listen_port: int, api_port: int, more: str = "") -> None:
    """A `scapp.toml` with fixed ports, so that a node comes back where its peers look for it."""
    (home / CONFIG_FILE).write_text(
        f'[node]\nlisten = "127.0.0.1:{listen_port}"\n\n[api]\nlisten = "127.0.0.1:{api_port}"\n{more}', "utf-8"
    )
