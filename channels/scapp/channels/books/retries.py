"""When to say again what a peer may lack: volatile, and per record. Whatever changes a record begins anew."""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapify, heappop, heappush

from scapp.channels.types import ChannelId

FIRST_MS = 2_000
LONGEST_MS = 30_000


class Retries:
    """Records that wait for a peer, in the order in which their time comes. Costs nothing for those whose time has not
    come."""

    def __init__(self) -> None:
        self._waits: dict[ChannelId, tuple[int, int]] = {}  # when it is due, and how long the wait was
        self._heap: list[tuple[int, ChannelId]] = []
        self._asked_ms = 0

    def begin(self, channel: ChannelId, now_ms: int) -> None:
        """It was said just now, or needs not be: the first pause begins."""
        self._set(channel, now_ms, FIRST_MS)

    def end(self, channel: ChannelId) -> None:
        """Nothing is to be said any more."""
        self._waits.pop(channel, None)

    def due(self, now_ms: int) -> Iterable[ChannelId]:
        """Those whose time has come; their next pause is twice as long."""
        if now_ms < self._asked_ms:  # the clock was set back, and nobody shall wait for as long as that
            self._waits = {channel: (min(at, now_ms + wait), wait) for channel, (at, wait) in self._waits.items()}
            self._heap = [(at, channel) for channel, (at, _) in self._waits.items()]
            heapify(self._heap)
        self._asked_ms = now_ms
        while self._heap and self._heap[0][0] <= now_ms:
            at, channel = heappop(self._heap)
            known = self._waits.get(channel)
            if known is None or known[0] != at:
                continue  # ended, or begun anew
            self._set(channel, now_ms, min(2 * known[1], LONGEST_MS))
            yield channel

    def _set(self, channel: ChannelId, now_ms: int, wait_ms: int) -> None:
        at = now_ms + wait_ms
        self._waits[channel] = at, wait_ms
        heappush(self._heap, (at, channel))
