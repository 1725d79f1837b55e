"""Virtual app channels at their two app parties: real engines, a stand-in for ledgers and hubs (`sim_backing.py`)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from scapp.channels.backing import Backing, Stage
from scapp.channels.channel.events import BackingSeen, decode_event
from scapp.channels.channel.messages import (
    Propose,
    Refuse,
    Rejected,
    VirtualProposal,
    decode_message,
    encode_message,
)
from scapp.channels.channel.opening import created_from_proposal
from scapp.channels.channel.standing import backing_info
from scapp.channels.driver import load
from scapp.channels.entries import Kind
from scapp.channels.errors import LocalError, PeerError
from scapp.channels.signing import Signer
from scapp.channels.types import ZERO_ADDRESS, Address
from tests.support.checkers import Watch, check_log
from tests.support.sim import Sim, SimNode
from tests.support.sim_backing import HUB_FEE, TWO_PARTY_APP, SimBacking, paid_by, require_supported, signers_of


class Scene:
    """Two parties and hubs between them; `channel` is open and its prefund state signed by both parties."""

    def __init__(self, hubs: int = 1) -> None:
        self.sim = Sim(2, seed=3)
        self.watch = Watch(self.sim)
        self.behind = SimBacking(self.sim, hubs)
        self.channel = self.behind.open((7, 3))
        self.sim.run()
        self.alice, self.bob = self.sim.nodes

    @property
    def phases(self) -> list[str]:
        return [node.engine(self.channel).phase for node in self.sim.nodes]

    def hear(self, node: SimNode, stage: Stage, **more: Any) -> None:
        """The node's ledgers say so; what follows among the parties follows."""
        if stage == "complete" and not more:
            more["signatures"] = ((1, self.of_hubs(1)),)
        node.input(self.channel, lambda e, _: e.on_backing(Backing(stage, **more)))
        self.sim.run()

    def of_hubs(self, turn: int) -> tuple[bytes, ...]:
        """The hubs' signatures under turn 0 or 1, in their places."""
        state = self.state(self.alice)
        digest = state.setup.hash(msgspec.structs.replace(state.prefund, turn=turn))
        return (b"", *(hub.sign(digest) for hub in self.behind.hubs), b"")

    def both_hear(self, stage: Stage, **more: Any) -> None:
        for node in self.sim.nodes:
            self.hear(node, stage, **more)

    def run(self) -> Scene:
        """Funded, and running."""
        self.behind.calm()
        assert self.phases == ["running"] * 2
        return self

    def play(self, node: SimNode, *payloads: bytes) -> None:
        for payload in payloads:
            node.submit(self.channel, payload)
            self.sim.run()

    def close(self) -> None:
        self.bob.submit(self.channel, b"", kind=Kind.CLOSE)
        self.sim.run()

    def state(self, node: SimNode) -> Any:
        return node.engine(self.channel).state

    def events(self, node: SimNode) -> list[Any]:
        return [decode_event(data) for page in node.log.read(self.channel) for data in page.events]

    def restart(self, node: SimNode) -> None:
        node.crash()
        node.start()
        self.sim.run()


@pytest.mark.parametrize("hubs", [0, 1, 3])
def test_a_whole_life_through_hubs(hubs: int) -> None:
    """No transaction, one signature per party and batch, three per hub; the ledgers pay what the app said."""
    scene = Scene(hubs)
    assert scene.phases == ["funding"] * 2
    scene.run()
    scene.play(scene.bob, b"move:0:1:2", b"hello")
    scene.play(scene.alice, b"move:1:0:1")
    scene.close()
    assert scene.phases == ["closed"] * 2
    scene.behind.calm()
    assert scene.phases == ["settled"] * 2
    assert scene.behind.behind[scene.channel].paid == (6, 4)
    assert scene.alice.supported(scene.channel) == scene.bob.supported(scene.channel)
    for node in scene.sim.nodes:
        check_log(node.log, scene.channel)
        assert node.engine(scene.channel).waiting_for == ""


def test_what_it_waits_for_is_said_in_words() -> None:
    scene = Scene(2)
    engine = scene.alice.engine(scene.channel)
    first, second = (hub.address.hex() for hub in scene.behind.hubs)
    assert engine.waiting_for == "this node's ledger to guarantee the channel"
    scene.hear(scene.alice, "none", detail="the hub is away")
    assert engine.waiting_for == "this node's ledger to guarantee the channel (the hub is away)"
    scene.hear(scene.alice, "guaranteed")
    assert engine.waiting_for == "the signature of participant 1 under turn 1"
    scene.hear(scene.bob, "guaranteed")
    assert engine.waiting_for == f"the signatures of 0x{first}, 0x{second} under turn 1"
    scene.both_hear("complete")
    assert engine.waiting_for == ""
    scene.close()
    assert engine.waiting_for.startswith(f"the signatures of 0x{first}, 0x{second} under turn ")
    scene.hear(scene.alice, "disputed")
    assert engine.waiting_for == "the channel to be settled on chain"


def test_the_proposal_names_hubs_and_fees_and_the_id_commits_to_them() -> None:
    scene = Scene(2)
    setup = scene.state(scene.bob).setup
    hubs = tuple(hub.address for hub in scene.behind.hubs)
    parties = tuple(node.signer.address for node in scene.sim.nodes)
    assert setup.participants == parties
    assert setup.fixed.participants == (parties[0], *hubs, parties[1])
    assert setup.virtual_terms.fees == (HUB_FEE, HUB_FEE)
    info = backing_info(scene.state(scene.bob))
    assert info is not None
    assert (info.hubs, info.fees, info.stage) == (hubs, (HUB_FEE, HUB_FEE), "none")


def slot(asset: int, who: int) -> tuple[bytes, bytes, bytes]:
    """One unit of an asset to an account."""
    return bytes([asset]) * 20, bytes(12) + bytes([who]) * 20, (1).to_bytes(32, "big")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"fees": ()}, "0 fees for 1 hubs"),
        ({"fees": (b"\xff" * 32,)}, "sum to 2\\^256"),
        ({"hubs": (), "fees": ()}, "channel id"),
        ({"hubs": (b"\x99" * 20,)}, "channel id"),
        ({"app_definition": ZERO_ADDRESS}, "app for two parties, not none"),
        ({"slots": ()}, "0 slots of 0 assets"),
        ({"slots": ((b"\x00" * 20, b"\x00" * 12 + b"\x01" * 20, b"\x00" * 31 + b"\x01"),) * 3}, "3 slots of 1 assets"),
        ({"slots": (slot(0, 1), slot(0, 2), slot(1, 2), slot(1, 1))}, "the same two different accounts in each asset"),
        ({"slots": (slot(0, 1), slot(0, 1))}, "the same two different accounts in each asset"),
        ({"slots": tuple(slot(asset, who) for asset in range(17) for who in (1, 2))}, "34 slots of 17 assets"),
    ],
)
def test_a_proposal_of_no_virtual_channel_is_refused(change: dict[str, Any], reason: str) -> None:
    scene = Scene(1)
    found = msgspec.structs.replace(_proposal(scene), **change)
    with pytest.raises(PeerError, match=reason):
        created_from_proposal(found, scene.bob.signer.address, scene.sim.now_ms)


@pytest.mark.parametrize("hub", ["alice", "bob"])
def test_an_app_party_is_no_hub_of_its_own_channel(hub: str) -> None:
    scene = Scene(1)
    party = scene.alice if hub == "alice" else scene.bob
    found = msgspec.structs.replace(_proposal(scene), hubs=(party.signer.address,))
    with pytest.raises(PeerError, match="appears more than once"):
        created_from_proposal(found, scene.bob.signer.address, scene.sim.now_ms)


def test_a_virtual_channel_has_two_app_parties() -> None:
    scene = Scene(1)
    good = _proposal(scene)
    found = msgspec.structs.replace(good, participants=(*good.participants, b"\x77" * 20))
    with pytest.raises(PeerError, match="3 app parties: a virtual channel has 2"):
        created_from_proposal(found, scene.bob.signer.address, scene.sim.now_ms)


def _proposal(scene: Scene) -> VirtualProposal:
    """The one that was on its way, said again by a sequencer whose prefund state nobody else has signed."""
    sim = Sim(2, seed=3)
    behind = SimBacking(sim, len(scene.behind.hubs))
    behind.open((7, 3))
    found = decode_message(sim.queue[0][2])
    assert isinstance(found, VirtualProposal)
    return found


# Funding


def test_the_postfund_state_is_signed_only_where_the_guarantee_stands() -> None:
    """By the sequencer and by the other one, each for itself."""
    scene = Scene()
    scene.hear(scene.bob, "guaranteed")
    assert scene.state(scene.alice).signed_turn == 0
    scene = Scene()
    scene.hear(scene.alice, "guaranteed")
    assert [scene.state(node).signed_turn for node in scene.sim.nodes] == [1, 0]
    scene.hear(scene.bob, "guaranteed")
    assert [scene.state(node).turn for node in scene.sim.nodes] == [1, 1]
    assert scene.phases == ["funding"] * 2


def test_nothing_is_ordered_before_the_hubs_have_signed() -> None:
    """What is said before that waits, and is ordered then."""
    scene = Scene()
    scene.both_hear("guaranteed")
    scene.play(scene.bob, b"early")
    assert scene.state(scene.alice).turn == 1
    scene.hear(scene.alice, "complete")
    assert [scene.state(node).turn for node in scene.sim.nodes] == [1, 1], "bob holds it back"
    scene.hear(scene.bob, "complete")
    assert [scene.state(node).turn for node in scene.sim.nodes] == [2, 2]
    assert scene.phases == ["running"] * 2


def test_the_postfund_state_is_never_replaced() -> None:
    """Whatever reason a party gives: later states are enforceable through turn 1 alone."""
    scene = Scene()
    scene.hear(scene.alice, "guaranteed")
    for code in ("recovered", "time"):
        refusal = encode_message(Refuse(scene.channel, 1, code, "go above", 0))
        scene.sim.put(1, scene.alice.signer.address, refusal)
        scene.sim.run()
    assert scene.state(scene.alice).signed_turn == 1


def test_a_later_turn_over_the_prefund_state_is_refused() -> None:
    """A sequencer that skips turn 1 would leave the other one with nothing enforceable."""
    scene = Scene()
    scene.hear(scene.bob, "guaranteed")
    state = scene.state(scene.alice)
    head = state.head
    skipping = Propose(
        scene.channel, 2, False, 1, (), head.log_root, head.state_root, head.amounts, head.time_ms, (), bytes(65)
    )
    content = msgspec.structs.replace(state.prefund, turn=2, entries=())
    signature = scene.alice.signer.sign(state.setup.hash(content))
    said = encode_message(msgspec.structs.replace(skipping, signature=signature))
    scene.sim.put(0, scene.bob.signer.address, said)
    scene.sim.run()
    assert scene.state(scene.bob).signed_turn == 0
    assert any("the postfund state comes first" in told.detail for told in scene.bob.told)


def test_a_failed_funding_rejects_the_channel_with_its_reason() -> None:
    scene = Scene()
    scene.both_hear("guaranteed")
    scene.hear(scene.alice, "failed", detail="the hub has no funds")
    assert scene.phases == ["rejected"] * 2
    assert scene.state(scene.alice).rejected == "the hub has no funds"
    assert "does not join: the hub has no funds" in scene.state(scene.bob).rejected
    before = [len(scene.events(node)) for node in scene.sim.nodes]
    scene.both_hear("failed", detail="again")
    scene.both_hear("complete")
    assert [len(scene.events(node)) for node in scene.sim.nodes] == before
    for node in scene.sim.nodes:
        scene.restart(node)
    assert scene.phases == ["rejected"] * 2


def test_the_operator_gives_up_until_the_postfund_state_is_signed() -> None:
    scene = Scene()
    scene.alice.input(scene.channel, lambda e, _: e.reject("changed my mind"))
    scene.sim.run()
    assert scene.phases == ["rejected"] * 2
    scene = Scene()
    scene.both_hear("guaranteed")
    with pytest.raises(LocalError, match="can no longer be rejected"):
        scene.alice.input(scene.channel, lambda e, _: e.reject("changed my mind"))


@pytest.mark.parametrize("turns", ["postfund", "batch"])
def test_a_funded_channel_is_not_given_up(turns: str) -> None:
    """Neither at a peer's word nor at the ledgers', which cannot mean it."""
    scene = Scene().run()
    if turns == "batch":
        scene.play(scene.bob, b"move:0:1:2")
    scene.sim.put(0, scene.bob.signer.address, encode_message(Rejected(scene.channel, "no more")))
    scene.sim.run()
    assert scene.phases == ["running"] * 2
    with pytest.raises(LocalError, match="can no longer be given up"):
        scene.hear(scene.bob, "failed")


# What the ledgers say


def test_a_repeated_backing_stores_nothing_and_an_older_one_changes_nothing() -> None:
    scene = Scene().run()
    before = [len(scene.events(node)) for node in scene.sim.nodes]
    for node in scene.sim.nodes:
        scene.behind.tell(node, scene.channel, again=True)
    stages: tuple[Stage, ...] = ("none", "guaranteed", "complete")
    for stage in stages:
        scene.both_hear(stage)
    assert [len(scene.events(node)) for node in scene.sim.nodes] == before
    assert scene.phases == ["running"] * 2


def test_signatures_add_up_and_are_never_lost() -> None:
    scene = Scene()
    scene.both_hear("guaranteed")
    engine = scene.alice.engine(scene.channel)
    assert signers_of(engine.offered()[1]) == {0, 2}
    scene.hear(scene.alice, "complete", signatures=((0, scene.of_hubs(0)), (1, scene.of_hubs(1))))
    assert [signers_of(state) for state in engine.offered()] == [{0, 1, 2}] * 2
    assert signers_of(engine.offered()[1]) == {0, 1, 2}
    scene.hear(scene.alice, "disputed")
    assert signers_of(engine.offered()[1]) == {0, 1, 2}


def test_complete_means_signed_by_everybody() -> None:
    """Batches are enforceable through the postfund state alone: nobody's word stands in for a signature under it."""
    scene = Scene(2)
    scene.both_hear("guaranteed")
    partial = (*scene.of_hubs(1)[:2], b"", b"")
    with pytest.raises(LocalError, match="not signed by everybody"):
        scene.hear(scene.alice, "complete", signatures=((1, partial),))
    assert scene.phases == ["funding"] * 2


@pytest.mark.parametrize(
    ("signatures", "reason"),
    [
        (lambda s: ((1, (b"", s, s)),), "is wrong"),
        (lambda s: ((1, (b"", bytes(65), b"")),), "is wrong"),
        (lambda s: ((1, (s, b"")),), "2 signatures of turn 1, 3 can be"),
        (lambda s: ((0, (b"", s, b"")),), "is wrong"),
    ],
)
def test_a_backing_with_wrong_signatures_is_refused_whole(signatures: Any, reason: str) -> None:
    """They prove later states to the chain: better to learn of it now."""
    scene = Scene()
    scene.both_hear("guaranteed")
    state = scene.state(scene.alice)
    right = scene.behind.hubs[0].sign(state.setup.hash(state.head))
    with pytest.raises(LocalError, match=reason):
        scene.hear(scene.alice, "complete", signatures=signatures(right))
    assert scene.state(scene.alice).backed.stage == "guaranteed"


def test_signatures_of_states_that_are_not_known_here_are_left_out() -> None:
    scene = Scene().run()
    scene.hear(scene.alice, "releasing", signatures=((9, (b"", bytes(65), b"")),))
    assert [turn for turn, _ in scene.state(scene.alice).backed.signed] == [0, 1]


def test_only_a_virtual_channel_has_a_backing() -> None:
    sim = Sim(2)
    channel = sim.nodes[0].open(sim.nodes[1:])
    sim.run()
    with pytest.raises(LocalError, match="not virtual"):
        sim.nodes[0].input(channel, lambda e, _: e.on_backing(Backing("guaranteed")))
    assert sim.nodes[0].engine(channel).offered() == ()
    assert sim.nodes[0].engine(channel).enforceable_stack() is None


# Disputes


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
