"""Group commit on a virtual loop, over the simulated disk of one life of a node."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from scapp.channels.log.port import Append, LogClosed
from tests.support.disk import DiskLog

Told = Callable[[Exception | None], None]


class Committer:
    """`log.committer.Committer` without its thread: appends that wait for the same step of the loop are one write.
    `dies` tells whether the process ends at a write, "before" or "after"; `stored` hears of each that is durable."""

    def __init__(self, log: DiskLog, dies: Callable[[str], bool], stored: Callable[[Append], None]) -> None:
        self.log, self._dies, self._stored = log, dies, stored
        self.dead = False
        self._jobs: deque[tuple[Append, Told]] = deque()
        self._due = False

    async def append(self, append: Append) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.enqueue(append, lambda error: _resolve(done, error))
        await done

    def enqueue(self, append: Append, then: Told) -> None:
        if self.dead:
            raise LogClosed("the process is gone")
        self._jobs.append((append, then))
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_later(self.log.disk.slow_ms / 1_000, self._commit)

    def die(self) -> None:
        """Who waits learns nothing but that the process is gone."""
        self.dead = True
        self._tell(self._take(), LogClosed("the process is gone"))

    def _take(self) -> list[tuple[Append, Told]]:
        jobs, self._jobs = list(self._jobs), deque()
        return jobs

    @staticmethod
    def _tell(jobs: list[tuple[Append, Told]], error: Exception | None) -> None:
        for _, then in jobs:
            asyncio.get_running_loop().call_soon(then, error)

    def _commit(self) -> None:
        self._due = False
        if self.dead or self._dies("before"):
            return
        jobs = self._take()
        try:
            outcomes: Sequence[Exception | None] = self.log.append_group([append for append, _ in jobs])
        except Exception as error:  # every waiter hears of it
            outcomes = [error] * len(jobs)
        for (append, _), outcome in zip(jobs, outcomes, strict=True):
            if outcome is None:
                self._stored(append)
        if self._dies("after"):
            self._tell(jobs, LogClosed("the process is gone"))
            return
        for job, outcome in zip(jobs, outcomes, strict=True):
            self._tell([job], outcome)


def _resolve(done: asyncio.Future[None], error: Exception | None) -> None:
    if not done.done():
        done.set_result(None) if error is None else done.set_exception(error)
