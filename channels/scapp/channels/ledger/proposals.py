"""What changes a ledger: a guarantee comes, or goes. Each raises the turn number by one (docs/reference/nitro.md, 9).

Every check stands here, those missing in go-nitro included: amounts are never negative, a guarantee lies between the
ledger's own two parties, its target is a channel. The texts are go-nitro's where it has one.
"""

from __future__ import annotations

import msgspec

from scapp.channels.errors import PeerError
from scapp.channels.ledger.balances import AssetBalances, Balances, Guarantee
from scapp.channels.outcome import is_external
from scapp.channels.types import U48_MAX, U256_MAX, Address, ChannelId, Destination

PARTS_MAX = 16
GUARANTEES_MAX = 4_096  # per asset, so that states can be sent and paid out


class ProposalRefused(PeerError):
    """The change is not allowed in this ledger; nothing changed."""


class Part(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Of one asset: what a guarantee takes or gives back altogether, and the left party's part of it."""

    asset: Address
    amount: int
    left_amount: int


class Add(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="add"):
    """Take deposits from both balances into a guarantee for `target`, in one asset or in several at once."""

    target: ChannelId
    left: Destination
    right: Destination
    parts: tuple[Part, ...]


class Remove(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="remove"):
    """Give the guarantee for `target` back to the balances. `parts` name every asset it stands in; their `amount` is
    that of the guarantee."""

    target: ChannelId
    parts: tuple[Part, ...]


Proposal = Add | Remove


def apply(balances: Balances, proposal: Proposal) -> Balances:
    """The ledger after the proposal. Raises ProposalRefused."""
    if balances.turn >= U48_MAX:
        raise ProposalRefused("the ledger has no turn numbers left")
    if not 1 <= len(proposal.parts) <= PARTS_MAX or len({part.asset for part in proposal.parts}) != len(proposal.parts):
        raise ProposalRefused(f"a proposal names 1 to {PARTS_MAX} different assets")
    for part in proposal.parts:
        if not 0 <= part.left_amount <= U256_MAX or not 0 <= part.amount <= U256_MAX:
            raise ProposalRefused(f"amounts {part.amount} and {part.left_amount}; allowed are 0 to 2^256-1")
    changed = _add(balances, proposal) if isinstance(proposal, Add) else _remove(balances, proposal)
    assets = tuple(changed.get(each.asset, each) for each in balances.assets)
    return msgspec.structs.replace(balances, turn=balances.turn + 1, assets=assets)


def _add(balances: Balances, proposal: Add) -> dict[Address, AssetBalances]:
    parties = balances.parties
    if {proposal.left, proposal.right} != {parties.leader, parties.follower}:
        raise ProposalRefused("a guarantee lies between the two parties of its ledger")
    if len(proposal.target) != 32 or is_external(Destination(proposal.target)):
        raise ProposalRefused(f"target 0x{proposal.target.hex()} is no channel")
    if any(each.find(proposal.target) for each in balances.assets):
        raise ProposalRefused("duplicate guarantee detected")
    left_leads = proposal.left == parties.leader
    changed = {}
    for part in proposal.parts:
        before = _asset(balances, part.asset)
        if len(before.guarantees) >= GUARANTEES_MAX:
            raise ProposalRefused(f"{GUARANTEES_MAX} guarantees stand in this ledger already")
        if part.left_amount > part.amount:
            raise ProposalRefused("unable to divert to guarantee: invalid deposit")
        left, right = part.left_amount, part.amount - part.left_amount
        from_leader, from_follower = (left, right) if left_leads else (right, left)
        if from_leader > before.leader or from_follower > before.follower:
            raise ProposalRefused("insufficient funds")
        new = Guarantee(proposal.target, part.amount, proposal.left, proposal.right)
        changed[part.asset] = before.with_guarantee(
            new, before.leader - from_leader, before.follower - from_follower, balances.guarantee_type
        )
    return changed


def _remove(balances: Balances, proposal: Remove) -> dict[Address, AssetBalances]:
    standing = {each.asset: found for each in balances.assets if (found := each.find(proposal.target)) is not None}
    if not standing:
        raise ProposalRefused("guarantee not found")
    if set(standing) != {part.asset for part in proposal.parts}:
        raise ProposalRefused(f"the guarantee stands in {len(standing)} assets, the proposal names others")
    changed = {}
    for part in proposal.parts:
        before, guarantee = _asset(balances, part.asset), standing[part.asset]
        if part.amount != guarantee.amount:
            raise ProposalRefused(f"amount {part.amount}; the guarantee has {guarantee.amount}")
        if part.left_amount > guarantee.amount:
            raise ProposalRefused("left amount is greater than the guarantee amount")
        left, right = part.left_amount, guarantee.amount - part.left_amount
        to_leader, to_follower = (left, right) if guarantee.left == balances.parties.leader else (right, left)
        changed[part.asset] = before.without_guarantee(
            proposal.target, before.leader + to_leader, before.follower + to_follower
        )
    return changed


def _asset(balances: Balances, asset: Address) -> AssetBalances:
    for each in balances.assets:
        if each.asset == asset:
            return each
    raise ProposalRefused(f"the ledger holds no asset 0x{asset.hex()}")
