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
