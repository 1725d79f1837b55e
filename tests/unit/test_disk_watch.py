"""A disk that fills is said before it is full, once."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from scapp.runtime.disk_watch import LOW_BYTES, DiskWatch


def test_a_disk_that_fills_is_said_once_until_there_was_room(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "scapp.process")
    free = [5 * LOW_BYTES, LOW_BYTES - 1, 0, LOW_BYTES + 1, 1, 2 * LOW_BYTES, 7]
    left = iter(free)
    watch = DiskWatch(Path("/srv/scapp"), lambda _: next(left))
    told = []
    for _ in free:
        watch.look()
        told.append(len(caplog.messages))
    assert told == [0, 1, 1, 1, 1, 1, 2]
    assert (
        caplog.messages[-1] == "0 MB are free on the disk of /srv/scapp; once it is full nothing is signed: make room"
    )


def test_a_directory_that_is_gone_is_no_news(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    DiskWatch(tmp_path / "gone").look()
    assert not caplog.messages
