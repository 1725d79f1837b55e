"""What `scapp demo` shows: a live screen on a terminal, plain lines elsewhere, nothing with --json."""

from __future__ import annotations

import collections
import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

import click
import msgspec

if TYPE_CHECKING:
    from scapp.game import GameView

MOVES_SHOWN = 6


class NodeLine(msgspec.Struct, frozen=True, kw_only=True):
    """One node at a glance."""

    name: str
    turn: int | None
    entries: int
    derived: int
    root: str


class Screen(Protocol):
    """Thread-safe."""

    def note(self, text: str) -> None:
        """Say what is being done."""
        ...

    def move(self, text: str) -> None:
        """Say what a player did."""
        ...

    def show(self, nodes: list[NodeLine], view: GameView | None, names: list[str]) -> None:
        """Show where the nodes and the game stand."""
        ...


@contextlib.contextmanager
def screen(quiet: bool) -> Iterator[Screen]:
    """The fitting screen for where the output goes."""
    if quiet:
        yield Silent()
    elif sys.stdout.isatty():
        with LiveScreen() as live:
            yield live
    else:
        yield Lines()


class Silent:
    """Shows nothing."""

    def note(self, text: str) -> None:
        pass

    def move(self, text: str) -> None:
        pass

    def show(self, nodes: list[NodeLine], view: GameView | None, names: list[str]) -> None:
        pass


class Lines:
    """One line for each thing that happens; the table when a round ends."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._rounds = 0

    def note(self, text: str) -> None:
        with self._lock:
            click.echo(f"{time.monotonic() - self._began:6.2f} s  {text}")

    def move(self, text: str) -> None:
        self.note(text)

    def show(self, nodes: list[NodeLine], view: GameView | None, names: list[str]) -> None:
        if view is None:
            return
        done = sum(1 for item in view.rounds if item.result in ("won", "tied", "void"))
        if done > self._rounds:
            self._rounds = done
            scores = ", ".join(f"{names[p.seat]} {p.score}" for p in view.players)
            self.note(f"round {done} of {len(view.rounds)}: {scores}")


class LiveScreen:
    """Three tables that change in place: nodes, standings, latest moves."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._notes = "…"
        self._moves: collections.deque[str] = collections.deque(maxlen=MOVES_SHOWN)
        self._nodes: list[NodeLine] = []
        self._view: GameView | None = None
        self._names: list[str] = []
        self._began = time.monotonic()
        self._live = Live(get_renderable=self._render, console=Console(), refresh_per_second=12, transient=False)

    def __enter__(self) -> LiveScreen:
        self._live.__enter__()
        return self

    def __exit__(self, *exc: Any) -> None:
        self._live.__exit__(*exc)

    def note(self, text: str) -> None:
        self._notes = text

    def move(self, text: str) -> None:
        self._moves.append(text)

    def show(self, nodes: list[NodeLine], view: GameView | None, names: list[str]) -> None:
        self._nodes, self._view, self._names = nodes, view, names

    def _render(self) -> Any:
        from rich.console import Group
        from rich.text import Text

        parts: list[Any] = [Text(f"{time.monotonic() - self._began:5.1f} s  {self._notes}", style="bold")]
        if self._nodes:
            parts.append(self._node_table())
        if self._view is not None:
            parts.append(self._score_table(self._view))
        parts += [Text(f"  {move}", style="dim") for move in list(self._moves)]
        return Group(*parts)

    def _node_table(self) -> Any:
        from rich.table import Table

        found = Table("node", "turn", "entries", "in PostgreSQL", "state root", title="nodes", title_justify="left")
        for node in self._nodes:
            found.add_row(
                node.name,
                str(node.turn),
                str(node.entries),
                str(node.derived),
                node.root[:18] + "…" if node.root else "-",
            )
        return found

    def _score_table(self, view: GameView) -> Any:
        from rich.table import Table

        title = f"round {view.round} of {len(view.rounds)}: {view.phase}, pot {view.pot}"
        found = Table("player", "score", "hand", "bid", title=title, title_justify="left")
        for player in view.standings():
            bid = view.bid(player.seat)
            shown = "-" if bid is None else "hidden" if bid.card is None else str(bid.card)
            hand = " ".join(map(str, player.hand)) or "-"
            found.add_row(self._names[player.seat], str(player.score), hand, shown)
        return found
