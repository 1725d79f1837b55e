"""What changes a ledger: fees, payments, announced deposits, and their bytes."""

from __future__ import annotations

import msgspec
import pytest

from scapp.channels.abi import InvalidValue
from scapp.channels.chain import calls
from scapp.channels.ledger.balances import Balances, Parties, Trailing, asset_balances, opening_balances
from scapp.channels.ledger.consensus import SignedProposal
from scapp.channels.ledger.messages import FUNDS_MAX
from scapp.channels.ledger.nitro_json import write_signed_proposal
from scapp.channels.ledger.proposals import (
    GUARANTEES_MAX,
    Add,
    Expand,
    Merge,
    Part,
    Proposal,
    ProposalRefused,
    Remove,
    Transfer,
    apply,
    apply_new,
)
from scapp.channels.ledger.wire import (
    WireBalances,
    WireProposal,
    balances_from_wire,
    balances_to_wire,
    from_wire,
    to_wire,
)
from scapp.channels.outcome import Allocation, SingleAssetExit, encode_outcome
from scapp.channels.reading import SignedState
from scapp.channels.types import U256_MAX, Address, ChannelId, Destination, Hash, Signature

COIN, TOKEN = Address(bytes(20)), Address(b"\x70" * 20)
LEADER, FOLLOWER = (Destination(bytes(12) + letter * 20) for letter in (b"\xaa", b"\xbb"))
PARTIES = Parties(LEADER, FOLLOWER)
V, W = ChannelId(b"\xff" * 32), ChannelId(b"\xee" * 32)


def begin(leader: int = 100, follower: int = 60) -> Balances:
    return opening_balances(PARTIES, [(COIN, leader, follower), (TOKEN, 0, 40)])


def of(balances: Balances, asset: int = 0) -> tuple[int, int]:
    return balances.assets[asset].leader, balances.assets[asset].follower


def add(fee: int = 0, *, left: Destination = LEADER, amount: int = 30, share: int = 20) -> Add:
    right = FOLLOWER if left == LEADER else LEADER
    return Add(V, left, right, (Part(COIN, amount, share),), fee)


def after(balances: Balances, *proposals: Proposal) -> Balances:
    for proposal in proposals:
        balances = apply(balances, proposal)
        assert balances.encode_outcome() == encode_outcome(balances.outcome())
    return balances


def test_left_pays_the_fee_beside_the_guarantee() -> None:
    assert of(after(begin(), add(5))) == (75, 55)
    assert of(after(begin(), add(5, left=FOLLOWER))) == (95, 35)


def test_a_refund_gives_the_fee_back() -> None:
    balances = after(begin(), add(5), Remove(V, (Part(COIN, 30, 20),), 5))
    assert of(balances) == (100, 60)
    balances = after(begin(), add(5, left=FOLLOWER), Remove(V, (Part(COIN, 30, 20),), 5))
    assert of(balances) == (100, 60)


def test_a_fee_is_paid_in_the_first_asset_alone() -> None:
    both = Add(V, LEADER, FOLLOWER, (Part(COIN, 10, 10), Part(TOKEN, 7, 0)), 3)
    balances = after(begin(), both)
    assert (of(balances), of(balances, 1)) == ((87, 63), (0, 33))
    balances = after(balances, Remove(V, (Part(COIN, 10, 4), Part(TOKEN, 7, 7)), 3))
    assert (of(balances), of(balances, 1)) == ((94, 66), (7, 33))


def test_the_fee_does_not_pay_for_the_receivers_own_deposit() -> None:
    with pytest.raises(ProposalRefused, match="insufficient funds"):
        apply(begin(100, 4), Add(V, LEADER, FOLLOWER, (Part(COIN, 10, 1),), 50))


def test_a_refund_is_not_more_than_right_has() -> None:
    balances = after(begin(100, 0), add(5, amount=20, share=20), Transfer(COIN, 5, 1))
    with pytest.raises(ProposalRefused, match="insufficient funds"):
        apply(balances, Remove(V, (Part(COIN, 20, 20),), 5))
    assert of(after(balances, Remove(V, (Part(COIN, 20, 15),), 5))) == (100, 0)


@pytest.mark.parametrize("fee", [-1, 2**256])
def test_a_fee_outside_its_field_is_refused(fee: int) -> None:
    with pytest.raises(ProposalRefused, match="a fee of"):
        apply(begin(), add(fee))
    with pytest.raises(ProposalRefused, match="a fee of"):
        apply(after(begin(), add()), Remove(V, (Part(COIN, 30, 20),), fee))


def test_a_payment_moves_what_the_payer_has() -> None:
    assert of(after(begin(), Transfer(COIN, 100, 0))) == (0, 160)
    assert of(after(begin(), Transfer(COIN, 60, 1))) == (160, 0)


@pytest.mark.parametrize(
    ("proposal", "says"),
    [
        (Transfer(COIN, 101, 0), "insufficient funds"),
        (Transfer(COIN, 61, 1), "insufficient funds"),
        (Transfer(COIN, 0, 0), "allowed are 1 to"),
        (Transfer(COIN, -5, 0), "allowed are 1 to"),
        (Transfer(COIN, 2**256, 0), "allowed are 1 to"),
        (Transfer(COIN, 5, 2), "party 2"),
        (Transfer(Address(b"\x09" * 20), 5, 0), "holds no asset"),
        (Expand(COIN, 0, 0), "allowed are 1 to"),
        (Expand(COIN, -1, 1), "allowed are 1 to"),
        (Expand(COIN, U256_MAX - 159, 1), "allowed are 1 to"),
        (Expand(COIN, 5, -1), "party -1"),
        (Merge(COIN, 0), "no deposit of that party"),
        (Merge(COIN, 7), "party 7"),
    ],
)
def test_what_is_no_change(proposal: Proposal, says: str) -> None:
    """Amounts outside their fields, parties and assets that are not there, more than a party has."""
    with pytest.raises(ProposalRefused, match=says):
        apply(begin(), proposal)


def test_an_announced_deposit_ranks_last_and_changes_no_balance() -> None:
    balances = after(begin(), Expand(COIN, 25, 1), add())
    assert balances.assets[0].total == 160
    assert [each.destination for each in balances.outcome()[0].allocations] == [LEADER, FOLLOWER, V, FOLLOWER]
    assert balances.assets[0].announced(1) == (160, 185)
    assert balances.assets[0].announced(0) is None


def test_guarantees_come_and_go_before_announced_deposits() -> None:
    """The encoding that is kept stays that of the outcome, whatever stands around it."""
    second = Add(W, FOLLOWER, LEADER, (Part(COIN, 3, 3), Part(TOKEN, 2, 1)))
    balances = after(begin(100, 60), Transfer(TOKEN, 20, 1), Expand(COIN, 25, 1), add(), Expand(TOKEN, 9, 0), second)
    balances = after(balances, Remove(V, (Part(COIN, 30, 11),)), Expand(COIN, 8, 0), Merge(COIN, 1), Merge(COIN, 0))
    assert of(balances) == (100 - 20 + 11 + 8, 60 - 10 + 19 - 3 + 25)
    assert balances.assets[1].trailing == (Trailing(0, 9),)


def test_deposits_are_merged_in_the_order_of_their_announcement() -> None:
    balances = after(begin(), Expand(COIN, 25, 1), Expand(COIN, 8, 0))
    assert balances.assets[0].announced(0) == (185, 193)
    with pytest.raises(ProposalRefused, match="announced before it"):
        apply(balances, Merge(COIN, 0))
    balances = after(balances, Merge(COIN, 1))
    assert of(balances) == (100, 85)
    assert of(after(balances, Merge(COIN, 0))) == (108, 85)


def test_a_party_announces_one_deposit_at_a_time() -> None:
    with pytest.raises(ProposalRefused, match="announced already"):
        apply(after(begin(), Expand(COIN, 25, 1)), Expand(COIN, 1, 1))


PROPOSALS: list[Proposal] = [
    add(U256_MAX),
    Remove(V, (Part(COIN, U256_MAX, 0), Part(TOKEN, 1, 1)), 2**255),
    Transfer(TOKEN, U256_MAX, 1),
    Expand(COIN, 2**64, 0),
    Merge(TOKEN, 1),
]


@pytest.mark.parametrize("proposal", PROPOSALS)
def test_proposals_pass_through_bytes(proposal: Proposal) -> None:
    """Amounts of 256 bits included, which MessagePack has no integers for."""
    data = msgspec.msgpack.encode(to_wire(proposal))
    assert from_wire(msgspec.msgpack.decode(data, type=WireProposal)) == proposal


def test_balances_pass_through_bytes() -> None:
    """Guarantees, announced deposits and the encoding that is kept beside them."""
    balances = after(begin(), Expand(COIN, 25, 1), add(), Expand(TOKEN, 9, 0))
    data = msgspec.msgpack.encode(balances_to_wire(balances))
    assert balances_from_wire(msgspec.msgpack.decode(data, type=WireBalances), PARTIES) == balances
    whole = asset_balances(COIN, 1, 2, (), (Trailing(0, 3),))
    assert (whole.encoded, whole.announced(0)) == (b"", (3, 6))


@pytest.mark.parametrize("proposal", [add(1), Remove(V, (Part(COIN, 30, 20),), 1), Transfer(COIN, 1, 0)])
def test_what_go_nitro_does_not_know_is_not_written_for_it(proposal: Proposal) -> None:
    with pytest.raises(InvalidValue, match="go-nitro's ledgers"):
        write_signed_proposal(SignedProposal(V, proposal, 2, bytes(65)))


def test_the_fullest_ledger_fits_a_transaction() -> None:
    """Else whoever opens channels over it could make it one that nobody takes to the chain."""
    assets = [Address(bytes([number]) * 20) for number in range(FUNDS_MAX)]
    balances = opening_balances(PARTIES, [(asset, 10**24, 10**24) for asset in assets])
    for asset in assets:
        balances = after(balances, Expand(asset, 10**24, 0), Expand(asset, 10**24, 1))
    for number in range(GUARANTEES_MAX):
        target = ChannelId(b"\xee" + number.to_bytes(31, "big"))
        balances = apply_new(balances, Add(target, LEADER, FOLLOWER, (Part(assets[number % FUNDS_MAX], 2, 1),)))
    one_more = Add(V, LEADER, FOLLOWER, (Part(assets[0], 2, 1),))
    with pytest.raises(ProposalRefused, match="full: 401 guarantees would not fit the chain, 400 do"):
        apply_new(balances, one_more)
    apply(balances, one_more)  # a stored fact is folded
    without = apply(balances, Remove(ChannelId(b"\xee" + bytes(31)), (Part(assets[0], 2, 1),)))
    with pytest.raises(ProposalRefused, match="full: 401"):
        apply_new(without, Add(V, LEADER, FOLLOWER, (Part(assets[0], 2, 1), Part(assets[1], 2, 1))))
    signature = Signature(b"\x77" * 65)
    people = (Address(LEADER[12:]), Address(FOLLOWER[12:]))
    state = SignedState(people, 1, COIN, 60, b"", balances.encode_outcome(), 9, False, (signature, signature))
    whole = tuple(SingleAssetExit(a, (Allocation(LEADER, 10**24), Allocation(FOLLOWER, 1))) for a in assets)
    reclaim = calls.Reclaim(
        V, Hash(bytes(32)), balances.encode_outcome(), 0, 2, Hash(bytes(32)), encode_outcome(whole), 0
    )
    for call in (calls.Challenge((), state, signature), calls.Checkpoint((), state), reclaim):
        assert len(calls.encode_call(call)) < calls.CALLDATA_BYTES_MAX - 1_024
