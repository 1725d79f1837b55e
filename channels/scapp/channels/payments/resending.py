"""When to say a voucher again that its payee has not been seen to hold. Pure; nothing of it survives a restart."""

from __future__ import annotations

from scapp.channels.types import ChannelId

FIRST_MS = 2_000
MAX_MS = 30_000


class Resending:
    """Channels with something to say, each with a pause that doubles until the other answers."""

    def __init__(self) -> None:
        self._pauses: dict[ChannelId, tuple[int, int]] = {}  # due at, pause

    def __contains__(self, channel: ChannelId) -> bool:
        return channel in self._pauses

    def said(self, channel: ChannelId, now_ms: int) -> None:
        """Something new has just been said, or is there to be said at the next link: begin with a short pause."""
        self._pauses[channel] = now_ms + FIRST_MS, FIRST_MS

    def done(self, channel: ChannelId) -> None:
        self._pauses.pop(channel, None)

    def due(self, now_ms: int) -> list[ChannelId]:
        """Channels whose pause is over; the next one is twice as long. One that is longer than any was begun before the
        clock was set back."""
        found = [channel for channel, (at_ms, _) in self._pauses.items() if at_ms <= now_ms or at_ms > now_ms + MAX_MS]
        for channel in found:
            pause = min(2 * self._pauses[channel][1], MAX_MS)
            self._pauses[channel] = now_ms + pause, pause
        return found
