"""Safety rules 1, 2, 6, 7 and 8 with a crash at every store of scripted lives, before and after the write.

`tests/simulation/killed.py` does the same to a real process on a real disk.
"""

from __future__ import annotations

import random

import pytest

from scapp.channels.driver import Store
from scapp.channels.entries import Kind, decode_entry
from scapp.channels.errors import LocalError
from tests.simulation.scripted import Script
from tests.support.checkers import Watch, check_log
from tests.support.sim import Crash, Sim, SimNode

COUNTS = (2, 3)


class Fuse:
    """Counts a node's stores and cuts its power at one of them."""

    def __init__(self, node: SimNode, at: int, *, after: bool) -> None:
        self.node, self.left, self.after = node, at, after
        self.blown = False
        self.stores = 0
        self._store = node._store
        node._store = self._cut  # type: ignore[method-assign]

    def _cut(self, driver: object, store: Store) -> None:
        self.stores += 1
        self.left -= 1
        if self.left == 0:
            self.blown = True
            if self.after:
                self._store(driver, store)  # type: ignore[arg-type]
            raise Crash
        self._store(driver, store)  # type: ignore[arg-type]


def life(count: int, victim: int, at: int, *, after: bool) -> Fuse:
    """Open, say, refuse, replace, close; the victim crashes once and comes back when nothing else moves."""
    sim = Sim(count, seed=at)
    Watch(sim)
    fuse = Fuse(sim.nodes[victim], at, after=after)
    channel = sim.nodes[0].open(sim.nodes[1:], slots=(10, 5))
    wake(sim)
    submitted: dict[tuple[int, int], bytes] = {}
    for round_ in range(3):
        for node in sim.nodes:
            for payload in (b"n%d" % round_, b"bad", b"move:0:1:1"):
                say(node, channel, payload, submitted)
        wake(sim)
    say(sim.nodes[0], channel, b"", {}, Kind.CLOSE)
    wake(sim)
    sim.settle(rounds=4)
    verify(sim, channel, submitted, closed=not fuse.blown)
    return fuse


def say(
    node: SimNode, channel: bytes, payload: bytes, submitted: dict[tuple[int, int], bytes], kind: Kind = Kind.MESSAGE
) -> None:
    if node.up and channel in node.drivers:
        try:
            for counter in node.submit(channel, payload, kind=kind):
                submitted[(node.index, counter)] = payload
        except LocalError:
            pass


def wake(sim: Sim) -> None:
    """Deliver, and start again whoever is down."""
    for _ in range(3):
        sim.run()
        for node in sim.nodes:
            if not node.up:
                node.start()
        sim.tick(2_000)
    sim.run()


def verify(sim: Sim, channel: bytes, submitted: dict[tuple[int, int], bytes], *, closed: bool) -> None:
    if channel not in sim.nodes[0].drivers:
        assert all(channel not in n.drivers for n in sim.nodes)  # lost before its first store: nobody heard of it
        return
    checks = [check_log(node.log, channel) for node in sim.nodes]
    logs = [c.log for c in checks if c is not None]
    assert len(logs) == len(sim.nodes)
    assert all(log == logs[0] for log in logs)
    phases = {n.engine(channel).phase for n in sim.nodes}
    assert len(phases) == 1
    assert not closed or phases == {"closed"}
    for node in sim.nodes:
        assert node.engine(channel).state.outstanding == ()
        assert node.engine(channel).state.candidates == ()
    for data in logs[0]:
        entry = decode_entry(data)
        if entry.kind == Kind.MESSAGE and entry.author != 0:
            assert submitted[(entry.author, entry.counter)] == entry.payload
    said = {(c.me, counter) for c in checks if c for counter in c.submitted}
    decided = {(e.author, e.counter) for e in map(decode_entry, logs[0])} | {k for c in checks if c for k in c.refused}
    assert said <= decided, "a recorded submission was never decided"


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("after", [False, True], ids=["before the write", "after the write"])
def test_rules_1_2_6_7_hold_with_a_crash_at_every_store(count: int, after: bool) -> None:
    """Exhaustive: each node, each store. The checkers see every message that leaves and every log."""
    for victim in range(count):
        at = 1
        while life(count, victim, at, after=after).blown:
            at += 1
        assert at > 10, "the script stores too little to mean anything"


def test_a_whole_life_without_a_crash() -> None:
    """Open, fund, 100 messages, a challenge answered, close, payout: what the next test cuts the power of."""
    script = Script()
    script.play()
    script.finish()
    script.verify(whole=True)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("after", [False, True], ids=["before the write", "after the write"])
def test_a_crash_at_every_store_of_a_whole_life(victim: int, after: bool) -> None:
    """Exhaustive, over the simulated chain: everybody ends settled, with equal logs and its money."""
    at = 1
    while True:
        script = Script()
        fuse = Fuse(script.sim.nodes[victim], at, after=after)
        script.play()
        script.finish()
        script.verify(whole=not fuse.blown)
        if not fuse.blown:
            break
        at += 1
    assert at > 40, "the script stores too little to mean anything"  # the sequencer stores 47 times, the other 45


@pytest.mark.parametrize("seed", range(8))
def test_rules_hold_when_everybody_crashes_again_and_again(seed: int) -> None:
    """A crash every few stores, of anybody, until the end."""
    draw = random.Random(seed)
    sim = Sim(3, seed=seed)
    Watch(sim)
    channel = sim.nodes[0].open(sim.nodes[1:])
    wake(sim)
    submitted: dict[tuple[int, int], bytes] = {}
    for round_ in range(12):
        for node in sim.nodes:
            if node.up and draw.random() < 0.5:
                node.crash_in = draw.randrange(1, 6)
            say(node, channel, b"%d" % round_, submitted)
        wake(sim)
        for node in sim.nodes:
            check_log(node.log, channel)
    sim.settle(rounds=4)
    verify(sim, channel, submitted, closed=False)


def test_a_message_that_left_unsynced_facts_behind_tells_nothing_signed() -> None:
    """What is stored without a sync (others' signatures) is lost in a power cut, and comes back from the others."""
    sim = Sim(3)
    Watch(sim)
    alice, bob, carol = sim.nodes
    channel = alice.open([bob, carol])
    sim.run()
    carol_says = []
    sim.tap = lambda sender, to, data: None if sender == 2 and not carol_says.append(data) else data  # type: ignore[func-returns-value]
    alice.submit(channel, b"one")
    sim.run()
    assert alice.engine(channel).state.candidates[-1].signatures[1]
    alice.crash()
    alice.start()
    assert not alice.engine(channel).state.candidates[-1].signatures[1]
    sim.tap = None
    sim.settle(rounds=3)
    assert [len(n.supported(channel)) for n in sim.nodes] == [2, 2, 2]
    for node in sim.nodes:
        check_log(node.log, channel)
