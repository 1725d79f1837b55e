"""Virtual channels proposed to whole books, over ledgers that do not run."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest

from scapp.channels.books import proposals
from scapp.channels.books.engine import Books
from scapp.channels.books.proposals import receive
from scapp.channels.books.step import Send
from scapp.channels.errors import PeerError
from scapp.channels.outcome import address_to_destination
from scapp.channels.state import FixedPart, state_hash
from scapp.channels.types import ZERO_ADDRESS, ChannelId
from scapp.channels.virtual.agreement import Agreement, Asset, check_agreement, nonce_at, state_of, to_message
from scapp.channels.virtual.messages import Proposed, Refused
from scapp.channels.virtual.standing import phase
from tests.support.ledger_scene import DURATION_S, TWO_PARTY_APP, LedgerScene

ALICE, BOB, CAROL = 0, 1, 2


@pytest.fixture
async def scene() -> AsyncIterator[LedgerScene]:
    made = await LedgerScene(3).start()
    try:
        yield made
    finally:
        await made.end()


def books_of(scene: LedgerScene, index: int) -> Books:
    return scene.books(index)._running().books


def proposal(scene: LedgerScene, first: int, signers: tuple[int, ...]) -> Proposed:
    """An app channel between that node and Bob, its prefund state signed by those."""
    path = (scene.address(first), scene.address(BOB))
    agreement = Agreement(
        kind="app",
        fixed=FixedPart(path, nonce_at(books_of(scene, BOB).context.now_ms, 7), TWO_PARTY_APP, DURATION_S),
        destinations=(address_to_destination(path[0]), address_to_destination(path[1])),
        assets=(Asset(ZERO_ADDRESS, 60, 40),),
        app_data=b"app",
        fees=(),
    )
    channel = check_agreement(agreement, TWO_PARTY_APP)
    digest = state_hash(channel, state_of(agreement, "prefund", 0, agreement.start, agreement.app_data))
    signed = tuple(scene.signers[index].sign(digest) if index in signers else b"" for index in (first, BOB))
    return to_message(channel, agreement, signed)


def heard(scene: LedgerScene, message: Proposed, peer: int = ALICE, limited: str = "") -> tuple[Send, ...]:
    """Bob's books hear it from that node: what they say at once."""
    books = books_of(scene, BOB)
    books.decide(lambda books: receive(books, scene.address(peer), message, scene.books(BOB)._rules, limited))
    books.crank()
    return books.take()[0].sends


async def test_what_its_app_channel_has_signed_over_a_ledger_that_is_left_is_given_up(scene: LedgerScene) -> None:
    """Bob signs that it is not funded, once everybody has signed the prefund state; nobody waits for him."""
    ledger = await scene.ledger(ALICE, BOB)
    await scene.books(BOB).challenge_ledger(ledger)
    message = proposal(scene, ALICE, (ALICE, BOB))
    heard(scene, message)
    record = books_of(scene, BOB).state.virtuals[ChannelId(message.channel)]
    assert phase(record) == "failed"
    assert record.signed(record.aborted)
    assert "there is no ledger that runs" in record.reason


async def test_what_its_app_channel_has_signed_is_taken_from_a_peer_that_has_said_too_much(scene: LedgerScene) -> None:
    """Bob's own node has begun it, and a hub would wait for it to end. Any other is refused."""
    await scene.ledger(ALICE, BOB)
    message = proposal(scene, ALICE, (ALICE, BOB))
    (send,) = heard(scene, proposal(scene, ALICE, (ALICE,)), limited="too much")
    assert isinstance(send.message, Refused)
    assert not books_of(scene, BOB).state.virtuals
    heard(scene, message, limited="too much")
    assert books_of(scene, BOB).state.virtuals[ChannelId(message.channel)].accepted


async def test_over_a_ledger_with_too_many_channels_what_was_signed_is_given_up_and_any_other_refused(
    scene: LedgerScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scene.ledger(ALICE, BOB)
    monkeypatch.setattr(proposals, "OPENING_MAX", 0)
    (send,) = heard(scene, proposal(scene, ALICE, (ALICE,)))
    assert isinstance(send.message, Refused)
    assert not books_of(scene, BOB).state.virtuals
    message = proposal(scene, ALICE, (ALICE, BOB))
    heard(scene, message)
    record = books_of(scene, BOB).state.virtuals[ChannelId(message.channel)]
    assert (phase(record), bool(record.signed(record.aborted))) == ("failed", True)
    assert "channels are being opened" in record.reason


async def test_what_it_has_not_signed_is_refused_and_nothing_stored(scene: LedgerScene) -> None:
    ledger = await scene.ledger(ALICE, BOB)
    await scene.books(BOB).challenge_ledger(ledger)
    unsigned = proposal(scene, ALICE, (ALICE,))
    forged = proposal(scene, ALICE, (ALICE, BOB))
    forged = msgspec.structs.replace(forged, prefund=(forged.prefund[0], b"\1" * 65))
    (send,) = heard(scene, unsigned)
    assert isinstance(send.message, Refused)
    with pytest.raises(PeerError, match="wrong signature of participant 1"):
        heard(scene, forged)
    assert not books_of(scene, BOB).state.virtuals


async def test_without_any_ledger_it_is_refused(scene: LedgerScene) -> None:
    (send,) = heard(scene, proposal(scene, CAROL, (CAROL, BOB)), CAROL)
    assert isinstance(send.message, Refused)
    assert not books_of(scene, BOB).state.virtuals


async def test_what_a_restored_node_has_signed_comes_back_over_a_ledger_that_is_left(scene: LedgerScene) -> None:
    """It may have signed more than it knows: it recovers, and gives nothing up by itself."""
    ledger = await scene.ledger(ALICE, BOB)
    await scene.books(BOB).challenge_ledger(ledger)
    books_of(scene, BOB).state.restored_ms = books_of(scene, BOB).context.now_ms + 1
    message = proposal(scene, ALICE, (ALICE, BOB))
    heard(scene, message)
    record = books_of(scene, BOB).state.virtuals[ChannelId(message.channel)]
    assert record.recovering
    assert not record.aborting
