"""What a hub has earned, from its log: of channels and of locked payments, by who pays it; what went back is none."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from scapp.channels.books import service
from scapp.channels.books.income import Income, channel_fee, payment_fee, read_income
from scapp.channels.log.port import EventLog
from scapp.channels.payments.locked.records import Leg, Transit
from scapp.channels.types import ZERO_ADDRESS, ChannelId
from scapp.channels.virtual.record import VirtualRecord
from tests.support.ledger_scene import LedgerScene
from tests.support.node_cast import START_MS
from tests.unit.test_node_locks import ALICE, BOB, FEE, HUB, Scene
from tests.unit.test_node_locks import scene as lanes  # noqa: F401  # a fixture

EVER = 2**63 - 1


@pytest.fixture
async def hub() -> AsyncIterator[tuple[LedgerScene, VirtualRecord]]:
    """A hub, and its record of a channel that runs over it for 3."""
    made = await LedgerScene(3).start()
    await made.ledger(ALICE, HUB)
    await made.ledger(HUB, BOB)
    channel = await made.payments((ALICE, HUB, BOB), 100, fees=(3,))
    try:
        books = made.books(HUB)._open_books()
        assert books is not None
        yield made, books.state.virtuals[channel]
    finally:
        await made.end()


async def test_what_a_hub_has_earned_is_in_its_log(hub: tuple[LedgerScene, VirtualRecord]) -> None:
    """By the neighbour that pays; parties earn nothing, and neither does anybody outside of the time that is asked."""
    scene, _ = hub
    back = await scene.payments((BOB, HUB, ALICE), 10, fees=(1,))
    await scene.books(BOB).close_virtual(back)
    await scene.until(lambda: scene.virtual_phase(back, "released", (0, 1, 2)))
    alice, bob = (scene.signers[who].address for who in (ALICE, BOB))
    found = await scene.books(HUB).income(0, EVER)
    expected = [Income(ZERO_ADDRESS, alice, 1, 3), Income(ZERO_ADDRESS, bob, 1, 1)]
    assert sorted(found, key=lambda each: -each.channel_fees) == expected
    await scene.restart(HUB)
    assert await scene.books(HUB).income(0, EVER) == found
    assert await scene.books(HUB).income(0, START_MS) == []
    assert await scene.books(ALICE).income(0, EVER) == []


async def test_one_income_is_read_at_a_time(
    hub: tuple[LedgerScene, VirtualRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may read could else take all the threads that the node stores and loads with."""
    running, together = threading.Lock(), []

    def slowly(log: EventLog, since_ms: int, until_ms: int) -> list[Income]:
        if not running.acquire(blocking=False):
            together.append(since_ms)
            return []
        time.sleep(0.005)
        found = read_income(log, since_ms, until_ms)
        running.release()
        return found

    monkeypatch.setattr(service, "read_income", slowly)
    books = hub[0].books(HUB)
    found = await asyncio.gather(*[books.income(0, EVER) for _ in range(4)])
    assert (together, len(found[0])) == ([], 1)
    assert found == [found[0]] * 4


async def test_fees_that_went_back_are_not_earned(hub: tuple[LedgerScene, VirtualRecord]) -> None:
    """Nor are those of a channel that is being funded; what the chain ended keeps its fee, and one that went back on
    the other side alone is a loss."""
    _, record = hub
    assert channel_fee(record) == 3
    assert channel_fee(replace(record, held=(True, False))) is None
    aborted = replace(record, aborted=record.prefund, gone=(True, True))
    assert channel_fee(aborted) is None
    assert channel_fee(replace(aborted, gone=(False, False))) == 3
    assert channel_fee(replace(aborted, unrefunded=(True, True))) == 3
    passed_on = replace(record.agreement, fees=(3, 5))
    assert channel_fee(replace(aborted, agreement=passed_on, unrefunded=(False, True))) == -5


async def test_fees_of_locked_payments_are_counted_when_they_are_over(lanes: Scene) -> None:  # noqa: F811
    scene, books = lanes.scene, lanes.scene.books(HUB)
    opened = await books.income(0, EVER)
    assert (await lanes.pay(await lanes.invoice())).status == "paid"
    await scene.until(lambda: [each.status for each in books.locked.payments()] == ["paid"])
    await books._locks.input(lambda book: None)  # what was decided before is stored
    alice = scene.signers[ALICE].address
    (found,) = [each for each in await books.income(0, EVER) if each.payments]
    assert (found.peer, found.asset, found.payments, found.payment_fees) == (alice, ZERO_ADDRESS, 1, FEE)
    assert opened == []
    assert await scene.books(BOB).income(0, EVER) == []


def test_a_payment_that_nobody_paid_earns_nothing() -> None:
    leg = Leg(ChannelId(bytes(32)), 32, 1)
    out = replace(leg, amount=30)
    transit = Transit(hash=b"", begun_ms=0, hops=(), incoming=leg, outgoing=out)
    fates = [
        ("paid", "paid", 2),
        ("opened", "paid", 2),
        ("ended", "ended", None),
        ("paid", None, None),
        ("ended", "opened", -30),
        ("paid", "ended", 32),
    ]
    for mine, theirs, fee in fates:
        both = replace(transit, incoming=replace(leg, fate=mine), outgoing=replace(out, fate=theirs))
        assert payment_fee(both) == fee
    assert payment_fee(replace(transit, outgoing=None)) is None
