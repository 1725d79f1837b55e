"""What every transport must do; `test_transport_fake.py` and `test_transport_tcp.py` run it."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod

import pytest

from scapp.channels.errors import LocalError
from scapp.channels.signing import Signer
from scapp.channels.transport.frames import DATA_OVERHEAD_BYTES
from scapp.channels.transport.port import PeerUnknown, QueueFull
from scapp.channels.transport.session import MessageTooLarge
from tests.support.transport_bench import ALICE, BOB, CAROL, LIMITS, Node


class Bench(ABC):
    """Makes nodes of one kind of transport."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []

    async def node(self, signer: Signer) -> Node:
        node = await Node(self.make(signer)).start()
        self.nodes.append(node)
        return node

    async def pair(self) -> tuple[Node, Node]:
        """Alice, who dials, and Bob, linked."""
        alice, bob = await self.node(ALICE), await self.node(BOB)
        await self.link(alice, bob)
        return alice, bob

    async def link(self, one: Node, other: Node) -> None:
        one.transport.add_peer(other.address, other.transport.endpoint)
        await one.until(lambda: (other.address, True) in one.links)
        await other.until(lambda: (one.address, True) in other.links)

    async def close(self) -> None:
        for node in self.nodes:
            node.gate.set()
            await node.transport.stop()

    @abstractmethod
    def make(self, signer: Signer) -> object:
        """A transport with `LIMITS`, not started."""

    @abstractmethod
    def break_link(self, one: Node, other: Node) -> None:
        """Cut the connection without a word; it may come back at once."""


def numbered(count: int) -> list[bytes]:
    return [b"message %d" % number for number in range(count)]


class TransportContract:
    """Subclasses provide the fixture `bench`."""

    async def test_messages_arrive_in_order(self, bench: Bench) -> None:
        """Each peer's messages come in its sending order, whatever others send."""
        alice, bob = await bench.pair()
        carol = await bench.node(CAROL)
        await bench.link(carol, bob)
        alice.send(bob, *numbered(40))
        carol.send(bob, *numbered(40))
        await bob.until(lambda: bob.finished == 80)
        assert bob.bodies(alice) == bob.bodies(carol) == numbered(40)

    async def test_both_directions(self, bench: Bench) -> None:
        """The node that was dialled sends over the same link."""
        alice, bob = await bench.pair()
        bob.send(alice, b"hello")
        await alice.until(lambda: alice.bodies() == [b"hello"])
        await bob.until(lambda: bob.acked == [0])

    async def test_empty_message(self, bench: Bench) -> None:
        """A message may be empty."""
        alice, bob = await bench.pair()
        alice.send(bob, b"")
        await bob.until(lambda: bob.bodies() == [b""])

    async def test_a_megabyte(self, bench: Bench) -> None:
        """A message of a megabyte arrives as it is."""
        alice, bob = await bench.pair()
        message = bytes(range(256)) * 4096
        alice.send(bob, message, b"small")
        await bob.until(lambda: bob.finished == 2)
        assert bob.bodies() == [message, b"small"]

    async def test_ack_only_after_the_handler(self, bench: Bench) -> None:
        """A message is acknowledged when the handler has returned, not when it has arrived."""
        alice, bob = await bench.pair()
        bob.gate.clear()
        alice.send(bob, b"one")
        await bob.until(lambda: bob.bodies() == [b"one"])
        bob.send(alice, b"something that overtakes any early acknowledgement")
        await alice.until(lambda: len(alice.messages) == 1)
        assert alice.acked == []
        assert alice.status(bob).queued == 1
        bob.gate.set()
        await alice.until(lambda: alice.acked == [0])
        assert alice.status(bob).queued == 0

    async def test_one_at_a_time_per_peer(self, bench: Bench) -> None:
        """While the handler has a message of a peer, it gets no other one of it, but those of other peers."""
        alice, bob = await bench.pair()
        carol = await bench.node(CAROL)
        await bench.link(carol, bob)
        bob.gate.clear()
        alice.send(bob, b"a1", b"a2")
        carol.send(bob, b"c1", b"c2")
        await bob.until(lambda: len(bob.messages) == 2)
        assert sorted(bob.bodies()) == [b"a1", b"c1"]
        bob.gate.set()
        await bob.until(lambda: bob.finished == 4)

    async def test_a_failing_handler_acknowledges(self, bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
        """A message that cannot be processed is logged, acknowledged, and does not block those behind it."""
        alice, bob = await bench.pair()
        bob.fails_on = {b"bad"}
        with caplog.at_level(logging.ERROR, "scapp.transport"):
            alice.send(bob, b"bad", b"good")
            await alice.until(lambda: len(alice.acked) == 2)
        assert bob.bodies() == [b"bad", b"good"]
        assert "acknowledged and skipped" in caplog.text

    async def test_a_failing_on_acked_harms_nobody(self, bench: Bench) -> None:
        """An exception in `on_acked` is logged; later acknowledgements come."""
        alice, bob = await bench.pair()

        def fail() -> None:
            raise RuntimeError("my own fault")

        alice.transport.send(bob.address, b"one", fail)
        alice.send(bob, b"two")
        await alice.until(lambda: alice.acked == [0])

    async def test_unknown_peer(self, bench: Bench) -> None:
        """Nothing is queued for an address nobody has heard of."""
        alice = await bench.node(ALICE)
        with pytest.raises(PeerUnknown, match=CAROL.address.hex()):
            alice.transport.send(CAROL.address, b"hello")
        assert alice.transport.peers() == []

    async def test_not_its_own_peer(self, bench: Bench) -> None:
        """A node does not dial itself."""
        alice = await bench.node(ALICE)
        with pytest.raises(LocalError, match="itself"):
            alice.transport.add_peer(alice.address, alice.transport.endpoint)

    async def test_queue_limit_of_messages(self, bench: Bench) -> None:
        """The queue holds what it may; one more is refused and nothing that was queued is lost."""
        alice, bob = await bench.pair()
        bob.gate.clear()
        allowed = LIMITS.queue_messages_max
        alice.send(bob, *numbered(allowed))
        with pytest.raises(QueueFull, match=str(allowed)):
            alice.transport.send(bob.address, b"one more")
        bob.gate.set()
        await alice.until(lambda: len(alice.acked) == allowed)
        assert bob.bodies() == numbered(allowed)
        alice.send(bob, b"one more")
        await bob.until(lambda: bob.bodies()[-1] == b"one more")

    async def test_queue_limit_of_bytes(self, bench: Bench) -> None:
        """The queue is limited in bytes too."""
        alice, bob = await bench.pair()
        bob.gate.clear()
        alice.send(bob, bytes(1_500_000), bytes(1_500_000))
        with pytest.raises(QueueFull, match="3000000"):
            alice.transport.send(bob.address, b"x")
        bob.gate.set()
        await alice.until(lambda: len(alice.acked) == 2)

    async def test_message_above_the_frame_limit(self, bench: Bench) -> None:
        """A message no frame can carry is refused at once, with what would be allowed."""
        alice, bob = await bench.pair()
        bob.gate.clear()
        with pytest.raises(MessageTooLarge, match=f"at most {LIMITS.frame_bytes_max - DATA_OVERHEAD_BYTES} fit"):
            alice.transport.send(bob.address, bytes(LIMITS.frame_bytes_max))
        assert alice.status(bob).queued == 0

    async def test_resend_after_reconnect(self, bench: Bench) -> None:
        """What was not acknowledged when the link broke arrives over the next one, once and in order."""
        alice, bob = await bench.pair()
        bob.gate.clear()
        alice.send(bob, *numbered(20))
        await bob.until(lambda: len(bob.messages) == 1)
        bench.break_link(alice, bob)
        alice.send(bob, *numbered(30)[20:])
        bob.gate.set()
        await alice.until(lambda: len(alice.acked) == 30)
        assert bob.bodies() == numbered(30)

    async def test_nothing_twice_over_many_breaks(self, bench: Bench) -> None:
        """However often the link breaks, each message is handled once, in both directions."""
        alice, bob = await bench.pair()
        for round_ in range(6):
            alice.send(bob, *(b"%d-%d" % (round_, n) for n in range(6)))
            bob.send(alice, *(b"%d-%d" % (round_, n) for n in range(6)))
            await bob.until(lambda round_=round_: len(bob.messages) > round_ * 6)  # type: ignore[misc]
            bench.break_link(alice, bob)
        await alice.until(lambda: len(alice.acked) == 36)
        await bob.until(lambda: len(bob.acked) == 36)
        expected = [b"%d-%d" % (round_, n) for round_ in range(6) for n in range(6)]
        assert bob.bodies() == alice.bodies() == expected

    async def test_link_events(self, bench: Bench) -> None:
        """The listener hears of every link's coming and going, alternating."""
        alice, bob = await bench.pair()
        bench.break_link(alice, bob)
        await alice.until(lambda: len(alice.links) >= 3)
        await bob.until(lambda: len(bob.links) >= 3)
        assert alice.links == [(bob.address, up) for up in (True, False, True)]
        assert bob.links == [(alice.address, up) for up in (True, False, True)]

    async def test_a_peer_that_is_removed_is_left_at_once_and_may_come_back_by_itself(self, bench: Bench) -> None:
        """Its link ends, nobody dials it, what waits for it stays; removing it again, or a stranger, is harmless."""
        alice, bob = await bench.pair()
        for _ in range(2):
            alice.transport.remove_peer(bob.address)
        alice.transport.remove_peer(CAROL.address)
        await alice.until(lambda: alice.links[-1] == (bob.address, False))
        await bob.until(lambda: bob.links[-1] == (alice.address, False))
        assert alice.status(bob).endpoint is None
        alice.send(bob, b"kept")
        carol = await bench.node(CAROL)
        await bench.link(alice, carol)  # while nothing else is dialled
        assert not alice.status(bob).connected
        bob.transport.add_peer(alice.address, alice.transport.endpoint)
        await bob.until(lambda: bob.bodies() == [b"kept"])
        assert [up for peer, up in alice.links if peer == bob.address] == [True, False, True]

    async def test_a_peer_that_is_removed_while_it_is_away_is_dialled_no_more(self, bench: Bench) -> None:
        alice, bob = await bench.pair()
        endpoint = bob.transport.endpoint
        await bob.transport.stop()
        await alice.until(lambda: alice.links[-1] == (bob.address, False))
        alice.transport.remove_peer(bob.address)
        carol = await bench.node(CAROL)
        await bench.link(alice, carol)
        assert (alice.status(bob).endpoint, alice.status(bob).connected) == (None, False)
        alice.transport.add_peer(bob.address, endpoint)  # and it may be added again
        assert alice.status(bob).endpoint == endpoint

    async def test_messages_wait_for_the_first_link(self, bench: Bench) -> None:
        """A known peer that is not there yet gets its messages when it comes."""
        alice, bob = await bench.node(ALICE), await bench.node(BOB)
        alice.transport.add_peer(bob.address, bob.transport.endpoint)
        alice.send(bob, b"early")
        await bob.until(lambda: bob.bodies() == [b"early"])

    async def test_both_dial(self, bench: Bench) -> None:
        """Two nodes that dial each other at once end up linked, and lose nothing."""
        alice, bob = await bench.node(ALICE), await bench.node(BOB)
        alice.transport.add_peer(bob.address, bob.transport.endpoint)
        bob.transport.add_peer(alice.address, alice.transport.endpoint)
        alice.send(bob, *numbered(20))
        bob.send(alice, *numbered(20))
        await alice.until(lambda: len(alice.acked) == 20)
        await bob.until(lambda: len(bob.acked) == 20)
        assert alice.bodies() == bob.bodies() == numbered(20)

    async def test_status(self, bench: Bench) -> None:
        """`peers` shows counts, the endpoint where one is known, and the connection."""
        alice, bob = await bench.pair()
        alice.send(bob, b"one", b"two")
        bob.send(alice, b"three")
        await alice.until(lambda: len(alice.acked) == 2)
        await bob.until(lambda: len(bob.acked) == 1)
        one, other = alice.status(bob), bob.status(alice)
        assert one.endpoint == bob.transport.endpoint
        assert other.endpoint is None
        assert (one.connected, one.queued, one.sent, one.received) == (True, 0, 2, 1)
        assert (other.connected, other.queued, other.sent, other.received) == (True, 0, 1, 2)
        assert one.last_error is None

    async def test_stop_while_busy(self, bench: Bench) -> None:
        """The running handler finishes, the message is acknowledged; nothing is handed over afterwards."""
        alice, bob = await bench.pair()
        bob.gate.clear()
        alice.send(bob, b"one", b"two")
        await bob.until(lambda: bob.bodies() == [b"one"])
        stopping = asyncio.ensure_future(bob.transport.stop())
        await asyncio.sleep(0)
        bob.gate.set()
        await stopping
        await alice.until(lambda: alice.acked == [0])
        assert bob.bodies() == [b"one"]
        assert alice.status(bob).queued == 1
        with pytest.raises(LocalError, match="between start and stop"):
            bob.transport.send(alice.address, b"too late")

    async def test_stop_twice(self, bench: Bench) -> None:
        """Stopping again is harmless; the other end hears of the first."""
        alice, bob = await bench.pair()
        await bob.transport.stop()
        await bob.transport.stop()
        await alice.until(lambda: alice.links[-1] == (bob.address, False))
        assert not alice.status(bob).connected

    async def test_starts_once(self, bench: Bench) -> None:
        """A transport has one life."""
        alice = await bench.node(ALICE)
        with pytest.raises(LocalError, match="once"):
            await alice.start()

    async def test_a_restarted_node_gets_what_is_unacknowledged(self, bench: Bench) -> None:
        """A peer that comes back with nothing in memory gets what it had not acknowledged, and new messages."""
        alice, bob = await bench.pair()
        alice.send(bob, b"before")
        await alice.until(lambda: alice.acked == [0])
        await bob.transport.stop()
        await alice.until(lambda: alice.links[-1] == (bob.address, False))
        alice.send(bob, b"while away")
        again = await bench.node(BOB)
        again.transport.add_peer(alice.address, alice.transport.endpoint)
        await again.until(lambda: again.bodies() == [b"while away"])
        again.send(alice, b"first of a new session")
        await alice.until(lambda: alice.bodies() == [b"first of a new session"])

    async def test_what_a_node_said_before_a_restart_never_comes_behind_what_it_says_then(self, bench: Bench) -> None:
        """A restored node that has been answered is told all that came of what it had said (ADR 0015)."""
        alice, bob = await bench.pair()
        bob.gate.clear()
        alice.send(bob, b"at hand", b"behind it", b"and then")
        await bob.until(lambda: bob.bodies() == [b"at hand"])
        await alice.transport.stop()
        again = await bench.node(ALICE)
        await bench.link(again, bob)
        again.send(bob, b"after the restart")
        await bob.until(lambda: bob.links.count((alice.address, True)) == 2)
        bob.gate.set()
        await again.until(lambda: again.acked == [0])
        assert bob.bodies() == [b"at hand", b"after the restart"]
