"""A Hypothesis machine over one channel: valid steps beside scrambled ones, checkers after each.

Hypothesis draws what happens (and shrinks it when it fails); `tests/simulation` draws from seeds and plays longer.
"""

from __future__ import annotations

import os
from typing import Any

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from scapp.channels.channel.messages import Refuse, Status, decode_message, encode_message
from scapp.channels.entries import Kind, decode_entry
from scapp.channels.errors import LocalError
from tests.support.checkers import Watch, check_log
from tests.support.mallory import stored
from tests.support.sim import Sim, SimNode

NODES = st.integers(0, 2)


class ChannelMachine(RuleBasedStateMachine):
    """Two or three honest nodes, a network that Hypothesis controls, and somebody who tampers with messages."""

    sim: Sim
    channel: bytes

    @initialize(count=st.integers(2, 3))
    def open(self, count: int) -> None:
        self.sim = Sim(count)
        Watch(self.sim)
        self.past: list[tuple[int, bytes, bytes]] = []
        watched = self.sim.tap
        assert watched is not None

        def remember(sender: int, to: Any, data: bytes) -> bytes | None:
            self.past.append((sender, to, data))
            return watched(sender, to, data)

        self.sim.tap = remember
        self.channel = self.sim.nodes[0].open(self.sim.nodes[1:], slots=(10, 5))
        self.said: dict[tuple[int, int], bytes] = {}

    def node(self, index: int) -> SimNode:
        return self.sim.nodes[index % len(self.sim.nodes)]

    def known(self, node: SimNode) -> bool:
        return node.up and self.channel in node.drivers

    # What honest people and networks do

    @rule(
        index=NODES,
        payload=st.sampled_from([b"a", b"bb", b"bad", b"move:0:1:2", b"move:1:0:9"]),
        times=st.integers(1, 3),
    )
    def submit(self, index: int, payload: bytes, times: int) -> None:
        node = self.node(index)
        if self.known(node):
            try:
                for counter in node.submit(self.channel, *[payload] * times):
                    self.said[(node.index, counter)] = payload
            except LocalError:
                pass

    @rule(steps=st.integers(1, 12))
    def deliver(self, steps: int) -> None:
        for _ in range(steps):
            self.sim.step()

    @rule(at=st.integers(0, 50))
    def deliver_out_of_order(self, at: int) -> None:
        if self.sim.queue:
            self.sim.step(at % len(self.sim.queue))

    @rule(at=st.integers(0, 50))
    def lose(self, at: int) -> None:
        if self.sim.queue:
            self.sim.queue.pop(at % len(self.sim.queue))

    @rule(milliseconds=st.sampled_from([10, 2_000, 70_000]))
    def wait(self, milliseconds: int) -> None:
        self.sim.tick(milliseconds)

    @rule(index=NODES, stores=st.integers(1, 4))
    def crash_soon(self, index: int, stores: int) -> None:
        self.node(index).crash_in = stores

    @rule(index=NODES)
    def crash_or_start(self, index: int) -> None:
        node = self.node(index)
        if node.up:
            node.crash()
        else:
            node.start()

    @precondition(lambda self: len(self.said) > 2)
    @rule(index=NODES)
    def close(self, index: int) -> None:
        node = self.node(index)
        if self.known(node) and node.engine(self.channel).phase == "running":
            node.submit(self.channel, b"", kind=Kind.CLOSE)

    @rule(index=NODES, code=st.sampled_from(["mine", "time", "root"]), entry=st.integers(-1, 1))
    def change_mind(self, index: int, code: str, entry: int) -> None:
        """A participant refuses what it has signed."""
        node = self.node(index)
        if node.index and self.known(node):
            word = Refuse(self.channel, max(node.engine(self.channel).state.signed_turn, 0), code, "no", entry)
            self.sim.send(node, self.sim.nodes[0].signer.address, encode_message(word), None)

    # Scrambled: each must be refused or mean nothing

    @rule(data=st.binary(max_size=100), index=NODES, sender=NODES)
    def garbage(self, data: bytes, index: int, sender: int) -> None:
        self.unchanged_by(index, sender, data)

    @rule(at=st.integers(0, 10_000), position=st.integers(0, 10_000), value=st.integers(1, 255), index=NODES)
    def flipped_byte(self, at: int, position: int, value: int, index: int) -> None:
        """A message of the past with one byte of its channel id or first signature changed."""
        if not self.past:
            return
        sender, _, data = self.past[at % len(self.past)]
        where = data.find(self.channel) + position % 32
        bent = data[:where] + bytes([data[where] ^ value]) + data[where + 1 :]
        self.unchanged_by(index, sender, bent)

    @rule(at=st.integers(0, 10_000), index=NODES)
    def forged_signature(self, at: int, index: int) -> None:
        if not self.past:
            return
        sender, _, data = self.past[at % len(self.past)]
        message = decode_message(data)
        if hasattr(message, "signature"):
            signature = bytes([message.signature[0] ^ 1]) + message.signature[1:]
            self.unchanged_by(index, sender, encode_message(msgspec.structs.replace(message, signature=signature)))

    @rule(at=st.integers(0, 10_000), index=NODES)
    def from_a_stranger(self, at: int, index: int) -> None:
        if self.past:
            node = self.node(index)
            if self.known(node):
                before = stored(node, self.channel)
                node.receive(b"\x99" * 20, self.past[at % len(self.past)][2])  # type: ignore[arg-type]
                assert stored(node, self.channel) == before

    @rule(at=st.integers(0, 10_000))
    def replayed(self, at: int) -> None:
        """A message of the past, delivered once more to whom it was meant for: never refused state, never a crash."""
        if self.past:
            sender, to, data = self.past[at % len(self.past)]
            self.sim.put(sender, to, data)

    @rule(turn=st.sampled_from([-1, 0, 1, 5, 2**48 - 1]), index=NODES, sender=NODES, answer=st.booleans())
    def bogus_status(self, turn: int, index: int, sender: int, answer: bool) -> None:
        self.unchanged_by(index, sender, encode_message(Status(self.channel, turn, turn, 2**40, bytes(32), answer)))

    def unchanged_by(self, index: int, sender: int, data: bytes) -> None:
        node, by = self.node(index), self.node(sender)
        if node is by or not self.known(node):
            return
        before = stored(node, self.channel)
        node.receive(by.signer.address, data)
        assert stored(node, self.channel) == before

    # Always

    @invariant()
    def every_log_keeps_the_rules(self) -> None:
        if hasattr(self, "channel"):
            for node in self.sim.nodes:
                check_log(node.log, self.channel)
            self.sim.check(self.channel)

    def teardown(self) -> None:
        """Whatever happened: once healed, everybody agrees and nothing is undecided."""
        if not hasattr(self, "channel"):
            return
        self.sim.settle(rounds=6)
        nodes = self.sim.nodes
        if self.channel not in nodes[0].drivers:
            return
        waiting = [n.engine(self.channel).waiting_for for n in nodes]
        states = [n.engine(self.channel).state for n in nodes]
        assert len({(s.turn, s.log_root) for s in states}) == 1, waiting
        assert all(not s.candidates and not s.outstanding and s.head is not None for s in states), waiting
        for entry in map(decode_entry, nodes[0].supported(self.channel)[1:]):
            if entry.kind == Kind.MESSAGE and entry.author:
                assert self.said[(entry.author, entry.counter)] == entry.payload


NIGHTLY = os.environ.get("SCAPP_HYPOTHESIS_PROFILE") == "nightly"
TestChannelMachine = ChannelMachine.TestCase
TestChannelMachine.settings = settings(
    max_examples=400 if NIGHTLY else 30,
    stateful_step_count=60 if NIGHTLY else 40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
