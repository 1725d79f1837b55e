"""Top-ups of a running channel: signed first, then deposited, then used; whoever does not pay misses it alone."""

from __future__ import annotations

import pytest

from scapp.channels.chain import calls
from scapp.channels.chain_link import at_stake_in
from scapp.channels.channel.setup import SetupError
from scapp.channels.channel.shares import with_room
from scapp.channels.errors import LocalError
from scapp.channels.onchain import Deposit
from scapp.channels.types import ZERO_ADDRESS, ChannelId, Destination
from tests.support.plain_chain import CONSENSUS, TOKEN
from tests.support.sim import SimNode
from tests.support.sim_chain import DURATION_S, ChainSim, close
from tests.support.top_ups import open_with_room

HEADROOM = 100
# Of two participants: Alice 0, Bob 1; their reserves 2 and 3; the headroom 4.
TOP_UP, USE = b"move:4:3:5", b"move:3:1:5"


def with_top_ups(*brought: int, headroom: int = HEADROOM) -> tuple[ChainSim, bytes]:
    """A running channel whose participants have brought that much coin and may bring more."""
    sim = ChainSim(len(brought))
    channel = open_with_room(sim, [(brought, headroom)])
    sim.until(lambda: set(sim.phases(channel)) == {"running"})
    return sim, channel


def approve(node: SimNode, channel: bytes, amount: int) -> None:
    node.input(channel, lambda engine, _: engine.top_up(ZERO_ADDRESS, amount))


def say(sim: ChainSim, channel: bytes, index: int, *payloads: bytes) -> None:
    for payload in payloads:
        sim.nodes[index].submit(channel, payload)
    sim.run()


def amounts(sim: ChainSim, channel: bytes, index: int = 0) -> tuple[int, ...]:
    state = sim.nodes[index].engine(channel).state
    assert state.head is not None
    return state.setup.unpack(state.head.amounts)


def held(sim: ChainSim, channel: bytes) -> int:
    return sim.chain.world.held(ZERO_ADDRESS, ChannelId(channel))


def refusals(sim: ChainSim, channel: bytes, index: int) -> list[tuple[str, str]]:
    return [(each.code, each.reason) for each in sim.nodes[index].engine(channel).state.remembered]


def test_room_for_top_ups_needs_no_deposit_to_run() -> None:
    """What nobody has said to deposit is not waited for."""
    sim, channel = with_top_ups(5, 3)
    assert held(sim, channel) == 8
    say(sim, channel, 1, b"move:0:1:2")
    assert amounts(sim, channel) == (3, 5, 0, 0, HEADROOM)


def test_a_top_up_is_signed_then_deposited_then_used() -> None:
    sim, channel = with_top_ups(5, 3)
    approve(sim.nodes[1], channel, 5)
    say(sim, channel, 1, TOP_UP)
    assert amounts(sim, channel) == (5, 3, 0, 5, HEADROOM - 5)
    assert held(sim, channel) == 8, "nothing is deposited before everybody has signed for it"
    assert "participant 1's top-up of 5" in sim.nodes[0].engine(channel).waiting_for
    sim.until(lambda: not sim.nodes[0].engine(channel).waiting_for)
    assert held(sim, channel) == 13
    say(sim, channel, 1, USE)
    assert amounts(sim, channel) == (5, 8, 0, 0, HEADROOM - 5)
    close(sim, channel)
    sim.until(lambda: set(sim.phases(channel)) == {"settled"})
    assert [sim.paid(node) for node in sim.nodes] == [(0,), (0,)]
    assert [each.amount_max for _, each in sim.transactions if isinstance(each, Deposit)] == [5, 3, 5]


def test_what_is_not_confirmed_cannot_be_played_with() -> None:
    """The app would owe what the chain may not have."""
    sim, channel = with_top_ups(5, 3)
    approve(sim.nodes[1], channel, 5)
    say(sim, channel, 1, TOP_UP)
    say(sim, channel, 1, USE)
    assert amounts(sim, channel) == (5, 3, 0, 5, HEADROOM - 5)
    ((code, reason),) = refusals(sim, channel, 1)
    assert code == "unfunded"
    assert "13 of asset" in reason
    assert sim.phases(channel) == ["running", "running"]


def test_the_app_goes_on_while_a_top_up_is_missing() -> None:
    """Its owner alone misses it: at the end, too."""
    sim, channel = with_top_ups(5, 3)
    approve(sim.nodes[1], channel, 5)
    say(sim, channel, 1, TOP_UP)
    sim.silence(sim.nodes[1])
    sim.blocks(5)
    sim.nodes[0].input(channel, lambda engine, _: engine.leave("test"))
    sim.until(lambda: sim.phases(channel)[0] == "settled", seconds=120)
    assert [sim.paid(node) for node in sim.nodes] == [(0,), (0,)]


def test_a_deposit_that_comes_after_the_end_is_its_owners() -> None:
    """Bob's transaction was on its way when the channel was paid out: the contract still owes it to him."""
    sim, channel = with_top_ups(5, 3)
    approve(sim.nodes[1], channel, 5)
    say(sim, channel, 1, TOP_UP)
    close(sim, channel)
    sim.until(lambda: set(sim.phases(channel)) == {"settled"})
    sim.raw(sim.nodes[1], calls.Deposit(ZERO_ADDRESS, ChannelId(channel), 0, 5), 5)
    sim.show()
    sim.until(lambda: held(sim, channel) == 0)
    assert [sim.paid(node) for node in sim.nodes] == [(0,), (0,)]


def test_no_node_signs_for_a_deposit_that_its_operator_has_not_approved() -> None:
    """Neither when its own user asks, nor when another does."""
    sim, channel = with_top_ups(5, 3)
    for author in (0, 1):
        say(sim, channel, author, TOP_UP)
        assert amounts(sim, channel) == (5, 3, 0, 0, HEADROOM)
        code, reason = refusals(sim, channel, author)[-1]
        assert code == "outcome"
        assert "whose operator has approved 0" in reason
    say(sim, channel, 1, b"move:0:1:1")
    assert amounts(sim, channel)[:2] == (4, 4), "the channel goes on"


def test_an_approval_is_spent_once() -> None:
    sim, channel = with_top_ups(5, 3)
    approve(sim.nodes[1], channel, 5)
    say(sim, channel, 1, TOP_UP)
    sim.until(lambda: held(sim, channel) == 13)
    sim.blocks(5)
    say(sim, channel, 1, USE)
    say(sim, channel, 1, TOP_UP)
    assert amounts(sim, channel) == (5, 8, 0, 0, HEADROOM - 5)


def test_the_sequencer_approves_for_itself_as_everybody_does() -> None:
    sim, channel = with_top_ups(5, 3)
    say(sim, channel, 0, b"move:4:2:7")
    assert amounts(sim, channel) == (5, 3, 0, 0, HEADROOM)
    approve(sim.nodes[0], channel, 7)
    say(sim, channel, 0, b"move:4:2:7")
    sim.until(lambda: held(sim, channel) == 15)
    sim.blocks(5)
    say(sim, channel, 0, b"move:2:1:7")
    assert amounts(sim, channel) == (5, 10, 0, 0, HEADROOM - 7)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"move:4:0:1", "no reserve slot says who deposits"),
        (b"move:0:4:1", "never grows"),
        (b"move:3:4:5", "never grows"),
        (b"move:4:2:1", "two top-ups at once"),
    ],
)
def test_no_outcome_is_signed_that_the_chain_would_not_pay(payload: bytes, reason: str) -> None:
    """A top-up of Bob's is on its way; whatever the app says, nobody else may lose by it or gain from it."""
    sim, channel = with_top_ups(5, 3)
    for node in sim.nodes:
        approve(node, channel, 50)
    say(sim, channel, 1, TOP_UP)
    before = amounts(sim, channel)
    say(sim, channel, 0, payload)
    assert amounts(sim, channel) == before
    ((code, found),) = refusals(sim, channel, 0)
    assert code == "outcome"
    assert reason in found


def test_other_messages_of_the_batch_are_not_lost() -> None:
    """The entry to blame is found one at a time."""
    sim, channel = with_top_ups(5, 3)
    sim.nodes[0].submit(channel, b"first")  # in flight, so that what follows makes one batch
    for payload in (b"move:0:1:1", b"move:4:1:9", b"move:0:1:2"):
        sim.nodes[0].submit(channel, payload)
    sim.run()
    assert amounts(sim, channel) == (2, 6, 0, 0, HEADROOM)
    assert [code for code, _ in refusals(sim, channel, 0)] == ["outcome"]


def test_what_one_participant_may_not_have_approved_stands_alone() -> None:
    """The sequencer cannot know; so a refusal takes nobody else's message along, and the channel goes on."""
    sim, channel = with_top_ups(5, 3)
    sim.nodes[0].submit(channel, b"first")
    for payload in (b"move:0:1:1", TOP_UP, b"move:0:1:2"):
        sim.nodes[0].submit(channel, payload)
    sim.run()
    assert amounts(sim, channel) == (2, 6, 0, 0, HEADROOM)
    ((code, reason),) = refusals(sim, channel, 0)
    assert code == "outcome"
    assert "whose operator has approved 0" in reason


@pytest.mark.parametrize("index", [0, 1])
def test_a_top_up_survives_a_crash_at_any_time(index: int) -> None:
    """Approved, signed, deposited: nothing is forgotten and nothing done twice."""
    sim, channel = with_top_ups(5, 3)
    approve(sim.nodes[1], channel, 5)
    sim.nodes[index].crash()
    sim.nodes[index].start()
    sim.show()
    say(sim, channel, 1, TOP_UP)
    assert amounts(sim, channel) == (5, 3, 0, 5, HEADROOM - 5)
    for _ in range(8):
        sim.nodes[index].crash()
        sim.nodes[index].start()
        sim.show()
        sim.block()
    assert held(sim, channel) == 13
    say(sim, channel, 1, USE)
    assert amounts(sim, channel) == (5, 8, 0, 0, HEADROOM - 5)


def test_an_old_state_without_the_top_up_is_answered() -> None:
    """Its money is under the newest state, like all other."""
    sim, channel = with_top_ups(5, 3)
    approve(sim.nodes[1], channel, 5)
    say(sim, channel, 1, TOP_UP)
    sim.until(lambda: held(sim, channel) == 13)
    sim.blocks(5)
    say(sim, channel, 1, USE, b"move:1:0:4")
    sim.silence(sim.nodes[0])
    sim.nodes[1].input(channel, lambda engine, _: engine.leave("test"))
    sim.until(lambda: sim.phases(channel)[1] == "settled", seconds=120)
    assert [sim.paid(node) for node in sim.nodes] == [(4,), (-4,)]


def away_before_it_is_confirmed() -> tuple[ChainSim, bytes]:
    """Bob has made his top-up and seen it in the newest block; while he is away a reorganisation drops it."""
    sim, channel = with_top_ups(5, 3)
    approve(sim.nodes[1], channel, 5)
    say(sim, channel, 1, TOP_UP)
    sim.until(lambda: held(sim, channel) == 13)
    sim.silence(sim.nodes[1])
    sim.chain.reorganise(1, drop=True)
    sim.blocks(6, DURATION_S // 5)
    sim.unsilence(sim.nodes[1])
    sim.blocks(5)
    return sim, channel


def test_a_top_up_that_went_while_its_depositor_was_away_is_missed_and_no_more() -> None:
    """All that was confirmed is there, so the channel goes on; but the top-up is not made again before it is signed
    anew."""
    sim, channel = away_before_it_is_confirmed()
    assert sim.phases(channel) == ["running", "running"]
    assert held(sim, channel) == 8
    assert "does not make again" in sim.nodes[1].engine(channel).waiting_for
    sim.nodes[1].crash()
    sim.nodes[1].start()
    sim.show()
    sim.blocks(3)
    assert held(sim, channel) == 8, "not after a restart either"
    say(sim, channel, 1, b"move:0:1:1")
    assert amounts(sim, channel)[:2] == (4, 4), "the channel goes on"
    approve(sim.nodes[1], channel, 2)
    say(sim, channel, 1, b"move:4:3:2")
    sim.until(lambda: held(sim, channel) == 15)
    sim.blocks(5)
    say(sim, channel, 1, b"move:3:1:7")
    close(sim, channel)
    sim.until(lambda: set(sim.phases(channel)) == {"settled"})
    assert [sim.paid(node) for node in sim.nodes] == [(-1,), (1,)]


def test_a_channel_that_ends_without_the_top_up_that_went_pays_everybody_else() -> None:
    """The reserve ranks last; what is left of the outcome is known."""
    sim, channel = away_before_it_is_confirmed()
    sim.nodes[1].input(channel, lambda engine, _: engine.leave("test"))
    sim.until(lambda: set(sim.phases(channel)) == {"settled"}, seconds=120)
    assert held(sim, channel) == 0
    assert [sim.paid(node) for node in sim.nodes] == [(0,), (0,)]


def test_a_strangers_deposit_makes_a_top_up_smaller() -> None:
    sim, channel = with_top_ups(5, 3)
    approve(sim.nodes[1], channel, 5)
    say(sim, channel, 1, TOP_UP)
    sim.raw(sim.nodes[0], calls.Deposit(ZERO_ADDRESS, ChannelId(channel), 8, 2), 2)
    sim.until(lambda: held(sim, channel) == 13)
    sim.blocks(5)
    say(sim, channel, 1, USE)
    assert amounts(sim, channel) == (5, 8, 0, 0, HEADROOM - 5)
    assert sim.paid(sim.nodes[1]) == (-6,)


def test_assets_are_topped_up_apart() -> None:
    sim = ChainSim(2, assets=(ZERO_ADDRESS, TOKEN))
    channel = open_with_room(sim, [((5, 3), 10), ((2, 1), 20)])
    sim.until(lambda: set(sim.phases(channel)) == {"running"})
    sim.nodes[0].input(channel, lambda engine, _: engine.top_up(TOKEN, 4))
    say(sim, channel, 0, b"move:9:7:4")
    sim.until(lambda: sim.view(channel).confirmed.holdings == (8, 7))
    say(sim, channel, 0, b"move:7:6:4")
    close(sim, channel)
    sim.until(lambda: set(sim.phases(channel)) == {"settled"})
    assert [sim.paid(node) for node in sim.nodes] == [(0, -4), (0, 4)]


def test_what_cannot_be_topped_up_says_why() -> None:
    sim, channel = with_top_ups(5, 3)
    engine = sim.nodes[1].engine(channel)
    with pytest.raises(LocalError, match="1 to 100 are possible"):
        engine.top_up(ZERO_ADDRESS, HEADROOM + 1)
    with pytest.raises(LocalError, match="1 to 100 are possible"):
        engine.top_up(ZERO_ADDRESS, 0)
    with pytest.raises(LocalError, match="holds nothing of asset"):
        engine.top_up(TOKEN, 1)
    plain = ChainSim(2)
    other = plain.fund((5,), (3,))
    plain.run()
    with pytest.raises(LocalError, match="without room"):
        plain.nodes[1].engine(other).top_up(ZERO_ADDRESS, 1)
    close(sim, channel)
    with pytest.raises(LocalError, match="closed"):
        engine.top_up(ZERO_ADDRESS, 1)


@pytest.mark.parametrize("wrong", ["reserve", "headroom", "missing"])
def test_slots_that_begin_with_more_are_room_only_in_its_form(wrong: str) -> None:
    """Reserves are paid like first slots, the headroom like the first of them: nobody else gains by what is over."""
    sim = ChainSim(2)
    first = [(ZERO_ADDRESS, bytes(12) + sim.account(node), 5) for node in sim.nodes]
    slots = with_room(first, 2, 9)
    stranger = Destination(bytes(12) + b"\x55" * 20)
    if wrong == "missing":
        del slots[2]
    else:
        at = {"reserve": 3, "headroom": 4}[wrong]
        slots[at] = (slots[at][0], stranger, slots[at][2])
    made = tuple((asset, destination, amount.to_bytes(32, "big")) for asset, destination, amount in slots)
    with pytest.raises(SetupError, match="nobody deposits for it"):
        sim.nodes[0].open(sim.nodes[1:], made=made, app_definition=CONSENSUS, challenge_duration=DURATION_S)


def test_what_was_added_counts_as_put_up() -> None:
    """For the limits of other channels: what is approved, announced and used, and no less than what was brought."""
    sim, channel = with_top_ups(5, 3)
    state = lambda: sim.nodes[1].engine(channel).state  # noqa: E731 - as it stands at each point
    assert at_stake_in(state()) == {ZERO_ADDRESS: 3}
    approve(sim.nodes[1], channel, 5)
    assert at_stake_in(state()) == {ZERO_ADDRESS: 8}
    say(sim, channel, 1, TOP_UP)
    assert at_stake_in(state()) == {ZERO_ADDRESS: 8}
    sim.until(lambda: held(sim, channel) == 13)
    sim.blocks(5)
    say(sim, channel, 1, USE)
    assert at_stake_in(state()) == {ZERO_ADDRESS: 8}
    say(sim, channel, 1, b"move:1:0:6")
    assert at_stake_in(state()) == {ZERO_ADDRESS: 3}
