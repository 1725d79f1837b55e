"""The transport contract over TLS on the loopback interface."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from scapp.channels.signing import Signer
from scapp.channels.transport import peer
from scapp.channels.transport.link import Link
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

    async def test_an_acknowledgement_travels_with_an_answer(
        self, bench: TcpBench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What is answered soon is acknowledged with the answer, in one write."""
        written: list[bytes] = []
        write = Link.write

        def noted(link: Link, data: bytes) -> None:
            written.append(data)
            write(link, data)

        alice, bob = await bench.pair()
        alice.send(bob, b"first")
        await alice.until(lambda: alice.acked == [0])  # alone, after a while
        monkeypatch.setattr(peer, "ACK_DELAY_S", 60.0)
        monkeypatch.setattr(Link, "write", noted)
        alice.send(bob, b"question")
        await bob.until(lambda: bob.finished == 2)
        bob.send(alice, b"answer")
        await alice.until(lambda: alice.acked == [0, 1])
        await alice.until(lambda: alice.bodies() == [b"answer"])
        assert len(written) == 2
