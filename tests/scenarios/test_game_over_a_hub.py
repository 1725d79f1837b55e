"""A whole game for stakes between two who share no ledger: real nodes, books and reducer in one process."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from typing import Any

import msgpack
import pytest

from scapp.channels.admission import ChannelContext
from scapp.channels.entries import decode_entry
from scapp.channels.service import OpenRequest
from scapp.channels.types import ZERO_ADDRESS, ChannelId
from scapp.game import Bot, GameView, wasm_bytes
from scapp.runtime.admission import ReducerAdmission
from scapp.runtime.native.kernel import NativeKernel
from tests.support.ledger_scene import DURATION_S, LedgerScene
from tests.support.reducer_driver import Driver, checked

ALICE, HUB, BOB = 0, 1, 2
PLAYERS = (ALICE, BOB)
STAKES = (60, 60)
FEE = 5
PARAMS = {"cards": 4, "move_ms": 600_000}


def admission() -> ReducerAdmission:
    def kernel(context: ChannelContext) -> NativeKernel:
        return NativeKernel(checked(wasm_bytes()), context, track=False)

    return ReducerAdmission(kernel)


@pytest.fixture
async def scene() -> AsyncIterator[LedgerScene]:
    made = LedgerScene(3)
    node = made.cast.node
    made.cast.node = lambda *args, **more: node(*args, admission=admission(), **more)  # type: ignore[method-assign]
    yield await made.start()
    await made.end()


async def opened(scene: LedgerScene) -> tuple[ChannelId, Driver]:
    """The channel, and the same app beside it, from which the bots see the table."""
    slots = tuple(
        (bytes(ZERO_ADDRESS), bytes(12) + scene.address(index), amount)
        for index, amount in zip(PLAYERS, STAKES, strict=True)
    )
    request = OpenRequest(
        peers=(scene.address(BOB),),
        deployment=checked(wasm_bytes()).deployment,
        params=PARAMS,
        slots=slots,
        challenge_duration=DURATION_S,
        fund="virtual",
        via=(scene.address(HUB),),
        fees=(FEE,),
    )
    channel = await scene.nodes[ALICE].open_channel(request)
    await scene.until(lambda: {scene.app_phase(index, channel) for index in PLAYERS} == {"running"})
    opening = decode_entry(scene.nodes[ALICE].source.entries(channel, 0, 1)[0])
    people = tuple(map(scene.address, PLAYERS))
    return channel, Driver(wasm_bytes(), people, PARAMS, slots, channel_id=channel, now_ms=opening.time_ms)


def table(driver: Driver, channel: ChannelId) -> GameView:
    tables = {"game": "game", "players": "player", "rounds": "round", "bids": "bid"}
    return GameView.from_rows(channel, **{name: driver.rows(rows) for name, rows in tables.items()})


async def test_a_game_for_stakes_over_a_hub(scene: LedgerScene) -> None:
    """Each move is accepted and co-signed, a node restarts in the middle, the winner is paid in its ledger, and the hub
    has its fee and nothing to do with any of it. No transaction is sent."""
    left = await scene.ledger(ALICE, HUB)
    right = await scene.ledger(HUB, BOB)
    sent = len(scene.chain.sent)
    channel, driver = await opened(scene)
    bots = [Bot(seat, random.Random(seat), "sensible") for seat in range(2)]
    moves = 0
    while not (view := table(driver, channel)).over:
        for bot in bots:
            message: Any = bot.next_message(view)
            if message is None:
                continue
            moves += 1
            if moves == 5:
                await scene.restart(BOB)
                await scene.until(lambda: scene.app_phase(BOB, channel) == "running")
            (receipt,) = await scene.nodes[PLAYERS[bot.seat]].submit(channel, [msgpack.packb(message)])
            assert receipt.status == "accepted", receipt
            driver.now_ms += 10
            driver.send(bot.seat, message)
    assert moves > 8
    paid = scene.nodes[BOB].channel(channel).amounts
    assert sum(paid) == sum(STAKES)
    assert list(paid) == driver.amounts, "what the same moves give beside it"
    await scene.nodes[BOB].close_channel(channel)
    await scene.until(lambda: {scene.app_phase(index, channel) for index in PLAYERS} == {"settled"})
    await scene.until(lambda: scene.virtual_phase(channel, "released", (ALICE, HUB, BOB)))
    assert scene.money(ALICE, left) == (1_000 - FEE + paid[0] - STAKES[0], 1_000 + FEE - paid[0] + STAKES[0], 0)
    assert scene.money(BOB, right) == (1_000 + paid[1] - STAKES[1], 1_000 - paid[1] + STAKES[1], 0)
    assert len(scene.chain.sent) == sent
    assert scene.nodes[HUB].channels() == []
    logs = [scene.nodes[index].source.entries(channel, 0, 1_000) for index in PLAYERS]
    assert logs[0] == logs[1]
