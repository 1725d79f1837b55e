"""Whole nodes whose neighbours are enemies: what they say and show costs an honest node nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from scapp.channels.onchain import Challenge
from scapp.channels.restoring import mark_restored
from scapp.channels.types import ChannelId
from scapp.channels.virtual.chain_view import milestone_state
from scapp.channels.virtual.record import VirtualRecord
from tests.support.ledger_scene import LedgerScene
from tests.support.node_cast import START_MS

ALICE, BOB = 0, 1


@pytest.fixture
async def scene() -> AsyncIterator[LedgerScene]:
    made = await LedgerScene(2).start()
    try:
        yield made
    finally:
        await made.end()


def record_of(scene: LedgerScene, index: int, channel: ChannelId) -> VirtualRecord:
    runner = scene.books(index)._runner
    assert runner is not None
    return runner.books.state.virtuals[channel]


async def test_a_restored_payee_redeems_what_it_has_though_its_payer_tells_nothing(scene: LedgerScene) -> None:
    """Alice never answers, and challenges with the state in which all is hers. Bob's answer waits for hers as long as
    is safe, and then takes the voucher of his backup."""
    await scene.ledger(ALICE, BOB)
    channel = await scene.payments((ALICE, BOB), 100)
    await scene.books(ALICE).pay(channel, 30)
    await scene.until(lambda: scene.virtual(BOB, channel).paid == 30)
    postfund = milestone_state(record_of(scene, ALICE, channel), "postfund")
    assert postfund is not None
    old = scene.logs[BOB].durable_copy()
    await scene.nodes[ALICE].stop()
    del scene.nodes[ALICE], scene.services[ALICE]
    await scene.nodes[BOB].stop()
    mark_restored(old, b"\x05" * 16, START_MS + 10**6, START_MS)
    scene.logs[BOB] = old
    await scene.node(BOB)
    scene.chain.carry_out(scene.signers[ALICE], channel, Challenge(postfund))
    await scene.until(lambda: record_of(scene, BOB, channel).on_chain is not None, blocks=True, seconds=300)
    assert record_of(scene, BOB, channel).on_chain == ((70, 30),)
