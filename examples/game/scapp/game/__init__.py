"""Goofspiel, the Game of Pure Strategy: a 2-4 player game with hidden simultaneous moves, as a scapp reducer.

    from scapp.game import Bot, GameView, wasm_bytes

`wasm_bytes()` is the reducer to deploy. Open a channel with params like `{"cards": 7, "move_ms": 0}` (3 to 13 cards;
`move_ms` 0 means no deadline) and let each participant run one bot, seat = its index among the participants:

    bot = Bot(seat=0, rng=random.SystemRandom(), strength="sensible")     # or "random"
    view = GameView.from_rows(
        channel_id,                                                        # 32 bytes or "0x…"
        game=rows of "select * from game where channel_id = …",            # one row
        players=rows of "player", rounds=rows of "round", bids=rows of "bid",
    )                                                                      # rows: mappings from column to value
    message = bot.next_message(view)   # {"commit": {"hash": "0x…"}}, {"reveal": {…}} or None: nothing to do now

A message is a JSON-safe dict; its MessagePack form is the payload to submit. Rows may hold bytes, memoryviews or
`0x…` text, so they may come from psycopg as well as from the node's HTTP API. `view.over`, `view.phase`,
`view.round` and `view.standings()` tell how the game stands. Ask again whenever the tables have changed.

Tables: `game` (one row: phase commit, reveal or over; round, prize, pot, deadline), `player` (seat, address, score,
hand, status, rank), `round` (round, prize, pot, result, winner), `bid` (round, seat, commitment, card), `chat`; view
`standings`. Rules and reasons: docs/explanation/commit-reveal.md. `messages.py` builds single messages, `view.py`
holds the typed view, `bots.py` decides, `playing.py` plays at a node, `web/` is the page for people, and
`goofspiel.zig` is the reducer's source.
"""

from __future__ import annotations

from scapp.game.artifact import wasm_bytes, wasm_path, web_folder
from scapp.game.bots import STRENGTHS, Bot
from scapp.game.messages import commit, commitment, reveal, tick_payload
from scapp.game.playing import BotPlayer, read_view
from scapp.game.view import BidView, GameView, PlayerView, RoundView

__all__ = [
    "STRENGTHS",
    "BidView",
    "Bot",
    "BotPlayer",
    "GameView",
    "PlayerView",
    "RoundView",
    "commit",
    "commitment",
    "read_view",
    "reveal",
    "tick_payload",
    "wasm_bytes",
    "wasm_path",
    "web_folder",
]
