"""What the rows of a pass are written with, and a commit whose messages are on their way before it is derived:
`follow.py` derives, `database/write.py` writes, and here both wait for each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor, Future, wait
from queue import SimpleQueue

import msgspec

from scapp.channels.types import ChannelId
from scapp.runtime.database.connecting import Connection
from scapp.runtime.database.write import Commit, Cursor, write_early


class Writing(msgspec.Struct, frozen=True):
    """The connection of one round, what its backend allows, and a thread to write in."""

    connection: Connection
    notify: bool
    copy_in: bool
    thread: Executor


class EarlyWrite:
    """One commit to a channel that stands at `expected`: `send` its messages part by part, then `end` with the rest of
    it and `answer` whether it counts; or `abandon` it. Begins in the writing's thread at once."""

    def __init__(self, writing: Writing, channel_id: ChannelId, expected: Cursor, home: str, *, few: bool) -> None:
        self._parts: SimpleQueue[bytes | None] = SimpleQueue()
        self._rest: Future[Commit | None] = Future()
        self._counts: Future[bool] = Future()
        self._running = writing.thread.submit(
            write_early,
            writing.connection,
            channel_id,
            expected,
            home,
            self._sent(),
            self._rest.result,
            few=few,
            notify=writing.notify,
            confirmed=self._counts.result,
        )

    def _sent(self) -> Iterator[bytes]:
        while (part := self._parts.get()) is not None:
            yield part

    @property
    def is_over(self) -> bool:
        """Whether it came to its end already, which is a bad one before `answer`: `result` tells."""
        return self._running.done()

    def send(self, part: bytes) -> None:
        """COPY tuples of messages."""
        self._parts.put(part)

    def end(self, commit: Commit) -> None:
        """Everything but the messages."""
        self._rest.set_result(commit)
        self._parts.put(None)

    def answer(self, counts: bool) -> None:
        """Whether it is committed, once all is written."""
        self._counts.set_result(counts)

    def result(self) -> bool:
        """Wait for it: False when the cursor stood elsewhere, or it does not count. Raises psycopg's errors."""
        return self._running.result()

    def abandon(self) -> None:
        """Nothing of it stays; returns when the connection is free."""
        if not self._rest.done():
            self._rest.set_result(None)
        if not self._counts.done():
            self._counts.set_result(False)
        self._parts.put(None)
        wait([self._running])
