"""A bot at a node: it follows the node's stream, reads the tables by SQL and sends what `bots.py` decides.

    player = BotPlayer(lambda: Client.at_home(home), strength="sensible")
    player.start()      # plays every match that this node is in, until `leave`

Written on the node's public client alone, as any other app's bot would be.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Any

from scapp.channels.errors import ScappError
from scapp.game.bots import Bot
from scapp.game.view import GameView
from scapp.runtime.client import Client, Refused
from scapp.runtime.documents import ChannelView

GAME = "goofspiel"
_log = logging.getLogger("scapp.game")
_LOOK_S = 1.0  # a deadline passes without any news
_TICK_S = 3.0  # between two calls of time, and after the deadline: a player's own page may do it first


def read_view(node: Client, schema: str, channel: str) -> GameView:
    """The match as the node's tables have it. Raises ValueError while nothing is derived, ClientError."""

    def rows(name: str) -> list[dict[str, Any]]:
        answer = node.query(
            f"select * from {schema}.{name} where channel_id = $1::bytea",  # noqa: S608  # names of our own
            ["\\x" + channel[2:]],
        )
        names = [column.name for column in answer.columns]
        return [dict(zip(names, row, strict=True)) for row in answer.rows]

    return GameView.from_rows(
        channel, game=rows("game"), players=rows("player"), rounds=rows("round"), bids=rows("bid")
    )


class BotPlayer(threading.Thread):
    """`connect` makes a client; `think_s` is how long a card is considered, for the sake of those who watch.

    The secret behind its hidden cards lives as long as the thread unless `secret` is given: a bot that must go on
    after a restart keeps one (32 bytes) beside its node."""

    def __init__(
        self,
        connect: Callable[[], Client],
        *,
        strength: str = "sensible",
        secret: bytes | None = None,
        think_s: float = 0.0,
        name: str = "bot",
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._connect = connect
        self._strength = strength
        self._rng = random.SystemRandom()
        self._secret = secret or self._rng.randbytes(32)
        self._think_s = think_s
        self._news = threading.Event()
        self._leaving = threading.Event()
        self._seen: dict[str, int] = {}  # channel to the derived sequence that was looked at
        self._deadlines: dict[str, int] = {}
        self.failure: ScappError | None = None

    def leave(self) -> None:
        """Stop playing at the next occasion."""
        self._leaving.set()
        self._news.set()

    def run(self) -> None:
        threading.Thread(target=self._listen, name=f"{self.name}-ear", daemon=True).start()
        try:
            with self._connect() as node:
                while not self._leaving.is_set():
                    self._news.wait(_LOOK_S)
                    self._news.clear()
                    self._look(node)
        except ScappError as error:
            if not self._leaving.is_set():
                self.failure = error

    def _listen(self) -> None:
        """The stream only wakes: what is to be done follows from the tables."""
        while not self._leaving.is_set():
            try:
                with self._connect() as node:
                    for _ in node.stream(kinds=["rows", "node"]):
                        self._news.set()
            except ScappError:
                self._leaving.wait(_LOOK_S)

    def _look(self, node: Client) -> None:
        schemas = {app.deployment_id: app.schema for app in node.deployments() if app.name == GAME}
        for channel in node.channels("running"):
            if self._leaving.is_set():
                return
            if (schema := schemas.get(channel.deployment_id)) and channel.derived and self._due(channel):
                self._seen[channel.channel_id] = channel.derived.sequence
                try:
                    self._play(node, schema, channel)
                except (Refused, LookupError) as error:  # it was closed meanwhile; or begun with another secret
                    _log.info("bot %s leaves %s as it is: %s", self.name, channel.channel_id, error)

    def _due(self, channel: ChannelView) -> bool:
        assert channel.derived is not None
        late = _now_ms() > self._deadlines.get(channel.channel_id, 1 << 62)
        return late or self._seen.get(channel.channel_id, 0) < channel.derived.sequence

    def _play(self, node: Client, schema: str, channel: ChannelView) -> None:
        """One message at most; what it brings makes the next occasion."""
        view = read_view(node, schema, channel.channel_id)
        self._deadlines.pop(channel.channel_id, None)
        if view.over:
            return
        bot = Bot(channel.my_index, self._rng, self._strength, secret=self._secret)
        message = bot.next_message(view)
        if message is not None:
            if "commit" in message:
                self._leaving.wait(self._think_s * self._rng.uniform(0.5, 1.5))
            node.send(channel.channel_id, message)
        elif view.deadline_ms is not None and view.players[channel.my_index].status == "playing":
            self._call_time(node, channel.channel_id, view.deadline_ms)

    def _call_time(self, node: Client, channel: str, deadline_ms: int) -> None:
        """When the others are late: the reducer refuses it while they are not."""
        if _now_ms() > deadline_ms + 1_000 * _TICK_S:
            node.tick(channel)
            deadline_ms = _now_ms()
        self._deadlines[channel] = deadline_ms + int(1_000 * _TICK_S)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
