"""What others make a node's books remember: what is refused is not stored, what has ended is forgotten in the end, and
no id is used twice for that."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from scapp.channels.books import forgetting, proposals, purses
from scapp.channels.books.engine import Books
from scapp.channels.books.events import Forgotten, decode_event, encode_event
from scapp.channels.books.loading import load_books
from scapp.channels.books.messages import encode_message
from scapp.channels.books.snapshots import BooksCodec
from scapp.channels.books.state import BooksState
from scapp.channels.books.step import BOOKS_STREAM, NOTHING, Step
from scapp.channels.errors import CorruptionError, LocalError
from scapp.channels.ledger.opening import open_again
from scapp.channels.restoring import mark_restored
from scapp.channels.types import ChannelId
from scapp.channels.virtual.agreement import opened_ms, to_message
from scapp.channels.virtual.messages import Said
from tests.support.ledger_scene import LedgerScene

ALICE, HUB, BOB = 0, 1, 2


@pytest.fixture
async def scene() -> AsyncIterator[LedgerScene]:
    made = await LedgerScene(3).start()
    try:
        yield made
    finally:
        await made.end()


def state(scene: LedgerScene, index: int) -> BooksState:
    return scene.books(index)._running().books.state


async def looked(scene: LedgerScene, index: int) -> None:
    """The node has looked for what may be forgotten."""

    def look(books: Books) -> Step:
        books._forget_at = 0
        return books.tick()

    await scene.books(index)._input(look)


async def refused_ledgers(scene: LedgerScene, count: int) -> list[ChannelId]:
    """Ledgers that Alice proposed and Bob's operator has turned down, one after the other."""
    scene.policies[BOB].answers["ledger"] = ("ask", "by hand")
    found = []
    for _ in range(count):
        channel = await scene.propose_ledger(ALICE, BOB)
        await scene.until(lambda: scene.has_phase(channel, "proposed", (BOB,)))  # noqa: B023 - awaited here
        await scene.books(BOB).reject_ledger(channel, "no")
        await scene.until(lambda: scene.has_phase(channel, "rejected", (ALICE, BOB)))  # noqa: B023 - awaited here
        found.append(channel)
    return found


async def test_a_ledger_that_policy_turns_down_is_not_stored(scene: LedgerScene) -> None:
    scene.policies[BOB].answers["ledger"] = ("reject", "not today")
    for _ in range(3):
        channel = await scene.propose_ledger(ALICE, BOB)
        await scene.until(lambda: scene.has_phase(channel, "rejected", (ALICE,)))  # noqa: B023 - awaited here
    assert state(scene, ALICE).ledgers[channel].reject_reason == "not today"
    assert scene.logs[BOB].version(BOOKS_STREAM) == 0


async def test_the_oldest_of_what_has_ended_is_forgotten_and_never_begun_again(
    scene: LedgerScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events and snapshot come to the same afterwards; what is proposed anew is taken."""
    monkeypatch.setattr(forgetting, "AT_LEAST_MS", -60_000)  # clocks of nodes are apart here
    monkeypatch.setattr(forgetting, "KEPT_MAX", 1)
    channels = await refused_ledgers(scene, 3)
    again = open_again(state(scene, ALICE).ledgers[channels[0]])
    await looked(scene, BOB)
    await looked(scene, BOB)
    assert list(state(scene, BOB).ledgers) == channels[2:]
    floor = state(scene, BOB).forgotten_ms
    assert floor >= opened_ms(again.nonce)
    before = scene.logs[BOB].version(BOOKS_STREAM)
    await scene.books(BOB).on_message(scene.address(ALICE), encode_message(again))
    await looked(scene, BOB)
    assert scene.logs[BOB].version(BOOKS_STREAM) == before
    from_events = load_books(scene.logs[BOB], BooksCodec(), scene.address(BOB))
    scene.save_snapshot(BOB)
    from_snapshot = load_books(scene.logs[BOB], BooksCodec(), scene.address(BOB))
    for found in (from_events, from_snapshot):
        assert (found.ledgers, found.forgotten_ms, found.version) == (state(scene, BOB).ledgers, floor, before)
    scene.policies[BOB].answers.clear()
    await scene.ledger(ALICE, BOB)


async def test_what_an_open_ledger_has_guaranteed_is_kept(scene: LedgerScene, monkeypatch: pytest.MonkeyPatch) -> None:
    """An older state of the ledger may come to the chain: then the outcome of its channel is needed. What never came
    to a guarantee goes, and is not begun when it is proposed a second time."""
    monkeypatch.setattr(forgetting, "AT_LEAST_MS", -60_000)  # clocks of nodes are apart here
    monkeypatch.setattr(forgetting, "KEPT_MAX", 0)
    left = await scene.ledger(ALICE, HUB)
    used = await scene.payments((ALICE, HUB), 10, fees=())
    await scene.books(HUB).close_virtual(used)
    await scene.until(lambda: scene.virtual_phase(used, "released", (ALICE, HUB)))
    unused = await scene.open_payments((ALICE, HUB, BOB), 10)  # the hub has no ledger with the payee
    await scene.until(lambda: scene.virtual_phase(unused, "rejected", (ALICE,)))
    record = state(scene, ALICE).virtuals[unused]
    await looked(scene, ALICE)
    assert list(state(scene, ALICE).virtuals) == [used]
    assert proposals.age_fault(scene.books(ALICE)._running().books, record.agreement.fixed.nonce)
    before = scene.logs[ALICE].version(BOOKS_STREAM)
    message = to_message(unused, record.agreement, record.prefund.signatures)
    await scene.books(ALICE).on_message(scene.address(HUB), encode_message(message))
    await looked(scene, ALICE)
    assert scene.logs[ALICE].version(BOOKS_STREAM) == before
    await scene.books(ALICE).close_ledger(left)
    books = state(scene, ALICE)
    await scene.until(lambda: not any(each.is_open for each in books.ledgers.values()), blocks=True, seconds=600)
    await looked(scene, ALICE)
    await looked(scene, ALICE)
    assert (books.virtuals, books.ledgers) == ({}, {})
    await scene.restart(ALICE)
    assert scene.books(ALICE)._payments.purses() == []
    assert [row.kind for row in await scene.books(ALICE).payment_history(used, 0, 9)] == ["opened", "closed", "settled"]
    with pytest.raises(LocalError, match="no payment channel"):
        await scene.books(ALICE).payment_history(ChannelId(BOOKS_STREAM), 0, 9)
    log = scene.logs[ALICE].durable_copy()
    before = log.version(used)
    assert mark_restored(log, bytes(16), 1, 1) == {}
    assert (log.version(used), log.version(BOOKS_STREAM) > 0) == (before, True)


async def test_a_ledger_is_kept_as_long_as_a_channel_names_it(
    scene: LedgerScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A peer may still have something to say of a channel that is over: here all prefund signatures."""
    monkeypatch.setattr(forgetting, "AT_LEAST_MS", -60_000)  # clocks of nodes are apart here
    monkeypatch.setattr(forgetting, "KEPT_MAX", 1)
    left = await scene.ledger(ALICE, HUB)
    unused = await scene.open_payments((ALICE, HUB, BOB), 10)  # the hub has no ledger with the payee
    await scene.until(lambda: scene.virtual_phase(unused, "rejected", (ALICE,)))
    await scene.books(ALICE).close_ledger(left)
    books = state(scene, ALICE)
    await scene.until(lambda: not any(each.is_open for each in books.ledgers.values()), blocks=True, seconds=600)
    await looked(scene, ALICE)
    record = books.virtuals[unused]
    digest = record.hash_of("prefund", 0, record.prefund.amounts, record.prefund.app_data)
    said = Said(unused, tuple(signer.sign(digest) for signer in scene.signers))
    await scene.books(ALICE).on_message(scene.address(HUB), encode_message(said))
    await scene.books(ALICE)._input(lambda _: NOTHING)
    assert books.virtuals[unused].prefund.complete
    assert not scene.nodes[ALICE].counters().get("books_bugs")


def test_the_fact_keeps_its_bytes_and_must_follow() -> None:
    fact = Forgotten((b"\x01" * 32,), 7)
    assert encode_event(fact).hex() == "93b1626f6f6b732e666f72676f7474656e2e3191c420" + "01" * 32 + "07"
    assert decode_event(encode_event(fact)) == fact
    with pytest.raises(CorruptionError, match="is not here"):
        BooksState().fold(fact)


async def test_the_oldest_settled_purses_are_forgotten_and_none_is_opened_again(
    scene: LedgerScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At payer and payee, after a restart too; what was paid stays known of the channel, and payments go on."""
    monkeypatch.setattr(purses, "SETTLED_KEPT", 1)
    await scene.ledger(ALICE, HUB)
    channels = []
    for _ in range(3):
        channels.append(await scene.payments((ALICE, HUB), 10))
        await scene.books(ALICE).pay(channels[-1], 4)
        await scene.books(HUB).close_virtual(channels[-1])
        await scene.until(lambda: scene.virtual_phase(channels[-1], "released", (ALICE, HUB)))
    open_now = await scene.payments((ALICE, HUB), 10)
    for again in (False, True):
        for who in (ALICE, HUB):
            if again:
                await scene.restart(who)
            books = scene.books(who)
            await scene.until(lambda: scene.virtual(who, channels[2]).phase == "released")  # noqa: B023 - awaited here
            books._purses.forget_old()
            books._after(tuple(channels))
            assert {each.purse.channel for each in books._payments.purses()} == {channels[2], open_now}
            assert set(books._payments._talk._seen) <= {channels[2], open_now}
            assert [scene.virtual(who, channel).paid for channel in channels] == [4, 4, 4]
    await scene.books(ALICE).pay(open_now, 1)
    assert not scene.nodes[ALICE].books.fault  # type: ignore[union-attr]


async def test_what_is_young_is_kept(scene: LedgerScene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proposal of its age may still be on its way, and would be refused for it."""
    monkeypatch.setattr(forgetting, "KEPT_MAX", 0)
    channels = await refused_ledgers(scene, 1)
    await looked(scene, BOB)
    assert list(state(scene, BOB).ledgers) == channels
