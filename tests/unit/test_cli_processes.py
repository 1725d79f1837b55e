"""Ports for node processes that are to come back at the same ones."""

from __future__ import annotations

import socket

import pytest

from scapp.channels.errors import LocalError
from scapp.runtime.cli import processes
from scapp.runtime.cli.processes import PORTS, free_ports


def test_ports_are_different_ones_that_the_system_gives_to_nobody() -> None:
    found = free_ports(6)
    assert len(set(found)) == 6
    assert set(found) <= set(PORTS)
    assert PORTS[-1] < 32_768  # where Linux begins, unless told otherwise; macOS at 49,152


def test_a_port_in_use_is_not_given_and_too_few_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        used, left = free_ports(2)
        taken.bind(("127.0.0.1", used))
        monkeypatch.setattr(processes, "PORTS", (used, left))
        assert free_ports(1) == [left]
        with pytest.raises(LocalError, match="only 1 of 2 ports"):
            free_ports(2)
