"""Ports of nodes on this machine: free, kept over restarts, and others when somebody was faster."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from scapp.runtime.cli.local_nodes import child_in, introduce, move_ports
from scapp.runtime.cli.processes import PORTS_FIRST, NodeChild, free_ports, is_free, stop_all
from scapp.runtime.config import load_config, parse_listen


def ports_of(child: NodeChild) -> tuple[int, int]:
    known = load_config(child.home, environ={})
    return parse_listen(known.node.listen, "")[1], parse_listen(known.api.listen, "")[1]


def test_free_ports_are_none_that_a_connection_may_leave_from() -> None:
    found = free_ports(50)
    assert len(set(found)) == 50
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text("ascii").split()[0])
    assert all(PORTS_FIRST <= port < max(first, PORTS_FIRST + 1_000) for port in found)
    assert all(map(is_free, found))


def test_only_a_port_that_is_taken_is_changed(tmp_path: Path) -> None:
    child = child_in("alice", tmp_path, '\n[log]\nlevel = "error"\n')
    listen, api = ports_of(child)
    assert not move_ports(child.home)
    with socket.create_server(("127.0.0.1", api)):
        assert not is_free(api)
        assert move_ports(child.home)
        assert ports_of(child)[0] == listen
        assert ports_of(child)[1] != api
    assert load_config(child.home, environ={}).log.level == "error"


@pytest.mark.slow
def test_a_node_whose_port_is_taken_starts_on_another(tmp_path: Path) -> None:
    """Between choosing and listening some seconds may pass."""
    children = [child_in(name, tmp_path, '\n[database]\nbackend = "none"\n') for name in ("alice", "bob")]
    listen, api = ports_of(children[1])
    try:
        with socket.create_server(("127.0.0.1", api)):
            for child in children:
                child.start()
            clients = introduce(children)
            assert [peer.name for peer in clients[0].peers()] == ["bob"]
            assert ports_of(children[1])[0] == listen
            for client in clients:
                client.close()
    finally:
        stop_all(children)
