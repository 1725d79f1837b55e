"""Where the supported batches of a channel stand in its stream, sparsely: one mark for every few batches.

Whoever looks for an entry begins at the mark before it and passes over the batches between; a million batches cost a
megabyte in memory and in a snapshot. `driver.py` keeps it.
"""

from __future__ import annotations

from bisect import bisect_right

BATCHES_PER_MARK = 16
SavedIndex = tuple[list[int], list[int], int, int, int]
"""Starts, positions, batches, end, after_last."""


class BatchIndex:
    """Mutable. `starts[i]` is the first sequence of batch `16 * i`, `positions[i]` the version from which it is found;
    `end` is the length of the log, `after_last` the version after the last supported state."""

    # No msgspec struct: to set a field of one costs several times as much, and every batch sets three.
    __slots__ = ("after_last", "batches", "end", "positions", "starts")

    def __init__(self, saved: SavedIndex | None = None) -> None:
        """Of a log without batches, or as it was `saved`."""
        self.starts, self.positions, self.batches, self.end, self.after_last = saved or ([], [], 0, 0, 0)

    def saved(self) -> SavedIndex:
        """All of it, as a snapshot keeps it."""
        return self.starts, self.positions, self.batches, self.end, self.after_last

    def add(self, count: int, end: int, version: int) -> None:
        """A state became supported whose batch has `count` entries, with which the log has `end`; `version` is that of
        the stream then."""
        if count:
            batches = self.batches
            if not batches % BATCHES_PER_MARK:
                self.starts.append(end - count)
                self.positions.append(self.after_last)
            self.batches = batches + 1
            self.end = end
        self.after_last = version

    def position_of(self, sequence: int) -> int:
        """A version from which the batch with entry `sequence` is found, after at most 15 others; exactly the version
        after the last supported state for an entry that is still to come."""
        if sequence >= self.end:
            return self.after_last
        return self.positions[bisect_right(self.starts, sequence) - 1]
