"""Nodes in network namespaces of their own, joined by a switch: cables that can be pulled. Needs root and `ip`.

Each node has two interfaces: one to the switch, where the other nodes are, and one to the test, for its local API.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from scapp.runtime.cli.processes import NodeChild
from scapp.runtime.config import CONFIG_FILE
from tests.support.cluster import Cluster

LISTEN_PORT, API_PORT = 7420, 7421
OUTSIDE, SWITCH = "test0", "net0"  # a node's interfaces, by where they lead


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


class Wiring:
    """The namespaces of one cluster. Addresses are of the range kept for tests of networks (RFC 2544)."""

    def __init__(self, names: list[str]) -> None:
        self._tag = f"scapp{os.getpid() % 100_000}"
        self._switch = f"{self._tag}-switch"
        self._spaces = {name: f"{self._tag}-{name}" for name in names}
        octet = os.getpid() % 250
        self.peer = {name: f"198.18.{octet}.{index}" for index, name in enumerate(names, 1)}
        self.api = {name: f"198.19.{octet}.{4 * index + 2}" for index, name in enumerate(names)}

    def lay(self) -> None:
        """Raises OSError where the kernel or our rights do not permit it."""
        _ip("netns", "add", self._switch)
        _ip("-n", self._switch, "link", "add", "br0", "type", "bridge")
        _ip("-n", self._switch, "link", "set", "br0", "up")
        for index, (name, space) in enumerate(self._spaces.items()):
            _ip("netns", "add", space)
            _ip("-n", space, "link", "set", "lo", "up")
            port = f"port{index}"
            _ip("-n", space, "link", "add", SWITCH, "type", "veth", "peer", "name", port, "netns", self._switch)
            _ip("-n", self._switch, "link", "set", port, "master", "br0", "up")
            _ip("-n", space, "addr", "add", f"{self.peer[name]}/24", "dev", SWITCH)
            _ip("-n", space, "link", "set", SWITCH, "up")
            ours = f"{self._tag}t{index}"
            _ip("link", "add", ours, "type", "veth", "peer", "name", OUTSIDE, "netns", space)
            gate, _, last = self.api[name].rpartition(".")
            _ip("addr", "add", f"{gate}.{int(last) - 1}/30", "dev", ours)
            _ip("link", "set", ours, "up")
            _ip("-n", space, "addr", "add", f"{self.api[name]}/30", "dev", OUTSIDE)
            _ip("-n", space, "link", "set", OUTSIDE, "up")

    def remove(self) -> None:
        """With the namespaces go the interfaces in them, and with these their other ends."""
        for space in (*self._spaces.values(), self._switch):
            with contextlib.suppress(OSError):
                _ip("netns", "del", space)

    def under(self, name: str) -> tuple[str, ...]:
        """What a command runs under to be in a node's namespace."""
        return ("ip", "netns", "exec", self._spaces[name])

    def pull(self, name: str) -> None:
        """The node's cable to the switch is out: others send, and nobody says that it does not arrive."""
        _ip("-n", self._spaces[name], "link", "set", SWITCH, "down")

    def plug(self, name: str) -> None:
        _ip("-n", self._spaces[name], "link", "set", SWITCH, "up")


class WiredCluster(Cluster):
    """A cluster whose nodes reach each other over `wiring` only."""

    def __init__(self, folder: Path, count: int, wiring: Wiring) -> None:
        super().__init__(folder, count)
        self.wiring = wiring
        for name, node in list(self.nodes.items()):
            listen, api = f"{wiring.peer[name]}:{LISTEN_PORT}", f"{wiring.api[name]}:{API_PORT}"
            (node.home / CONFIG_FILE).write_text(f'[node]\nlisten = "{listen}"\n\n[api]\nlisten = "{api}"\n', "utf-8")
            self.nodes[name] = NodeChild(name, node.home, wiring.under(name))


@contextlib.contextmanager
def wired_cluster(names: list[str]) -> Iterator[WiredCluster]:
    """Running nodes that know each other. Skips the test, by name of what is missing, where it cannot be."""
    if os.geteuid() or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and `ip` (Debian: iproute2)")
    wiring = Wiring(names)
    folder = Path(tempfile.mkdtemp(prefix="scapp-test-"))
    folder.chmod(0o755)  # PostgreSQL under root runs as another user
    try:
        try:
            wiring.lay()
        except OSError as error:
            pytest.skip(f"network namespaces are not permitted here: {error}")
        found = WiredCluster(folder, len(names), wiring)
        assert found.names == names
        try:
            found.start()
            found.introduce()
            yield found
        except BaseException:
            for name, node in found.nodes.items():
                print(f"--- {name}, end of its log ---\n{node.log_tail(30)}")
            raise
        finally:
            found.stop()
    finally:
        wiring.remove()
        shutil.rmtree(folder, ignore_errors=True)
