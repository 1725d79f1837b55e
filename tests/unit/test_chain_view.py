"""What a view of the chain may do to a channel: only what it proves, whoever made it."""

from __future__ import annotations

import msgspec
import pytest

from scapp.channels.adjudicator_status import NO_STATE_FINGERPRINT, Status, fingerprint
from scapp.channels.channel.engine import Engine
from scapp.channels.channel.events import ChainSeen, decode_event
from scapp.channels.channel.full_set import for_contracts
from scapp.channels.channel.messages import EntriesWanted, decode_message
from scapp.channels.channel.model import ChannelState, create, evolve
from scapp.channels.channel.setup import Setup, SetupError
from scapp.channels.crypto import keccak256
from scapp.channels.curve import ORDER
from scapp.channels.driver import advances
from scapp.channels.errors import LocalError
from scapp.channels.onchain import ChainView, Challenge, ChannelOnChain, Checkpoint, TransferAll
from scapp.channels.outcome import Allocation, SingleAssetExit, encode_outcome, outcome_hash
from scapp.channels.payouts import transfer_effects
from scapp.channels.reading import SignedState
from scapp.channels.signing import Signer
from scapp.channels.state import encode_state_of_outcome
from scapp.channels.types import ZERO_ADDRESS, ZERO_HASH, ChannelId, Destination, Hash
from tests.support.sim import SimNode
from tests.support.sim_chain import ChainSim, play, running

MOVES = (b"move:0:1:1", b"move:1:0:2", b"move:0:1:1")


@pytest.fixture(scope="module")
def played() -> tuple[ChainSim, bytes]:
    """Two participants, some turns; nobody changes it."""
    sim, channel = running([(5,), (3,)])
    play(sim, channel, *MOVES)
    return sim, channel


def early(sim: ChainSim, channel: bytes, node: SimNode, turn: int, *, signed: bool = False) -> Engine:
    """The node's engine as it was when that turn became supported, and nothing above it was signed; or when it was
    `signed` here, and nothing more."""
    state: ChannelState | None = None
    for page in node.log.read(channel):
        for data in page.events:
            event = decode_event(data)
            state = evolve(state, event) if state is not None else create(event)  # type: ignore[arg-type]
            if state.signed_turn == turn and (signed or state.turn == turn):
                return Engine(state, node.signer, sim.terms)
    raise AssertionError(f"turn {turn} was never supported")


def newest(sim: ChainSim, channel: bytes) -> SignedState:
    """Without its fixed part, as an event says it."""
    state = sim.nodes[0].engine(channel).state
    assert state.head is not None
    full = for_contracts(state, state.head)
    return msgspec.structs.replace(full, participants=(), nonce=0, app_definition=bytes(20), challenge_duration=0)


def status_of(channel: bytes, shown: SignedState, ends: int) -> Status:
    encoded = encode_state_of_outcome(
        ChannelId(channel), shown.app_data, shown.outcome, shown.turn, is_final=shown.is_final
    )
    return Status(shown.turn, ends, fingerprint(Hash(keccak256(encoded)), Hash(keccak256(shown.outcome))))


def view(
    channel: bytes, shown: SignedState, held: int = 8, *, ends: int = 10_000, status: Status | None = None
) -> ChainView:
    found = ChannelOnChain(9, b"\x09" * 32, (held,), status or status_of(channel, shown, ends), shown)
    return ChainView(found, found)


def seen_in(step: object) -> ChainSeen:
    (seen,) = [event for event in step.events if isinstance(event, ChainSeen)]  # type: ignore[attr-defined]
    return seen


def high_s(signature: bytes) -> bytes:
    """The other form of the signature, which the contracts take as well."""
    s = ORDER - int.from_bytes(signature[32:64], "big")
    return signature[:32] + s.to_bytes(32, "big") + bytes((55 - signature[64],))


def test_a_full_state_on_chain_is_adopted_like_one_from_a_peer(played: tuple[ChainSim, bytes]) -> None:
    """Rule 4: its entries are asked of the others; meanwhile it is what this node would enforce."""
    sim, channel = played
    engine = early(sim, channel, sim.nodes[1], 2)
    shown = newest(sim, channel)
    assert shown.turn > 3
    step = engine.on_chain(view(channel, shown), 100)
    (asked,) = [decode_message(e.message) for e in step.effects if hasattr(e, "message")]
    assert isinstance(asked, EntriesWanted)
    for event in step.events:
        engine.apply(event)
    assert engine.session.wanted is not None
    assert engine.session.wanted.turn == shown.turn
    (paid,) = engine.wanted(10_000, 0)
    assert isinstance(paid, TransferAll)
    assert outcome_hash(paid.outcome) == keccak256(shown.outcome)
    lower = view(channel, shown, status=Status(1, 10_000, b"\x01" * 20))
    for event in engine.on_chain(ChainView(lower.latest, view(channel, shown).confirmed), 101).events:
        engine.apply(event)
    (answer,) = engine.wanted(101, 0)
    assert isinstance(answer, Checkpoint)
    assert answer.candidate.turn == shown.turn


def test_a_proposal_that_the_chain_completes_runs_again_after_a_restart(played: tuple[ChainSim, bytes]) -> None:
    """Its layer is gone with the process, so admission is asked: what waits for the answer would wait for ever."""
    sim, channel = played
    shown = newest(sim, channel)
    engine = early(sim, channel, sim.nodes[0], shown.turn, signed=True)
    candidate = engine.state.candidates[-1]
    step = engine.on_chain(view(channel, shown), 100)
    assert step.ask is not None
    assert (step.ask.first_sequence, step.ask.candidates) == (engine.state.sequence, candidate.entries)
    for event in step.events:
        engine.apply(event)
    assert engine.state.turn == shown.turn


@pytest.mark.parametrize("missing", [0, 1])
def test_a_checkpointed_state_that_we_lack_is_what_we_leave_with(played: tuple[ChainSim, bytes], missing: int) -> None:
    """Whoever checkpoints a state with our signature must not keep us in the channel by hiding the others'."""
    sim, channel = played
    shown = newest(sim, channel)
    if missing:
        shown = msgspec.structs.replace(shown, signatures=shown.signatures[missing:])
    engine = early(sim, channel, sim.nodes[1], 2)
    checkpointed = view(channel, shown, status=Status(shown.turn, 0, NO_STATE_FINGERPRINT))
    for event in engine.on_chain(checkpointed, 100).events:
        engine.apply(event)
    for event in engine.leave("test").events:
        engine.apply(event)
    wanted = engine.wanted(100, 0)
    if missing:
        assert wanted == ()
        assert "which another participant has shown to the chain" in engine.waiting_for
    else:
        assert [each.candidate.turn for each in wanted if isinstance(each, Challenge)] == [shown.turn]


@pytest.mark.parametrize("change", ["turned", "doubled", "foreign", "high s"])
def test_signatures_on_chain_may_stand_in_any_way_the_contract_takes(
    played: tuple[ChainSim, bytes], change: str
) -> None:
    sim, channel = played
    shown = newest(sim, channel)
    first, second = shown.signatures
    foreign = Signer(b"\x77" * 32).sign(Hash(b"\x01" * 32))
    signatures = {
        "turned": (second, first),
        "doubled": (first, first, second),
        "foreign": (foreign, second, first),
        "high s": (high_s(first), high_s(second)),
    }[change]
    engine = early(sim, channel, sim.nodes[1], 2)
    changed = msgspec.structs.replace(shown, signatures=signatures)
    registered = seen_in(engine.on_chain(view(channel, changed), 100)).latest.registered
    assert registered is not None
    assert registered.signatures == shown.signatures


FORGERIES = ["app data", "outcome", "other slots", "turn", "nothing", "signatures", "garbage signatures"]


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_candidate_is_neither_adopted_nor_paid(played: tuple[ChainSim, bytes], forgery: str) -> None:
    """An endpoint may say what it likes: no exception, no adoption, nothing wanted that could cost anything."""
    sim, channel = played
    shown = newest(sim, channel)
    other = (SingleAssetExit(ZERO_ADDRESS, (Allocation(Destination(b"\x01" * 32), 8),)),)
    changed = {
        "app data": {"app_data": b"\x01" * 7},
        "outcome": {"outcome": shown.outcome[:-32]},
        "other slots": {"outcome": encode_outcome(other)},
        "turn": {"turn": shown.turn + 5},
        "nothing": {"app_data": b"", "outcome": b"", "signatures": ()},
        "signatures": {"signatures": shown.signatures[:1]},
        "garbage signatures": {"signatures": (b"", b"\xff" * 65, b"\x01" * 3)},
    }[forgery]
    forged = msgspec.structs.replace(shown, **changed)
    engine = early(sim, channel, sim.nodes[1], 2)
    cut = forgery in ("outcome", "nothing")  # no contract would have taken these
    status = Status(forged.turn, 10_000, b"\x01" * 20) if cut else status_of(channel, forged, 10_000)
    for event in engine.on_chain(view(channel, forged, status=status), 100).events:
        engine.apply(event)
    assert engine.session.wanted is None
    assert engine.state.turn == 2
    assert engine.wanted(100, 0) == ()
    found = [each for each in engine.wanted(20_000, 0) if isinstance(each, TransferAll)]
    for each in found:  # a state that nobody signed was registered all the same: the chain will pay it
        assert each.state_hash != ZERO_HASH


def test_a_view_that_changes_nothing_is_not_stored(played: tuple[ChainSim, bytes]) -> None:
    """New blocks alone are no facts."""
    sim, channel = played
    node = sim.nodes[0]
    before = node.engine(channel).state.chain
    assert before is not None
    shown = sim.view(channel)
    later = ChainView(
        msgspec.structs.replace(shown.latest, block=10**6, block_hash=b"\x05" * 32),
        msgspec.structs.replace(shown.confirmed, block=10**6 - 3, block_hash=b"\x06" * 32),
    )
    assert node.engine(channel).on_chain(later, sim.head_time_s() + 5).events == ()


def test_a_view_of_other_assets_is_refused_by_name(played: tuple[ChainSim, bytes]) -> None:
    sim, channel = played
    found = ChannelOnChain(9, b"\x09" * 32, (1, 2), Status(0, 0, bytes(20)))
    with pytest.raises(LocalError, match="2 holdings of 1 assets"):
        sim.nodes[0].engine(channel).on_chain(ChainView(found, found), 100)


def test_holdings_of_256_bits_are_kept_as_they_are(played: tuple[ChainSim, bytes]) -> None:
    sim, channel = played
    found = ChannelOnChain(9, b"\x09" * 32, (2**256 - 1,), Status(0, 0, bytes(20)))
    engine = early(sim, channel, sim.nodes[0], 2)
    assert seen_in(engine.on_chain(ChainView(found, found), 100)).latest.holdings == (b"\xff" * 32,)


@pytest.mark.parametrize("held", [1, 5, 6, 7, 8])
def test_what_a_payout_from_too_small_holdings_left_is_paid_when_more_arrives(
    played: tuple[ChainSim, bytes], held: int
) -> None:
    """The recorded outcome is then a reduced one; it is found again from what this node saw or others deposit."""
    sim, channel = played
    node = sim.nodes[1]
    engine = early(sim, channel, node, 1)
    prefund = next(advances(node.log, channel))[0]
    shown = for_contracts(engine.state, prefund)
    status = status_of(channel, shown, 1_000)
    for event in engine.on_chain(view(channel, shown, held, status=status), 500).events:
        engine.apply(event)
    allocations = [Allocation(Destination(d), amount) for _, d, amount in engine.state.setup.slots]
    left = (SingleAssetExit(ZERO_ADDRESS, transfer_effects(held, allocations).remaining),)
    reduced = Status(0, 1_000, fingerprint(engine.state.setup.hash(prefund), outcome_hash(left)))
    paid = ChannelOnChain(30, b"\x30" * 32, (0,), reduced)
    for event in engine.on_chain(ChainView(paid, paid), 1_200).events:
        engine.apply(event)
    assert engine.state.phase == "settled"
    late = ChannelOnChain(40, b"\x40" * 32, (3,), reduced)
    for event in engine.on_chain(ChainView(late, late), 1_300).events:
        engine.apply(event)
    (found,) = engine.wanted(1_300, 0)
    assert isinstance(found, TransferAll)
    assert found.outcome == left


@pytest.mark.parametrize("away_s", [12, 580, 600, 100_000])
@pytest.mark.parametrize("head_first", [False, True])
def test_money_that_left_while_the_chain_was_out_of_sight_is_never_replaced(
    played: tuple[ChainSim, bytes], away_s: int, head_first: bool
) -> None:
    """Within the challenge duration nobody can have been paid: then it is a reorganisation, and the deposit is wanted
    again. After it, it is gone; also when the new block is told before what it shows."""
    sim, channel = played
    engine = early(sim, channel, sim.nodes[0], 2)

    def show(held: int, time_s: int) -> None:
        found = ChannelOnChain(9, b"\x09" * 32, (held,), Status(0, 0, bytes(20)))
        for event in engine.on_chain(ChainView(found, found), time_s).events:
            engine.apply(event)

    first = sim.head_time_s()
    show(8, first)
    for second in range(first, first + 4_000, 12):
        engine.tick(0, second)
    last = second + 12
    engine.tick(0, last)
    if head_first:
        engine.tick(0, last + away_s)
    show(0, last + away_s)
    assert engine.state.chain_ended == (away_s >= 600)
    assert len(engine.wanted(last + away_s, 0)) == (0 if away_s >= 600 else 1)


SLOT = (bytes(20), bytes(12) + b"\x01" * 20, (5).to_bytes(32, "big"))


@pytest.mark.parametrize(
    ("slots", "reason"),
    [
        ((), "needs outcome slots"),
        ((SLOT,), "1 slots for 2 participants"),
        ((SLOT, (bytes(20), b"\x01" * 32, bytes(32))), "which is no account"),
        ((SLOT, (bytes(20), bytes(32), bytes(32))), "which is no account"),
        ((SLOT, SLOT, SLOT), "nobody deposits for it"),
    ],
)
def test_slots_without_a_payer_or_payee_are_refused(
    played: tuple[ChainSim, bytes], slots: tuple[tuple[bytes, bytes, bytes], ...], reason: str
) -> None:
    """Slot i of each asset is participant i's: its deposit and its account; further slots begin with nothing."""
    sim, channel = played
    created = decode_event(next(iter(sim.nodes[0].log.read(channel))).events[0])
    with pytest.raises(SetupError, match=reason):
        Setup(msgspec.structs.replace(created, slots=slots))  # type: ignore[arg-type]


def test_slots_beyond_the_participants_begin_with_nothing_and_cost_nobody(played: tuple[ChainSim, bytes]) -> None:
    sim, channel = played
    created = decode_event(next(iter(sim.nodes[0].log.read(channel))).events[0])
    third = (bytes(20), bytes(12) + b"\x03" * 20, bytes(32))
    setup = Setup(msgspec.structs.replace(created, slots=(SLOT, SLOT, third)))  # type: ignore[arg-type]
    assert setup.shares is not None
    assert setup.shares.totals == (10,)
    assert [[(s.safety, s.amount) for s in of] for of in setup.shares.of] == [[(0, 5)], [(5, 5)]]


def test_an_unfunded_channel_has_nothing_to_do_with_a_chain() -> None:
    """No facts, no wants, no figures."""
    sim = ChainSim(2)
    channel = sim.nodes[0].open(sim.nodes[1:])
    sim.run()
    found = ChannelOnChain(9, b"\x09" * 32, (), Status(0, 0, bytes(20)))
    engine = sim.nodes[0].engine(channel)
    assert engine.on_chain(ChainView(found, found), 5).events == ()
    assert engine.wanted(5, 0) == ()
    assert engine.phase == "running"
