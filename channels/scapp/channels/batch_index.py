"""Where the supported batches of a channel stand in its stream, sparsely: one mark for every few batches.

Whoever looks for an entry begins at the mark before it and passes over the batches between; a million batches cost a
megabyte in memory and in a snapshot. `driver.py` keeps it.
"""

from __future__ import annotations

from bisect import bisect_right

import msgspec

BATCHES_PER_MARK = 16


class BatchIndex(msgspec.Struct, array_like=True, gc=False):
    """Mutable. `starts[i]` is the first sequence of batch `16 * i`, `positions[i]` the version from which it is found;
    `end` is the length of the log, `after_last` the version after the last supported state."""

    starts: list[int] = []
    positions: list[int] = []
    batches: int = 0
    end: int = 0
    after_last: int = 0

    def add(self, first: int, end: int, version: int) -> None:
        """A state became supported whose batch has entries `first .. end-1`; `version` is that of the stream then."""
        if end > first:
            batches = self.batches
            if not batches % BATCHES_PER_MARK:
                self.starts.append(first)
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
