"""What `scapp dev` shows on a terminal and elsewhere; nothing that a terminal obeys gets through."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from scapp.runtime.cli.dev_screen import LiveScreen, View, cell, dev_screen


def rendered(view: View) -> str:
    screen = LiveScreen()
    screen.note("saved\nand more")
    screen.show(view)
    out = io.StringIO()
    Console(width=100, file=out).print(screen._render())
    return out.getvalue()


def test_tables_changes_and_problems_stand_together() -> None:
    """The last rows, with their number; long lists are cut and say so."""
    text = rendered(
        View(
            title="tally 0.1.0",
            status="3 entries",
            tables=[("score", ["who", "points"], [["zoe", "[bold]4"]], 20)],
            changes=[f"score (who {n}): points 1 → 2" for n in range(12)],
            left_out=["entry 2 is left out: no"],
            problem="app.zig does not compile:\nerror: x\x1b[2J",
        )
    )
    for part in (
        "score: 20 rows, the last 1",
        "[bold]4",
        "score (who 7)",
        "… and 4 more",
        "entry 2 is left out: no",
        "error: x",
    ):
        assert part in text
    assert "score (who 8)" not in text
    assert "\x1b[2J" not in text


def test_cells_are_short_and_printable() -> None:
    assert cell(None) == "-"
    assert cell("0x" + "ab" * 20) == "0xababababab…"
    assert cell({"a": [1, "\x07"]}) == '{"a":[1,"\\u0007"]}'
    assert cell("x\x1b[2Jy") == "x\\x1b[2Jy"
    assert len(cell("long " * 50)) == 41


def test_lines_elsewhere_and_nothing_when_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    """Not a terminal here: a line for each thing, what belongs to it below."""
    with dev_screen(False) as screen:
        screen.note("saved\n  score\x1b[2J")
        screen.show(View(title="", status=""))
    assert capsys.readouterr().out.endswith("s  saved\n  score\\x1b[2J\n")
    with dev_screen(True) as screen:
        screen.note("saved")
    assert capsys.readouterr().out == ""
