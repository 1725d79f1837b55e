"""Kill -9 while appending: every acknowledged append is there afterwards, whole, and no version is missing."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scapp.channels.log.rocks import RocksLog
from tests.contracts.log_contract import events_of
from tests.support import log_writer
from tests.support.log_writer import STREAMS, WITNESSES, appends_in, events_of_append

WRITER = Path(log_writer.__file__)


def run_and_kill(path: Path, lines_before: int, further_seconds: float) -> dict[int, int]:
    """Start the writer, read so many acknowledgements, kill it a moment later; the highest number per stream."""
    command = [sys.executable, str(WRITER), str(path)]
    writer = subprocess.Popen(command, bufsize=0, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert writer.stdout is not None
    assert writer.stderr is not None
    try:
        read = [writer.stdout.readline() for _ in range(lines_before)]
        time.sleep(further_seconds)  # the random moment itself, nothing waits for it
    finally:
        writer.kill()
    rest, errors = writer.communicate(timeout=60)
    assert errors == b""
    highest: dict[int, int] = {}
    for line in (b"".join(read) + rest).splitlines():
        index, number = line.split()
        assert int(number) >= highest.get(int(index), -1), "acknowledgements of a stream come in order"
        highest[int(index)] = int(number)
    return highest


def check(path: Path, acknowledged: dict[int, int]) -> None:
    with RocksLog(path) as log:
        outbox = dict(log.outbox())
        for index, stream in enumerate(STREAMS):
            found = events_of(log, stream)
            appends = appends_in(len(found))
            assert appends > acknowledged.get(index, -1)
            assert found == [event for number in range(appends) for event in events_of_append(index, number)]
            assert events_of(log, WITNESSES[index]) == found
            assert outbox.get(b"stream%d" % index) == (b"%d" % (appends - 1) if appends else None)


def kill_rounds(path: Path, rounds: int, seed: int) -> None:
    print(f"seed {seed}")
    drawn = random.Random(seed)
    for _ in range(rounds):
        check(path, run_and_kill(path, drawn.randrange(1, 60), drawn.random() * 0.005))


def test_killed_at_random_moments_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    """Killed at random moments nothing acknowledged is lost."""
    kill_rounds(tmp_path / "log", 10, random.SystemRandom().randrange(2**32))


@pytest.mark.slow
def test_killed_at_many_random_moments_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    """Killed at many random moments nothing acknowledged is lost."""
    kill_rounds(tmp_path / "log", 100, random.SystemRandom().randrange(2**32))
