"""Invoices through whole nodes in one process: over a hub, refused, restarted, and claimed on chain."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from scapp.channels.books.info import InvoiceRequest, LockedInfo, PayInvoiceRequest
from scapp.channels.books.locks import _raised
from scapp.channels.errors import LocalError
from scapp.channels.payments.locked.asking import Reply
from scapp.channels.payments.locked.terms import LockSettings
from scapp.channels.routing.fees import Schedule
from scapp.channels.routing.own import HubTerms
from scapp.channels.types import ZERO_ADDRESS, Address, ChannelId
from tests.support.ledger_scene import DURATION_S, LedgerScene

ALICE, HUB, BOB = 0, 1, 2
FEE = 2


class Scene:
    """Alice, hub and Bob with a ledger and a lane over 100 between neighbours."""

    def __init__(self, scene: LedgerScene) -> None:
        self.scene = scene
        self.hub = scene.address(HUB)

    async def start(self) -> Scene:
        await self.scene.start()
        self.ledgers = [await self.scene.ledger(ALICE, HUB), await self.scene.ledger(HUB, BOB)]
        self.lanes = [await self.scene.payments(path, 100, locks=True) for path in ((ALICE, HUB), (HUB, BOB))]
        return self

    async def invoice(self, amount: int = 30) -> str:
        return (await self.scene.books(BOB).locked.invoice(InvoiceRequest(amount=amount))).invoice

    async def pay(self, invoice: str, wait_s: float = 5.0, fee_max: int = FEE, routed: bool = False) -> LockedInfo:
        via = () if routed else (self.hub,)
        request = PayInvoiceRequest(invoice=invoice, via=via, routed=routed, fee_max=fee_max, wait_s=wait_s)
        return await self.scene.books(ALICE).locked.pay(request)

    def paid(self, index: int, lane: int) -> int:
        return self.scene.virtual(index, self.lanes[lane]).paid

    def deafen(self, index: int, *tags: bytes) -> None:
        """A node hears no messages of locked payments that begin so."""
        locks = self.scene.books(index)._locks
        hears = locks.receive

        def receive(peer: Address, data: bytes) -> None:
            if not any(tag in data[:16] for tag in tags):
                hears(peer, data)

        locks.receive = receive  # type: ignore[method-assign]

    async def settle(self, lane: int, *pair: int) -> None:
        channel = self.lanes[lane]
        await self.scene.until(lambda: self.scene.virtual_phase(channel, "released", pair), blocks=True, seconds=300)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    made = LedgerScene(3)
    schedules = (Schedule(ZERO_ADDRESS, FEE, 0),)
    made.locks[HUB] = LockSettings(margin_s=300, schedules=schedules)
    terms = HubTerms(announce=True, duration_min_s=DURATION_S)
    made.hubs = [HubTerms(), HubTerms(announce=True, schedules=schedules, duration_min_s=DURATION_S), terms]
    try:
        yield await Scene(made).start()
    finally:
        await made.end()


async def test_an_invoice_is_paid_over_a_hub_and_settles_in_the_ledgers(scene: Scene) -> None:
    """No transaction; the hub's fee is what it asks; a restart of everybody changes nothing; the same invoice again is
    the same payment."""
    nodes, sent = scene.scene, len(scene.scene.chain.sent)
    text = await scene.invoice()
    paid = await scene.pay(text)
    assert (paid.status, paid.amount, paid.fee, len(paid.preimage)) == ("paid", 30, FEE, 32)
    for index in (ALICE, HUB, BOB):
        await nodes.restart(index)
    assert await scene.pay(text) == paid
    assert [each.paid for each in nodes.books(BOB).locked.invoices()] == [True]
    assert [each.role for i in nodes.nodes for each in nodes.books(i).locked.payments()] == ["payer", "hub", "payee"]
    assert [event.detail for event in nodes.events[BOB] if event.kind == "paid"] == ["invoice of 30"]
    for lane, who in enumerate((ALICE, BOB)):
        await nodes.books(who).close_virtual(scene.lanes[lane])
        await nodes.until(lambda lane=lane: nodes.virtual_phase(scene.lanes[lane], "released", (lane, lane + 1)))  # type: ignore[misc]
    assert nodes.money(HUB, scene.ledgers[0]) == (1_032, 968, 0)
    assert nodes.money(HUB, scene.ledgers[1]) == (970, 1_030, 0)
    assert len(nodes.chain.sent) == sent


async def test_what_a_payer_is_told(scene: Scene) -> None:
    """Who refused what; nothing is locked for it, and the next attempt may succeed."""
    alice, text = scene.scene.books(ALICE), await scene.invoice()
    with pytest.raises(LocalError, match=r"fee too low: 0; this hub asks 2 \(fees up to 1 are allowed\)"):
        await scene.pay(text, fee_max=1)
    with pytest.raises(LocalError, match="no payment channel that takes locks is open to"):
        await alice.locked.pay(PayInvoiceRequest(invoice=text))
    with pytest.raises(LocalError, match="the invoice"):
        await alice.locked.pay(PayInvoiceRequest(invoice=text[:60] + "a" + text[61:]))
    with pytest.raises(LocalError, match="not enough capacity: 100"):
        await scene.pay(await scene.invoice(101))
    with pytest.raises(LocalError, match="this node's own invoice"):
        await scene.scene.books(BOB).locked.pay(PayInvoiceRequest(invoice=text, via=(scene.hub,)))
    with pytest.raises(LocalError, match="it pays invoices"):
        await alice.pay(scene.lanes[0], 1)
    assert alice.locked.payments() == []
    assert (await scene.pay(text, routed=True)).status == "paid"


def test_an_answer_that_comes_twice_is_no_refusal() -> None:
    """A hub that asks for what it is offered by now has answered the question before; without a price it refuses."""
    hub, other = Address(b"\x01" * 20), Address(b"\x02" * 20)
    assert _raised((hub,), (0,), Reply("fee too low", hub, 2)) == (2,)
    assert _raised((hub,), (2,), Reply("fee too low", hub, 2)) == (2,)
    assert _raised((hub,), (2,), Reply("no capacity", hub)) is None
    assert _raised((hub,), (2,), Reply("fee too low", other, 9)) is None


async def test_a_payee_whose_hub_does_not_pay_redeems_on_chain(scene: Scene) -> None:
    """The hub hears no preimage, and looks at no chain for it: Bob reveals it in time, then takes the channel there,
    where his lock counts. Alice's node sees the preimage on chain and pays the hub."""
    nodes, lane = scene.scene, scene.lanes[1]
    scene.deafen(HUB, b"k:secret")
    nodes.books(HUB)._locks.book.sweep = lambda: None  # type: ignore[method-assign]
    paid = await scene.pay(await scene.invoice(), wait_s=0.1)
    assert paid.status == "locked"
    await nodes.until(lambda: any(nodes.chain.chain.world.revealed), blocks=True, seconds=60)
    assert nodes.chain.chain.world.revealed == {paid.hash: nodes.chain.chain.head.time_s}
    await nodes.until(lambda: nodes.books(ALICE).locked.payments()[0].status == "paid", blocks=True, seconds=60)
    await scene.settle(1, HUB, BOB)
    assert nodes.money(BOB, scene.ledgers[1]) == (1_030, 970, 0)
    assert scene.paid(HUB, 0) == 32
    assert "has not paid it by its end" in _exit_reason(nodes, BOB, lane)


def _exit_reason(nodes: LedgerScene, index: int, channel: ChannelId) -> str:
    books = nodes.books(index)._open_books()
    assert books is not None
    return books.state.virtuals[channel].exit_reason


async def test_a_lane_that_goes_to_the_chain_with_a_lock_in_it(scene: Scene) -> None:
    """The hub takes it there while Bob's lock is open: Bob reveals at once, and his redemption with the lock takes the
    place of whatever is shown before."""
    nodes = scene.scene
    scene.deafen(HUB, b"k:secret")
    assert (await scene.pay(await scene.invoice(), wait_s=0.1)).status == "locked"
    await nodes.books(HUB).challenge_virtual(scene.lanes[1])
    await nodes.until(lambda: any(nodes.chain.chain.world.revealed), blocks=True)
    await scene.settle(1, HUB, BOB)
    assert nodes.money(BOB, scene.ledgers[1]) == (1_030, 970, 0)
    await nodes.until(lambda: scene.paid(HUB, 0) == 32, blocks=True)


async def test_an_unopened_lock_ends_and_both_channels_can_be_closed(scene: Scene) -> None:
    """Bob never opens it: the money comes back along the way, channels wait for that before they end."""
    nodes = scene.scene
    text = await scene.invoice()
    invoices = nodes.books(BOB)._locks.book.state.invoices
    for name in list(invoices):  # it is forgotten between the question and the lock
        asked = nodes.books(BOB)._locks.asks.on_ask

        def on_ask(peer: Address, ask: object, limited: str, name: bytes = name, asked: object = asked) -> None:
            asked(peer, ask)  # type: ignore[operator]
            invoices.pop(name, None)

        nodes.books(BOB)._locks.asks.on_ask = on_ask  # type: ignore[method-assign]
    failing = await scene.pay(text)
    assert (failing.status, failing.reason) == ("failing", "no invoice of the payee has that hash")
    assert nodes.virtual(ALICE, scene.lanes[0]).locked == 32
    await nodes.books(ALICE).close_virtual(scene.lanes[0])
    await nodes.until(lambda: "1 locks" in nodes.virtual(ALICE, scene.lanes[0]).waiting_for)
    await nodes.until(lambda: nodes.virtual_phase(scene.lanes[0], "released", (ALICE, HUB)), blocks=True, seconds=120)
    assert nodes.books(ALICE).locked.payments()[0].status == "failed"
    assert nodes.money(ALICE, scene.ledgers[0]) == (1_000, 1_000, 0)
