"""Random networks, every fault drawn from a printed seed: safe at every step, and alive again once healed.

The safety rules of docs/reference/app-channel.md section 4 that this checks: 1 and 2 (`SimNode.note_signed` sees all
that was ever durably signed, restarts included), 4, 6 and 11, and that what was submitted is decided once.
"""

from __future__ import annotations

import os
import random

import pytest
from scapp.channels.entries import Kind, decode_entry
from scapp.channels.errors import LocalError

from tests.support.fakes import SumAdmission
from tests.support.sim import Sim, SimNode

SEEDS = int(os.environ.get("SCAPP_SIM_SEEDS", "120"))
FIRST = int(os.environ.get("SCAPP_SIM_FIRST", "0"))


def play(seed: int, seen: set[str]) -> None:
    """One network's life."""
    draw = random.Random(seed)
    count = draw.choice([2, 2, 3, 4])
    picky = draw.random() < 0.4
    made = iter(range(100))

    def admission() -> SumAdmission:
        return SumAdmission(refuse=b"odd") if picky and next(made) % count == 1 else SumAdmission()

    sim = Sim(
        count,
        seed=seed,
        loss=draw.choice([0, 0, 0.05, 0.3]),
        duplicate=draw.choice([0, 0.1, 0.3]),
        reorder=draw.choice([0, 0.2, 1.0]),
        make_admission=admission,
    )
    if picky:
        for node in sim.nodes:
            node.make_admission = SumAdmission
        sim.nodes[1].make_admission = lambda: SumAdmission(refuse=b"odd")
        for node in sim.nodes:
            node.admission = node.make_admission()
    if draw.random() < 0.1:
        sim.nodes[-1].clock_offset_ms = draw.choice([-50_000, 50_000])
    channel = sim.nodes[0].open(sim.nodes[1:], slots=(7, 3) if draw.random() < 0.5 else ())
    submitted: dict[tuple[int, int], bytes] = {}
    closing = draw.random() < 0.3
    for turn in range(draw.randrange(20, 120)):
        act(sim, draw, draw.choice(sim.nodes), channel, turn, submitted)
        sim.check(channel)
    if closing:
        closer = draw.choice([n for n in sim.nodes if n.up] or [sim.nodes[0]])
        if closer.up and channel in closer.drivers and closer.engine(channel).phase == "running":
            closer.submit(channel, b"", kind=Kind.CLOSE)
    sim.settle()
    sim.check(channel)
    verdict(sim, channel, submitted, seen)


def act(
    sim: Sim, draw: random.Random, node: SimNode, channel: bytes, turn: int, submitted: dict[tuple[int, int], bytes]
) -> None:
    """One random thing happens."""
    what = draw.random()
    if what < 0.45:
        for _ in range(draw.randrange(1, 6)):
            sim.step()
    elif what < 0.75:
        if node.up and channel in node.drivers:
            payload = draw.choice([b"good", b"bad", b"odd", b"move:0:1:1"]) + b"" if turn % 3 else b"move:1:0:2"
            payload = payload if payload.startswith(b"move") else payload + b" %d" % turn
            try:
                for counter in node.submit(channel, *[payload] * draw.choice([1, 1, 3])):
                    submitted[(node.index, counter)] = payload
            except LocalError:
                pass
    elif what < 0.85:
        sim.tick(draw.choice([100, 2_000, 40_000]))
    elif what < 0.92:
        node.crash_in = draw.randrange(1, 4)
    elif node.up:
        node.crash()
    else:
        node.start()


def verdict(sim: Sim, channel: bytes, submitted: dict[tuple[int, int], bytes], seen: set[str]) -> None:
    """After healing: everybody agrees, nothing is undecided, every entry is what its author said, once."""
    present = [n for n in sim.nodes if channel in n.drivers]
    if len(present) < len(sim.nodes) or any(n.engine(channel).state.head is None for n in present):
        # Only a channel that its opener lost before anything was stored may be missing.
        assert channel not in sim.nodes[0].drivers, [n.engine(channel).waiting_for for n in present]
        seen.add("lost before the first write")
        return
    states = [n.engine(channel).state for n in sim.nodes]
    assert len({s.head.log_root for s in states}) == 1, [n.engine(channel).waiting_for for n in sim.nodes]
    assert len({s.head.turn for s in states}) == 1
    assert all(not s.outstanding and not s.candidates for s in states), [
        n.engine(channel).waiting_for for n in sim.nodes
    ]
    log = [decode_entry(e) for e in sim.nodes[0].supported(channel)[1:]]
    keys = [(e.author, e.counter) for e in log if e.kind == Kind.MESSAGE]
    assert len(set(keys)) == len(keys)
    for entry in log:
        if entry.kind == Kind.MESSAGE and entry.author != 0:
            assert submitted[(entry.author, entry.counter)] == entry.payload
    if any(s.head.is_final for s in states):
        seen.add("closed")
    if any(n.refused for n in sim.nodes):
        seen.add("something was refused")
    if any(t.kind == "refused" for n in sim.nodes for t in n.told):
        seen.add("a proposal was refused")
    if any("replaced" in t.detail for n in sim.nodes for t in n.told):
        seen.add("a replaced proposal was completed")


def test_random_networks_stay_safe_and_recover() -> None:
    seen: set[str] = set()
    for seed in range(FIRST, FIRST + SEEDS):
        try:
            play(seed, seen)
        except BaseException:
            print(f"seed {seed}: SCAPP_SIM_FIRST={seed} SCAPP_SIM_SEEDS=1 pytest tests/simulation/test_seeds.py")
            raise
    if SEEDS >= 100:
        assert {"closed", "something was refused", "a proposal was refused"} <= seen


@pytest.mark.parametrize("seed", range(3))
def test_the_same_seed_plays_the_same_life(seed: int) -> None:
    """A failing seed can be replayed exactly."""
    lives = []
    for _ in range(2):
        sim = Sim(3, seed=seed, loss=0.1, duplicate=0.1, reorder=0.5)
        channel = sim.nodes[0].open(sim.nodes[1:])
        for i in range(30):
            sim.nodes[i % 3].submit(channel, b"m%d" % i) if channel in sim.nodes[i % 3].drivers and sim.nodes[
                i % 3
            ].engine(channel).phase == "running" else None
            sim.step()
            sim.tick(500)
        sim.settle()
        lives.append([n.supported(channel) for n in sim.nodes])
    assert lives[0] == lives[1]
