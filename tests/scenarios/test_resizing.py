"""Money leaves a channel that goes on: its successor takes over the rest, and nobody can lose by it at any step."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import msgspec
import pytest

from scapp.channels.chain import calls
from scapp.channels.channel.full_set import for_contracts
from scapp.channels.channel.session import Successor
from scapp.channels.channel.succession import hindrance
from scapp.channels.drafting import draft_successor
from scapp.channels.errors import LocalError
from scapp.channels.onchain import Challenge, Conclude, Deposit
from scapp.channels.types import ZERO_ADDRESS, ZERO_HASH, Address, ChannelId
from tests.scenarios.test_crash_everywhere import Fuse, wake
from tests.support.checkers import Watch, check_log
from tests.support.plain_chain import CONFIRMATIONS, TOKEN, challenger
from tests.support.sim_chain import TERMS, ChainSim, close, play, running
from tests.support.top_ups import open_with_room

COIN = ZERO_ADDRESS
OWED = (6, 14)  # after one move of 4, of 10 each
OUT = {0: {COIN: 1}, 1: {COIN: 6}}
SLOW = pytest.mark.slow


def played(honest: set[int] | None = None) -> tuple[ChainSim, bytes]:
    """Two have brought 10 each; `OWED` is what they are owed now. Every message of the honest is watched."""
    sim, channel = running([(10,), (10,)])
    Watch(sim, honest)
    play(sim, channel, b"move:0:1:4")
    return sim, channel


def amounts(sim: ChainSim, channel: bytes, index: int = 0) -> tuple[int, ...]:
    state = sim.nodes[index].engine(channel).state
    assert state.head is not None
    return state.setup.unpack(state.head.amounts)


def held(sim: ChainSim, channel: bytes, asset: Address = COIN) -> int:
    return sim.chain.world.held(asset, ChannelId(channel))


def gains(sim: ChainSim) -> list[int]:
    return [sim.paid(node)[0] for node in sim.nodes]


def leave(sim: ChainSim, *channels: bytes, index: int) -> None:
    """As far as there is something to leave."""
    for channel in channels:
        if channel in sim.nodes[index].drivers:
            with contextlib.suppress(LocalError):
                sim.nodes[index].input(channel, lambda engine, _: engine.leave("test"))


def check(sim: ChainSim, *channels: bytes) -> None:
    """The safety rules, by every node's log."""
    for channel in channels:
        for node in sim.nodes:
            check_log(node.log, channel)


@pytest.mark.parametrize("count", [2, 3])
def test_what_is_taken_out_is_paid_and_the_rest_goes_on(count: int) -> None:
    """By one transaction, and without a deposit."""
    sim, channel = running([(10,)] * count)
    Watch(sim)
    play(sim, channel, b"move:0:1:4")
    new = sim.resize(channel, OUT)
    sim.until(lambda: set(sim.phases(new)) == {"running"})
    assert set(sim.phases(channel)) == {"settled"}
    assert gains(sim) == [-9, -4, -10][:count], "10 in, 1 and 6 out"
    assert (held(sim, channel), held(sim, new)) == (0, 10 * count - 7)
    assert amounts(sim, new) == (5, 8, 10)[:count]
    play(sim, new, b"move:1:0:2")
    close(sim, new)
    sim.until(lambda: set(sim.phases(new)) == {"settled"})
    assert gains(sim) == [-2, 2, 0][:count]
    assert sum(isinstance(each, Conclude) for _, each in sim.transactions) == 2
    assert sum(isinstance(each, Deposit) for _, each in sim.transactions) == count
    check(sim, channel, new)


def test_a_successor_has_a_successor() -> None:
    sim, channel = played()
    for left in (19, 18, 17):
        channel = sim.resize(channel, {0: {COIN: 1}})
        sim.until(lambda: set(sim.phases(channel)) == {"running"})  # noqa: B023 - called at once
        assert held(sim, channel) == left


def test_nothing_is_ordered_while_a_successor_is_under_way() -> None:
    """What was said meanwhile is refused when the channel closes, or ordered when it goes on after all."""
    sim, channel = played()
    sim.nodes[1].accept = False
    new = sim.resize(channel, OUT)
    sim.run()
    play(sim, channel, b"move:0:1:1")
    assert amounts(sim, channel) == OWED
    assert f"channel 0x{new.hex()}, which is to renew it" in sim.nodes[0].engine(channel).waiting_for
    sim.nodes[1].input(new, lambda engine, _: engine.reject("not now"))
    sim.run()
    assert sim.phases(new) == ["rejected", "rejected"]
    assert amounts(sim, channel) == (5, 15)
    sim.nodes[1].accept = True
    sim.resize(channel, OUT)
    sim.nodes[1].submit(channel, b"late")
    sim.run()
    sim.until(lambda: sim.phases(channel) == ["closed", "closed"])
    assert sim.nodes[1].decided[-1][1] == "closing"


def test_a_close_that_is_asked_for_goes_first() -> None:
    """It pays everybody as ever, and the successor is given up by both."""
    sim, channel = played()
    sim.nodes[1].accept = False
    new = sim.resize(channel, OUT)
    close(sim, channel)
    sim.until(lambda: sim.phases(channel) == ["settled", "settled"])
    assert gains(sim) == [-4, 4]
    assert sim.phases(new) == ["rejected", "rejected"]


@pytest.mark.parametrize(
    ("victim", "acts"),
    [
        pytest.param(0, False, marks=SLOW),
        (0, True),
        pytest.param(1, False, marks=SLOW),
        pytest.param(1, True, marks=SLOW),
    ],
    ids=["0 dead", "0 silent but on chain", "1 dead", "1 silent but on chain"],
)
def test_one_party_silenced_at_every_message_costs_the_other_nothing(victim: int, acts: bool) -> None:
    """The other leaves what is there, and is paid all it was owed by the one state or the other."""
    ends = set()
    for step in range(100):
        sim, channel = played()
        left = silence_after(sim, victim, step, acts=acts)
        new = sim.resize(channel, OUT)
        sim.run()
        sim.blocks(10)
        if not left():
            assert step > 2
            break
        other = 1 - victim
        leave(sim, channel, new, index=other)
        sim.until(lambda: gains(sim)[other] == OWED[other] - 10, seconds=120)  # noqa: B023 - called at once
        sim.blocks(3, seconds=120)
        assert gains(sim)[other] == OWED[other] - 10
        ends.add(sim.phases(new)[other])
        check(sim, channel, new)
    assert len(ends) > 1, "given up or rejected early, paid out late"


def silence_after(sim: ChainSim, victim: int, messages: int, *, acts: bool) -> Callable[[], bool]:
    """After so many messages the victim says nothing more, and does nothing unless it `acts` on chain; tells whether it
    came to that."""
    inner, said = sim.tap, [0]
    assert inner is not None

    def tap(sender: int, to: Address, data: bytes) -> bytes | None:
        said[0] += sender == victim
        if said[0] > messages and not acts:
            sim.silence(sim.nodes[victim])
        return None if sender == victim and said[0] > messages else inner(sender, to, data)

    sim.tap = tap
    return lambda: said[0] > messages


@pytest.mark.parametrize(
    ("victim", "after"), [(1, False), *(pytest.param(*each, marks=SLOW) for each in ((0, False), (0, True), (1, True)))]
)
def test_a_crash_at_every_store_loses_nothing(victim: int, after: bool) -> None:
    """Either the successor runs and the old channel has paid, or the old one runs on; and everybody gets all."""
    for at in range(1, 100):
        sim, channel = played()
        fuse = Fuse(sim.nodes[victim], at, after=after)
        new = sim.resize(channel, OUT)
        wake(sim)
        for _ in range(12):
            sim.block()
            wake(sim)
            phases = sim.phases(channel), sim.phases(new)
            if phases[1] == ["running", "running"]:
                break
        if phases[1] == ["running", "running"]:
            assert phases[0] == ["settled", "settled"]
            last = new
        else:
            assert phases[0] == ["running", "running"], (at, phases)
            last = channel
        if not fuse.blown:
            break
        close(sim, last)
        sim.until(lambda: sim.phases(last) == ["settled", "settled"])  # noqa: B023 - called at once
        assert gains(sim) == [-4, 4]
        assert sum(isinstance(each, Deposit) for _, each in sim.transactions) == 2
        check(sim, channel, new)
    assert at > 3


@pytest.mark.parametrize("drop", [False, True])
@pytest.mark.parametrize("depth", [*(pytest.param(n, marks=SLOW) for n in range(1, CONFIRMATIONS)), CONFIRMATIONS])
def test_reorganisations_of_the_conclusion_converge(depth: int, drop: bool) -> None:
    """At every block from the final state on: the money comes back, and moves again."""
    for at in range(6):
        sim, channel = played()
        new = sim.resize(channel, OUT)
        sim.run()
        sim.blocks(at)
        sim.chain.reorganise(min(depth, at + 1), drop=drop)
        sim.show()
        sim.until(lambda: sim.phases(new) == ["running", "running"])  # noqa: B023 - called at once
        assert (held(sim, channel), held(sim, new)) == (0, 13)
        assert gains(sim) == [-9, -4]
        check(sim, channel, new)


@pytest.mark.parametrize("when", ["signed", "concluded"])
def test_an_older_state_of_the_old_channel_always_loses(when: str) -> None:
    """Bob shows what he signed before: the final state that moves the money takes its place."""
    sim, channel = played()
    old = sim.nodes[1].engine(channel)
    (older,) = old.leave("cheat").events and old_challenge(sim, channel)
    new = sim.resize(channel, OUT)
    sim.until(lambda: sim.phases(channel) == ["closed", "closed"])
    if when == "concluded":
        sim.blocks(1)
        assert held(sim, channel) == 0
        sim.chain.reorganise(1, drop=True)
    sim.plain.carry_out(sim.nodes[1].signer, ChannelId(channel), older)
    sim.chain.mine()
    sim.show()
    sim.until(lambda: sim.phases(new) == ["running", "running"])
    assert gains(sim) == [-9, -4]


def old_challenge(sim: ChainSim, channel: bytes) -> tuple[Challenge]:
    state = sim.nodes[1].engine(channel).state
    assert state.head is not None
    return (Challenge(for_contracts(state, state.head)),)


def lie(sim: ChainSim, channel: bytes, new: bytes, lied: Successor) -> None:
    """Alice signs a final state that moves other money, or moves it elsewhere, or too early, and Bob gets it."""
    alice = sim.nodes[0]
    alice.input(channel, lambda engine, _: engine.on_successor(lied))
    sim.run()
    sim.blocks(2)
    sim.tick(40_000)
    sim.run()
    bob = sim.nodes[1].engine(channel).state
    assert alice.engine(channel).state.final_signed, "the lie was told"
    assert not bob.final_signed
    leave(sim, channel, index=1)
    sim.until(lambda: gains(sim)[1] == 4)


@pytest.mark.parametrize("what", ["moved", "elsewhere", "early"])
def test_a_final_state_that_lies_about_the_successor_is_not_signed(what: str) -> None:
    """Bob has the successor's terms from its proposal, and keeps what he has until it is signed by everybody."""
    sim, channel = played(honest={1})
    sim.nodes[1].accept = False
    new = sim.resize(channel, OUT)
    sim.run()
    told = sim.nodes[0].engine(channel).session.successor
    assert told is not None
    match what:
        case "moved":
            lied = msgspec.structs.replace(told, waits="", moved=(6, 7))
        case "elsewhere":
            lied = msgspec.structs.replace(told, waits="", channel=ChannelId(b"\x66" * 32))
        case _:
            lied = msgspec.structs.replace(told, waits="")
    lie(sim, channel, new, lied)


def test_a_final_state_that_moves_what_is_not_there_is_nonsense() -> None:
    """Hostile blobs: too much of a slot, to an account, of a wrong length, and in a state that is not final."""
    sim, channel = played()
    sim.nodes[1].accept = False
    new = sim.resize(channel, OUT)
    sim.run()
    engine = sim.nodes[1].engine(channel)
    setup, head, known = engine.state.setup, engine.state.head, engine.session.successor
    assert head is not None
    assert known is not None

    def blob(channel: bytes, *moved: int) -> bytes:
        return head.amounts + channel + b"".join(each.to_bytes(32, "big") for each in moved)

    assert setup.amounts_fault(blob(new, 5, 8)) == ""
    assert "7 of slot 0 move on, which has 6" in setup.amounts_fault(blob(new, 7, 7))
    assert "no channel" in setup.amounts_fault(blob(bytes(12) + b"\x66" * 20, 5, 8))
    assert "bytes for 2 slots" in setup.amounts_fault(blob(new, 5))
    hindered = hindrance(engine.state, engine.session, blob(new, 5, 8), is_final=False)
    assert hindered is not None
    assert (hindered.code, hindered.passes) == ("successor", False)
    early = hindrance(engine.state, engine.session, blob(new, 5, 8), is_final=True)
    assert early is not None
    assert early.passes, "it waits for the successor's signatures"


@pytest.mark.parametrize("what", ["account", "more", "turn", "duration", "second"])
def test_a_successor_that_is_none_is_not_taken(what: str) -> None:
    """Other accounts, more for somebody, another state, other terms, or while there is one."""
    sim, channel = played()
    alice, bob = sim.nodes
    created = draft_successor(alice.engine(channel).state, OUT, None, 7, alice.now())
    slots = list(created.slots)
    match what:
        case "account":
            slots[1] = (slots[1][0], bytes(12) + b"\x66" * 20, slots[1][2])
        case "more":
            slots[0] = (*slots[0][:2], (7).to_bytes(32, "big"))
        case "turn":
            created = msgspec.structs.replace(created, base_turn=created.base_turn - 1)
        case "duration":
            created = msgspec.structs.replace(created, challenge_duration=created.challenge_duration + 1)
        case _:
            bob.accept = False
            sim.resize(channel, OUT)
            sim.run()
    new = alice.begin(with_slots(created, tuple(slots)))
    sim.run()
    assert new not in bob.drivers
    assert any("renew" in reason for reason in bob.refused)


def with_slots(created, slots):  # type: ignore[no-untyped-def]
    from scapp.channels.channel.opening import opening_entry, prefund_of

    entry = opening_entry(created.participants, slots, None, created.prefund.time_ms)
    prefund = prefund_of(slots, 2, entry, bytes(32), created.prefund.time_ms)
    return msgspec.structs.replace(created, slots=slots, prefund=prefund)


def test_whoever_goes_on_with_the_old_channel_ends_the_successor() -> None:
    """Alice orders more though Bob has signed the successor: it is given up by him, and the old channel runs on."""
    sim, channel = played()
    alice, bob = sim.nodes
    sim.tap = lambda sender, to, data: None if sender == 1 and b"sign" in data[:8] else data
    new = sim.resize(channel, OUT)
    sim.run()
    sim.tap = None
    link = sim.after_input
    sim.after_input = lambda node, channel: None if node is alice else link(node, channel)
    alice.input(channel, lambda engine, _: engine.on_successor(None))
    alice.submit(channel, b"move:0:1:1")
    sim.run()
    assert amounts(sim, channel, 1) == (5, 15)
    assert bob.engine(new).phase == "rejected"
    sim.after_input = link
    sim.tick(40_000)
    sim.run()
    assert sim.phases(new) == ["rejected", "rejected"]
    assert sim.phases(channel) == ["running", "running"]


def test_what_cannot_be_taken_out_is_said() -> None:
    sim, channel = played()
    with pytest.raises(LocalError, match=r"takes out 7 .*, it has 6"):
        sim.resize(channel, {0: {COIN: 7}})
    with pytest.raises(LocalError, match="it has 0"):
        sim.resize(channel, {0: {TOKEN: 1}})
    with pytest.raises(LocalError, match="nobody takes anything out"):
        sim.resize(channel, {})
    with pytest.raises(LocalError, match="begins with nothing"):
        sim.resize(channel, {0: {COIN: 6}, 1: {COIN: 14}})


def test_two_assets_move_together() -> None:
    """In one transaction, each to its own end."""
    sim, channel = running([(10, 5), (10, 5)], assets=(COIN, TOKEN))
    new = sim.resize(channel, {0: {TOKEN: 2}, 1: {COIN: 3}})
    sim.until(lambda: set(sim.phases(new)) == {"running"})
    assert [held(sim, new, asset) for asset in (COIN, TOKEN)] == [17, 8]
    assert [sim.paid(node) for node in sim.nodes] == [(-10, -3), (-7, -5)]


@pytest.mark.parametrize("deposited", [False, True])
def test_a_top_up_that_was_announced_is_its_owners(deposited: bool) -> None:
    """Paid out if it came, missing to nobody if it did not; and there is room in the successor again."""
    sim = ChainSim(2)
    channel = open_with_room(sim, [((10, 10), 100)])
    sim.until(lambda: set(sim.phases(channel)) == {"running"})
    sim.nodes[1].input(channel, lambda engine, _: engine.top_up(COIN, 5))
    play(sim, channel, b"move:4:3:5")
    if deposited:
        sim.until(lambda: held(sim, channel) == 25)
    new = sim.resize(channel, {0: {COIN: 1}})
    sim.run()
    sim.until(lambda: set(sim.phases(new)) == {"running"})
    assert gains(sim) == [-9, -10]
    assert held(sim, new) == 19
    assert amounts(sim, new) == (9, 10, 0, 0, 100)
    sim.nodes[1].input(new, lambda engine, _: engine.top_up(COIN, 5))
    play(sim, new, b"move:4:3:5")
    sim.until(lambda: held(sim, new) == 24)


def test_a_node_that_was_restored_to_before_it_is_paid_by_the_others() -> None:
    """It does not know the successor any more; whoever does leaves it, and the chain pays everybody."""
    sim, channel = played()
    bob = sim.nodes[1]
    backup = bob.log.durable_copy()
    new = sim.resize(channel, OUT)
    sim.until(lambda: set(sim.phases(new)) == {"running"})
    bob.restore(backup)
    sim.blocks(3)
    assert sim.phases(channel) == ["settled", "closed"], "it has the final state from the other"
    leave(sim, new, index=0)
    sim.until(lambda: gains(sim) == [-4, 4])


def undecided() -> tuple[ChainSim, bytes, bytes]:
    """Bob's submission waits because he has not decided about the successor; his time-out is for others' silence."""
    sim, channel = running([(10,), (10,)], terms=msgspec.structs.replace(TERMS, silence_timeout_s=300))
    sim.nodes[1].accept = False
    new = sim.resize(channel, {0: {COIN: 1}})
    sim.nodes[1].submit(channel, b"move:0:1:1")
    sim.blocks(20)
    assert sim.phases(channel) == ["running", "running"]
    return sim, channel, new


def test_nobody_leaves_for_the_silence_of_its_own_operator() -> None:
    sim, _, new = undecided()
    sim.nodes[1].input(new, lambda engine, _: engine.accept())
    sim.until(lambda: set(sim.phases(new)) == {"running"})
    assert gains(sim) == [-9, -10]


def test_an_operator_who_does_not_decide_holds_the_channel_up_for_the_time_out_only() -> None:
    """Then its node turns the successor down, and what was said meanwhile is ordered."""
    sim, channel, new = undecided()
    sim.blocks(10)
    assert sim.phases(new) == ["rejected", "rejected"]
    assert "not decided here within 300 seconds" in str(sim.nodes[1].engine(new).state.rejected)
    sim.blocks(60)
    assert sim.phases(channel) == ["running", "running"]
    assert amounts(sim, channel, 1) == (9, 11)


def test_proposing_successors_is_no_way_to_be_silent_for_ever() -> None:
    """Alice proposes one after the other to a node without its operator, and answers nothing else: it leaves."""
    sim, channel, _ = undecided()
    alice, bob = sim.nodes
    old = alice.engine(channel).state
    sim.tap = lambda sender, to, data: data if sender == 1 or b"open.3" in data[:16] else None
    for nonce in range(40):
        alice.begin(draft_successor(old, {0: {COIN: 1}}, None, nonce, alice.now()))
        sim.run()
        sim.blocks(1)
    assert bob.engine(channel).state.exit_reason.startswith("no answer from the others for 6")
    sim.silence(alice)
    sim.until(lambda: gains(sim)[1] == 0, seconds=120)


@pytest.mark.parametrize("shown", [calls.Checkpoint, calls.Challenge])
def test_a_last_signature_held_back_is_read_from_the_chain(shown: type) -> None:
    """Bob alone has everybody's signature under the state that moves the money, and shows it to the chain: that is
    enough for Alice, who concludes with it and leaves the successor."""
    sim, channel = played(honest={0})
    bob = sim.nodes[1]
    new = sim.resize(channel, OUT)
    sim.run()
    inner = sim.tap
    assert inner is not None
    sim.tap = lambda sender, to, data: None if sender == 1 else inner(sender, to, data)
    sim.show()
    final = bob.engine(channel).state.head
    assert final is not None
    assert final.is_final
    assert sim.phases(channel)[0] == "closing"
    signed = for_contracts(bob.engine(channel).state, final)
    by = () if shown is calls.Checkpoint else (challenger(bob.signer, channel, signed),)
    sim.raw(bob, shown((), signed, *by))
    sim.silence(bob)
    sim.until(lambda: sim.phases(channel)[0] == "settled")
    assert gains(sim) == [-9, -4]
    assert held(sim, new) == 13
    leave(sim, new, index=0)
    sim.until(lambda: gains(sim) == [-4, 4])


@pytest.mark.parametrize("paid", [(), (0,), (1,), (0, 2)], ids=["nothing", "the successor", "a slot", "two"])
def test_a_conclusion_that_paid_only_a_part_is_paid_on(paid: tuple[int, ...]) -> None:
    """Anybody may conclude without a payout, and pay chosen allocations: the nodes pay the rest, each to its end."""
    sim, channel = played()
    new = sim.resize(channel, OUT)
    sim.until(lambda: sim.phases(channel) == ["closed", "closed"])
    alice = sim.nodes[0].engine(channel).state
    assert alice.head is not None
    signed = for_contracts(alice, alice.head)
    sim.raw(sim.nodes[1], calls.Conclude(signed))
    sim.chain.mine()
    if paid:
        sim.raw(sim.nodes[1], calls.Transfer(0, ChannelId(channel), signed.outcome, ZERO_HASH, paid))
        sim.chain.mine()
    sim.show()
    sim.until(lambda: sim.phases(new) == ["running", "running"])
    assert gains(sim) == [-9, -4]
    assert (held(sim, channel), held(sim, new)) == (0, 13)
