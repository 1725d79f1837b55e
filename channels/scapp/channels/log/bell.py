"""How the committer's thread tells an event loop what has become of its appends, at the least cost (`committer.py`).

`call_soon_threadsafe` makes a handle, sends to a socket that the loop reads until it is empty, and holds the
interpreter's lock meanwhile, which the woken loop waits for: twice as long as an eventfd takes (ADR 0078).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections import deque
from collections.abc import Callable

Outcome = Exception | None
Told = Callable[[Outcome], None]
"""Hears None once an append is durable, else VersionConflict, LogWriteFailed, LogClosed, or a bug."""

_log = logging.getLogger("scapp.log")


class Bell:
    """Made in the running event loop, which calls what others `put` once they `ring`; `end` as the last thing.

    The descriptor is closed with the object: a loop that is closed lets go of it without a word. Without one (only
    Linux has them, and a process may have no more left) the loop is woken in the usual way."""

    _descriptor = -1

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._told: deque[tuple[Told, Outcome]] = deque()
        with contextlib.suppress(AttributeError, OSError):
            self._descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        if self._descriptor >= 0:
            self.loop.add_reader(self._descriptor, self._rung)

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def put(self, then: Told, outcome: Outcome) -> None:
        """From any thread: the loop calls `then`, in the order of these calls, at the next `ring`."""
        self._told.append((then, outcome))

    def ring(self) -> None:
        """From any thread; does nothing to a loop that is closed."""
        if self._descriptor >= 0:
            os.eventfd_write(self._descriptor, 1)
        else:
            self._call(self._tell)

    def end(self) -> None:
        """From any thread, once nobody rings any more: the loop hears what is left, and is not asked again."""
        self._call(self._end)

    def _call(self, what: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
            self.loop.call_soon_threadsafe(what)

    def _end(self) -> None:
        self._tell()
        if self._descriptor >= 0:
            self.loop.remove_reader(self._descriptor)

    def _rung(self) -> None:
        os.eventfd_read(self._descriptor)  # before the look at what there is, so that nothing is passed over
        self._tell()

    def _tell(self) -> None:
        while self._told:
            then, outcome = self._told.popleft()
            try:
                then(outcome)
            except Exception:
                _log.exception("whoever waited for an append failed")
