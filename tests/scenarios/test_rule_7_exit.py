"""Safety rule 7: at any moment a participant can leave with the latest supported state, without anyone's help."""

from __future__ import annotations

import random

import pytest

from scapp.channels.channel.events import Signed
from scapp.channels.channel.full_set import enforceable
from scapp.channels.entries import EMPTY_LOG_ROOT, extend_log_root
from scapp.channels.signing import recover
from tests.support.checkers import plain_hash
from tests.support.sim import Sim, SimNode


def can_leave(node: SimNode, channel: bytes) -> int:
    """The turn with which the node can leave now, -1 before the prefund; every signature is recovered over the hash
    that the clear implementation gives."""
    state = node.engine(channel).state
    head = state.head
    if head is None:
        return -1
    shown = Signed(
        turn=head.turn,
        is_final=head.is_final,
        entries=(),
        sequence=head.sequence,
        log_root=head.log_root,
        state_root=head.state_root,
        amounts=head.amounts,
        time_ms=head.time_ms,
        signatures=head.signatures,
        last=state.included,
    )
    digest = plain_hash(state.setup, shown)
    assert tuple(recover(digest, s) for s in enforceable(state, head)) == state.setup.participants
    log = node.supported(channel)
    assert len(log) == head.sequence
    assert extend_log_root(EMPTY_LOG_ROOT, log) == head.log_root
    paid = sum(state.setup.unpack(head.amounts))
    assert paid == sum(state.setup.start_amounts)
    return head.turn


@pytest.mark.parametrize("seed", range(6))
def test_rule_7_everybody_can_leave_after_every_message(seed: int) -> None:
    """The turn never falls, also over a crash: what was shown to be supported once is supported for ever."""
    draw = random.Random(seed)
    sim = Sim(draw.choice([2, 3]), seed=seed, loss=0.1, duplicate=0.2, reorder=0.5)
    channel = sim.nodes[0].open(sim.nodes[1:], slots=(10, 5))
    shown = [-1] * len(sim.nodes)
    for step in range(150):
        if not sim.step() or step % 10 == 0:
            sim.tick(3_000)
            node = draw.choice(sim.nodes)
            if channel in node.drivers and node.engine(channel).phase == "running":
                node.submit(channel, draw.choice([b"move:0:1:3", b"move:1:0:2", b"word"]))
        for node in sim.nodes:
            if channel in node.drivers:
                turn = can_leave(node, channel)
                assert turn >= shown[node.index]
                shown[node.index] = turn
    assert min(shown) > 1
