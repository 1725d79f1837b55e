"""What others make a node remember of locked payments: what is over is forgotten in the end, nothing else ever."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest

from scapp.channels.errors import CorruptionError
from scapp.channels.payments.locked import forgetting, paying
from scapp.channels.payments.locked.events import LocksEvent, LocksForgotten
from scapp.channels.payments.locked.invoice import Invoice, write_invoice
from scapp.channels.payments.locked.records import Lane
from scapp.channels.payments.locked.state import LocksState
from scapp.channels.payments.locked.stored import load_locks, save_locks
from scapp.channels.payments.locks import hash_of
from scapp.channels.types import ZERO_ADDRESS, ZERO_HASH, ChannelId
from tests.support.locked import FEE, PREIMAGE, LockNet, LockNode, every_event

LASTS_S = 5_000


class Around:
    """A `LockPort`: books in which every settled channel is over, unless it is said to be `held`."""

    def __init__(self) -> None:
        self.held: set[ChannelId] = set()

    def changed(self, lanes: Sequence[Lane]) -> None: ...

    def over(self, events: Sequence[LocksEvent]) -> None: ...

    def is_over(self, channel: ChannelId) -> bool:
        return channel not in self.held


@pytest.fixture
async def net(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LockNet]:
    monkeypatch.setattr(forgetting, "KEPT_MAX", 1)
    made = LockNet()
    await made.start()
    for node in made.nodes:
        node.runner.port = Around()
    try:
        yield made
    finally:
        await made.end()


async def paid(net: LockNet, number: int) -> bytes:
    """Alice pays an invoice of Bob's over 1 through the hub; its hash."""
    alice, hub, bob = net.nodes
    preimage, expires_s = bytes([number]) * 32, net.head_s + LASTS_S
    await bob.runner.input(lambda book: void(book.invoice(preimage, ZERO_ADDRESS, 1, expires_s, "")))
    invoice = Invoice(
        network=ZERO_HASH, app=ZERO_ADDRESS, payee=bob.address, asset=ZERO_ADDRESS, amount=1,
        hash=hash_of(preimage), expires_s=expires_s,
    )  # fmt: skip
    text = write_invoice(invoice, bob.signer)
    await alice.runner.input(
        lambda book: paying.begin(book, invoice, text, paying.plan(book, invoice, [hub.address], [FEE]))
    )
    await net.idle()
    net.now_ms += 1  # the next one is newer
    transit = alice.book.state.transits[invoice.hash]
    assert transit.status == "paid"
    return invoice.hash


def void(_: object) -> None:
    """What a decision gives is not needed."""


def known(node: LockNode) -> list[bytes]:
    state = node.book.state
    return sorted(state.transits.keys() | state.invoices.keys())


async def look(net: LockNet, seconds: int = 0) -> None:
    for node in net.nodes:
        node.runner._forget_at = 0
    await net.later(seconds)


async def settled(net: LockNet, channel: ChannelId) -> None:
    for node in net.nodes:
        if channel in node.book.state.lanes:
            await node.runner.input(lambda book: book.end_on_chain(channel))
            await node.runner.input(lambda book: book.settle(channel))


async def test_payments_are_forgotten_by_hubs_soon_and_by_those_who_know_the_invoice_when_it_has_expired(
    net: LockNet,
) -> None:
    """The newest is kept; the log, and a snapshot, say the same afterwards; what is paid stays paid."""
    names = [await paid(net, number) for number in (1, 2, 3)]
    await look(net)
    assert [len(known(node)) for node in net.nodes] == [3, 3, 3]  # a restored neighbour may still ask
    await look(net, 1_000)
    await look(net)
    assert [len(known(node)) for node in net.nodes] == [3, 1, 3]
    await look(net, LASTS_S)
    assert [known(node) for node in net.nodes] == [[names[2]]] * 3
    for node in net.nodes:
        saved = node.runner._stored
        state, version = load_locks(node.log)
        assert (version, sorted(state.transits), state.lanes) == (saved, [names[2]], node.book.state.lanes)
        save_locks(node.log, state, version)
        await node.restart()
        assert known(node) == [names[2]]
    assert await net.pay(await net.invoiced()) == ""
    assert net.nodes[2].lane(net.lanes[1]).paid == 33


async def test_a_payment_that_was_forgotten_is_not_begun_again(net: LockNet) -> None:
    """Its payer knows that the invoice has expired, its payee has no such invoice; the hub's lock comes back."""
    text = await net.invoiced()
    assert await net.pay(text) == ""
    net.now_ms += 1
    await paid(net, 2)
    await look(net, LASTS_S)
    await look(net)
    assert net.nodes[0].transit() is None
    assert net.nodes[2].transit() is None
    assert "expired" in paying.known_fault(net.nodes[0].book, text)
    assert await net.pay(text) == "no invoice of the payee has that hash"


async def test_what_is_locked_or_may_be_asked_for_is_not_forgotten(net: LockNet) -> None:
    """A payee that hears nothing leaves the lock where it is: everybody remembers it until it has ended."""
    net.nodes[2].deaf = {"k:locked"}
    assert await net.pay(await net.invoiced()) == ""
    net.now_ms += 1
    net.nodes[2].deaf = set()
    for number in (2, 3):
        await paid(net, number)
    await look(net, 30)
    assert hash_of(PREIMAGE) in known(net.nodes[0])
    assert hash_of(PREIMAGE) in known(net.nodes[1])


async def test_settled_lanes_are_forgotten_once_their_channels_are_over(net: LockNet) -> None:
    """Nothing is left of them, nor of the parties that had no other."""
    hub = net.nodes[1]
    around = hub.runner.port
    assert isinstance(around, Around)
    around.held = {net.lanes[0]}
    for channel in net.lanes:
        await settled(net, channel)
    await look(net)
    assert list(hub.book.state.lanes) == net.lanes  # one of them is the one that is kept
    around.held.clear()
    await look(net)
    (left,) = hub.book.state.lanes
    assert not hub.book.state.live_lanes
    assert not hub.book.state._by_party
    assert load_locks(hub.log)[0].lanes.keys() == {left}


async def test_a_lane_stays_as_long_as_a_payment_in_it_is_shown(net: LockNet) -> None:
    await paid(net, 1)
    for channel in net.lanes:
        await settled(net, channel)
    await look(net)
    assert [len(node.book.state.lanes) for node in net.nodes] == [1, 2, 1]


async def test_bursts_are_looked_through_once(net: LockNet) -> None:
    """To look costs as much as there is: it is done again when half as much as is kept has come."""
    hub = net.nodes[1]
    await look(net)
    assert hub.runner._forget_at == forgetting.size(hub.book) + forgetting.KEPT_MAX // 2


def test_an_event_that_forgets_what_is_not_over_is_corrupt() -> None:
    """Or what is not there: it was not written by a node."""
    state = LocksState()
    for event in every_event()[:7]:
        state.next(event)
    lane, name = next(iter(state.lanes)), next(iter(state.transits))
    for lanes, hashes in (((lane,), ()), ((), (name,)), ((b"\1" * 32,), ()), ((), (b"\1" * 32,))):
        with pytest.raises(CorruptionError):
            state.next(LocksForgotten(lanes, hashes, 0))
