"""Ledgers, payment channels and payments through whole nodes in one process: the story, restarts, what is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.ledger_scene import LedgerScene

ALICE, HUB, BOB = 0, 1, 2


@pytest.fixture
async def scene() -> AsyncIterator[LedgerScene]:
    made = await LedgerScene(3).start()
    try:
        yield made
    finally:
        await made.end()


async def test_pay_over_a_hub_and_settle(scene: LedgerScene) -> None:
    """Two ledgers, a payment channel over them, five payments; nothing happens on chain but deposits and payouts."""
    left = await scene.ledger(ALICE, HUB)
    right = await scene.ledger(HUB, BOB)
    blocks = len(scene.chain.sent)
    channel = await scene.payments((ALICE, HUB, BOB), 100, fees=(3,))
    assert scene.money(ALICE, left) == (1_000 - 100 - 3, 1_000 + 3, 100)
    assert scene.money(BOB, right) == (1_000, 1_000 - 100, 100)
    for _ in range(5):
        await scene.books(ALICE).pay(channel, 7)
    await scene.until(lambda: scene.virtual(BOB, channel).paid == 35)
    await scene.books(ALICE).close_virtual(channel)
    await scene.until(lambda: scene.virtual_phase(channel, "released", (ALICE, HUB, BOB)))
    assert scene.money(ALICE, left) == (1_000 - 35 - 3, 1_000 + 35 + 3, 0)
    assert scene.money(BOB, right) == (1_000 + 35, 1_000 - 35, 0)
    assert len(scene.chain.sent) == blocks
    await scene.books(ALICE).close_ledger(left)
    await scene.books(BOB).close_ledger(right)
    await scene.until(lambda: scene.has_phase(left, "settled", (ALICE, HUB)), blocks=True)
    await scene.until(lambda: scene.has_phase(right, "settled", (HUB, BOB)), blocks=True)
    assert [scene.chain.gain(scene.address(index)) for index in (ALICE, BOB)] != [0, 0]


async def test_an_app_channel_over_a_hub(scene: LedgerScene) -> None:
    """Alice and Bob run an app; the hub guarantees what it is about, earns its fee, and knows nothing of it."""
    left = await scene.ledger(ALICE, HUB)
    right = await scene.ledger(HUB, BOB)
    sent = len(scene.chain.sent)
    channel = await scene.app_channel((ALICE, HUB, BOB), (50, 30), fees=(2,))
    assert scene.money(ALICE, left) == (1_000 - 50 - 2, 1_000 - 30 + 2, 80)
    (receipt,) = await scene.nodes[BOB].submit(channel, [b"move:0:1:20"])
    assert receipt.status == "accepted", receipt
    await scene.nodes[ALICE].close_channel(channel)
    await scene.until(lambda: all(scene.nodes[i].channel(channel).phase == "settled" for i in (ALICE, BOB)))
    await scene.until(lambda: scene.virtual_phase(channel, "released", (ALICE, HUB, BOB)))
    assert scene.money(ALICE, left) == (1_000 - 20 - 2, 1_000 + 20 + 2, 0)
    assert scene.money(BOB, right) == (1_000 + 20, 1_000 - 20, 0)
    assert len(scene.chain.sent) == sent
