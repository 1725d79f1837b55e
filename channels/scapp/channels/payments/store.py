"""Storing what the book decides: appends in the order of the decisions, a few on their way at a time.

The book is ahead of the disk meanwhile; `durable` is what may be shown and said.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from scapp.channels.errors import ScappError
from scapp.channels.log.port import Append, EventLog, StreamWrite
from scapp.channels.payments.events import PurseEvent, encode_purse_event
from scapp.channels.payments.purse import Purse
from scapp.channels.payments.stored import load_purse, save_purse
from scapp.channels.types import ChannelId

logger = logging.getLogger("scapp.payments")

SNAPSHOT_EVENTS = 16_384
"""Events between two snapshots of a purse: to read that many takes some 10 milliseconds."""


class Committer(Protocol):
    """`scapp.channels.log.committer.Committer`, as far as it is needed here."""

    async def append(self, append: Append) -> None: ...


class PurseStore:
    """Belongs to the node's event loop. `after` is called after each append, whatever became of it."""

    def __init__(self, log: EventLog, committer: Committer, after: Callable[[], None]) -> None:
        self.durable: dict[ChannelId, Purse] = {}
        self.on_their_way = 0
        self.failure: ScappError | None = None
        self._log = log
        self._committer = committer
        self._after = after
        self._versions: dict[ChannelId, int] = {}  # of the book's purses
        self._snapshots: dict[ChannelId, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._last: asyncio.Task[None] | None = None
        self._staged: list[StreamWrite] = []
        self._touched: list[tuple[Purse, int]] = []

    def load(self, stream: bytes) -> Purse:
        """Raises CorruptionError."""
        purse, version = load_purse(self._log, stream)
        self.durable[purse.channel] = purse
        self._versions[purse.channel] = self._snapshots[purse.channel] = version
        return purse

    def stage(self, purse: Purse, *events: PurseEvent) -> None:
        """Put events into the next append; `purse` is what they make of it. A channel comes once in an append."""
        version = self._versions.get(purse.channel, 0)
        self._versions[purse.channel] = end = version + len(events)
        self._staged.append(StreamWrite(purse.channel, version, [encode_purse_event(event) for event in events]))
        self._touched.append((purse, end))

    def commit(self, then: Callable[[ScappError | None], None]) -> asyncio.Task[None]:
        """Append what is staged; `then` hears when it is durable, or why it is not."""
        writes, touched = self._staged, self._touched
        self._staged, self._touched = [], []
        self.on_their_way += 1
        # Tasks begin in the order of their creation, so appends are queued in the order of the decisions.
        task = asyncio.get_running_loop().create_task(self._commit(Append(writes), touched, then))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._last = task
        return task

    async def _commit(
        self, append: Append, touched: list[tuple[Purse, int]], then: Callable[[ScappError | None], None]
    ) -> None:
        error: ScappError | None = self.failure
        if error is None:
            try:
                await self._committer.append(append)
            except Exception as failed:
                # The book holds what the disk does not: nothing may be decided on top of it.
                error = failed if isinstance(failed, ScappError) else ScappError(f"internal error: {failed!r}")
                self.failure = error
                logger.exception("payments stop: what was decided cannot be stored")
        self.on_their_way -= 1
        if error is None:
            for purse, _ in touched:
                self.durable[purse.channel] = purse
        then(error)
        self._after()
        if error is None:
            await self._snapshot([each for each in touched if self._is_due(*each)])

    def _is_due(self, purse: Purse, version: int) -> bool:
        return version >= self._snapshots.get(purse.channel, 0) + SNAPSHOT_EVENTS

    async def _snapshot(self, due: list[tuple[Purse, int]]) -> None:
        for purse, version in due:
            self._snapshots[purse.channel] = version
            try:
                await asyncio.to_thread(save_purse, self._log, purse, version)
            except ScappError as error:  # a shortcut only
                logger.warning("payment channel 0x%s: no snapshot: %s", purse.channel.hex(), error)

    async def idle(self) -> None:
        """Return when all that was decided before is durable, or has failed."""
        if self._last is not None:
            await asyncio.wait([self._last])

    async def stop(self) -> None:
        """Finish what is on its way."""
        while self._tasks:
            await asyncio.wait(self._tasks)
