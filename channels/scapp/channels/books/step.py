"""What the books' deciders take and give. A step's events are stored before anything of it leaves the node."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from scapp.channels.types import Address, ChannelId, Hash, Signature

BOOKS_STREAM = b"books".ljust(32, b"\0")
"""The stream that holds the events of all ledgers and virtual channels: one decision may concern several of them."""


class Signer(Protocol):
    """`scapp.channels.signing.Signer`, as far as it is needed here."""

    @property
    def address(self) -> Address: ...

    def sign(self, digest: Hash, /) -> Signature: ...


class BooksTerms(msgspec.Struct, frozen=True, kw_only=True):
    """How this node deals with ledgers and virtual channels; its operator's choice, not part of what is signed.

    `virtual_timeout_s`: a virtual channel that is not funded by then is given up. `silence_timeout_s`: a neighbour
    that does not answer for that long is taken to the chain, 0 for never. `conclude_delay_s` as in `ChainTerms`."""

    virtual_timeout_s: int = 20
    silence_timeout_s: int = 0
    conclude_delay_s: int = 60


class Context(msgspec.Struct, frozen=True, gc=False):
    """What a decision may know of the world. `head_time_s` is the chain's newest block's timestamp, 0 if unknown."""

    signer: Signer
    now_ms: int
    head_time_s: int = 0
    terms: BooksTerms = BooksTerms()


class Send(msgspec.Struct, frozen=True, gc=False):
    """Say this to a peer; `message` is one of the tagged structs of `ledger.messages` or `virtual.messages`."""

    peer: Address
    message: Any


class Note(msgspec.Struct, frozen=True, gc=False):
    """For local listeners, once the step is stored."""

    channel: ChannelId
    kind: str
    detail: str = ""


class Step(msgspec.Struct, frozen=True, gc=False):
    """A decision: facts to store, then what to say. `events` are tagged structs of `ledger.events` or
    `virtual.events`, each with its channel as first field."""

    events: tuple[Any, ...] = ()
    sends: tuple[Send, ...] = ()
    notes: tuple[Note, ...] = ()

    def __add__(self, other: Step) -> Step:
        return Step(self.events + other.events, self.sends + other.sends, self.notes + other.notes)


NOTHING = Step()
