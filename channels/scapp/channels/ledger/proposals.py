"""What changes a ledger, each raising its turn number by one (docs/reference/nitro.md, 9; docs/reference/ledgers.md).

A guarantee comes or goes (go-nitro's two changes), one party pays the other, a deposit is announced and, once it is on
chain, merged (ADR 0059). Every check stands here, those missing in go-nitro included: amounts are never negative, a
guarantee lies between the ledger's own two parties, its target is a channel. The texts are go-nitro's where it has one.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec

from scapp.channels.errors import PeerError
from scapp.channels.ledger.balances import AssetBalances, Balances, Guarantee, Trailing
from scapp.channels.outcome import is_external
from scapp.channels.same import Same
from scapp.channels.types import U48_MAX, U256_MAX, Address, ChannelId, Destination

PARTS_MAX = 16
GUARANTEES_MAX = 400  # in all assets together
"""A ledger whose state does not fit one transaction (`chain.calls.CALLDATA_BYTES_MAX`) could not be disputed: whoever
opens channels through another would hold that one's money. 256 bytes each, beside 16 assets and a channel's outcome."""


class ProposalRefused(PeerError):
    """The change is not allowed in this ledger; nothing changed."""


class Part(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Of one asset: what a guarantee takes or gives back altogether, and the left party's part of it."""

    asset: Address
    amount: int
    left_amount: int


class Add(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="add"):
    """Take deposits from both balances into a guarantee for `target`, in one asset or in several at once. `fee` is what
    left pays right for it, beside the guarantee, in the asset of the first part."""

    target: ChannelId
    left: Destination
    right: Destination
    parts: tuple[Part, ...]
    fee: int = 0


class Remove(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="remove"):
    """Give the guarantee for `target` back to the balances. `parts` name every asset it stands in; their `amount` is
    that of the guarantee. `refund` is what right gives left back of the fee, in the asset of the first part."""

    target: ChannelId
    parts: tuple[Part, ...]
    refund: int = 0


class Transfer(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="transfer"):
    """The payer (0 leader, 1 follower) pays the other party `amount`, without any condition."""

    asset: Address
    amount: int
    payer: int


class Expand(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="expand"):
    """Announce a deposit of `amount` by the party (0 leader, 1 follower), as the last allocation of its asset."""

    asset: Address
    amount: int
    party: int


class Merge(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="merge"):
    """The party's announced deposit is on chain: it becomes part of its balance."""

    asset: Address
    party: int


class Retract(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="retract"):
    """The party's announced deposit is not made: its allocation goes. Only that party can lose by it, if it deposits
    all the same, so only that party asks for it."""

    asset: Address
    party: int


Proposal = Add | Remove | Transfer | Expand | Merge | Retract


def apply(balances: Balances, proposal: Proposal) -> Balances:
    """The ledger after the proposal. Raises ProposalRefused."""
    return _applied(Same(balances), proposal)


@lru_cache(maxsize=32)  # whoever signs a proposal folds it right afterwards, and may have computed it ahead
def _applied(before: Same[Balances], proposal: Proposal) -> Balances:
    balances = before.it
    if balances.turn >= U48_MAX:
        raise ProposalRefused("the ledger has no turn numbers left")
    match proposal:
        case Add():
            _check_parts(proposal.parts, proposal.fee)
            changed = _add(balances, proposal)
        case Remove():
            _check_parts(proposal.parts, proposal.refund)
            changed = _remove(balances, proposal)
        case Transfer():
            changed = _transfer(balances, proposal)
        case Expand():
            changed = _expand(balances, proposal)
        case Merge():
            changed = _merge(balances, proposal)
        case Retract():
            changed = _retract(balances, proposal)
    assets = tuple(changed.get(each.asset, each) for each in balances.assets)
    return msgspec.structs.replace(balances, turn=balances.turn + 1, assets=assets)


def apply_new(balances: Balances, proposal: Proposal) -> Balances:
    """`apply` of what is not agreed on yet. Raises ProposalRefused, also for a guarantee too many; stored facts are
    folded whatever they came to."""
    after = apply(balances, proposal)
    if isinstance(proposal, Add) and (fault := room_fault(after, 0)):
        raise ProposalRefused(fault)
    return after


def room_fault(balances: Balances, more: int) -> str:
    """Why the ledger has no room for so many guarantees more (a channel has one in each of its assets), or an empty
    string."""
    guarantees = sum(len(each.guarantees) for each in balances.assets) + more
    if guarantees <= GUARANTEES_MAX:
        return ""
    return f"the ledger is full: {guarantees} guarantees would not fit the chain, {GUARANTEES_MAX} do"


def is_by(proposal: Proposal, party: int) -> bool:
    """Is it for that party to request: its own payment or deposit?"""
    match proposal:
        case Transfer(payer=payer):
            return payer == party
        case Expand(party=depositor) | Retract(party=depositor):
            return depositor == party
        case _:
            return False


def _check_parts(parts: tuple[Part, ...], fee: int) -> None:
    if not 1 <= len(parts) <= PARTS_MAX or len({part.asset for part in parts}) != len(parts):
        raise ProposalRefused(f"a proposal names 1 to {PARTS_MAX} different assets")
    for part in parts:
        if not 0 <= part.left_amount <= U256_MAX or not 0 <= part.amount <= U256_MAX:
            raise ProposalRefused(f"amounts {part.amount} and {part.left_amount}; allowed are 0 to 2^256-1")
    if not 0 <= fee <= U256_MAX:
        raise ProposalRefused(f"a fee of {fee}; allowed are 0 to 2^256-1")


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
    fee = proposal.fee
    for part in proposal.parts:
        before = _asset(balances, part.asset)
        if part.left_amount > part.amount:
            raise ProposalRefused("unable to divert to guarantee: invalid deposit")
        left, right = _of(before, left_leads)
        right_amount = part.amount - part.left_amount
        if part.left_amount + fee > left or right_amount > right:  # the fee does not pay for right's own deposit
            raise ProposalRefused("insufficient funds")
        new = Guarantee(proposal.target, part.amount, proposal.left, proposal.right)
        after = _as_held(left - part.left_amount - fee, right - right_amount + fee, left_leads)
        changed[part.asset] = before.with_guarantee(new, *after, balances.guarantee_type)
        fee = 0  # in the first asset alone
    return changed


def _remove(balances: Balances, proposal: Remove) -> dict[Address, AssetBalances]:
    standing = {each.asset: found for each in balances.assets if (found := each.find(proposal.target)) is not None}
    if not standing:
        raise ProposalRefused("guarantee not found")
    if set(standing) != {part.asset for part in proposal.parts}:
        raise ProposalRefused(f"the guarantee stands in {len(standing)} assets, the proposal names others")
    changed = {}
    refund = proposal.refund
    for part in proposal.parts:
        before, guarantee = _asset(balances, part.asset), standing[part.asset]
        if part.amount != guarantee.amount:
            raise ProposalRefused(f"amount {part.amount}; the guarantee has {guarantee.amount}")
        if part.left_amount > guarantee.amount:
            raise ProposalRefused("left amount is greater than the guarantee amount")
        left_leads = guarantee.left == balances.parties.leader
        left, right = _of(before, left_leads)
        right += guarantee.amount - part.left_amount
        if refund > right:
            raise ProposalRefused("insufficient funds")
        after = _as_held(left + part.left_amount + refund, right - refund, left_leads)
        changed[part.asset] = before.without_guarantee(proposal.target, *after)
        refund = 0
    return changed


def _of(balances: AssetBalances, left_leads: bool) -> tuple[int, int]:
    """The left and the right party's balance."""
    return (balances.leader, balances.follower) if left_leads else (balances.follower, balances.leader)


def _as_held(left: int, right: int, left_leads: bool) -> tuple[int, int]:
    """Leader's and follower's balance of left's and right's."""
    return (left, right) if left_leads else (right, left)


def _transfer(balances: Balances, proposal: Transfer) -> dict[Address, AssetBalances]:
    before = _asset(balances, proposal.asset)
    _check_party(proposal.payer)
    if not 1 <= proposal.amount <= U256_MAX:
        raise ProposalRefused(f"a transfer of {proposal.amount}; allowed are 1 to 2^256-1")
    gain = proposal.amount if proposal.payer else -proposal.amount
    leader, follower = before.leader + gain, before.follower - gain
    if leader < 0 or follower < 0:
        raise ProposalRefused("insufficient funds")
    return {proposal.asset: msgspec.structs.replace(before, leader=leader, follower=follower)}


def _expand(balances: Balances, proposal: Expand) -> dict[Address, AssetBalances]:
    before = _asset(balances, proposal.asset)
    _check_party(proposal.party)
    if any(each.party == proposal.party for each in before.trailing):
        raise ProposalRefused("a deposit of that party is announced already")
    room = U256_MAX - before.total - sum(each.amount for each in before.trailing)
    if not 1 <= proposal.amount <= room:
        raise ProposalRefused(f"a deposit of {proposal.amount}; allowed are 1 to {room}")
    trailing = (*before.trailing, Trailing(proposal.party, proposal.amount))
    return {proposal.asset: msgspec.structs.replace(before, trailing=trailing)}


def _merge(balances: Balances, proposal: Merge) -> dict[Address, AssetBalances]:
    before = _asset(balances, proposal.asset)
    _check_party(proposal.party)
    merged = next((each for each in before.trailing if each.party == proposal.party), None)
    if merged is None:
        raise ProposalRefused("no deposit of that party is announced")
    if merged is not before.trailing[0]:
        # Its money would rank before a deposit that was announced, and is made, earlier.
        raise ProposalRefused("a deposit that was announced before it is not merged yet")
    to_leader, to_follower = (0, merged.amount) if merged.party else (merged.amount, 0)
    return {
        proposal.asset: msgspec.structs.replace(
            before,
            leader=before.leader + to_leader,
            follower=before.follower + to_follower,
            trailing=before.trailing[1:],
        )
    }


def _retract(balances: Balances, proposal: Retract) -> dict[Address, AssetBalances]:
    before = _asset(balances, proposal.asset)
    _check_party(proposal.party)
    rest = tuple(each for each in before.trailing if each.party != proposal.party)
    if rest == before.trailing:
        raise ProposalRefused("no deposit of that party is announced")
    return {proposal.asset: msgspec.structs.replace(before, trailing=rest)}


def _check_party(party: int) -> None:
    if party not in (0, 1):
        raise ProposalRefused(f"party {party}; a ledger has 0, the leader, and 1, the follower")


def _asset(balances: Balances, asset: Address) -> AssetBalances:
    for each in balances.assets:
        if each.asset == asset:
            return each
    raise ProposalRefused(f"the ledger holds no asset 0x{asset.hex()}")
