"""What the worker keeps an eye on besides the channels: how much memory their kernels take, and how fast it goes."""

from __future__ import annotations

import collections
import logging
import time

from scapp.channels.types import ChannelId
from scapp.runtime.follow import ChannelFollower, Committed

KERNELS_MAX = 1_024
KERNEL_BYTES_MAX = 512 * 2**20
PROGRESS_S = 5.0  # between two lines about one channel that catches up
_log = logging.getLogger(__name__)


class KernelBound:
    """Frees the kernels that were not used for longest, beyond a number of them and beyond a sum of their memory."""

    def __init__(self, kernels_max: int, bytes_max: int) -> None:
        self._kernels_max, self._bytes_max = kernels_max, bytes_max
        self._loaded: collections.OrderedDict[ChannelId, tuple[ChannelFollower, int]] = collections.OrderedDict()
        self.bytes = 0

    def used(self, follower: ChannelFollower) -> None:
        """The follower has just done what there was to do; it may have a kernel now."""
        channel_id = follower.context.channel_id
        _, known = self._loaded.pop(channel_id, (None, 0))
        self.bytes -= known
        size = follower.kernel_bytes
        if size is not None:
            self._loaded[channel_id] = follower, size
            self.bytes += size
        while len(self._loaded) > self._kernels_max or (self.bytes > self._bytes_max and len(self._loaded) > 1):
            _, (oldest, freed) = self._loaded.popitem(last=False)
            oldest.release()
            self.bytes -= freed


class Progress:
    """How far one channel came since it was made, for status and log; made anew for each pass."""

    def __init__(self) -> None:
        self._began = self._told = time.monotonic()
        self._first: int | None = None

    def text(self, channel_id: ChannelId, committed: Committed) -> str:
        """For the status; empty for the first commit of a pass, which is the only one unless much is waiting."""
        if self._first is None:
            self._first = committed.first_sequence
            return ""
        now = time.monotonic()
        rate = (committed.end_sequence - self._first) / max(now - self._began, 1e-6)
        text = f"catching up: sequence {committed.end_sequence}, {rate:,.0f} entries/s"
        if now - self._told >= PROGRESS_S:
            self._told = now
            _log.info("channel 0x%s: %s", channel_id.hex(), text)
        return text
