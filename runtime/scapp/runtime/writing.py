"""What the rows of a pass are written with, and a commit whose messages are on their way while it is derived:
`follow.py` derives, `database/write.py` writes, and here both wait for each other.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator
from concurrent.futures import Executor, Future, wait
from queue import SimpleQueue

import msgspec

from scapp.channels.reading import SupportedBatch
from scapp.channels.types import ChannelId
from scapp.runtime.changes import MESSAGES, TableChange
from scapp.runtime.database.connecting import Connection
from scapp.runtime.database.write import Commit, Cursor, write_early
from scapp.runtime.derive import check_log_root
from scapp.runtime.kernel import Kernel


class Writing(msgspec.Struct, frozen=True):
    """The connection of one round, what its backend allows, and a thread to write in."""

    connection: Connection
    notify: bool
    copy_in: bool
    thread: Executor


class EarlyWrite:
    """One commit to a channel that stands at `expected`: `send` its batches one by one, then `end` with all but their
    messages and `answer` whether it counts; or `abandon` it.

    Begins in the writing's thread at once. There `kernel`, which nobody else may use meanwhile and which runs nothing,
    makes the messages' rows and checks each log root."""

    def __init__(
        self, writing: Writing, kernel: Kernel, channel_id: ChannelId, expected: Cursor, home: str, *, few: bool
    ) -> None:
        self._kernel = kernel
        self._log_root: bytes = expected.log_root
        self._written: list[bytes] = []
        self._unchecked: SupportedBatch | None = None
        self.entries = 0
        self.size = 0  # bytes of what was sent
        self._batches: SimpleQueue[SupportedBatch | None] = SimpleQueue()
        self._rest: Future[Commit | None] = Future()
        self._counts: Future[bool] = Future()
        self._running = writing.thread.submit(
            write_early,
            writing.connection,
            channel_id,
            expected,
            home,
            self._rows(),
            self._rest.result,
            few=few,
            notify=writing.notify,
            confirmed=self._counts.result,
        )

    def _rows(self) -> Iterator[bytes]:
        while (batch := self._batches.get()) is not None:
            self._unchecked = batch
            if batch.entries:
                self._written.append(self._kernel.messages(batch.first_sequence, batch.turn, batch.entries))
                yield self._written[-1]  # the server goes to work, so the check comes after
            self._check()

    def _check(self) -> None:
        batch, self._unchecked = self._unchecked, None
        if batch is not None:
            check_log_root(self._log_root, batch, self._kernel)
            self._log_root = batch.log_root

    @property
    def is_over(self) -> bool:
        """Whether it came to its end already, which is a bad one before `answer`: `result` tells."""
        return self._running.done()

    def send(self, batch: SupportedBatch) -> None:
        """The next one."""
        self.entries += len(batch.entries)
        self.size += sum(map(len, batch.entries))
        self._batches.put(batch)

    def end(self, commit: Commit) -> None:
        """Everything but the messages."""
        self._rest.set_result(commit)
        self._batches.put(None)

    def answer(self, counts: bool) -> None:
        """Whether it is committed, once all is written."""
        self._counts.set_result(counts)

    def result(self) -> bool:
        """Wait for it: False when the cursor stood elsewhere, or it does not count. Raises psycopg's errors, and for a
        wrong log root DerivationHalted, KernelFault."""
        return self._running.result()

    def messages(self) -> TableChange:
        """All that was sent, for another attempt after a failed one. Raises DerivationHalted, KernelFault."""
        self._check()
        if not self._batches.empty():  # what nobody came to
            collections.deque(self._rows(), maxlen=0)
        return TableChange(MESSAGES.name, self.entries, 0, copy=b"".join(self._written))

    def abandon(self) -> None:
        """Nothing of it stays; returns when the connection is free."""
        if not self._rest.done():
            self._rest.set_result(None)
        if not self._counts.done():
            self._counts.set_result(False)
        self._batches.put(None)
        wait([self._running])
