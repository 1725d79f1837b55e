"""Seeded lives of channels that are resized again and again, with faults of network, disk and chain: money is neither
made nor lost, and everybody gets what the last states say. `SCAPP_RESIZE_LIVES` is how many."""

from __future__ import annotations

import contextlib
import os
import random

import pytest

from scapp.channels.entries import Kind
from scapp.channels.errors import LocalError
from scapp.channels.types import ZERO_ADDRESS, ChannelId
from tests.support.checkers import Watch, check_log
from tests.support.plain_chain import CONFIRMATIONS
from tests.support.sim import SimNode
from tests.support.sim_chain import running

BROUGHT = 20
KINDS = ("say", "say", "block", "block", "block", "tick", "resize", "resize", "crash", "reorg", "odd")
LIVES = int(os.environ.get("SCAPP_RESIZE_LIVES", "5"))


class Life:
    """`channels` are the first one and its successors, in their order, those that were given up included."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.sim, channel = running([(BROUGHT,)] * self.random.choice([2, 2, 3]))
        self.sim.random.seed(seed)
        self.channels = [channel]
        self.left = False  # somebody left by a challenge: which state counts is then the chain's to say
        Watch(self.sim)
        sim, draw = self.sim, self.random
        sim.loss, sim.duplicate, sim.reorder = draw.choice([0, 0.1, 0.3]), draw.choice([0, 0.2]), draw.choice([0, 0.5])

    def play(self, steps: int) -> None:
        for _ in range(steps):
            node = self.random.choice(self.sim.nodes)
            self._act(node)
            for _ in range(self.random.randrange(12)):
                self.sim.step()

    def _act(self, node: SimNode) -> None:
        sim, draw = self.sim, self.random
        match draw.choice(
            ["say", "say", "block", "block", "block", "tick", "resize", "resize", "crash", "reorg", "odd"]
        ):
            case "say" if node.up and (channel := self._newest(node)):
                with contextlib.suppress(LocalError):
                    node.submit(channel, b"move:%d:%d:%d" % (*draw.sample(range(len(sim.nodes)), 2), draw.randrange(4)))
            case "block":
                sim.block()
            case "tick":
                sim.tick(draw.choice([500, 2_000, 31_000]))
            case "resize" if sim.nodes[0].up and (channel := self._newest(sim.nodes[0])):
                who = draw.randrange(len(sim.nodes))
                with contextlib.suppress(LocalError):
                    self.channels.append(sim.resize(channel, {who: {ZERO_ADDRESS: draw.randrange(1, 4)}}))
            case "crash" if node.up:
                if draw.random() < 0.5:
                    node.crash_in = draw.randrange(1, 4)
                else:
                    node.crash()
            case "crash":
                node.start()
            case "reorg":
                sim.chain.reorganise(draw.randrange(1, CONFIRMATIONS + 1), drop=draw.random() < 0.5)
                sim.show()
            case "odd" if node.up and (channel := self._newest(node)):
                self._odd(node, channel)

    def _odd(self, node: SimNode, channel: bytes) -> None:
        """What owners seldom do."""
        with contextlib.suppress(LocalError):
            match self.random.choice(["close", "reject", "reject", "leave", "willing"]):
                case "close":
                    node.submit(channel, b"", kind=Kind.CLOSE)
                case "reject":
                    node.input(self.channels[-1], lambda engine, _: engine.reject("not now"))
                case "leave" if self.random.random() < 0.2:
                    node.input(channel, lambda engine, _: engine.leave("its owner says so"))
                    self.left = True
                case "willing":
                    node.accept = not node.accept

    def _newest(self, node: SimNode) -> bytes | None:
        """The newest channel that runs at a node."""
        here = [each for each in self.channels if each in node.drivers]
        return next((each for each in reversed(here) if node.engine(each).phase == "running"), None)

    def finish(self) -> None:
        """All faults end, and every channel is closed or left."""
        sim = self.sim
        for node in sim.nodes:
            node.accept = True
        sim.settle(rounds=4)
        for node in sim.nodes:
            for channel in self.channels:
                if channel in node.drivers and node.engine(channel).phase == "proposed":
                    node.input(channel, lambda engine, _: engine.accept())
        for at in range(160):
            sim.block()
            if not self._held():
                break
            if at % 20 == 19:
                sim.settle(rounds=1)
                self._end(at)
        sim.blocks(CONFIRMATIONS + 1)
        assert not self._held(), [sim.phases(channel) for channel in self.channels]

    def _end(self, at: int) -> None:
        for node in self.sim.nodes:
            for channel in self.channels:
                phase = node.engine(channel).phase if channel in node.drivers else ""
                with contextlib.suppress(LocalError):
                    if phase == "running" and node.index == 0:
                        node.submit(channel, b"", kind=Kind.CLOSE)
                    elif phase in ("funding", "closing", "running") and at > 60:
                        node.input(channel, lambda engine, _: engine.leave("it stands still"))
                        self.left = True

    def _held(self) -> int:
        return sum(self.sim.chain.world.held(ZERO_ADDRESS, ChannelId(each)) for each in self.channels)

    def expected(self) -> list[int]:
        """What everybody is paid, by the states that all have signed: each channel's last, less what it passes on."""
        total = [0] * len(self.sim.nodes)
        for number, channel in enumerate(self.channels):
            known = [n.engine(channel).state for n in self.sim.nodes if channel in n.drivers]
            heads = [state for state in known if state.head is not None and state.rejected is None]
            if not heads or not (number == 0 or self._funded(channel)):
                continue
            newest = max(heads, key=lambda state: state.turn)
            assert newest.head is not None
            redirect = newest.setup.redirect(newest.head.amounts)
            moved = redirect.moved if redirect is not None else (0,) * len(total)
            paid = zip(newest.setup.unpack(newest.head.amounts), moved, strict=True)
            total = [had + amount - gone for had, (amount, gone) in zip(total, paid, strict=True)]
        return total

    def _funded(self, channel: bytes) -> bool:
        """Has another channel moved money to it?"""
        for before in self.channels:
            for node in self.sim.nodes:
                head = node.engine(before).state.head if before in node.drivers else None
                redirect = node.engine(before).state.setup.redirect(head.amounts) if head is not None else None
                if redirect is not None and redirect.successor == channel:
                    return True
        return False


@pytest.mark.parametrize("seed", range(LIVES))
def test_nobody_loses_whatever_happens(seed: int) -> None:
    """All that was put up is paid out, to whom the last states say, and every log keeps the rules."""
    life = Life(seed)
    life.play(60)
    life.finish()
    gains = [life.sim.paid(node)[0] for node in life.sim.nodes]
    assert sum(gains) == 0, "money is neither made nor lost"
    for channel in life.channels:
        for node in life.sim.nodes:
            check_log(node.log, channel)
            assert not (channel in node.drivers and node.engine(channel).session.failure)
    assert [gain + BROUGHT for gain in gains] == life.expected()
