"""What one ledger holds besides its record: all of it may be lost, and comes back by what is said again."""

from __future__ import annotations

import msgspec

from scapp.channels.ledger.consensus import Queued
from scapp.channels.types import Address


class LedgerSession(msgspec.Struct):
    """Mutable and volatile; an engine keeps one per ledger, and begins with an empty one.

    `queue`: at the follower, the leader's signed changes that wait for this node's signature. `refused`: the last
    reason why the head of it could not be signed, for people. `held`: assets in which this node deposits nothing now,
    while its operator asks whether a deposit can still be taken back. `peer_recovers`: the other party has said that it
    was restored as well, while this node recovers: neither can tell the other anything. `denied`: what it has
    said instead of where the ledger stands, namely why it has none."""

    queue: tuple[Queued, ...] = ()
    refused: str = ""
    held: frozenset[Address] = frozenset()
    peer_recovers: bool = False
    denied: str = ""
