"""Payments of nodes: durable before they leave, gathered under load, said again until seen, right after every loss."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from scapp.channels.errors import CorruptionError, LocalError, PeerError, ScappError
from scapp.channels.log.memory import MemoryLog
from scapp.channels.log.port import Append, StreamWrite
from scapp.channels.payments import store
from scapp.channels.payments.events import PurseRestored, amount_bytes, encode_purse_event
from scapp.channels.payments.limits import PaymentLimits
from scapp.channels.payments.messages import (
    NO_TOKEN,
    VoucherHeld,
    VoucherRefusal,
    Vouchers,
    VouchersSeen,
    VoucherWanted,
    encode_payment_message,
)
from scapp.channels.payments.receipts import PaymentRefused
from scapp.channels.payments.vouchers import Voucher, VoucherRefused, sign_voucher
from scapp.channels.restoring import mark_restored
from scapp.channels.state import encode_redemption
from scapp.channels.transport.fake import FakeNetwork
from scapp.channels.types import ChannelId, Signature
from tests.support.payments import (
    ASSET,
    CHANNEL,
    MALLORY,
    PAYEE,
    PAYER,
    PayingNode,
    terms,
)

WAIT_S = 5.0
OTHER = ChannelId(b"\xc5" * 32)


class Pair:
    """A payer and a payee that are linked, with the test's channel open at both."""

    def __init__(self) -> None:
        self.network = FakeNetwork(automatic=True)
        self.payer = PayingNode(PAYER, self.network)
        self.payee = PayingNode(PAYEE, self.network)

    async def start(self) -> Pair:
        await self.payer.start(PAYEE.address)
        await self.payee.start(PAYER.address)
        for node in (self.payee, self.payer):
            await node.payments.open(terms())
        return self

    def part(self) -> None:
        self.network.partition([PAYER.address], [PAYEE.address])

    def at_payee(self, channel: ChannelId = CHANNEL) -> int:
        return self.payee.payments.purse(channel).purse.paid

    async def until_taken(self, total: int) -> None:
        await until(lambda: self.at_payee() >= total)


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    made = await Pair().start()
    yield made
    await made.payer.stop()
    await made.payee.stop()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.001)


async def idle(pair: Pair) -> None:
    """Let everything in memory happen, and in the logs, however long those take."""
    stores = [node.payments._store for node in (pair.payer, pair.payee)]
    quiet = 0
    while quiet < 50:
        await asyncio.sleep(0.0005)
        quiet = 0 if any(store.on_their_way or store._saving for store in stores) else quiet + 1


async def test_a_payment_is_durable_here_and_there(pair: Pair) -> None:
    """The receipt of one who waits says so, and both logs do."""
    done = await pair.payer.payments.pay(CHANNEL, 30, wait_s=WAIT_S)
    assert (done.amount, done.total, done.seen) == (30, 30, True)
    assert pair.payee.taken == [30]
    for node in (pair.payer, pair.payee):
        assert node.log.durable_copy().version(CHANNEL) == 2
    assert pair.payer.payments.purse(CHANNEL).seen == 30
    assert pair.payee.payments.redemption(CHANNEL) == (30, encode_redemption(30, Signature(done.voucher.signature)))


async def test_payments_at_once_share_vouchers_events_and_messages(pair: Pair) -> None:
    """A hundred are asked for at once: each has its receipt, few are stored and sent, all of the money arrives."""
    receipts = await asyncio.gather(*(pair.payer.payments.ask(CHANNEL, 1, wait=True) for _ in range(100)))
    assert [receipt.total for receipt in receipts] == list(range(1, 101))
    assert all(receipt.voucher.amount >= receipt.total and receipt.seen for receipt in receipts)
    assert pair.at_payee() == 100
    rows = await pair.payer.payments.history(CHANNEL)
    assert len(rows) < 10
    assert sum(len(row.amounts) for row in rows) == 100
    assert pair.payer.counters["payments_made"] == 100


async def test_what_is_refused_tells_its_caller_and_nobody_else(pair: Pair) -> None:
    """An unknown channel, too much, a payee that pays; payments beside it go on."""
    pay = pair.payer.payments.pay
    first, second = pair.payer.payments.ask(CHANNEL, 101), pair.payer.payments.ask(CHANNEL, 1)
    with pytest.raises(LocalError, match="insufficient funds"):
        await first
    assert (await second).total == 1
    with pytest.raises(LocalError, match="no payment channel"):
        await pay(OTHER, 1)
    with pytest.raises(LocalError, match="only the payer"):
        await pair.payee.payments.pay(CHANNEL, 1)
    assert pair.payer.counters["payments_refused"] == 2
    for asked in (pair.payer.payments.purse, pair.payer.payments.redemption):
        with pytest.raises(LocalError, match="no payment channel"):
            asked(OTHER)


async def test_nothing_leaves_before_it_is_durable(pair: Pair) -> None:
    """A disk that refuses the voucher: no receipt, no message, no further payment, and after a restart no trace."""
    pair.payer.log.fail_writes("the disk is full")
    asked = [pair.payer.payments.ask(CHANNEL, 1) for _ in range(3)]
    for future in asked:
        with pytest.raises(ScappError, match="disk is full"):
            await future
    with pytest.raises(ScappError):
        await pair.payer.payments.pay(CHANNEL, 1)
    with pytest.raises(ScappError):
        await pair.payer.payments.close(CHANNEL)
    await idle(pair)
    assert pair.at_payee() == 0
    assert pair.payer.payments.purse(CHANNEL).purse.paid == 0
    await pair.payer.restart(pair.payer.log.durable_copy())
    assert (await pair.payer.payments.pay(CHANNEL, 5, wait_s=WAIT_S)).total == 5


async def test_a_payee_whose_disk_fails_says_nothing(pair: Pair) -> None:
    """What it has not stored, it has not seen; the payer says it again to its next life."""
    pair.payee.log.fail_writes("the disk is full")
    receipt = await pair.payer.payments.pay(CHANNEL, 7, wait_s=0.05)
    assert not receipt.seen
    assert pair.payee.taken == []
    await pair.payee.restart(pair.payee.log.durable_copy())
    await pair.until_taken(7)


async def test_what_is_lost_on_the_way_comes_with_the_next_link(pair: Pair) -> None:
    """The payer pays while there is no link, and is restarted: the largest voucher says it all."""
    pair.part()
    for _ in range(3):
        receipt = await pair.payer.payments.pay(CHANNEL, 10, wait_s=0.01)
        assert not receipt.seen
    info = pair.payer.payments.purse(CHANNEL)
    assert (info.purse.paid, info.seen, info.waiting_for) == (30, 0, "the payee to take the voucher for 30")
    await pair.payer.restart()
    pair.network.heal()
    await pair.until_taken(30)
    assert pair.payee.taken == [30]
    await idle(pair)
    assert pair.payer.payments.purse(CHANNEL).waiting_for == ""


async def test_what_cannot_be_queued_is_said_again_later(pair: Pair) -> None:
    """A payer that does not know its payee's endpoint, until it does: pauses double up to half a minute."""
    await pair.payer.stop()
    await pair.payer.start()
    await pair.payer.payments.pay(CHANNEL, 10)
    pair.payer.transport.add_peer(PAYEE.address, "fake:1")
    pair.network.drop_link(PAYER.address, PAYEE.address)
    await pair.until_taken(10)
    before = pair.payer.counters["vouchers_said_again"]
    await idle(pair)
    pair.payer.later(60_000)
    assert pair.payer.counters["vouchers_said_again"] == before
    pair.part()
    await pair.payer.payments.pay(CHANNEL, 1)
    said = []
    for _ in range(100):
        pair.payer.later(1_000)
        said.append(pair.payer.counters["vouchers_said_again"] - before)
    assert said[-1] == 6  # after 2, 6, 14, 30, 60 and 90 seconds


async def test_a_voucher_may_come_before_the_channel_is_open(pair: Pair) -> None:
    """The payer hears first that everybody has signed."""
    await pair.payer.payments.open(terms(OTHER))
    receipt = pair.payer.payments.ask(OTHER, 5, wait=True)
    await idle(pair)
    assert pair.payee.counters["vouchers_early"] == 1
    await pair.payee.payments.open(terms(OTHER))
    assert (await receipt).seen
    assert pair.at_payee(OTHER) == 5


async def test_early_vouchers_are_few(pair: Pair) -> None:
    """A stranger's junk takes bounded memory, and no honest voucher with it that is said again."""
    for number in range(1_000):
        item = (number.to_bytes(32, "big"), amount_bytes(1), b"\x01" * 65)
        pair.payee.payments.receive(MALLORY.address, encode_payment_message(Vouchers((item,))))
    assert len(pair.payee.payments._early) == 256
    await pair.payer.payments.open(terms(OTHER))
    receipt = pair.payer.payments.ask(OTHER, 5, wait=True)
    await idle(pair)
    await pair.payee.payments.open(terms(OTHER))
    assert (await receipt).seen


async def test_a_voucher_of_another_peer_or_signer_is_refused(pair: Pair) -> None:
    """By a stranger, about somebody else's channel; by the payer, with a signature that is not its own."""
    item = (CHANNEL, amount_bytes(5), sign_voucher(CHANNEL, 5, PAYER).signature)
    pair.payee.payments.receive(MALLORY.address, encode_payment_message(Vouchers((item,))))
    assert pair.payee.counters["vouchers_foreign"] == 1
    forged = (CHANNEL, amount_bytes(5), sign_voucher(CHANNEL, 5, MALLORY).signature)
    pair.payee.payments.receive(PAYER.address, encode_payment_message(Vouchers((forged,))))
    await idle(pair)
    assert pair.payee.counters["vouchers_refused"] == 1
    assert pair.at_payee() == 0
    assert pair.payer.counters["vouchers_refused_by_payee"] == 1


@pytest.mark.parametrize(
    "message",
    [
        VouchersSeen(((CHANNEL, amount_bytes(1)),)),
        VoucherRefusal(CHANNEL, amount_bytes(1), ""),
        VoucherWanted(CHANNEL, NO_TOKEN),
        VoucherHeld(CHANNEL, NO_TOKEN, amount_bytes(1), b""),
    ],
    ids=lambda message: type(message).__name__,
)
async def test_strangers_are_told_nothing_and_believed_nothing(pair: Pair, message: object) -> None:
    with pytest.raises(PeerError, match="no payment channel"):
        pair.payer.payments.receive(MALLORY.address, encode_payment_message(message))


async def test_a_payer_cannot_see_or_refuse_for_its_payee(pair: Pair) -> None:
    for message in (VouchersSeen(((CHANNEL, amount_bytes(1)),)), VoucherRefusal(CHANNEL, amount_bytes(1), "")):
        with pytest.raises(PeerError):
            pair.payee.payments.receive(PAYER.address, encode_payment_message(message))
    with pytest.raises(PeerError, match="cannot be read"):
        pair.payee.payments.receive(PAYER.address, b"\x91\xa5p:new")


async def test_a_refusal_reaches_the_one_who_waits(pair: Pair) -> None:
    """The payee's limit: the payment stays promised, and its caller knows that it was not taken."""
    pair.payee.limits = {ASSET: PaymentLimits(payer_max=20)}
    await pair.payee.restart()
    assert (await pair.payer.payments.pay(CHANNEL, 20, wait_s=WAIT_S)).seen
    with pytest.raises(PaymentRefused, match=r"refused the voucher for 21: .*limit of 20"):
        await pair.payer.payments.pay(CHANNEL, 1, wait_s=WAIT_S)
    assert pair.payer.payments.purse(CHANNEL).purse.paid == 21


async def test_a_voucher_from_a_file_is_taken_once(pair: Pair) -> None:
    """The payee's caller brings it; the payer hears that it was seen when there is a link."""
    pair.part()
    voucher = (await pair.payer.payments.pay(CHANNEL, 12)).voucher
    assert await pair.payee.payments.take(voucher) == 12
    assert await pair.payee.payments.take(voucher) == 0
    with pytest.raises(VoucherRefused, match="wrong signer"):
        await pair.payee.payments.take(Voucher(CHANNEL, 13, voucher.signature))
    assert pair.payee.taken == [12]
    pair.network.heal()
    await until(lambda: pair.payer.payments.purse(CHANNEL).seen == 12)


async def test_closing_is_durable_and_ends_payments(pair: Pair) -> None:
    """What was asked for before is in it, nothing after is; the payee agrees to no less than it holds."""
    await pair.payer.payments.pay(CHANNEL, 40, wait_s=WAIT_S)
    final = await pair.payer.payments.close(CHANNEL)
    assert final == 40 == await pair.payer.payments.close(CHANNEL)
    with pytest.raises(LocalError, match="closed"):
        await pair.payer.payments.pay(CHANNEL, 1)
    with pytest.raises(LocalError, match="holds a voucher for 40"):
        await pair.payee.payments.close(CHANNEL, 39)
    assert await pair.payee.payments.close(CHANNEL, 40) == 40
    for node in (pair.payer, pair.payee):
        await node.restart(node.log.durable_copy())
        assert node.payments.purse(CHANNEL).purse.phase == "closed"
        await node.payments.settle(CHANNEL)
        assert node.payments.purse(CHANNEL).waiting_for == ""
    rows = await pair.payee.payments.history(CHANNEL)
    assert [(row.kind, row.amounts, row.total) for row in rows] == [
        ("opened", (), 100),
        ("taken", (40,), 40),
        ("closed", (), 40),
        ("settled", (), None),
    ]
    assert await pair.payee.payments.history(CHANNEL, 2, 1) == rows[2:3]
    assert await pair.payee.payments.history(CHANNEL, 4) == []


async def test_what_is_redeemed_once_is_not_added_to(pair: Pair) -> None:
    """A final state has offered more than the payee holds, and nobody completes it. The payee redeems what it holds;
    a voucher for the rest would then be worth nothing, and is not taken."""
    await pair.payer.payments.pay(CHANNEL, 12, wait_s=WAIT_S)
    pair.part()
    later = (await pair.payer.payments.pay(CHANNEL, 28)).voucher
    assert await pair.payee.payments.close(CHANNEL, 40) == 40
    assert await pair.payee.payments.close(CHANNEL) == 12
    assert await pair.payee.payments.close(CHANNEL, 40) == 12, "a final state that pays more may still be signed"
    with pytest.raises(VoucherRefused, match="closed"):
        await pair.payee.payments.take(later)
    await pair.payee.restart(pair.payee.log.durable_copy())
    assert pair.at_payee() == 12 == await pair.payee.payments.close(CHANNEL)


async def test_a_caller_that_goes_away_takes_nothing_back(pair: Pair) -> None:
    """A request that is cancelled while its decision is being stored: it is stored, and others go on."""
    pair.part()
    voucher = (await pair.payer.payments.pay(CHANNEL, 12)).voucher
    taking = asyncio.create_task(pair.payee.payments.take(voucher))
    paying = asyncio.create_task(pair.payer.payments.pay(CHANNEL, 5))
    await asyncio.sleep(0)
    for task in (taking, paying):
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taking
    await idle(pair)
    assert pair.at_payee() == 12
    assert pair.payee.log.durable_copy().version(CHANNEL) == 2
    assert (await pair.payer.payments.pay(CHANNEL, 1)).total == 18
    assert await pair.payee.payments.close(CHANNEL, 18) == 18


async def test_a_listener_that_fails_harms_nobody(pair: Pair) -> None:
    pair.payee.taken = None  # type: ignore[assignment]  # appending to it raises
    receipts = await asyncio.gather(*(pair.payer.payments.ask(CHANNEL, 1, wait=True) for _ in range(3)))
    assert all(receipt.seen for receipt in receipts)


async def test_many_that_wait_in_vain_are_answered_in_time(pair: Pair) -> None:
    """Each when its time is over, in any order, and none is kept for ever."""
    pair.part()
    waits = [0.01 * (number % 7 + 1) for number in range(90)]
    receipts = await asyncio.gather(*(pair.payer.payments.pay(CHANNEL, 1, wait_s=wait) for wait in waits))
    assert sorted(receipt.total for receipt in receipts) == list(range(1, 91))
    assert not any(receipt.seen for receipt in receipts)
    assert not pair.payer.payments._talk._unseen[CHANNEL]


async def test_history_is_of_known_channels_only(pair: Pair) -> None:
    with pytest.raises(LocalError, match="no payment channel"):
        await pair.payer.payments.history(OTHER)


async def test_a_restored_payer_asks_what_it_promised(pair: Pair) -> None:
    """Its log is one from before the last payments. It pays nothing until the payee has shown its own voucher to it."""
    await pair.payer.payments.pay(CHANNEL, 10, wait_s=WAIT_S)
    old = pair.payer.log.durable_copy()
    await pair.payer.payments.pay(CHANNEL, 20, wait_s=WAIT_S)
    pair.part()
    mark_restored(old, b"\x07" * 16, 5, 4)
    await pair.payer.restart(old)
    assert "tell its largest voucher" in pair.payer.payments.purse(CHANNEL).waiting_for
    with pytest.raises(LocalError, match="restored from a backup"):
        await pair.payer.payments.pay(CHANNEL, 1)
    pair.network.heal()
    await until(lambda: not pair.payer.payments.purse(CHANNEL).purse.recovering)
    receipt = await pair.payer.payments.pay(CHANNEL, 1, wait_s=WAIT_S)
    assert (receipt.total, receipt.seen, pair.at_payee()) == (31, True, 31)
    kinds = [row.kind for row in await pair.payer.payments.history(CHANNEL)]
    assert kinds == ["opened", "paid", "restored", "recalled", "recovered", "paid"]


async def test_a_restored_payee_asks_what_it_held(pair: Pair) -> None:
    """It gets the largest voucher again, counts what it lost of it, and only then agrees to an end."""
    await pair.payer.payments.pay(CHANNEL, 10, wait_s=WAIT_S)
    old = pair.payee.log.durable_copy()
    await pair.payer.payments.pay(CHANNEL, 20, wait_s=WAIT_S)
    pair.part()
    mark_restored(old, b"\x07" * 16, 5, 4)
    await pair.payee.restart(old)
    with pytest.raises(LocalError, match="restored from a backup"):
        await pair.payee.payments.close(CHANNEL, 10)
    pair.network.heal()
    await pair.until_taken(30)
    await until(lambda: not pair.payee.payments.purse(CHANNEL).purse.recovering)
    with pytest.raises(LocalError, match="holds a voucher for 30"):
        await pair.payee.payments.close(CHANNEL, 10)
    pair.payee.later(60_000)
    assert pair.payee.counters["vouchers_said_again"] == 0


async def test_a_restored_payee_credits_nothing_before_it_has_recovered(pair: Pair) -> None:
    """What its payer sends meanwhile is stored: a final state that the payee has forgotten may make it worthless."""
    await pair.payer.payments.pay(CHANNEL, 10, wait_s=WAIT_S)
    old = pair.payee.log.durable_copy()
    pair.part()
    mark_restored(old, b"\x07" * 16, 5, 4)
    await pair.payee.restart(old)
    pair.payee.taken.clear()
    first, second = [(await pair.payer.payments.pay(CHANNEL, amount)).voucher for amount in (20, 30)]
    pair.payee.payments.receive(
        PAYER.address, encode_payment_message(Vouchers(((CHANNEL, amount_bytes(30), first.signature),)))
    )
    await pair.until_taken(30)
    assert await pair.payee.payments.take(second) == 0
    for _ in range(2):  # a restart forgets nothing of it
        purse = pair.payee.payments.purse(CHANNEL).purse
        assert (purse.recovering, purse.paid, purse.credited, pair.payee.taken) == (True, 60, 10, [])
        await pair.payee.restart()
    pair.network.heal()
    await until(lambda: not pair.payee.payments.purse(CHANNEL).purse.recovering)
    assert (pair.payee.taken, pair.payee.payments.purse(CHANNEL).purse.credited) == ([50], 60)


async def test_what_a_payee_took_while_it_recovered_is_credited_by_its_operators_decision(pair: Pair) -> None:
    old = pair.payee.log.durable_copy()
    pair.part()
    mark_restored(old, b"\x07" * 16, 5, 4)
    await pair.payee.restart(old)
    voucher = (await pair.payer.payments.pay(CHANNEL, 20)).voucher
    assert (await pair.payee.payments.take(voucher), pair.payee.taken) == (0, [])
    await pair.payee.payments.recover(CHANNEL)
    assert pair.payee.taken == [20]


async def test_an_answer_of_before_the_restore_ends_nothing(pair: Pair) -> None:
    """Only one that carries the restore's token was given after it; and one that recovers itself knows no better."""
    old = pair.payer.log.durable_copy()
    pair.part()
    for node, log in ((pair.payer, old), (pair.payee, pair.payee.log.durable_copy())):
        mark_restored(log, bytes((len(node.signer.address),)) * 16, 5, 4)
        await node.restart(log)
    stale = VoucherHeld(CHANNEL, b"\x09" * 16, amount_bytes(0), b"")
    pair.payer.payments.receive(PAYEE.address, encode_payment_message(stale))
    pair.network.heal()
    await idle(pair)
    assert pair.payer.payments.purse(CHANNEL).purse.recovering
    assert pair.payee.payments.purse(CHANNEL).purse.recovering
    await pair.payer.payments.recover(CHANNEL)
    pair.payee.later(5_000)
    await idle(pair)
    assert not pair.payee.payments.purse(CHANNEL).purse.recovering
    with pytest.raises(LocalError, match="does not recover"):
        await pair.payer.payments.recover(CHANNEL)


async def test_a_voucher_that_the_payer_forgot_comes_back_when_it_is_seen(pair: Pair) -> None:
    """It was handed over as a file before the backup was put in place, and reached the payee after the recovery."""
    old = pair.payer.log.durable_copy()
    pair.part()
    voucher = (await pair.payer.payments.pay(CHANNEL, 50)).voucher
    await pair.payer.restart(old)  # not marked: what an operator does that copies files by hand
    pair.network.heal()
    await pair.payer.payments.pay(CHANNEL, 5, wait_s=WAIT_S)
    await pair.payee.payments.take(voucher)
    await idle(pair)
    assert pair.payer.payments.purse(CHANNEL).purse.paid == 50
    assert (await pair.payer.payments.pay(CHANNEL, 1, wait_s=WAIT_S)).total == 51


async def test_a_purse_is_rebuilt_from_its_snapshot(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one or without, the same purse."""
    monkeypatch.setattr(store, "SNAPSHOT_EVENTS", 4)
    for _ in range(10):
        await pair.payer.payments.pay(CHANNEL, 1)
    await idle(pair)
    assert pair.payer.log.load_snapshot(CHANNEL, "channel") is not None
    before = pair.payer.payments.purse(CHANNEL).purse
    await pair.payer.restart()
    assert pair.payer.payments.purse(CHANNEL).purse == before
    assert pair.payer.log.version(CHANNEL) == 11


def test_a_stream_that_holds_no_purse_of_its_channel_is_corrupt() -> None:
    """Under another channel's id, or cut at its beginning."""
    opened = encode_purse_event(_opened())
    log = MemoryLog()
    log.append(Append((StreamWrite(OTHER, 0, (opened,)), StreamWrite(CHANNEL, 0, (_restored(),)))))
    for stream, says in (
        (OTHER, "purse of channel 0xc4"),
        (CHANNEL, "begins with PurseRestored"),
        (MISSING, "no purse"),
    ):
        with pytest.raises(CorruptionError, match=says):
            store.load_purse(log, stream)


MISSING = b"\xc6" * 32


def _opened() -> object:
    from tests.support.payments import every_event

    return every_event()[0]


def _restored() -> bytes:
    return encode_purse_event(PurseRestored(b"\x07" * 16, 1, 1))


async def test_a_node_that_stops_answers_everybody(pair: Pair) -> None:
    """Who waits for the payee has its receipt, who comes later a reason."""
    pair.part()
    waiting = pair.payer.payments.ask(CHANNEL, 1, wait=True)
    await idle(pair)
    await pair.payer.payments.stop()
    assert not (await waiting).seen
    with pytest.raises(LocalError, match="the node stops"):
        await pair.payer.payments.pay(CHANNEL, 1)
