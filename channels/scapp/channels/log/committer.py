"""Group commit: one thread turns whatever has queued up into one write and one sync (`EventLog.append_group`).

A sync costs the same for one append as for hundreds, so throughput grows with load while a lone append waits for
nobody. Waiters hear of it in queue order, and only once their append is durable.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial
from types import TracebackType

import msgspec

from scapp.channels.log.bell import Bell, Outcome, Told
from scapp.channels.log.checks import check_append
from scapp.channels.log.port import Append, EventLog, LogClosed

GROUP_APPENDS_MAX = 1024
_CLOSED = "the committer is closed; the append was not queued"


class _Job(msgspec.Struct, frozen=True):
    append: Append
    then: Told
    bell: Bell | None  # of the event loop in which it is told; None: in the committer's thread


class Committer:
    """Owns one thread, not the log: close the committer first, then the log.

    `group_appends_max` bounds how many appends share one write."""

    def __init__(self, log: EventLog, *, group_appends_max: int = GROUP_APPENDS_MAX) -> None:
        if group_appends_max < 1:
            raise ValueError(f"group_appends_max {group_appends_max}: must be at least 1")
        self._log = log
        self._group_appends_max = group_appends_max
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._gate = threading.Lock()  # nothing is queued behind the end mark
        self._closed = False
        self._bells: dict[asyncio.AbstractEventLoop, Bell] = {}
        self._thread = threading.Thread(target=self._run, name="log-committer", daemon=True)
        self._thread.start()

    def submit(self, append: Append) -> Future[None]:
        """Queue an append; the future ends when it is durable, or with VersionConflict, LogWriteFailed, LogClosed.

        Raises LocalError for a malformed append and LogClosed after `close`. Appends submitted by one thread are
        committed in that order."""
        waiter: Future[None] = Future()
        waiter.set_running_or_notify_cancel()  # a queued append is committed whatever its caller does
        self._put(_Job(append, partial(_resolve, waiter), None))
        return waiter

    def enqueue(self, append: Append, then: Told) -> None:
        """Queue an append of the running event loop, which calls `then` once it is durable or has failed. Raises as
        `submit`."""
        bell = self._bells.get(asyncio.get_running_loop()) or self._new_bell()
        self._put(_Job(append, then, bell))

    def append(self, append: Append) -> asyncio.Future[None]:
        """As `submit`, for the running event loop. Cancelling whoever waits does not take the append back."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.enqueue(append, partial(_resolve, waiter))
        return waiter

    def close(self) -> None:
        """Commit what is queued, make the whole log durable, and end the thread. Later appends raise LogClosed."""
        with self._gate:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        self._thread.join()
        while self._bells:
            self._bells.popitem()[1].end()

    def __enter__(self) -> Committer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _new_bell(self) -> Bell:
        """For a loop that appends for the first time."""
        if self._closed:
            raise LogClosed(_CLOSED)
        for loop in list(self._bells):  # which another thread's loop may change meanwhile
            if loop.is_closed():
                self._bells.pop(loop, None)
        bell = Bell()
        self._bells[bell.loop] = bell
        return bell

    def _put(self, job: _Job) -> None:
        check_append(job.append)  # here, so that one malformed append cannot fail its neighbours
        with self._gate:
            if self._closed:
                raise LogClosed(_CLOSED)
            self._queue.put(job)

    def _run(self) -> None:
        while True:
            jobs, ended = self._drain()
            if jobs:
                _resolve_all(jobs, self._commit([job.append for job in jobs]))
            if ended:
                self._flush()
                return

    def _drain(self) -> tuple[list[_Job], bool]:
        """Wait for a job, then take what else is there; True when the end mark came."""
        jobs: list[_Job] = []
        job = self._queue.get()
        while job is not None:
            jobs.append(job)
            if len(jobs) == self._group_appends_max:
                return jobs, False
            try:
                job = self._queue.get_nowait()
            except queue.Empty:
                return jobs, False
        return jobs, True

    def _commit(self, appends: Sequence[Append]) -> Sequence[Outcome]:
        try:
            return self._log.append_group(appends)
        except Exception as error:  # whatever it is, every waiter must hear of it, and the thread must go on
            return [error] * len(appends)

    def _flush(self) -> None:
        try:
            self._log.flush()
        except LogClosed:
            return  # closed or failed before us: every waiter has heard of it already


def _resolve_all(jobs: Sequence[_Job], outcomes: Sequence[Outcome]) -> None:
    """Tell everybody in order; each event loop is woken once for the whole group."""
    bells: dict[Bell, None] = {}
    for job, outcome in zip(jobs, outcomes, strict=True):
        if job.bell is None:
            job.then(outcome)
        else:
            job.bell.put(job.then, outcome)
            bells[job.bell] = None
    for bell in bells:
        bell.ring()


def _resolve(waiter: Future[None] | asyncio.Future[None], outcome: Outcome) -> None:
    if waiter.done():
        return  # its task was cancelled
    if outcome is None:
        waiter.set_result(None)
    else:
        waiter.set_exception(outcome)
