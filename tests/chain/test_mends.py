"""Where our adjudicator and batch operator differ from the published ones, and that it is what the reference says.

`docs/reference/contracts.md`, "Differences", has a row for each. What the published contracts do is tested beside it.
"""

from __future__ import annotations

import pytest

from tests.chain import cast, published
from tests.chain.cast import World, for_tests
from tests.chain.replay import STRAY
from tests.chain.states import (
    ADDRESSES,
    NATIVE,
    Channel,
    allocation,
    encode_outcome,
    exits,
    external,
    guarantee,
)  # fmt: skip

ALICE, BOB, IRENE = (ADDRESSES[name] for name in ("alice", "bob", "irene"))
FEE_SHORT = "Received amount differs"


def world_of(load=None):
    world = World(load) if load else World()
    for address in ADDRESSES.values():
        world.give(address, 1000)
        assert world.token.send(address, "approve", world.adjudicator.address, 2**256 - 1).ok
    return world


@pytest.fixture
def ours():
    return world_of()


@pytest.fixture
def theirs():
    return world_of(published.load)


def concluded(world, outcome, holdings=(), nonce=1):
    """A channel of Alice and Bob, finalized with this outcome; `holdings` are (asset, amount)."""
    channel = Channel((ALICE, BOB), world.consensus.address, nonce)
    for asset, amount in holdings:
        value = amount if asset == NATIVE else 0
        receipt = world.adjudicator.send(ALICE, "deposit", asset, channel.id, 0, amount, value=value)
        assert receipt.ok, receipt.reason
    receipt = world.adjudicator.send(
        ALICE, "conclude", channel.fixed, channel.state(outcome, 3, is_final=True).signed()
    )
    assert receipt.ok, receipt.reason
    return channel


def transfer(world, channel, outcome, *indices, index=0):
    return world.adjudicator.send(
        ALICE, "transfer", index, channel.id, encode_outcome(outcome), bytes(32), list(indices)
    )


# Guarantee index

TARGET = b"\x0e" * 32
GUARANTEED = exits(
    NATIVE, allocation(ALICE, 2), allocation(BOB, 3), guarantee(TARGET, 5, ALICE, BOB),
)  # fmt: skip


@pytest.mark.parametrize("indices", [(2,), (0, 2), (1, 2), (0, 1, 2), ()])
def test_a_guarantee_is_never_transferred(ours, indices):
    """At whatever place in the indices it stands: it would be paid to the channel and could not be reclaimed."""
    channel = concluded(ours, GUARANTEED, [(NATIVE, 10)])
    assert transfer(ours, channel, GUARANTEED, *indices).reason == "cannot transfer a guarantee"
    assert ours.holdings(NATIVE, TARGET) == 0


@pytest.mark.parametrize("indices", [(2,), (0, 2), (1, 2)])
def test_the_published_adjudicator_transfers_guarantees(theirs, indices):
    """What is mended: it looks at the type of another allocation."""
    channel = concluded(theirs, GUARANTEED, [(NATIVE, 10)])
    assert transfer(theirs, channel, GUARANTEED, *indices).ok
    assert theirs.holdings(NATIVE, TARGET) == 5


def test_a_guarantee_does_not_hinder_others(ours, theirs):
    """One in front of the list: the published adjudicator refuses what stands behind it."""
    outcome = exits(NATIVE, guarantee(TARGET, 5, ALICE, BOB), allocation(ALICE, 2))
    for world, reason in ((ours, None), (theirs, "cannot transfer a guarantee")):
        channel = concluded(world, outcome, [(NATIVE, 7)])
        assert transfer(world, channel, outcome, 1).reason == reason


# Nobody can hinder others for nothing


def refuser(world):
    return cast.deploy(world.evm, for_tests("Refuser")).address


def test_who_gets_nothing_cannot_block_the_others(ours, theirs):
    """A loser with a contract that refuses coin; a payment of zero is not made."""
    for world, reason in ((ours, None), (theirs, "Could not transfer ETH")):
        outcome = exits(NATIVE, allocation(refuser(world), 0), allocation(BOB, 10))
        channel = concluded(world, outcome, [(NATIVE, 10)])
        receipt = world.adjudicator.send(ALICE, "transferAllAssets", channel.id, outcome, bytes(32))
        assert receipt.reason == reason


def test_a_payee_that_refuses_coin_reverts_and_can_be_left_out(ours):
    """As published: a payment that fails is not lost, and `transfer` goes around it."""
    outcome = exits(NATIVE, allocation(refuser(ours), 4), allocation(BOB, 6))
    channel = concluded(ours, outcome, [(NATIVE, 10)])
    receipt = ours.adjudicator.send(ALICE, "transferAllAssets", channel.id, outcome, bytes(32))
    assert receipt.reason == "Could not transfer ETH"
    before = ours.evm.balance(BOB)
    assert transfer(ours, channel, outcome, 1).ok
    assert ours.evm.balance(BOB) == before + 6


def test_an_asset_that_is_there_twice_is_paid_in_order(ours, theirs):
    """Its second exit gets what the first left; the published adjudicator panics, and nobody is paid."""
    for world, reason in ((ours, None), (theirs, "panic 0x11")):
        outcome = (*exits(NATIVE, allocation(ALICE, 7)), *exits(NATIVE, allocation(BOB, 7)))
        channel = concluded(world, outcome, [(NATIVE, 10)])
        receipt = world.adjudicator.send(IRENE, "transferAllAssets", channel.id, outcome, bytes(32))
        assert receipt.reason == reason
    assert ours.evm.balance(ours.adjudicator.address) == 0


# Stray coin


def test_coin_sent_along_with_a_token_deposit_is_refused(ours, theirs):
    """The published adjudicator keeps it for ever."""
    for world, reason in ((ours, STRAY), (theirs, None)):
        token = world.token.address
        receipt = world.adjudicator.send(ALICE, "deposit", token, TARGET, 0, 5, value=1)
        assert receipt.reason == reason


@pytest.mark.parametrize("name", ["adjudicator", "batch"])
def test_coin_without_a_call_is_refused(ours, name):
    """Neither contract has a way to take it."""
    receipt = ours.evm.send(ALICE, getattr(ours, name).address, b"", 1)
    assert not receipt.ok


IDS = [b"\x0a" * 32, b"\x0b" * 32]


@pytest.mark.parametrize("value", [4, 6])
def test_a_batch_of_coin_takes_exactly_its_sum(ours, value):
    """More would be stuck in the batch operator; less reverts."""
    receipt = ours.batch.send(ALICE, "deposit_batch_eth", IDS, [0, 0], [2, 3], value=value)
    assert not receipt.ok
    assert receipt.reason == ("revert" if value < 5 else STRAY)
    assert ours.batch.send(ALICE, "deposit_batch_eth", IDS, [0, 0], [2, 3], value=5).ok
    assert ours.evm.balance(ours.batch.address) == 0


def test_the_published_batch_operator_keeps_what_is_too_much(theirs):
    assert theirs.batch.send(ALICE, "deposit_batch_eth", IDS, [0, 0], [2, 3], value=6).ok
    assert theirs.evm.balance(theirs.batch.address) == 1


def test_a_batch_of_tokens_refuses_coin(ours):
    token = ours.token.address
    assert ours.token.send(ALICE, "approve", ours.batch.address, 100).ok
    receipt = ours.batch.send(ALICE, "deposit_batch_erc20", token, IDS, [0, 0], [2, 3], 5, value=1)
    assert receipt.reason == STRAY


# Allowances


def test_a_batch_leaves_no_tokens_and_no_allowance(ours):
    """`totalAmount` is a maximum; what is not needed stays with the sender, and the next batch works."""
    token = ours.token
    assert token.send(ALICE, "approve", ours.batch.address, 100).ok
    for held in ([0, 0], [2, 3]):
        assert ours.batch.send(ALICE, "deposit_batch_erc20", token.address, IDS, held, [2, 3], 9).ok
    assert token.read("balanceOf", ALICE) == 1000 - 10
    assert token.read("balanceOf", ours.batch.address) == 0
    assert token.read("allowance", ours.batch.address, ours.adjudicator.address) == 0


def test_a_batch_takes_no_more_than_agreed(ours):
    assert ours.token.send(ALICE, "approve", ours.batch.address, 100).ok
    receipt = ours.batch.send(ALICE, "deposit_batch_erc20", ours.token.address, IDS, [0, 0], [2, 3], 4)
    assert receipt.reason == "totalAmount too low"


@pytest.mark.parametrize("function", ["deposit_batch_eth", "deposit_batch_erc20"])
def test_lists_of_a_batch_have_one_length(ours, function):
    """As published."""
    head, tail = ([ours.token.address], [5]) if function.endswith("erc20") else ([], [])
    for ids, held, amounts in ((IDS[:1], [0, 0], [2, 3]), (IDS, [0], [2, 3]), (IDS, [0, 0], [2])):
        receipt = ours.batch.send(ALICE, function, *head, ids, held, amounts, *tail)
        assert receipt.reason == "Array lengths must match"


# Tokens as they are in the wild


def odd(world, name, amount=1000):
    """A token that Alice has and lets the adjudicator and the batch operator take."""
    token = cast.deploy(world.evm, for_tests(name))
    assert token.send(ALICE, "mint", ALICE, amount).ok
    for spender in (world.adjudicator, world.batch):
        assert token.send(ALICE, "approve", spender.address, amount).ok
    return token


def test_tokens_that_return_nothing_can_be_paid_out(ours, theirs):
    """The published adjudicator takes them in and cannot pay them out."""
    for world, ok in ((ours, True), (theirs, False)):
        token = odd(world, "SilentToken")
        outcome = exits(token.address, allocation(BOB, 10))
        channel = concluded(world, outcome, [(token.address, 10)])
        receipt = world.adjudicator.send(ALICE, "transferAllAssets", channel.id, outcome, bytes(32))
        assert receipt.ok == ok
        assert token.read("balanceOf", BOB) == (10 if ok else 0)


def test_a_payment_that_returns_false_reverts(ours, theirs):
    """The published adjudicator takes it for made: the payee has lost its tokens."""
    for world, reason in ((ours, "SafeERC20: ERC20 operation did not succeed"), (theirs, None)):
        token = odd(world, "FalseToken")
        outcome = exits(token.address, allocation(BOB, 10))
        channel = concluded(world, outcome, [(token.address, 10)])
        assert token.send(BOB, "freeze", True).ok
        receipt = world.adjudicator.send(ALICE, "transferAllAssets", channel.id, outcome, bytes(32))
        assert receipt.reason == reason
        assert world.holdings(token.address, channel.id) == (0 if reason is None else 10)


def test_a_deposit_that_returns_false_reverts(ours):
    token = odd(ours, "FalseToken")
    assert token.send(BOB, "freeze", True).ok
    receipt = ours.adjudicator.send(ALICE, "deposit", token.address, TARGET, 0, 10)
    assert receipt.reason == "SafeERC20: ERC20 operation did not succeed"


def test_tokens_that_arrive_short_are_refused(ours, theirs):
    """The published adjudicator owes more than it has, and the last to be paid gets nothing."""
    for world, reason in ((ours, FEE_SHORT), (theirs, None)):
        token = odd(world, "FeeToken")
        receipt = world.adjudicator.send(ALICE, "deposit", token.address, TARGET, 0, 100)
        assert receipt.reason == reason
        owed = world.holdings(token.address, TARGET)
        assert (owed <= token.read("balanceOf", world.adjudicator.address)) == (reason is not None)


@pytest.mark.parametrize("name", ["SilentToken", "FalseToken"])
def test_odd_tokens_can_be_deposited_in_batches(ours, name):
    """Also by a token that refuses to change an allowance which is not zero."""
    token = odd(ours, name)
    for held in ([0, 0], [2, 3]):
        receipt = ours.batch.send(ALICE, "deposit_batch_erc20", token.address, IDS, held, [2, 3], 5)
        assert receipt.ok, receipt.reason
    assert ours.holdings(token.address, IDS[1]) == 6


def test_a_batch_operator_needs_an_adjudicator(ours):
    """Its calls would succeed without one, and keep what they were given."""
    code = cast.contracts.load("BatchOperator").creation_code(b"\x77" * 20)
    with pytest.raises(ValueError, match="no adjudicator at this address"):
        ours.evm.deploy(ALICE, code)


def test_an_address_without_code_is_no_token(ours):
    receipt = ours.adjudicator.send(ALICE, "deposit", b"\x77" * 20, TARGET, 0, 10)
    assert receipt.reason == "Address: call to non-contract"


# Calls from within


def puppet(world):
    """A contract that strikes once from inside a token's hook, or when it is paid."""
    return cast.deploy(world.evm, for_tests("Puppet"))


def deposit_within_deposit(world):
    """Five from inside seven; the token and the outer receipt."""
    token, owner = cast.deploy(world.evm, for_tests("HookToken")), puppet(world)
    assert token.send(ALICE, "mint", owner.address, 100).ok
    adjudicator = world.adjudicator
    approve = token.interface.call("approve", adjudicator.address, 100)
    assert owner.send(ALICE, "run", token.address, approve).ok
    inner, outer = (adjudicator.interface.call("deposit", token.address, TARGET, 0, amount) for amount in (5, 7))
    assert owner.send(ALICE, "arm", adjudicator.address, inner).ok
    return token, owner.send(ALICE, "run", adjudicator.address, outer)


def test_a_deposit_within_a_deposit_is_refused(ours):
    """A token that calls its owner first: what arrives inside would be taken for part of the outer deposit."""
    token, receipt = deposit_within_deposit(ours)
    assert receipt.reason == FEE_SHORT
    assert ours.holdings(token.address, TARGET) == token.read("balanceOf", ours.adjudicator.address) == 0


def test_the_published_adjudicator_forgets_a_deposit_within_a_deposit(theirs):
    """What is mended: five arrive inside seven, and seven are known of; the five belong to nobody."""
    token, receipt = deposit_within_deposit(theirs)
    assert receipt.ok
    assert token.read("balanceOf", theirs.adjudicator.address) == 12
    assert theirs.holdings(token.address, TARGET) == 7


def test_a_payment_within_a_deposit_makes_no_money(ours):
    """A channel is paid out from inside a deposit into it, and as much comes in elsewhere, so that the balance rises as
    it should: what the channel held before the deposit must not count any more."""
    token, owner = cast.deploy(ours.evm, for_tests("HookToken")), puppet(ours)
    adjudicator = ours.adjudicator
    for holder in (ALICE, owner.address):
        assert token.send(ALICE, "mint", holder, 100).ok
    approve = token.interface.call("approve", adjudicator.address, 100)
    assert token.send(ALICE, "approve", adjudicator.address, 100).ok
    assert owner.send(ALICE, "run", token.address, approve).ok
    outcome = exits(token.address, allocation(owner.address, 10))
    channel = concluded(ours, outcome, [(token.address, 10)])
    calls = [
        adjudicator.interface.call("transferAllAssets", channel.id, outcome, bytes(32)),
        adjudicator.interface.call("deposit", token.address, TARGET, 0, 10),
    ]
    for call in calls:
        assert owner.send(ALICE, "arm", adjudicator.address, call).ok
    outer = adjudicator.interface.call("deposit", token.address, channel.id, 10, 10)
    assert owner.send(ALICE, "run", adjudicator.address, outer).ok
    assert owner.read("succeeded") == 2
    owed = ours.holdings(token.address, channel.id) + ours.holdings(token.address, TARGET)
    assert owed == token.read("balanceOf", adjudicator.address) == 20


def test_a_payee_that_calls_back_is_paid_once(ours):
    """The status and holdings are written before anybody is paid."""
    payee = puppet(ours)
    outcome = exits(NATIVE, allocation(payee.address, 4), allocation(BOB, 6))
    channel = concluded(ours, outcome, [(NATIVE, 10)])
    concluded(ours, outcome, [(NATIVE, 10)], nonce=2)  # coin that a second payment could take
    again = ours.adjudicator.interface.call("transferAllAssets", channel.id, outcome, bytes(32))
    assert payee.send(ALICE, "arm", ours.adjudicator.address, again).ok
    assert ours.adjudicator.send(ALICE, "transferAllAssets", channel.id, outcome, bytes(32)).ok
    assert (payee.read("struck"), payee.read("succeeded")) == (1, 0)
    assert ours.evm.balance(payee.address) == 4


def test_a_final_state_is_concluded_and_paid_once_within_a_payment(ours):
    """`concludeAndTransferAllAssets` called again by a payee of it: the channel is forgotten by then, so the final
    state counts anew, and there is nothing left for it."""
    payee = puppet(ours)
    channel = Channel((ALICE, BOB), ours.consensus.address)
    state = channel.state(exits(NATIVE, allocation(payee.address, 4), allocation(BOB, 6)), 3, is_final=True)
    assert ours.adjudicator.send(ALICE, "deposit", NATIVE, channel.id, 0, 10, value=10).ok
    assert ours.adjudicator.send(ALICE, "deposit", NATIVE, TARGET, 0, 10, value=10).ok
    again = ours.adjudicator.interface.call("concludeAndTransferAllAssets", channel.fixed, state.signed())
    assert payee.send(ALICE, "arm", ours.adjudicator.address, again).ok
    assert ours.adjudicator.send(ALICE, "concludeAndTransferAllAssets", channel.fixed, state.signed()).ok
    assert ours.evm.balance(payee.address) == 4
    assert ours.evm.balance(ours.adjudicator.address) == ours.holdings(NATIVE, TARGET) == 10


def test_views_read_what_is_stored(ours):
    """`statusOf`, `unpackStatus` and `holdings` beside the slots they are read from."""
    channel = concluded(ours, exits(NATIVE, allocation(external(BOB), 1)), [(NATIVE, 3)])
    status = ours.status(channel.id)
    assert ours.adjudicator.read("statusOf", channel.id) == status
    record, finalizes, fingerprint = ours.adjudicator.read("unpackStatus", channel.id)
    assert record << 208 | finalizes << 160 | fingerprint == int.from_bytes(status, "big")
    assert ours.adjudicator.read("holdings", NATIVE, channel.id) == ours.holdings(NATIVE, channel.id) == 3
