"""What locked payments ask of the books around them; `books.locks.BooksLocks` implements it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from scapp.channels.payments.locked.events import LocksEvent
from scapp.channels.payments.locked.records import Lane
from scapp.channels.types import ChannelId


class LockPort(Protocol):
    """What happens around locked payments, in the node's books."""

    def changed(self, lanes: Sequence[Lane]) -> None:
        """These lanes have changed, durably, or the chain says more of their locks."""
        ...

    def over(self, events: Sequence[LocksEvent]) -> None:
        """These facts are durable."""
        ...

    def is_over(self, channel: ChannelId) -> bool:
        """Is the channel of a settled lane gone for good?"""
        ...
