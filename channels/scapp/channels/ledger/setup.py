"""A ledger's constants, checked once: who, with how much, under which rules. `record.py` has what changes."""

from __future__ import annotations

import msgspec

from scapp.channels.books.wire import from_wire_amount
from scapp.channels.channel.shares import Shares, shares_of
from scapp.channels.errors import LocalError
from scapp.channels.ledger.balances import Balances, Parties, opening_balances
from scapp.channels.ledger.events import LedgerCreated
from scapp.channels.state import FixedPart, check_fixed_part
from scapp.channels.types import Address, ChannelId, Destination

PREFUND, POSTFUND = 0, 1


class LedgerNotAllowed(LocalError):
    """The parameters of a ledger are not allowed."""


class LedgerSetup(msgspec.Struct, frozen=True, gc=False):
    """Constants of one ledger. `opening` is its money at turn 0; `shares` say who deposits what, in its order."""

    my_index: int
    fixed: FixedPart
    channel_id: ChannelId
    opening: Balances
    shares: Shares

    @property
    def me(self) -> Address:
        return self.fixed.participants[self.my_index]

    @property
    def peer(self) -> Address:
        return self.fixed.participants[1 - self.my_index]

    @property
    def assets(self) -> tuple[Address, ...]:
        """In the order in which the chain is asked for their holdings."""
        return self.shares.assets

    def stage(self, turn: int) -> Balances:
        """The money of the prefund (0) or postfund state (1)."""
        return msgspec.structs.replace(self.opening, turn=turn)


def setup_of(created: LedgerCreated) -> LedgerSetup:
    """The channel id follows from the rest. Raises LedgerNotAllowed for parameters that no ledger may have."""
    participants = (Address(created.participants[0]), Address(created.participants[1]))
    fixed = FixedPart(participants, created.nonce, Address(created.app_definition), created.challenge_duration)
    parties = Parties(Destination(created.destinations[0]), Destination(created.destinations[1]))
    funds = [(Address(asset), from_wire_amount(a), from_wire_amount(b)) for asset, a, b in created.funds]
    slots = tuple(
        (bytes(asset), bytes(parties.of(party)), amount)
        for asset, *amounts in funds
        for party, amount in enumerate(amounts)
    )
    if created.my_index not in (0, 1):
        raise LedgerNotAllowed(f"party {created.my_index} of two")
    if created.challenge_duration < 1:
        raise LedgerNotAllowed("challenge duration 0: a dispute could not be answered")
    try:
        channel = check_fixed_part(fixed)
        opening = opening_balances(parties, funds, turn=PREFUND)
        shares = shares_of(slots, 2)
    except ValueError as error:  # InvalidValue is one
        raise LedgerNotAllowed(str(error)) from error
    return LedgerSetup(created.my_index, fixed, channel, opening, shares)
