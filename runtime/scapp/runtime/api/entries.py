"""Reading a channel's supported entries by sequence, for pages and streams, over the log's read port.

The port reads from a position in the node's own log; this remembers some positions, so that a page deep in a long
log does not begin at its start.
"""

from __future__ import annotations

import bisect
import threading
from collections.abc import Iterator

import msgspec

from scapp.channels.reading import EntrySource, SupportedBatch
from scapp.channels.types import ChannelId

_MARK_EVERY = 1_024  # entries between two remembered positions
_CHANNELS_MAX = 1_024


class StoredEntry(msgspec.Struct, frozen=True, gc=False):
    """One supported entry where it stands; `state_root` is that of its turn."""

    sequence: int
    turn: int
    data: bytes
    state_root: bytes


class EntryReader:
    """Thread-safe; its methods read the disk."""

    def __init__(self, source: EntrySource) -> None:
        self._source = source
        self._marks: dict[ChannelId, list[tuple[int, int]]] = {}  # (sequence, position), ascending
        self._lock = threading.Lock()

    def batches(self, channel_id: ChannelId, from_sequence: int) -> Iterator[SupportedBatch]:
        """Supported batches that hold entries from `from_sequence` on."""
        for batch in self._source.batches(channel_id, self._position(channel_id, from_sequence)):
            self._remember(channel_id, batch)
            if batch.end_sequence > from_sequence:
                yield batch

    def page(self, channel_id: ChannelId, from_sequence: int, limit: int) -> tuple[list[StoredEntry], int | None]:
        """At most `limit` entries and the sequence that follows them, None at the end of the log."""
        found: list[StoredEntry] = []
        for batch in self.batches(channel_id, from_sequence):
            for offset, data in enumerate(batch.entries):
                sequence = batch.first_sequence + offset
                if sequence < from_sequence:
                    continue
                if len(found) == limit:
                    return found, sequence
                found.append(StoredEntry(sequence, batch.turn, data, batch.state_root))
        return found, None

    def _position(self, channel_id: ChannelId, sequence: int) -> int:
        with self._lock:
            marks = self._marks.get(channel_id, [])
            index = bisect.bisect_right(marks, (sequence, 1 << 62)) - 1
            return marks[index][1] if index >= 0 else 0

    def _remember(self, channel_id: ChannelId, batch: SupportedBatch) -> None:
        with self._lock:
            if channel_id not in self._marks and len(self._marks) >= _CHANNELS_MAX:
                self._marks.pop(next(iter(self._marks)))
            marks = self._marks.setdefault(channel_id, [])
            if not marks or batch.end_sequence >= marks[-1][0] + _MARK_EVERY:
                marks.append((batch.end_sequence, batch.position))
