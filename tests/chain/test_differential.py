"""Random calls on the project's contracts and on the published ones: equal but for the listed differences."""

from __future__ import annotations

import collections
import dataclasses
import os

import pytest

from scapp.channels.chain import contracts
from tests.chain.differential import MUTATED, Story

STORIES = int(os.environ.get("SCAPP_CHAIN_STORIES", "10"))
FIRST = int(os.environ.get("SCAPP_CHAIN_FIRST", "0"))
STEPS = 150
DIFFERENCES = (
    "stray coin", "guarantee slip", "payment of zero", "asset twice", "vouchers over tokens", "destination changed",
    "only two allocations allowed", "only simple allocations allowed", "payee's initial balance", "virtual channel",
    MUTATED,
)  # fmt: skip
REACHED = (
    "deposit: ok", "deposit: held != expectedHeld", "challenge: ok", "challenge: !unanimous", "checkpoint: ok",
    "challenge: turnNumRecord not increased.", "challenge: turnNumRecord decreased.", "challenge: Channel finalized.",
    "challenge: Challenger is not a participant", "challenge: Invalid signature", "conclude: ok",
    "challenge: redemption not signed by Bob", "concludeAndTransferAllAssets: ok", "reclaim: ok",
    "reclaim: totalReclaimed!=guarantee.amount", "transfer: ok", "transfer: incorrect fingerprint",
    "transfer: Indices must be sorted", "transferAllAssets: ok", "transferAllAssets: cannot transfer a guarantee",
    "stateIsSupported: ok", "compute_transfer_effects_and_interactions: ok",
)  # fmt: skip


def tell(name, steps, load=contracts.load):
    """Play one story; what it reached. A failure names the story."""
    story = Story(name, load)
    for step in range(steps):
        try:
            story.step()
        except AssertionError as error:
            raise AssertionError(f"story {name!r}, step {step}: {error}") from error
    return story.done


@pytest.mark.parametrize("number", range(4))
def test_random_calls_have_equal_effects(seed, number):
    """A sample; the long run is `test_many_random_calls_have_equal_effects`."""
    assert tell(f"{seed}/{number}", 50)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_many_random_calls_have_equal_effects():
    """And everything that should happen at times does: each operation, the common refusals, each listed difference."""
    done: collections.Counter[str] = collections.Counter()
    for number in range(FIRST, FIRST + STORIES):
        done += tell(f"story {number}", STEPS)
    if STORIES >= 30:
        expected = [*REACHED, *(f"difference: {name}" for name in DIFFERENCES)]
        assert [name for name in expected if not done[name]] == []


def test_a_planted_bug_is_found(seed):
    """One letter of a revert reason is changed in our adjudicator."""

    def broken(name):
        contract = contracts.load(name)
        bytecode = contract.bytecode.replace(b"Channel finalized.", b"Channel finalised.")
        assert name != "NitroAdjudicator" or bytecode != contract.bytecode
        return dataclasses.replace(contract, bytecode=bytecode)

    with pytest.raises(AssertionError, match=r"(?s)story .*Channel finalised\."):
        tell(seed, 1000, broken)
