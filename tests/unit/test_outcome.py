"""Outcomes: sums, thresholds, guarantees, and the payouts the adjudicator will make."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from scapp.channels.abi import InvalidValue
from scapp.channels.outcome import (
    Allocation,
    AllocationType,
    SingleAssetExit,
    address_to_destination,
    affords,
    deposit_safety_threshold,
    destination_to_address,
    divert_to_guarantee,
    guarantee_metadata,
    is_external,
    outcome_of_slots,
    split_guarantee_metadata,
    total,
    totals,
    totals_for,
)
from scapp.channels.payouts import predict_reclaim, reclaim_effects, transfer_effects
from scapp.channels.types import U256_MAX

COIN, TOKEN = bytes(20), b"\x7b" + bytes(19)
ALICE, BOB, CAROL = (address_to_destination(letter * 20) for letter in (b"\xaa", b"\xbb", b"\xcc"))
VIRTUAL = b"\x56" * 32


def exit_of(*pairs, asset=COIN):
    """An exit of simple allocations."""
    return SingleAssetExit(asset, tuple(Allocation(destination, amount) for destination, amount in pairs))


def guarantee(amount, left=ALICE, right=BOB, target=VIRTUAL):
    """A guarantee as a ledger holds it."""
    return Allocation(target, amount, AllocationType.GUARANTEE, guarantee_metadata(left, right))


def test_destinations_and_addresses_convert_both_ways():
    """Twelve zero bytes make a destination external; a channel id is not."""
    assert is_external(ALICE)
    assert destination_to_address(ALICE) == b"\xaa" * 20
    assert not is_external(VIRTUAL)
    assert not is_external(bytes(11) + b"\x01" + bytes(20))
    with pytest.raises(InvalidValue, match="19 bytes"):
        address_to_destination(bytes(19))


@pytest.mark.parametrize("length", [0, 63, 65, 128])
def test_guarantee_metadata_has_64_bytes(length):
    """Two destinations, nothing else."""
    with pytest.raises(InvalidValue, match=f"{length} bytes"):
        split_guarantee_metadata(bytes(length))


def test_sums_are_per_asset_and_add_up_repeated_exits():
    """Order and number of exits do not change what is owed in total."""
    outcome = (exit_of((ALICE, 5), (BOB, 2)), exit_of((BOB, 1), asset=TOKEN), exit_of((ALICE, 4)))
    assert totals(outcome) == {COIN: 11, TOKEN: 1}
    assert totals_for(outcome, ALICE) == {COIN: 9, TOKEN: 0}
    assert totals(()) == {}


def test_a_deposit_is_safe_when_all_that_ranks_before_it_is_there():
    """Per asset; who has no allocation is safe only above everything."""
    outcome = (exit_of((ALICE, 2), (BOB, 3), (ALICE, 4)), exit_of((BOB, 7), (ALICE, 1), asset=TOKEN))
    assert deposit_safety_threshold(outcome, ALICE) == {COIN: 0, TOKEN: 7}
    assert deposit_safety_threshold(outcome, BOB) == {COIN: 2, TOKEN: 0}
    assert deposit_safety_threshold(outcome, CAROL) == {COIN: 9, TOKEN: 8}


def test_two_exits_of_one_asset_have_no_safe_threshold():
    """Both draw on the same holdings, so a threshold per exit would be too low."""
    with pytest.raises(InvalidValue, match="two exits"):
        deposit_safety_threshold((exit_of((ALICE, 1)), exit_of((BOB, 1))), BOB)


@given(st.lists(st.integers(0, 20), max_size=6), st.integers(-5, 80), st.integers(-2, 8))
def test_what_is_afforded_is_what_a_transfer_pays_in_full(amounts, funding, index):
    """`affords` and `transfer_effects` agree, except that nothing is afforded from less than nothing."""
    allocations = [Allocation(ALICE, amount) for amount in amounts]
    if not 0 <= index < len(amounts):
        assert not affords(allocations, index, funding)
        return
    assume(funding >= sum(amounts[:index]))
    paid = transfer_effects(funding, allocations).exits[index].amount
    assert affords(allocations, index, funding) is (paid == amounts[index])


def test_a_guarantee_takes_both_deposits_and_comes_last():
    """Type 2, metadata left and right, nothing created or lost."""
    before = exit_of((ALICE, 10), (BOB, 5))
    after = divert_to_guarantee(before, BOB, ALICE, 5, 3, VIRTUAL)
    assert after.allocations == (Allocation(ALICE, 7), Allocation(BOB, 0), guarantee(8, BOB, ALICE))
    assert total(after.allocations) == total(before.allocations)


@pytest.mark.parametrize(
    ("left", "right", "amounts", "reason"),
    [
        (ALICE, BOB, (11, 0), "allowed are 0 to 10"),
        (ALICE, BOB, (0, 6), "allowed are 0 to 5"),
        (ALICE, BOB, (-1, 1), "deposit of -1"),
        (ALICE, CAROL, (1, 1), "no allocation for 0x000000000000000000000000cccc"),
        (ALICE, ALICE, (1, 1), "same destination"),
    ],
)
def test_an_impossible_guarantee_is_refused(left, right, amounts, reason):
    """Negative deposits would add to a balance (defect 5 of section 23)."""
    with pytest.raises(InvalidValue, match=reason):
        divert_to_guarantee(exit_of((ALICE, 10), (BOB, 5)), left, right, *amounts, VIRTUAL)


def test_slots_become_exits_by_asset():
    """Order stays; amounts replace the slots' own."""
    slots = [(COIN, ALICE, 1), (COIN, BOB, 1), (TOKEN, BOB, 1)]
    assert outcome_of_slots(slots, (3, 0, 9)) == (exit_of((ALICE, 3), (BOB, 0)), exit_of((BOB, 9), asset=TOKEN))
    assert outcome_of_slots((), ()) == ()


# --- section 3.1 -----------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 20), max_size=6), st.integers(0, 80), st.data())
def test_transfers_keep_reservations_and_lose_nothing(amounts, holdings, data):
    """Selected or not, what ranks higher stays reserved; what is paid is what the outcome lost."""
    allocations = [Allocation(bytes([index]) * 32, amount) for index, amount in enumerate(amounts)]
    indices = sorted(data.draw(st.sets(st.integers(0, len(amounts) - 1)))) if amounts else []
    everything = transfer_effects(holdings, allocations)
    some = transfer_effects(holdings, allocations, indices)
    chosen = indices or range(len(amounts))
    assert [exit_.amount for exit_ in some.exits] == [everything.exits[index].amount for index in chosen]
    assert some.total_payouts == total(some.exits) == total(allocations) - total(some.remaining) <= holdings
    assert some.allocates_only_zeros == (total(some.remaining) == 0)
    untouched = [index for index in range(len(amounts)) if index not in chosen]
    assert all(some.remaining[index] == allocations[index] for index in untouched)


@pytest.mark.parametrize("indices", [[1, 0], [0, 0], [0, 2, 1], [-1], [-1, 0]])
def test_indices_must_increase(indices):
    """As the contract demands, and no negative ones, which Python would count from the end."""
    with pytest.raises(InvalidValue, match=r"increase|negative"):
        transfer_effects(9, [Allocation(ALICE, 1)] * 3, indices)


def test_an_index_beyond_the_list_pays_nobody():
    """The contract leaves the entry zero and does not revert."""
    effects = transfer_effects(9, [Allocation(ALICE, 1)], [0, 5])
    assert effects.exits == (Allocation(ALICE, 1), Allocation(bytes(32), 0))
    assert effects.total_payouts == 1


@pytest.mark.parametrize("indices", [[], [0, 1, 2]])
def test_paying_all_of_a_ledger_with_a_guarantee_is_refused(indices):
    """The contract's own protection, where it works."""
    ledger = [Allocation(ALICE, 1), Allocation(BOB, 1), guarantee(5)]
    with pytest.raises(InvalidValue, match="cannot transfer a guarantee"):
        transfer_effects(9, ledger, indices)


@pytest.mark.parametrize("indices", [[2], [0, 2], [1, 2]])
def test_the_contracts_guarantee_check_looks_at_the_wrong_allocation(indices):
    """Defect 1 of section 23 is predicted as it happens: the guarantee is paid out."""
    ledger = [Allocation(ALICE, 1), Allocation(BOB, 1), guarantee(5)]
    assert transfer_effects(9, ledger, indices).exits[-1].amount == 5


# --- section 3.2 -----------------------------------------------------------------------------------------------------


def test_reclaim_credits_left_and_right_by_position():
    """The target's destinations and its further allocations are not read."""
    ledger = [Allocation(ALICE, 1), Allocation(BOB, 1), guarantee(8), Allocation(ALICE, 100)]
    target = [Allocation(CAROL, 3), Allocation(CAROL, 5), Allocation(CAROL, 1000)]
    expected = (Allocation(ALICE, 4), Allocation(BOB, 6), Allocation(ALICE, 100))
    assert reclaim_effects(ledger, target, 2) == predict_reclaim(ledger, target, 2) == expected


def test_reclaim_ignores_metadata_after_the_two_destinations():
    """So does the contract's decoder."""
    long = Allocation(VIRTUAL, 2, AllocationType.GUARANTEE, guarantee_metadata(ALICE, BOB) + b"more")
    target = [Allocation(ALICE, 1), Allocation(BOB, 1)]
    ledger = [Allocation(ALICE, 0), Allocation(BOB, 0), long]
    assert reclaim_effects(ledger, target, 2) == (Allocation(ALICE, 1), Allocation(BOB, 1))


LEDGER = (Allocation(ALICE, 1), Allocation(BOB, 1), guarantee(8))
TARGET = (Allocation(ALICE, 3), Allocation(BOB, 5))
IRRECLAIMABLE = {
    "not a guarantee": (LEDGER, TARGET, 0, "not a guarantee allocation"),
    "type 1": ((*LEDGER[:2], Allocation(VIRTUAL, 8, 1, bytes(64))), TARGET, 2, "type 1"),
    "no such allocation": (LEDGER, TARGET, 3, "guarantee index 3"),
    "negative index": (LEDGER, TARGET, -1, "guarantee index -1"),
    "short metadata": ((*LEDGER[:2], Allocation(VIRTUAL, 8, 2, bytes(63))), TARGET, 2, "63 bytes"),
    "left missing": (LEDGER[1:], TARGET, 1, "could not find left"),
    "right missing": (LEDGER[::2], TARGET, 1, "could not find right"),
    "too little": (LEDGER, (Allocation(ALICE, 3), Allocation(BOB, 4)), 2, "pays 7; the guarantee holds 8"),
    "one allocation": (LEDGER, TARGET[:1], 2, "has 1 allocations"),
    "overflow": ((Allocation(ALICE, U256_MAX), *LEDGER[1:]), TARGET, 2, "more than 2"),
}


@pytest.mark.parametrize("case", IRRECLAIMABLE)
def test_reclaim_refuses_what_the_contract_reverts(case):
    """Each revert has its reason."""
    source, target, index, reason = IRRECLAIMABLE[case]
    with pytest.raises(InvalidValue, match=reason):
        predict_reclaim(source, target, index)
