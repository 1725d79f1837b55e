"""What is computed ahead: the very values that the next step asks for, and no fact, signature or message."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest

from scapp.channels.books import ahead
from scapp.channels.books.engine import Books
from scapp.channels.books.info import PaymentChannelRequest
from scapp.channels.books.step import Step
from scapp.channels.crypto import keccak256
from scapp.channels.ledger import balances, consensus
from scapp.channels.ledger.updating import followed
from scapp.channels.signing import Signer
from scapp.channels.types import ChannelId
from scapp.channels.virtual import funding
from scapp.channels.virtual.record import RIGHT, VirtualRecord
from tests.support.ledger_scene import LedgerScene, Willing

PAYER, PAYEE = 0, 1


@pytest.fixture
async def scene() -> AsyncIterator[LedgerScene]:
    made = LedgerScene(2)
    made.policies[PAYEE] = Willing(payee=("ask", ""))  # so that the payer waits
    await made.start()
    try:
        yield made
    finally:
        await made.end()


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The states of ledgers that are hashed from now on."""
    found: list[bytes] = []

    def noted(data: bytes) -> bytes:
        found.append(data)
        return keccak256(data)

    monkeypatch.setattr(balances, "keccak256", noted)
    return found


async def proposed(scene: LedgerScene) -> tuple[Books, VirtualRecord]:
    """The payer's books, and its channel, that nobody else has signed."""
    request = PaymentChannelRequest(payee=scene.address(PAYEE), amount=10, via=(), fees=(), challenge_duration_s=3_600)
    channel = await scene.books(PAYER).open_payments(request)
    runner = scene.books(PAYER)._runner
    assert runner is not None
    return runner.books, runner.books.state.virtuals[channel]


@pytest.mark.parametrize("leads", [True, False])
async def test_the_next_change_of_a_ledger_is_hashed_before_it_is_due(
    scene: LedgerScene, hashed: list[bytes], leads: bool
) -> None:
    """The leader signs, and the follower checks, what is there already."""
    pair = (PAYER, PAYEE) if leads else (PAYEE, PAYER)
    ledger = await scene.ledger(*pair)
    books, record = await proposed(scene)
    assert record.right is not None
    change = funding.guarantee(record, RIGHT, record.right)
    runner = scene.books(PAYEE)._runner
    assert runner is not None
    theirs = runner.books.state.ledgers[ledger].ledger
    assert theirs is not None
    signed = consensus.propose(theirs, change, scene.signers[PAYEE])[1] if not leads else None
    ahead.compute(books, (record.channel_id, ledger))
    hashed.clear()
    now = books.state.ledgers[ledger]
    assert now.ledger is not None
    if signed is None:
        consensus.propose(now.ledger, change, scene.signers[PAYER])
    else:
        consensus.receive_proposal(followed(now, books.session(ledger)), signed)
    assert not hashed


async def test_nothing_is_decided_signed_or_said_ahead(scene: LedgerScene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Books are the same before and after, also where the ledger cannot hold the guarantee any more."""
    ledger = await scene.ledger(PAYER, PAYEE, (10, 0))
    books, record = await proposed(scene)
    assert record.right is not None
    state, held = books.state.copy(), books.state.ledgers[ledger].ledger
    assert held is not None

    def refuse(*_: object) -> None:
        raise AssertionError("signed ahead")

    taken = consensus.propose(held, funding.guarantee(record, RIGHT, record.right), scene.signers[PAYER])[0]
    monkeypatch.setattr(Signer, "sign", refuse)
    ahead.compute(books, (record.channel_id, ledger, ChannelId(b"\x77" * 32)))
    assert (books.state.ledgers, books.state.virtuals) == (state.ledgers, state.virtuals)
    assert books.take() == (Step(), ())
    books.state.ledgers[ledger] = msgspec.structs.replace(state.ledgers[ledger], ledger=taken)
    ahead.compute(books, (record.channel_id, ledger))
    books.state.ledgers[ledger] = state.ledgers[ledger]
