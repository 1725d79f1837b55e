"""Group commit: order, grouping, conflicts, failures and shutdown, over real adapters."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from scapp.channels.errors import LocalError
from scapp.channels.log.bell import Bell
from scapp.channels.log.committer import Committer
from scapp.channels.log.memory import MemoryLog
from scapp.channels.log.port import Append, LogClosed, LogWriteFailed, StreamWrite, VersionConflict
from scapp.channels.log.rocks import RocksLog

A = b"\x0a" * 32
B = b"\x0b" * 32
WAIT_SECONDS = 30


def write(stream: bytes, version: int, event: bytes = b"x") -> Append:
    return Append((StreamWrite(stream, version, (event,)),))


class GatedLog(MemoryLog):
    """A memory log whose groups wait for the test: `entered` tells that one has begun, `gate` lets groups go on."""

    def __init__(self) -> None:
        super().__init__()
        self.groups: list[int] = []
        self.entered = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)

    def append_group(self, appends: Sequence[Append], *, durable: bool = True) -> list[VersionConflict | None]:
        self.entered.release()
        assert self.gate.acquire(timeout=WAIT_SECONDS)
        self.groups.append(len(appends))
        return super().append_group(appends, durable=durable)


def test_what_queues_up_during_a_sync_becomes_one_group() -> None:
    """What queues up during a sync becomes one group."""
    log = GatedLog()
    with Committer(log) as committer:
        first = committer.submit(write(A, 0))
        assert log.entered.acquire(timeout=WAIT_SECONDS)
        others = [committer.submit(write(A, 1 + number)) for number in range(50)]
        assert not first.done()
        log.gate.release(2)
        for waiter in (first, *others):
            assert waiter.result(WAIT_SECONDS) is None
    assert log.groups == [1, 50]
    assert log.version(A) == 51


def test_a_group_has_a_bounded_size() -> None:
    """A group has a bounded size."""
    log = GatedLog()
    with Committer(log, group_appends_max=4) as committer:
        waiters = [committer.submit(write(A, 0))]
        assert log.entered.acquire(timeout=WAIT_SECONDS)
        waiters += [committer.submit(write(A, 1 + number)) for number in range(10)]
        log.gate.release(10)
        for waiter in waiters:
            waiter.result(WAIT_SECONDS)
    assert log.groups == [1, 4, 4, 2]
    with pytest.raises(ValueError, match="group_appends_max 0"):
        Committer(log, group_appends_max=0)


def test_waiters_hear_in_queue_order_and_only_when_durable() -> None:
    """Waiters hear in queue order and only when durable."""
    heard: list[int] = []
    durable: list[bool] = []
    with MemoryLog() as log, Committer(log) as committer:

        def watch(number: int) -> None:
            def hear(_: object) -> None:
                heard.append(number)
                durable.append(log.durable_copy().version(A) > number)

            waiter = committer.submit(write(A, number))
            waiter.add_done_callback(hear)

        for number in range(200):
            watch(number)
        committer.submit(write(B, 0)).result(WAIT_SECONDS)
    assert heard == list(range(200))
    assert all(durable)


def test_a_conflict_reaches_its_own_waiter_alone() -> None:
    """A conflict reaches its own waiter alone."""
    log = GatedLog()
    with Committer(log) as committer:
        waiters = [committer.submit(write(A, 0))]
        assert log.entered.acquire(timeout=WAIT_SECONDS)
        waiters += [committer.submit(write(*place)) for place in ((A, 1), (A, 1), (B, 0), (A, 2))]
        log.gate.release(2)
        errors = [waiter.exception(WAIT_SECONDS) for waiter in waiters]
    assert [type(error) for error in errors] == [type(None), type(None), VersionConflict, type(None), type(None)]


def test_a_malformed_append_is_refused_at_once_and_not_queued() -> None:
    """A malformed append is refused at once and not queued."""
    with MemoryLog() as log, Committer(log) as committer:
        with pytest.raises(LocalError, match="exactly 32 bytes"):
            committer.submit(write(b"short", 0))
        committer.submit(write(A, 0)).result(WAIT_SECONDS)


def test_a_disk_failure_reaches_every_waiter_and_all_later_ones() -> None:
    """A disk failure reaches every waiter and all later ones."""
    log = GatedLog()
    with Committer(log) as committer:
        waiters = [committer.submit(write(A, 0))]
        assert log.entered.acquire(timeout=WAIT_SECONDS)
        waiters += [committer.submit(write(A, 1 + number)) for number in range(5)]
        log.fail_writes("disk full")
        log.gate.release(3)
        for waiter in waiters:
            with pytest.raises(LogWriteFailed, match="disk full"):
                waiter.result(WAIT_SECONDS)
        with pytest.raises(LogClosed):
            committer.submit(write(A, 0)).result(WAIT_SECONDS)


def test_an_unexpected_error_reaches_the_waiters_and_the_thread_lives_on() -> None:
    """An unexpected error reaches the waiters and the thread lives on."""

    class Defective(MemoryLog):
        defect = True

        def append_group(self, appends: Sequence[Append], *, durable: bool = True) -> list[VersionConflict | None]:
            if self.defect:
                raise ZeroDivisionError("a bug")
            return super().append_group(appends, durable=durable)

    log = Defective()
    with Committer(log) as committer:
        with pytest.raises(ZeroDivisionError, match="a bug"):
            committer.submit(write(A, 0)).result(WAIT_SECONDS)
        log.defect = False
        committer.submit(write(A, 0)).result(WAIT_SECONDS)


def test_closing_commits_what_is_queued_and_makes_the_log_durable() -> None:
    """Closing commits what is queued and makes the log durable."""
    log = GatedLog()
    committer = Committer(log)
    waiters = [committer.submit(write(A, 0))]
    assert log.entered.acquire(timeout=WAIT_SECONDS)
    waiters += [committer.submit(write(A, 1 + number)) for number in range(9)]
    closing = threading.Thread(target=committer.close)
    closing.start()
    log.gate.release(2)
    closing.join(WAIT_SECONDS)
    assert [waiter.result(0) for waiter in waiters] == [None] * 10
    with pytest.raises(LogClosed, match="committer is closed"):
        committer.submit(write(A, 10))
    committer.close()
    assert log.durable_copy().version(A) == 10


def test_closing_flushes_what_others_appended() -> None:
    """Closing flushes what others appended."""
    log = MemoryLog()
    committer = Committer(log)
    log.append(write(B, 0), durable=False)
    committer.close()
    assert log.durable_copy().version(B) == 1


def test_a_log_closed_first_fails_the_waiters_and_not_the_shutdown() -> None:
    """A log closed first fails the waiters and not the shutdown."""
    log = MemoryLog()
    committer = Committer(log)
    log.close()
    with pytest.raises(LogClosed, match="log in memory is closed"):
        committer.submit(write(A, 0)).result(WAIT_SECONDS)
    committer.close()


async def test_tasks_commit_in_the_order_of_their_calls() -> None:
    """Tasks commit in the order of their calls."""
    with MemoryLog() as log, Committer(log) as committer:
        await asyncio.gather(*[committer.append(write(A, number)) for number in range(300)])
        assert log.version(A) == 300
        with pytest.raises(VersionConflict, match="expected version 7, found 300"):
            await committer.append(write(A, 7))
        with pytest.raises(LocalError):
            await committer.append(write(b"", 7))


async def test_one_call_into_the_event_loop_serves_a_whole_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """One call into the event loop serves a whole group."""
    log = GatedLog()
    rung: list[Bell] = []
    original = Bell.ring

    def counted(bell: Bell) -> None:
        rung.append(bell)
        original(bell)

    with Committer(log) as committer:
        first = asyncio.ensure_future(committer.append(write(A, 0)))
        await asyncio.sleep(0)
        assert await asyncio.to_thread(log.entered.acquire, timeout=WAIT_SECONDS)
        others = [asyncio.ensure_future(committer.append(write(A, 1 + number))) for number in range(40)]
        await asyncio.sleep(0)
        monkeypatch.setattr(Bell, "ring", counted)
        log.gate.release(2)
        await asyncio.gather(first, *others)
    assert len(rung) == 2
    assert log.groups == [1, 40]


async def test_a_cancelled_task_does_not_take_its_append_back() -> None:
    """A cancelled task does not take its append back."""
    log = GatedLog()
    with Committer(log) as committer:
        cancelled = asyncio.ensure_future(committer.append(write(A, 0)))
        await asyncio.sleep(0)
        following = asyncio.ensure_future(committer.append(write(A, 1)))
        await asyncio.sleep(0)
        cancelled.cancel()
        log.gate.release(2)
        await following
        assert cancelled.cancelled()
        assert log.version(A) == 2


def test_a_closed_event_loop_does_not_stop_the_committer() -> None:
    """A closed event loop does not stop the committer."""
    log = GatedLog()
    with Committer(log) as committer:
        loop = asyncio.new_event_loop()

        async def start_only() -> None:
            task = asyncio.ensure_future(committer.append(write(A, 0)))
            await asyncio.sleep(0)
            task.cancel()

        loop.run_until_complete(start_only())
        loop.close()
        log.gate.release(2)
        committer.submit(write(A, 1)).result(WAIT_SECONDS)
    assert log.durable_copy().version(A) == 2


async def test_a_loop_hears_of_appends_that_ended_with_the_committer() -> None:
    """Who is told in an event loop hears of it though the committer has closed since; then the loop is left alone."""
    log = MemoryLog()
    committer = Committer(log)
    waiters = [committer.append(write(A, number)) for number in range(3)]
    committer.close()
    await asyncio.gather(*waiters)
    with pytest.raises(LogClosed, match="committer is closed"):
        committer.append(write(A, 3))
    loop = asyncio.get_running_loop()
    bell = Bell()
    bell.end()
    await asyncio.sleep(0)
    assert not loop.remove_reader(bell._descriptor)


def test_a_committer_serves_one_event_loop_after_another() -> None:
    """A committer serves one event loop after another, and keeps nothing of those that were closed."""
    with MemoryLog() as log, Committer(log) as committer:
        for number in range(3):

            async def append(number: int = number) -> None:
                await committer.append(write(A, number))

            asyncio.run(append())
        assert len(committer._bells) == 1
        assert log.version(A) == 3


def test_many_threads_through_one_committer_on_disk(tmp_path: Path) -> None:
    """Many threads through one committer on disk."""
    with RocksLog(tmp_path / "log") as log:
        with Committer(log) as committer:

            def work(stream: bytes) -> None:
                for number in range(20):
                    committer.submit(write(stream, number, b"%d" % number)).result(WAIT_SECONDS)

            threads = [threading.Thread(target=work, args=(bytes([index]) * 32,)) for index in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        for index in range(8):
            found = [event for page in log.read(bytes([index]) * 32) for event in page.events]
            assert found == [b"%d" % number for number in range(20)]


async def test_who_is_told_and_fails_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """A callback that raises is logged, and the others hear of their appends, in order."""
    log = GatedLog()
    told: list[object] = []
    done = asyncio.Event()

    def fails(outcome: object) -> None:
        told.append(outcome)
        raise ZeroDivisionError("a bug")

    with Committer(log) as committer:
        committer.enqueue(write(A, 0), told.append)
        assert await asyncio.to_thread(log.entered.acquire, timeout=WAIT_SECONDS)
        committer.enqueue(write(A, 1), fails)
        committer.enqueue(write(A, 7), told.append)
        committer.enqueue(write(A, 2), lambda _: done.set())
        assert not told
        log.gate.release(2)
        await asyncio.wait_for(done.wait(), WAIT_SECONDS)
    first, second, conflict = told
    assert (first, second) == (None, None)
    assert isinstance(conflict, VersionConflict)
    assert "a bug" in caplog.text


@pytest.mark.parametrize("fault", [AttributeError("not on this system"), OSError(24, "too many open files")])
async def test_a_loop_is_woken_also_without_an_eventfd(monkeypatch: pytest.MonkeyPatch, fault: Exception) -> None:
    def refused(*_: int) -> int:
        raise fault

    monkeypatch.setattr("os.eventfd", refused)
    log = MemoryLog()
    committer = Committer(log)
    await asyncio.gather(*[committer.append(write(A, number)) for number in range(20)])
    waiting = committer.append(write(A, 20))
    await asyncio.to_thread(committer.close)
    await waiting
    assert log.durable_copy().version(A) == 21
