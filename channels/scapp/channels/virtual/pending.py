"""What a neighbour may lack, computed from the record: said when it changes, again while this node waits."""

from __future__ import annotations

from collections.abc import Iterable

from scapp.channels.books.step import Context, Send, Step
from scapp.channels.types import Address
from scapp.channels.virtual.messages import Refused, Said, VirtualMessage
from scapp.channels.virtual.record import VirtualRecord


def pending(record: VirtualRecord, peer: Address) -> tuple[VirtualMessage, ...]:
    """What to say again to a neighbour, with a request to answer; nothing while this node waits for nobody."""
    raise NotImplementedError


def receive(record: VirtualRecord, peer: Address, message: Said | Refused, context: Context) -> Step:
    """Take in what a participant says. Raises PeerError for what is not allowed; then nothing changes. Whatever is new is
    passed on along the path, and an answer given where one was asked for."""
    raise NotImplementedError


def coalesced(sends: Iterable[Send]) -> tuple[Send, ...]:
    """Without those that a later one to the same peer about the same channel replaces."""
    raise NotImplementedError
