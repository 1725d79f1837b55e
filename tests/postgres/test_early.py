"""Commits whose messages are written before they are derived, and whose roots come once for many batches."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import psycopg
import pytest

from scapp.channels.reading import SupportedBatch
from scapp.runtime import follow, replica, writing
from scapp.runtime.database.embedded import EmbeddedBackend
from scapp.runtime.database.write import Commit
from scapp.runtime.derive import Halt
from scapp.runtime.follow import Committed
from scapp.runtime.kernel import BatchResult
from scapp.runtime.schema import AppSchema
from scapp.runtime.verify import verify_channel
from scapp.runtime.worker import Worker
from scapp.runtime.worker_status import State
from tests.support.postgres import (
    ACCOUNT,
    SHOP,
    TAGS,
    Emit,
    ScriptedKernel,
    SignedLog,
    account,
    channel,
    delete,
    put,
    rows_of,
    worker_for,
)

ONE = channel(1)
Connection = psycopg.Connection[tuple[object, ...]]


@pytest.fixture
def log() -> SignedLog:
    """Forty-one entries in batches of two, one batch without any, and rows that come, change and go."""
    found = SignedLog(ONE)
    for number in range(20):
        found.append(
            ONE, [account(number % 7, number, "x"), Emit("e", bytes(number))], [put(TAGS, str(number), number)]
        )
        if number % 5 == 4:
            found.append(ONE, [delete(ACCOUNT, (number % 7).to_bytes(20, "big"))])
        if number == 9:
            found.sign(ONE, [])
    return found


@pytest.fixture(autouse=True)
def early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "EARLY_ENTRIES_MIN", 2)
    monkeypatch.setattr(follow, "EARLY_AFTER", 1)
    monkeypatch.setattr(follow, "EARLY_ENTRIES_MAX", 10)
    monkeypatch.setattr(follow, "ENTRIES_FIRST", 2)


def run(worker: Worker) -> Worker:
    worker.run_once()
    worker.stop()
    return worker


def agrees(backend: EmbeddedBackend, log: SignedLog) -> bool:
    report = verify_channel(backend, AppSchema("shop", SHOP), ONE, log, lambda: ScriptedKernel(SHOP, ONE))
    assert report.problems == ()
    return report.sequence == log.sequence(ONE)


def told(worker: Worker) -> list[tuple[int, int]]:
    """Where its commits begin and end."""
    found: list[tuple[int, int]] = []
    worker.subscribe(lambda done: found.append((done.first_sequence, done.end_sequence)))
    return found


def test_a_long_log_is_written_in_large_commits(embedded: EmbeddedBackend, log: SignedLog) -> None:
    """Rows, events and messages are what the log gives; a later pass goes on after them, with a kernel or without."""
    worker = worker_for(log, embedded)
    commits = told(worker)
    worker.run_once()
    assert commits == [(0, 1), (1, 11), (11, 22), (22, 33), (33, 44), (44, 45)]
    log.append(ONE, [account(1, 1)], [account(2, 2)])
    run(worker)
    assert commits[-1] == (45, 47)
    assert agrees(embedded, log)
    log.append(ONE, [account(3, 1)], [account(4, 2)])
    run(worker_for(log, embedded))
    assert agrees(embedded, log)


def test_messages_are_in_the_database_before_they_are_derived(
    embedded: EmbeddedBackend, log: SignedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their transaction is open while a batch is run, and nobody else sees them before the commit."""
    arrived = threading.Event()
    write_early, check_result = writing.write_early, replica.check_result

    def noted(
        connection: Connection,
        channel_id: Any,
        expected: Any,
        home: str,
        messages: Iterable[bytes],
        *rest: Any,
        **how: Any,
    ) -> bool:
        def watched() -> Iterable[bytes]:
            for part in messages:
                arrived.set()
                yield part

        return write_early(connection, channel_id, expected, home, watched(), *rest, **how)

    def after(batch: SupportedBatch, result: BatchResult) -> None:
        if batch.first_sequence >= 1:
            assert arrived.wait(30)
            with embedded.connect() as other:
                ((last,),) = rows_of(other, "SELECT max(sequence) FROM scapp.messages")
            assert last in (0, 10, 21, 32, 43)
        check_result(batch, result)

    monkeypatch.setattr(writing, "write_early", noted)
    monkeypatch.setattr(replica, "check_result", after)
    status = run(worker_for(log, embedded)).status()[ONE.channel_id]
    assert status.state is State.FOLLOWING, status.detail
    assert agrees(embedded, log)


@pytest.mark.parametrize(("at", "lost"), [(1, False), (3, False), (3, True), (6, True), (8, False), (-1, False)])
def test_a_wrong_log_root_is_found_beside_the_kernel(
    embedded: EmbeddedBackend, log: SignedLog, monkeypatch: pytest.MonkeyPatch, at: int, lost: bool
) -> None:
    """In any batch of a commit, also when the connection is lost before anybody looked at it."""
    batches = log.batches_of[ONE.channel_id]
    batches[at] = wrong = msgspec.structs.replace(batches[at], log_root=bytes(32))
    worker = worker_for(log, embedded)
    if lost:
        failing = Lost(monkeypatch, "begin", 1)
        worker.run_once()
        assert failing.times == 1
    status = run(worker).status()[ONE.channel_id]
    assert status.cursor is not None
    assert (status.halt, status.cursor.sequence) == (Halt.CORRUPT, wrong.first_sequence)
    assert "log root after turn" in status.detail


@pytest.mark.parametrize("lie", [4, 20, 44])
def test_under_a_wrong_root_nothing_stays_and_the_batch_with_it_is_found(
    embedded: EmbeddedBackend, log: SignedLog, lie: int
) -> None:
    """Also when it is not the last one of its commit: what was right before it is written."""
    worker = run(worker_for(log, embedded, lie=lie))
    status = worker.status()[ONE.channel_id]
    faulty = next(batch for batch in log.batches(ONE.channel_id) if batch.end_sequence > lie)
    assert (status.halt, status.cursor and status.cursor.sequence) == (Halt.CORRUPT, faulty.first_sequence)
    assert f"state root after turn {faulty.turn}" in status.detail
    with embedded.connect() as connection:
        assert rows_of(connection, "SELECT max(sequence) FROM scapp.messages") == [(faulty.first_sequence - 1,)]
    run(worker_for(log, embedded))
    assert agrees(embedded, log)


def test_a_wrong_root_that_does_not_come_again_stops_nothing(
    embedded: EmbeddedBackend, log: SignedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was this machine's fault; from then on every batch has its root."""
    late_root, asked = ScriptedKernel.late_root, []

    def wrong(kernel: ScriptedKernel) -> bytes:
        asked.append(late_root(kernel))
        return bytes(32) if len(asked) == 2 else asked[-1]

    monkeypatch.setattr(ScriptedKernel, "late_root", wrong)
    status = run(worker_for(log, embedded)).status()[ONE.channel_id]
    assert (status.state, len(asked)) == (State.FOLLOWING, 2)
    assert agrees(embedded, log)


class Lost:
    """The connection is lost in a write: `how` says where. What is written goes through `write_early` or `write`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, how: str, first: int) -> None:
        self._how, self._first = how, first
        self.times = 0
        self._write_early = writing.write_early
        monkeypatch.setattr(writing, "write_early", self)

    def __call__(
        self,
        connection: Connection,
        channel_id: Any,
        expected: Any,
        home: str,
        messages: Iterable[bytes],
        rest: Callable[[], Commit | None],
        *,
        confirmed: Callable[[], bool],
        **how: Any,
    ) -> bool:
        def lose(moment: str) -> None:
            if self._how == moment and expected.sequence == self._first and not self.times:
                self.times += 1
                connection.close()
                raise psycopg.OperationalError("the connection is lost")

        def parts() -> Iterable[bytes]:
            for part in messages:
                lose("messages")
                yield part

        def everything() -> Commit | None:
            commit = rest()
            lose("rest")
            return commit

        def counts() -> bool:
            found = confirmed()
            lose("commit")
            return found

        lose("begin")
        done = self._write_early(connection, channel_id, expected, home, parts(), everything, confirmed=counts, **how)
        lose("answer")
        return done


@pytest.mark.parametrize("first", [1, 33])
@pytest.mark.parametrize("how", ["begin", "messages", "rest", "commit", "answer"])
def test_a_write_that_fails_is_repeated_with_its_messages(
    embedded: EmbeddedBackend, log: SignedLog, monkeypatch: pytest.MonkeyPatch, how: str, first: int
) -> None:
    """Whether it had landed or not, nothing is lost and nothing doubled, and the kernel is kept."""
    lost = Lost(monkeypatch, how, first)
    loads: list[object] = []
    load = follow.load_tables
    monkeypatch.setattr(follow, "load_tables", lambda *given: (loads.append(given), load(*given)))
    worker = worker_for(log, embedded)
    worker.run_once()
    assert (worker.database().state, lost.times) == ("down", 1)
    run(worker)
    assert worker.status()[ONE.channel_id].state is State.FOLLOWING
    assert agrees(embedded, log)
    # Only what had landed without an answer makes the kernel be filled again.
    assert len(loads) == (how == "answer")


def test_who_moves_the_cursor_meanwhile_is_noticed_before_anything_is_written(
    embedded: EmbeddedBackend, log: SignedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other has done it all: this one finds its cursor moved and starts over from there."""
    first, second = worker_for(log, embedded), worker_for(log, embedded)
    first.run_once()
    second.run_once()
    for number in range(6):
        log.append(ONE, [account(number, number * 100)], [account(number + 1, 1)])
    begun = writing.write_early

    def other_first(*given: Any, **how: Any) -> bool:
        monkeypatch.setattr(writing, "write_early", begun)
        second.run_once()
        return begun(*given, **how)

    monkeypatch.setattr(writing, "write_early", other_first)
    run(first)
    second.stop()
    assert first.status()[ONE.channel_id].state is State.FOLLOWING
    assert agrees(embedded, log)


def test_two_workers_over_one_database_do_each_entry_once(embedded: EmbeddedBackend, log: SignedLog) -> None:
    """Each finds its cursor moved, or held, by the other."""
    workers = [worker_for(log, embedded) for _ in range(2)]
    for number in range(5):
        for _ in range(4):
            log.append(ONE, [account(number, number * 100)], [account(number + 1, 7)])
        threads = [threading.Thread(target=worker.run_once) for worker in workers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for worker in workers:
            assert worker.status()[ONE.channel_id].state is State.FOLLOWING, worker.status()
    for worker in workers:
        worker.stop()
    assert agrees(embedded, log)


def test_a_worker_that_stops_in_the_middle_leaves_nothing_of_it(
    embedded: EmbeddedBackend, log: SignedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not begin again with all roots either."""
    check_result = replica.check_result

    def stopping(batch: SupportedBatch, result: BatchResult) -> None:
        check_result(batch, result)
        if batch.first_sequence == 18:
            worker._stopping = True
            for follower in worker._followers.values():
                follower.interrupt()
            raise follow.DerivationHalted(Halt.UNDECIDABLE, "interrupted")

    monkeypatch.setattr(replica, "check_result", stopping)
    worker = worker_for(log, embedded)
    commits: list[Committed] = []
    worker.subscribe(commits.append)
    run(worker)
    assert [done.end_sequence for done in commits] == [1, 11]
    monkeypatch.setattr(replica, "check_result", check_result)
    run(worker_for(log, embedded))
    assert agrees(embedded, log)


def test_a_commit_ends_where_its_changes_are_many(
    embedded: EmbeddedBackend, log: SignedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "BYTES_PER_COMMIT", 1)
    worker = worker_for(log, embedded)
    commits = told(worker)
    run(worker)
    batches = [batch for batch in log.batches(ONE.channel_id) if batch.entries]
    assert [end for _, end in commits] == [batch.end_sequence for batch in batches]
    assert agrees(embedded, log)


def test_a_broken_log_stops_after_what_can_be_read(
    embedded: EmbeddedBackend, log: SignedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that does not follow the one before is met in the middle of a large commit."""
    batches = log.batches_of[ONE.channel_id]
    del batches[7]
    status = run(worker_for(log, embedded)).status()[ONE.channel_id]
    assert status.cursor is not None
    assert (status.halt, status.cursor.sequence) == (Halt.CORRUPT, batches[6].end_sequence)
    assert "entries missing" in status.detail
