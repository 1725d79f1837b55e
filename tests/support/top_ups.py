"""Channels with room for top-ups on the simulated chain."""

from __future__ import annotations

from collections.abc import Sequence

from scapp.channels.channel.shares import with_room
from tests.support.plain_chain import CONSENSUS
from tests.support.sim_chain import DURATION_S, ChainSim


def open_with_room(sim: ChainSim, wanted: Sequence[tuple[Sequence[int], int]]) -> bytes:
    """Open a channel; per asset what each participant brings, and how much all together may bring later."""
    slots = [
        slot
        for asset, (brought, headroom) in zip(sim.assets, wanted, strict=True)
        for slot in with_room(
            [(asset, bytes(12) + sim.account(node), brought[node.index]) for node in sim.nodes], len(brought), headroom
        )
    ]
    made = tuple((asset, destination, amount.to_bytes(32, "big")) for asset, destination, amount in slots)
    channel = sim.nodes[0].open(sim.nodes[1:], made=made, app_definition=CONSENSUS, challenge_duration=DURATION_S)
    sim.run()
    return channel
