"""Amounts in what nodes say to people: the smallest unit, and beside it the coin where that is easier to read."""

from __future__ import annotations

import pytest

from scapp.channels.types import ZERO_ADDRESS, Address, coin_text, money
from scapp.runtime.cli.amounts import COIN, amount_text

TOKEN = Address(b"\x70" * 20)


@pytest.mark.parametrize(
    ("wei", "said", "shown"),
    [
        (0, "0 wei", "0 wei"),
        (10**12 - 1, "999999999999 wei", "999999999999 wei"),
        (10**12, "1000000000000 wei (0.000001 eth)", "0.000001 eth"),
        (5 * 10**17, "500000000000000000 wei (0.5 eth)", "0.5 eth"),
        (10**18 + 1, "1000000000000000001 wei (1.000000000000000001 eth)", "1.000000000000000001 eth"),
        (20 * 10**18, "20000000000000000000 wei (20 eth)", "20 eth"),
        (2**256 - 1, f"{2**256 - 1} wei ({(2**256 - 1) // 10**18}.584007913129639935 eth)", None),
    ],
)
def test_coin_is_said_in_both_units_and_shown_in_one(wei: int, said: str, shown: str | None) -> None:
    """An error is for a person and for whoever searches a log for the number."""
    assert money(wei, ZERO_ADDRESS) == said
    assert shown is None or amount_text(str(wei), COIN) == shown == coin_text(wei)


def test_nobody_here_knows_the_decimals_of_a_token() -> None:
    """It is named once in a sentence."""
    assert money(10**18, TOKEN) == f"{10**18} of token 0x{TOKEN.hex()}"
    assert money(10**18, TOKEN, named=True) == str(10**18)
    assert money(10**18, ZERO_ADDRESS, named=True) == "1000000000000000000 (1 eth)"
    assert money(7, named=True) == "7"
