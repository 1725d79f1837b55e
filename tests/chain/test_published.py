"""The vectors on the published contracts: the EVM of these tests, and what is taken for published, are right."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.chain import published
from tests.chain.replay import Replay

GOLDEN = Path(__file__).parents[1] / "golden" / "nitro-vectors.json"


@pytest.fixture(scope="module")
def onchain():
    return json.loads(GOLDEN.read_bytes())["onchain"]


def test_the_published_contracts_do_what_the_vectors_say_to_the_unit_of_gas(onchain):
    """Every step of every scenario: success or reason, events, gas; and the facts beside the steps."""
    replay = Replay(onchain, published.load)
    for scenario in onchain["scenarios"]:
        replay.scenario(scenario)
    assert len(replay.gas) == sum("calldata" in step for s in onchain["scenarios"] for step in s["steps"])
    assert [(name, here, there) for name, here, there in replay.gas if here != there] == []


def test_their_deployment_costs_what_the_vectors_say(onchain):
    """The two that come as source included: they are compiled as their authors did."""
    replay = Replay(onchain, published.load)
    for name, figures in onchain["deploy"].items():
        if name != "deployer":
            assert replay.world.gas[name] == figures["gas"], name
