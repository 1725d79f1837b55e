"""Disputes of ledgers and virtual channels on the compiled contracts, over the coin and over a token.

The stories are those of `tests/unit/test_virtual_disputes.py`, which tells them on the model.
"""

from __future__ import annotations

import pytest

from scapp.channels.types import ZERO_ADDRESS
from tests.chain.evm_backend import EvmBackend
from tests.support import dispute_stories as stories
from tests.support.dispute_net import DisputeNet

MAIN = (
    stories.the_payee_redeems_against_silent_others,
    stories.an_intermediary_stands_between_two_enemies,
    stories.an_older_state_of_a_payment_channel_is_answered,
    stories.an_app_channel_is_enforced_through_its_hub,
    stories.a_stranger_is_faster,
    stories.guarantees_cannot_be_transferred,
    stories.a_final_state_is_concluded,
)


def tell(story, asset: str) -> None:
    chain = EvmBackend()

    def make() -> DisputeNet:
        net = DisputeNet(3, leads=(True, False), assets=[ZERO_ADDRESS if asset == "coin" else chain.token])
        net.fund(chain)
        return net

    story(make)


@pytest.mark.parametrize("asset", ["coin", "token"])
@pytest.mark.parametrize("story", MAIN, ids=lambda story: story.__name__)
def test_on_the_contracts(story, asset: str) -> None:
    """Those in which a mistake would cost most."""
    tell(story, asset)


@pytest.mark.slow
@pytest.mark.parametrize("asset", ["coin", "token"])
@pytest.mark.parametrize("story", [each for each in stories.STORIES if each not in MAIN], ids=lambda s: s.__name__)
def test_the_others_on_the_contracts(story, asset: str) -> None:
    tell(story, asset)


def test_coin_and_token_in_one_channel() -> None:
    """A ledger of two assets, and an app channel that moves both."""
    chain = EvmBackend()

    def make() -> DisputeNet:
        net = DisputeNet(3, leads=(True, False), assets=[ZERO_ADDRESS, chain.token])
        net.fund(chain)
        return net

    stories.an_app_channel_is_enforced_through_its_hub(make)
