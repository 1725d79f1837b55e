"""A Hypothesis machine over a funded channel with room for top-ups: whatever the app says and whoever pays or not,
the chain always holds what signed states owe, but for the one deposit that is still to come.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from scapp.channels.errors import LocalError
from scapp.channels.onchain import Deposit
from scapp.channels.types import ZERO_ADDRESS
from tests.support.checkers import Watch, check_log
from tests.support.sim import SimNode
from tests.support.sim_chain import ChainSim, close
from tests.support.top_ups import open_with_room

HEADROOM = 20
BROUGHT = (5, 3, 4)
NODES = st.integers(0, 2)
SLOTS = st.integers(0, 6)


class TopUpMachine(RuleBasedStateMachine):
    """Two or three honest nodes whose app moves money between any two slots, sensibly or not."""

    sim: ChainSim
    channel: bytes

    @initialize(count=st.integers(2, 3))
    def open(self, count: int) -> None:
        self.sim = ChainSim(count)
        Watch(self.sim)
        self.channel = open_with_room(self.sim, [(BROUGHT[:count], HEADROOM)])
        self.sim.until(lambda: set(self.sim.phases(self.channel)) == {"running"})
        self.approved = [0] * count
        self.ended = False

    def node(self, index: int) -> SimNode:
        return self.sim.nodes[index % len(self.sim.nodes)]

    def amounts(self) -> list[int]:
        state = self.sim.nodes[0].engine(self.channel).state
        assert state.head is not None
        return list(state.setup.unpack(state.head.amounts))

    @precondition(lambda self: not self.ended)
    @rule(index=NODES, amount=st.integers(1, 6))
    def approve(self, index: int, amount: int) -> None:
        node = self.node(index)
        try:
            node.input(self.channel, lambda engine, _: engine.top_up(ZERO_ADDRESS, amount))
        except LocalError:
            return
        self.approved[node.index] += amount

    @precondition(lambda self: not self.ended)
    @rule(index=NODES, source=SLOTS, to=SLOTS, amount=st.integers(1, 6), together=st.booleans())
    def move(self, index: int, source: int, to: int, amount: int, together: bool) -> None:
        """What the app does with a message; some wait for others and become one batch."""
        last = 2 * len(self.sim.nodes)
        payload = b"move:%d:%d:%d" % (min(source, last), min(to, last), amount)
        self.node(index).submit(self.channel, payload)
        if not together:
            self.sim.run()

    @precondition(lambda self: not self.ended)
    @rule(index=NODES, amount=st.integers(1, 6))
    def top_up(self, index: int, amount: int) -> None:
        count = len(self.sim.nodes)
        node = self.node(index)
        self.approve(index, amount)
        node.submit(self.channel, b"move:%d:%d:%d" % (2 * count, count + node.index, amount))
        self.sim.run()

    @precondition(lambda self: not self.ended)
    @rule(index=NODES)
    def use(self, index: int) -> None:
        node = self.node(index)
        node.submit(self.channel, b"move:%d:%d:9" % (len(self.sim.nodes) + node.index, node.index))
        self.sim.run()

    @rule(count=st.integers(1, 6))
    def blocks(self, count: int) -> None:
        self.sim.blocks(count)

    @rule(index=NODES)
    def crash(self, index: int) -> None:
        node = self.node(index)
        node.crash()
        node.start()
        self.sim.show()

    @rule(depth=st.integers(1, 2))
    def reorganise(self, depth: int) -> None:
        """Less than what counts as confirmed."""
        self.sim.chain.reorganise(depth)
        self.sim.show()

    @precondition(lambda self: not self.ended)
    @rule(index=NODES, silent=st.booleans())
    def end(self, index: int, silent: bool) -> None:
        """A joint close, or one that leaves while the others' transactions are lost."""
        self.ended = True
        self.sim.run()
        if not silent:
            close(self.sim, self.channel)
            return
        node = self.node(index)
        for other in self.sim.nodes:
            if other is not node:
                self.sim.silence(other)
        node.input(self.channel, lambda engine, _: engine.leave("test"))

    @invariant()
    def what_is_owed_is_on_chain(self) -> None:
        """All of it but what one reserve slot says, of which its owner has deposited what is there."""
        if not hasattr(self, "channel"):
            return
        for node in self.sim.nodes:
            check_log(node.log, self.channel)
        if self.ended:
            return
        amounts, count = self.amounts(), len(self.sim.nodes)
        held = self.sim.plain.held(self.channel)
        owed = sum(amounts[:-1])
        reserves = amounts[count:-1]
        assert len([each for each in reserves if each]) <= 1
        assert held >= owed - sum(reserves)
        assert held <= owed

    def teardown(self) -> None:
        """In the end nobody has less than the last state says, less what it did not deposit itself."""
        if not hasattr(self, "channel"):
            return
        if not self.ended:
            self.sim.blocks(8)
            self.sim.run()
            close(self.sim, self.channel)
        amounts, count = self.amounts(), len(self.sim.nodes)
        for node in self.sim.nodes:
            self.sim.unsilence(node)
        self.sim.until(lambda: set(self.sim.phases(self.channel)) == {"settled"}, seconds=120)
        self.sim.blocks(10)
        for i, node in enumerate(self.sim.nodes):
            deposited = BROUGHT[i] + self.topped_up(i)
            owed = amounts[i] + amounts[count + i]
            (gained,) = self.sim.paid(node)
            missing = max(0, sum(amounts[:-1]) - sum(BROUGHT[:count]) - sum(map(self.topped_up, range(count))))
            assert gained == owed - deposited - (missing if amounts[count + i] else 0)

    def topped_up(self, index: int) -> int:
        """What the participant has deposited beside its stake: on the chain as it is now."""
        account = self.sim.account(self.sim.nodes[index])
        paid_in = sum(
            transaction.value
            for block in self.sim.chain.blocks
            for transaction, receipt in zip(block.transactions, block.receipts, strict=True)
            if transaction.sender == account and receipt.reason is None
        )
        assert any(isinstance(each, Deposit) for _, each in self.sim.transactions)
        assert paid_in - BROUGHT[index] <= self.approved[index], "nobody pays more than its operator has approved"
        return paid_in - BROUGHT[index]


NIGHTLY = os.environ.get("SCAPP_HYPOTHESIS_PROFILE") == "nightly"
TestTopUpMachine = TopUpMachine.TestCase
TestTopUpMachine.settings = settings(
    max_examples=300 if NIGHTLY else 25,
    stateful_step_count=50 if NIGHTLY else 30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
