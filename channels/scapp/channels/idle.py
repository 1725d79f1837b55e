"""Which channels' admission bases stay in memory: a bound on their number and on what they take together. `runner.py`
reports here and frees, `admission_base.py` loads again.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol

from scapp.channels.types import ChannelId

CHANNELS_MAX = 1_024
BYTES_MAX = 512 * 2**20


class Holder(Protocol):
    """A channel that has a base."""

    @property
    def channel_id(self) -> ChannelId: ...

    def set_aside(self) -> None:
        """Free the base soon, if no batch lies on it by then. Returns at once."""
        ...


class IdleBound:
    """Asks those that were not used for longest to free their bases, beyond either bound.

    A base with a batch on it is counted and never asked for: a peer that does not answer holds it, and others go in its
    place. The last one that is idle stays, however large it is. Not thread-safe."""

    def __init__(self, channels_max: int = CHANNELS_MAX, bytes_max: int = BYTES_MAX) -> None:
        self._channels_max, self._bytes_max = channels_max, bytes_max
        self._idle: OrderedDict[ChannelId, tuple[Holder, int]] = OrderedDict()  # used last at the end
        self._busy: dict[ChannelId, int] = {}
        self.bytes = 0

    @property
    def count(self) -> int:
        """Bases in memory, but for those that were asked for and not freed yet."""
        return len(self._idle) + len(self._busy)

    def used(self, holder: Holder, size: int, *, idle: bool) -> None:
        """The channel has just used its base of `size` bytes; not `idle`: a batch lies on it."""
        self.freed(holder.channel_id)
        self.bytes += size
        if idle:
            self._idle[holder.channel_id] = holder, size
        else:
            self._busy[holder.channel_id] = size
        while (self.count > self._channels_max or self.bytes > self._bytes_max) and len(self._idle) > 1:
            channel_id, (oldest, _) = next(iter(self._idle.items()))
            self.freed(channel_id)
            oldest.set_aside()

    def freed(self, channel_id: ChannelId) -> None:
        """The channel has no base any more, or will not have it soon."""
        _, size = self._idle.pop(channel_id, (None, 0))
        self.bytes -= size + self._busy.pop(channel_id, 0)
