"""A flood of warnings leaves a trickle in the log, and the log says how much it left out."""

from __future__ import annotations

import io
import json
import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from scapp.runtime import logs
from scapp.runtime.logs import Trickle

NAME = "scapp.test_log_trickle"


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """Of a logger of its own with the process's handler."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    stream = io.StringIO()
    try:
        yield (logs.configure("info", "json", stream=stream), stream)[1]
    finally:
        for handler in [each for each in root.handlers if each not in before]:
            root.removeHandler(handler)
        root.setLevel(level)


def record(at_s: float, text: str = "peer %s: refused: %s", level: int = logging.WARNING) -> logging.LogRecord:
    made = logging.LogRecord(NAME, level, "", 0, text, ("0xb0b", "garbage"), None)
    made.created = at_s
    return made


def test_a_burst_passes_then_so_many_lines_a_second() -> None:
    trickle = Trickle()
    passed = [at for at in range(10_000) if trickle.filter(record(at / 1_000))]
    assert Trickle.BURST <= len(passed) <= Trickle.BURST + 10 * Trickle.LINES_PER_S
    last = record(60.0)
    assert trickle.filter(last)
    assert last.__dict__["left_out"] >= 10
    assert "left_out" not in record(60.1).__dict__


def test_one_flood_hides_no_other_line() -> None:
    trickle = Trickle()
    for _ in range(1_000):
        trickle.filter(record(0.0))
    assert not trickle.filter(record(0.0))
    assert trickle.filter(record(0.0, "something else"))
    for level in (logging.INFO, logging.ERROR, logging.CRITICAL):
        assert trickle.filter(record(0.0, level=level))


class _Interrupted(dict[Any, Any]):
    """Lets other threads run in the middle of a change."""

    def pop(self, *args: Any) -> Any:
        found = super().pop(*args)
        time.sleep(0.000_01)
        return found


def test_threads_share_one_burst(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is let through and what is said to be left out is all there was."""
    monkeypatch.setattr(Trickle, "LINES_PER_S", 0)
    trickle, threads, each = Trickle(), 4, 100
    trickle._kinds = _Interrupted()
    passed: list[logging.LogRecord] = []

    def flood() -> None:
        passed.extend(made for made in (record(0.0) for _ in range(each)) if trickle.filter(made))

    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(flood) for _ in range(threads)]:
            done.result()
    assert len(passed) == Trickle.BURST
    ((_, _, left_out),) = trickle._kinds.values()
    assert len(passed) + left_out == threads * each


def test_texts_of_any_number_and_kind_take_no_memory() -> None:
    trickle = Trickle()
    for number in range(2 * Trickle.KINDS_MAX):
        assert trickle.filter(record(0.0, f"text {number}"))
    odd = record(0.0)
    odd.msg = {"not": "a text"}
    assert trickle.filter(odd)
    assert len(trickle._kinds) == Trickle.KINDS_MAX


def test_a_clock_that_goes_back_stops_nothing() -> None:
    trickle = Trickle()
    for _ in range(Trickle.BURST):
        assert trickle.filter(record(1_000_000.0))
    assert not trickle.filter(record(0.0))
    assert trickle.filter(record(1.0))


def test_the_log_of_a_process_is_limited(lines: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trickle, "LINES_PER_S", 0)
    for number in range(3 * Trickle.BURST):
        logging.getLogger(NAME).warning("refused: %d", number)
        logging.getLogger(NAME).info("done: %d", number)
    found = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert sum(line["level"] == "info" for line in found) == 3 * Trickle.BURST
    assert sum(line["level"] == "warning" for line in found) == Trickle.BURST
