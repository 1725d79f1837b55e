"""What a node wants of the chain for its ledgers and virtual channels, case by case."""

from __future__ import annotations

import random

import msgspec
import pytest

from scapp.channels.adjudicator_status import Status, fingerprint
from scapp.channels.chain.calls import decode_outcome
from scapp.channels.chain.judging import state_hash_of
from scapp.channels.crypto import keccak256
from scapp.channels.errors import LocalError
from scapp.channels.ledger import chain_view, leaving, owed, settling
from scapp.channels.ledger.chain_facts import Enforceable, LedgerSeen
from scapp.channels.ledger.chain_pause import chain_pause
from scapp.channels.ledger.owed import Settled
from scapp.channels.ledger.record import LedgerRecord, evolve
from scapp.channels.ledger.signed import newest_enforceable, signed_state
from scapp.channels.onchain import ChainView, Challenge, ChannelOnChain, Checkpoint, Transfer, TransferAll
from scapp.channels.outcome import Outcome, encode_outcome
from scapp.channels.payments.vouchers import Voucher
from scapp.channels.payouts import transfer_effects
from scapp.channels.reading import SignedState
from scapp.channels.state import voucher_hash
from scapp.channels.types import ZERO_ADDRESS, ZERO_HASH, ChannelId, Hash
from scapp.channels.virtual import chain_view as virtual_view
from scapp.channels.virtual import leaving as virtual_leaving
from scapp.channels.virtual import settling as virtual_settling
from scapp.channels.virtual.standing import waiting_for
from tests.support.dispute_net import DURATION_S, START_S, OnChain, model_net
from tests.support.dispute_stories import Told

NONE = Status(0, 0, bytes(20))


def told(kind: str = "payment") -> Told:
    return Told(lambda: model_net(3, leads=(True, True)), kind)


def status_of(state_hash: Hash, outcome: bytes, ends: int, turn: int = 3) -> Status:
    return Status(turn, ends, fingerprint(state_hash, Hash(keccak256(outcome))))


def view(record: LedgerRecord, status: Status, registered=None, held: int = 2_000) -> ChainView:
    holdings = (held,) * len(record.setup.assets)
    block = ChannelOnChain(50, b"\x32" * 32, holdings, status, registered)
    return ChainView(block, block)


def seen(side: OnChain, record: LedgerRecord, found: ChainView, settled=None, now_s: int = START_S + 1_000):
    context = msgspec.structs.replace(side.context, head_time_s=now_s)
    for event in chain_view.on_view(record, found, settled or {}, context).events:
        record = evolve(record, event)
    return record, context


# Views


def test_a_view_that_says_nothing_new_is_no_fact() -> None:
    story = told()
    side = story.net.side(story.irene)
    record = side.ledgers[story.alice.address]
    assert record.chain is not None
    record, context = seen(side, record, view(record, NONE))
    assert chain_view.on_view(record, view(record, NONE), {}, context).events == ()


def test_a_registered_state_counts_under_both_signatures_only() -> None:
    """A stranger's state, one of another ledger and a forged one are not believed."""
    story = told()
    side = story.net.side(story.irene)
    record = side.ledgers[story.alice.address]
    newest = newest_enforceable(record)
    assert newest is not None
    other = newest_enforceable(side.ledgers[story.bob.address])
    assert other is not None
    status = status_of(state_hash_of(newest), newest.outcome, START_S + DURATION_S, newest.turn)
    for candidate, believed in (
        (newest, True),
        (msgspec.structs.replace(newest, signatures=newest.signatures[::-1]), True),
        (msgspec.structs.replace(newest, signatures=newest.signatures[:1]), False),
        (msgspec.structs.replace(newest, outcome=other.outcome), False),
        (msgspec.structs.replace(newest, app_data=b"x"), False),
        (msgspec.structs.replace(newest, turn=newest.turn + 1), False),
        (other, False),
    ):
        again, _ = seen(side, record, view(record, status, candidate))
        assert again.chain is not None
        assert (again.chain.latest.registered is not None) == believed
    again, _ = seen(side, record, view(record, status, newest))
    assert again.chain is not None
    shown = again.chain.latest.registered
    assert shown == Enforceable(newest)
    later, _ = seen(side, again, view(record, status, None))  # the event lies too far back after a restart
    assert later.chain is not None
    assert later.chain.latest.registered == shown


def test_the_leader_takes_the_followers_signature_from_the_chain() -> None:
    """A follower that signs, says nothing and challenges has confirmed the change."""
    net = model_net(2, leads=(True,))
    alice, bob = net.parties
    channel = net.open(net.agreement("payment", [(100, 0)]))
    side = net.side(alice)
    while not (alice.ledgers[bob.address].queue and bob.ledgers[alice.address].current.turn == 2):
        net.deliver()
    side.sync()
    net.side(bob).sync()
    record = side.ledgers[bob.address]
    theirs = newest_enforceable(net.side(bob).ledgers[alice.address])
    assert theirs is not None
    assert record.ledger is not None
    assert record.ledger.current.turn == 1
    status = status_of(state_hash_of(theirs), theirs.outcome, START_S + DURATION_S, 2)
    after, _ = seen(side, record, view(record, status, theirs))
    assert after.ledger is not None
    assert after.ledger.current.turn == 2
    assert after.holds(channel)


def test_whatever_a_view_shows_is_survived(seed: str) -> None:
    """States of strangers, damaged in any field, as candidate and as proof, of ledger and virtual channel: they are not
    believed, and nothing else happens."""
    draw = random.Random(seed)
    story = told()
    side = story.net.side(story.bob)
    record, virtual = side.ledgers[story.irene.address], story.bob.records[story.channel]
    good = newest_enforceable(record)
    redemption = virtual_settling.redemption(
        virtual,
        Voucher(story.channel, 40, story.alice.signer.sign(voucher_hash(story.channel, 40))),
        story.bob.signer,
    )
    assert good is not None
    for _ in range(300):
        states = [good, redemption.candidate, *redemption.proof]
        candidate, proof = damaged(draw, draw.choice(states)), tuple(damaged(draw, each) for each in states[:2])
        status = Status(candidate.turn % 2**48, draw.choice([0, START_S + 10]), draw.randbytes(20))
        block = ChannelOnChain(9, bytes(32), (2_000,), status, candidate, proof)
        found = ChainView(block, block)
        context = msgspec.structs.replace(side.context, head_time_s=START_S + draw.choice([0, 1_000]))
        for event in chain_view.on_view(record, found, {}, context).events:
            assert isinstance(event, LedgerSeen)
            settling.wanted(evolve(record, event), {}, context)
            settling.needs(evolve(record, event), context)
        bare = msgspec.structs.replace(block, holdings=())
        for event in virtual_view.on_view(virtual, ChainView(bare, bare), context).events:
            after = msgspec.structs.replace(virtual, chain=event)
            virtual_settling.wanted(after, None, START_S, context)
            assert virtual_view.on_head(after, None, context).events == ()


def damaged(draw: random.Random, state: SignedState) -> SignedState:
    """With one field cut, changed or replaced."""
    name = draw.choice(["app_data", "outcome", "turn", "is_final", "signatures", "participants"])
    value = getattr(state, name)
    if isinstance(value, bytes):
        at = draw.randrange(len(value) + 1)
        value = draw.choice([value[:at], value[:at] + draw.randbytes(32) + value[at + 32 :], draw.randbytes(64), b""])
    elif isinstance(value, bool):
        value = not value
    elif isinstance(value, int):
        value = draw.choice([0, 1, 2, 2**48 - 1])
    else:
        value = draw.choice([(), value[:1], tuple(draw.randbytes(draw.choice([0, 20, 64, 65])) for _ in range(3))])
    return msgspec.structs.replace(state, **{name: value})


# Wants


def test_a_ledger_that_was_never_seen_wants_nothing() -> None:
    story = told()
    side = story.net.side(story.irene)
    record = msgspec.structs.replace(side.ledgers[story.alice.address], chain=None, exit_reason="away")
    assert settling.wanted(record, {}, side.context) == ()
    assert settling.needs(record, side.context) == {}


def test_leaving_challenges_with_the_newest_state_and_needs_its_channels() -> None:
    story = told()
    side = story.net.side(story.irene)
    record = side.ledgers[story.alice.address]
    (event,) = leaving.leave(record, "enough").events
    record = evolve(record, event)
    newest = newest_enforceable(record)
    assert settling.wanted(record, {}, side.context) == (Challenge(newest),)
    assert settling.needs(record, side.context) == {story.channel: 0}
    assert leaving.leave(record, "again").events == ()
    with pytest.raises(LocalError, match="recovering"):
        leaving.leave(msgspec.structs.replace(record, token=b"t" * 16), "x")


@pytest.mark.parametrize(
    ("leaves", "recovering", "kind"), [(False, False, Checkpoint), (True, False, Challenge), (True, True, Checkpoint)]
)
def test_an_older_challenge_is_answered(leaves: bool, recovering: bool, kind: type) -> None:
    """By whoever leaves with a challenge; a restored node only records what it knows."""
    story = told()
    side = story.net.side(story.irene)
    record = side.ledgers[story.alice.address]
    record, context = seen(side, record, view(record, Status(1, START_S + DURATION_S, b"\x01" * 20)))
    record = msgspec.structs.replace(
        record, exit_reason="away" if leaves else "", token=b"t" * 16 if recovering else b""
    )
    assert settling.wanted(record, {}, context) == (kind(newest_enforceable(record)),)


def test_a_challenge_with_the_newest_state_is_waited_for() -> None:
    story = told()
    side = story.net.side(story.irene)
    record = side.ledgers[story.alice.address]
    newest = newest_enforceable(record)
    assert newest is not None
    status = status_of(state_hash_of(newest), newest.outcome, START_S + DURATION_S, newest.turn)
    record, context = seen(side, record, view(record, status, newest))
    assert settling.wanted(record, {}, context) == ()
    assert set(settling.needs(record, context)) == {story.channel}
    assert not record.usable
    later = msgspec.structs.replace(context, head_time_s=START_S + DURATION_S)  # its end is no view
    assert set(settling.needs(record, later)) == {story.channel}


# What a finalized ledger owes


def finalized(story: Told, settled: dict[ChannelId, Settled], outcome: Outcome | None = None):
    """Irene's ledger with Alice, finalized with its newest state, of which others may have made `outcome`."""
    side = story.net.side(story.irene)
    record = side.ledgers[story.alice.address]
    newest = newest_enforceable(record)
    assert newest is not None
    owes = newest.outcome if outcome is None else encode_outcome(outcome)
    status = status_of(state_hash_of(newest), owes, START_S + 10, newest.turn)
    return seen(side, record, view(record, status, newest), settled, START_S + DURATION_S)


def settled_by(story: Told, alice: int) -> dict[ChannelId, Settled]:
    outcome = story.bob.records[story.channel].agreement.outcome(((alice, 100 - alice),))
    return {story.channel: Settled(Hash(b"\x07" * 32), outcome)}


def newest_outcome(story: Told) -> Outcome:
    newest = newest_enforceable(story.net.side(story.irene).ledgers[story.alice.address])
    assert newest is not None
    return decode_outcome(newest.outcome)


def test_whatever_strangers_did_in_whatever_order_is_found(seed: str) -> None:
    """Reclaims and payouts of single allocations, in random order, up to four."""
    draw = random.Random(seed)
    story = told()
    settled = settled_by(story, 60)
    for _ in range(20):
        outcome = newest_outcome(story)
        for _ in range(draw.randrange(5)):
            moves = [owed.after_reclaim(outcome, each) for each in owed.reclaimable(outcome, settled)]
            (exit_,) = outcome
            for index, item in enumerate(exit_.allocations):
                if item.allocation_type == 0:
                    paid = (*exit_.allocations[:index], msgspec.structs.replace(item, amount=0))
                    allocations = (*paid, *exit_.allocations[index + 1 :])
                    moves.append((msgspec.structs.replace(exit_, allocations=allocations),))
            outcome = draw.choice(moves)
        record, _ = finalized(story, settled, outcome)
        assert record.chain is not None
        assert record.chain.owed is not None
        assert record.chain.owed[1] == encode_outcome(outcome)


def test_an_outcome_of_something_else_is_not_found_and_nothing_is_wanted() -> None:
    story = told()
    record, context = finalized(story, settled_by(story, 61), None)
    other = decode_outcome(record.chain.owed[1]) if record.chain and record.chain.owed else ()
    foreign = (msgspec.structs.replace(other[0], allocations=other[0].allocations[:1]),)
    record, context = finalized(story, {}, foreign)
    assert record.chain is not None
    assert record.chain.owed is None
    assert settling.wanted(record, {}, context) == ()


def test_what_an_underfunded_ledger_still_owes_is_found() -> None:
    """Less was there than is owed: it is paid by priority, the guarantee last."""
    story = told()
    settled = settled_by(story, 60)
    outcome = newest_outcome(story)
    (each,) = owed.reclaimable(outcome, settled)
    (exit_,) = owed.after_reclaim(outcome, each)
    rest = transfer_effects(1_000, exit_.allocations).remaining
    record, _ = finalized(story, settled, (msgspec.structs.replace(exit_, allocations=rest),))
    assert record.chain is not None
    assert record.chain.owed is not None


def test_one_guarantee_after_the_other_then_everybody_is_paid() -> None:
    story = told()
    settled = settled_by(story, 60)
    side = story.net.side(story.irene)
    record, context = finalized(story, settled)
    record = msgspec.structs.replace(record, setup=msgspec.structs.replace(record.setup, my_index=0))
    (reclaim,) = settling.wanted(record, settled, context)
    assert reclaim.target == story.channel  # type: ignore[union-attr]
    (each,) = owed.reclaimable(newest_outcome(story), settled)
    after = owed.after_reclaim(newest_outcome(story), each)
    record, context = finalized(story, settled, after)
    record = msgspec.structs.replace(record, setup=msgspec.structs.replace(record.setup, my_index=0))
    assert isinstance(settling.wanted(record, settled, context)[0], TransferAll)
    assert side is not None


def test_a_follower_waits_a_while_for_the_leader() -> None:
    story = told()
    settled = settled_by(story, 60)
    record, context = finalized(story, settled)
    assert not record.leads
    assert record.chain is not None
    soon = msgspec.structs.replace(context, head_time_s=record.chain.seen.time_s + 1)
    assert settling.wanted(record, settled, soon) == ()
    late = msgspec.structs.replace(context, head_time_s=record.chain.seen.time_s + context.terms.conclude_delay_s)
    assert len(settling.wanted(record, settled, late)) == 1


def test_own_money_does_not_wait_for_a_channel_that_nobody_settles() -> None:
    """A guarantee whose channel is not finalized keeps the payout of all from working: this node takes its own part."""
    story = told()
    record, context = finalized(story, {})
    assert record.chain is not None
    late = msgspec.structs.replace(context, head_time_s=record.chain.seen.time_s + context.terms.conclude_delay_s)
    (mine,) = settling.wanted(record, {}, late)
    assert isinstance(mine, Transfer)
    assert mine.indices == (1,)


def test_an_account_that_refuses_payment_holds_nobody_up_for_long() -> None:
    net = model_net(2, leads=(True,))
    alice, bob = net.parties
    world = net.chain.plain.chain.head.world  # type: ignore[attr-defined]
    world.refusing = frozenset({alice.address})
    net.silence(alice)
    net.side(bob).leave(alice.address)
    for _ in range(60):
        net.block()
    assert net.chain.balance(bob.address, ZERO_ADDRESS) - net.before[bob.address, ZERO_ADDRESS] == 1_000
    kinds = [type(each) for _, _, each in net.sent]
    assert kinds.index(TransferAll) < kinds.index(Transfer)


def test_deposits_come_back_when_the_other_does_not_follow() -> None:
    """Only the prefund state is signed and only the leader has deposited (section 22, direct funding)."""
    net = model_net(2, leads=(True,))
    side = net.side(net.parties[0])
    (record,) = side.ledgers.values()
    setup = record.setup
    signatures = tuple(party.signer.sign(setup.stage(0).state_hash(setup.channel_id)) for party in net.parties)
    record = msgspec.structs.replace(record, ledger=None, prefund=signatures, chain=None)
    record, context = seen(side, record, view(record, NONE, held=1_000))
    record = evolve(record, leaving.leave(record, "no deposit").events[0])
    prefund = signed_state(setup, setup.stage(0), signatures)  # type: ignore[arg-type]
    assert settling.wanted(record, {}, context) == (Challenge(prefund),)
    status = status_of(state_hash_of(prefund), prefund.outcome, START_S + 10, 0)
    record, context = seen(side, record, view(record, status, prefund, 1_000), {}, START_S + DURATION_S)
    (paid,) = settling.wanted(record, {}, context)
    assert isinstance(paid, TransferAll)


def test_a_concluded_ledger_is_paid_without_a_state_hash() -> None:
    net = model_net(2, leads=(True,))
    side = net.side(net.parties[0])
    (record,) = side.ledgers.values()
    newest = newest_enforceable(record)
    assert newest is not None
    from scapp.channels.ledger.record import Final

    final = Final(msgspec.structs.replace(record.balances, turn=2), (b"x" * 65, b"y" * 65), 0)
    record = msgspec.structs.replace(record, final=final)
    status = status_of(ZERO_HASH, newest.outcome, START_S + 10, 0)
    record, context = seen(side, record, view(record, status), {}, START_S + 1_000)
    (paid,) = settling.wanted(record, {}, context)
    assert isinstance(paid, TransferAll)
    assert paid.state_hash == ZERO_HASH


# Silence


def test_silence_counts_from_when_something_is_owed() -> None:
    story = told()
    side = story.net.side(story.irene)
    terms = side.context.terms
    context = msgspec.structs.replace(side.context, head_time_s=START_S + terms.silence_timeout_s)
    assert leaving.exit_due("a signature", START_S + 1, context) == ""
    assert "a signature" in leaving.exit_due("a signature", START_S, context)
    assert leaving.exit_due("", START_S, context) == ""
    assert leaving.exit_due("a signature", 0, context) == ""
    never = msgspec.structs.replace(context, terms=msgspec.structs.replace(terms, silence_timeout_s=0))
    assert leaving.exit_due("a signature", START_S, never) == ""


# Virtual channels


def test_a_redemption_needs_the_payee_the_postfund_state_and_the_payers_voucher() -> None:
    story = told()
    record = story.bob.records[story.channel]
    payer, payee = story.alice.signer, story.bob.signer
    good = Voucher(story.channel, 40, payer.sign(voucher_hash(story.channel, 40)))
    found = virtual_settling.redemption(record, good, payee)
    assert virtual_view.is_enforceable(record, found)
    with pytest.raises(LocalError, match="only the payee"):
        virtual_settling.redemption(record, good, payer)
    with pytest.raises(LocalError, match="not signed by the payer"):
        virtual_settling.redemption(record, msgspec.structs.replace(good, amount=41), payee)
    with pytest.raises(LocalError, match="voucher for 101"):
        virtual_settling.redemption(record, msgspec.structs.replace(good, amount=101), payee)
    with pytest.raises(LocalError, match="postfund"):
        virtual_settling.redemption(msgspec.structs.replace(record, postfund=None), good, payee)


def test_payments_end_at_the_first_sign_of_a_dispute() -> None:
    story = told()
    record = story.bob.records[story.channel]
    assert not virtual_settling.closes_payments(record, None)
    assert virtual_settling.closes_payments(record, 0)
    (event,) = virtual_leaving.leave(record, "redeem").events
    story.bob.take(virtual_leaving.leave(record, "redeem"))
    assert event.reason == "redeem"
    assert virtual_settling.closes_payments(story.bob.records[story.channel], None)
    assert virtual_leaving.leave(story.bob.records[story.channel], "again").events == ()


def test_a_channel_that_is_not_signed_or_is_over_cannot_be_taken_to_the_chain() -> None:
    story = told()
    record = story.bob.records[story.channel]
    empty = msgspec.structs.replace(record.prefund, signatures=(b"", b"", b""))
    for changed, reason in (
        (msgspec.structs.replace(record, prefund=empty), "not everybody has signed"),
        (msgspec.structs.replace(record, gone=(True, True)), "has ended"),
        (msgspec.structs.replace(record, token=b"t" * 16), "recovering"),
    ):
        with pytest.raises(LocalError, match=reason):
            virtual_leaving.leave(changed, "x")


def test_a_restored_payee_answers_as_late_as_is_safe() -> None:
    """It has one answer, and the others may still tell it of a larger voucher."""
    story = told()
    side = story.net.side(story.bob)
    story.challenge_opening(story.alice)
    story.net.chain.mine(60)
    side.look()
    record = msgspec.structs.replace(story.bob.records[story.channel], token=b"t" * 16)
    redemption = side.enforceable(story.channel)
    ends = record.chain.seen.latest.status.finalizes_at  # type: ignore[union-attr]
    early, late = (
        msgspec.structs.replace(side.context, head_time_s=ends - s) for s in (DURATION_S // 2 + 1, DURATION_S // 2)
    )
    assert virtual_settling.wanted(record, redemption, None, early) == ()
    assert virtual_settling.wanted(record, redemption, None, late) == (
        Challenge(redemption.candidate, redemption.proof),  # type: ignore[union-attr]
    )


def test_who_has_the_newest_state_shows_it_and_the_others_wait_for_that() -> None:
    story = told()
    delay = story.net.side(story.alice).context.terms.conclude_delay_s
    now_s = story.net.chain.now_s
    waits = []
    for party in story.net.parties:
        record, side = party.records[story.channel], story.net.side(party)
        wants = [
            bool(virtual_settling.wanted(record, None, now_s - waited, side.context))
            for waited in (0, delay, 2 * delay)
        ]
        waits.append(wants.index(True))
    assert waits == [2, 1, 0]


def test_facts_keep_their_bytes() -> None:
    """Encoded and decoded, a fact is the same."""
    story = told()
    record, _ = finalized(story, settled_by(story, 60))
    fact = record.chain
    assert fact is not None
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(fact), type=LedgerSeen) == fact


# In words


def test_a_disputed_ledger_says_what_it_waits_for() -> None:
    story = told()
    side = story.net.side(story.irene)
    record = side.ledgers[story.alice.address]
    newest = newest_enforceable(record)
    assert newest is not None
    leaving_now = msgspec.structs.replace(record, exit_reason="away")
    assert chain_pause(leaving_now) == "our challenge with turn 2 to be registered"
    ends = START_S + DURATION_S
    stale, _ = seen(side, record, view(record, Status(1, ends, b"\x01" * 20)))
    assert chain_pause(stale) == "the challenge of turn 1 to be answered with turn 2"
    status = status_of(state_hash_of(newest), newest.outcome, ends, newest.turn)
    current, _ = seen(side, record, view(record, status, newest))
    assert chain_pause(current) == f"the challenge of turn 2 to end at {ends} by the chain's clock"
    record, _ = finalized(story, {})
    assert chain_pause(record) == "the guarantees of 1 virtual channels to be reclaimed"
    (each,) = owed.reclaimable(newest_outcome(story), settled_by(story, 60))
    record, _ = finalized(story, settled_by(story, 60), owed.after_reclaim(newest_outcome(story), each))
    assert chain_pause(record) == "the payout"


def test_a_channel_that_goes_to_the_chain_says_what_it_waits_for() -> None:
    story = told()
    story.bob.take(virtual_leaving.leave(story.bob.records[story.channel], "redeem"))
    assert waiting_for(story.bob.records[story.channel]) == "the newest state to be registered on chain"
    story.net.blocks(2)
    assert waiting_for(story.alice.records[story.channel]).startswith("the outcome of turn 2 to be final at ")
