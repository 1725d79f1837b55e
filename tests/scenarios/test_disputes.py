"""Disputes on the simulated chain (safety rules 5, 7 and 8): silence, old states, reorganisations, crashes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import msgspec
import pytest

from scapp.channels.adjudicator_status import Status
from scapp.channels.chain import calls
from scapp.channels.channel import finalized
from scapp.channels.channel.events import Signed, StateCompleted, StateSigned, decode_event
from scapp.channels.channel.full_set import for_contracts
from scapp.channels.channel.messages import Refuse, encode_message
from scapp.channels.channel.terms import ChainTerms
from scapp.channels.driver import ChannelDriver, Store, advances
from scapp.channels.entries import Kind
from scapp.channels.errors import LocalError
from scapp.channels.onchain import Challenge, Checkpoint, Conclude, Deposit, TransferAll
from scapp.channels.outcome import encode_outcome, outcome_hash, outcome_of_slots
from scapp.channels.types import ZERO_ADDRESS, Address, ChannelId
from tests.support.checkers import check_log
from tests.support.plain_chain import CONFIRMATIONS, TOKEN, challenger
from tests.support.sim import Crash, SimNode
from tests.support.sim_chain import DURATION_S, ChainSim, close, play, running

BROUGHT = ((5, 4), (3, 0), (2, 6))
BROUGHT1 = ((5,), (3,), (2,))
HASTY = ChainTerms(margin_s=60, conclude_delay_s=120, funding_timeout_s=600, silence_timeout_s=300)
PATIENT = ChainTerms(margin_s=60, conclude_delay_s=120, funding_timeout_s=6_000, silence_timeout_s=0)


class Rule8:
    """Watches what a node signs: nothing but final states while a challenge stands, after it has left, or unfunded."""

    def __init__(self, sim: ChainSim) -> None:
        self.sim = sim
        self.signed = 0
        for node in sim.nodes:
            self._watch(node)

    def _watch(self, node: SimNode) -> None:
        inner = node._store

        def store(driver: ChannelDriver, request: Store) -> None:
            for write in request.writes:
                for event in map(decode_event, write.events):
                    if isinstance(event, StateSigned | StateCompleted) and event.state.turn > 0:
                        self._check(node, driver, is_final=event.state.is_final)
            inner(driver, request)

        node._store = store  # type: ignore[method-assign]

    def _check(self, node: SimNode, driver: ChannelDriver, *, is_final: bool) -> None:
        if node.index in self.sim.mute:
            return  # it does not hear of the chain either
        self.signed += 1
        state = driver.engine.state
        seen = state.chain
        assert seen is not None, f"{node.name} signs unfunded"
        head_time_s = self.sim.head_time_s()
        ends = seen.latest.status.finalizes_at
        assert not ends or head_time_s < ends - 60, f"{node.name} signs within the margin"
        if not is_final:
            assert not seen.disputed, f"{node.name} goes on under a challenge"
            assert not state.exit_reason, f"{node.name} goes on after it has left"
            held = sum(int.from_bytes(amount, "big") for amount in seen.confirmed.holdings)
            assert held >= sum(driver.engine.state.setup.start_amounts), f"{node.name} signs underfunded"


def life(
    count: int,
    at_step: Callable[[ChainSim, bytes, int], bool],
    *,
    terms: ChainTerms = HASTY,
    assets: tuple[bytes, ...] = (ZERO_ADDRESS,),
) -> tuple[ChainSim, bytes]:
    """Fund, play, close, pay out. `at_step` is called before each message and each block with its number; once it
    has answered True it is not called again, and the story goes on until everybody who still speaks is done."""
    sim = ChainSim(count, assets=assets, terms=terms)  # type: ignore[arg-type]
    Rule8(sim)
    channel = sim.fund(*(each[: len(assets)] for each in BROUGHT[:count]))
    steps = 0
    done = busy = False

    def step() -> None:
        nonlocal steps, done, busy
        if not done and not busy:
            steps += 1
            busy = True
            done = at_step(sim, channel, steps)
            busy = False

    inner, deliver = sim.block, sim.step

    def stepped() -> bool:
        step()
        return deliver()

    def block(seconds: int = 12) -> None:
        step()
        inner(seconds)

    sim.step, sim.block = stepped, block  # type: ignore[method-assign]
    sim.run()
    for said in range(250):
        sim.run()
        for node in sim.nodes:
            if not node.up:
                node.start()
                sim.run()
        heard = [n for n in sim.nodes if n.index not in sim.mute]
        if all(channel in n.drivers and over(n, channel) for n in heard):
            break
        for node in heard:
            if channel in node.drivers and speaks(node, channel):
                payload, kind = (b"", Kind.CLOSE) if said >= 14 else (MOVES[said % 2], Kind.MESSAGE)
                node.submit(channel, payload, kind=kind)
        sim.run()
        sim.block(12 if len(heard) == count and said < 20 else 40)
    return sim, channel


def settled(node: SimNode, channel: bytes) -> bool:
    return channel in node.drivers and node.engine(channel).phase == "settled"


def speaks(node: SimNode, channel: bytes) -> bool:
    """May the node say something now?"""
    engine = node.engine(channel)
    return engine.phase == "running" and not engine.state.outstanding


def over(node: SimNode, channel: bytes) -> bool:
    """Is there nothing left that the node could do or get?"""
    state = node.engine(channel).state
    held = node.net.chain.world.held(ZERO_ADDRESS, ChannelId(channel))  # type: ignore[attr-defined]
    return state.phase == "settled" or (not held and (state.exit_reason != "" or (state.turn < 0 and node.net.mute)))


def outcomes(node: SimNode, channel: bytes) -> list[tuple[int, ...]]:
    """What the node counts as possible: its newest supported outcome, and that of what it has signed since (rule 4)."""
    state = node.engine(channel).state
    found = [state.setup.unpack(c.amounts) for c in state.candidates]
    if state.head is not None:
        found.append(state.setup.unpack(state.head.amounts))
    return found


def check_payouts(sim: ChainSim, channel: bytes, *, but: int = -1, short: bool = False) -> None:
    """Everybody who speaks has lost nothing but what it signed away. `short`: the chain lost deposits for ever that it
    had shown as confirmed; then the outcome is paid by priority out of what is left."""
    sent = [transaction for block in sim.chain.blocks for transaction in block.transactions]
    for node in sim.nodes:
        if node.index == but:
            continue
        (gain,) = sim.paid(node)
        allowed = {paid[node.index] - BROUGHT[node.index][0] for paid in outcomes(node, channel)}
        deposits = [sum(t.value for t in sent if t.sender == sim.account(each)) for each in sim.nodes]
        if deposits[node.index] == 0:
            allowed = {0}
        if short:
            first = [min(paid[0], sum(deposits)) for paid in outcomes(node, channel)]
            allowed = {paid - deposits[0] if node.index == 0 else sum(deposits) - paid - deposits[1] for paid in first}
        assert gain in allowed, f"{node.name} has {gain}, allowed is {allowed}"


@pytest.mark.parametrize("count", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_rule_7_one_party_falls_silent_at_every_step(count: int) -> None:
    """Funding, running and closing: whoever speaks on ends with its money, by itself."""
    seen = set()
    for victim in range(count):
        at, silenced = 1, True
        while silenced:
            silenced = False

            def silence(sim: ChainSim, channel: bytes, step: int, victim: int = victim, at: int = at) -> bool:
                nonlocal silenced
                if step < at:
                    return False
                silenced = True
                sim.silence(sim.nodes[victim])
                return True

            sim, channel = life(count, silence)
            for node in sim.nodes:
                if node.index != victim or not silenced:
                    assert channel not in node.drivers or over(node, channel), (
                        f"{node.name}, {victim} silent from step {at}: {node.engine(channel).waiting_for}"
                    )
            check_payouts(sim, channel, but=victim if silenced else -1)
            seen |= {type(each) for _, each in sim.transactions}
            at += 1
        assert at > 25, "the story has too few steps to mean anything"
    assert seen >= {Challenge, TransferAll, Conclude}


def register(sim: ChainSim, node: SimNode, channel: bytes, state: Signed) -> None:
    """The node's account takes an older state to the chain, signed by its channel key."""
    found = for_contracts(node.engine(channel).state, state)
    sim.raw(node, calls.Challenge((), found, challenger(node.signer, channel, found)))


MOVES = (b"move:0:1:1", b"move:1:0:2", b"move:0:1:1")


@pytest.mark.parametrize("closed", [False, True], ids=["running", "closed"])
@pytest.mark.parametrize("count", [2, 3])
def test_rule_7_whoever_submits_an_older_state_loses(count: int, closed: bool) -> None:
    """Every state but the newest is answered before the deadline, by every other participant alone."""
    turns = 0
    for turn in range(20):
        for defender in range(count - 1):
            sim, channel = running(BROUGHT1[:count])
            play(sim, channel, *MOVES)
            if closed:
                close(sim, channel)
            states = [state for state, _ in advances(sim.nodes[-1].log, channel)]
            if turn >= len(states) - 1:
                assert turns >= 4
                return
            sim.mute = set(range(count)) - {defender}
            register(sim, sim.nodes[-1], channel, states[turn])
            sim.blocks(DURATION_S // 12 + 10)
            turns += 1
            status = sim.chain.world.status_of(ChannelId(channel))
            assert status.finalizes_at == 0
            if closed:
                assert sim.phases(channel)[defender] == "settled"
                check_payouts(sim, channel)
            else:
                assert status.turn_record == states[-1].turn
                assert [type(each) for _, each in sim.transactions[-1:]] == [Checkpoint]
                assert sim.phases(channel)[defender] == "running"


def test_a_channel_goes_on_after_a_challenge_is_cleared_and_not_before() -> None:
    """Rule 8: while it stands, and until its end is confirmed, messages wait."""
    sim, channel = running(BROUGHT1[:2])
    Rule8(sim)
    alice, bob = sim.nodes
    play(sim, channel, *MOVES)
    prefund = next(advances(bob.log, channel))[0]
    register(sim, bob, channel, prefund)
    sim.block()
    assert sim.phases(channel) == ["disputed", "disputed"]
    turn = alice.engine(channel).state.turn
    bob.submit(channel, b"word")
    alice.submit(channel, b"word")
    sim.run()
    assert alice.engine(channel).state.signed_turn == turn
    sim.block()
    assert "to be confirmed" in alice.engine(channel).waiting_for
    sim.blocks(2)
    assert alice.engine(channel).state.signed_turn == turn
    sim.blocks(2)
    assert sim.phases(channel) == ["running", "running"]
    sim.run()
    assert len(alice.supported(channel)) == len(MOVES) + 3
    assert [tell.kind for tell in alice.told if tell.kind != "chain"] == ["funded", "challenged", "cleared"]


def test_a_state_withheld_and_checkpointed_is_what_the_other_leaves_with() -> None:
    """Bob hides his last signature and checkpoints that state, so that the state before it counts no more: what he
    published in the transaction is enough for Alice."""
    sim, channel = running(BROUGHT1[:2])
    alice, bob = sim.nodes
    play(sim, channel, *MOVES)
    sim.tap = lambda sender, to, data: None if sender == 1 else data
    alice.submit(channel, b"move:0:1:1")
    sim.run()
    before, after = (node.engine(channel).state.head for node in sim.nodes)
    assert (before.turn + 1, len(alice.engine(channel).state.candidates)) == (after.turn, 1)
    sim.raw(bob, calls.Checkpoint((), for_contracts(bob.engine(channel).state, after)))
    sim.silence(bob)
    sim.block()
    assert sim.chain.world.status_of(ChannelId(channel)).turn_record == after.turn
    alice.input(channel, lambda engine, _: engine.leave("test"))
    sim.until(partial(settled, alice, channel), blocks=DURATION_S // 12 + 15)
    paid = alice.engine(channel).state.setup.unpack(after.amounts)
    assert [sim.paid(node)[0] for node in sim.nodes] == [paid[0] - 5, paid[1] - 3]


def test_a_final_state_ends_a_dispute_at_once() -> None:
    """Under a challenge nothing is ordered but a close, past what waits before it; it pays without the wait."""
    sim, channel = running(BROUGHT1[:2])
    Rule8(sim)
    alice, bob = sim.nodes
    play(sim, channel, *MOVES)
    alice.input(channel, lambda engine, _: engine.leave("test"))
    sim.block()
    bob.submit(channel, b"too late")
    bob.submit(channel, b"", kind=Kind.CLOSE)
    sim.run()
    assert [node.engine(channel).state.head.is_final for node in sim.nodes] == [True, True]
    assert [(code, counter) for counter, code, _ in bob.decided] == [("closing", 4)]
    sim.until(lambda: set(sim.phases(channel)) == {"settled"}, blocks=8)
    check_payouts(sim, channel)


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned by the other", "signed by the other"])
def test_a_final_state_takes_the_place_of_what_was_in_flight(signed: bool) -> None:
    """A proposal that met a challenge on its way must not hold up the end; its entries are refused, or, if everybody
    has signed them after all, in the log."""
    sim, channel = running(BROUGHT1[:2])
    alice, bob = sim.nodes
    play(sim, channel, *MOVES)
    sim.tap = lambda sender, to, data: None if sender == (1 if signed else 0) else data
    alice.submit(channel, b"move:0:1:1")
    sim.run()
    sim.tap = None
    assert len(alice.engine(channel).state.candidates) == 1
    bob.input(channel, lambda engine, _: engine.leave("test"))
    sim.block()
    alice.submit(channel, b"", kind=Kind.CLOSE)
    sim.run()
    for _ in range(3):
        sim.tick(2_000)
        sim.run()
    heads = [node.engine(channel).state.head for node in sim.nodes]
    assert [head.is_final for head in heads] == [True, True]
    assert heads[0].log_root == heads[1].log_root
    sim.until(lambda: set(sim.phases(channel)) == {"settled"}, blocks=8)
    check_payouts(sim, channel)
    for node in sim.nodes:
        check_log(node.log, channel)


@pytest.mark.parametrize("assets", [(ZERO_ADDRESS,), (TOKEN,), (ZERO_ADDRESS, TOKEN)], ids=["coin", "token", "both"])
@pytest.mark.parametrize("count", [2, 3])
def test_rule_7_everybody_can_leave_alone(count: int, assets: tuple[Address, ...]) -> None:
    """Challenge, time, payout: without a word from the others, for every participant."""
    for leaver in range(count):
        sim, channel = running([each[: len(assets)] for each in BROUGHT[:count]], assets=assets)
        play(sim, channel, *MOVES)
        sim.mute = set(range(count)) - {leaver}
        node = sim.nodes[leaver]
        node.input(channel, lambda engine, _: engine.leave("test"))
        sim.until(partial(settled, node, channel), blocks=DURATION_S // 12 + 15)
        head = node.engine(channel).state.head
        paid = node.engine(channel).state.setup.unpack(head.amounts)
        for k in range(len(assets)):
            for each in sim.nodes:
                assert sim.paid(each)[k] == paid[k * count + each.index] - BROUGHT[each.index][k]


def test_leaving_is_refused_where_a_challenge_ends_nothing() -> None:
    """Unfunded, not yet signed by all, closed, and a second time."""
    sim = ChainSim(2)
    unfunded = sim.nodes[0].open(sim.nodes[1:])
    sim.run()
    with pytest.raises(LocalError, match="not funded"):
        sim.nodes[0].engine(unfunded).leave("")
    sim.silence(sim.nodes[1])
    unsigned = sim.fund((5,), (3,))
    sim.run()
    with pytest.raises(LocalError, match="reject it"):
        sim.nodes[0].engine(unsigned).leave("")
    sim, channel = running(BROUGHT1[:2])
    sim.nodes[0].input(channel, lambda engine, _: engine.leave("first"))
    assert sim.nodes[0].engine(channel).leave("second").events == ()
    with pytest.raises(LocalError, match="leaves the channel: first"):
        sim.nodes[0].submit(channel, b"word")
    close(sim, channel)
    with pytest.raises(LocalError, match="final state"):
        sim.nodes[0].engine(channel).leave("")


def told(sim: ChainSim, channel: bytes, at: int) -> tuple[object, ...]:
    """For the message of a failed test."""
    return at, [(n.engine(channel).phase, n.engine(channel).waiting_for) for n in sim.nodes if channel in n.drivers]


@pytest.mark.parametrize("drop", [False, True], ids=["again", "lost"])
@pytest.mark.parametrize(
    "depth", [pytest.param(d, marks=() if d in (1, 2, 7, 12) else pytest.mark.slow) for d in range(1, 13)]
)
def test_reorganisations_at_every_block_converge(depth: int, drop: bool) -> None:
    """Whatever is taken back, in funding, running or closing: the channel ends settled and pays the same."""
    at, hit = 1, True
    while hit:
        hit = False

        def reorganise(sim: ChainSim, channel: bytes, step: int, at: int = at) -> bool:
            nonlocal hit
            blocks = len(sim.chain.blocks)
            if blocks <= at:
                return False
            hit = True
            sim.chain.reorganise(min(depth, blocks - 1), drop=drop)
            sim.show()
            return True

        sim, channel = life(2, reorganise, terms=PATIENT)
        assert all(settled(node, channel) for node in sim.nodes), told(sim, channel, at)
        check_payouts(sim, channel, short=drop and depth > CONFIRMATIONS)
        at += 2
    assert at > 15


@pytest.mark.parametrize("drop", [False, True], ids=["again", "lost"])
@pytest.mark.parametrize(
    "depth", [pytest.param(d, marks=() if d in (1, 12) else pytest.mark.slow) for d in range(1, 13)]
)
def test_reorganisations_at_every_block_of_a_dispute_converge(depth: int, drop: bool) -> None:
    """The challenge, the answer to a stale one, or the payout is taken back: it is wanted and sent again."""
    for at in range(1, 70, 4):
        sim, channel = running(BROUGHT1[:2])
        play(sim, channel, *MOVES)
        alice, bob = sim.nodes
        states = [state for state, _ in advances(bob.log, channel)]
        sim.silence(bob)
        register(sim, bob, channel, states[1])
        alice.input(channel, lambda engine, _: engine.leave("test"))
        sim.blocks(at)
        sim.chain.reorganise(min(depth, at), drop=drop)
        sim.show()
        sim.until(partial(settled, alice, channel), blocks=140)
        check_payouts(sim, channel, but=1)
        assert sum(sim.paid(node)[0] for node in sim.nodes) == 0


def test_a_party_that_leaves_answers_an_older_challenge_with_its_own(silent: tuple[ChainSim, bytes]) -> None:
    """One transaction instead of two: the newer challenge replaces the older one."""
    sim, channel = silent
    alice, bob = sim.nodes
    register(sim, bob, channel, next(advances(bob.log, channel))[0])
    alice.input(channel, lambda engine, _: engine.leave("test"))
    sim.chain.mine()
    sim.show()
    (wanted,) = alice.engine(channel).wanted(sim.head_time_s(), alice.now())
    assert isinstance(wanted, Challenge)
    sim.block()
    assert alice.engine(channel).wanted(sim.head_time_s(), alice.now()) == ()
    assert "to end, or a final state" in alice.engine(channel).waiting_for


@pytest.fixture
def silent() -> tuple[ChainSim, bytes]:
    """A running channel whose participant 1 has fallen silent."""
    sim, channel = running(BROUGHT1[:2], terms=HASTY)
    play(sim, channel, *MOVES)
    sim.silence(sim.nodes[1])
    return sim, channel


def test_silence_alone_is_no_reason_to_leave(silent: tuple[ChainSim, bytes]) -> None:
    """Nobody owes an answer while nothing waits for one; from then on the time-out counts."""
    sim, channel = silent
    sim.blocks(60)
    assert sim.nodes[0].engine(channel).state.exit_reason == ""
    sim.nodes[0].submit(channel, b"word")
    sim.run()
    sim.blocks(HASTY.silence_timeout_s // 12 - 1)
    assert sim.nodes[0].engine(channel).state.exit_reason == ""
    sim.blocks(3)
    assert "no answer from the others for 3" in sim.nodes[0].engine(channel).state.exit_reason


def test_without_a_time_out_a_silent_party_is_waited_for() -> None:
    """Leaving costs everybody the channel: by default the operator decides."""
    sim, channel = running(BROUGHT1[:2], terms=PATIENT)
    sim.silence(sim.nodes[1])
    sim.nodes[0].submit(channel, b"word")
    sim.run()
    sim.blocks(300)
    assert sim.nodes[0].engine(channel).state.exit_reason == ""


@pytest.mark.parametrize("depositor", [0, 1])
def test_funding_that_stands_still_ends(depositor: int) -> None:
    """Whoever has deposited takes its money out; whoever has not only stops waiting, and deposits no more."""
    sim = ChainSim(2, terms=HASTY)
    channel = sim.fund(*BROUGHT1[:2])
    sim.run()
    sim.silence(sim.nodes[1 - depositor])
    sim.blocks(HASTY.funding_timeout_s // 12 + DURATION_S // 12 + 20)
    node = sim.nodes[depositor]
    assert "funding stood still" in node.engine(channel).state.exit_reason
    assert sim.paid(node) == (0,)
    kinds = [type(each) for index, each in sim.transactions if index == depositor]
    assert kinds == ([Deposit, Challenge, TransferAll] if depositor == 0 else [])
    sim.unsilence(sim.nodes[1 - depositor])
    sim.blocks(DURATION_S // 12 + 200)
    assert [sim.paid(each) for each in sim.nodes] == [(0,), (0,)]


@pytest.mark.parametrize("after", [False, True], ids=["before the write", "after the write"])
def test_a_crash_at_every_store_loses_no_money(after: bool) -> None:
    """Each node, each store of a funded life: the channel ends settled, the logs are sound."""
    for victim in range(2):
        at, blown = 1, True
        while blown:
            blown = False
            stores = 0

            def cut(sim: ChainSim, channel: bytes, step: int, victim: int = victim, at: int = at) -> bool:
                node = sim.nodes[victim]
                inner = node._store

                def store(driver: ChannelDriver, request: Store) -> None:
                    nonlocal stores, blown
                    stores += 1
                    if stores == at:
                        blown = True
                        if after:
                            inner(driver, request)
                        raise Crash
                    inner(driver, request)

                node._store = store  # type: ignore[method-assign]
                return True

            sim, channel = life(2, cut, terms=PATIENT)
            if channel not in sim.nodes[0].drivers:
                at += 1
                continue
            assert all(settled(node, channel) for node in sim.nodes), told(sim, channel, at)
            check_payouts(sim, channel)
            for node in sim.nodes:
                check_log(node.log, channel)
            at += 1
        assert at > 12


def test_rule_4_a_replaced_proposal_that_the_chain_finalizes_joins_the_log() -> None:
    """Turn 2 is replaced, completed by the others all the same, and taken to the chain by one who leaves. Alice, who
    has signed more since, appends turn 2 once it is finalized; everybody's log and money agree."""
    sim, channel = running(BROUGHT1)
    Rule8(sim)
    alice, bob, carol = sim.nodes
    sim.tap = lambda sender, to, data: None if sender == carol.index and to == alice.signer.address else data
    alice.submit(channel, b"word")
    sim.run()  # signed by all; Bob and Carol know it, Alice does not
    turn = alice.engine(channel).state.signed_turn
    assert [len(node.supported(channel)) for node in sim.nodes] == [1, 2, 2]
    refusal = encode_message(Refuse(channel, turn, "mine", "changed my mind", 0))
    alice.receive(bob.signer.address, refusal)
    assert alice.engine(channel).state.signed_turn > turn
    sim.queue.clear()
    bob.input(channel, lambda engine, _: engine.leave("test"))
    sim.tap = None
    sim.until(lambda: set(sim.phases(channel)) == {"settled"}, blocks=DURATION_S // 12 + 20)
    assert len({tuple(node.supported(channel)) for node in sim.nodes}) == 1
    assert alice.engine(channel).state.turn == turn
    assert alice.engine(channel).state.candidates == ()
    for node in sim.nodes:
        check_log(node.log, channel)
    check_payouts(sim, channel)


@pytest.mark.parametrize("times", [1, 4, 9])
@pytest.mark.parametrize("later", [1, 2, 4])
def test_dust_after_a_payout_brings_no_second_deposit(later: int, times: int) -> None:
    """Bob, whose own deposit is small, challenges, takes what he won, and deposits as much again: that must not look
    like a payout taken back, after which Alice would deposit once more into a channel whose newest state is his."""
    sim, channel = running([(5,), (1,)])
    alice, bob = sim.nodes
    play(sim, channel, *[b"move:0:1:1"] * 5)
    bob.input(channel, lambda engine, _: engine.leave("test"))
    sim.until(lambda: not sim.plain.held(channel), blocks=DURATION_S // 12 + 15)
    sim.mute = {1}
    sim.blocks(later - 1)
    for at in range(5 * CONFIRMATIONS):
        if at < times:
            sim.raw(bob, calls.Deposit(ZERO_ADDRESS, ChannelId(channel), sim.plain.held(channel), 1), 1)
        sim.block()
        assert sim.paid(alice) == (-5,)
    if times < 6:  # else Bob has filled the channel all by himself, and it goes on with his money
        assert alice.engine(channel).phase == "settled"


@pytest.mark.parametrize("paid", [0, 1])
def test_whoever_is_left_out_of_a_payout_is_paid_all_the_same(paid: int) -> None:
    """Anybody can pay out one allocation of a finalized channel, so that another outcome is recorded than the one that
    was registered. Until the other node looks at the chain, and afterwards it pays the rest."""
    sim, channel = running([(5,), (3,)])
    bob = sim.nodes[1]
    play(sim, channel, *MOVES)
    bob.input(channel, lambda engine, _: engine.leave("test"))
    sim.block()
    sim.silence(bob)
    sim.blocks(DURATION_S // 12 - 2)
    state = bob.engine(channel).state
    assert state.head is not None
    due = state.setup.unpack(state.head.amounts)
    outcome = encode_outcome(outcome_of_slots(state.setup.slots, due))
    send_wants = sim.send_wants
    sim.send_wants = lambda: None  # type: ignore[method-assign]
    sim.blocks(4)
    sim.raw(bob, calls.Transfer(0, ChannelId(channel), outcome, state.setup.hash(state.head), (paid,)))
    sim.block()
    sim.send_wants = send_wants  # type: ignore[method-assign]
    assert sim.plain.held(channel) == due[1 - paid]
    sim.blocks(2 + CONFIRMATIONS)
    assert [sim.paid(node)[0] for node in sim.nodes] == [due[0] - 5, due[1] - 3]


def test_an_outcome_that_is_not_known_is_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """To look through all that may be recorded takes long: not again with every block."""
    sim, channel = running([(5,), (3,)])
    alice = sim.nodes[0]
    seen = alice.engine(channel).state.chain
    assert seen is not None
    unknown = msgspec.structs.replace(seen.latest, status=Status(3, 1, b"\x05" * 20))
    ended = msgspec.structs.replace(seen, latest=unknown, confirmed=unknown, ended=True)
    tried: list[object] = []
    monkeypatch.setattr(finalized, "outcome_hash", lambda found: tried.append(found) or outcome_hash(found))
    engine = alice.engine(channel)
    assert finalized.payout(engine.state, engine.session, ended, sim.head_time_s()) is None
    assert tried
    tried.clear()
    assert finalized.payout(engine.state, engine.session, ended, sim.head_time_s()) is None
    assert tried == []
