"""The transport port: authenticated, ordered, acknowledged messages between nodes.

Adapters: `tcp.py` (TLS 1.3 + MessagePack frames), `fake.py` (in process, for simulation); one contract suite:
`tests/contracts/transport_contract.py`. A peer is the Ethereum address of its channel key, proved in the
handshake. A message is opaque bytes here (`channel/messages.py` says what is in it).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from scapp.channels.errors import LocalError
from scapp.channels.types import Address

Handler = Callable[[Address, bytes], Awaitable[None]]
"""Called once per message, in the peer's sending order, one at a time per peer. Its return means "taken" (processed
and durable, or kept where a crash does not matter): only then is the message acknowledged. An exception is logged,
counted, and acknowledges as well (a message that cannot be processed must not block those behind it)."""

LinkListener = Callable[[Address, bool], None]
"""Called with (peer, connected) whenever an authenticated link comes up or goes down."""


class PeerStatus(msgspec.Struct, frozen=True, gc=False):
    """What `status` shows of one peer."""

    address: Address
    endpoint: str | None
    connected: bool
    queued: int  # messages not yet acknowledged
    sent: int
    received: int
    refused: int  # frames or handshakes refused
    last_error: str | None


class PeerUnknown(LocalError):
    """No endpoint is known for this peer and it has not connected to us."""


class QueueFull(LocalError):
    """The peer's queue has reached its limit (back-pressure); nothing was queued."""


class Transport(Protocol):
    """One per node. Messages queued for a peer survive reconnects, not restarts (the log's outbox does)."""

    async def start(self, handler: Handler, on_link: LinkListener) -> None: ...

    async def stop(self) -> None: ...

    def add_peer(self, address: Address, endpoint: str) -> None:
        """Remember "host:port" for a peer and keep trying to connect, with jittered back-off."""
        ...

    def remove_peer(self, address: Address) -> None:
        """Dial a peer no longer and end its link; nothing happens for one that is unknown. What is queued for it stays,
        for it may connect by itself."""
        ...

    def send(self, peer: Address, message: bytes, on_acked: Callable[[], None] | None = None) -> None:
        """Queue a message; `on_acked` is called once the peer has processed it. Raises QueueFull."""
        ...

    def peers(self) -> list[PeerStatus]: ...
