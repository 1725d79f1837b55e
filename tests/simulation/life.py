"""One random network's life, every fault drawn from one seed; `test_seeds.py` and `run.py` play many.

Safety is checked at every step and in every log (`tests.support.checkers`); then everything heals, and all must agree.
What a life has reached is collected, so that a test can demand that some lives reach it.
"""

from __future__ import annotations

import random

from scapp.channels.channel.events import StateCompleted, StateSigned, SubmissionsDropped, decode_event
from scapp.channels.channel.messages import Refuse, encode_message
from scapp.channels.entries import Kind, decode_entry
from scapp.channels.errors import LocalError
from tests.support.checkers import Watch, check_log
from tests.support.fakes import SumAdmission
from tests.support.sim import Sim, SimNode

Said = dict[tuple[int, int], bytes]


class Life:
    """A network with faults, and what has been said in it."""

    def __init__(self, seed: int) -> None:
        self.draw = draw = random.Random(seed)
        self.forking = draw.random() < 0.2  # a calm network in which somebody changes its mind all the time
        count = draw.choice([3, 4] if self.forking else [2, 2, 3, 4])
        self.sim = Sim(
            count,
            seed=seed,
            loss=draw.choice([0, 0, 0.05, 0.3]),
            duplicate=draw.choice([0, 0.1, 0.3]),
            reorder=draw.choice([0, 0.2, 1.0]),
        )
        if self.forking:
            self.sim.loss = self.sim.duplicate = self.sim.reorder = 0.0
        if draw.random() < 0.4:  # one participant's app refuses more than the sequencer's
            picky = self.sim.nodes[1]
            picky.make_admission = lambda: SumAdmission(refuse=b"odd")
            picky.admission = picky.make_admission()
        if draw.random() < 0.1:
            self.sim.nodes[-1].clock_offset_ms = draw.choice([-50_000, 50_000])
        self.fickle = draw.random() < 0.3
        Watch(self.sim)
        self.said: Said = {}
        self.channel = self.sim.nodes[0].open(self.sim.nodes[1:], slots=(7, 3) if draw.random() < 0.5 else ())

    def play(self) -> None:
        """Safety phase, then heal."""
        closing = self.draw.random() < 0.5
        for turn in range(self.draw.randrange(20, 120)):
            self.act(self.draw.choice(self.sim.nodes), turn)
            self.sim.check(self.channel)
            if turn % 16 == 0:
                for node in self.sim.nodes:
                    check_log(node.log, self.channel)
        if closing:
            self.close()
        self.sim.settle()
        self.sim.check(self.channel)

    def act(self, node: SimNode, turn: int) -> None:
        """One random thing happens."""
        what = self.draw.random()
        if what < 0.45:
            for _ in range(self.draw.randrange(1, 6)):
                self.sim.step()
                if self.draw.random() < (0.3 if self.forking else 0.1 if self.fickle else 0):
                    self.change_mind()
        elif what < 0.75:
            self.say(node, turn)
        elif what < 0.85 or self.forking:
            self.sim.tick(self.draw.choice([100, 2_000, 40_000]))
        elif what < 0.92:
            node.crash_in = self.draw.randrange(1, 4)
        elif node.up:
            node.crash()
        else:
            node.start()

    def say(self, node: SimNode, turn: int) -> None:
        if not node.up or self.channel not in node.drivers:
            return
        payload = self.draw.choice([b"good", b"bad", b"odd", b"move:0:1:1"]) if turn % 3 else b"move:1:0:2"
        payload = payload if payload.startswith(b"move") else payload + b" %d" % turn
        try:
            for counter in node.submit(self.channel, *[payload] * self.draw.choice([1, 1, 3])):
                self.said[(node.index, counter)] = payload
        except LocalError:
            pass

    def change_mind(self) -> None:
        """Somebody refuses what it has signed already: so replaced proposals are completed."""
        able = [n for n in self.sim.nodes[1:] if n.up and self.channel in n.drivers]
        able = [n for n in able if n.engine(self.channel).state.candidates]
        if able:
            node = self.draw.choice(able)
            turn = node.engine(self.channel).state.signed_turn
            word = Refuse(self.channel, turn, self.draw.choice(["mine", "time"]), "changed my mind", 0)
            self.sim.send(node, self.sim.nodes[0].signer.address, encode_message(word), None)

    def close(self) -> None:
        up = [n for n in self.sim.nodes if n.up and self.channel in n.drivers]
        if up:
            closer = self.draw.choice(up)
            if closer.engine(self.channel).phase == "running":
                closer.submit(self.channel, b"", kind=Kind.CLOSE)

    def verdict(self) -> set[str]:
        """After healing everybody agrees, nothing is undecided, every entry is what its author said, once. Returns
        what this life has reached."""
        sim, channel = self.sim, self.channel
        checks = [check_log(n.log, channel) for n in sim.nodes]
        present = [n for n in sim.nodes if channel in n.drivers]
        waiting = [n.engine(channel).waiting_for for n in present]
        if len(present) < len(sim.nodes) or any(n.engine(channel).state.head is None for n in present):
            # Only a channel that its opener lost before anything was stored may be missing.
            assert channel not in sim.nodes[0].drivers, waiting
            return {"lost before the first write"}
        states = [n.engine(channel).state for n in sim.nodes]
        assert len({s.log_root for s in states}) == 1, waiting
        assert len({s.turn for s in states}) == 1, waiting
        assert all(not s.outstanding and not s.candidates for s in states), waiting
        for data in sim.nodes[0].supported(channel)[1:]:
            entry = decode_entry(data)
            if entry.kind == Kind.MESSAGE and entry.author != 0:
                assert self.said[(entry.author, entry.counter)] == entry.payload
        included = {(e.author, e.counter) for e in map(decode_entry, sim.nodes[0].supported(channel))}
        for check in checks:
            assert check is not None
            for counter in check.submitted:
                key = (check.me, counter)
                assert (key in included) != (key in check.refused), f"{key} is not decided exactly once"
        return self.reached()

    def reached(self) -> set[str]:
        """Rare things that have happened here."""
        nodes, channel = self.sim.nodes, self.channel
        seen = set()
        if any(n.engine(channel).state.final_signed for n in nodes):
            seen.add("closed")
        if any(n.refused for n in nodes):
            seen.add("something was refused")
        told = [t for n in nodes for t in n.told]
        if any(t.kind == "refused" for t in told):
            seen.add("a proposal was refused")
        if any("completed after it was replaced" in t.detail for t in told):
            seen.add("a replaced proposal was completed")
        events = [decode_event(e) for page in nodes[0].log.read(channel) for e in page.events]
        dropped = {(r.author, r.counter) for e in events if isinstance(e, SubmissionsDropped) for r in e.refused}
        if dropped:
            seen.add("a submission was dropped")
        log = {(e.author, e.counter) for e in map(decode_entry, nodes[0].supported(channel))}
        if dropped & log:
            seen.add("a dropped submission came back")
        if self._retimed([e.state.entries for e in events if isinstance(e, StateSigned | StateCompleted)]):
            seen.add("retimed")
        return seen

    @staticmethod
    def _retimed(signed: list[tuple[bytes, ...]]) -> bool:
        """Was a proposal repeated with another time and nothing else changed?"""
        bare = [tuple((e.author, e.counter, e.payload) for e in map(decode_entry, entries)) for entries in signed]
        pairs = zip(signed, signed[1:], bare, bare[1:], strict=False)
        return any(a != b and x == y for a, b, x, y in pairs)


def play(seed: int) -> set[str]:
    """One life from its seed; raises AssertionError when it was not safe or did not recover."""
    life = Life(seed)
    life.play()
    return life.verdict()
