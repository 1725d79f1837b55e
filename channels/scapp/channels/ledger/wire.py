"""Proposals and balances as messages and stored events carry them; `proposals.py` and `balances.py` have the values."""

from __future__ import annotations

from typing import Annotated

import msgspec

from scapp.channels.books.wire import B20, B32, WireAmount, from_wire_amount, to_wire_amount
from scapp.channels.ledger.balances import Balances, Guarantee, Parties, Trailing, asset_balances
from scapp.channels.ledger.proposals import PARTS_MAX, Add, Expand, Merge, Part, Proposal, Remove, Retract, Transfer
from scapp.channels.types import Address, ChannelId, Destination

Party = Annotated[int, msgspec.Meta(ge=0, le=1)]
"""0 is the leader, 1 the follower."""


class WirePart(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """`proposals.Part`."""

    asset: B20
    amount: WireAmount
    left_amount: WireAmount


WireParts = Annotated[tuple[WirePart, ...], msgspec.Meta(min_length=1, max_length=PARTS_MAX)]


class WireAdd(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="add"):
    """`proposals.Add`."""

    target: B32
    left: B32
    right: B32
    parts: WireParts
    fee: WireAmount


class WireRemove(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="remove"):
    """`proposals.Remove`."""

    target: B32
    parts: WireParts
    refund: WireAmount


class WireTransfer(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="transfer"):
    """`proposals.Transfer`."""

    asset: B20
    amount: WireAmount
    payer: Party


class WireExpand(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="expand"):
    """`proposals.Expand`."""

    asset: B20
    amount: WireAmount
    party: Party


class WireMerge(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="merge"):
    """`proposals.Merge`."""

    asset: B20
    party: Party


class WireRetract(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="retract"):
    """`proposals.Retract`."""

    asset: B20
    party: Party


WireProposal = WireAdd | WireRemove | WireTransfer | WireExpand | WireMerge | WireRetract


def to_wire(proposal: Proposal) -> WireProposal:
    """A proposal that has been applied somewhere, so its amounts fit."""
    match proposal:
        case Add(target, left, right, parts, fee):
            return WireAdd(target, left, right, tuple(map(_part_to_wire, parts)), to_wire_amount(fee))
        case Remove(target, parts, refund):
            return WireRemove(target, tuple(map(_part_to_wire, parts)), to_wire_amount(refund))
        case Transfer(asset, amount, payer):
            return WireTransfer(asset, to_wire_amount(amount), payer)
        case Expand(asset, amount, party):
            return WireExpand(asset, to_wire_amount(amount), party)
        case Merge(asset, party):
            return WireMerge(asset, party)
        case Retract(asset, party):
            return WireRetract(asset, party)


def from_wire(wire: WireProposal) -> Proposal:
    """Inverse of `to_wire`; only shapes are checked, `proposals.apply` does the rest."""
    match wire:
        case WireAdd(target, left, right, parts, fee):
            return Add(
                ChannelId(target),
                Destination(left),
                Destination(right),
                tuple(map(_part_from_wire, parts)),
                from_wire_amount(fee),
            )
        case WireRemove(target, parts, refund):
            return Remove(ChannelId(target), tuple(map(_part_from_wire, parts)), from_wire_amount(refund))
        case WireTransfer(asset, amount, payer):
            return Transfer(Address(asset), from_wire_amount(amount), payer)
        case WireExpand(asset, amount, party):
            return Expand(Address(asset), from_wire_amount(amount), party)
        case WireMerge(asset, party):
            return Merge(Address(asset), party)
        case WireRetract(asset, party):
            return Retract(Address(asset), party)


def _part_to_wire(part: Part) -> WirePart:
    return WirePart(part.asset, to_wire_amount(part.amount), to_wire_amount(part.left_amount))


def _part_from_wire(part: WirePart) -> Part:
    return Part(Address(part.asset), from_wire_amount(part.amount), from_wire_amount(part.left_amount))


class WireAsset(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One asset of a ledger: `guarantees` are (target, amount, left, right), `trailing` (party, amount)."""

    asset: B20
    leader: WireAmount
    follower: WireAmount
    guarantees: tuple[tuple[B32, WireAmount, B32, B32], ...]
    trailing: tuple[tuple[Party, WireAmount], ...]


class WireBalances(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A ledger at one turn; where the parties are paid is known."""

    turn: Annotated[int, msgspec.Meta(ge=0, lt=2**48)]
    assets: tuple[WireAsset, ...]


def balances_to_wire(balances: Balances) -> WireBalances:
    """The whole of a ledger's money."""
    return WireBalances(
        balances.turn,
        tuple(
            WireAsset(
                each.asset,
                to_wire_amount(each.leader),
                to_wire_amount(each.follower),
                tuple((g.target, to_wire_amount(g.amount), g.left, g.right) for g in each.guarantees),
                tuple((t.party, to_wire_amount(t.amount)) for t in each.trailing),
            )
            for each in balances.assets
        ),
    )


def balances_from_wire(wire: WireBalances, parties: Parties) -> Balances:
    """Inverse of `balances_to_wire`. What it says is a claim until signatures prove it; order and sums are as given."""
    assets = tuple(
        asset_balances(
            Address(each.asset),
            from_wire_amount(each.leader),
            from_wire_amount(each.follower),
            tuple(
                Guarantee(ChannelId(target), from_wire_amount(amount), Destination(left), Destination(right))
                for target, amount, left, right in each.guarantees
            ),
            tuple(Trailing(party, from_wire_amount(amount)) for party, amount in each.trailing),
        )
        for each in wire.assets
    )
    return Balances(wire.turn, parties, assets)
