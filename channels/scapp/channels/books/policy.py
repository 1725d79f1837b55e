"""What the books ask their operator's policy: whether to join a ledger or a virtual channel that somebody proposes."""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

from scapp.channels.types import Address, Destination
from scapp.channels.virtual.opening import HubRequest

Decision = tuple[Literal["accept", "ask", "reject"], str]
"""Accept, leave it to the operator, or reject; with the reason of the last two."""


class LedgerOffer(msgspec.Struct, frozen=True, gc=False):
    """A ledger that `peer` proposes. `funds`: per asset what it deposits and what this node does, in smallest units;
    `pays_to`: where this node's part is paid out."""

    peer: Address
    funds: tuple[tuple[Address, int, int], ...]
    pays_to: Destination
    challenge_duration_s: int


class BooksPolicy(Protocol):
    """Asked once per proposal, and again after a restart for those that nobody has decided."""

    def ledger(self, offer: LedgerOffer) -> Decision: ...

    def virtual(self, request: HubRequest, forwarded: int) -> Decision:
        """As a hub, or as a payee; an app's party is asked for its app channel. `forwarded`: in how many channels this
        node is a hub now. "ask" is not possible here: nobody would wait."""
        ...


class AskAlways:
    """Leaves ledgers to the operator, and stands in nobody's middle: of a node without settings."""

    def ledger(self, offer: LedgerOffer) -> Decision:
        return "ask", "every ledger waits for the operator"

    def virtual(self, request: HubRequest, forwarded: int) -> Decision:
        return ("reject", "this node forwards for nobody") if request.role == "hub" else ("accept", "")
