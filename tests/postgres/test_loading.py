"""A worker that starts late: kernels filled from the tables, checked against the log; and commits written while the
next is derived."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from scapp.channels.admission import ChannelContext
from scapp.channels.reading import SupportedBatch
from scapp.channels.types import ChannelId
from scapp.runtime import follow, replica
from scapp.runtime.database.embedded import EmbeddedBackend
from scapp.runtime.database.write import read_cursor
from scapp.runtime.derive import Halt
from scapp.runtime.follow import Committed
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
_STATE = "SELECT * FROM shop.account UNION ALL SELECT channel_id, NULL, sequence, '' FROM scapp.cursors"


class Read(SignedLog):
    """A log that remembers which turns were read."""

    def __init__(self, *contexts: ChannelContext) -> None:
        self.turns: list[int] = []
        super().__init__(*contexts)

    def batches(self, channel_id: ChannelId, position: int = 0) -> Iterator[SupportedBatch]:
        for batch in super().batches(channel_id, position):
            self.turns.append(batch.turn)
            yield batch


@pytest.fixture
def log() -> Read:
    found = Read(ONE)
    for number in range(20):
        found.append(ONE, [account(number, number, "x"), Emit("e", bytes(number))], [put(TAGS, str(number), number)])
    return found


def run(worker: Worker) -> Worker:
    worker.run_once()
    worker.stop()
    return worker


def agrees(backend: EmbeddedBackend, log: SignedLog) -> bool:
    report = verify_channel(backend, AppSchema("shop", SHOP), ONE, log, lambda: ScriptedKernel(SHOP, ONE))
    assert report.problems == ()
    return report.sequence == log.sequence(ONE)


def execute(backend: EmbeddedBackend, *statements: str) -> None:
    with backend.connect() as connection:
        for statement in statements:
            connection.execute(statement.encode())


def test_a_restart_reads_no_more_of_the_log_than_the_cursor_s_batch(embedded: EmbeddedBackend, log: Read) -> None:
    run(worker_for(log, embedded))
    log.append(ONE, [delete(ACCOUNT, (3).to_bytes(20, "big")), Emit("later", b"")])
    log.turns.clear()
    run(worker_for(log, embedded))
    assert set(log.turns) == {20, 21}
    assert agrees(embedded, log)


def test_nothing_new_needs_no_kernel(embedded: EmbeddedBackend, log: Read) -> None:
    """The cursor is compared with the log all the same, once."""
    run(worker_for(log, embedded))
    log.turns.clear()
    made: list[object] = []
    worker = Worker(log, embedded, ONE.participants[0], kernel_for=made.append, manifest_for=lambda _: SHOP)  # type: ignore[arg-type]
    worker.run_once()
    worker.run_once()
    worker.stop()
    assert worker.status()[ONE.channel_id].state is State.FOLLOWING
    assert (made, log.turns) == ([], [20])


def test_a_database_of_before_the_event_root_was_kept(embedded: EmbeddedBackend, log: Read) -> None:
    """The chain is computed from the events, and the cursor's batch is looked for in the whole log."""
    run(worker_for(log, embedded))
    execute(embedded, "UPDATE scapp.cursors SET event_root = NULL, batch_position = 0")
    log.append(ONE, [Emit("later", b"")])
    run(worker_for(log, embedded))
    assert agrees(embedded, log)
    with embedded.connect() as connection:
        cursor = read_cursor(connection, ONE.channel_id)
    assert cursor is not None
    assert (cursor.batch_position, cursor.event_root is None) == (21, False)


@pytest.mark.parametrize(
    "edit",
    [
        "UPDATE shop.account SET balance = balance + 1 WHERE note = 'x' AND balance = 7",
        "DELETE FROM shop.tag WHERE number = 3",
        "INSERT INTO shop.tag SELECT channel_id, 'more', 1 FROM scapp.cursors",
        "UPDATE scapp.cursors SET event_root = decode(repeat('07', 32), 'hex')",
    ],
)
def test_edited_rows_halt_the_channel_and_nothing_is_written_over_them(
    embedded: EmbeddedBackend, log: Read, edit: str
) -> None:
    run(worker_for(log, embedded))
    execute(embedded, edit)
    with embedded.connect() as connection:
        before = rows_of(connection, _STATE)
    log.append(ONE, [account(7, 7, "x"), put(TAGS, "3", 3), delete(TAGS, "more", 1)])
    status = run(worker_for(log, embedded)).status()[ONE.channel_id]
    assert (status.state, status.halt) == (State.HALTED, Halt.CORRUPT)
    assert "the rows in the database are not those signed at turn 20" in status.detail
    assert "`scapp verify` names what differs" in status.detail
    with embedded.connect() as connection:
        assert before == rows_of(connection, _STATE)


@pytest.mark.parametrize("column", ["state_root", "log_root"])
def test_an_edited_cursor_halts_the_channel(embedded: EmbeddedBackend, log: Read, column: str) -> None:
    """Also without anything new to derive."""
    run(worker_for(log, embedded))
    execute(embedded, f"UPDATE scapp.cursors SET {column} = decode(repeat('07', 32), 'hex')")
    status = run(worker_for(log, embedded)).status()[ONE.channel_id]
    assert status.halt is Halt.CORRUPT
    assert "the database is derived to turn 20, sequence 41" in status.detail
    assert "this node's log has sequence 41" in status.detail


def test_an_edited_position_is_found_again_in_the_log(embedded: EmbeddedBackend, log: Read) -> None:
    run(worker_for(log, embedded))
    execute(embedded, "UPDATE scapp.cursors SET position = 3, batch_position = 1000")
    log.append(ONE, [account(1, 9)])
    run(worker_for(log, embedded))
    assert agrees(embedded, log)


# -- one commit is written while the next is derived ------------------------------------------------------------------


@pytest.fixture
def small_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "ENTRIES_FIRST", 2)
    monkeypatch.setattr(follow, "ENTRIES_MAX", 6)
    monkeypatch.setattr(follow, "LATE_ENTRIES_MIN", 1)


@pytest.mark.usefixtures("small_commits")
def test_much_that_waits_is_written_in_growing_commits_in_order(embedded: EmbeddedBackend, log: Read) -> None:
    told: list[Committed] = []
    worker = worker_for(log, embedded)
    worker.subscribe(told.append)
    run(worker)
    ends = [item.end_sequence for item in told]
    assert ends == [3, 5, 7, 9, 11, 13, 17, 21, 27, 33, 39, 41]
    assert [item.first_sequence for item in told] == [0, *ends[:-1]]
    assert agrees(embedded, log)


@pytest.mark.usefixtures("small_commits")
def test_a_commit_is_derived_while_the_one_before_is_written(
    embedded: EmbeddedBackend, log: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first write does not end before the second commit was derived; a third is not begun meanwhile."""
    derived: list[int] = []
    ahead = threading.Event()
    write, check_result = follow.write, replica.check_result

    def waiting(
        connection: psycopg.Connection[tuple[object, ...]], commit: follow.Commit, *, notify: bool, **confirmed: Any
    ) -> bool:
        if commit.expected.sequence == 0:
            assert ahead.wait(30)
            assert max(derived) == 5
        return write(connection, commit, notify=notify, **confirmed)

    def noted(batch: SupportedBatch, result: follow.BatchResult) -> None:  # type: ignore[name-defined]
        check_result(batch, result)
        derived.append(batch.end_sequence)
        if batch.end_sequence == 5:
            ahead.set()

    monkeypatch.setattr(follow, "write", waiting)
    monkeypatch.setattr(replica, "check_result", noted)
    run(worker_for(log, embedded))
    assert agrees(embedded, log)


@pytest.mark.usefixtures("small_commits")
@pytest.mark.parametrize("landed", [False, True])
@pytest.mark.parametrize("failing", [0, 3, 21, 33, 39])
def test_a_write_that_fails_while_the_next_commit_is_derived_is_repeated(
    embedded: EmbeddedBackend, log: Read, monkeypatch: pytest.MonkeyPatch, failing: int, landed: bool
) -> None:
    """Whether it had landed or not, nothing is lost and nothing doubled."""
    write, failed = follow.write, []

    def once(
        connection: psycopg.Connection[tuple[object, ...]], commit: follow.Commit, *, notify: bool, **confirmed: Any
    ) -> bool:
        if commit.expected.sequence == failing and not failed:
            failed.append(landed and write(connection, commit, notify=notify, **confirmed))
            connection.close()
            raise psycopg.OperationalError("the connection is lost")
        return write(connection, commit, notify=notify, **confirmed)

    monkeypatch.setattr(follow, "write", once)
    worker = worker_for(log, embedded)
    worker.run_once()
    assert worker.database().state == "down"
    run(worker)
    assert failed == [landed]
    assert worker.status()[ONE.channel_id].state is State.FOLLOWING
    assert agrees(embedded, log)


@pytest.mark.usefixtures("small_commits")
def test_what_was_right_before_a_wrong_root_is_written_in_the_overlapped_phase_too(
    embedded: EmbeddedBackend, log: Read
) -> None:
    worker = run(worker_for(log, embedded, lie=30))
    status = worker.status()[ONE.channel_id]
    assert (status.halt, status.cursor and status.cursor.sequence) == (Halt.CORRUPT, 29)
    run(worker_for(log, embedded))
    assert agrees(embedded, log)


@pytest.mark.usefixtures("small_commits")
@pytest.mark.parametrize("landed", [False, True])
@pytest.mark.parametrize("failing", [None, 33, 39])
def test_rows_under_a_wrong_root_that_comes_late_never_stay(
    embedded: EmbeddedBackend, log: Read, monkeypatch: pytest.MonkeyPatch, failing: int | None, landed: bool
) -> None:
    """They are in the database, uncommitted, when the root of the last batch is known; also when the connection is lost
    while they, or those before them, are written."""
    write = follow.write
    written: list[tuple[int, bool]] = []
    failed: list[follow.Commit] = []

    def watched(
        connection: psycopg.Connection[tuple[object, ...]], commit: follow.Commit, *, notify: bool, **confirmed: Any
    ) -> bool:
        fails = commit.expected.sequence == failing and not failed
        if landed or not fails:
            written.append((commit.new.sequence, write(connection, commit, notify=notify, **confirmed)))
        if fails:
            failed.append(commit)
            connection.close()
            raise psycopg.OperationalError("the connection is lost")
        return written[-1][1]

    monkeypatch.setattr(follow, "write", watched)
    worker = worker_for(log, embedded, lie=40)
    worker.run_once()
    status = run(worker).status()[ONE.channel_id]
    assert (status.halt, status.cursor and status.cursor.sequence) == (Halt.CORRUPT, 39)
    assert "state root after turn" in status.detail
    assert (41, True) not in written
    # If those before them were not written at first, the root was known before anything else could be.
    assert ((41, False) in written) == (failing is None or landed)
    with embedded.connect() as connection:
        assert rows_of(connection, "SELECT max(sequence) FROM scapp.messages") == [(38,)]
    run(worker_for(log, embedded))
    assert agrees(embedded, log)


@pytest.mark.usefixtures("small_commits")
@pytest.mark.parametrize("lie", [None, 40])
def test_a_kernel_that_is_released_before_its_root_came_takes_its_rows_along(
    embedded: EmbeddedBackend, log: Read, lie: int | None
) -> None:
    worker = worker_for(log, embedded, lie=lie)
    follower = next(iter(_followed(worker, until=39)))
    follower.release()
    status = run(worker).status()[ONE.channel_id]
    assert status.cursor is not None
    assert (status.halt, status.cursor.sequence) == ((None, 41) if lie is None else (Halt.CORRUPT, 39))
    run(worker_for(log, embedded))
    assert agrees(embedded, log)


def _followed(worker: Worker, until: int) -> list[follow.ChannelFollower]:
    """The worker's followers after a round that ended once `until` entries were committed; what was derived beyond is
    not written."""

    class Enough(BaseException):
        pass

    def stop(done: Committed) -> None:
        if done.end_sequence == until:
            raise Enough

    end = worker.subscribe(stop)
    with pytest.raises(Enough):
        worker.run_once()
    end()
    return list(worker._followers.values())


@pytest.mark.usefixtures("small_commits")
def test_two_workers_over_one_database_do_each_entry_once(embedded: EmbeddedBackend, log: Read) -> None:
    """Each finds its cursor moved by the other, and goes on from there."""
    first, second = worker_for(log, embedded), worker_for(log, embedded)
    for number in range(5):
        log.append(ONE, [account(number, number * 100)], [delete(TAGS, str(number), number)])
        threads = [threading.Thread(target=worker.run_once) for worker in (first, second)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for worker in (first, second):
            assert worker.status()[ONE.channel_id].state is State.FOLLOWING, worker.status()
    first.stop()
    second.stop()
    assert agrees(embedded, log)


# -- secondary indexes ------------------------------------------------------------------------------------------------


def indexes(backend: EmbeddedBackend) -> set[str]:
    with backend.connect() as connection:
        found = rows_of(connection, "SELECT indexname FROM pg_indexes WHERE schemaname = 'shop'")
    return {name for (name,) in found if not name.startswith("scapp_")}


@pytest.mark.usefixtures("small_commits")
def test_secondary_indexes_are_made_after_the_first_rows_and_kept_up_from_then_on(
    embedded: EmbeddedBackend, log: Read
) -> None:
    """Also when the first worker ends in the middle."""
    seen: list[set[str]] = []

    def stop_soon(_: Committed) -> None:
        seen.append(indexes(embedded))
        if len(seen) == 2:
            worker.stop()

    worker = worker_for(log, embedded)
    worker.subscribe(stop_soon)
    worker.run_once()
    assert seen == [set(), set()]
    assert indexes(embedded) == set()
    run(worker_for(log, embedded))
    assert indexes(embedded) == {"account_by_balance", "where"}
    log.append(ONE, [account(1, 9)])
    run(worker_for(log, embedded))
    assert agrees(embedded, log)


def test_an_index_that_cannot_be_made_holds_up_nothing(
    embedded: EmbeddedBackend, log: Read, caplog: pytest.LogCaptureFixture
) -> None:
    worker = worker_for(log, embedded)
    worker.subscribe(lambda _: execute(embedded, 'ALTER TABLE shop."select" RENAME TO other'))
    run(worker)
    assert "its indexes cannot be built" in caplog.text
    assert worker.status()[ONE.channel_id].state is State.FOLLOWING
