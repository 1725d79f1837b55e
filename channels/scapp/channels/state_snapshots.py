"""When a channel saves a snapshot of its own state, so that its next start is short. `runner.py` asks after each input.

What is saved stands in `channel_snapshots.py`. As with admission's snapshots (`admission_base.py`), one that could not
be saved costs time at the next start and nothing else.
"""

from __future__ import annotations

import logging

from scapp.channels.driver import ChannelDriver, state_codec
from scapp.channels.errors import CorruptionError
from scapp.channels.log.port import EventLog, LogClosed, LogReadFailed, Snapshot

EVENTS_MIN = 1_000
BYTES_PER_EVENT = 512
"""A snapshot is due after this many bytes of the last one per new event, so that large ones are saved less often."""
EVENTS_AT_END = 100
"""With so many new events, a channel that has ended or whose node stops is worth a snapshot."""
ENDED = frozenset(("closed", "rejected"))

logger = logging.getLogger("scapp.node")


class StateSnapshots:
    """`events_min`: how many new events make a snapshot due, at least."""

    def __init__(self, log: EventLog, driver: ChannelDriver, *, events_min: int = EVENTS_MIN) -> None:
        self._log = log
        self._driver = driver
        self._codec = state_codec(log, driver.stream)
        self._events_min = events_min
        self._saved_at = driver.snapshot_at
        self._due_at = self._next(driver.snapshot_bytes)

    @property
    def is_due(self) -> bool:
        """Has the stream grown enough since the last snapshot?"""
        if self._driver.version >= self._due_at:
            return True
        return self._shortens_a_start() and self._driver.engine.state.phase in ENDED

    def save_at_end(self) -> None:
        """The node stops: save if that shortens the next start noticeably."""
        if self._shortens_a_start():
            self.save()

    def _shortens_a_start(self) -> bool:
        return self._driver.version >= self._saved_at + EVENTS_AT_END

    def save(self) -> None:
        """Save what is folded, unless events wait for their append. Never raises a ScappError."""
        loaded = self._driver.loaded()
        if loaded is None:
            return
        version = loaded.version
        try:
            data = self._codec.encode(loaded)
            self._log.save_snapshot(self._driver.stream, Snapshot(version, data), "channel")
        except (CorruptionError, LogClosed, LogReadFailed, OverflowError) as error:
            logger.warning("channel 0x%s: no snapshot was saved: %s", self._driver.stream.hex(), error)
            data = b""  # try again when it is due again, not at every event
        self._saved_at = version
        self._due_at = self._next(len(data))

    def _next(self, size: int) -> int:
        return self._saved_at + max(self._events_min, size // BYTES_PER_EVENT)
