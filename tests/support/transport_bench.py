"""Nodes with a recording handler, over any transport, and keys of the cast; for transport tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from scapp.channels.signing import Signer
from scapp.channels.transport.limits import TransportLimits
from scapp.channels.transport.port import PeerStatus
from scapp.channels.types import Address

ALICE, BOB, CAROL, MALLORY = (Signer(bytes([number]) * 32) for number in (0xA1, 0xB0, 0xCA, 0x66))

LIMITS = TransportLimits(
    frame_bytes_max=2_500_000,
    queue_messages_max=50,
    queue_bytes_max=3_000_000,
    window_messages=8,
    window_bytes=2_000_000,
    backoff_first_s=0.005,
    backoff_max_s=0.05,
    stop_s=5.0,
    close_s=0.5,
)
"""Small enough to be reached, quick enough to be waited for."""


class Node:
    """A started transport and what it reported. `gate` holds the handler back while it is not set."""

    def __init__(self, transport: Any) -> None:
        self.transport = transport
        self.address: Address = transport.address
        self.messages: list[tuple[Address, bytes]] = []
        self.finished = 0
        self.links: list[tuple[Address, bool]] = []
        self.acked: list[int] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.fails_on: set[bytes] = set()
        self._changed = asyncio.Event()

    async def start(self) -> Node:
        await self.transport.start(self._handle, self._on_link)
        return self

    async def _handle(self, peer: Address, message: bytes) -> None:
        self.messages.append((peer, message))
        self._changed.set()
        await self.gate.wait()
        self.finished += 1
        self._changed.set()
        if message in self.fails_on:
            raise RuntimeError(f"no use for {message!r}")

    def _on_link(self, peer: Address, connected: bool) -> None:
        self.links.append((peer, connected))
        self._changed.set()

    def send(self, to: Node, *messages: bytes) -> None:
        """Queue messages; `acked` gets a running number for each one acknowledged."""
        for message in messages:
            self.transport.send(to.address, message, self._acked(len(self.acked)))

    def _acked(self, _: int) -> Callable[[], None]:
        def on_acked() -> None:
            self.acked.append(len(self.acked))
            self._changed.set()

        return on_acked

    def bodies(self, peer: Node | None = None) -> list[bytes]:
        return [body for sender, body in self.messages if peer is None or sender == peer.address]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition over what was reported to this node."""
        async with asyncio.timeout(20):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    def status(self, peer: Node) -> PeerStatus:
        return next(status for status in self.transport.peers() if status.address == peer.address)
