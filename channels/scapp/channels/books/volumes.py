"""How much each peer may have written into the books: a bucket for each, of kibibytes that come back with time. Pure.

Everything that a peer says counts, but only what begins something new waits for the bucket: what is under way ends.
Payments are not counted here. Whoever makes them pays, and however many come, a channel stores them once per sync.
Those under locks are: each is stored on its own, and costs nothing while its lock comes back.
"""

from __future__ import annotations

import msgspec

from scapp.channels.ledger.messages import Ask, LedgerMessage, OpenLedger, Updates
from scapp.channels.ledger.wire import WireExpand, WireRetract, WireTransfer
from scapp.channels.routing.allowance import Allowance
from scapp.channels.types import Address
from scapp.channels.virtual.messages import Proposed, VirtualMessage

PEERS_KEPT = 4_096


class Volume(msgspec.Struct, frozen=True, gc=False):
    """What a peer may say at once, and what it may say for each second from then on, in KiB; 0 per second: no limit.
    A message counts as a whole number of KiB: what is stored of a small one is larger than itself."""

    burst_kib: int = 65_536
    kib_per_s: int = 8


class Volumes:
    """Mutable; of all peers of a node."""

    def __init__(self, volume: Volume) -> None:
        self._volume = volume
        self._known: dict[Address, Allowance] = {}

    def count(self, peer: Address, size: int, now_ms: int) -> str:
        """A message of so many bytes came. Why nothing new is begun for this peer now, or an empty string."""
        volume = self._volume
        if not volume.kib_per_s:
            return ""
        allowance = self._known.pop(peer, None)
        if allowance is None:
            allowance = Allowance(volume.burst_kib, 1_000)
        self._known[peer] = allowance  # the one that spoke last is forgotten last
        if len(self._known) > PEERS_KEPT:
            del self._known[next(iter(self._known))]
        if allowance.take(now_ms * volume.kib_per_s, -(-size // 1_024)):  # 1,000 of such moments for a KiB
            return ""
        return (
            f"0x{peer.hex()} has said more than this node stores of it at once: {volume.burst_kib} KiB, then "
            f"{volume.kib_per_s} KiB each second (hub.peer_burst_kib, hub.peer_kib_per_s); try again later"
        )


def begins_something(message: LedgerMessage | VirtualMessage) -> bool:
    """Is it a step that the peer could also leave for later? What belongs to a channel that is here is none."""
    if isinstance(message, Updates):
        return any(isinstance(each.proposal, WireTransfer | WireExpand | WireRetract) for each in message.updates)
    return isinstance(message, OpenLedger | Ask | Proposed)
