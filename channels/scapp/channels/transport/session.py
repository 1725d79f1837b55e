"""Messages that survive a lost connection: numbering, acknowledgement, resending, windows. Pure; `tcp.py` drives it.

One `PeerSession` per peer, for as long as the node runs. Sequence numbers belong to a *session*: the life of one
transport, named by 16 random bytes. On each new link both ends say in `Open` where they stand, and the sender
goes on behind what the receiver already holds; so within a session nothing is lost and nothing comes twice. A
restarted peer has a new session: what it had sent and was not processed is forgotten, because its outbox sends
it again.

Flow control is by window: a sender has at most the receiver's `window_messages` and `window_bytes`
unacknowledged on the way (and always at least one message). Reading itself never stops for a slow handler, so
acknowledgements and keep-alives still pass; a peer that ignores the window is cut off.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from scapp.channels.errors import LocalError, PeerError
from scapp.channels.transport.frames import DATA_OVERHEAD_BYTES, Ack, Open, data_head, encode_frame
from scapp.channels.transport.limits import TransportLimits
from scapp.channels.transport.port import QueueFull

ACK_MESSAGES = 16
"""Processed messages after which the acknowledgement waits no longer for something else to be sent."""
OnAcked = Callable[[], None] | None


class SessionError(PeerError):
    """A frame that contradicts what was sent or received before."""


class MessageTooLarge(LocalError):
    """The message would need a frame longer than the limit; nothing was queued."""


class PeerSession:
    """Both directions between this node and one peer."""

    def __init__(self, session: bytes, limits: TransportLimits) -> None:
        self._session = session
        self._limits = limits
        # Sending: messages acked + 1 … are in `_flying`, then in `_waiting`.
        self._acked = 0
        self._flying: deque[tuple[bytes, OnAcked]] = deque()
        self._flying_bytes = 0
        self._waiting: deque[tuple[bytes, OnAcked]] = deque()
        self._queued_bytes = 0
        self._window_messages = 0
        self._window_bytes = 0
        # Receiving, in the peer's session.
        self._peer_session = b""
        self._received = 0
        self._processed = 0
        self._inbox: deque[bytes] = deque()
        self._unprocessed_bytes = 0
        # This link.
        self._opened = False
        self._last_seq = 0
        self._ack_due = False
        self._unacked_messages = self._unacked_bytes = 0  # processed since the last acknowledgement
        self._urgent_messages = min(ACK_MESSAGES, limits.window_messages // 4)
        self._urgent_bytes = limits.window_bytes // 4
        # For status.
        self.messages_sent = 0
        self.messages_received = 0
        self.duplicates = 0
        self.links_opened = 0

    # --- sending -----------------------------------------------------------------------------------------------

    @property
    def queued(self) -> int:
        """Messages not yet acknowledged."""
        return len(self._flying) + len(self._waiting)

    def queue(self, message: bytes, on_acked: OnAcked = None) -> None:
        """Take a message for sending; raises QueueFull or MessageTooLarge and then has taken nothing."""
        limits, size = self._limits, len(message)
        if len(self._flying) + len(self._waiting) >= limits.queue_messages_max:
            raise QueueFull(f"{self.queued} messages wait for this peer: at most {limits.queue_messages_max} may")
        if size + DATA_OVERHEAD_BYTES > limits.frame_bytes_max:
            allowed = limits.frame_bytes_max - DATA_OVERHEAD_BYTES
            raise MessageTooLarge(f"message of {size} bytes: at most {allowed} fit a frame")
        if self._queued_bytes + size > limits.queue_bytes_max:
            raise QueueFull(
                f"{self._queued_bytes} bytes wait for this peer, {size} more would exceed {limits.queue_bytes_max}"
            )
        self._queued_bytes += size
        self._waiting.append((message, on_acked))

    def take(self, bytes_max: int) -> bytes:
        """Bytes to write now: the acknowledgement that is due, then messages within the window; b"" for nothing."""
        if not self._opened:
            return b""
        parts: list[bytes] = []
        if self._ack_due:
            self._ack_due = False
            self._unacked_messages = self._unacked_bytes = 0
            parts.append(encode_frame(Ack(self._processed)))
        waiting, flying = self._waiting, self._flying
        flying_bytes, total = self._flying_bytes, 0
        seq = self._acked + len(flying)
        last = self._acked + self._window_messages
        while waiting and total < bytes_max and seq < last:
            item = waiting[0]
            message = item[0]
            size = len(message)
            if flying and flying_bytes + size > self._window_bytes:
                break
            seq += 1
            flying.append(waiting.popleft())
            flying_bytes += size
            total += size
            parts.append(data_head(seq, size))
            parts.append(message)
        self._flying_bytes = flying_bytes
        return b"".join(parts)

    @property
    def can_take(self) -> bool:
        """Whether `take` would give something."""
        return (self._ack_due and self._opened) or self.may_fly

    @property
    def may_fly(self) -> bool:
        """Whether `take` would give a message."""
        if not (self._opened and self._waiting) or len(self._flying) >= self._window_messages:
            return False
        return not self._flying or self._flying_bytes + len(self._waiting[0][0]) <= self._window_bytes

    def on_ack(self, seq: int) -> list[Callable[[], None]]:
        """The callbacks of the messages acknowledged now, in order; raises SessionError for an impossible number."""
        flying, count = self._flying, seq - self._acked
        if not self._opened:
            raise SessionError("Ack frame before Open")
        if not 0 <= count <= len(flying):
            sent = self._acked + len(flying)
            raise SessionError(f"acknowledged {seq}: {self._acked} to {sent} are possible")
        callbacks = []
        freed = 0
        for _ in range(count):
            message, on_acked = flying.popleft()
            freed += len(message)
            if on_acked is not None:
                callbacks.append(on_acked)
        self._flying_bytes -= freed
        self._queued_bytes -= freed
        self._acked = seq
        self.messages_sent += count
        return callbacks

    # --- links -------------------------------------------------------------------------------------------------

    def link_up(self) -> Open:
        """Begin on a new link; whatever the old one still carries must no longer be handed in. Send this first."""
        self.link_down()
        limits = self._limits
        return Open(
            session=self._session,
            first_seq=self._acked + 1,
            known_session=self._peer_session,
            received=self._received,
            frame_bytes_max=limits.frame_bytes_max,
            window_messages=limits.window_messages,
            window_bytes=limits.window_bytes,
        )

    def link_down(self) -> None:
        """The link is gone; messages are kept."""
        self._opened = False
        self._last_seq = 0

    def on_open(self, frame: Open) -> bool:
        """Resume where both ends stand; True when the peer's session is new to us. Raises SessionError."""
        if self._opened:
            raise SessionError("second Open frame on one link")
        if frame.frame_bytes_max < self._limits.frame_bytes_max:
            raise SessionError(
                f"the peer accepts frames of {frame.frame_bytes_max} bytes, "
                f"this node may send {self._limits.frame_bytes_max}: configure both alike"
            )
        held = self._held_by_peer(frame)
        is_new = self._meet_session(frame)
        self._rewind(held)
        self._window_messages, self._window_bytes = frame.window_messages, frame.window_bytes
        self._opened = True
        self.links_opened += 1
        # The acknowledgement sent last may have been lost with the old link.
        self._ack_due = self._processed > 0
        return is_new

    def _held_by_peer(self, frame: Open) -> int:
        """How many messages in flight the peer already has and will acknowledge in time."""
        if frame.known_session != self._session:
            return 0
        held = frame.received - self._acked
        if not 0 <= held <= len(self._flying):
            sent = self._acked + len(self._flying)
            raise SessionError(f"the peer says it received {frame.received}: {self._acked} to {sent} are possible")
        return held

    def _meet_session(self, frame: Open) -> bool:
        if frame.session == self._peer_session:
            if frame.first_seq > self._received + 1:
                raise SessionError(f"the peer goes on at {frame.first_seq}, we have received {self._received}")
            return False
        if frame.first_seq < 1:
            raise SessionError("the peer begins at 0: sequence numbers begin at 1")
        self._peer_session = frame.session
        self._received = self._processed = frame.first_seq - 1
        self._inbox.clear()
        self._unprocessed_bytes = 0
        return True

    def _rewind(self, held: int) -> None:
        """What was in flight and did not arrive waits again, in front."""
        while len(self._flying) > held:
            item = self._flying.pop()
            self._flying_bytes -= len(item[0])
            self._waiting.appendleft(item)

    # --- receiving ---------------------------------------------------------------------------------------------

    def on_data(self, seq: int, payload: bytes) -> None:
        """Put a message into the inbox; drops what a resend repeats; raises SessionError."""
        if not self._opened:
            raise SessionError("Data frame before Open")
        if seq <= self._last_seq:
            raise SessionError(f"message {seq} after {self._last_seq} on one link")
        if seq != self._received + 1:
            if seq > self._received:
                raise SessionError(f"message {seq} after {self._received}: some are missing")
            self._last_seq = seq
            self.duplicates += 1
            return
        self._last_seq = self._received = seq
        self._inbox.append(payload)
        self.messages_received += 1
        self._unprocessed_bytes += len(payload)
        limits = self._limits
        if (
            seq - self._processed > limits.window_messages
            or self._unprocessed_bytes > limits.window_bytes + limits.frame_bytes_max
        ):
            raise SessionError(
                f"{seq - self._processed} messages of {self._unprocessed_bytes} bytes unprocessed: "
                f"the window is {limits.window_messages} messages and {limits.window_bytes} bytes"
            )

    @property
    def has_messages(self) -> bool:
        return bool(self._inbox)

    def next_message(self) -> tuple[bytes, bytes]:
        """The oldest unprocessed message and the session it came in, for `processed`."""
        return self._peer_session, self._inbox.popleft()

    def processed(self, session: bytes, size: int) -> bool:
        """A message of `size` bytes is done; a message of a session that has ended since is not acknowledged. Tells
        whether so much has been since the last acknowledgement that the peer may soon wait for one."""
        if session == self._peer_session:
            self._processed += 1
            self._unprocessed_bytes -= size
            self._ack_due = True
            self._unacked_messages += 1
            self._unacked_bytes += size
        return self._unacked_messages >= self._urgent_messages or self._unacked_bytes >= self._urgent_bytes
