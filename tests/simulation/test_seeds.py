"""Random networks, every fault drawn from a printed seed: safe at every step, and alive again once healed.

The safety rules of docs/reference/app-channel.md section 4 that this checks stand in `tests/support/checkers.py`.
"""

from __future__ import annotations

import os

import pytest

from tests.simulation.life import play
from tests.support.sim import Sim

SEEDS = int(os.environ.get("SCAPP_SIM_SEEDS", "200"))
FIRST = int(os.environ.get("SCAPP_SIM_FIRST", "0"))
SOMETIMES = {
    "closed",
    "something was refused",
    "a proposal was refused",
    "a replaced proposal was completed",
    "a submission was dropped",
    "a dropped submission came back",
    "retimed",
}


def test_random_networks_stay_safe_and_recover() -> None:
    """What happens sometimes must have happened, or the lives show less than they seem to."""
    seen: set[str] = set()
    for seed in range(FIRST, FIRST + SEEDS):
        try:
            seen |= play(seed)
        except BaseException:
            print(f"seed {seed}: python -m tests.simulation.run 1 {seed}")
            raise
    if SEEDS >= 200:
        assert seen >= SOMETIMES


@pytest.mark.parametrize("seed", range(3))
def test_the_same_seed_plays_the_same_life(seed: int) -> None:
    """A failing seed can be replayed exactly."""
    lives = []
    for _ in range(2):
        sim = Sim(3, seed=seed, loss=0.1, duplicate=0.1, reorder=0.5)
        channel = sim.nodes[0].open(sim.nodes[1:])
        for i in range(30):
            node = sim.nodes[i % 3]
            if channel in node.drivers and node.engine(channel).phase == "running":
                node.submit(channel, b"m%d" % i)
            sim.step()
            sim.tick(500)
        sim.settle()
        lives.append([n.supported(channel) for n in sim.nodes])
    assert lives[0] == lives[1]


@pytest.mark.parametrize("seed", [1341, 5110, 10626, 17062])
def test_seeds_that_once_failed(seed: int) -> None:
    """1341: two replaced proposals, both completed later, were proposed again in turns without end.
    The others: two fully signed ones, and the others' logs end with the one that was not being proposed again."""
    play(seed)
