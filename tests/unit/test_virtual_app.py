"""Virtual app channels at their two app parties: opened, funded, and what their ledgers say."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from scapp.channels.backing import Backing, Stage
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
from scapp.channels.errors import LocalError, PeerError
from scapp.channels.types import ZERO_ADDRESS
from tests.support.checkers import check_log
from tests.support.sim import Sim
from tests.support.sim_backing import HUB_FEE, SimBacking, signers_of
from tests.support.virtual_app_scene import Scene


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
