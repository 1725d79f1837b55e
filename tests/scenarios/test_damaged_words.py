"""Every kind of message about ledgers, channels, payments and routes, damaged, to a node in the middle of it all.

Whoever says it is a neighbour with a proved key, the one that has said such a thing before, or a stranger. Shapes are
right, so that it comes to the deciders (`tests/fuzz` has the shapes); fields are at their limits, one by one and all at
once. Kinds are read from the code: a new one is tried by itself.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import msgspec
import pytest

from scapp.channels.books.info import InvoiceRequest, PayInvoiceRequest
from scapp.channels.books.messages import prefix_of
from scapp.channels.books.step import BOOKS_STREAM, NOTHING
from scapp.channels.ledger.messages import AskClose, AskStanding
from scapp.channels.log.port import Append, StreamWrite
from scapp.channels.payments.locked.terms import LockSettings
from scapp.channels.routing.fees import Schedule
from scapp.channels.routing.own import HubTerms
from scapp.channels.transport.fake import FakeTransport
from scapp.channels.types import ZERO_ADDRESS, Address, ChannelId
from scapp.channels.virtual.messages import Said
from tests.scenarios.test_every_word import DECODERS, WORDS, name_of
from tests.support.hostile_scene import ALICE, BOB, IRENE, HostileScene
from tests.support.ledger_scene import DURATION_S
from tests.support.odd_values import damaged, odd_values

encode = msgspec.msgpack.encode
EACH_MAX = 5
"""Damaged ones of one kind from one sender, and as many made up."""


class Listening(FakeTransport):
    """Tells what it sends."""

    hears: Callable[[Address, Address, bytes], None]

    def send(self, peer: Address, message: bytes, on_acked: Callable[[], None] | None = None) -> None:
        Listening.hears(self.address, peer, message)
        super().send(peer, message, on_acked)


class Scene(HostileScene):
    """With a lane on each side of Irene, a payment over her, and what she was told."""

    async def lived(self) -> Scene:
        self.heard: dict[type, tuple[int, Any]] = {}  # the last of each kind, and who has said it
        self.cast.transport = Listening
        Listening.hears = self._hears
        await self.ready()
        self.virtual_id = await self.payments((ALICE, IRENE, BOB), 40)
        await self.books(ALICE).pay(self.virtual_id, 12)
        self.lanes = [await self.payments(path, 100, locks=True) for path in ((ALICE, IRENE), (IRENE, BOB))]
        invoice = (await self.books(BOB).locked.invoice(InvoiceRequest(amount=5))).invoice
        request = PayInvoiceRequest(invoice=invoice, via=(self.address(IRENE),), fee_max=9, wait_s=5)
        assert (await self.books(ALICE).locked.pay(request)).status == "paid"
        return self

    def _hears(self, sender: Address, peer: Address, data: bytes) -> None:
        decode = DECODERS.get(prefix_of(data))
        if peer == self.address(IRENE) and decode is not None:
            message = decode(data)
            self.heard[type(message)] = [each.address for each in self.signers].index(sender), message

    async def tell(self, sender: int | None, messages: Sequence[Any]) -> None:
        """All of them to Irene, and until she has decided on each."""
        if not messages:
            return
        transport = self.mallory if sender is None else self.nodes[sender]._transport
        for message in messages:
            acked = asyncio.Event()
            transport.send(self.address(IRENE), encode(message), acked.set)
        async with asyncio.timeout(30):
            await acked.wait()  # of the last one: they stay in order
        if not self.books(IRENE).fault:
            await self.decide()

    async def decide(self) -> None:
        """Whatever waits at Irene."""
        runner = self.books(IRENE)._runner
        assert runner is not None
        await runner.input(lambda books: NOTHING)
        await self.books(IRENE)._locks.input(lambda book: None)

    def known(self) -> list[bytes]:
        """Ids, a hash and addresses that mean something to Irene."""
        hashes = list(self.books(IRENE)._locks.book.state.transits)
        return [self.left, self.right, self.virtual_id, *self.lanes, *hashes, *map(self.address, (ALICE, IRENE, BOB))]

    def bugs(self) -> dict[str, int]:
        """What went wrong in Irene herself, which no message may bring about."""
        node = self.nodes[IRENE]
        found = {name: count for name, count in node.counters().items() if name.endswith("_bugs") and count}
        assert isinstance(node._transport, FakeTransport)
        failures = node._transport.handler_failures
        return {**found, "handler_failures": failures} if failures else found


@pytest.fixture(scope="module")
def quiet() -> Iterator[None]:
    """Every refusal is a line of the log."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    made = Scene(3)
    schedules = (Schedule(ZERO_ADDRESS, 1, 0),)
    made.locks[IRENE] = LockSettings(margin_s=300, schedules=schedules)
    made.hubs = [HubTerms(announce=True, schedules=schedules, duration_min_s=DURATION_S)] * 3
    await made.lived()
    try:
        yield made
    finally:
        await made.mallory.stop()
        await made.end()


def own_affair(message: Any) -> bool:
    """What a party may say at any time, and must stand by: that a ledger or channel shall end, that it was restored."""
    return isinstance(message, AskClose | AskStanding) or (isinstance(message, Said) and bool(message.end))


@pytest.mark.usefixtures("quiet")
async def test_no_damaged_message_costs_anything_or_is_taken_for_a_bug(scene: Scene) -> None:
    """Nobody has less, everything runs as before; the messages that were damaged were really said before."""
    known, before, heard = scene.known(), scene.worth(), dict(scene.heard)
    assert len(heard) > 10
    for kind in WORDS:
        draw = random.Random(name_of(kind))
        sender, example = heard.get(kind, (ALICE, None))
        bent = damaged(example, known) if example is not None else []
        odd = odd_values(kind, known)
        chosen = draw.sample(bent, min(len(bent), EACH_MAX)) + draw.sample(odd, min(len(odd), EACH_MAX))
        for who in (sender, None):
            await scene.tell(who, [each for each in chosen if who is None or not own_affair(each)])
            assert not scene.bugs(), (name_of(kind), who)
    assert scene.worth() == before
    assert scene.virtual_phase(scene.virtual_id, "running", (ALICE, IRENE, BOB))
    await scene.works()


@pytest.mark.usefixtures("quiet")
async def test_a_node_whose_books_are_corrupt_refuses_every_kind(scene: Scene) -> None:
    """It lives, and says to whoever asks what is wrong; no message makes it stumble."""
    known, log = scene.known(), scene.logs[IRENE]
    await scene.nodes[IRENE].stop()
    log.append(Append((StreamWrite(BOOKS_STREAM, log.version(BOOKS_STREAM), (b"\x91\xa5l:odd",)),)))
    node = await scene.node(IRENE)
    before = node.counters().get("messages_refused", 0)
    await scene.tell(ALICE, [odd_values(kind, known)[0] for kind in WORDS])
    assert not scene.bugs()
    assert node.counters()["messages_refused"] > before
    assert "the books are corrupt" in node.corrupt()[ChannelId(BOOKS_STREAM)]
