"""Neighbours who choose their moment: a lock that has ended is not paid and its preimage not told, whatever a node can
see of its chain; small, worthless and endless locks, and many words, are no reason to serve nobody else."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from scapp.channels.errors import PeerError
from scapp.channels.payments.book import PurseTerms
from scapp.channels.payments.events import amount_bytes
from scapp.channels.payments.locked import recovering, runner, speaking
from scapp.channels.payments.locked.events import LocksRestored
from scapp.channels.payments.locked.messages import Ask, LaneHeld, LaneWanted, Locked, Secret, encode_lock_message
from scapp.channels.payments.locked.records import FORGOTTEN
from scapp.channels.payments.locked.state import wire_locks
from scapp.channels.payments.locks import Lock, hash_of, sign_locked
from scapp.channels.payments.messages import NO_TOKEN
from scapp.channels.types import ZERO_ADDRESS, ChannelId
from tests.support.locked import DURATION_S, HEAD_S, PREIMAGE, LockNet, LockNode

EXTRA = ChannelId(b"\xee" * 32)


@pytest.fixture
async def net() -> AsyncIterator[LockNet]:
    made = await LockNet().start()
    try:
        yield made
    finally:
        await made.end()


def pass_time(net: LockNet, seconds: int) -> None:
    """Without that anybody looks."""
    net.head_s += seconds
    net.now_ms += seconds * 1_000


@pytest.mark.parametrize("sees", ["nothing", "an old block"])
async def test_a_hub_that_cannot_see_the_end_of_a_lock_does_not_pay_for_it(net: LockNet, sees: str) -> None:
    """It was away until both locks had ended, or its endpoint hangs: the payee comes with the preimage when the payer's
    own lock gives nothing any more."""
    _, hub, bob = net.nodes
    hub.deaf.add("k:secret")
    assert await net.pay(await net.invoiced()) == ""
    hub.deaf.clear()
    await bob.die()
    pass_time(net, 1_000)
    if sees == "nothing":
        hub.sees_chain = False
        await hub.restart()
    else:
        hub.runner._head_s = lambda: HEAD_S
    hub.runner.receive(bob.address, encode_lock_message(Secret(net.lanes[1], PREIMAGE)))
    await net.idle()
    assert hub.lane(net.lanes[1]).paid == 0
    await bob.live()


@pytest.mark.parametrize("asks", [False, True])
async def test_a_preimage_is_not_told_when_its_lock_has_ended(net: LockNet, asks: bool) -> None:
    """The payee dies before it has told it, and comes back too late. Its hub, whom a lock pays that lasts longer, would
    be paid for it."""
    _, hub, bob = net.nodes
    hub.deaf.add("k:secret")
    assert await net.pay(await net.invoiced()) == ""
    await bob.die()
    pass_time(net, 210)
    hub.deaf.clear()
    bob.sees_chain = False
    await bob.live()
    await net.idle()
    if asks:
        bob.runner.receive(hub.address, encode_lock_message(LaneWanted(net.lanes[1], NO_TOKEN)))
        heard = []
        hub.runner.receive = lambda peer, data: heard.append(data)  # type: ignore[method-assign]
        await net.idle()
        assert heard
        assert not any(PREIMAGE in data for data in heard)
    transit = hub.transit()
    assert transit is not None
    assert not transit.preimage


async def open_lane(net: LockNet, payer: LockNode, payee: LockNode, channel: ChannelId, start: int) -> None:
    terms = PurseTerms(channel=channel, payer=payer.address, payee=payee.address, asset=ZERO_ADDRESS, start=start)
    for node in (payer, payee):
        await node.runner.input(lambda book: book.open(terms, DURATION_S))


async def put(node: LockNode, channel: ChannelId, *locks: Lock) -> None:
    """The payer's owner signs them into its lane, whatever its node thinks of them."""
    lane = node.lane(channel)
    known = replace(lane.known, voucher=sign_locked(channel, lane.paid, (*lane.locks, *locks), node.signer))
    await node.runner.input(lambda book: book.promise(lane, known))


async def test_a_channel_full_of_small_locks_does_not_keep_a_payment_from_another(net: LockNet) -> None:
    """Payments go through the channel with the least room that fits, unless it has no place for one more lock."""
    alice, hub, bob = net.nodes
    await open_lane(net, hub, bob, EXTRA, 1_000)
    hub.book.settings = replace(hub.book.settings, locks_max=2)
    await put(hub, net.lanes[1], *(Lock(1, bytes([number]) * 32, HEAD_S + 200) for number in (1, 2)))
    assert await net.pay(await net.invoiced()) == ""
    assert bob.lane(EXTRA).paid == 30
    hub.book.settings = replace(hub.book.settings, locks_max=0)
    assert "locks stand in that payment channel already" in str(
        hub.book.lane_to(bob.address, ZERO_ADDRESS, 1, own=False)
    )
    assert alice.lane(net.lanes[0]).paid == 32


@pytest.mark.parametrize("who", [1, 2])
async def test_a_lock_that_is_not_acted_on_keeps_no_other_one_from_its_hash(net: LockNet, who: int) -> None:
    """Whoever has seen the hash of an invoice puts a worthless lock on it at the payee, or at a hub on the way: the
    invoice is paid all the same."""
    alice, other = net.nodes[0], net.nodes[who]
    await open_lane(net, alice, other, EXTRA, 20)
    invoice = await net.invoiced()
    await put(alice, EXTRA, Lock(1, invoice.hash, HEAD_S + 1_500))
    await net.idle()
    assert other.transit() is not None
    assert await net.pay(invoice) == ""
    assert (net.nodes[1].lane(net.lanes[0]).paid, net.nodes[2].lane(net.lanes[1]).paid) == (32, 30)
    await net.later(3)
    assert [node.transit().status for node in net.nodes] == ["paid"] * 3  # type: ignore[union-attr]
    await net.later(1_460)
    assert net.registry == {}  # a worthless lock is not worth a transaction


async def test_nor_does_one_at_the_payer_keep_it_from_paying(net: LockNet) -> None:
    """A hub, asked about the hash, puts a worthless lock on it where it pays the payer."""
    alice, hub = net.nodes[:2]
    await open_lane(net, hub, alice, EXTRA, 20)
    invoice = await net.invoiced()
    await put(hub, EXTRA, Lock(1, invoice.hash, HEAD_S + 1_500))
    await net.idle()
    assert alice.transit() is not None
    assert await net.pay(invoice) == ""
    await net.later(3)
    assert [node.transit().status for node in net.nodes] == ["paid"] * 3  # type: ignore[union-attr]
    await net.later(1_460)
    assert net.registry == {}


def test_what_protects_a_restored_hub_is_stored_in_these_words() -> None:
    assert FORGOTTEN == "a node on the way was restored from a backup and does not remember the payment"


@pytest.mark.parametrize("refused_before", [False, True])
async def test_what_a_restored_hub_has_forgotten_may_have_been_passed_on(net: LockNet, refused_before: bool) -> None:
    """Its payer tells it of the lock, its payee has not told of the other one yet: a second lock on the hash is not
    passed on, or one preimage would open two. It may be one that the hub had refused, as its backup has it."""
    alice, hub, bob = net.nodes
    await open_lane(net, alice, hub, EXTRA, 80)
    if refused_before:
        await open_lane(net, alice, hub, ChannelId(b"\xef" * 32), 9)
        await put(alice, ChannelId(b"\xef" * 32), Lock(1, hash_of(PREIMAGE), HEAD_S + 1_500))
        await net.idle()
        assert hub.transit() is not None
    await hub.runner.input(lambda book: book.do(LocksRestored(b"\x07" * 16, net.now_ms, net.now_ms)))
    lock = Lock(32, hash_of(PREIMAGE), HEAD_S + 300)
    voucher = sign_locked(net.lanes[0], 0, (lock,), alice.signer)
    told = LaneHeld(
        net.lanes[0], b"\x07" * 16, 1, amount_bytes(0), wire_locks(voucher.locks), voucher.signature, ()
    )  # fmt: skip
    await hub.runner.input(lambda book: recovering.held(book, alice.address, told))
    for channel in (EXTRA, net.lanes[1]):
        await hub.runner.input(lambda book, channel=channel: book.recovered(channel, by_operator=True))  # type: ignore[misc]
    hops = ((bob.address, amount_bytes(30), HEAD_S + 200),)
    second = sign_locked(EXTRA, 0, (lock,), alice.signer)
    said = Locked(EXTRA, 1, amount_bytes(0), wire_locks(second.locks), second.signature, ((lock.hash, hops),))
    hub.runner.receive(alice.address, encode_lock_message(said))
    await net.idle()
    assert hub.lane(EXTRA).locks == (lock,)
    assert hub.lane(net.lanes[1]).voucher is None


async def test_a_number_that_is_told_to_a_restored_payer_leaves_room_for_more(net: LockNet) -> None:
    """Nobody signs it: its payee could say the last one that a message holds, and no voucher could follow."""
    _, hub, bob = net.nodes
    await hub.runner.input(lambda book: book.do(LocksRestored(b"\x07" * 16, net.now_ms, net.now_ms)))
    await hub.runner.input(lambda book: book.recovered(net.lanes[0], by_operator=True))
    signature = sign_locked(net.lanes[1], 0, (), hub.signer).signature
    told = LaneHeld(net.lanes[1], b"\x07" * 16, 2**63 - 1, amount_bytes(0), (), signature, ())
    with pytest.raises(PeerError, match="cannot be read"):
        hub.runner.receive(bob.address, encode_lock_message(told))
    hub.runner.receive(bob.address, encode_lock_message(replace(told, number=2**48 - 1)))
    await net.idle()
    assert await net.pay(await net.invoiced()) == ""
    assert bob.lane(net.lanes[1]).paid == 30


async def test_a_lock_that_outlasts_every_dispute_is_not_taken(net: LockNet) -> None:
    """It would keep the channel from being closed for as long as its payer likes."""
    alice, hub = net.nodes[:2]
    await put(alice, net.lanes[0], Lock(1, b"\x31" * 32, 2**48 - 1))
    await net.idle()
    assert hub.counters["locks_refused"] == 1
    await hub.runner.input(lambda book: book.close(net.lanes[0], None))
    assert hub.lane(net.lanes[0]).phase == "closed"


async def test_whoever_asks_about_a_hash_keeps_nobody_else_from_asking(net: LockNet) -> None:
    """Mallory was on a way that was tried before, and asks the hub about the same invoice again and again, with an
    amount that its payee refuses: Alice's question goes through, and has its own answer."""
    _, hub, bob = net.nodes
    mallory = await LockNode(net, 9).live()
    hub.transport.add_peer(mallory.address, "sim:1")
    await open_lane(net, mallory, hub, EXTRA, 50)
    invoice = await net.invoiced()
    hops = ((bob.address, amount_bytes(1), HEAD_S + 200),)
    question = Ask(invoice.hash, ZERO_ADDRESS, amount_bytes(4), HEAD_S + 300, hops, 7)
    bob.deaf.add("k:ask")
    await net.idle()
    mallory.transport.send(hub.address, encode_lock_message(question))
    await net.idle()
    bob.deaf.clear()
    mallory.transport.send(hub.address, encode_lock_message(replace(question, number=8)))
    assert await net.pay(invoice) == ""
    assert bob.lane(net.lanes[1]).paid == 30
    await mallory.die()


@pytest.mark.parametrize("inbox_max", [10_000, 20])
async def test_whoever_floods_a_node_keeps_nobody_elses_words_from_it(
    net: LockNet, monkeypatch: pytest.MonkeyPatch, inbox_max: int
) -> None:
    """What one peer says beyond a bound while the node is busy is dropped; what others say is decided."""
    monkeypatch.setattr(runner, "WAITING_MAX", 20)
    monkeypatch.setattr(runner, "INBOX_MAX", inbox_max)
    alice, hub, bob = net.nodes
    alice.deaf.add("k:seen")
    hub.deaf.add("k:locked")
    assert await net.pay(await net.invoiced()) == ""
    (lock,) = speaking.pending(alice.book, alice.lane(net.lanes[0]), 0)
    junk = encode_lock_message(Secret(net.lanes[1], b"\x77" * 32))
    for _ in range(25):
        hub.runner.receive(bob.address, junk)
    hub.runner.receive(alice.address, encode_lock_message(lock))
    await net.idle()
    assert hub.counters["locks_dropped"] == 5
    assert bob.lane(net.lanes[1]).paid == 30
    hub.runner.receive(bob.address, junk)
    await net.idle()
    assert hub.counters["locks_dropped"] == 5
