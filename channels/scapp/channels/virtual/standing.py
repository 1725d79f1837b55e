"""Where a virtual channel stands, in words; and what an app channel hears of it."""

from __future__ import annotations

from typing import Literal

from scapp.channels.backing import Backing
from scapp.channels.virtual.record import VirtualRecord

Phase = Literal[
    "recovering", "proposed", "opening", "funding", "running", "closing", "released", "rejected", "failed", "disputed"
]
"""`opening`: not everybody has signed the prefund state. `funding`: guarantees or postfund signatures are missing.
`failed`: it is being aborted, or was: `record.cleared` tells which."""


def phase(record: VirtualRecord) -> Phase:
    """How far it is."""
    raise NotImplementedError


def waiting_for(record: VirtualRecord) -> str:
    """What is missing before it goes on, in words; empty when nothing is."""
    raise NotImplementedError


def backing(record: VirtualRecord) -> Backing:
    """What stands behind an app channel, as its engine hears it."""
    raise NotImplementedError
