"""A ledger that is left before anybody has deposited: it is over at once, the pair may open another, and a deposit that
was on its way all the same comes back."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator

import msgspec
import pytest

from scapp.channels.books import forgetting, proposals
from scapp.channels.books.engine import Books
from scapp.channels.books.step import Context
from scapp.channels.ledger import leaving, opening
from scapp.channels.ledger.chain_facts import LedgerExitStarted
from scapp.channels.ledger.events import CloseRequested
from scapp.channels.ledger.messages import AskClose, OpenLedger, RejectLedger, SignFinal, SignStage
from scapp.channels.ledger.opening import LedgerOrder
from scapp.channels.ledger.resending import pending, waits_for_peer
from scapp.channels.onchain import Purpose
from scapp.channels.outcome import address_to_destination
from scapp.channels.signing import Signer
from scapp.channels.types import ZERO_ADDRESS
from scapp.channels.virtual.agreement import nonce_at
from tests.support.ledger_pair import COIN, RULES, LedgerPair, Party
from tests.support.ledger_scene import DURATION_S, LedgerScene
from tests.support.plain_chain import CONFIRMATIONS, PlainService, account_of

ALICE, BOB = 0, 1


@pytest.fixture
def pair() -> LedgerPair:
    """Both have signed the prefund state and seen the chain; the leader's deposit is wanted and was not sent."""
    made = LedgerPair()
    made.quiet()
    for party in made.parties:
        party.see()
    assert phases(made) == ["funding", "funding"]
    return made


@pytest.fixture
async def scene() -> AsyncIterator[LedgerScene]:
    made = await LedgerScene(2).start()
    try:
        yield made
    finally:
        await made.end()


def phases(pair: LedgerPair) -> list[str]:
    return [party.it.phase for party in pair.parties]


def leave(party: Party) -> None:
    party.commit(leaving.leave(party.it, "enough"))
    party.settle()


@pytest.mark.parametrize("who", [0, 1])
def test_it_ends_at_both_without_a_transaction_and_the_pair_may_open_another(pair: LedgerPair, who: int) -> None:
    leave(pair.parties[who])
    assert pair.parties[who].it.phase == "settled"
    pair.collect()
    pair.quiet()
    assert phases(pair) == ["settled", "settled"]
    pair.mine(CONFIRMATIONS)
    assert pair.chain.sent == {}
    for party in pair.parties:
        assert (pending(party.it) == () or not waits_for_peer(party.it), party.it.is_open) == (True, False)
        other = pair.parties[1 - party.index].address
        ends = (address_to_destination(party.address), address_to_destination(other))
        order = LedgerOrder(peer=other, nonce=8, challenge_duration_s=600, funds=((COIN, 1, 1),), pays_to=ends)
        assert opening.propose(order, [party.it], RULES, party.context).events


@pytest.mark.parametrize("who", [0, 1])
def test_a_silent_peer_holds_nobody_up_and_ends_it_once_it_hears(pair: LedgerPair, who: int) -> None:
    """What it is told is said again, for nothing on chain tells it."""
    party, other = pair.parties[who], pair.parties[1 - who]
    leave(party)
    pair.collect()
    pair.bag.clear()
    assert (party.it.is_open, other.it.phase) == (False, "funding")
    assert waits_for_peer(party.it)
    assert isinstance(pending(party.it)[-1], AskClose if who else SignFinal)
    party.say_again()
    pair.collect()
    pair.quiet()
    assert phases(pair) == ["settled", "settled"]
    assert not waits_for_peer(party.it)


def test_one_that_was_left_still_ends_it_when_the_other_asks(pair: LedgerPair) -> None:
    """Its own request was lost, and the other's operator ends it for itself."""
    leave(pair.leader)
    pair.collect()
    pair.bag.clear()
    pair.follower.close()
    pair.collect()
    pair.quiet()
    pair.leader.say_again()
    pair.collect()
    pair.quiet()
    assert phases(pair) == ["settled", "settled"]


@pytest.mark.parametrize("who", [0, 1])
def test_one_that_is_left_before_the_chain_was_seen_ends_at_both_once_it_is(who: int) -> None:
    """Only the chain tells that it holds nothing."""
    pair = LedgerPair()
    pair.quiet()
    leave(pair.parties[who])
    assert (pair.parties[who].it.phase, pair.parties[who].it.closing_by) == ("disputed", None)
    for party in pair.parties:
        party.see()
    pair.collect()
    pair.quiet()
    assert phases(pair) == ["settled", "settled"]


@pytest.mark.parametrize("who", [0, 1])
def test_one_that_is_left_with_a_deposit_that_is_taken_back_ends_at_both(pair: LedgerPair, who: int) -> None:
    pair.leader.act()
    pair.chain.chain.mine()
    for party in pair.parties:
        party.see()
    leave(pair.parties[who])
    assert pair.parties[who].it.phase == "disputed"
    pair.chain.chain.roll_back(1)
    for party in pair.parties:
        party.see()
    pair.collect()
    pair.quiet()
    assert phases(pair) == ["settled", "settled"]


def test_a_deposit_that_was_on_its_way_is_challenged_for_and_comes_back(pair: LedgerPair) -> None:
    """The other says nothing more. Meanwhile the ledger is not over, unless the chain takes the deposit back."""
    pair.leader.act()  # the deposit is sent
    leave(pair.leader)
    pair.leader.outbox.clear()
    assert pair.leader.it.phase == "settled"
    pair.chain.chain.mine()
    pair.leader.see()
    assert pair.leader.it.phase == "disputed"
    assert pair.leader.it.is_open
    pair.chain.chain.roll_back(1)
    pair.leader.see()
    assert pair.leader.it.phase == "settled"
    for step_s in (12, 12, 700, *[12] * 2 * CONFIRMATIONS, 12):
        pair.leader.act()
        pair.chain.chain.mine(pair.chain.chain.head.time_s + step_s)
        pair.leader.now_ms = pair.chain.chain.head.time_s * 1_000
        pair.leader.see()
    assert any(purpose.kind == "challenge" for _, purpose, _ in pair.chain.sent)
    assert pair.leader.it.phase == "settled"
    assert pair.chain.gain(account_of(pair.leader.address), COIN) == 0


def test_one_that_somebody_has_paid_into_is_not_over(pair: LedgerPair) -> None:
    """Neither where the deposit is not confirmed yet."""
    pair.leader.act()
    pair.chain.chain.mine()
    for party in pair.parties:
        party.see()
        leave(party)
        assert (party.it.phase, party.it.is_open, party.it.closing_by) == ("disputed", True, None)


@pytest.mark.parametrize("closed", [False, True])
async def test_a_deposit_that_was_sent_before_is_found_after_a_restart(
    scene: LedgerScene, monkeypatch: pytest.MonkeyPatch, closed: bool
) -> None:
    """Left while the other is away, even where nothing of it is under way as far as the node knows; or closed by both.
    The deposit comes back, and the two may open another ledger."""
    left = await scene.propose_ledger(ALICE, BOB)
    await scene.until(lambda: scene.has_phase(left, "funding", (ALICE, BOB)))
    await scene.until(lambda: bool(scene.services[ALICE].wants.get(left)))
    scene.services[ALICE].send()
    if closed:
        monkeypatch.setattr(PlainService, "pending", (Purpose(left, "deposit", ZERO_ADDRESS),))
        await scene.books(ALICE).close_ledger(left)
        await scene.until(lambda: scene.has_phase(left, "settled", (ALICE, BOB)))
    else:
        await scene.nodes[BOB].stop()
        await scene.books(ALICE).challenge_ledger(left)
        assert scene.has_phase(left, "settled", (ALICE,))
        monkeypatch.setattr(forgetting, "KEPT_MAX", 0)
        books = scene.books(ALICE)._running().books
        assert forgetting.forgettable(books.state, books.context.now_ms + 2 * forgetting.AT_LEAST_MS) is None
    await scene.restart(ALICE)
    await scene.until(lambda: scene.has_phase(left, "closed" if closed else "disputed", (ALICE,)), blocks=True)
    monkeypatch.setattr(PlainService, "pending", ())
    if not closed:
        await scene.node(BOB)
    await scene.until(lambda: scene.has_phase(left, "settled", (ALICE, BOB)), blocks=True, seconds=600)
    account, paid_to = account_of(scene.address(ALICE)), scene.address(ALICE)
    assert (scene.chain.gain(account), scene.chain.chain.world.balances[paid_to]) == (-1_000, 1_000)
    again = await scene.ledger(ALICE, BOB)
    assert again != left


async def test_an_exit_that_was_stored_without_asking_the_other_asks_it_at_the_next_start(scene: LedgerScene) -> None:
    """As an older version left it."""
    left = await scene.propose_ledger(ALICE, BOB)
    await scene.until(lambda: bool(scene.services[ALICE].wants.get(left)))
    running = scene.books(ALICE)._running().books
    state = copy.deepcopy(running.state)
    state.fold(LedgerExitStarted(left, "silent"))
    assert state.ledgers[left].left_unfunded
    books = Books(state, running.context.signer, running.context.terms)
    books.decide(Books.start)
    books.crank()
    step, _ = books.take()
    assert any(isinstance(event, CloseRequested) for event in step.events)
    assert [type(send.message) for send in step.sends] == [SignFinal]


async def test_one_with_no_deposit_of_this_node_on_its_way_is_neither_watched_nor_kept(
    scene: LedgerScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A peer could open one after the other, and never deposit. What it deposits late it takes out by itself."""
    monkeypatch.setattr(forgetting, "KEPT_MAX", 0)
    left = await scene.propose_ledger(ALICE, BOB)
    await scene.until(lambda: scene.has_phase(left, "funding", (ALICE, BOB)))
    await scene.until(lambda: bool(scene.services[ALICE].wants.get(left)) and left in scene.services[BOB].wants)
    scene.services[ALICE].send()
    await scene.nodes[ALICE].stop()
    await scene.books(BOB).challenge_ledger(left)
    assert scene.has_phase(left, "settled", (BOB,))
    assert left not in scene.services[BOB].watched
    books = scene.books(BOB)._running().books
    fact = forgetting.forgettable(books.state, books.context.now_ms + 2 * forgetting.AT_LEAST_MS)
    assert fact is not None
    assert left in fact.channels
    await scene.nodes[BOB].stop()
    await scene.node(ALICE)
    await scene.books(ALICE).challenge_ledger(left)
    await scene.until(lambda: scene.has_phase(left, "disputed", (ALICE,)), blocks=True)
    await scene.until(lambda: scene.has_phase(left, "settled", (ALICE,)), blocks=True, seconds=600)
    account, paid_to = account_of(scene.address(ALICE)), scene.address(ALICE)
    assert (scene.chain.gain(account), scene.chain.chain.world.balances[paid_to]) == (-1_000, 1_000)


async def test_others_cannot_make_it_wait_for_more_than_so_many_deposits_of_its_own(
    scene: LedgerScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bob is to deposit first, and leaves while he cannot; then he joins nothing like that, whoever proposes it."""
    monkeypatch.setattr(proposals, "LEFT_MAX", 1)
    left = await scene.propose_ledger(ALICE, BOB, (0, 1_000))
    await scene.until(lambda: bool(scene.services[BOB].wants.get(left)))
    await scene.nodes[ALICE].stop()
    await scene.books(BOB).challenge_ledger(left)
    await scene.restart(BOB)
    await scene.until(lambda: left in scene.services[BOB].watched)
    books = scene.books(BOB)._running().books
    assert books.index.left == {left}
    assert type(answer(scene, 0, 1_000)) is RejectLedger
    assert type(answer(scene, 1, 1_000)) is SignStage


def answer(scene: LedgerScene, theirs: int, own: int) -> object:
    """What Bob says to a ledger with those deposits that a stranger proposes."""
    bob, books, rules = scene.address(BOB), scene.books(BOB)._running().books, scene.books(BOB)._rules
    stranger, now = Signer(bytes((9,)) * 32), books.context
    order = LedgerOrder(
        peer=bob,
        nonce=nonce_at(now.now_ms, theirs),
        challenge_duration_s=DURATION_S,
        funds=((COIN, theirs, own),),
        pays_to=(address_to_destination(stranger.address), address_to_destination(bob)),
    )
    context = Context(stranger, now.now_ms, now.head_time_s, now.terms)
    (proposed,) = opening.propose(order, (), rules.ledgers, context).sends
    message = proposed.message
    assert isinstance(message, OpenLedger)
    books.decide(lambda books: proposals.receive(books, stranger.address, message, rules))
    books.crank()
    return books.take()[0].sends[-1].message


def test_nothing_is_said_again_to_a_party_that_has_signed_another_ledger_since(pair: LedgerPair) -> None:
    leave(pair.leader)
    other = LedgerPair()
    other.quiet()
    since, offered = other.leader.it, msgspec.structs.replace(pair.leader.it, prefund=(b"", b""))
    assert since.phase == "funding"
    assert waits_for_peer(pair.leader.it, [offered])
    assert not waits_for_peer(pair.leader.it, [since])
