"""Payments under hash locks: every crash, refusals that reach the payer, deadlines, restores; no hop loses anything."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence

import pytest
from msgspec.structs import replace

from scapp.channels.errors import LocalError
from scapp.channels.log.memory import MemoryLog
from scapp.channels.log.port import Append, Snapshot
from scapp.channels.payments.events import amount_bytes
from scapp.channels.payments.locked import paying, recovering, speaking
from scapp.channels.payments.locked.events import LOCKS_STREAM, LocksEvent
from scapp.channels.payments.locked.invoice import Invoice
from scapp.channels.payments.locked.messages import Ask, Locked, encode_lock_message
from scapp.channels.payments.locked.records import Hop, Lane, Status
from scapp.channels.payments.locked.stored import load_locks, save_locks
from scapp.channels.payments.locks import hash_of
from scapp.channels.restoring import mark_restored
from scapp.channels.types import ZERO_ADDRESS, ZERO_HASH, ChannelId
from tests.support.locked import FEE, MARGIN_S, PREIMAGE, LockNet, LockNode


class _Claims:
    """A `LockPort`: what is due on chain goes there as soon as there is word of it."""

    def __init__(self, node: LockNode) -> None:
        self.node = node

    def changed(self, lanes: Sequence[Lane]) -> None:
        self.node.reveal_due()

    def over(self, events: Sequence[LocksEvent]) -> None:
        pass

    def is_over(self, channel: ChannelId) -> bool:
        return False


@pytest.fixture
async def net() -> AsyncIterator[LockNet]:
    made = await LockNet().start()
    try:
        yield made
    finally:
        await made.end()


def paid(net: LockNet) -> list[tuple[int, int]]:
    """Of each lane what its payer has promised for good, and what its payee holds."""
    return [
        (payer.lane(channel).paid, payee.lane(channel).paid)
        for channel, payer, payee in zip(net.lanes, net.nodes, net.nodes[1:], strict=False)
    ]


def statuses(net: LockNet) -> list[Status | None]:
    return [transit.status if (transit := node.transit()) is not None else None for node in net.nodes]


async def test_a_payment_over_a_hub(net: LockNet) -> None:
    """The payer has its receipt, the hub its fee, and no lock is left."""
    assert await net.pay(await net.invoiced()) == ""
    assert paid(net) == [(30 + FEE, 30 + FEE), (30, 30)]
    assert statuses(net) == ["paid"] * 3
    payer = net.nodes[0].transit()
    assert payer is not None
    assert payer.preimage == PREIMAGE
    assert not any(node.book.state.locked() for node in net.nodes)


async def test_over_three_hubs() -> None:
    """Each keeps its fee, and the payer pays all of them."""
    net = await LockNet(5).start()
    assert await net.pay(await net.invoiced(), fee=FEE) == ""
    assert [mine for mine, _ in paid(net)] == [36, 34, 32, 30]
    await net.end()


async def test_nobody_pays_an_invoice_twice(net: LockNet) -> None:
    """Neither its payer, nor another one: a hash is paid once, and a second lock on it would be a gift."""
    invoice = await net.invoiced()
    assert await net.pay(invoice) == ""
    assert "a payment with that hash is known" in await net.pay(invoice)
    with pytest.raises(LocalError, match="never used"):
        await net.invoiced()
    assert paid(net) == [(32, 32), (30, 30)]


@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.parametrize("who", [0, 1, 2])
async def test_whoever_dies_at_whichever_append_the_payment_is_made_once(who: int, lost: bool) -> None:
    """Right before it is written and right after: after a restart, and the payer's next attempt, all have it alike."""
    at = 0
    while True:
        at += 1
        net = await LockNet().start()
        invoice, victim = await net.invoiced(), net.nodes[who]
        first = victim.disk.appends
        victim.disk.fails_at, victim.disk.lost = first + at, lost
        fault = await _attempt(net, invoice)
        reached = victim.disk.appends >= first + at
        if reached:
            await victim.restart()
            await net.idle()
            for _ in range(3):
                await net.later(3)
            known = net.nodes[0].transit()
            if known is None:  # it never left
                assert fault
                assert await _attempt(net, invoice) == ""
            for _ in range(3):
                await net.later(3)
        assert statuses(net) == ["paid"] * 3, (at, fault)
        assert paid(net) == [(32, 32), (30, 30)], at
        await net.end()
        if not reached:
            assert at > 2
            return


@pytest.mark.parametrize("who", [1, 2])
async def test_a_lock_waits_for_a_node_that_comes_back_and_has_not_seen_its_chain_yet(net: LockNet, who: int) -> None:
    """It can judge no lock's time then, and would give up a payment whose lock stands for hours."""
    back = net.nodes[who]
    back.deaf = {"k:locked"}
    assert await net.pay(await net.invoiced()) == ""
    back.deaf, back.sees_chain = set(), False
    await back.restart()
    await net.idle()
    assert back.transit() is None
    assert back.counters["locks_refused"] > 0
    back.sees_chain = True
    for _ in range(2):
        await net.later(3)
    assert statuses(net) == ["paid"] * 3
    assert paid(net) == [(32, 32), (30, 30)]


async def _attempt(net: LockNet, invoice: object) -> str:
    try:
        return await net.pay(invoice)  # type: ignore[arg-type]
    except Exception as error:  # the payer's own disk
        return str(error)


def _poor(net: LockNet) -> None:
    net.nodes[1].settings = replace(net.nodes[1].settings, locked_max={ZERO_ADDRESS: 29})


def _no_hub(net: LockNet) -> None:
    net.nodes[1].settings = replace(net.nodes[1].settings, schedules=())


def _dear(net: LockNet) -> None:
    (schedule,) = net.nodes[1].settings.schedules
    net.nodes[1].settings = replace(net.nodes[1].settings, schedules=(replace(schedule, base=FEE + 1),))


def _slow(net: LockNet) -> None:
    net.nodes[1].settings = replace(net.nodes[1].settings, margin_s=MARGIN_S + 1)


def _busy(net: LockNet) -> None:
    net.nodes[2].settings = replace(net.nodes[2].settings, locks_max=0)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_poor, "30 would be locked for .*; this node allows 29"),
        (_no_hub, "does not forward"),
        (_dear, "fee too low: 2; this hub asks 3"),
        (_slow, "100 s between two locks; this hub wants 101"),
        (_busy, "not enough capacity, or too many locks"),
    ],
)
async def test_refusals_reach_the_payer_before_anything_is_locked(change: object, says: str) -> None:
    net = LockNet()
    change(net)  # type: ignore[operator]
    await net.start()
    fault = await net.pay(await net.invoiced())
    assert re.search(says, fault), fault
    assert statuses(net) == [None] * 3
    await net.end()


async def test_what_the_payee_does_not_take(net: LockNet) -> None:
    """Less than the invoice, an unknown one, one that has expired, more than a lane holds."""
    invoice = await net.invoiced()
    assert "the invoice is over 30" in await net.pay(replace(invoice, amount=29))
    assert "no invoice of the payee" in await net.pay(replace(invoice, hash=b"\x12" * 32))
    assert "not enough capacity" in await net.pay(replace(invoice, amount=99))
    net.head_s += 3_601
    net.now_ms += 3_601_000
    assert "expired" in await net.pay(invoice)
    net.network.partition([net.nodes[1].address], [net.nodes[2].address])
    await net.idle()
    assert f"0x{net.nodes[2].address.hex()} is not connected" in await net.pay(
        replace(invoice, expires_s=net.head_s + 9_999)
    )
    assert statuses(net) == [None] * 3


async def test_a_hub_that_does_not_answer_is_given_up(net: LockNet) -> None:
    """The one before it says so, in time for its own answer to count."""
    net.nodes[2].deaf.add("k:ask")
    waiting = asyncio.ensure_future(net.pay(await net.invoiced()))
    await net.idle()
    net.now_ms += 8_000
    net.nodes[1].runner.tick()
    assert f"0x{net.nodes[2].address.hex()} does not answer" in await waiting


async def test_a_lock_that_nobody_opens_comes_back_when_the_chain_has_passed_its_end(net: LockNet) -> None:
    """Not before: what was signed cannot be taken back. The payer hears at once that it fails, and why."""
    invoice = await net.invoiced()
    net.nodes[2].book.settings = replace(net.nodes[2].book.settings, margin_s=10**6)
    hub = net.nodes[1]
    hub.runner.asks.on_ask = lambda peer, ask, _: _agree(hub, peer, ask)  # type: ignore[method-assign]
    assert await net.pay(invoice) == ""
    assert statuses(net) == ["failing", "failing", "failing"]
    payer = net.nodes[0].transit()
    assert payer is not None
    assert "a lock that ends in 200 s" in payer.fault
    assert net.nodes[0].lane(net.lanes[0]).known.free == 68
    await net.later(200)
    assert statuses(net) == ["failing", "failing", "failing"]
    await net.later(1)
    assert statuses(net)[1:] == ["failing", "failed"]
    await net.later(100)
    assert statuses(net) == ["failed"] * 3
    assert paid(net) == [(0, 0), (0, 0)]
    assert net.nodes[0].lane(net.lanes[0]).known.free == 100
    net.nodes[2].book.settings = replace(net.nodes[2].book.settings, margin_s=MARGIN_S)
    assert await net.pay(invoice) == ""  # the same invoice, now that no lock on it may be opened any more
    assert paid(net) == [(32, 32), (30, 30)]


async def test_a_payee_that_hears_late_of_a_lock_that_has_ended_is_paid_by_the_next_attempt(net: LockNet) -> None:
    """The old voucher was on its way when the payee was down: the lock in it is taken and told to have failed, and is
    not confused with the later one on the same hash."""
    invoice, (_, hub, bob) = await net.invoiced(), net.nodes
    bob.deaf.add("k:locked")
    assert await net.pay(invoice) == ""
    (late,) = speaking.pending(hub.book, hub.lane(net.lanes[1]), 0)
    await net.later(201)
    await net.later(100)
    assert statuses(net) == ["failed", "failed", None]
    bob.deaf.clear()
    bob.runner.receive(hub.address, encode_lock_message(late))
    await net.idle()
    assert bob.lane(net.lanes[1]).locks
    await net.later(3)
    assert await net.pay(invoice) == ""
    for _ in range(4):
        await net.later(3)
    assert statuses(net) == ["paid"] * 3
    assert paid(net) == [(32, 32), (30, 30)]


async def test_the_same_when_the_next_attempt_comes_before_the_chain_has_told_of_the_end(net: LockNet) -> None:
    invoice, (_, hub, bob) = await net.invoiced(), net.nodes
    bob.deaf.add("k:locked")
    assert await net.pay(invoice) == ""
    (late,) = speaking.pending(hub.book, hub.lane(net.lanes[1]), 0)
    await net.later(201)
    await net.later(100)
    assert await net.pay(invoice) == ""
    bob.deaf.clear()
    bob.runner.receive(hub.address, encode_lock_message(late))
    for _ in range(6):
        await net.later(3)
    assert statuses(net) == ["paid"] * 3
    assert paid(net) == [(32, 32), (30, 30)]


def _agree(node: LockNode, peer: object, ask: Ask) -> None:
    from scapp.channels.payments.locked.messages import Answer

    node.runner._tell(peer, Answer(ask.hash, node.address, "", amount_bytes(0), ask.number))  # type: ignore[arg-type]


async def test_a_hub_that_hears_no_preimage_is_paid_by_the_chain(net: LockNet) -> None:
    """Bob reveals half a margin before his lock ends; that opens all locks on the hash, the hub's as well."""
    net.nodes[1].deaf.add("k:secret")
    assert await net.pay(await net.invoiced()) == ""
    assert statuses(net) == ["locked", "locked", "locked"]
    await net.later(140)
    assert net.registry == {}
    await net.later(15)
    assert hash_of(PREIMAGE) in net.registry
    await net.later(12)
    assert statuses(net) == ["paid"] * 3
    assert paid(net) == [(32, 32), (30, 30)]


async def test_a_hub_whose_payer_does_not_pay_reveals_the_preimage(net: LockNet) -> None:
    """Alice hears nothing of it; the hub has paid Bob, and takes Alice's lock on chain, where she sees it."""
    net.nodes[0].deaf.add("k:secret")
    assert await net.pay(await net.invoiced()) == ""
    assert statuses(net) == ["locked", "locked", "paid"]
    await net.later(255)
    assert net.nodes[1].revealed == [PREIMAGE]
    await net.later(12)
    assert paid(net) == [(32, 32), (30, 30)]


async def test_no_preimage_is_shown_for_a_lock_that_the_next_block_may_end(net: LockNet) -> None:
    """The newest block is 1,000 s old, and so is a lock that its payer counts from it: there is no time to reveal."""
    invoice, bob = await net.invoiced(), net.nodes[2]
    net.now_ms += 1_000_000
    hops = (Hop(bob.address, invoice.amount, net.head_s + 2 * MARGIN_S),)
    hub = net.nodes[1]
    await hub.runner.input(lambda book: paying.begin(book, invoice, "scapp1", hops))
    await net.idle()
    transit = bob.transit()
    assert transit is not None
    assert (
        transit.fault
        == "a lock that ends in -800 s; allowed are 100 to 1900; the newest block known here is 1000 s old"
    )
    assert not transit.preimage
    assert statuses(net)[1:] == ["failing", "failing"]


async def test_invoices_are_paid_while_a_chain_makes_no_blocks(net: LockNet) -> None:
    """Locks then count from the clock: up to the time that a dispute leaves."""
    invoice = await net.invoiced()
    net.now_ms += 1_000_000
    assert await net.pay(invoice) == ""
    assert statuses(net) == ["paid"] * 3
    net.now_ms += 700_000
    assert "a lock that ends in 1950 s; allowed are 100 to 1900; the newest" in await net.pay(
        replace(invoice, hash=b"\x12" * 32)
    )


async def test_a_preimage_goes_on_chain_though_no_block_comes(net: LockNet) -> None:
    """By the clock its lock ends soon; the next block may be too late."""
    net.nodes[1].deaf.add("k:secret")
    assert await net.pay(await net.invoiced()) == ""
    bob = net.nodes[2]
    bob.runner.port = _Claims(bob)
    for seconds, revealed in ((149, []), (1, [PREIMAGE])):
        net.now_ms += seconds * 1_000
        bob.runner.tick()
        assert bob.revealed == revealed
    await net.later(12)
    assert statuses(net) == ["paid"] * 3


async def test_a_channel_with_open_locks_is_not_ended(net: LockNet) -> None:
    """Neither by its payer nor by its payee; it takes no further lock meanwhile, and ends once they are over."""
    invoice, channel = await net.invoiced(), net.lanes[1]
    net.nodes[1].deaf.add("k:secret")
    assert await net.pay(invoice) == ""
    for node in net.nodes[1:]:
        with pytest.raises(LocalError, match="1 locks are open in this payment channel, until 1700000200"):
            await node.runner.input(lambda book: book.close(channel, None))
    net.nodes[1].deaf.clear()
    await net.later(3)
    for node in net.nodes[1:]:
        await node.runner.input(lambda book: book.close(channel, None))
        assert (node.lane(channel).phase, node.lane(channel).final) == ("closed", 30)


async def test_a_payee_whose_channel_is_on_chain_signs_no_end_below_what_its_locks_are_worth_there(
    net: LockNet,
) -> None:
    """Its payer has challenged with an old state and offers to end the channel with what is paid so far."""
    invoice, channel = await net.invoiced(), net.lanes[1]
    hub, bob = net.nodes[1:]
    hub.deaf.add("k:secret")
    assert await net.pay(invoice) == ""
    await bob.runner.input(lambda book: book.end_on_chain(channel))
    for total in (None, 0, 30):
        with pytest.raises(LocalError, match="a lock is open in this payment channel, until 1700000200"):
            await bob.runner.input(lambda book, total=total: book.close(channel, total))
    for seconds in (140, 15, 12):
        await net.later(seconds)
    assert hash_of(PREIMAGE) in net.registry
    with pytest.raises(LocalError, match="29 to the payee, to whom 30 is due"):
        await bob.runner.input(lambda book: book.close(channel, 29))
    await bob.runner.input(lambda book: book.close(channel, 30))


@pytest.mark.parametrize("who", [0, 1, 2])
async def test_a_restored_node_is_told_what_it_has_signed(net: LockNet, who: int) -> None:
    """From before the payment: it signs nothing until its neighbours have told, and then knows what they do; a hub that
    has forgotten everything still takes from upstream what was taken from it downstream."""
    invoice, node = await net.invoiced(), net.nodes[who]
    old = node.log.durable_copy()
    net.nodes[0].deaf.add("k:secret")
    assert await net.pay(invoice) == ""
    assert statuses(net) == ["locked", "locked", "paid"]
    mark_restored(old, b"\x05" * 16, net.now_ms, net.now_ms)
    node.log = old
    net.nodes[0].deaf.clear()
    await node.restart()
    await net.idle()
    for _ in range(4):
        await net.later(3)
    assert paid(net) == [(32, 32), (30, 30)]
    assert not any(lane.token for each in net.nodes for lane in each.book.state.lanes.values())


async def test_a_snapshot_is_the_fold_of_its_events(net: LockNet) -> None:
    """With a lock that stands, one that is over, and an invoice; a node begins from it, one of another shape is passed
    over."""
    assert await net.pay(await net.invoiced()) == ""
    net.nodes[2].deaf.add("k:locked")
    hub = net.nodes[1]
    folded, version = load_locks(hub.log)
    save_locks(hub.log, folded, version)
    again, at = load_locks(hub.log)
    assert at == version
    for each in ("lanes", "invoices", "transits", "live_lanes", "locked_lanes", "open_transits", "version"):
        assert getattr(again, each) == getattr(folded, each)
    hub.log.save_snapshot(LOCKS_STREAM, Snapshot(version, b"{}"), "channel")
    assert load_locks(hub.log)[0].lanes == folded.lanes


async def test_nothing_is_said_of_what_is_not_durable_yet(net: LockNet) -> None:
    """A link that comes up, and time that passes, while an append is on its way."""
    alice, release = net.nodes[0], asyncio.Event()
    invoice, append = await net.invoiced(), alice.disk.append

    async def slow(what: Append) -> None:
        await release.wait()
        await append(what)

    alice.disk.append = slow  # type: ignore[method-assign]
    paying_it = asyncio.ensure_future(net.pay(invoice))
    await net.idle()
    for _ in range(3):
        await net.later(3)
        alice.runner.link(net.nodes[1].address, True)
        await net.idle()
    assert alice.lane(net.lanes[0]).locks  # decided, and not stored
    assert statuses(net)[1:] == [None, None]
    release.set()
    assert await paying_it == ""
    await net.later(3)
    assert statuses(net) == ["paid"] * 3


async def test_a_payer_that_says_the_same_under_new_numbers_fills_no_disk(net: LockNet) -> None:
    assert await net.pay(await net.invoiced()) == ""
    alice, hub = net.nodes[:2]
    (said,) = speaking.pending(alice.book, alice.lane(net.lanes[0]), 0)
    assert isinstance(said, Locked)
    before = hub.log.version(LOCKS_STREAM)
    for number in range(10, 20):
        hub.runner.receive(alice.address, encode_lock_message(replace(said, number=number)))
    await net.idle()
    assert hub.log.version(LOCKS_STREAM) == before


async def test_a_restored_payer_offers_nothing_before_it_has_recovered(net: LockNet) -> None:
    invoice, alice = await net.invoiced(), net.nodes[0]
    old: MemoryLog = alice.log.durable_copy()
    mark_restored(old, b"\x05" * 16, net.now_ms, net.now_ms)
    alice.log = old
    alice.deaf.add("k:held")
    await alice.restart()
    await net.idle()
    assert "is open to" in str(alice.book.lane_to(net.nodes[1].address, ZERO_ADDRESS, 1, own=True))
    with pytest.raises(LocalError, match="restored from a backup"):
        await alice.runner.input(lambda book: book.close(net.lanes[0], None))
    alice.deaf.clear()
    await net.later(3)
    assert await net.pay(invoice) == ""


async def test_two_that_were_restored_name_the_override_and_it_frees_both(net: LockNet) -> None:
    """Neither may wait without a word for what the other cannot tell."""
    invoice, pair, channel = await net.invoiced(), net.nodes[1:], net.lanes[1]
    for node in pair:
        assert recovering.cannot_tell(node.book, node.lane(channel)) == ""
        mark_restored(node.log, bytes([node.address[0]]) * 16, net.now_ms, net.now_ms)
        await node.restart()
    for _ in range(2):
        await net.later(3)
    for node in pair:
        text = recovering.cannot_tell(node.book, node.lane(channel))
        assert f"scapp payments recover 0x{channel.hex()} --override" in text
    await pair[0].runner.input(lambda book: book.recovered(channel, by_operator=True))
    for _ in range(4):
        await net.later(3)
    assert [recovering.cannot_tell(node.book, node.lane(channel)) for node in pair] == ["", ""]
    assert await net.pay(invoice) == ""


async def test_who_has_said_too_much_begins_nothing_and_ends_what_it_has() -> None:
    """Its questions are refused with the reason, its locks wait until it may speak again; a lock that stands is paid,
    and nobody else is held up."""
    net = await LockNet().start()
    alice, hub, bob = net.nodes
    bob.deaf = {"k:locked"}
    assert await net.pay(await net.invoiced()) == ""
    bob.deaf = set()
    hub.limited = {alice.address: "has said too much"}
    await net.later(3)  # Bob hears of the lock, and opens it; Alice's next voucher has one lock less
    assert [node.transit().status for node in net.nodes] == ["paid"] * 3  # type: ignore[union-attr]
    await bob.runner.input(lambda book: _void(book.invoice(b"\x22" * 32, ZERO_ADDRESS, 1, net.head_s + 60, "")))
    name = hash_of(b"\x22" * 32)
    hops = (Hop(hub.address, 1 + FEE, net.head_s + 3 * MARGIN_S), Hop(bob.address, 1, net.head_s + 2 * MARGIN_S))
    reply = await alice.runner.asks.ask(name, ZERO_ADDRESS, hops)
    assert (reply.by, reply.fault) == (hub.address, "has said too much")
    invoice = Invoice(
        network=ZERO_HASH, app=ZERO_ADDRESS, payee=bob.address, asset=ZERO_ADDRESS, amount=1, hash=name,
        expires_s=net.head_s + 60,
    )  # fmt: skip
    await alice.runner.input(lambda book: paying.begin(book, invoice, "scapp1", hops))
    await net.later(3)
    assert hub.book.state.transits.get(name) is None
    assert hub.counters["locks_refused"] > 0
    hub.limited = {}
    await net.later(30)
    assert alice.book.state.transits[name].status == "paid"
    await net.end()


def _void(_: object) -> None:
    """What a decision gives is not needed."""
