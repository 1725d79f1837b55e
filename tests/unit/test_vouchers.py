"""Vouchers: what pays, what is refused, and that losing, repeating or reordering them changes nothing."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scapp.channels.errors import LocalError
from scapp.channels.payments.vouchers import Purse, Voucher, VoucherRefused, pay, receive, redemption_app_data
from scapp.channels.signing import Signer, Verifier
from scapp.channels.types import ChannelId

PAYER, PAYEE, STRANGER = (Signer(bytes((number,)) * 32) for number in (1, 2, 3))
CHANNEL = ChannelId(b"\xc4" * 32)
PURSE = Purse(CHANNEL, PAYER.address, PAYEE.address, start=100)
BY_PAYER = Verifier(PAYER.address)


def refused(voucher: Voucher, says: str, purse: Purse = PURSE) -> None:
    with pytest.raises(VoucherRefused, match=says):
        receive(purse, voucher, PAYEE.address, BY_PAYER)


def test_what_is_paid_adds_up() -> None:
    purse, first = pay(PURSE, 30, PAYER)
    purse, second = pay(purse, 70, PAYER)
    assert (first.amount, second.amount, purse.remaining) == (30, 100, 0)
    kept, delta = receive(PURSE, first, PAYEE.address, BY_PAYER)
    assert (kept.paid, delta) == (30, 30)
    kept, delta = receive(kept, second, PAYEE.address, BY_PAYER)
    assert (kept.paid, delta) == (100, 70)
    assert len(redemption_app_data(second)) == 128


@pytest.mark.parametrize(
    ("amount", "says"), [(0, "at least 1"), (-5, "at least 1"), (101, "insufficient funds: 100 of 100 remain")]
)
def test_what_cannot_be_paid(amount: int, says: str) -> None:
    """Nothing, less than nothing, more than there is."""
    with pytest.raises(LocalError, match=says):
        pay(PURSE, amount, PAYER)


def test_only_the_payer_pays_and_within_the_limit() -> None:
    with pytest.raises(LocalError, match="only the payer"):
        pay(PURSE, 1, PAYEE)
    with pytest.raises(LocalError, match="limit of 10"):
        pay(PURSE, 11, PAYER, limit=10)


def test_what_is_refused() -> None:
    """A stranger's, another channel's, more than there is, one that somebody else should get."""
    voucher = pay(PURSE, 30, PAYER)[1]
    forged = msgspec.structs.replace(voucher, amount=31)
    refused(forged, "wrong signer")
    refused(msgspec.structs.replace(voucher, signature=b""), "wrong signer")
    refused(msgspec.structs.replace(voucher, channel=ChannelId(bytes(32))), "of channel")
    refused(msgspec.structs.replace(voucher, amount=101), "insufficient funds: 101 of 100")
    refused(pay(msgspec.structs.replace(PURSE, payer=STRANGER.address), 5, STRANGER)[1], "wrong signer")
    with pytest.raises(VoucherRefused, match="payee's"):
        receive(PURSE, voucher, STRANGER.address, BY_PAYER)


@given(st.lists(st.integers(1, 12), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_any_order_and_any_repetition_end_with_the_largest(amounts: list[int], random: object) -> None:
    """What the payee has is the largest voucher that arrived, and the deltas add up to it."""
    purse, vouchers = PURSE, []
    for amount in amounts:
        purse, voucher = pay(purse, amount, PAYER)
        vouchers.append(voucher)
    arriving = vouchers * 2
    random.shuffle(arriving)  # type: ignore[attr-defined]
    arriving = arriving[: len(arriving) * 2 // 3 or 1]
    kept, gained = PURSE, 0
    for voucher in arriving:
        kept, delta = receive(kept, voucher, PAYEE.address, BY_PAYER)
        gained += delta
    assert kept.paid == gained == max(voucher.amount for voucher in arriving)
