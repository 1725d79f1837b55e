"""Alice pays Bob through Irene, and Mallory, a stranger, reaches them all: whole nodes that hear what is hostile."""

from __future__ import annotations

from scapp.channels.ledger import consensus
from scapp.channels.ledger.messages import Update, Updates
from scapp.channels.ledger.proposals import Part, Remove
from scapp.channels.ledger.record import LedgerRecord
from scapp.channels.ledger.wire import to_wire
from scapp.channels.signing import Signer
from scapp.channels.transport.fake import FakeTransport
from scapp.channels.types import ZERO_ADDRESS, Address, ChannelId
from scapp.channels.virtual.record import VirtualRecord
from tests.support.ledger_scene import LedgerScene

ALICE, IRENE, BOB = 0, 1, 2
MALLORY = Signer(b"\xde\xad" * 16)


class HostileScene(LedgerScene):
    """Mallory has a key of her own. What is said to a node is said by her, or with another node's key."""

    left: ChannelId
    right: ChannelId

    async def ready(self) -> HostileScene:
        await self.start()
        self.mallory = FakeTransport(self.cast.network, MALLORY.address)
        await self.mallory.start(_hear, lambda peer, connected: None)
        for index in self.nodes:
            self.mallory.add_peer(self.address(index), "fake:1")
        self.left, self.right = await self.ledger(ALICE, IRENE), await self.ledger(IRENE, BOB)
        return self

    async def refuses(self, index: int, data: bytes, sender: int | None = None) -> None:
        """The node gets the message from Mallory, or with another node's key; it refuses it, as no bug of its own."""
        node = self.nodes[index]
        before, bugs = node.counters(), node.counters().get("books_bugs", 0)
        self.say(index, data, sender)
        await self.until(lambda: node.counters().get("messages_refused", 0) > before.get("messages_refused", 0))
        assert node.counters().get("books_bugs", 0) == bugs

    async def ignores(self, index: int, data: bytes, sender: int | None = None) -> None:
        """The same for what means nothing to the node, refused or not."""
        node = self.nodes[index]
        before, bugs = node.counters()["messages_received"], node.counters().get("books_bugs", 0)
        self.say(index, data, sender)
        await self.until(lambda: node.counters()["messages_received"] > before)
        assert node.counters().get("books_bugs", 0) == bugs

    def say(self, index: int, data: bytes, sender: int | None) -> None:
        transport = self.mallory if sender is None else self.nodes[sender]._transport
        transport.send(self.address(index), data)

    async def works(self) -> None:
        """Everybody is alive: a new channel through all of them, a payment, its end."""
        failures = [self.nodes[index]._transport for index in self.nodes]
        assert [each.handler_failures for each in failures if isinstance(each, FakeTransport)] == [0] * len(failures)
        before = self.worth()
        channel = await self.payments((ALICE, IRENE, BOB), 10)
        await self.books(ALICE).pay(channel, 7)
        await self.until(lambda: self.virtual(BOB, channel).paid == 7)
        await self.books(ALICE).close_virtual(channel)
        await self.until(lambda: self.virtual_phase(channel, "released", (ALICE, IRENE, BOB)))
        assert self.worth() == [before[0] - 7, before[1], before[2] + 7]

    def worth(self) -> list[int]:
        """What each has in its ledgers, guarantees left out."""
        return [
            sum(each.assets[0].mine for each in self.books(index).ledgers() if each.phase == "running")
            for index in (ALICE, IRENE, BOB)
        ]

    def ledger_record(self, index: int, ledger: ChannelId) -> LedgerRecord:
        runner = self.books(index)._runner
        assert runner is not None
        return runner.books.state.ledgers[ledger]

    def virtual_record(self, index: int, channel: ChannelId) -> VirtualRecord:
        runner = self.books(index)._runner
        assert runner is not None
        return runner.books.state.virtuals[channel]

    def removal(self, channel: ChannelId, first: int) -> Updates:
        """Alice, who leads, signs that the guarantee of 40 gives her so much back."""
        ledger = self.ledger_record(ALICE, self.left).ledger
        assert ledger is not None
        remove = Remove(channel, (Part(ZERO_ADDRESS, 40, first),))
        _, signed = consensus.propose(ledger, remove, self.signers[ALICE])
        return Updates(self.left, (Update(signed.turn, to_wire(remove), signed.signature),))


async def _hear(peer: Address, data: bytes) -> None:
    """Mallory does not care."""
