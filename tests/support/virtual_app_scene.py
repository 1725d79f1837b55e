"""A virtual app channel at its two app parties: real engines, a stand-in for ledgers and hubs (`sim_backing.py`)."""

from __future__ import annotations

from typing import Any

import msgspec

from scapp.channels.backing import Backing, Stage
from scapp.channels.channel.events import decode_event
from scapp.channels.entries import Kind
from tests.support.checkers import Watch
from tests.support.sim import Sim, SimNode
from tests.support.sim_backing import SimBacking


class Scene:
    """Two parties and hubs between them; `channel` is open and its prefund state signed by both parties."""

    def __init__(self, hubs: int = 1) -> None:
        self.sim = Sim(2, seed=3)
        self.watch = Watch(self.sim)
        self.behind = SimBacking(self.sim, hubs)
        self.channel = self.behind.open((7, 3))
        self.sim.run()
        self.alice, self.bob = self.sim.nodes

    @property
    def phases(self) -> list[str]:
        return [node.engine(self.channel).phase for node in self.sim.nodes]

    def hear(self, node: SimNode, stage: Stage, **more: Any) -> None:
        """The node's ledgers say so; what follows among the parties follows."""
        if stage == "complete" and not more:
            more["signatures"] = ((1, self.of_hubs(1)),)
        node.input(self.channel, lambda e, _: e.on_backing(Backing(stage, **more)))
        self.sim.run()

    def of_hubs(self, turn: int) -> tuple[bytes, ...]:
        """The hubs' signatures under turn 0 or 1, in their places."""
        state = self.state(self.alice)
        digest = state.setup.hash(msgspec.structs.replace(state.prefund, turn=turn))
        return (b"", *(hub.sign(digest) for hub in self.behind.hubs), b"")

    def both_hear(self, stage: Stage, **more: Any) -> None:
        for node in self.sim.nodes:
            self.hear(node, stage, **more)

    def run(self) -> Scene:
        """Funded, and running."""
        self.behind.calm()
        assert self.phases == ["running"] * 2
        return self

    def play(self, node: SimNode, *payloads: bytes) -> None:
        for payload in payloads:
            node.submit(self.channel, payload)
            self.sim.run()

    def close(self) -> None:
        self.bob.submit(self.channel, b"", kind=Kind.CLOSE)
        self.sim.run()

    def state(self, node: SimNode) -> Any:
        return node.engine(self.channel).state

    def events(self, node: SimNode) -> list[Any]:
        return [decode_event(data) for page in node.log.read(self.channel) for data in page.events]

    def restart(self, node: SimNode) -> None:
        node.crash()
        node.start()
        self.sim.run()
