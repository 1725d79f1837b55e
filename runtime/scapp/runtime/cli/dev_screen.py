"""What `scapp dev` shows: live tables on a terminal, lines elsewhere, nothing with --json."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import click
import msgspec

from scapp.runtime.cli.common import printable, short

ROWS_SHOWN = 8
LINES_SHOWN = 8


class View(msgspec.Struct, frozen=True, kw_only=True):
    """All that is shown: `tables` are name, headers and rows (the last ones) with their number."""

    title: str
    status: str
    tables: Sequence[tuple[str, Sequence[str], Sequence[Sequence[str]], int]] = ()
    changes: Sequence[str] = ()
    left_out: Sequence[str] = ()
    problem: str = ""


class Screen(Protocol):
    def note(self, text: str) -> None:
        """Something happened."""
        ...

    def show(self, view: View) -> None:
        """Where things stand."""
        ...


@contextlib.contextmanager
def dev_screen(quiet: bool) -> Iterator[Screen]:
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

    def show(self, view: View) -> None:
        pass


class Lines:
    """One line for each thing that happens; what a save changed, and its problem, below it."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def note(self, text: str) -> None:
        first, *more = text.splitlines() or [""]
        click.echo("\n".join([f"{time.monotonic() - self._began:7.2f} s  {printable(first)}", *map(printable, more)]))

    def show(self, view: View) -> None:
        pass


class LiveScreen:
    """Tables that change in place."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._view: View | None = None
        self._note = ""
        self._live = Live(get_renderable=self._render, console=Console(), refresh_per_second=12, screen=False)

    def __enter__(self) -> LiveScreen:
        self._live.__enter__()
        return self

    def __exit__(self, *exc: Any) -> None:
        self._live.__exit__(*exc)

    def note(self, text: str) -> None:
        self._note = text.splitlines()[0] if text else ""

    def show(self, view: View) -> None:
        self._view = view

    def _render(self) -> Any:
        from rich.console import Group
        from rich.text import Text

        view = self._view
        if view is None:
            return Text(self._note, style="dim")
        parts: list[Any] = [Text(view.title, style="bold"), Text(view.status), Text(self._note, style="dim")]
        if view.problem:
            lines = [printable(line) for line in view.problem.splitlines()]
            parts.append(Text("\n".join(_some(lines, 3 * LINES_SHOWN)), style="red"))
        for each in view.tables:
            parts += self._table(*each)
        for some, style in ((view.changes, "yellow"), (view.left_out, "magenta")):
            if some:
                parts.append(Text("\n".join(_some([printable(line) for line in some], LINES_SHOWN)), style=style))
        return Group(*parts)

    def _table(self, name: str, headers: Sequence[str], rows: Sequence[Sequence[str]], count: int) -> list[Any]:
        from rich.table import Table
        from rich.text import Text

        shown = f"{name}: {count} rows" + (f", the last {len(rows)}" if len(rows) < count else "")
        found = Table()
        for header in headers:
            found.add_column(Text(header))
        for row in rows:
            found.add_row(*map(Text, row))
        return [Text(shown), found]


def _some(lines: Sequence[str], most: int) -> list[str]:
    left = len(lines) - most
    return [*lines[:most], f"… and {left} more"] if left > 0 else list(lines)


def cell(value: Any) -> str:
    """A value of a row as it is shown."""
    if value is None:
        return "-"
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return short(printable(text), 12 if text.startswith("0x") else 40)
