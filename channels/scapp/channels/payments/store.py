"""Storing what the book decides: appends in the order of the decisions, a few on their way at a time.

The book is ahead of the disk meanwhile; `durable` is what may be shown and said.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from functools import partial

from scapp.channels.errors import ScappError
from scapp.channels.log.port import Append, Committer, EventLog, StreamWrite
from scapp.channels.payments.events import PurseEvent, encode_purse_event
from scapp.channels.payments.purse import Purse
from scapp.channels.payments.stored import load_purse, save_purse
from scapp.channels.types import ChannelId

logger = logging.getLogger("scapp.payments")

SNAPSHOT_EVENTS = 16_384
"""Events between two snapshots of a purse: to read that many takes some 10 milliseconds."""


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
        self._saving: set[asyncio.Task[None]] = set()
        self._begun = self._ended = 0  # appends; they end in the order of their beginning
        self._idle: deque[tuple[int, asyncio.Future[None]]] = deque()  # who waits for how many to have ended
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

    def commit(self, then: Callable[[ScappError | None], None]) -> None:
        """Append what is staged; `then` hears later when it is durable, or why it is not."""
        append, touched = Append(self._staged), self._touched
        self._staged, self._touched = [], []
        self.on_their_way += 1
        self._begun += 1
        ended = partial(self._end, touched, then)
        try:
            if self.failure is not None:
                raise self.failure
            self._committer.enqueue(append, ended)
        except Exception as failed:
            asyncio.get_running_loop().call_soon(ended, failed)

    def _end(
        self,
        touched: list[tuple[Purse, int]],
        then: Callable[[ScappError | None], None],
        outcome: Exception | None,
    ) -> None:
        if outcome is not None and self.failure is None:
            # The book holds what the disk does not: nothing may be decided on top of it.
            self.failure = outcome if isinstance(outcome, ScappError) else ScappError(f"internal error: {outcome!r}")
            logger.error("payments stop: what was decided cannot be stored", exc_info=outcome)
        error = self.failure if outcome is not None else None
        self.on_their_way -= 1
        if error is None:
            for purse, _ in touched:
                self.durable[purse.channel] = purse
        then(error)
        self._after()
        self._ended += 1
        while self._idle and self._idle[0][0] <= self._ended:
            waiter = self._idle.popleft()[1]
            if not waiter.done():
                waiter.set_result(None)
        due = [each for each in touched if self._is_due(*each)]
        if due and error is None:
            saving = asyncio.get_running_loop().create_task(self._snapshot(due))
            self._saving.add(saving)
            saving.add_done_callback(self._saving.discard)

    def _is_due(self, purse: Purse, version: int) -> bool:
        return version >= self._snapshots.get(purse.channel, 0) + SNAPSHOT_EVENTS

    async def _snapshot(self, due: list[tuple[Purse, int]]) -> None:
        for purse, version in due:
            self._snapshots[purse.channel] = version
            try:
                await asyncio.to_thread(save_purse, self._log, purse, version)
            except ScappError as error:  # a shortcut only
                logger.warning("payment channel 0x%s: no snapshot: %s", purse.channel.hex(), error)

    def forget(self, channel: ChannelId) -> None:
        """Nothing more is stored of this purse, if it is settled."""
        purse = self.durable.get(channel)
        if purse is None or purse.phase != "settled":
            return
        for known in (self.durable, self._versions, self._snapshots):
            known.pop(channel, None)
        self._log.forget(channel)

    async def idle(self) -> None:
        """Return when all that was decided before is durable, or has failed."""
        if self._ended < self._begun:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._idle.append((self._begun, waiter))
            await waiter

    async def stop(self) -> None:
        """Finish what is on its way."""
        while self._ended < self._begun:
            await self.idle()
        if self._saving:
            await asyncio.wait(self._saving)
