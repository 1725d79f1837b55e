"""Whole games as the channel would run them: batches of any size, cheats among them, time passing."""

from __future__ import annotations

import random
from collections.abc import Iterator

import msgpack
import pytest

from scapp.channels.admission import ChannelContext
from scapp.channels.entries import Kind, encode_entry
from scapp.channels.types import ChannelId
from scapp.game import Bot, GameView, wasm_bytes
from scapp.runtime.kernel import Budget
from tests.support import wat
from tests.support.reducer_driver import CAST, CHANNEL, NOW_MS, Driver, Refused, checked, slot_for

STAKE = 10**18
SLOTS = tuple(slot_for(address, STAKE) for address in CAST[:3])


def view_of(driver: Driver) -> GameView:
    tables = {"game": "game", "players": "player", "rounds": "round", "bids": "bid"}
    return GameView.from_rows(CHANNEL, **{name: driver.rows(table) for name, table in tables.items()})


def entries_of_a_game() -> tuple[list[bytes], Driver]:
    """The log of a game of three bots with stakes, and the channel it was played in."""
    params = {"cards": 4, "move_ms": 5_000}
    driver = Driver(wasm_bytes(), CAST[:3], params, SLOTS)
    opening = [list(CAST[:3]), [[a, d, n.to_bytes(32, "big")] for a, d, n in SLOTS], params]
    log = [encode_entry(Kind.OPEN, 0, 1, NOW_MS, msgpack.packb(opening))]
    bots = [Bot(seat, random.Random(seat), "sensible") for seat in range(3)]
    while not (view := view_of(driver)).over:
        for bot in bots:
            message = bot.next_message(view)
            if message is not None:
                driver.now_ms += 10
                payload = msgpack.packb(message)
                log.append(encode_entry(Kind.MESSAGE, bot.seat, driver.sequence + 1, driver.now_ms, payload))
                driver.send(bot.seat, message)
    return log, driver


def splits(length: int) -> Iterator[list[int]]:
    """Sizes of batches: all at once, one by one, and four random ways."""
    yield [length]
    yield [1] * length
    for seed in range(4):
        rng, left = random.Random(seed), length
        sizes = []
        while left:
            sizes.append(rng.randint(1, min(7, left)))
            left -= sizes[-1]
        yield sizes


def test_any_split_into_batches_gives_one_root() -> None:
    """A reducer with hidden state would differ here: every batch starts a fresh instance."""
    log, played = entries_of_a_game()
    module = checked(wasm_bytes())
    context = ChannelContext(ChannelId(CHANNEL), tuple(CAST[:3]), module.deployment, SLOTS)
    for sizes in splits(len(log)):
        kernel = wat.fresh(module, context)
        at = 0
        for size in sizes:
            result = kernel.run(at, log[at : at + size], budget=Budget.DERIVE)
            assert result.refusals == ()
            kernel.commit(0)
            at += size
        assert kernel.state_root() == played.kernel.state_root()
        assert kernel.amounts() == played.kernel.amounts()
        kernel.close()


def test_refused_messages_in_a_batch_leave_no_trace() -> None:
    """A cheat after each honest message: the clean run over the rest is the honest game."""
    log, played = entries_of_a_game()
    cheat = msgpack.packb({"reveal": {"card": 1, "salt": b"\0" * 32}})
    mixed = [log[0]]
    for entry in log[1:]:
        mixed += [entry, encode_entry(Kind.MESSAGE, 0, 10_000, NOW_MS, cheat)]
    module = checked(wasm_bytes())
    context = ChannelContext(ChannelId(CHANNEL), tuple(CAST[:3]), module.deployment, SLOTS)
    kernel = wat.fresh(module, context)
    result = kernel.run(0, mixed, budget=Budget.ORDER)
    assert len(result.accepted) == len(log)
    assert result.state_root == played.kernel.state_root()
    kernel.close()


def test_stakes_end_in_proportion_to_the_points() -> None:
    _, played = entries_of_a_game()
    players = played.rows("player")
    tied = 10 - sum(player["score"] for player in players)
    assert sum(played.amounts) == 3 * STAKE
    for player, amount in zip(players, played.amounts, strict=True):
        assert abs(amount - 3 * STAKE * (3 * player["score"] + tied) // 30) <= 3


def test_a_player_who_stops_loses_by_the_clock_and_the_others_go_on() -> None:
    driver = Driver(wasm_bytes(), CAST[:3], {"cards": 3, "move_ms": 1_000})
    bots = [Bot(seat, random.Random(seat)) for seat in range(3)]
    for bot in bots[:2]:
        driver.send(bot.seat, bot.next_message(view_of(driver)))
    with pytest.raises(Refused, match="the deadline passes in"):
        driver.tick(2)
    driver.now_ms += 1_001
    assert driver.tick(0)[0] == ("forfeit", {"round": 1, "seat": 2, "phase": "commit"})
    while not (view := view_of(driver)).over:
        for bot in bots:
            message = bot.next_message(view)
            assert message is None or bot.seat < 2
            if message is not None:
                driver.send(bot.seat, message)
    assert [player.seat for player in view.standings()][-1] == 2
    assert view.players[2].rank == 3
