"""The game of `scapp demo`: one bot per node, each playing through its own node's public client."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence

import msgspec

from scapp.channels.errors import LocalError, ScappError
from scapp.game import Bot, GameView, read_view, wasm_bytes
from scapp.runtime.cli.demo_screen import NodeLine, Screen
from scapp.runtime.cli.processes import NodeChild
from scapp.runtime.client import Client, NodeUnreachable
from scapp.runtime.documents import SlotView

DERIVED_WITHIN_S = 60.0
SETTLED_WITHIN_S = 60.0


class Stakes(msgspec.Struct, frozen=True, kw_only=True):
    """What a game is played for, slot i being seat i's. `fund`: "direct", deposits on a chain, or "virtual", ledgers
    over the hubs `via` for `fees`. `opens` and `ends` say on the screen what happens to them."""

    slots: list[SlotView]
    fund: str
    duration_s: int
    opens: str
    ends: str
    via: tuple[str, ...] = ()
    fees: tuple[int, ...] = ()


class Game:
    """Prepares the nodes and plays one game on them; `clients` are in the order of seats."""

    def __init__(
        self,
        children: Sequence[NodeChild],
        clients: Sequence[Client],
        cards: int,
        screen: Screen,
        stakes: Stakes | None = None,
    ) -> None:
        """At nodes that know each other. Without `stakes` it is played for nothing."""
        self._children = children
        self.clients = clients
        self._cards = cards
        self._screen = screen
        self._stakes = stakes
        self.channel = ""
        self.schema = ""
        self.over_at = 0.0

    def prepare(self) -> None:
        """Deploy, open the channel, wait for the databases."""
        wasm = wasm_bytes()
        self._screen.note("deploying the game: its module is checked, compiled and hashed at every node")
        ids = {client.deploy(wasm).deployment_id for client in self.clients}
        assert len(ids) == 1, ids
        app = self.clients[0].deployment(ids.pop())
        self._screen.note("opening the channel: everyone signs entry 0 and the state after it")
        others = [child.name for child in self._children[1:]]
        if (stakes := self._stakes) is not None:
            self._screen.note(stakes.opens)
        found = self.clients[0].open_channel(
            others,
            app.deployment_id,
            params={"cards": self._cards},
            slots=stakes.slots if stakes else (),
            fund=stakes.fund if stakes else "none",
            via=stakes.via if stakes else (),
            fees=stakes.fees if stakes else (),
            challenge_duration_s=stakes.duration_s if stakes else 86_400,
            wait_s=60,
        )
        if found.phase != "running":
            raise LocalError(f"the channel is {found.phase}: {found.waiting_for or found.reason}")
        self.channel = found.channel_id
        self._wait_derived(1)
        self.schema = self.clients[0].deployment(app.deployment_id).schema
        self._screen.note(f"channel {self.channel[:12]}… is running; the bots play")

    def play(self) -> None:
        """Return when the game is over at every node, the channel closed and everything derived."""
        players = [
            Player(seat, child, self.channel, self.schema, self._screen) for seat, child in enumerate(self._children)
        ]
        for player in players:
            player.start()
        try:
            while any(player.is_alive() for player in players):
                self._show(players)
                failed = next((player.failure for player in players if player.failure), None)
                if failed:
                    raise failed
                time.sleep(0.1)
            failed = next((player.failure for player in players if player.failure), None)
            if failed:
                raise failed
        finally:
            for player in players:
                player.leave()
        self.over_at = time.monotonic()
        self._show(players)
        closed = self.clients[0].close_channel(self.channel, wait_s=30)
        self._wait_derived(closed.sequence)
        if self._stakes is not None:
            self._screen.note(f"all have signed the final state; {self._stakes.ends}")
            self._wait_settled()

    def _wait_settled(self) -> None:
        deadline = time.monotonic() + SETTLED_WITHIN_S
        for child, client in zip(self._children, self.clients, strict=True):
            while (found := client.channel(self.channel)).phase != "settled":
                if time.monotonic() > deadline:
                    raise LocalError(f"not settled after {SETTLED_WITHIN_S:g} s at {child.name}: {found.waiting_for}")
                time.sleep(0.1)

    def _wait_derived(self, sequence: int) -> None:
        deadline = time.monotonic() + DERIVED_WITHIN_S
        for child, client in zip(self._children, self.clients, strict=True):
            while True:
                derived = client.channel(self.channel).derived
                if derived is not None and derived.sequence >= sequence:
                    break
                if time.monotonic() > deadline:
                    state = derived.detail if derived else client.status().database.detail
                    raise LocalError(f"the database of {child.name} is not up after {DERIVED_WITHIN_S:g} s: {state}")
                time.sleep(0.02)

    def _show(self, players: list[Player]) -> None:
        lines = []
        for child, client in zip(self._children, self.clients, strict=True):
            found = client.channel(self.channel)
            derived = found.derived
            lines.append(
                NodeLine(
                    name=child.name,
                    turn=found.turn,
                    entries=found.sequence,
                    derived=derived.sequence if derived else 0,
                    root=derived.state_root if derived else "",
                )
            )
        self._screen.show(lines, players[0].view, [child.name for child in self._children])


class Player(threading.Thread):
    """One bot: woken by its node's stream, it reads the tables by SQL and sends what it decides."""

    def __init__(self, seat: int, child: NodeChild, channel: str, schema: str, screen: Screen) -> None:
        super().__init__(name=f"player-{child.name}", daemon=True)
        self._child = child
        self._channel = channel
        self._schema = schema
        self._screen = screen
        self._bot = Bot(seat, random.SystemRandom())
        self._leaving = threading.Event()
        self.view: GameView | None = None
        self.failure: ScappError | None = None

    def leave(self) -> None:
        """Stop playing at the next occasion."""
        self._leaving.set()

    def run(self) -> None:
        try:
            with self._child.client() as node:
                for item in node.stream(channels=[self._channel], start=[f"{self._channel}:0:0"], kinds=["rows"]):
                    if self._leaving.is_set() or self._turn(node, item.sequence or 0):
                        return
                raise NodeUnreachable(f"the stream of {self._child.name} ended")
        except ScappError as error:
            self.failure = error

    def _turn(self, node: Client, sequence: int) -> bool:
        """Look, and send what is to be sent now; True when the game is over."""
        self.view = view = read_view(node, self._schema, self._channel)
        message = None if view.over else self._bot.next_message(view)
        if message is not None:
            (receipt,) = node.send(self._channel, message)
            if receipt.status == "accepted":
                what = "hides a card" if "commit" in message else f"shows a {message['reveal']['card']}"
                self._screen.move(f"{self._child.name} {what}  (entry {receipt.sequence}, turn {receipt.turn})")
        return view.over
