"""Whole nodes whose neighbours are enemies: what they say and show costs an honest node nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest

from scapp.channels.books import proposals
from scapp.channels.books.events import decode_event
from scapp.channels.books.index import Index
from scapp.channels.books.messages import encode_message
from scapp.channels.books.step import BOOKS_STREAM, BooksTerms
from scapp.channels.errors import LocalError
from scapp.channels.ledger.opening import open_again
from scapp.channels.onchain import Challenge
from scapp.channels.outcome import address_to_destination
from scapp.channels.payments.vouchers import VoucherRefused, sign_voucher
from scapp.channels.restoring import mark_restored
from scapp.channels.state import FixedPart, VariablePart, check_fixed_part, state_hash
from scapp.channels.types import ZERO_ADDRESS, Address, ChannelId
from scapp.channels.virtual import receiving
from scapp.channels.virtual.agreement import Agreement, Asset, nonce_at, pack_amounts, to_message
from scapp.channels.virtual.chain_view import milestone_state
from scapp.channels.virtual.events import VirtualCreated
from scapp.channels.virtual.messages import Final, Said
from scapp.channels.virtual.record import VirtualRecord
from tests.support.ledger_scene import DURATION_S, PAYMENT_APP, TWO_PARTY_APP, LedgerScene
from tests.support.node_cast import START_MS

ALICE, BOB = 0, 1


@pytest.fixture
async def scene() -> AsyncIterator[LedgerScene]:
    made = await LedgerScene(2).start()
    try:
        yield made
    finally:
        await made.end()


def record_of(scene: LedgerScene, index: int, channel: ChannelId) -> VirtualRecord:
    runner = scene.books(index)._runner
    assert runner is not None
    return runner.books.state.virtuals[channel]


async def paid_and_restored(scene: LedgerScene, channel: ChannelId) -> None:
    """Alice has paid 30 and is gone; Bob goes on from a backup."""
    await scene.books(ALICE).pay(channel, 30)
    await scene.until(lambda: scene.virtual(BOB, channel).paid == 30)
    old = scene.logs[BOB].durable_copy()
    await scene.nodes[ALICE].stop()
    del scene.nodes[ALICE], scene.services[ALICE]
    await scene.nodes[BOB].stop()
    mark_restored(old, b"\x05" * 16, START_MS + 10**6, START_MS)
    scene.logs[BOB] = old
    await scene.node(BOB)


async def test_an_operator_goes_on_without_a_peer_that_never_tells(scene: LedgerScene) -> None:
    """After a restore Bob takes the ledger and the channel over it to the chain, and has all that is his."""
    ledger = await scene.ledger(ALICE, BOB)
    channel = await scene.payments((ALICE, BOB), 100)
    await paid_and_restored(scene, channel)
    assert scene.virtual(BOB, channel).phase == "recovering"
    await scene.books(BOB).recover_ledger(ledger)
    await scene.books(BOB).recover_payments(channel)
    with pytest.raises(LocalError, match="nothing to recover from"):
        await scene.books(BOB).recover_ledger(ledger)
    await scene.books(BOB).challenge_ledger(ledger)
    await scene.until(lambda: scene.has_phase(ledger, "settled", (BOB,)), blocks=True, seconds=600)
    assert scene.gain(BOB) == 1_030


async def test_a_restored_payee_takes_nothing_beyond_the_end_that_it_has_signed(scene: LedgerScene) -> None:
    """Its backup has the purse open; Alice shows the final state that both have signed, and goes on paying."""
    await scene.ledger(ALICE, BOB)
    channel = await scene.payments((ALICE, BOB), 100)
    await paid_and_restored(scene, channel)
    digest = record_of(scene, BOB, channel).hash_of("final", 2, ((60, 40),), b"")
    both = tuple(signer.sign(digest) for signer in scene.signers)
    said = Said(channel, (), final=Final(2, pack_amounts(((60, 40),)), b"", both))
    runner = scene.books(BOB)._runner
    assert runner is not None
    await runner.input(lambda each: receiving.receive(each.state.virtuals[channel], scene.address(ALICE), said))
    await scene.until(lambda: scene.books(BOB)._payments.purse(channel).purse.phase == "settled")
    with pytest.raises(VoucherRefused, match="settled"):
        await scene.books(BOB).take_voucher(sign_voucher(channel, 100, scene.signers[ALICE]))


async def test_a_restored_payee_redeems_what_it_has_though_its_payer_tells_nothing(scene: LedgerScene) -> None:
    """Alice never answers, and challenges with the state in which all is hers. Bob's answer waits for hers as long as
    is safe, and then takes the voucher of his backup."""
    await scene.ledger(ALICE, BOB)
    channel = await scene.payments((ALICE, BOB), 100)
    postfund = milestone_state(record_of(scene, ALICE, channel), "postfund")
    assert postfund is not None
    await paid_and_restored(scene, channel)
    scene.chain.carry_out(scene.signers[ALICE], channel, Challenge(postfund))
    await scene.until(lambda: record_of(scene, BOB, channel).on_chain is not None, blocks=True, seconds=300)
    assert record_of(scene, BOB, channel).on_chain == ((70, 30),)


def forge(scene: LedgerScene, kind: str, number: int, duration_s: int = DURATION_S) -> bytes:
    """A channel that Alice proposes to Bob, her signature under it."""
    alice, bob = (scene.address(index) for index in (ALICE, BOB))
    app = PAYMENT_APP if kind == "payment" else TWO_PARTY_APP
    fixed = FixedPart((alice, bob), nonce_at(START_MS + 100, number), app, duration_s)
    ends = address_to_destination(alice), address_to_destination(bob)
    agreement = Agreement(kind, fixed, ends, (Asset(ZERO_ADDRESS, 10, 0),), b"", ())  # type: ignore[arg-type]
    channel = check_fixed_part(fixed)
    prefund = VariablePart(agreement.outcome(agreement.start), b"", 0, False)
    signature = scene.signers[ALICE].sign(state_hash(channel, prefund))
    return encode_message(to_message(channel, agreement, (signature, b"")))


async def heard(scene: LedgerScene, data: bytes) -> None:
    """Alice says it to Bob, who has heard it."""
    before = scene.nodes[BOB].counters().get("messages_received", 0)
    scene.nodes[ALICE]._transport.send(scene.address(BOB), data)
    await scene.until(lambda: scene.nodes[BOB].counters().get("messages_received", 0) > before)
    await scene.until(lambda: not queue_of(scene, BOB))


async def ignored(peer: Address, data: bytes) -> None:
    """Alice's own node says nothing to what Bob says."""


def queue_of(scene: LedgerScene, index: int) -> int:
    runner = scene.books(index)._runner
    assert runner is not None
    return len(runner._inbox)


@pytest.mark.parametrize("what", ["not wanted", "of an app that was never signed"])
async def test_a_channel_that_is_not_wanted_leaves_nothing_in_the_log(scene: LedgerScene, what: str) -> None:
    """Proposals cost a neighbour a signature each: they fill neither memory nor disk."""
    await scene.ledger(ALICE, BOB)
    scene.policies[BOB].answers["payee"] = ("reject", "no")
    for number in range(5):
        await heard(scene, forge(scene, "payment" if what == "not wanted" else "app", number))
    assert scene.books(BOB).virtuals() == []
    stored = [decode_event(data) for page in scene.logs[BOB].read(BOOKS_STREAM) for data in page.events]
    assert stored
    assert not [event for event in stored if isinstance(event, VirtualCreated)]


@pytest.mark.parametrize("duration_s", [1, 599, 2**32 - 1])
async def test_no_policy_takes_a_channel_that_leaves_no_time_or_too_much(scene: LedgerScene, duration_s: int) -> None:
    """With a second to answer in, the payer would have the channel finalized without what it has paid."""
    await scene.ledger(ALICE, BOB)
    await heard(scene, forge(scene, "payment", 1, duration_s))
    assert scene.books(BOB).virtuals() == []


async def test_only_so_many_channels_are_opened_at_once(scene: LedgerScene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A payer that begins channels and funds none of them."""
    monkeypatch.setattr(proposals, "OPENING_MAX", 3)
    await scene.ledger(ALICE, BOB)
    monkeypatch.setattr(scene.nodes[ALICE], "_to_books", ignored)
    for number in range(5):
        await heard(scene, forge(scene, "payment", number))
    assert len(scene.books(BOB).virtuals()) == 3


async def test_a_ledger_that_is_not_wanted_leaves_nothing_in_the_log(scene: LedgerScene) -> None:
    """Nor are more than so many kept for the operator."""
    scene.policies[BOB].answers["ledger"] = ("reject", "no")
    version = scene.logs[BOB].version(BOOKS_STREAM)
    channel = await scene.propose_ledger(ALICE, BOB)
    await scene.until(lambda: scene.has_phase(channel, "rejected", (ALICE,)))
    assert scene.info(ALICE, channel).reason == "no"
    assert scene.books(BOB).ledgers() == []
    assert scene.logs[BOB].version(BOOKS_STREAM) == version


async def test_only_so_many_ledgers_wait_for_the_operator(scene: LedgerScene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are decided wait no more."""
    scene.policies[BOB].answers["ledger"] = ("ask", "by hand")
    monkeypatch.setattr(proposals, "PROPOSALS_MAX", 1)
    first = await scene.propose_ledger(ALICE, BOB)
    await scene.until(lambda: scene.has_phase(first, "proposed", (BOB,)))
    assert index_of(scene, BOB).proposed == {first}
    monkeypatch.setattr(proposals, "PROPOSALS_MAX", 0)
    await scene.books(BOB).reject_ledger(first, "no")
    await scene.until(lambda: scene.has_phase(first, "rejected", (ALICE, BOB)))
    second = await scene.propose_ledger(ALICE, BOB)
    await scene.until(lambda: scene.nodes[BOB].counters().get("messages_refused", 0) > 0)
    assert [each.channel_id for each in scene.books(BOB).ledgers()] == [first] != [second]


def index_of(scene: LedgerScene, index: int) -> Index:
    runner = scene.books(index)._runner
    assert runner is not None
    return runner.books.index


async def test_a_hub_that_starts_looks_at_the_chain_before_it_ends_a_channel() -> None:
    """While it was away its neighbours had the channel finalized with all for the payer; now they give it a final
    state with all for the payee."""
    scene = await LedgerScene(3).start()
    try:
        await scene.ledger(0, 1)
        right = await scene.ledger(1, 2)
        channel = await scene.payments((0, 1, 2), 100)
        postfund = milestone_state(record_of(scene, 0, channel), "postfund")
        assert postfund is not None
        await scene.nodes[1].stop()
        hub = scene.services.pop(1)
        del scene.nodes[1]
        scene.chain.carry_out(scene.signers[0], channel, Challenge(postfund))
        for _ in range(3):
            scene.chain.chain.mine(scene.chain.chain.head.time_s + DURATION_S)
        record = record_of(scene, 0, channel)
        digest = record.hash_of("final", 2, ((0, 100),), b"")
        signatures = (scene.signers[0].sign(digest), b"", scene.signers[2].sign(digest))
        said = Said(channel, (), final=Final(2, pack_amounts(((0, 100),)), b"", signatures))
        node = await scene.node(1)
        books = node.books
        assert books is not None
        runner = books._runner
        assert runner is not None
        wants = [runner.books.allowed(runner.books.index.wanted_of(right))]
        decide = lambda each: receiving.receive(each.state.virtuals[channel], scene.address(0), said)  # noqa: E731
        await runner.input(decide)
        wants.append(runner.books.allowed(runner.books.index.wanted_of(right)))
        assert record_of(scene, 1, channel).final is not None
        await scene.until(lambda: record_of(scene, 1, channel).on_chain == ((100, 0),), blocks=True, seconds=3_600)
        assert [each for found in wants for each in found] == []
        assert hub is not scene.services[1]
    finally:
        await scene.end()


async def test_a_hub_whose_chain_does_not_answer_lets_no_guarantee_go() -> None:
    """Its endpoint hangs while its neighbours give it a final state: they may have had another end finalized on chain.
    A challenge's duration is not over before half of it, so until then it goes on; it resumes by itself."""
    scene = await LedgerScene(3).start()
    try:
        left, right = await scene.ledger(0, 1), await scene.ledger(1, 2)
        short, channel = await scene.payments((0, 1, 2), 10), await scene.payments((0, 1, 2), 100)
        runner = scene.books(1)._runner
        assert runner is not None
        terms = BooksTerms(silence_timeout_s=60)  # nobody is silent but the hub itself
        runner.books.context = msgspec.structs.replace(runner.books.context, terms=terms)
        hub = scene.services.pop(1)  # hears of no block
        await scene.books(0).pay(channel, 30)
        hub.followed_ms = START_MS - DURATION_S * 1_000 // 2 + 60_000
        scene.books(1).tick()
        await scene.books(0).close_virtual(short)
        await scene.until(lambda: scene.virtual_phase(short, "released", (0, 1, 2)))
        hub.followed_ms = START_MS - DURATION_S * 1_000 // 2
        scene.books(1).tick()
        await scene.books(0).close_virtual(channel)
        await scene.until(lambda: "the chain to answer" in scene.virtual(1, channel).waiting_for)
        for _ in range(5):
            await scene.block(600)
            scene.books(1).tick()
        assert (scene.info(1, left).channels, scene.info(1, right).channels) == ((channel,), (channel,))
        assert [scene.info(1, ledger).queued for ledger in (left, right)] == [1, 0]
        hub.look()
        await scene.until(lambda: scene.virtual_phase(channel, "released", (0, 1, 2)))
        assert (scene.money(1, left), scene.money(1, right)) == ((1_030, 970, 0), (970, 1_030, 0))
        assert [scene.has_phase(ledger, "running", (1,)) for ledger in (left, right)] == [True, True]
    finally:
        await scene.end()


async def test_a_backup_without_any_ledger_begins_none_a_second_time(scene: LedgerScene) -> None:
    """Alice leads a ledger that Bob's backup is older than, and proposes it again from its beginning: Bob has signed
    turns of it that he does not know."""
    old = scene.logs[BOB].durable_copy()
    ledger = await scene.ledger(ALICE, BOB)
    runner = scene.books(ALICE)._runner
    assert runner is not None
    again = encode_message(open_again(runner.books.state.ledgers[ledger]))
    await scene.nodes[BOB].stop()
    mark_restored(old, b"\x05" * 16, START_MS + 10**6, START_MS)
    scene.logs[BOB] = old
    await scene.node(BOB)
    await heard(scene, again)
    assert scene.books(BOB).ledgers() == []
