"""The transport contract over TLS on the loopback interface."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from scapp.channels.signing import Signer
from scapp.channels.transport.tcp import TcpTransport
from tests.contracts.transport_contract import Bench, TransportContract
from tests.support.transport_bench import LIMITS, Node


class TcpBench(Bench):
    def make(self, signer: Signer) -> TcpTransport:
        return TcpTransport(signer, limits=LIMITS)

    def break_link(self, one: Node, other: Node) -> None:
        link = one.transport._peers[other.address].link
        if link is not None:
            link.abort("cut by the test")


@pytest.fixture
async def bench() -> AsyncIterator[TcpBench]:
    bench = TcpBench()
    yield bench
    await bench.close()


class TestTcpTransport(TransportContract):
    """The contract over real sockets."""
