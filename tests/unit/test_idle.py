"""Channels that are idle give their admission base back, and get it again from snapshot and log when it is needed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from scapp.channels.admission import ChannelContext
from scapp.channels.admission_base import ENTRIES_ASIDE_MIN
from scapp.channels.channel.session import NOTHING
from scapp.channels.idle import IdleBound
from scapp.channels.log.memory import MemoryLog
from scapp.channels.log.port import Snapshot
from scapp.channels.node import Node
from scapp.channels.service import OpenRequest
from scapp.channels.types import ChannelId
from scapp.runtime.admission import ReducerAdmission
from scapp.runtime.kernel import Budget
from scapp.runtime.native.kernel import NativeKernel
from scapp.runtime.reference import ReferenceKernel
from scapp.runtime.rows import encode_row
from tests.support import wat
from tests.support.node_cast import Cast, until
from tests.support.wat import SCORE, op

SCORES = wat.MANIFEST.tables[SCORE]


class Held:
    """A channel that remembers what it was asked."""

    def __init__(self, number: int) -> None:
        self.channel_id = ChannelId(bytes([number]) * 32)
        self.asked = 0

    def set_aside(self) -> None:
        self.asked += 1


# -- the bound --------------------------------------------------------------------------------------------------------


def asked(*held: Held) -> list[int]:
    return [each.asked for each in held]


def test_beyond_the_number_those_idle_for_longest_are_asked() -> None:
    bound = IdleBound(2, 1_000)
    one, two, three = Held(1), Held(2), Held(3)
    for each in (one, two, one, three):
        bound.used(each, 10, idle=True)
    assert asked(one, two, three) == [0, 1, 0]
    assert (bound.count, bound.bytes) == (2, 20)


def test_beyond_the_sum_as_many_are_asked_as_it_takes() -> None:
    """But the last one that is idle stays, however large."""
    bound = IdleBound(10, 100)
    one, two, three = Held(1), Held(2), Held(3)
    bound.used(one, 40, idle=True)
    bound.used(two, 40, idle=True)
    bound.used(three, 101, idle=True)
    assert asked(one, two, three) == [1, 1, 0]
    assert (bound.count, bound.bytes) == (1, 101)


def test_one_with_a_batch_on_it_is_counted_and_never_asked() -> None:
    """Until it says that it is idle again; and what is freed counts no more."""
    bound = IdleBound(1, 1_000)
    busy, one, two = Held(1), Held(2), Held(3)
    bound.used(busy, 10, idle=False)
    bound.used(one, 10, idle=True)
    bound.used(two, 10, idle=True)
    assert asked(busy, one, two) == [0, 1, 0]
    bound.used(busy, 30, idle=True)
    assert asked(busy, one, two) == [0, 1, 1]
    assert (bound.count, bound.bytes) == (1, 30)
    bound.freed(busy.channel_id)
    bound.freed(busy.channel_id)
    assert (bound.count, bound.bytes) == (0, 0)


# -- nodes ------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def cast() -> AsyncIterator[Cast]:
    made = Cast()
    yield made
    await made.end()


def admission() -> ReducerAdmission:
    return ReducerAdmission(lambda context: NativeKernel(wat.scripted(), context, track=False))


async def node(cast: Cast, key: int, channels_max: int = 1, log: MemoryLog | None = None) -> Node:
    return await cast.node(key, admission=admission(), idle=IdleBound(channels_max), log=log)


async def opened(alice: Node, bob: Node) -> ChannelId:
    channel = await alice.open_channel(OpenRequest(peers=(bob.address,), deployment=wat.scripted().deployment))
    for each in (alice, bob):
        await each.wait_phase(channel, ("running",), 5)
    return channel


def score(player: str, points: int) -> bytes:
    return op(wat.PUT, encode_row(SCORES, [player, points]), SCORE)


def loaded(each: Node) -> list[ChannelId]:
    return [runner.channel_id for runner in each._runners.values() if runner.base.loaded]


async def quiet(each: Node) -> None:
    """Whatever is queued is done, and what it asked other channels to do as well."""
    for _ in range(2):
        for runner in each._runners.values():
            await runner.input(lambda engine, now: NOTHING)


async def agreed(alice: Node, bob: Node, channel: ChannelId) -> None:
    """Wait until nothing is open between the two. That a submission is refused is told by no event, so look again."""
    async with asyncio.timeout(10):
        while alice.channel(channel).turn != bob.channel(channel).turn or any(
            each.channel(channel).pending for each in (alice, bob)
        ):
            for each in (alice, bob):
                await each._runners[channel].input(lambda engine, now: NOTHING)


def is_right(each: Node, channel: ChannelId) -> bool:
    """Every signed root is that of the entries, run anew."""
    context: ChannelContext = each._runners[channel].engine.state.setup.context
    kernel = ReferenceKernel(wat.scripted(), context, track=False)
    for batch in each.source.batches(channel):
        if batch.entries:
            assert not kernel.run(batch.first_sequence, batch.entries, budget=Budget.DERIVE).refusals
            kernel.commit(batch.turn)
        assert (kernel.state_root(), kernel.amounts()) == (batch.state_root, batch.amounts), batch.turn
    return each.channel(channel).state_root == kernel.state_root()


async def test_an_unloaded_channel_answers_the_next_message_with_the_right_root(cast: Cast) -> None:
    """One base for three channels: each message finds its own unloaded, at sequencer and countersigner."""
    alice, bob = await node(cast, 1), await node(cast, 2)
    channels = [await opened(alice, bob) for _ in range(3)]
    for points in range(4):
        for channel in channels:
            sender = (alice, bob)[points % 2]
            (receipt,) = await sender.submit(channel, [score("a", points)])
            assert receipt.status == "accepted"
    for each in (alice, bob):
        await agreed(alice, bob, channels[-1])
        await quiet(each)
        assert loaded(each) == [channels[-1]]
        assert each.counters()["admission_set_aside"] >= 11
        assert each.counters().get("channels_halted") is None
        assert all(is_right(each, channel) for channel in channels)


async def test_a_channel_with_a_batch_that_waits_for_signatures_is_not_unloaded(cast: Cast) -> None:
    """However much others need the room; once the signature comes, the batch counts without having run again."""
    alice, bob, carol = [await node(cast, key) for key in (1, 2, 3)]
    waiting, *others = await opened(alice, bob), await opened(alice, carol), await opened(alice, carol)
    await alice.submit(waiting, [score("a", 1)])
    cast.network.partition([alice.address], [bob.address])
    (pending,) = await alice.submit(waiting, [score("a", 2)], timeout=0.05)
    assert pending.status == "pending"
    base = alice._runners[waiting].base
    async with asyncio.timeout(5):
        while base.is_idle:  # noqa: ASYNC110  # it has no event
            await asyncio.sleep(0.001)
    assert (base.loaded, base.is_idle) == (True, False)
    for points in range(3):
        for channel in others:
            await alice.submit(channel, [score("b", points)])
    alice._runners[waiting].set_aside()  # nobody asks it, and it would not do it
    await quiet(alice)
    assert waiting in loaded(alice)
    assert len(loaded(alice)) == 2
    cast.network.heal()
    await until(alice, lambda: not alice.channel(waiting).pending)
    await quiet(alice)
    assert is_right(alice, waiting)
    assert base.is_idle
    await alice.submit(others[0], [score("b", 9)])
    await quiet(alice)
    assert loaded(alice) == [others[0]], "its turn to go has come"


async def test_a_channel_that_waits_for_its_peer_to_accept_is_not_unloaded(cast: Cast) -> None:
    """Its opening batch lies on the base from the first moment."""
    alice, bob, carol = (
        await node(cast, 1),
        await cast.node(2, policy="ask", admission=admission()),
        await node(cast, 3),
    )
    others = [await opened(alice, carol) for _ in range(2)]
    waiting = await alice.open_channel(OpenRequest(peers=(bob.address,), deployment=wat.scripted().deployment))
    await until(bob, lambda: bool(bob.channels()))
    for channel in others * 2:
        await alice.submit(channel, [score("b", 1)])
    await quiet(alice)
    assert waiting in loaded(alice)
    await bob.accept(waiting)
    await alice.wait_phase(waiting, ("running",), 5)
    assert (await alice.submit(waiting, [score("a", 1)]))[0].status == "accepted"
    assert is_right(alice, waiting)


@pytest.mark.parametrize("damaged", [False, True])
async def test_what_is_set_aside_often_is_saved_and_a_damaged_snapshot_only_costs_time(
    cast: Cast, damaged: bool
) -> None:
    log = MemoryLog()
    alice, bob = await node(cast, 1, log=log), await node(cast, 2)
    one, two = await opened(alice, bob), await opened(alice, bob)
    await alice.submit(one, [score(f"p{number}", number) for number in range(ENTRIES_ASIDE_MIN)])
    assert log.load_snapshot(one) is None
    await alice.submit(two, [score("a", 1)])
    await quiet(alice)
    assert loaded(alice) == [two]
    snapshot = log.load_snapshot(one)
    assert snapshot is not None
    if damaged:
        log.save_snapshot(one, Snapshot(snapshot.version, snapshot.data[:-1]))
    (receipt,) = await alice.submit(one, [score("p0", 7)])
    assert receipt.status == "accepted"
    assert is_right(alice, one)


async def test_a_closed_channel_gives_its_base_back_at_once(cast: Cast) -> None:
    alice, bob = await node(cast, 1, channels_max=10), await node(cast, 2, channels_max=10)
    channel, other = await opened(alice, bob), await opened(alice, bob)
    await bob.close_channel(channel)
    for each in (alice, bob):
        await each.wait_phase(channel, ("closed",), 5)
        await quiet(each)
        assert loaded(each) == [other]


@pytest.mark.parametrize("seed", range(3))
async def test_any_life_keeps_the_bound_and_the_roots(cast: Cast, seed: int) -> None:
    """Many channels, few bases, peers that come and go, refusals, restarts of the sequencer."""
    chance = random.Random(seed)
    log = MemoryLog()
    alice, bob = await node(cast, 1, 2, log), await node(cast, 2, 3)
    channels = [await opened(alice, bob) for _ in range(6)]
    for step in range(60):
        channel, sender = chance.choice(channels), chance.choice([alice, bob])
        payload = chance.choice([score("ab"[step % 2], step), score("x", 1) + op(wat.REJECT, b"no"), op(wat.TRAP)])
        cut = chance.random() < 0.2
        if cut:
            cast.network.partition([alice.address], [bob.address])
        await sender.submit(channel, [payload] * chance.randrange(1, 4), timeout=0.01 if cut else 5)
        cast.network.heal()
        if chance.random() < 0.05:
            await alice.stop()
            cast.nodes.remove(alice)
            alice = await node(cast, 1, 2, log)
    # A new link makes both tell where they stand; this clock never gets to where they would by themselves.
    cast.network.partition([alice.address], [bob.address])
    cast.network.heal()
    for channel in channels:
        await agreed(alice, bob, channel)
    for each, most in ((alice, 2), (bob, 3)):
        await quiet(each)
        assert len(loaded(each)) <= most
        assert each.counters().get("channels_halted") is None
        assert all(is_right(each, channel) for channel in channels)
