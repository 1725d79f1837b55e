"""What a hub passes on under a lock is worth taking to the chain: it costs a reveal there, however small it is."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from scapp.channels.payments.locked.terms import LockSettings
from scapp.channels.routing.fees import Schedule
from scapp.channels.types import ZERO_ADDRESS, Address
from scapp.runtime.config import ChainSettings, Config, DisputeSettings
from scapp.runtime.ledger_settings import HubSettings
from scapp.runtime.node_parts import warnings
from tests.support.locked import SETTINGS, LockNet
from tests.unit.test_ledger_policy import TOKEN, TOKEN_TEXT, policy

COVERED = replace(SETTINGS, least_percent=100)


@pytest.fixture
async def net() -> AsyncIterator[LockNet]:
    """The hub in the middle wants what it passes on to be worth a reveal."""
    made = LockNet()
    made.nodes[1].settings = COVERED
    await made.start()
    try:
        yield made
    finally:
        await made.end()


@pytest.mark.parametrize(("cost", "percent", "least"), [(31, 100, 31), (301, 10, 31), (4, 1_000, 40)])
async def test_a_payment_that_a_reveal_would_eat_is_refused_before_anything_is_locked(
    net: LockNet, cost: int, percent: int, least: int
) -> None:
    hub = net.nodes[1]
    hub.book.settings = replace(COVERED, least_percent=percent)
    hub.reveal_cost = cost
    fault = await net.pay(await net.invoiced(30))
    assert fault == (f"30 wei under a lock; this hub passes on {least} or more, by what a reveal on chain costs now")
    assert net.nodes[0].lane(net.lanes[0]).voucher is None


async def test_one_that_is_worth_it_is_passed_on_though_gas_gets_dearer_meanwhile(net: LockNet) -> None:
    """Whoever was told yes has its lock passed on, unless the price has doubled: it would stand until its end."""
    hub = net.nodes[1]
    hub.reveal_cost = 30
    invoice = await net.invoiced(30)
    judged = hub.runner._now
    asked = net.nodes[0].runner.asks.ask

    async def then_dearer(*question: object) -> object:
        reply = await asked(*question)  # type: ignore[arg-type]
        hub.reveal_cost = 60
        judged()
        return reply

    net.nodes[0].runner.asks.ask = then_dearer  # type: ignore[method-assign, assignment]
    assert await net.pay(invoice) == ""
    assert net.nodes[2].lane(net.lanes[1]).paid == 30


async def test_a_lock_that_nobody_asked_about_and_is_not_worth_half_is_left_alone(net: LockNet) -> None:
    hub = net.nodes[1]
    invoice = await net.invoiced(30)
    asked = net.nodes[0].runner.asks.ask

    async def then_far_dearer(*question: object) -> object:
        reply = await asked(*question)  # type: ignore[arg-type]
        hub.reveal_cost = 62
        return reply

    net.nodes[0].runner.asks.ask = then_far_dearer  # type: ignore[method-assign, assignment]
    assert await net.pay(invoice) == ""
    transit = hub.transit()
    assert transit is not None
    assert "passes on 31 or more" in transit.fault
    assert hub.lane(net.lanes[1]).voucher is None


def test_a_token_has_no_price_in_gas_so_its_operator_names_one() -> None:
    settings = replace(COVERED, schedules=(Schedule(TOKEN, 0, 0),))
    assert settings.small_fault(TOKEN, 10**30, 1, asked=True) == (
        f"this hub passes nothing of token {TOKEN_TEXT} on under locks: it names no least amount (hub.amount_min)"
    )
    assert replace(settings, least_named=frozenset((TOKEN,))).small_fault(TOKEN, 1, 1, asked=True) == ""
    assert LockSettings().small_fault(TOKEN, 1, 10**18, asked=True) == ""


@pytest.mark.parametrize(
    ("amount_min", "percent", "small", "token"),
    [
        ({}, 100, True, True),  # as it comes
        ({"coin": "0"}, 100, False, True),
        ({"coin": "10", TOKEN_TEXT: "5"}, 100, False, False),
        ({}, 0, False, False),
    ],
)
def test_what_an_operator_names_goes_before_what_a_reveal_costs(
    amount_min: dict[str, str], percent: int, small: bool, token: bool
) -> None:
    hub = HubSettings(
        forward=True,
        amount_min=amount_min,
        amount_max={"coin": "1000", TOKEN_TEXT: "1000"},
        **({} if percent == 100 else {"locked_min_percent": percent}),
    )
    found = policy(hub).lock_settings()
    assert bool(found.small_fault(ZERO_ADDRESS, 9, 10, asked=True)) == small
    assert bool(found.small_fault(Address(TOKEN), 9, 10, asked=True)) == token


def test_a_hub_with_locks_and_a_token_without_a_least_amount_is_told_at_its_start() -> None:
    disputes, chain = DisputeSettings(silence_timeout_s=1), ChainSettings(hash_lock_app=TOKEN_TEXT)
    hub = HubSettings(forward=True, amount_max={"coin": "9", TOKEN_TEXT: "9"})
    (said,) = warnings(Config(chain=chain, hub=hub, disputes=disputes))
    assert f"hub.amount_min does not name {TOKEN_TEXT}" in said
    for quiet in (replace(hub, amount_min={TOKEN_TEXT: "0"}), replace(hub, locked_min_percent=0)):
        assert warnings(Config(chain=chain, hub=quiet, disputes=disputes)) == []


async def test_what_a_hub_does_not_forward_at_all_is_said_in_numbers(net: LockNet) -> None:
    net.nodes[1].book.settings = replace(COVERED, schedules=(Schedule(ZERO_ADDRESS, 1, 0, 31, 50),))
    assert await net.pay(await net.invoiced(30)) == "30 wei under a lock; this hub passes on 31 to 50"
