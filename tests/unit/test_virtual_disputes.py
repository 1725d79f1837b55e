"""Disputes of ledgers and virtual channels on the model of the chain, over the coin and over a token."""

from __future__ import annotations

import pytest

from scapp.channels.types import ZERO_ADDRESS, Address
from tests.support.dispute_net import DisputeNet, model_net
from tests.support.dispute_stories import STORIES
from tests.support.plain_chain import TOKEN


@pytest.mark.parametrize(("leads", "asset"), [((True, True), ZERO_ADDRESS), ((False, False), TOKEN)], ids=str)
@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_on_the_model(story, leads: tuple[bool, bool], asset: Address) -> None:
    """Irene follows in one ledger and leads in the other, or the other way round."""

    def make() -> DisputeNet:
        return model_net(3, leads=leads, assets=[asset])

    story(make)
