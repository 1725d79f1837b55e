"""The bots: whole games through the compiled reducer, from table rows alone."""

from __future__ import annotations

import datetime as dt
import json
import random
from typing import Any

import pytest

from scapp.game import Bot, GameView, commit, commitment, wasm_bytes, wasm_path
from tests.support.reducer_driver import CAST, CHANNEL, Driver


def view_of(driver: Driver) -> GameView:
    return GameView.from_rows(
        CHANNEL,
        game=driver.rows("game"),
        players=driver.rows("player"),
        rounds=driver.rows("round"),
        bids=driver.rows("bid"),
    )


def play(bots: list[Bot], cards: int = 5) -> GameView:
    """Play one game to its end; fails when nobody has anything to do before that."""
    driver = Driver(wasm_bytes(), CAST[: len(bots)], {"cards": cards})
    for _ in range(2 * cards):
        for bot in bots:
            message = bot.next_message(view_of(driver))
            assert message is not None
            driver.send(bot.seat, json.loads(json.dumps(message)))
    view = view_of(driver)
    driver.close()
    assert view.over
    return view


@pytest.mark.parametrize("players", [2, 3, 4])
def test_bots_play_a_game_to_its_end(players: int) -> None:
    bots = [Bot(seat, random.Random(seat), ("random", "sensible")[seat % 2]) for seat in range(players)]
    view = play(bots, cards=7)
    won = sum(item.pot or 0 for item in view.rounds if item.result == "won")
    assert sum(player.score for player in view.players) == won
    assert [player.rank for player in view.standings()] == sorted(player.rank or 0 for player in view.players)
    assert all(player.hand == () for player in view.players)
    assert all(bot.next_message(view) is None for bot in bots)


def test_the_sensible_bot_beats_the_random_one() -> None:
    """Over 60 games with fixed seeds, alternating seats; a coin would win 30."""
    wins = 0
    for seed in range(60):
        rng = random.Random(seed)
        sensible = seed % 2
        view = play([Bot(seat, rng, "sensible" if seat == sensible else "random") for seat in range(2)])
        wins += view.players[sensible].score > view.players[1 - sensible].score
    assert wins >= 40


def test_a_bot_built_again_with_its_secret_reveals_what_it_committed_to() -> None:
    driver = Driver(wasm_bytes(), CAST[:2], {"cards": 5})
    for seat in (0, 1):
        message = Bot(seat, random.Random(1), secret=b"s" * 16).next_message(view_of(driver))
        driver.send(seat, message)
        assert Bot(seat, random.Random(1), secret=b"s" * 16).next_message(view_of(driver)) is None or seat == 1
    again = Bot(0, random.Random(99), secret=b"s" * 16)
    driver.send(0, again.next_message(view_of(driver)))
    with pytest.raises(LookupError, match="seat 1 committed to 0x"):
        Bot(1, random.Random(1), secret=b"t" * 16).next_message(view_of(driver))


def test_views_take_rows_as_the_database_and_the_http_api_give_them() -> None:
    """memoryview and datetime from the one, 0x text and ISO text from the other: the same view."""
    moment = dt.datetime(2027, 1, 15, 8, 0, 1, tzinfo=dt.UTC)

    def rows(address: Any, hand: Any, deadline: Any, hash_: Any) -> dict[str, Any]:
        head = {"phase": "commit", "round": 1, "prize": 2, "pot": 2, "cards": 3, "deadline": deadline}
        player = {"seat": 0, "address": address, "score": 0, "hand": hand, "status": "playing", "rank": None}
        round_ = {"round": 1, "prize": 2, "pot": 2, "result": "open", "winner": None}
        bid = {"round": 1, "seat": 0, "commitment": hash_, "card": None}
        return {"game": [head], "players": [player], "rounds": [round_], "bids": [bid]}

    database = GameView.from_rows(CHANNEL, **rows(memoryview(CAST[0]), [1, 2, 3], moment, b"\1" * 32))
    api = GameView.from_rows(
        "0x" + CHANNEL.hex(), **rows("0x" + CAST[0].hex(), "[1,2,3]", "2027-01-15T08:00:01+00:00", "0x" + "01" * 32)
    )
    assert database == api
    assert api.deadline_ms == 1_800_000_001_000


def test_misuse_is_named() -> None:
    """Wrong arguments raise an error that shows the value and what is allowed."""
    with pytest.raises(ValueError, match="unknown strength 'strong': known are random, sensible"):
        Bot(0, random.Random(0), "strong")
    with pytest.raises(ValueError, match="secret of 3 bytes"):
        Bot(0, random.Random(0), secret=b"abc")
    with pytest.raises(ValueError, match="salt of 3 bytes: 32 are needed"):
        commitment(b"abc", CHANNEL, CAST[0], 1, 1)
    with pytest.raises(ValueError, match="0 rows in table game"):
        GameView.from_rows(CHANNEL, game=[], players=[], rounds=[], bids=[])
    assert commit(b"\1" * 32) == {"commit": {"hash": "0x" + "01" * 32}}
    with wasm_path() as path:
        assert path.read_bytes() == wasm_bytes()
