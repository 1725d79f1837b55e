"""One TLS connection: bytes to frames and back, the handshake, keep-alive, and an end with a reason.

A `Link` knows nothing of messages; after authentication it hands its frames to the owner (`tcp.py`), which
belongs to one node. Every frame of one read is handled before anything is written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from scapp.channels.errors import PeerError
from scapp.channels.transport.frames import (
    Close,
    Frame,
    FrameDecoder,
    Ping,
    Pong,
    close_frame,
    encode_frame,
)
from scapp.channels.transport.handshake import Handshake, Role, Step, show
from scapp.channels.transport.limits import TransportLimits
from scapp.channels.types import Address

PINGS_PER_CHECK_MAX = 64
"""Pings answered between two keep-alive checks; more is a flood."""


class LinkOwner(Protocol):
    """What a link reports; none of these raises anything but PeerError."""

    def link_authenticated(self, link: Link) -> None: ...

    def link_frames(self, link: Link, frames: list[Frame]) -> None: ...

    def link_writable(self, link: Link) -> None: ...

    def link_lost(self, link: Link) -> None: ...


class LinkClosed(PeerError):
    """The connection ended; the text says why."""


class Link(asyncio.BufferedProtocol):
    """`make_handshake` is called once TLS is up, with the transport."""

    def __init__(
        self,
        owner: LinkOwner,
        role: Role,
        endpoint: str,
        limits: TransportLimits,
        clock: Callable[[], float],
        make_handshake: Callable[[asyncio.Transport], Handshake],
    ) -> None:
        self.role = role
        self.endpoint = endpoint
        self.address: Address | None = None  # proved
        self.end_reason: str | None = None  # set when the link is over
        self.end_is_fault = False  # the peer broke the protocol, or never proved itself
        self.write_paused = False
        loop = asyncio.get_running_loop()
        self.authenticated: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._owner = owner
        self._limits = limits
        self._clock = clock
        self._make_handshake = make_handshake
        self._handshake: Handshake | None = None
        self._transport: asyncio.Transport | None = None
        self._decoder = FrameDecoder()
        self._heard_at = clock()
        self._pings = 0
        self._check: asyncio.TimerHandle | None = None
        self._probe: asyncio.TimerHandle | None = None

    @property
    def claimed(self) -> Address | None:
        """The proved address, else the claimed one, else None; for logs."""
        if self.address is not None or self._handshake is None:
            return self.address
        return self._handshake.claimed

    @property
    def is_over(self) -> bool:
        return self.end_reason is not None

    # --- asyncio's side ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if self.is_over:  # ended while TLS was still being set up
            transport.abort()
            return
        self._handshake = self._make_handshake(transport)
        self._write_frames(self._handshake.start())

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._decoder.get_buffer()

    def buffer_updated(self, nbytes: int) -> None:
        if self.is_over:
            return
        self._heard_at = self._clock()
        frames = self._decoder.buffer_updated(nbytes)
        try:
            if self.address is None:
                frames = self._shake(frames)
            if frames and not self.is_over:
                self._on_frames(frames)
            if self._decoder.error is not None and not self.is_over:
                raise self._decoder.error
        except PeerError as error:
            self.fail(str(error))

    def eof_received(self) -> None:
        self._end("the other end closed the connection", is_fault=self.address is None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(f"connection lost: {exc or 'closed'}", is_fault=self.address is None)
        if not self.lost.done():
            self.lost.set_result(None)

    def pause_writing(self) -> None:
        # A peer that does not read what we answer is not read either, or its frames would pile up as answers.
        self.write_paused = True
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self.write_paused = False
        if self._transport is not None and not self.is_over:
            self._transport.resume_reading()
            self._owner.link_writable(self)

    # --- frames ------------------------------------------------------------------------------------------------

    def _shake(self, frames: list[Frame]) -> list[Frame]:
        """Handle handshake frames; returns those behind the last one."""
        handshake = self._handshake
        assert handshake is not None
        for position, frame in enumerate(frames):
            self._write_frames(handshake.receive(frame))
            if handshake.step is Step.DONE:
                self._become_authenticated(handshake.peer)
                return frames[position + 1 :]
        return []

    def _become_authenticated(self, address: Address) -> None:
        self.address = address
        self._decoder.limit = self._limits.frame_bytes_max
        self._schedule_check()
        self._owner.link_authenticated(self)
        if not self.authenticated.done():
            self.authenticated.set_result(None)

    def _on_frames(self, frames: list[Frame]) -> None:
        """Answer link-level frames, hand on the others; one answer per read however many pings it held."""
        others: list[Frame] = []
        ping: Ping | None = None
        for frame in frames:
            kind = type(frame)
            if kind is Ping:
                assert isinstance(frame, Ping)
                ping = frame
                self._pings += 1
            elif kind is Close:
                assert isinstance(frame, Close)
                if others:
                    self._owner.link_frames(self, others)
                self._end(f"closed by the peer: {frame.reason!r}", is_fault=False)
                self._close_transport()
                return
            elif kind is not Pong:
                others.append(frame)
        if self._pings > PINGS_PER_CHECK_MAX:
            raise PeerError(f"{self._pings} pings within {self._limits.ping_after_s} s: {PINGS_PER_CHECK_MAX} allowed")
        if ping is not None:
            self.write(encode_frame(Pong(ping.value)))
        if others:
            self._owner.link_frames(self, others)

    def _write_frames(self, frames: list[Frame]) -> None:
        if frames:
            self.write(b"".join(map(encode_frame, frames)))

    def write(self, data: bytes) -> None:
        """Send bytes of whole frames; nothing once the link is over."""
        if self._transport is not None and not self.is_over:
            self._transport.write(data)

    # --- keep-alive --------------------------------------------------------------------------------------------

    def _schedule_check(self) -> None:
        self._check = self._loop.call_later(self._limits.ping_after_s / 2, self._check_silence)

    def _check_silence(self) -> None:
        silence = self._clock() - self._heard_at
        self._pings = 0
        if silence >= self._limits.dead_after_s:
            self.fail(f"silent for {silence:.1f} s", is_fault=False)
            return
        if silence >= self._limits.ping_after_s:
            self.write(encode_frame(Ping(0)))
        self._schedule_check()

    def probe(self) -> None:
        """Ask for a sign of life, and give the link up unless one comes within `probe_s`."""
        if self._probe is None:
            self.write(encode_frame(Ping(1)))
            self._probe = self._loop.call_later(self._limits.probe_s, self._check_probe, self._clock())

    def _check_probe(self, asked_at: float) -> None:
        self._probe = None
        if self._heard_at < asked_at:
            self.fail("no answer to a probe", is_fault=False)

    # --- ends --------------------------------------------------------------------------------------------------

    def fail(self, reason: str, *, is_fault: bool = True) -> None:
        """Tell the peer why, as far as it still listens, and close."""
        if self.is_over:
            return
        self.write(close_frame(reason))
        self._end(reason, is_fault=is_fault)
        self._close_transport()

    def _close_transport(self) -> None:
        """Close politely, and cut the connection if the other end does not follow in time.

        asyncio's own shutdown timeout does not fire while it waits for room to write, so there is one here.
        """
        transport = self._transport
        if transport is not None:
            transport.close()
            cut = self._loop.call_later(self._limits.close_s, transport.abort)
            self.lost.add_done_callback(lambda _: cut.cancel())

    def abort(self, reason: str) -> None:
        """Cut the connection at once."""
        self._end(reason, is_fault=self.address is None)
        if self._transport is not None:
            self._transport.abort()

    def _end(self, reason: str, *, is_fault: bool) -> None:
        if self.is_over:
            return
        self.end_reason, self.end_is_fault = reason, is_fault
        for timer in (self._check, self._probe):
            if timer is not None:
                timer.cancel()
        if not self.authenticated.done():
            self.authenticated.set_exception(LinkClosed(reason))
            self.authenticated.exception()  # retrieved here: not every link has somebody waiting
        if self.address is not None:
            self._owner.link_lost(self)


def describe(link: Link) -> str:
    """Who a link is with, as far as known: for logs."""
    claimed = link.claimed
    return link.endpoint if claimed is None else f"{show(claimed)} at {link.endpoint}"
