"""Virtual app channels that do not end by themselves: disputes, restarts and restores."""

from __future__ import annotations

import msgspec
import pytest

from scapp.channels.channel.events import BackingSeen
from scapp.channels.driver import load
from scapp.channels.entries import Kind
from scapp.channels.errors import LocalError
from scapp.channels.signing import Signer
from scapp.channels.types import Address
from tests.support.checkers import Watch, check_log
from tests.support.sim import Sim
from tests.support.sim_backing import TWO_PARTY_APP, SimBacking, paid_by, require_supported, signers_of
from tests.support.virtual_app_scene import Scene


def test_under_a_dispute_only_a_final_state_is_signed() -> None:
    """And when it is cleared, the channel goes on."""
    scene = Scene().run()
    scene.both_hear("disputed")
    assert scene.phases == ["disputed"] * 2
    turns = [scene.state(node).signed_turn for node in scene.sim.nodes]
    scene.play(scene.bob, b"move:0:1:2")
    assert [scene.state(node).signed_turn for node in scene.sim.nodes] == turns
    scene.both_hear("complete")
    assert scene.phases == ["running"] * 2
    assert scene.state(scene.bob).turn == turns[1] + 1
    scene.both_hear("disputed")
    scene.close()
    assert scene.phases == ["closed"] * 2


def test_who_leaves_signs_nothing_but_a_final_state() -> None:
    scene = Scene()
    with pytest.raises(LocalError, match="nothing is put up for it yet"):
        scene.alice.input(scene.channel, lambda e, _: e.leave("enough"))
    scene.run()
    scene.alice.input(scene.channel, lambda e, _: e.leave("enough"))
    assert scene.phases[0] == "disputed"
    scene.play(scene.bob, b"move:0:1:2")
    assert scene.state(scene.alice).signed_turn == 1
    with pytest.raises(LocalError, match="leaves the channel: enough"):
        scene.alice.submit(scene.channel, b"more")
    scene.close()
    assert scene.phases == ["closed"] * 2


def test_silence_is_an_end_by_this_nodes_own_clock() -> None:
    from scapp.channels.channel.terms import ChainTerms

    scene = Scene().run()
    scene.alice.engine(scene.channel).session.terms = ChainTerms(silence_timeout_s=300)
    scene.sim.part({0})
    scene.alice.submit(scene.channel, b"anybody there?")
    for _ in range(5):
        scene.sim.tick(100_000)
        scene.sim.run()
    assert scene.phases[0] == "disputed"
    assert "no answer from the others" in scene.state(scene.alice).exit_reason


def test_the_newest_enforceable_state_at_every_step() -> None:
    """Prefund and postfund state once everybody has signed, then whatever the two have signed, by turn 1."""
    scene = Scene()
    engine = scene.alice.engine(scene.channel)
    assert engine.enforceable_stack() is None
    scene.behind.calm()
    stack = engine.enforceable_stack()
    assert stack is not None
    assert (stack[0].turn, stack[1]) == (1, ())
    require_supported(*stack)
    scene.play(scene.bob, b"move:0:1:2")
    stack = engine.enforceable_stack()
    assert stack is not None
    assert [stack[0].turn, *(state.turn for state in stack[1])] == [2, 1]
    assert paid_by(stack[0]) == (5, 5)
    assert signers_of(stack[0]) == {0, 2}
    require_supported(*stack)
    scene.close()
    scene.behind.calm()
    stack = engine.enforceable_stack()
    assert stack is not None
    assert (stack[0].is_final, signers_of(stack[0])) == (True, {0, 1, 2})


def test_a_newer_state_that_the_chain_shows_is_adopted() -> None:
    """Its entries come from whoever has them; a stranger's bytes change nothing."""
    scene = Scene().run()
    lost = {"sign": 0}

    def tap(sender: int, to: Address, data: bytes) -> bytes | None:
        lost["sign"] += 1
        return None if sender == 1 else data

    scene.sim.tap = tap
    scene.play(scene.alice, b"move:0:1:2")
    scene.sim.tap = None
    assert [scene.state(node).turn for node in scene.sim.nodes] == [1, 2]
    newest, _ = scene.bob.engine(scene.channel).enforceable_stack() or (None, ())
    assert newest is not None
    forged = msgspec.structs.replace(newest, outcome=newest.outcome[:-1] + b"\x01")
    scene.alice.input(scene.channel, lambda e, _: e.on_shown(forged))
    assert scene.state(scene.alice).turn == 1
    scene.alice.input(scene.channel, lambda e, _: e.on_shown(newest))
    scene.sim.run()
    assert scene.state(scene.alice).turn == 2
    scene.alice.input(scene.channel, lambda e, _: e.on_shown(newest))


def test_what_the_chain_has_paid_out_joins_the_log_and_nothing_is_signed_after_it() -> None:
    """Also where this node had signed a final state above it, which the other one never saw."""
    scene = Scene().run()
    scene.sim.tap = lambda sender, to, data: None if sender == 1 else data
    scene.play(scene.alice, b"move:0:1:2")
    scene.sim.tap = lambda sender, to, data: None
    scene.hear(scene.alice, "disputed")
    scene.alice.submit(scene.channel, b"", kind=Kind.CLOSE)
    assert scene.state(scene.alice).final_signed
    scene.sim.tap = None
    settled, _ = scene.bob.engine(scene.channel).enforceable_stack() or (None, ())
    scene.hear(scene.alice, "released", settled=settled)
    scene.hear(scene.bob, "released", settled=settled)
    for _ in range(3):
        scene.sim.tick(31_000)
        scene.sim.run()
    assert scene.phases == ["settled"] * 2
    assert [scene.state(node).turn for node in scene.sim.nodes] == [2, 2]
    assert scene.state(scene.alice).candidates == ()
    for node in scene.sim.nodes:
        check_log(node.log, scene.channel)


def test_a_final_state_over_a_fork_waits_for_the_chain_and_halts_nothing() -> None:
    """A batch in flight gave way to a final state, and was countersigned all the same: rule 5 keeps this node from
    proposing it again, rule 4 the other one from the final state."""
    scene = Scene().run()
    scene.sim.tap = lambda sender, to, data: None if sender == 1 else data
    scene.play(scene.alice, b"move:0:1:2")
    scene.sim.tap = None
    scene.hear(scene.alice, "disputed")
    scene.alice.submit(scene.channel, b"", kind=Kind.CLOSE)
    scene.sim.run()
    scene.both_hear("complete")
    scene.sim.tick(31_000)
    scene.sim.run()
    assert scene.phases[0] == "closing"
    assert not scene.alice.engine(scene.channel).session.failure


# Restarts and restores


def life(victim: int, at: int, *, after: bool) -> bool:
    """One node loses power at one of its writes; whether it came to that."""
    from tests.scenarios.test_crash_everywhere import Fuse, wake

    sim = Sim(2, seed=at)
    Watch(sim)
    fuse = Fuse(sim.nodes[victim], at, after=after)
    behind = SimBacking(sim, 1)
    channel = behind.open((7, 3))
    for what in (b"move:0:1:1", b"bad", b"move:0:1:2", b"close"):
        wake(sim)
        behind.calm(6)
        wake(sim)
        for node in sim.nodes:
            if node.up and channel in node.drivers and node.engine(channel).phase in ("funding", "running"):
                kind = Kind.CLOSE if what == b"close" else Kind.MESSAGE
                node.submit(channel, b"" if what == b"close" else what, kind=kind)
    wake(sim)
    for _ in range(3):
        sim.settle(rounds=2)
        behind.calm(12)
    checks = [check_log(node.log, channel) for node in sim.nodes]
    if channel in sim.nodes[0].drivers:
        logs = [check.log for check in checks if check is not None]
        assert logs[0] == logs[1]
        phases = {node.engine(channel).phase for node in sim.nodes}
        assert phases in ({"settled"}, {"running"}) if fuse.blown else phases == {"settled"}
        for node in sim.nodes:
            behind.check_paid(node, channel)
            assert node.engine(channel).state.candidates == ()
    return fuse.blown


@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("after", [False, True], ids=["before the write", "after the write"])
@pytest.mark.no_cover
def test_rules_hold_with_a_crash_at_every_store(victim: int, after: bool) -> None:
    at = 1
    while life(victim, at, after=after):
        at += 1
    assert at > 10, "the life stores too little to mean anything"


def test_a_restart_keeps_backing_and_milestones() -> None:
    """From the events, and from a snapshot of the state."""
    scene = Scene().run()
    scene.play(scene.bob, b"move:0:1:2", b"one", b"two", b"three")
    before = scene.state(scene.alice).backed
    assert before.stage == "complete"
    scene.alice.snapshots(scene.alice.drivers[scene.channel]).save()
    scene.restart(scene.alice)
    assert scene.alice.drivers[scene.channel].snapshot_at > 0
    assert scene.state(scene.alice).backed == before
    fresh = load(scene.bob.log, scene.channel, scene.bob.signer)
    assert fresh.engine.state.backed == scene.state(scene.bob).backed
    assert sum(isinstance(event, BackingSeen) for event in scene.events(scene.alice)) >= 2


def test_a_restored_party_offers_nothing_before_it_has_recovered() -> None:
    """And comes back with all that the other one and the ledgers know, the postfund signatures among it."""
    scene = Scene()
    backup = scene.bob.log.durable_copy()
    scene.run()
    scene.play(scene.alice, b"move:0:1:2")
    scene.sim.part({1})
    scene.bob.restore(backup)
    engine = scene.bob.engine(scene.channel)
    assert engine.phase == "recovering"
    assert engine.offered() == ()
    with pytest.raises(LocalError, match="recovering"):
        scene.bob.input(scene.channel, lambda e, _: e.leave("enough"))
    scene.sim.heal_links()
    scene.sim.settle(rounds=3)
    scene.behind.calm(4)
    assert scene.phases == ["running"] * 2
    assert scene.state(scene.bob).turn == scene.state(scene.alice).turn
    stack = scene.bob.engine(scene.channel).enforceable_stack()
    assert stack is not None
    require_supported(*stack)
    scene.play(scene.bob, b"move:0:1:1")
    assert scene.state(scene.bob).sequence == 3


def test_a_funding_that_failed_during_a_recovery_is_given_up_after_it() -> None:
    scene = Scene()
    scene.sim.part({0})
    scene.alice.restore(scene.alice.log.durable_copy())
    scene.hear(scene.alice, "failed", detail="nobody would")
    assert scene.phases[0] == "recovering"
    scene.restart(scene.alice)
    scene.sim.heal_links()
    scene.sim.settle(rounds=3)
    assert scene.phases == ["rejected"] * 2
    assert scene.state(scene.alice).rejected == "nobody would"


def test_the_app_for_two_parties_is_not_everybodys() -> None:
    """A hub's signature under a batch, or an outsider's, is never asked for: sets of signatures stay those of two."""
    scene = Scene().run()
    scene.play(scene.bob, b"move:0:1:2")
    head = scene.state(scene.alice).head
    assert len(head.signatures) == 2
    outsider = Signer(b"\x09" * 32)
    assert outsider.address not in scene.state(scene.alice).setup.fixed.participants
    assert scene.state(scene.alice).setup.fixed.app_definition == TWO_PARTY_APP
