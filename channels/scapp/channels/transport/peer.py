"""One peer of a running node: its session, its link, the task that hands its messages to the handler.

`tcp.py` holds the peers and decides which link each uses.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable

from scapp.channels.transport.frames import Ack, Data, Frame, Open, encode_frame
from scapp.channels.transport.handshake import show
from scapp.channels.transport.limits import TransportLimits
from scapp.channels.transport.link import Link
from scapp.channels.transport.port import Handler, LinkListener, PeerStatus
from scapp.channels.transport.session import PeerSession, SessionError
from scapp.channels.types import Address

_log = logging.getLogger("scapp.transport")
WRITE_BYTES = 262_144
"""A peer's messages are handed to the TLS layer in writes of about this size."""
_HANDLED_IN_A_ROW_MAX = 64
ACK_DELAY_S = 0.002
"""An acknowledgement waits so long for a message to travel with: most messages are answered, and a write and a wake-up
for the acknowledgement alone would stand between a message and its answer."""


class Peer:
    """Frames in, messages out, for one address."""

    def __init__(
        self,
        address: Address,
        session: bytes,
        limits: TransportLimits,
        handler: Handler,
        on_link: LinkListener,
        counters: Counter[str],
    ) -> None:
        self.address = address
        self.endpoint: str | None = None
        self.link: Link | None = None
        self.refused = 0
        self.last_error: str | None = None
        self.unlinked = asyncio.Event()  # no link: dialling makes sense
        self.unlinked.set()
        self.session = PeerSession(session, limits)
        self.dialer: asyncio.Task[None] | None = None
        self._handler = handler
        self._on_link = on_link
        self._counters = counters
        self._announced = False
        self._stopping = False
        self._flush_due = False
        self._ack_timer: asyncio.TimerHandle | None = None
        self._worker: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()

    def status(self) -> PeerStatus:
        session = self.session
        return PeerStatus(
            self.address,
            self.endpoint,
            self._announced,
            session.queued,
            session.messages_sent,
            session.messages_received,
            self.refused,
            self.last_error,
        )

    @property
    def is_forgettable(self) -> bool:
        """Nobody asked for this peer, it is away, and nothing waits for it."""
        busy = self.session.queued or self.session.has_messages or self._worker is not None
        return self.endpoint is None and self.link is None and not busy

    # --- links -------------------------------------------------------------------------------------------------

    def attach(self, link: Link) -> None:
        """Go on over this link; the one before is over or has just been ended."""
        self.link = link
        self.unlinked.clear()
        link.write(encode_frame(self.session.link_up()))

    def detach(self) -> None:
        """The link in use is over."""
        assert self.link is not None
        self.last_error = self.link.end_reason
        if self.link.end_is_fault:
            self.refused += 1
        self.link = None
        self.session.link_down()
        self.unlinked.set()
        self._announce(False)

    def dial(self, endpoint: str | None, dialer: asyncio.Task[None] | None) -> None:
        """From now on it is dialled there by this task, and by no other one; or not at all."""
        self.endpoint = endpoint
        if self.dialer is not None:
            self.dialer.cancel()
        self.dialer = dialer

    def end_link(self, reason: str) -> None:
        """End the link in use, if there is one; it counts as gone at once."""
        link = self.link
        if link is not None:
            link.fail(reason, is_fault=False)
            if self.link is link:
                self.detach()

    def _announce(self, connected: bool) -> None:
        if self._announced == connected:
            return
        self._announced = connected
        try:
            self._on_link(self.address, connected)
        except Exception:
            self._counters["listener_failures"] += 1
            _log.exception("link listener failed for %s", show(self.address), extra={"peer": show(self.address)})

    # --- sending -----------------------------------------------------------------------------------------------

    def send(self, message: bytes, on_acked: Callable[[], None] | None) -> None:
        """Alone it goes out at once; while others are on their way it is gathered with what follows."""
        self.session.queue(message, on_acked)
        if self._flush_due:
            return
        if self.session.queued == 1:
            self._flush()
        else:
            self.flush_soon()

    def flush_soon(self) -> None:
        """Write once when the loop has handled what is ready now: one write for many messages and all acks."""
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        link = self.link
        if link is None or link.write_paused:
            return
        data = self.session.take(WRITE_BYTES)
        if data:
            link.write(data)
            if self.session.can_take:
                self.flush_soon()

    def _ack_soon(self, urgent: bool) -> None:
        """Now, or with the next message, or after a while."""
        if urgent:
            self.flush_soon()
        else:
            self._ack_timer = self._loop.call_later(ACK_DELAY_S, self._ack_now)

    def _ack_now(self) -> None:
        self._ack_timer = None
        if self.session.can_take:
            self.flush_soon()

    # --- receiving ---------------------------------------------------------------------------------------------

    def on_frames(self, frames: list[Frame]) -> None:
        """Handle one read's frames; raises SessionError at the first that contradicts the session."""
        session = self.session
        on_data = session.on_data
        try:
            for frame in frames:
                if type(frame) is Data:
                    on_data(frame.seq, frame.payload)
                elif type(frame) is Ack:
                    self._acknowledged(session.on_ack(frame.seq))
                elif type(frame) is Open:
                    self._open(frame)
                else:
                    raise SessionError(f"{type(frame).__name__} frame on an authenticated link")
        finally:
            # Messages before a bad frame are good ones.
            if session.has_messages and self._worker is None and not self._stopping:
                self._worker = self._loop.create_task(self._work())
        if session.may_fly:
            self.flush_soon()

    def _open(self, frame: Open) -> None:
        if self.session.on_open(frame):
            self._announce(False)  # another life of the peer: whoever listens must begin anew
        self.last_error = None
        self.flush_soon()  # what the peer has sent may be acknowledged already, on a link that was lost
        self._announce(True)

    def _acknowledged(self, callbacks: list[Callable[[], None]]) -> None:
        for on_acked in callbacks:
            try:
                on_acked()
            except Exception:
                self._counters["listener_failures"] += 1
                _log.exception("on_acked failed for %s", show(self.address), extra={"peer": show(self.address)})

    async def _work(self) -> None:
        """Hand over messages one at a time until none is left."""
        session, handler, address = self.session, self._handler, self.address
        in_a_row = 0
        try:
            while session.has_messages and not self._stopping:
                origin, message = session.next_message()
                try:
                    await handler(address, message)
                except Exception:
                    self._counters["handler_failures"] += 1
                    _log.exception(
                        "message of %d bytes from %s failed; acknowledged and skipped",
                        len(message),
                        show(address),
                        extra={"peer": show(address), "reason": "handler"},
                    )
                urgent = session.processed(origin, len(message))
                if not self._flush_due and (urgent or self._ack_timer is None):
                    self._ack_soon(urgent)
                in_a_row += 1
                if in_a_row % _HANDLED_IN_A_ROW_MAX == 0:
                    await asyncio.sleep(0)  # a handler that never waits must not starve the loop
        finally:
            self._worker = None

    def hold(self) -> None:
        """Hand over no further message; the running handler goes on."""
        self._stopping = True

    async def stop(self, within_s: float) -> None:
        """Let the running handler finish, acknowledge what is done, close the link."""
        self.hold()
        if self._worker is not None:
            worker = self._worker
            await asyncio.wait([worker], timeout=within_s)
            if not worker.done():
                worker.cancel()
                await asyncio.wait([worker])
        link = self.link
        if link is not None:
            link.write(self.session.take(0))
            link.fail("the node stops", is_fault=False)
            await link.lost
