"""What the books ask their operator's policy: whether to join a ledger or a virtual channel that somebody proposes."""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

from scapp.channels.types import Address, Destination

Decision = tuple[Literal["accept", "ask", "reject"], str]
"""Accept, leave it to the operator, or reject; with the reason of the last two."""


class LedgerOffer(msgspec.Struct, frozen=True, gc=False):
    """A ledger that `peer` proposes. `funds`: per asset what it deposits and what this node does, in smallest units;
    `pays_to`: where this node's part is paid out."""

    peer: Address
    funds: tuple[tuple[Address, int, int], ...]
    pays_to: Destination
    challenge_duration_s: int


class VirtualOffer(msgspec.Struct, frozen=True, gc=False):
    """A virtual channel that `payer` proposes. `role`: "hub" to stand in the middle of it, "payee" to be paid in it,
    "party" of an app channel, which its app's policy has to accept as well. `amounts`: per asset what it locks in each
    ledger. `fee`: what this hub is offered, in the first asset. `forwarded`: channels that this hub stands in now."""

    role: Literal["hub", "payee", "party"]
    payer: Address
    amounts: tuple[tuple[Address, int], ...]
    fee: int
    challenge_duration_s: int
    forwarded: int


class BooksPolicy(Protocol):
    """Asked once per proposal; pure for the caller."""

    def ledger(self, offer: LedgerOffer) -> Decision: ...

    def virtual(self, offer: VirtualOffer) -> Decision: ...


class AskAlways:
    """Leaves ledgers to the operator, and stands in nobody's middle: of a node without settings."""

    def ledger(self, offer: LedgerOffer) -> Decision:
        return "ask", "every ledger waits for the operator"

    def virtual(self, offer: VirtualOffer) -> Decision:
        if offer.role == "hub":
            return "reject", "this node forwards for nobody"
        return "accept", ""
