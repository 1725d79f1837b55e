"""PostgreSQL killed in the middle of writes, again and again: restarted, nothing is lost, nothing doubled."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
from collections.abc import Iterator

import psutil
import psycopg
import pytest

from scapp.runtime import follow
from scapp.runtime.database.embedded import EmbeddedBackend
from scapp.runtime.schema import AppSchema
from scapp.runtime.verify import verify_channel
from tests.support.postgres import (
    ACCOUNT,
    SHOP,
    ScriptedKernel,
    SignedLog,
    account,
    channel,
    delete,
    rows_of,
    running_embedded,
    worker_for,
)

ONE = channel(1)


@pytest.fixture
def own_backend() -> Iterator[EmbeddedBackend]:
    """A server of this test's own, because it is going to be killed."""
    with running_embedded("scapp-kill-") as backend:
        yield backend


def kill(backend: EmbeddedBackend, draw: random.Random) -> str:
    """Kill the postmaster, or one of its processes, or all of them, without warning."""
    pid = backend.pid
    if pid is None:
        return "nothing"
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        children = parent.children()
        victims, what = draw.choice(
            [
                ([parent], "the postmaster"),
                ([draw.choice(children)] if children else [parent], "one process"),
                ([parent, *children], "all processes"),
            ]
        )
        for victim in victims:
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.send_signal(signal.SIGKILL)
        return what
    return "nothing"


def wait_until_recovered(backend: EmbeddedBackend) -> None:
    """The last kill may have come after the last write; the server then still recovers."""
    while True:
        with contextlib.suppress(psycopg.OperationalError), backend.connect():
            return


def storm(backend: EmbeddedBackend, seed: str, rounds: int) -> None:
    """Kill at drawn moments while a worker writes; after each the tables must come to equal the log again."""
    draw, content, log = random.Random(seed), random.Random(seed), SignedLog(ONE)
    killed: list[str] = []
    worker = worker_for(log, backend, poll_s=0.01)
    worker.start()
    try:
        for number in range(rounds):
            timer = threading.Timer(draw.uniform(0.01, 0.1), lambda: killed.append(kill(backend, draw)))
            timer.start()
            while not timer.finished.wait(0.002):  # writes go on until the kill, so it strikes in their middle
                gone, changed = content.sample(range(50), 2)
                log.append(
                    ONE, [delete(ACCOUNT, gone.to_bytes(20, "big"))], [account(changed, content.getrandbits(64))]
                )
                worker.notify()
            timer.join()
            log.append(ONE, [account(99, number)])  # can be written only once the database is back
            assert worker.wait_for(ONE.channel_id, log.sequence(ONE), timeout=60), (seed, number, worker.database())
    finally:
        worker.stop()
    assert len(killed) - killed.count("nothing") > rounds // 2, "most rounds must kill something"
    check(backend, log, seed)


def check(backend: EmbeddedBackend, log: SignedLog, seed: str) -> None:
    """The tables are what was signed, and every entry is there once.

    The last kill may have taken the last commits with it, which did not wait for the disk: the log refills them."""
    wait_until_recovered(backend)
    again = worker_for(log, backend)
    again.start()
    assert again.wait_for(ONE.channel_id, log.sequence(ONE), timeout=60), (seed, again.database())
    again.stop()
    report = verify_channel(backend, AppSchema("shop", SHOP), ONE, log, lambda: ScriptedKernel(SHOP, ONE))
    assert report.problems == (), seed
    assert report.sequence == log.sequence(ONE)
    with backend.connect() as connection:
        assert rows_of(connection, "SELECT count(*), min(sequence), max(sequence) FROM scapp.messages") == [
            (log.sequence(ONE), 0, log.sequence(ONE) - 1)
        ]


def test_killed_while_writing(own_backend: EmbeddedBackend, seed: str) -> None:
    """Kills at drawn moments lose nothing and double nothing."""
    storm(own_backend, seed, rounds=int(os.environ.get("SCAPP_KILLS", "10")))


@pytest.mark.parametrize("early", [False, True])
def test_killed_while_commits_are_written_and_derived_at_once(
    own_backend: EmbeddedBackend, seed: str, monkeypatch: pytest.MonkeyPatch, early: bool
) -> None:
    """A long log is caught up with in many commits, each written while the next is derived, or its messages while the
    same one is; kills in their middle lose nothing and double nothing."""
    if early:
        monkeypatch.setattr(follow, "EARLY_ENTRIES_MIN", 1)
        monkeypatch.setattr(follow, "EARLY_ENTRIES_MAX", 6)
    monkeypatch.setattr(follow, "ENTRIES_FIRST", 2)
    monkeypatch.setattr(follow, "ENTRIES_MAX", 4)
    draw, log, killed = random.Random(seed), SignedLog(ONE), 0
    for number in range(400):
        gone = delete(ACCOUNT, draw.randrange(50).to_bytes(20, "big"))
        log.append(ONE, [gone], [account(draw.randrange(50), number)])
    worker = worker_for(log, own_backend, poll_s=0.01)
    worker.start()
    try:
        while not worker.wait_for(ONE.channel_id, log.sequence(ONE), timeout=draw.uniform(0.01, 0.1)):
            killed += worker.database().state == "up" and kill(own_backend, draw) != "nothing"
            if killed >= 5:
                break
        assert worker.wait_for(ONE.channel_id, log.sequence(ONE), timeout=60), (seed, worker.database())
    finally:
        worker.stop()
    assert killed
    check(own_backend, log, seed)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_while_writing_many_times(own_backend: EmbeddedBackend, seed: str) -> None:
    storm(own_backend, seed, rounds=40)
