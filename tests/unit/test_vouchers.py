"""Purses and vouchers: what pays, what is refused, and that losing, repeating or reordering them changes nothing."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scapp.channels import nitro_json
from scapp.channels.errors import CorruptionError, LocalError
from scapp.channels.payments.book import PaymentBook
from scapp.channels.payments.events import PurseEvent, PurseOpened, PurseRestored, VoucherPaid, amount_bytes
from scapp.channels.payments.limits import PaymentLimits
from scapp.channels.payments.purse import create, evolve
from scapp.channels.payments.vouchers import Voucher, VoucherRefused, redemption_app_data, sign_voucher
from scapp.channels.signing import InvalidSignature, Verifier
from scapp.channels.types import ChannelId
from tests.support.payments import (
    ASSET,
    CHANNEL,
    MALLORY,
    NOW_MS,
    PAYEE,
    PAYER,
    every_event,
    payee_book,
    payer_book,
    terms,
)

OTHER = ChannelId(b"\xc5" * 32)


def paid(book: PaymentBook, *amounts: int, channel: ChannelId = CHANNEL) -> Voucher:
    """The voucher after payments that all succeed."""
    _, outcomes = book.pay(channel, amounts, NOW_MS)
    assert all(isinstance(outcome, int) for outcome in outcomes), outcomes
    voucher = book.purse(channel).largest
    assert voucher is not None
    return voucher


def refusal(book: PaymentBook, amount: int) -> str:
    event, (outcome,) = book.pay(CHANNEL, [amount], NOW_MS)
    assert event is None
    return str(outcome)


def restored(book: PaymentBook, token: bytes = b"\x07" * 16) -> PaymentBook:
    book.fold(CHANNEL, PurseRestored(token, NOW_MS, NOW_MS))
    return book


def test_what_is_paid_adds_up_and_is_taken() -> None:
    payer, payee = payer_book(), payee_book()
    assert payee.take(paid(payer, 30), NOW_MS)[1] == 30
    assert payee.take(paid(payer, 20, 50), NOW_MS)[1] == 70
    assert (payer.purse(CHANNEL).remaining, payee.purse(CHANNEL).paid) == (0, 100)
    assert (payer.purse(CHANNEL).payments, payee.purse(CHANNEL).payments) == (3, 2)


def test_payments_decided_together_share_the_largest_voucher() -> None:
    """Each has its own total; one that is refused holds up no other."""
    book = payer_book()
    event, outcomes = book.pay(CHANNEL, [10, 0, 20, 200, 5], NOW_MS)
    assert [outcome for outcome in outcomes if isinstance(outcome, int)] == [10, 30, 35]
    assert [isinstance(outcome, LocalError) for outcome in outcomes] == [False, True, False, True, False]
    assert isinstance(event, VoucherPaid)
    assert event.total == amount_bytes(35)
    assert event.amounts == b"".join(map(amount_bytes, (10, 20, 5)))
    assert Verifier(PAYER.address).matches(*_signed(book.purse(CHANNEL).largest))


def _signed(voucher: Voucher | None) -> tuple[object, bytes]:
    from scapp.channels.state import voucher_hash

    assert voucher is not None
    return voucher_hash(voucher.channel, voucher.amount), voucher.signature


@pytest.mark.parametrize(
    ("amount", "says"), [(0, "at least 1"), (-5, "at least 1"), (101, "insufficient funds: 100 of 100 remain")]
)
def test_what_cannot_be_paid(amount: int, says: str) -> None:
    """Nothing, less than nothing, more than there is."""
    assert says in refusal(payer_book(), amount)


def test_limits_of_the_payer() -> None:
    """For one payment, and for all that one payee is promised in unsettled channels together."""
    limits = {ASSET: PaymentLimits(payment_max=50, payee_max=80)}
    book = payer_book(limits=limits)
    book.open(terms(OTHER), NOW_MS)
    assert "51 is above this node's limit of 50" in refusal(book, 51)
    paid(book, 50, channel=OTHER)
    assert "promised 50 already is above this node's limit of 80" in refusal(book, 31)
    paid(book, 10, 20)
    assert "promised 80 already" in refusal(book, 1)
    book.settle(OTHER, NOW_MS)
    paid(book, 50)


def test_limit_of_the_payee() -> None:
    """It takes no more from one payer, in unsettled channels together, than it wants to wait for."""
    payer, payee = payer_book(), payee_book(limits={ASSET: PaymentLimits(payer_max=60)})
    for book in (payer, payee):
        book.open(terms(OTHER), NOW_MS)
    payee.take(paid(payer, 40), NOW_MS)
    with pytest.raises(VoucherRefused, match="61 unsettled by one payer is above the payee's limit of 60"):
        payee.take(paid(payer, 21, channel=OTHER), NOW_MS)
    payee.settle(CHANNEL, NOW_MS)
    assert payee.take(paid(payer, 1, channel=OTHER), NOW_MS)[1] == 22


def test_only_the_payer_pays_and_only_where_it_can() -> None:
    with pytest.raises(LocalError, match="only the payer"):
        payee_book().pay(CHANNEL, [1], NOW_MS)
    with pytest.raises(LocalError, match="no payment channel 0xc5"):
        payer_book().pay(OTHER, [1], NOW_MS)
    book = payer_book()
    book.close(CHANNEL, None, NOW_MS)
    with pytest.raises(LocalError, match="is closed: nothing is paid"):
        book.pay(CHANNEL, [1], NOW_MS)


def refused(voucher: Voucher, says: str, book: PaymentBook | None = None) -> None:
    book = book or payee_book()
    before = book.purse(CHANNEL)
    with pytest.raises(VoucherRefused, match=says):
        book.take(voucher, NOW_MS)
    assert book.purse(CHANNEL) == before


def test_what_is_refused() -> None:
    """Forged, a stranger's, another channel's, more than there is, one that somebody else should get."""
    voucher = paid(payer_book(), 30)
    change = msgspec.structs.replace
    refused(change(voucher, amount=31), "wrong signer")
    refused(change(voucher, signature=b""), "wrong signer")
    refused(change(voucher, amount=101), "insufficient funds: 101 of 100")
    refused(change(voucher, amount=2**256), "insufficient funds")
    refused(sign_voucher(CHANNEL, 5, MALLORY), "wrong signer")
    refused(change(paid(payer_book(OTHER), 30, channel=OTHER), channel=CHANNEL), "wrong signer")
    refused(voucher, "payee's", payer_book())
    with pytest.raises(LocalError, match="no payment channel"):
        payee_book().take(change(voucher, channel=OTHER), NOW_MS)


def test_a_signature_with_the_other_v_is_taken_and_redeemed_with_the_right_one() -> None:
    """The contracts recover the signer by v; the payee does not depend on the payer's."""
    voucher = paid(payer_book(), 30)
    twisted = msgspec.structs.replace(voucher, signature=voucher.signature[:64] + bytes([55 - voucher.signature[64]]))
    payee = payee_book()
    assert payee.take(twisted, NOW_MS)[1] == 30
    by_payer = Verifier(PAYER.address)
    data = redemption_app_data(twisted, by_payer)
    assert len(data) == 128
    assert data == redemption_app_data(voucher, by_payer)
    with pytest.raises(InvalidSignature):
        redemption_app_data(twisted, Verifier(MALLORY.address))


def test_a_closed_purse_takes_what_the_final_state_gives_and_nothing_above() -> None:
    """A payer that pays on after the payee has signed the end would get something for nothing."""
    payer, payee = payer_book(), payee_book()
    payee.take(paid(payer, 30), NOW_MS)
    late = paid(payer, 20)
    with pytest.raises(LocalError, match="a final state with 29 to the payee, who holds a voucher for 30"):
        payee.close(CHANNEL, 29, NOW_MS)
    payee.close(CHANNEL, 50, NOW_MS)
    assert payee.close(CHANNEL, 50, NOW_MS) is None
    with pytest.raises(LocalError, match="is closed with 50"):
        payee.close(CHANNEL, 40, NOW_MS)
    assert payee.close(CHANNEL, 60, NOW_MS) is None  # more is signed, but no voucher is taken for it
    assert payee.take(late, NOW_MS)[1] == 20
    refused(paid(payer, 1), "closed, with 50", payee)


def test_the_payer_closes_with_what_it_promised() -> None:
    book = payer_book()
    paid(book, 30)
    for wrong in (29, 31):
        with pytest.raises(LocalError, match=f"a final state with {wrong} to the payee, who was promised 30"):
            book.close(CHANNEL, wrong, NOW_MS)
    book.close(CHANNEL, None, NOW_MS)
    assert (book.purse(CHANNEL).phase, book.purse(CHANNEL).final) == ("closed", 30)
    book.settle(CHANNEL, NOW_MS)
    assert book.settle(CHANNEL, NOW_MS) is None


def test_what_cannot_be_opened() -> None:
    """On other terms than before, by a third party, over nothing; again on the same terms changes nothing."""
    book = payer_book()
    assert book.open(terms(), NOW_MS) == ()
    with pytest.raises(LocalError, match="other terms"):
        book.open(terms(start=101), NOW_MS)
    with pytest.raises(LocalError, match="not one of two different parties"):
        PaymentBook(MALLORY).open(terms(), NOW_MS)
    with pytest.raises(LocalError, match="over 0"):
        PaymentBook(PAYER).open(terms(start=0), NOW_MS)


def test_a_restored_payer_promises_nothing_before_it_has_heard_the_payee() -> None:
    """Rule 10: neither a payment nor the end, with less than it may have promised."""
    book = restored(payer_book())
    with pytest.raises(LocalError, match="restored from a backup; it pays once"):
        book.pay(CHANNEL, [1], NOW_MS)
    with pytest.raises(LocalError, match="restored"):
        book.close(CHANNEL, None, NOW_MS)
    assert book.recalled(paid(payer_book(), 40), NOW_MS) is not None
    book.recovered(CHANNEL, NOW_MS, by_operator=False)
    assert paid(book, 1).amount == 41
    with pytest.raises(LocalError, match="does not recover"):
        book.recovered(CHANNEL, NOW_MS, by_operator=True)


def test_a_recall_is_ours_and_larger_or_nothing() -> None:
    """Only its own signature makes a payer believe that it promised more than it knows."""
    book = restored(payer_book())
    for forged in (sign_voucher(CHANNEL, 40, PAYEE), sign_voucher(CHANNEL, 101, PAYER)):
        with pytest.raises(VoucherRefused, match="did not sign it"):
            book.recalled(forged, NOW_MS)
    assert book.recalled(sign_voucher(CHANNEL, 0, PAYER), NOW_MS) is None
    assert book.recalled(sign_voucher(CHANNEL, 100, PAYER), NOW_MS) is not None
    assert book.recalled(sign_voucher(CHANNEL, 99, PAYER), NOW_MS) is None


def test_a_restored_payee_closes_only_once_it_has_heard_the_payer() -> None:
    """It might hold less than it did, and sign an end that gives that away."""
    book = restored(payee_book())
    with pytest.raises(LocalError, match="restored"):
        book.close(CHANNEL, 0, NOW_MS)
    book.take(paid(payer_book(), 40), NOW_MS)  # taking more is always right
    book.recovered(CHANNEL, NOW_MS, by_operator=False)
    book.close(CHANNEL, 40, NOW_MS)


def test_facts_that_cannot_follow_each_other_are_corruption() -> None:
    """A log is no place to find that somebody has promised less than before."""
    events = every_event()
    with pytest.raises(CorruptionError, match="begins with VoucherPaid"):
        create(events[1])
    purse = create(events[0])
    with pytest.raises(CorruptionError, match="opened a second time"):
        evolve(purse, events[0])
    for event in events[1:]:
        purse = evolve(purse, event)
    with pytest.raises(CorruptionError, match="a voucher for 30 after 32"):
        evolve(purse, events[1])
    with pytest.raises(CorruptionError, match="a voucher for 30 after 0, of 29"):
        evolve(create(PurseOpened(CHANNEL, b"", b"", b"", amount_bytes(29), 0)), events[1])


def test_go_nitros_story_of_its_voucher_manager() -> None:
    """The vector of that name tells it in words: paid, taken, known, older, and what is an error."""
    channel = ChannelId(b"\x01".ljust(32, b"\0"))
    payer, payee = payer_book(channel, 1000), payee_book(channel, 1000)

    def state(book: PaymentBook) -> tuple[int, int]:
        return book.purse(channel).remaining, book.purse(channel).paid

    first = paid(payer, 20, channel=channel)
    assert state(payer) == (980, 20)
    assert payee.take(first, NOW_MS)[1] == 20
    assert payee.take(first, NOW_MS) == (None, 0)
    second = paid(payer, 20, channel=channel)
    assert (second.amount, state(payer)) == (40, (960, 40))
    assert payee.take(second, NOW_MS)[1] == 20
    assert payee.take(first, NOW_MS) == (None, 0)
    assert state(payee) == (960, 40)
    with pytest.raises(VoucherRefused, match="insufficient funds: 2000 of 1000"):
        payee.take(sign_voucher(channel, 2000, PAYER), NOW_MS)
    with pytest.raises(LocalError, match="no payment channel"):
        payee.take(sign_voucher(OTHER, 60, PAYER), NOW_MS)
    with pytest.raises(VoucherRefused, match="wrong signer"):
        payee.take(sign_voucher(channel, 60, PAYEE), NOW_MS)
    with pytest.raises(LocalError, match="other terms"):
        payee.open(terms(channel, 2000), NOW_MS)


def test_go_nitros_json_of_a_voucher() -> None:
    """It leaves and comes back as go-nitro writes it."""
    voucher = paid(payer_book(start=2**255), 2**200)
    text = nitro_json.write_voucher(voucher)
    assert nitro_json.read_voucher(text) == voucher
    assert f'"Amount":{2**200},' in text


@given(st.lists(st.integers(1, 12), min_size=1, max_size=8), st.integers())
def test_any_order_and_any_repetition_end_with_the_largest(amounts: list[int], seed: int) -> None:
    """What the payee has is the largest voucher that arrived, and what was added adds up to it."""
    payer, vouchers = payer_book(), []
    for amount in amounts:
        vouchers.append(paid(payer, amount))
    arriving = vouchers * 2
    random.Random(seed).shuffle(arriving)
    arriving = arriving[: len(arriving) * 2 // 3 or 1]
    payee = payee_book()
    gained = sum(payee.take(voucher, NOW_MS)[1] for voucher in arriving)
    assert payee.purse(CHANNEL).paid == gained == max(voucher.amount for voucher in arriving)


@given(st.lists(st.lists(st.integers(-2, 60), min_size=1, max_size=4), max_size=6))
def test_what_is_decided_is_what_its_facts_say(batches: list[list[int]]) -> None:
    """The book and the fold of its events never differ, and never promise more than there is."""
    book, events = PaymentBook(PAYER), list[PurseEvent]()
    (opened,) = book.open(terms(), NOW_MS)
    folded = create(opened)
    for amounts in batches:
        event, outcomes = book.pay(CHANNEL, amounts, NOW_MS)
        totals = [outcome for outcome in outcomes if isinstance(outcome, int)]
        assert totals == sorted(set(totals))
        if event is not None:
            events.append(event)
            folded = evolve(folded, event)
    assert folded == book.purse(CHANNEL)
    assert folded.paid <= folded.start
    assert PAYEE.address == folded.payee
