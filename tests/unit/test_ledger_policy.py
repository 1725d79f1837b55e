"""What a hub forwards, for which fee, and what it announces of that: one set of schedules, from the settings."""

from __future__ import annotations

import msgspec
import pytest

from scapp.channels.routing.fees import Schedule
from scapp.channels.types import ZERO_ADDRESS, Address, ChannelId
from scapp.channels.virtual.opening import HubRequest
from scapp.runtime.config import ConfigError, DisputeSettings, FundingSettings
from scapp.runtime.ledger_policy import LedgerPolicy
from scapp.runtime.ledger_settings import HubSettings, LedgerSettings, PaymentSettings

TOKEN = Address(b"\x70" * 20)
TOKEN_TEXT = "0x" + TOKEN.hex()
HUB = HubSettings(
    forward=True,
    announce=True,
    fee_base={"coin": "5"},
    fee_ppm=10_000,
    amount_min={"coin": "10"},
    amount_max={"coin": "1000", TOKEN_TEXT: "7"},
)


def policy(hub: HubSettings) -> LedgerPolicy:
    disputes = DisputeSettings(challenge_duration_min_s=60, challenge_duration_max_s=9_000)
    others = {"funding": FundingSettings(), "disputes": disputes, "peers": (), "own_accounts": ()}
    return LedgerPolicy(LedgerSettings(), PaymentSettings(), hub, **others)  # type: ignore[arg-type]


def request(*amounts: tuple[Address, int, int], fee: int = 0) -> HubRequest:
    """What somebody asks of the hub in the middle."""
    who = Address(b"\x01" * 20)
    return HubRequest(
        channel=ChannelId(bytes(32)), kind="app", role="hub", proposer=who, last=who, left=who, right=who,
        hubs=1, amounts=amounts, locks=(), fee=fee, fee_asset=amounts[0][0], challenge_duration_s=600, opened_ms=0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (request((ZERO_ADDRESS, 60, 41), fee=7), ""),  # 5, and 1.01 rounded up
        (request((ZERO_ADDRESS, 60, 41), fee=6), "a fee of 6; this hub asks 7 wei"),
        (request((ZERO_ADDRESS, 9, 0), fee=9), "9 wei; this hub forwards 10 to 1000"),
        (request((ZERO_ADDRESS, 999, 2), fee=99), "1001 wei; this hub forwards 10 to 1000"),
        (request((TOKEN, 7, 0), fee=1), ""),
        (request((TOKEN, 8, 0), fee=9), f"8 of token {TOKEN_TEXT}; this hub forwards 0 to 7"),
        (request((Address(b"\x99" * 20), 1, 0), fee=9), "this hub forwards 0 to 0"),
        (request((ZERO_ADDRESS, 10, 0), (TOKEN, 7, 0), fee=99), "only if all but the first cost nothing"),
    ],
)
def test_a_hub_forwards_what_its_schedules_say(asked: HubRequest, says: str) -> None:
    decision, reason = policy(HUB).virtual(asked, 0)
    assert (decision == "accept") == (says == "")
    assert says in reason


def test_what_a_hub_announces_is_what_it_asks() -> None:
    terms = policy(HUB).hub_terms()
    assert terms.announce
    assert terms.schedules == (Schedule(ZERO_ADDRESS, 5, 10_000, 10, 1_000), Schedule(TOKEN, 0, 10_000, 0, 7))
    assert (terms.duration_min_s, terms.duration_max_s) == (60, 9_000)
    short = msgspec.structs.replace(HUB, challenge_duration_max_s=700)
    assert policy(short).hub_terms().duration_max_s == 700


def test_a_node_that_forwards_nothing_announces_no_schedule() -> None:
    """It is only to be reached; how long a hub's money is bound does not matter to it."""
    terms = policy(msgspec.structs.replace(HUB, forward=False, challenge_duration_max_s=700)).hub_terms()
    assert (terms.schedules, terms.duration_max_s) == ((), 9_000)


def test_more_assets_than_an_announcement_holds_are_a_wrong_setting() -> None:
    many = {"0x" + bytes([n]).hex() * 20: "1" for n in range(1, 18)}
    with pytest.raises(ConfigError, match="names 17 assets; allowed are 16"):
        policy(msgspec.structs.replace(HUB, amount_max=many))
