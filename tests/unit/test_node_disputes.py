"""Whole nodes in dispute over ledgers and virtual channels: what neighbours of a hub try, and what comes of it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from scapp.channels.backing import Backing
from scapp.channels.chain import calls
from scapp.channels.ledger.signed import newest_enforceable
from scapp.channels.reading import SignedState
from scapp.channels.types import ChannelId
from scapp.channels.virtual.chain_view import milestone_state
from tests.support.ledger_scene import DURATION_S, LedgerScene
from tests.support.plain_chain import account_of, challenger

ALICE, HUB, BOB = 0, 1, 2


@pytest.fixture
async def scene() -> AsyncIterator[LedgerScene]:
    made = await LedgerScene(3).start()
    try:
        yield made
    finally:
        await made.end()


def shown(scene: LedgerScene, ledger: ChannelId) -> SignedState:
    """The ledger's newest state now, as Alice could show it later."""
    runner = scene.books(ALICE)._runner
    assert runner is not None
    newest = newest_enforceable(runner.books.state.ledgers[ledger])
    assert newest is not None
    return newest


def show(scene: LedgerScene, index: int, channel: ChannelId, state: SignedState) -> None:
    """A node's owner takes a state to the chain by hand."""
    signer = scene.signers[index]
    signature = challenger(signer, channel, state)
    scene.chain.raw(account_of(signer.address), calls.Challenge((), state, signature))


async def test_an_older_state_of_a_ledger_is_answered_and_the_ledger_goes_on(scene: LedgerScene) -> None:
    left = await scene.ledger(ALICE, HUB)
    old = shown(scene, left)
    channel = await scene.payments((ALICE, HUB), 100, fees=())
    await scene.books(ALICE).pay(channel, 10)
    show(scene, ALICE, left, old)
    await scene.block()
    assert scene.has_phase(left, "disputed", (ALICE, HUB))
    await scene.until(lambda: scene.has_phase(left, "running", (ALICE, HUB)), blocks=True)
    assert scene.chain.chain.world.status_of(left).turn_record > old.turn
    await scene.books(HUB).close_virtual(channel)
    await scene.until(lambda: scene.virtual_phase(channel, "released", (ALICE, HUB)))
    assert scene.money(ALICE, left) == (990, 1_010, 0)


async def test_the_payer_claims_that_nothing_was_paid(scene: LedgerScene) -> None:
    """Bob answers with his voucher, and both ledgers take the outcome from the chain without going there."""
    left, right = await scene.ledger(ALICE, HUB), await scene.ledger(HUB, BOB)
    channel = await scene.payments((ALICE, HUB, BOB), 100)
    await scene.books(ALICE).pay(channel, 40)
    await scene.until(lambda: scene.virtual(BOB, channel).paid == 40)
    runner = scene.books(ALICE)._runner
    assert runner is not None
    prefund = milestone_state(runner.books.state.virtuals[channel], "prefund")
    assert prefund is not None
    show(scene, ALICE, channel, prefund)
    await scene.until(lambda: scene.virtual_phase(channel, "released", (ALICE, HUB, BOB)), blocks=True, seconds=600)
    assert scene.money(ALICE, left) == (960, 1_040, 0)
    assert scene.money(BOB, right) == (1_040, 960, 0)
    assert scene.has_phase(left, "running", (ALICE, HUB))
    assert scene.has_phase(right, "running", (HUB, BOB))


async def test_an_older_ledger_brings_back_a_channel_that_has_ended(scene: LedgerScene) -> None:
    """Nobody answers in time, and the old state guarantees a channel that is long over. Its final state was kept: it is
    concluded, and both get what the newest state would have given them."""
    left = await scene.ledger(ALICE, HUB)
    channel = await scene.payments((ALICE, HUB), 100, fees=())
    old = shown(scene, left)
    await scene.books(ALICE).pay(channel, 40)
    await scene.until(lambda: scene.virtual(HUB, channel).paid == 40)
    await scene.books(HUB).close_virtual(channel)
    await scene.until(lambda: scene.virtual_phase(channel, "released", (ALICE, HUB)))
    await scene.block()
    await scene.block()
    before = [scene.gain(index) for index in (ALICE, HUB)]
    show(scene, ALICE, left, old)
    now_s = scene.chain.chain.head.time_s
    scene.chain.chain.mine(now_s + 12)
    scene.chain.chain.mine(now_s + 12 + DURATION_S)
    for service in scene.services.values():
        service.look()
    assert scene.chain.chain.world.status_of(left).turn_record == old.turn
    await scene.until(lambda: scene.has_phase(left, "settled", (ALICE, HUB)), blocks=True, seconds=600)
    assert [scene.gain(index) - was for index, was in zip((ALICE, HUB), before, strict=True)] == [960, 1_040]
    assert scene.chain.chain.world.status_of(channel).finalizes_at


async def test_a_hub_whose_neighbours_are_both_gone_has_what_it_had(scene: LedgerScene) -> None:
    """It alone brings the channel and both ledgers to an end. Bob, who is away, loses his voucher, not the hub."""
    left, right = await scene.ledger(ALICE, HUB), await scene.ledger(HUB, BOB)
    channel = await scene.payments((ALICE, HUB, BOB), 100)
    await scene.books(ALICE).pay(channel, 40)
    await scene.until(lambda: scene.virtual(BOB, channel).paid == 40)
    before = scene.gain(HUB)
    for index in (ALICE, BOB):
        await scene.nodes[index].stop()
        del scene.nodes[index], scene.services[index]
    await scene.books(HUB).challenge_ledger(left)
    await scene.books(HUB).challenge_ledger(right)
    await scene.until(
        lambda: scene.has_phase(left, "settled", (HUB,)) and scene.has_phase(right, "settled", (HUB,)),
        blocks=True,
        seconds=600,
    )
    assert scene.gain(HUB) - before == 2_000
    await scene.until(lambda: scene.virtual_phase(channel, "released", (HUB,)))


async def test_the_app_hears_with_which_state_the_chain_has_ended_its_channel(scene: LedgerScene) -> None:
    """Also the party that did not bring it there."""
    await scene.ledger(ALICE, HUB)
    await scene.ledger(HUB, BOB)
    channel = await scene.app_channel((ALICE, HUB, BOB), (60, 40), (1,))
    told: list[Backing] = []
    link = scene.nodes[BOB]._backing
    source = scene.books(BOB).backing
    source.start(lambda _, backing: (told.append(backing), link._on_backing(channel, backing)))  # type: ignore[func-returns-value]
    await scene.books(ALICE).challenge_virtual(channel)
    await scene.until(lambda: scene.virtual_phase(channel, "released", (ALICE, HUB, BOB)), blocks=True, seconds=600)
    shown_turn = scene.chain.chain.world.status_of(channel).turn_record
    assert {each.settled is not None for each in told if each.stage == "released"} == {True}
    assert {each.settled for each in told if each.stage != "released"} == {None}
    settled = told[-1].settled
    assert settled is not None
    assert settled.turn == shown_turn
    await scene.until(lambda: scene.app_phase(BOB, channel) == "settled")
