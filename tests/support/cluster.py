"""Real node processes on this machine, for acceptance tests: started, killed, restarted, and asked.

Ports are fixed for the life of a cluster, so that a node that comes back is found where it was.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import psutil

from scapp.runtime.cli.processes import NodeChild, free_ports, stop_all, write_settings
from scapp.runtime.client import Client
from scapp.runtime.documents import AppView, ChannelView
from scapp.runtime.keys_file import key_info, new_key
from tests.support.folders import open_folder

NAMES = ("alice", "bob", "carol", "dave")
PATIENCE_S = 60.0
T = TypeVar("T")


class Cluster:
    """Nodes by name; `folder` holds their directories and logs."""

    def __init__(self, folder: Path, count: int, settings: str = "") -> None:
        self.folder = folder
        ports = free_ports(2 * count)
        self.nodes: dict[str, NodeChild] = {}
        self.addresses: dict[str, str] = {}
        self._clients: dict[str, Client] = {}
        for index, name in enumerate(NAMES[:count]):
            home = folder / name
            home.mkdir()
            new_key(home)
            write_settings(home, ports[2 * index], ports[2 * index + 1], settings)
            self.nodes[name] = NodeChild(name, home)
            self.addresses[name] = "0x" + key_info(home).address.hex()

    @property
    def names(self) -> list[str]:
        return list(self.nodes)

    def client(self, name: str) -> Client:
        """A client of the running node, kept for its life."""
        if name not in self._clients:
            self._clients[name] = self.nodes[name].client(timeout_s=30)
        return self._clients[name]

    def start(self, *names: str) -> None:
        """Start these nodes (all by default) and wait until they answer."""
        for name in names or self.names:
            self.nodes[name].start(environment())
        for name in names or self.names:
            self.nodes[name].wait_ready()

    def introduce(self) -> None:
        """Put everyone into everyone's peers list."""
        files = {name: node.wait_ready() for name, node in self.nodes.items()}
        for name in self.names:
            for other, file in files.items():
                if other != name:
                    self.client(name).add_peer(file.address, file.listen, other)

    def deploy(self, wasm: bytes) -> AppView:
        """Deploy at every node; the ids must be equal."""
        apps = [self.client(name).deploy(wasm) for name in self.names]
        assert len({app.deployment_id for app in apps}) == 1
        return apps[0]

    def kill_node(self, name: str) -> None:
        """SIGKILL to the node process."""
        self.drop_client(name)
        self.nodes[name].kill()

    def kill_database(self, name: str) -> bool:
        """SIGKILL to every PostgreSQL process of the node; False when there was none at this moment."""
        try:
            children = psutil.Process(self.nodes[name].pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return False
        hit = False
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
                if child.name().startswith("postgres"):
                    os.kill(child.pid, signal.SIGKILL)
                    hit = True
        return hit

    def drop_client(self, name: str) -> None:
        client = self._clients.pop(name, None)
        if client:
            client.close()

    def wait_derived(self, name: str, channel: str, sequence: int) -> ChannelView:
        """Wait until the node's database holds `sequence` entries of the channel."""

        def derived() -> ChannelView | None:
            found = self.client(name).channel(channel)
            return found if found.derived and found.derived.sequence >= sequence else None

        return eventually(derived, lambda: f"{name} derives {sequence} entries; {self.state(name, channel)}")

    def state(self, name: str, channel: str) -> str:
        """What the node says of a channel, and the end of its log: for messages of failed tests."""
        return f"{self.client(name).channel(channel)}\n{self.nodes[name].log_tail(20)}"

    def rows(self, name: str, sql: str, *params: Any) -> list[list[Any]]:
        return self.client(name).query(sql, params, rows_max=100_000).rows

    def stop(self) -> None:
        for name in list(self._clients):
            self.drop_client(name)
        stop_all(self.nodes.values())


def environment() -> dict[str, str]:
    """Ours without what would change a node's settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SCAPP_")}


def eventually(probe: Callable[[], T | None], what: Callable[[], str], patience_s: float = PATIENCE_S) -> T:
    """The probe's first answer that is something; processes of their own have no event to await."""
    deadline = time.monotonic() + patience_s
    while True:
        found = probe()
        if found is not None:
            return found
        assert time.monotonic() < deadline, what()
        time.sleep(0.02)


@contextlib.contextmanager
def cluster(count: int, settings: str = "", *, introduced: bool = True) -> Iterator[Cluster]:
    """Running nodes that know each other unless told otherwise; everything is stopped and removed at the end."""
    folder = open_folder("scapp-test-")
    found = Cluster(folder, count, settings)
    try:
        found.start()
        if introduced:
            found.introduce()
        yield found
    except BaseException:
        for name, node in found.nodes.items():
            print(f"--- {name}, end of its log ---\n{node.log_tail(30)}")
        raise
    finally:
        found.stop()
        shutil.rmtree(folder, ignore_errors=True)
