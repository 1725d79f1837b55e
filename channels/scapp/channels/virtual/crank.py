"""Turns one virtual channel on as far as it goes, and says what it wants of this node's ledgers.

Like everything here it computes the pause point from the record and never stores it: asked again, it says the same.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from scapp.channels.books.step import Context, Step
from scapp.channels.ledger.consensus import Ledger
from scapp.channels.ledger.proposals import Add, Remove
from scapp.channels.types import Address
from scapp.channels.virtual.events import Side
from scapp.channels.virtual.record import VirtualRecord

Place = Literal["none", "absent", "queued", "held"]
"""The guarantee in a ledger: there is no such neighbour; not there; proposed and not countersigned; in the co-signed
state (a removal may be queued)."""


class Funding(msgspec.Struct, frozen=True, gc=False):
    """How things stand in this node's two ledgers. `impossible`: why the guarantee cannot be put into one of them, an
    empty string otherwise (the ledger lacks funds, or is closing)."""

    left: Place = "none"
    right: Place = "none"
    impossible: str = ""


def place_of(record: VirtualRecord, side: Side | None, ledger: Ledger | None) -> Place:
    """Where the guarantee stands in that side's ledger; `ledger` is None while it does not run."""
    raise NotImplementedError


def crank(record: VirtualRecord, funding: Funding, context: Context) -> Step:
    """The next facts, this node's signatures among them, and what its neighbours should hear of them."""
    raise NotImplementedError


def ledger_wants(record: VirtualRecord) -> tuple[tuple[Address, Add | Remove], ...]:
    """(neighbour, change) that this node wants of its ledgers now: as their leader it proposes them, as their follower
    it signs them when they are proposed."""
    raise NotImplementedError


def deadline_ms(record: VirtualRecord, context: Context) -> int | None:
    """When time alone makes `crank` decide something, by this node's clock; None if never."""
    raise NotImplementedError
