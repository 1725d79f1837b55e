"""Which sends of the outbox are on their way: rows out, acknowledgements back. Used by the node and the simulation.

A row stays in the log until the peer has acknowledged the messages it stood for; removals are not urgent and ride
on a later write (a send that is repeated changes nothing at the receiver).
"""

from __future__ import annotations

from scapp.channels.channel.effects import StoredSend, outbox_row


class Deliveries:
    """Rows of one node that can be removed, and how many messages of each are still unacknowledged."""

    def __init__(self) -> None:
        self._open: dict[bytes, int] = {}
        self._done: list[bytes] = []

    def begin(self, channel: bytes, send: StoredSend, messages: int) -> bytes:
        """The row's key; call `acknowledged` with it once per message. With no messages the row is done at once."""
        key, _ = outbox_row(channel, send)
        if messages == 0:
            self._open.pop(key, None)
            self._done.append(key)
        else:
            self._open[key] = self._open.get(key, 0) + messages
        return key

    def is_open(self, channel: bytes) -> bool:
        """Does a peer still have to acknowledge something of the channel?"""
        return any(key.startswith(channel) for key in self._open)

    def acknowledged(self, key: bytes) -> None:
        """The peer has processed one message of the row."""
        left = self._open.get(key, 0) - 1
        if left > 0:
            self._open[key] = left
        elif self._open.pop(key, None) is not None:
            self._done.append(key)

    def take_done(self) -> dict[bytes, None]:
        """Rows to remove with the next write; they are forgotten here."""
        done = {key: None for key in self._done if key not in self._open}
        self._done.clear()
        return done
