"""The apps on chain: which states, signed by whom, a challenge may register."""

from __future__ import annotations

import eth_abi
import pytest

from tests.chain import cast
from tests.chain.cast import World, for_tests
from tests.chain.states import ADDRESSES, GUARANTEE, NATIVE, Channel, allocation, exits, voucher

ALICE, IRENE, BOB, IVAN = (ADDRESSES[name] for name in ("alice", "irene", "bob", "ivan"))
TOKEN = b"\x70" * 20


@pytest.fixture(scope="module")
def world():
    """Tests here read only, but for those that take a world of their own."""
    return World()


def supported(world, proof, candidate):
    """None when the state is supported, else the reason."""
    channel, part = candidate
    receipt = world.evm.view(
        world.adjudicator.address,
        world.adjudicator.interface.call("stateIsSupported", channel.fixed, proof, part),
    )
    if receipt.ok:
        good, reason = world.adjudicator.interface.answer("stateIsSupported", receipt.output)
        return None if good else reason
    return receipt.reason


def signed(state, *names):
    """(channel, signed variable part)"""
    return state.channel, state.signed(*names)


# Payments


@pytest.fixture(scope="module")
def payments(world):
    """Alice pays Bob through Irene."""
    return Channel((ALICE, IRENE, BOB), world.payments.address)


def slots(asset, alice, bob, *more):
    return exits(asset, allocation(ALICE, alice), allocation(BOB, bob), *more)


def redeem(world, channel, new, amount=4, old=None, payer="alice", names=("bob",), asset=NATIVE, turn=2):
    postfund = channel.state(old or slots(asset, 10, 0), 1)
    return supported(
        world, [postfund.signed()], signed(channel.state(new, turn, voucher(channel, amount, payer)), *names)
    )


def test_a_voucher_is_redeemed(world, payments):
    """The payee takes what the payer's latest voucher says."""
    assert redeem(world, payments, slots(NATIVE, 6, 4)) is None


def test_a_voucher_over_tokens_is_redeemed(world, payments):
    """The published app knows the chain's own coin only."""
    assert redeem(world, payments, slots(TOKEN, 6, 4), asset=TOKEN) is None


def test_the_payee_may_have_something_at_first(world, payments):
    """The voucher's amount comes on top, so that the sum stays and the ledgers can reclaim."""
    assert redeem(world, payments, slots(NATIVE, 6, 7), old=slots(NATIVE, 10, 3)) is None


@pytest.mark.parametrize(
    ("new", "reason"),
    [
        (slots(NATIVE, 7, 4), "Alice not adjusted correctly"),
        (slots(NATIVE, 6, 5), "Bob not adjusted correctly"),
        (slots(TOKEN, 6, 4), "asset changed"),
        (slots(NATIVE, 6, 4) * 2, "only one asset allowed"),
        ((), "only one asset allowed"),
        (slots(NATIVE, 6, 4, allocation(BOB, 0)), "only two allocations allowed"),
        (exits(NATIVE, allocation(ALICE, 6)), "only two allocations allowed"),
        (exits(NATIVE, allocation(BOB, 6), allocation(BOB, 4)), "destination changed"),
        (exits(NATIVE, allocation(BOB, 4), allocation(ALICE, 6)), "destination changed"),
        (exits(NATIVE, allocation(ALICE, 6), allocation(IVAN, 4)), "destination changed"),
        (exits(NATIVE, allocation(ALICE, 6), allocation(BOB, 4, GUARANTEE)), "only simple allocations allowed"),
    ],
)  # fmt: skip
def test_a_redemption_moves_the_amount_and_nothing_else(world, payments, new, reason):
    assert redeem(world, payments, new) == reason


def test_a_voucher_above_the_balance_is_refused(world, payments):
    assert redeem(world, payments, slots(NATIVE, 0, 11), amount=11) == "panic 0x11"


def test_a_voucher_of_somebody_else_is_refused(world, payments):
    assert redeem(world, payments, slots(NATIVE, 6, 4), payer="bob") == "invalid signature for voucher"


def test_a_redemption_needs_the_payee(world, payments):
    assert redeem(world, payments, slots(NATIVE, 6, 4), names=("alice", "irene")) == "redemption not signed by Bob"


def test_a_redemption_has_turn_2(world, payments):
    assert redeem(world, payments, slots(NATIVE, 6, 4), turn=3) == "bad candidate turnNum; |proof|=1"


@pytest.mark.parametrize("turn", [0, 1])
def test_prefund_and_postfund_need_everybody(world, payments, turn):
    state = payments.state(slots(NATIVE, 10, 0), turn)
    assert supported(world, [], signed(state)) is None
    assert supported(world, [], signed(state, "alice", "bob")) == "!unanimous; |proof|=0"


def test_the_payee_cannot_take_a_directly_funded_channel():
    """End to end: Bob points Alice's slot at himself. Alice gets the rest back."""
    world = World()
    for address in (ALICE, BOB):
        world.give(address)
    channel = Channel((ALICE, BOB), world.payments.address)
    assert world.adjudicator.send(ALICE, "deposit", NATIVE, channel.id, 0, 10, value=10).ok
    proof = [channel.state(slots(NATIVE, 10, 0), 1).signed()]
    stolen = channel.state(exits(NATIVE, allocation(BOB, 9), allocation(BOB, 1)), 2, voucher(channel, 1))
    fair = channel.state(slots(NATIVE, 9, 1), 2, voucher(channel, 1))
    for state, reason in ((stolen, "destination changed"), (fair, None)):
        receipt = world.adjudicator.send(
            BOB, "challenge", channel.fixed, proof, state.signed("bob"), state.challenger("bob")
        )
        assert receipt.reason == reason
    world.evm.timestamp += 60
    receipt = world.adjudicator.send(IVAN, "transferAllAssets", channel.id, fair.outcome, fair.hash)
    assert receipt.reason == "Channel is virtual."  # nobody can: it was never to be funded so


# Two-party apps


@pytest.fixture(scope="module")
def two_party(world):
    """Alice and Bob, through Irene."""
    app = cast.deploy(world.evm, cast.contracts.load("TwoPartyApp"))
    return Channel((ALICE, IRENE, BOB), app.address)


def later(world, channel, new, turn=2, names=("alice", "bob"), old=None):
    postfund = channel.state(old or slots(NATIVE, 6, 4), 1)
    return supported(world, [postfund.signed()], signed(channel.state(new, turn, b"app"), *names))


@pytest.mark.parametrize("turn", [2, 3, 2**48 - 1])
@pytest.mark.parametrize("names", [("alice", "bob"), ("bob", "alice"), ("alice", "irene", "bob")])
def test_later_states_need_the_two_app_parties(world, two_party, turn, names):
    """Those in between need not sign, and may."""
    assert later(world, two_party, slots(NATIVE, 0, 10), turn, names) is None


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (("irene", "bob"), "not signed by the first participant"),
        (("bob",), "not signed by the first participant"),
        (("alice", "irene"), "not signed by the last participant"),
        (("alice",), "not signed by the last participant"),
        (("ivan",), "not signed by the first participant"),
    ],
)  # fmt: skip
def test_a_state_without_an_app_party_does_not_count(world, two_party, names, reason):
    assert later(world, two_party, slots(NATIVE, 5, 5), names=names) == reason


@pytest.mark.parametrize("turn", [0, 1])
def test_turns_0_and_1_are_everybodys(world, two_party, turn):
    state = two_party.state(slots(NATIVE, 6, 4), turn)
    assert supported(world, [], signed(state)) is None
    assert supported(world, [], signed(state, "alice", "bob")) == "!unanimous; |proof|=0"
    assert later(world, two_party, slots(NATIVE, 6, 4), turn) == "bad candidate turnNum; |proof|=1"


def test_a_later_state_without_proof_does_not_count(world, two_party):
    """Even when everybody signed it: what is agreed by all is final and is concluded."""
    state = two_party.state(slots(NATIVE, 6, 4), 2)
    assert supported(world, [], signed(state)) == "bad candidate turnNum; |proof|=0"


def test_the_proof_is_the_postfund_of_everybody(world, two_party):
    candidate = signed(two_party.state(slots(NATIVE, 6, 4), 2), "alice", "bob")
    postfund = two_party.state(slots(NATIVE, 6, 4), 1)
    prefund = two_party.state(slots(NATIVE, 6, 4), 0)
    assert supported(world, [postfund.signed("alice", "bob")], candidate) == "postfund !unanimous; |proof|=1"
    assert supported(world, [prefund.signed()], candidate) == "bad proof[0].turnNum; |proof|=1"
    assert supported(world, [postfund.signed()] * 2, candidate) == "bad proof length"


@pytest.mark.parametrize(
    ("new", "reason"),
    [
        (slots(NATIVE, 6, 5), "sum changed"),
        (slots(NATIVE, 0, 0), "sum changed"),
        (slots(NATIVE, 2**256 - 1, 2), "panic 0x11"),
        (slots(TOKEN, 6, 4), "asset changed"),
        (slots(NATIVE, 6, 4) * 2, "number of assets changed"),
        ((), "number of assets changed"),
        (slots(NATIVE, 6, 4, allocation(IRENE, 0)), "only two allocations allowed"),
        (exits(NATIVE, allocation(BOB, 4), allocation(ALICE, 6)), "destination changed"),
        (exits(NATIVE, allocation(ALICE, 6), allocation(IVAN, 4)), "destination changed"),
        (exits(NATIVE, allocation(ALICE, 6), allocation(BOB, 4, GUARANTEE)), "only simple allocations allowed"),
    ],
)  # fmt: skip
def test_a_later_state_divides_the_funds_and_changes_nothing_else(world, two_party, new, reason):
    """What hubs signed stays true: the guarantee in their ledgers can be reclaimed from any later outcome."""
    assert later(world, two_party, new) == reason


def test_each_asset_is_divided_by_itself(world, two_party):
    old = slots(NATIVE, 6, 4) + slots(TOKEN, 1, 2)
    assert later(world, two_party, slots(NATIVE, 0, 10) + slots(TOKEN, 3, 0), old=old) is None
    assert later(world, two_party, slots(NATIVE, 6, 4) + slots(TOKEN, 2, 2), old=old) == "sum changed"
    assert later(world, two_party, slots(TOKEN, 1, 2) + slots(NATIVE, 6, 4), old=old) == "asset changed"
    assert later(world, two_party, slots(NATIVE, 6, 4), old=old) == "number of assets changed"


# Turns


@pytest.fixture(scope="module")
def counting(world):
    app = cast.deploy(world.evm, for_tests("CountingApp"))
    return Channel((ALICE, IRENE, BOB), app.address)


MOVERS = ("alice", "irene", "bob")


def moves(channel, first, count=3, number=7, names=None):
    """Consecutive states, each signed by who moves; turn t is participant t mod 3's."""
    states = [
        channel.state(slots(NATIVE, 6, 4), first + i, eth_abi.encode(["uint256"], [number + i])) for i in range(count)
    ]
    movers = names or [MOVERS[(first + i) % 3] for i in range(count)]
    return [signed(state, mover) for state, mover in zip(states, movers, strict=True)]


def by_turns(world, states):
    return supported(world, [part for _, part in states[:-1]], states[-1])


@pytest.mark.parametrize("first", range(5))
def test_a_round_of_moves_is_supported(world, counting, first):
    assert by_turns(world, moves(counting, first)) is None


@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_round_has_as_many_states_as_participants(world, counting, count):
    assert by_turns(world, moves(counting, 4, count)) == "Invalid number of proof states"


@pytest.mark.parametrize("names", [("alice", "bob", "irene"), ("irene", "bob", "ivan"), ("alice", "alice", "alice")])
def test_each_state_is_signed_by_its_mover(world, counting, names):
    assert by_turns(world, moves(counting, 4, names=names)) == "Invalid signedBy"


def test_a_state_with_another_signature_beside_the_movers_is_refused(world, counting):
    states = moves(counting, 4)
    state = counting.state(slots(NATIVE, 6, 4), 6, eth_abi.encode(["uint256"], [9]))
    assert by_turns(world, [*states[:2], signed(state, "alice", "bob")]) == "Invalid signedBy"


def test_turns_are_consecutive(world, counting):
    """States in another order are refused, also where a turn before 0 would be needed."""
    states = moves(counting, 4)
    assert by_turns(world, [states[0], states[2], states[1]]) == "Wrong variablePart.turnNum"
    early = moves(counting, 0)
    assert by_turns(world, [early[2], early[0], early[1]]) == "Wrong variablePart.turnNum"


def test_the_app_checks_each_transition(world, counting):
    first, second, _ = moves(counting, 4)
    wrong = counting.state(slots(NATIVE, 6, 4), 6, eth_abi.encode(["uint256"], [8]))
    assert by_turns(world, [first, second, signed(wrong, "alice")]) == "Counter must be incremented"
    richer = counting.state(slots(NATIVE, 5, 5), 6, eth_abi.encode(["uint256"], [9]))
    assert by_turns(world, [first, second, signed(richer, "alice")]) == "Outcome must not change"
