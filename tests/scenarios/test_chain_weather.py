"""Funded channels in bad weather: everything at once, drawn from a seed; afterwards everybody has what it is owed."""

from __future__ import annotations

import contextlib
import random

import pytest

from scapp.channels.channel.events import Signed
from scapp.channels.channel.terms import ChainTerms
from scapp.channels.driver import advances
from scapp.channels.entries import Kind
from scapp.channels.errors import LocalError
from scapp.channels.outcome import Allocation
from scapp.channels.payouts import transfer_effects
from scapp.channels.types import ZERO_ADDRESS, ChannelId, Destination
from tests.scenarios.test_disputes import Rule8, register, settled
from tests.support.checkers import Watch, check_log
from tests.support.plain_chain import CONFIRMATIONS
from tests.support.sim import SimNode
from tests.support.sim_chain import ChainSim

TERMS = ChainTerms(margin_s=60, conclude_delay_s=60, funding_timeout_s=900, silence_timeout_s=400)
SEEDS = range(40)


class Weather:
    """One run. Reorganisations stay within the confirmations, so that what is confirmed holds, and one node is always
    awake: it must end with one of the outcomes that it counts as possible."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        count = self.draw.choice([2, 2, 3])
        self.brought = [(self.draw.randrange(1, 9),) for _ in range(count)]
        self.sim = ChainSim(count, terms=TERMS, seed=seed)
        Watch(self.sim)
        Rule8(self.sim)
        self.sim.loss, self.sim.duplicate, self.sim.reorder = self.draw.choice([(0, 0, 0), (0.1, 0.1, 0.3)])
        self.guard = self.draw.choice(self.sim.nodes)
        self.channel = self.sim.fund(*self.brought)
        self.possible: list[tuple[int, ...]] = []  # outcomes that the guard counted as possible before the payout
        self.sim.around_block = self.note

    def run(self) -> None:
        sim = self.sim
        for _ in range(self.draw.randrange(10, 80)):
            self.happen()
            sim.block(self.draw.choice([12, 12, 12, 60]))
            sim.run()
        sim.loss = sim.duplicate = sim.reorder = 0.0
        for node in sim.nodes:
            sim.unsilence(node)
        for _ in range(120):
            for node in sim.nodes:
                if not node.up:
                    node.start()
            self.end()
            sim.run()
            sim.block(30)
            if all(self.is_over(node) for node in sim.nodes):
                return
        raise AssertionError([(n.engine(self.channel).phase, n.engine(self.channel).waiting_for) for n in sim.nodes])

    def note(self) -> None:
        if self.channel in self.guard.drivers and not self.guard.engine(self.channel).state.chain_ended:
            self.possible = self.outcomes(self.guard)

    def is_over(self, node: SimNode) -> bool:
        if self.channel not in node.drivers:
            return not self.held()
        return settled(node, self.channel) or (not self.held() and node.engine(self.channel).state.exit_reason != "")

    def held(self) -> int:
        return self.sim.chain.world.held(ZERO_ADDRESS, ChannelId(self.channel))

    def happen(self) -> None:
        node = self.draw.choice(self.sim.nodes)
        if self.channel not in node.drivers:
            if not node.up:
                node.start()
            return
        match self.draw.randrange(14):
            case 0 | 1 | 2 | 3:
                self.say(node, self.draw.choice([b"move:0:1:1", b"move:1:0:2", b"word"]), Kind.MESSAGE)
            case 4 if self.draw.random() < 0.3:
                self.say(node, b"", Kind.CLOSE)
            case 5:
                node.crash()
                if node is self.guard:
                    node.start()
            case 6 if node is not self.guard:
                self.sim.silence(node) if node.index not in self.sim.mute else self.sim.unsilence(node)
            case 7 | 8:
                depth = self.draw.randrange(1, CONFIRMATIONS + 1)
                self.sim.chain.reorganise(min(depth, len(self.sim.chain.blocks) - 1), drop=self.draw.random() < 0.3)
                self.sim.show()
            case 9:
                self.challenge(node)
            case 10 if self.draw.random() < 0.2:
                self.leave(node)
            case _:
                pass

    def say(self, node: SimNode, payload: bytes, kind: Kind) -> None:
        with contextlib.suppress(LocalError):
            node.submit(self.channel, payload, kind=kind)

    def challenge(self, node: SimNode) -> None:
        """With any state that it holds under all signatures."""
        states: list[Signed] = [state for state, _ in advances(node.log, self.channel)]
        if states and self.held():
            register(self.sim, node, self.channel, self.draw.choice(states))

    def leave(self, node: SimNode) -> None:
        with contextlib.suppress(LocalError):
            node.input(self.channel, lambda engine, _: engine.leave("drawn"))

    def end(self) -> None:
        """In the end somebody wants out."""
        for node in self.sim.nodes:
            if self.channel in node.drivers:
                self.say(node, b"", Kind.CLOSE)
        if self.held():
            self.leave(self.draw.choice([n for n in self.sim.nodes if self.channel in n.drivers]))

    def check(self) -> None:
        """The chain has paid an outcome that the guard counted as possible, by priority out of what was deposited."""
        sim = self.sim
        sent = [item for block in sim.chain.blocks for item in block.transactions]
        deposits = [sum(t.value for t in sent if t.sender == sim.account(node)) for node in sim.nodes]
        gains = [sim.paid(node)[0] for node in sim.nodes]
        assert sum(gains) == -self.held()
        paid = [gain + deposit for gain, deposit in zip(gains, deposits, strict=True)]
        expected = [pays(sum(deposits), outcome) for outcome in self.possible]
        assert paid in expected or not any(deposits), (paid, deposits, expected)
        for node in sim.nodes:
            check_log(node.log, self.channel)

    def outcomes(self, node: SimNode) -> list[tuple[int, ...]]:
        state = node.engine(self.channel).state
        found = [state.setup.unpack(each.amounts) for each in state.candidates]
        return found + ([state.setup.unpack(state.head.amounts)] if state.head is not None else [])


def pays(held: int, outcome: tuple[int, ...]) -> list[int]:
    exits = transfer_effects(held, [Allocation(Destination(bytes(32)), amount) for amount in outcome]).exits
    return [exit_.amount for exit_ in exits]


@pytest.mark.parametrize("seed", SEEDS)
def test_rules_5_7_8_everybody_gets_what_it_is_owed_in_any_weather(seed: int) -> None:
    """Loss, silence, crashes, reorganisations, stale challenges by participants, leaving and closing, all mixed."""
    weather = Weather(seed)
    weather.run()
    weather.check()
