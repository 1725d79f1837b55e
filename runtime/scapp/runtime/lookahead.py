"""Where a pass over the log stands: batches with a look at the next one, and how many make a commit. `follow.py`
derives them."""

from __future__ import annotations

from collections.abc import Iterator

from scapp.channels.reading import EntrySource, SupportedBatch
from scapp.channels.types import ChannelId
from scapp.runtime.derive import DerivationHalted


class Lookahead:
    """Batches, of which the next one is known; an error in reading it comes after those before it."""

    def __init__(self, batches: Iterator[SupportedBatch]) -> None:
        self.next: SupportedBatch | None = None
        self._batches = batches
        self._failure: DerivationHalted | None = None
        self._advance()

    def _advance(self) -> None:
        self.next = None
        try:
            self.next = next(self._batches, None)
        except DerivationHalted as error:
            self._failure = error

    def take(self) -> SupportedBatch:
        """The next one, which there must be."""
        assert self.next is not None
        batch = self.next
        self._advance()
        return batch

    @property
    def is_over(self) -> bool:
        """Whether the one taken last was the last, and right."""
        return self.next is None and self._failure is None

    def fail(self, error: DerivationHalted) -> None:
        """None comes any more, for this reason."""
        self.next, self._failure = None, error

    def check(self) -> None:
        """Raises the error after the last one."""
        if self._failure is not None:
            raise self._failure


class CommitSize:
    """How many entries the next commit of a pass should have: a quarter of those `derived`, from `first` up to `most`,
    and so few that their changes are about `bytes_max` by those of the commit before."""

    def __init__(self, first: int, most: int, bytes_max: int) -> None:
        self.entries = first
        self.derived = 0
        self._first, self._most, self._bytes_max = first, most, bytes_max

    def grow(self, entries: int, size: int) -> None:
        """After a commit of so many entries, whose changes had `size` bytes."""
        self.derived += entries
        fitting = self._bytes_max * max(entries, 1) // max(size, 1)
        self.entries = max(1, min(max(self._first, self.derived // 4), self._most, fitting))


def batch_at(source: EntrySource, channel_id: ChannelId, turn: int, position: int) -> SupportedBatch | None:
    """The batch of a turn, looked for from a place in the log; None when there is none."""
    for batch in source.batches(channel_id, position):
        if batch.turn >= turn:
            return batch if batch.turn == turn else None
    return None
