"""Mallory does not order: what she sends to the sequencer and to other participants (rules 1, 9 and 11).

Each thing is refused with a reason or passed over, changes nothing that is stored, and the others go on.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec
import pytest

from scapp.channels.channel.events import ChannelCreated, Refused, Signed
from scapp.channels.channel.messages import (
    Countersign,
    Decisions,
    Entries,
    EntriesWanted,
    Message,
    Proposal,
    Refuse,
    Rejected,
    Status,
    Submit,
    Supported,
    encode_message,
)
from scapp.channels.channel.opening import opening_entry, prefund_of
from scapp.channels.channel.ordering import QUEUE_BATCHES_MAX, REFUSALS_PER_WINDOW_MAX, REPLACED_MAX, RETIMED_MAX
from scapp.channels.channel.setup import Setup
from scapp.channels.deployment import Deployment, Limits, encode_deployment
from scapp.channels.entries import Kind, decode_entry, encode_entry
from scapp.channels.signing import Signer
from tests.support.checkers import Watch, check_log, with_other_v
from tests.support.fakes import SumAdmission
from tests.support.mallory import Mallory, stored
from tests.support.sim import Sim, SimNode

LIMITS = Limits(batch_entries_max=4, payload_bytes_max=100, batch_bytes_max=300)
STRANGER = Signer(b"\x77" * 32)


def table(count: int = 3, *, pending: bool = True) -> tuple[Sim, Mallory, SimNode, bytes]:
    """Alice orders; Mallory sits last and has signed one batch. With `pending` a proposal of Alice waits for her."""
    sim = Sim(count)
    Watch(sim, set(range(count - 1)))
    channel = sim.nodes[0].open(sim.nodes[1:], limits=LIMITS, slots=(10, 5))
    sim.run()
    sim.nodes[-1].submit(channel, b"mallory 1")
    sim.run()
    mallory = Mallory(sim, sim.nodes[-1], channel)
    if pending:
        sim.nodes[0].submit(channel, b"alice 1")
        sim.run()
    return sim, mallory, sim.nodes[0], channel


def agree(mallory: Mallory, sequencer: SimNode) -> None:
    """She signs what waits for her, so that the others can go on."""
    candidates = sequencer.engine(mallory.channel).state.candidates
    answer = mallory.countersign(sequencer, candidates[-1].turn)
    for node in mallory.sim.nodes[:-1]:
        mallory.say(node, answer)


def pending(alice: SimNode, channel: bytes) -> int:
    return alice.engine(channel).state.candidates[-1].turn


def head_set(m: Mallory, a: SimNode, **changes: object) -> Supported:
    """The real latest full set, bent."""
    state = a.engine(m.channel).state
    head = state.head
    assert head is not None
    made = Supported(
        m.channel,
        head.turn,
        head.is_final,
        head.sequence,
        head.log_root,
        head.state_root,
        head.amounts,
        head.time_ms,
        tuple(head.signatures),  # type: ignore[arg-type]
    )
    return msgspec.structs.replace(made, **changes)


def forged_set(m: Mallory, a: SimNode) -> Supported:
    """A state of her own, signed by herself in everybody's place."""
    state = m.state(a, [m.entry(b"mine")])
    return m.supported(state, [m.sign(state)] * a.engine(m.channel).state.setup.count)


Words = Callable[[Mallory, SimNode, bytes], Message | bytes]
SAYINGS: dict[str, tuple[Words, str]] = {
    "nothing": (lambda m, a, c: b"", "cannot be read"),
    "garbage": (lambda m, a, c: b"\xc1" * 100, "cannot be read"),
    "text that is not UTF-8": (lambda m, a, c: b"\x93\xa6reject\xc4\x20" + c + b"\xa2\xff\xfe", "cannot be read"),
    "deep nesting": (lambda m, a, c: b"\x94\xa6reject\xc4\x20" + c + b"\xa0" + b"\x91" * 50_000, "cannot be read"),
    "a message cut off": (lambda m, a, c: encode_message(m.countersign(a, pending(a, c)))[:-1], "cannot be read"),
    "bytes behind a message": (lambda m, a, c: encode_message(Rejected(c, "x")) + b"x", "cannot be read"),
    "an unknown channel": (lambda m, a, c: Countersign(bytes(32), 2, bytes(65)), "unknown channel"),
    "a signature of nobody": (lambda m, a, c: Countersign(c, pending(a, c), bytes(65)), "wrong signature"),
    "Alice's signature as her own": (
        lambda m, a, c: Countersign(c, pending(a, c), a.engine(c).state.candidates[-1].signatures[0]),
        "wrong signature",
    ),
    "Bob's signature as her own": (
        lambda m, a, c: Countersign(c, pending(a, c), a.engine(c).state.candidates[-1].signatures[1]),
        "wrong signature",
    ),
    "her signature with v 0 or 1": (lambda m, a, c: with_v(m.countersign(a, pending(a, c)), -27), "wrong signature"),
    "her signature with v 29 or 30": (lambda m, a, c: with_v(m.countersign(a, pending(a, c)), 2), "wrong signature"),
    "her signature with a high s": (
        lambda m, a, c: high_s(m.countersign(a, pending(a, c))),
        "wrong signature",
    ),
    "her signature from another turn": (
        lambda m, a, c: Countersign(c, pending(a, c), a.engine(c).state.head.signatures[-1]),
        "wrong signature",
    ),
    "a proposal": (lambda m, a, c: m.proposal(m.state(a, [m.entry()])), "participant 2 cannot propose"),
    "decisions": (lambda m, a, c: Decisions(c, (Refused(1, 1, "no", "no"),)), "participant 2 cannot decide"),
    "a rejection after the prefund": (lambda m, a, c: Rejected(c, "changed my mind"), "fully signed"),
    "the channel's proposal": (lambda m, a, c: proposal(m, a), "participant 2 cannot propose a channel"),
    "submissions beyond the queue": (
        lambda m, a, c: Submit(c, 2, 1, (b"",) * (QUEUE_BATCHES_MAX * LIMITS.batch_entries_max + 1)),
        "submissions waiting",
    ),
    "a full set of her own": (lambda m, a, c: forged_set(m, a), "wrong signature of participant 0"),
    "a full set with too few signatures": (
        lambda m, a, c: head_set(m, a, turn=99, signatures=(bytes(65),) * 2),
        "2 signatures for 3",
    ),
    "a full set of a wrong v": (lambda m, a, c: unproved_set(m, a, c), "wrong signature of participant 2"),
    "a full set with another turn": (lambda m, a, c: head_set(m, a, turn=99), "wrong signature of participant"),
    "a full set with another outcome": (
        lambda m, a, c: head_set(m, a, turn=99, amounts=bytes(31) + b"\x0f" + bytes(32)),
        "wrong signature",
    ),
    "a full set with a wrong sum": (lambda m, a, c: head_set(m, a, turn=99, amounts=bytes(64)), "outcome pays 0"),
    "a full set with a slot too many": (
        lambda m, a, c: head_set(m, a, turn=99, amounts=bytes(96)),
        "96 bytes for 2 slots",
    ),
    "a full set of the greatest turn": (lambda m, a, c: head_set(m, a, turn=2**48 - 1), "wrong signature"),
}

SILENT: dict[str, Words] = {
    "a full set known long ago": lambda m, a, c: head_set(m, a),
    "a signature of a turn that is settled": lambda m, a, c: Countersign(c, 1, bytes(65)),
    "a signature of a turn to come": lambda m, a, c: Countersign(c, 2**48 - 1, bytes(65)),
    "a refusal of a turn that is settled": lambda m, a, c: Refuse(c, 1, "no", "no", 0),
    "a refusal of a turn to come": lambda m, a, c: Refuse(c, 2**48 - 1, "time", "no", 0),
    "a refusal that blames nothing": lambda m, a, c: Refuse(c, pending(a, c), "no", "no", -1),
    "a refusal that blames what is not there": lambda m, a, c: Refuse(c, pending(a, c), "no", "no", 2**31 - 1),
    "a status from the future": lambda m, a, c: Status(c, 2**48 - 1, 2**48 - 1, 2**63 - 1, bytes(32)),
    "a status that asks": lambda m, a, c: Status(c, 2**48 - 1, 2**48 - 1, 2**63 - 1, bytes(32), True),
    "a status from before": lambda m, a, c: Status(c, -1, -1, 0, bytes(32), True),
    "entries nobody asked for": lambda m, a, c: Entries(c, 1, (b"x",) * 1000),
    "a wish for all entries": lambda m, a, c: EntriesWanted(c, 0, 2**63 - 1),
    "a wish for entries to come": lambda m, a, c: EntriesWanted(c, 2**62, 2**63 - 1),
    "a wish that ends before it begins": lambda m, a, c: EntriesWanted(c, 5, 1),
    "submissions decided before": lambda m, a, c: Submit(c, 1, 1, (b"mallory 1",)),
    "submissions with a gap": lambda m, a, c: Submit(c, 2**63 - 1, 1, (b"late", b"later")),
    "no submissions": lambda m, a, c: Submit(c, 2, 1, ()),
}


def with_v(message: Countersign, more: int) -> Countersign:
    signature = message.signature
    return msgspec.structs.replace(message, signature=signature[:64] + bytes([signature[64] + more]))


def unproved_set(m: Mallory, alice: SimNode, channel: bytes) -> Supported:
    """What waits for her, with everybody's signature and her own in a form that the contracts refuse."""
    candidate = alice.engine(channel).state.candidates[-1]
    bob = m.sim.nodes[1].engine(channel).state.candidates[-1].signatures[1]
    return m.supported(candidate, (candidate.signatures[0], bob, with_other_v(m.sign(candidate))))


def high_s(message: Countersign) -> Countersign:
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    r, s, v = message.signature[:32], int.from_bytes(message.signature[32:64], "big"), message.signature[64]
    return msgspec.structs.replace(message, signature=r + (order - s).to_bytes(32, "big") + bytes([55 - v]))


def proposal(m: Mallory, alice: SimNode, **changes: object) -> Proposal:
    """A proposal of a channel, as Mallory would open one with Alice; `changes` are made before she signs."""
    setup = alice.engine(m.channel).state.setup
    time_ms = m.sim.now_ms
    slots = tuple((a, d, v.to_bytes(32, "big")) for a, d, v in setup.slots)
    entry = opening_entry(setup.participants, slots, None, time_ms)
    made = Proposal(
        m.channel,
        setup.participants,
        setup.fixed.nonce,
        setup.fixed.app_definition,
        setup.fixed.challenge_duration,
        encode_deployment(setup.deployment),
        slots,
        entry,
        bytes(32),
        time_ms,
        bytes(65),
    )
    return msgspec.structs.replace(made, **changes)


@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("name", SAYINGS)
def test_rule_11_bad_words_are_refused_with_a_reason_and_change_nothing(name: str, victim: int) -> None:
    sim, mallory, alice, channel = table()
    make, reason = SAYINGS[name]
    message = make(mallory, alice, channel)
    node = sim.nodes[victim]
    if victim == 1 and isinstance(message, Submit):
        reason = "participant 1 cannot be asked to order"
    before = stored(node, channel)
    assert reason in mallory.say(node, message)
    assert stored(node, channel) == before
    agree(mallory, alice)
    assert [decode_entry(e).payload for e in node.supported(channel)[1:]] == [b"mallory 1", b"alice 1"]


@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("name", SILENT)
def test_rule_11_what_means_nothing_changes_nothing(name: str, victim: int) -> None:
    sim, mallory, alice, channel = table()
    node = sim.nodes[victim]
    message = SILENT[name](mallory, alice, channel)
    before = stored(node, channel)
    mallory.say(node, message)
    assert stored(node, channel) == before
    agree(mallory, alice)
    assert [decode_entry(e).payload for e in node.supported(channel)[1:]] == [b"mallory 1", b"alice 1"]
    sim.nodes[1].submit(channel, b"bob 1")
    sim.run()
    agree(mallory, alice)
    assert decode_entry(node.supported(channel)[-1]).payload == b"bob 1"


@pytest.mark.parametrize("name", [*SAYINGS, *SILENT])
def test_rule_11_a_stranger_gets_nowhere(name: str) -> None:
    """The same words from somebody who is no participant, proved by the transport to be who they are."""
    sim, mallory, alice, channel = table()
    make = SAYINGS[name][0] if name in SAYINGS else SILENT[name]
    before = stored(alice, channel)
    reason = mallory.say(alice, make(mallory, alice, channel), signer=STRANGER)
    assert "no participant" in reason or "unknown channel" in reason or "cannot be read" in reason
    assert stored(alice, channel) == before
    assert sim.nodes[1].engine(channel).phase == "running"


def test_rule_11_another_participants_message_from_mallory_counts_as_hers() -> None:
    """Bob's countersignature, taken from the wire and said by Mallory, is no signature of Mallory's."""
    sim, mallory, alice, channel = table()
    bobs = alice.engine(channel).state.candidates[-1].signatures[1]
    assert "wrong signature of participant 2" in mallory.say(alice, Countersign(channel, pending(alice, channel), bobs))
    assert sim.nodes[1].refused == []


def test_rule_11_replays_from_another_channel_mean_nothing() -> None:
    """Everything Mallory heard in one channel, said in another one with the same people."""
    sim, mallory, alice, _channel = table()
    second = alice.open([sim.nodes[1]], limits=LIMITS, slots=(10, 5))
    sim.run()
    before = stored(alice, second)
    for _, message in list(mallory.heard):
        data = encode_message(msgspec.structs.replace(message, channel=second))
        mallory.say(alice, data, signer=sim.nodes[1].signer)
    assert stored(alice, second) == before
    assert alice.engine(second).phase == "running"


@pytest.mark.parametrize("victim", [0, 1])
def test_rule_11_every_message_twice_and_in_any_order(victim: int) -> None:
    """All that anybody ever said, once more and shuffled: nothing changes."""
    sim = Sim(3)
    said: list[tuple[int, bytes]] = []
    channel = sim.nodes[0].open(sim.nodes[1:])
    node = sim.nodes[victim]

    def tap(sender: int, to: object, data: bytes) -> bytes:
        if to == node.signer.address:
            said.append((sender, data))
        return data

    sim.tap = tap
    sim.run()
    for round_ in range(4):
        for other in sim.nodes:
            other.submit(channel, b"%d" % round_)
        sim.run()
    sim.tap = None
    again = said * 2
    random.Random(victim).shuffle(again)
    before = stored(node, channel)
    for sender, data in again:
        node.receive(sim.nodes[sender].signer.address, data)
    sim.run()
    assert stored(node, channel) == before
    assert len({n.engine(channel).state.turn for n in sim.nodes}) == 1


def test_a_withheld_signature_stops_the_channel_and_says_whose() -> None:
    """Nothing is lost: messages wait, and the reason stands where the operator looks."""
    sim, mallory, alice, channel = table()
    bob = sim.nodes[1]
    bob.submit(channel, b"waits")
    for _ in range(5):
        sim.tick(31_000)
        sim.run()
    assert alice.engine(channel).waiting_for == f"the signature of participant 2 under turn {pending(alice, channel)}"
    for node in (alice, bob):
        node.crash()
        node.start()
    sim.run()
    agree(mallory, alice)
    agree(mallory, alice)
    assert [decode_entry(e).payload for e in bob.supported(channel)[2:]] == [b"alice 1", b"waits"]


def test_a_full_set_sent_to_one_peer_only_reaches_everybody() -> None:
    """Mallory's countersignature goes to Bob alone; Bob tells Alice."""
    sim, mallory, alice, channel = table()
    bob = sim.nodes[1]
    mallory.say(bob, mallory.countersign(alice, pending(alice, channel)))
    assert len(bob.supported(channel)) == 3
    assert len(alice.supported(channel)) == 2
    for _ in range(2):
        sim.tick(31_000)
        sim.run()
    assert alice.supported(channel) == bob.supported(channel)


def test_rule_11_refused_submissions_are_rate_limited_per_author() -> None:
    """After so many in a window Mallory is not heard; Bob is, and later Mallory is again."""
    sim, mallory, alice, channel = table(pending=False)
    bob = sim.nodes[1]
    counter = 2
    said = 0
    while said < REFUSALS_PER_WINDOW_MAX:
        message = Submit(channel, counter, 1, (b"x" * 101,) * 10)
        assert mallory.say(alice, message) == ""
        counter += 10
        said += 10
    before = stored(alice, channel)
    assert "submissions refused in" in mallory.say(alice, Submit(channel, counter, 1, (b"x" * 101,)))
    assert stored(alice, channel) == before
    bob.submit(channel, b"bob")
    sim.run()
    agree(mallory, alice)
    assert decode_entry(alice.supported(channel)[-1]).payload == b"bob"
    sim.now_ms += 20_000
    assert mallory.say(alice, Submit(channel, counter, 1, (b"fine",))) == ""
    agree(mallory, alice)
    assert decode_entry(alice.supported(channel)[-1]).payload == b"fine"


@pytest.mark.parametrize("kind", [0, 2, 3, 4, 255])
def test_a_submission_that_cannot_be_ordered_is_refused_with_its_reason(kind: int) -> None:
    _sim, mallory, alice, channel = table(pending=False)
    mallory.say(alice, Submit(channel, 2, kind, (b"payload",)))
    (decisions,) = mallory.heard_of(Decisions)
    assert [(r.counter, r.code) for r in decisions.refused] == [(2, "limit")]
    assert len(alice.supported(channel)) == 2


def test_refusing_for_ever_is_bounded() -> None:
    """Each refusal that blames an entry costs a signed turn; after a bound Alice waits and says why."""
    _sim, mallory, alice, channel = table(2, pending=False)
    for i in range(REPLACED_MAX + 20):
        alice.submit(channel, b"%d" % i)
    mallory.sim.run()
    turn = -1
    while turn != pending(alice, channel):
        turn = pending(alice, channel)
        mallory.say(alice, Refuse(channel, turn, "no", "never", 0))
    state = alice.engine(channel).state
    assert len(state.candidates) <= REPLACED_MAX
    assert "never" in alice.engine(channel).waiting_for
    agree(mallory, alice)
    check_log(alice.log, channel)


def test_complaining_about_fresh_times_is_bounded() -> None:
    _sim, mallory, alice, channel = table(2)
    first = pending(alice, channel)
    for _ in range(20):
        mallory.say(alice, Refuse(channel, pending(alice, channel), "time", "my clock"))
    assert pending(alice, channel) - first == RETIMED_MAX
    agree(mallory, alice)
    assert decode_entry(alice.supported(channel)[-1]).payload == b"alice 1"


def test_a_state_without_entries_is_not_replaced() -> None:
    """There is nothing in the postfund state to leave out, and its time is the prefund's."""
    sim = Sim(2)
    sim.tap = lambda sender, to, data: None if data[1:].startswith(b"\xa7propose") else data
    alice = sim.nodes[0]
    channel = alice.open(sim.nodes[1:])
    sim.run()
    mallory = Mallory(sim, sim.nodes[1], channel)
    assert pending(alice, channel) == 1
    sim.now_ms += 100_000
    mallory.say(alice, Refuse(channel, 1, "time", "old"))
    assert pending(alice, channel) == 1


@pytest.mark.parametrize(("code", "entry"), [("mine", 0), ("time", -1)])
def test_the_prefund_state_is_not_replaced(code: str, entry: int) -> None:
    """Who does not want the channel rejects it; a refusal changes nothing."""
    sim = Sim(2)
    alice, bob = sim.nodes
    bob.accept = False
    channel = alice.open([bob])
    sim.run()
    mallory = Mallory(sim, bob, channel)
    before = stored(alice, channel)
    sim.now_ms += 100_000
    mallory.say(alice, Refuse(channel, 0, code, "not this opening", entry))
    assert stored(alice, channel) == before
    mallory.say(alice, mallory.countersign(alice, 0))
    assert alice.engine(channel).state.turn == 0


def test_junk_signatures_of_mallory_leave_room_for_bobs() -> None:
    """Signatures that come before their proposal are kept, a few per participant."""
    sim = Sim(4)
    channel = sim.nodes[0].open(sim.nodes[1:])
    sim.run()
    mallory = Mallory(sim, sim.nodes[3], channel)
    carol = sim.nodes[2]
    for turn in range(1000, 1200):
        mallory.say(carol, Countersign(channel, turn, bytes(65)))
    session = carol.engine(channel).session
    assert 0 < len(session.early) <= 4
    carol.receive(sim.nodes[1].signer.address, encode_message(Countersign(channel, 2, bytes(65))))
    assert (2, 1) in session.early


# Opening


def opening_case(**changes: object) -> tuple[Sim, Mallory, SimNode, Proposal]:
    """Mallory proposes a channel to Alice; the proposal is bent, then signed as it is."""
    sim = Sim(2)
    seed = sim.nodes[1].open([sim.nodes[0]], limits=LIMITS, slots=(10, 5))
    mallory_node, alice = sim.nodes[1], sim.nodes[0]
    sim.queue.clear()
    engine = mallory_node.engine(seed)
    made = engine.materialize(engine.pending()[0])[0]
    message: Proposal = msgspec.msgpack.decode(made, type=Proposal)
    mallory = Mallory(sim, mallory_node, seed)
    return sim, mallory, alice, msgspec.structs.replace(message, **changes)


def resigned(mallory: Mallory, message: Proposal) -> Proposal:
    """Give the proposal its right id and her signature, whatever else it says."""
    prefund = prefund_of(message.slots, len(message.participants), message.entry, message.state_root, message.time_ms)
    setup = Setup(
        ChannelCreated(
            1,
            message.participants,
            message.nonce,
            message.app_definition,
            message.challenge_duration,
            message.deployment,
            message.slots,
            prefund,
        )
    )
    signature = mallory.signer.sign(setup.hash(prefund))
    return msgspec.structs.replace(message, channel=setup.channel_id, signature=signature)


def deployment(**limits: int) -> bytes:
    return encode_deployment(Deployment(bytes(32), limits=Limits(**limits)))


WHO = {"mallory": Signer(b"\x02" * 32).address, "alice": Signer(b"\x01" * 32).address}
OPENINGS: dict[str, tuple[dict[str, object], str]] = {
    "another channel id": ({"channel": bytes(32)}, "does not follow from the proposal"),
    "a nonce beyond its field": ({"nonce": 2**64 - 1}, "does not follow from the proposal"),
    "a wrong signature": ({"signature": bytes(65)}, "wrong signature"),
    "another root than she signed": ({"state_root": b"\x01" * 32}, "wrong signature"),
    "somebody named twice": ({"participants": (WHO["mallory"], WHO["alice"], WHO["alice"])}, "named twice"),
    "no time to answer a dispute": ({"challenge_duration": 0}, "challenge duration 0"),
    "a deployment that is none": ({"deployment": b"\xc1"}, "deployment cannot be read"),
    "a deployment with bad text": (
        {"deployment": b"\x93\xc4\x20" + bytes(32) + b"\xa2\xff\xfe\x90"},
        "deployment cannot be read",
    ),
    "batches without entries": ({"deployment": deployment(batch_entries_max=0)}, "0 entries per batch"),
    "payloads that fit no batch": (
        {"deployment": deployment(payload_bytes_max=1000, batch_bytes_max=1000)},
        "must fit",
    ),
    "a negative tolerance": ({"deployment": deployment(time_tolerance_ms=-1)}, "time tolerance -1"),
    "an entry 0 that is none": ({"entry": b"short"}, "entry 0 cannot be read"),
    "an entry 0 of an unknown kind": ({"entry": encode_entry(9, 0, 0, 0, b"")}, "entry 0 cannot be read"),
    "an entry 0 with bad text": (
        {"entry": encode_entry(0, 0, 0, 0, b"\x93\x90\x90\xa2\xff\xfe")},
        "entry 0 cannot be read",
    ),
    "an entry 0 nested deeply": (
        {"entry": encode_entry(0, 0, 0, 0, b"\x93\x90\x90" + b"\x91" * 50_000)},
        "entry 0 cannot be read",
    ),
    "an entry 0 that is a message": (
        {"entry": encode_entry(1, 0, 0, 0, b"\x93\x90\x90\xc0")},
        "not the opening",
    ),
    "amounts that overflow": (
        {"slots": ((bytes(20), bytes(32), b"\xff" * 32), (bytes(20), bytes(32), b"\xff" * 32))},
        "sum to 2^256 or more",
    ),
    "an asset in two places": (
        {"slots": tuple((a * 20, bytes(32), bytes(32)) for a in (b"\x01", b"\x02", b"\x01"))},
        "must stand together",
    ),
    "too many slots": ({"slots": ((bytes(20), bytes(32), bytes(32)),) * 257}, "257 outcome slots"),
}


@pytest.mark.parametrize("name", OPENINGS)
def test_rule_11_a_bad_channel_proposal_is_refused_and_not_remembered(name: str) -> None:
    changes, reason = OPENINGS[name]
    sim, mallory, alice, message = opening_case(**changes)
    assert reason in mallory.say(alice, message)
    assert alice.log.streams() == []
    assert alice.log.outbox() == []
    good = opening_case()[3]
    assert mallory.say(alice, resigned(mallory, good)) == ""
    assert len(alice.log.streams()) == 1
    assert sim.nodes[0].up


ENTRIES: dict[str, tuple[Callable[[Proposal], dict[str, object]], str]] = {
    "other participants": (
        lambda p: {"entry": opening_entry(p.participants[::-1], p.slots, None, p.time_ms)},
        "other participants or slots",
    ),
    "other slots": (
        lambda p: {"entry": opening_entry(p.participants, p.slots[:1], None, p.time_ms)},
        "other participants or slots",
    ),
    "another time": (
        lambda p: {"entry": opening_entry(p.participants, p.slots, None, p.time_ms - 1)},
        "not the opening",
    ),
    "a time to come": (
        lambda p: {
            "entry": opening_entry(p.participants, p.slots, None, p.time_ms + 10**6),
            "time_ms": p.time_ms + 10**6,
        },
        "opening time",
    ),
    "a huge parameter": (
        lambda p: {"entry": opening_entry(p.participants, p.slots, b"x" * 1000, p.time_ms)},
        "entry 0 has",
    ),
}


@pytest.mark.parametrize("name", ENTRIES)
def test_rule_11_an_entry_0_that_does_not_match_is_refused_though_well_signed(name: str) -> None:
    make, reason = ENTRIES[name]
    _sim, mallory, alice, message = opening_case()
    bent = resigned(mallory, msgspec.structs.replace(message, **make(message)))
    assert reason in mallory.say(alice, bent)
    assert alice.log.streams() == []


def test_a_proposal_in_another_ones_name_is_refused() -> None:
    """Participant 0 proposes, and nobody for it; Alice takes part only as a countersigner."""
    sim = Sim(3)
    channel = sim.nodes[0].open(sim.nodes[1:])
    sim.queue.clear()
    engine = sim.nodes[0].engine(channel)
    data = engine.materialize(engine.pending()[0])[0]
    bob, carol = sim.nodes[1:]
    bob.receive(carol.signer.address, data)
    bob.receive(STRANGER.address, data)
    assert len(bob.refused) == 2
    assert bob.log.streams() == []
    sim.nodes[0].receive(carol.signer.address, data)
    assert "participant 2 cannot propose a channel" in sim.nodes[0].refused[-1]


def test_rule_9_a_channel_has_no_second_life() -> None:
    """A second proposal of the same id, with other content, changes nothing: running, rejected, or after a restart."""
    for reject in (False, True):
        sim, mallory, alice, message = opening_case()
        alice.accept = not reject
        mallory.say(alice, message)
        if reject:
            alice.input(message.channel, lambda e, _: e.reject("no"))
            assert alice.engine(message.channel).phase == "rejected"
        alice.accept = True
        other = resigned(mallory, msgspec.structs.replace(message, deployment=deployment(rows_max=5)))
        assert other.channel == message.channel
        for again in (message, other) * 2:
            before = stored(alice, message.channel)
            reason = mallory.say(alice, again)
            assert stored(alice, message.channel)[:2] == before[:2]
            assert "unlike the first" in reason or again is message or reject
            alice.crash()
            alice.start()
            sim.run()
        assert alice.engine(message.channel).phase == ("rejected" if reject else "opening")


def test_rule_9_a_closed_channel_stays_closed() -> None:
    sim = Sim(2)
    alice, bob = sim.nodes
    said: list[bytes] = []
    sim.tap = lambda sender, to, data: (said.append(data), data)[1] if sender == 0 else data
    channel = alice.open([bob])
    sim.run()
    alice.submit(channel, b"", kind=Kind.CLOSE)
    sim.run()
    sim.tap = None
    before = stored(bob, channel)
    for data in said * 2:
        bob.receive(alice.signer.address, data)
        sim.run()
    assert stored(bob, channel) == before
    assert bob.engine(channel).phase == "closed"


def test_rejecting_is_for_participants_and_before_the_prefund() -> None:
    """A stranger's rejection counts for nothing, a participant's ends the opening for good."""
    sim = Sim(3)
    alice, bob, carol = sim.nodes
    carol.accept = False
    channel = alice.open([bob, carol])
    sim.run()
    word = encode_message(Rejected(channel, "no"))
    bob.receive(STRANGER.address, word)
    assert bob.refused[-1] == "no participant"
    assert bob.engine(channel).phase == "opening"
    bob.receive(carol.signer.address, word)
    assert bob.engine(channel).phase == "rejected"
    bob.receive(carol.signer.address, word)
    carol.input(channel, lambda e, _: e.accept())
    sim.settle()
    assert bob.engine(channel).phase == "rejected"
    assert all(n.engine(channel).state.turn < 1 for n in sim.nodes)


def test_a_halted_channel_signs_nothing() -> None:
    """Once the app cannot be decided here, every proposal is answered with that reason."""
    sim = Sim(2)
    alice, bob = sim.nodes
    channel = alice.open([bob])
    sim.run()
    mallory = Mallory(sim, alice, channel)
    bob.admission.unload(channel)  # type: ignore[arg-type]
    base = bob.make_admission()
    base.load(bob.engine(channel).state.setup.context, [bob.supported(channel)])
    state = _with_base(mallory, bob, base, [mallory.entry(b"one", counter=1)])
    mallory.say(bob, mallory.proposal(state))
    assert bob.engine(channel).phase == "halted"
    bob.admission = base
    before = stored(bob, channel)
    assert "halted: channel is not loaded" in mallory.say(bob, mallory.proposal(state))
    assert stored(bob, channel) == before
    bob.crash()
    bob.start()
    assert mallory.say(bob, mallory.proposal(state)) == ""
    assert len(bob.supported(channel)) == 2


def _with_base(mallory: Mallory, bob: SimNode, base: SumAdmission, entries: list[bytes]) -> Signed:
    kept = bob.admission
    bob.admission = base
    try:
        return mallory.state(bob, entries)
    finally:
        bob.admission = kept


def test_submissions_left_when_the_channel_closes_are_told_as_refused() -> None:
    """Bob's message never reached the sequencer before everybody signed the final state: it is decided all the same."""
    sim = Sim(2)
    alice, bob = sim.nodes
    channel = alice.open([bob])
    sim.run()
    sim.tap = lambda sender, to, data: None if data[1:].startswith(b"\xa6submit") else data
    bob.submit(channel, b"too late")
    alice.submit(channel, b"", kind=Kind.CLOSE)
    sim.run()
    assert bob.engine(channel).phase == "closed"
    assert bob.decided == [(1, "closing", "the channel is closed")]
    assert bob.engine(channel).state.outstanding == ()
