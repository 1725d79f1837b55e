"""One network's life, played from its plan: faults and hostile words first, then everything heals and all must agree.

`plan.py` draws it, `audit.py` checks it at every step, `conditions.py` names what it may have reached, `run.py` plays
many. A life raises AssertionError (`checkers.Broken` names the rule) when it was not safe or did not recover.
"""

from __future__ import annotations

from collections.abc import Callable

from scapp.channels.channel.messages import Refuse, encode_message
from scapp.channels.entries import Kind
from scapp.channels.errors import CorruptionError, LocalError
from tests.simulation.apps import App, LedgerApp, SumApp
from tests.simulation.audit import Audit, Said
from tests.simulation.conditions import in_flight, reached
from tests.simulation.hostile import Hostile
from tests.simulation.onchain import TERMS, LifeOnChain
from tests.simulation.plan import Act, Plan, draw_plan
from tests.support.checkers import Watch
from tests.support.disk import DiskLog
from tests.support.sim import START_MS, Sim, SimNode
from tests.support.sim_backing import SimBacking
from tests.support.sim_chain import ChainSim
from tests.support.sim_database import Derivation, SimDatabase

SLOW_MS = 3_000
DAMAGE_CHANCE = 0.02


class Life:
    """A network with faults, and what has been said in it."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.app: App = LedgerApp() if plan.kernel else SumApp()
        sim: Sim
        if plan.chain:
            sim = on_chain = ChainSim(plan.count, seed=plan.seed, terms=TERMS)
        else:
            sim = Sim(plan.count, seed=plan.seed, make_admission=self.app.admission)
        self.sim = sim
        if plan.delay_ms:
            sim.saw("a message was delayed")
        for node in sim.nodes:
            node.damage_chance = 0.0
        if plan.picky >= 0:  # one participant's app refuses more than the sequencer's
            picky = sim.nodes[plan.picky]
            picky.make_admission = lambda: self.app.admission(picky=True)
            picky.admission = picky.make_admission()
        sim.nodes[-1].clock_offset_ms = plan.skew_ms
        if plan.unwilling >= 0:
            sim.nodes[plan.unwilling].accept = False
        self.databases = [SimDatabase() for _ in sim.nodes]
        self.derivations: dict[int, Derivation] = {}
        self.restarted: set[int] = set()
        self.said: Said = {}
        self.backup: DiskLog | None = None
        self.overridden = False
        self.mallory: Hostile | None = None
        honest = [node for node in sim.nodes if node.index != plan.hostile]
        self.chain = LifeOnChain(on_chain, honest) if plan.chain else None
        if plan.hostile >= 0:
            self.mallory = Hostile(sim, sim.nodes[plan.hostile], self.app, self.chain)
        watch = Watch(sim, {node.index for node in honest})
        slots = (7, 3, 2, 1)[: plan.count] if plan.slots else ()
        if plan.stillborn:
            sim.nodes[0].crash_in = 1
        self.behind = SimBacking(sim, plan.hubs, fickle=True) if plan.hubs >= 0 else None
        if self.chain is not None:
            self.channel = self.chain.open()
        elif self.behind is not None:
            self.channel = self.behind.open((7, 3), deployment=self.app.deployment)
        else:
            self.channel = sim.nodes[0].open(sim.nodes[1:], slots=slots, deployment=self.app.deployment)
        if self.mallory is not None:
            self.mallory.channel = self.channel
        if plan.opened:
            sim.run()
            if self.chain is not None:
                self.chain.until_running()
            if self.behind is not None:
                self.behind.calm(rounds=12)
        sim.loss, sim.duplicate, sim.reorder, sim.delay_ms = plan.loss, plan.duplicate, plan.reorder, plan.delay_ms
        self.audit = Audit(sim, self.channel, honest, watch)

    def play(self, told: Callable[[Act], None] | None = None) -> set[str]:
        """Safety phase, then heal. Returns the conditions reached; `told` hears of each act before it happens."""
        sim = self.sim
        for act in self.plan.acts:
            if told is not None:
                told(act)
            sim.random.seed(act.draw)
            self._act(sim.nodes[act.node], act)
            if self.behind is not None:
                self.behind.step(sim.random)
            self.audit.look()
        sim.random.seed(self.plan.seed)
        if self.plan.closing:
            self._close()
        self._heal()
        self._verdict()
        sound = [node for node in self.audit.honest if self.audit.sound(node)]
        return sim.seen | reached(sim, self.channel, sound) | self._reached()

    # Acts

    def _act(self, node: SimNode, act: Act) -> None:
        match act.kind:
            case "deliver":
                self._deliver(act.number)
            case "say":
                self._say(node, act)
            case "wait":
                self.sim.tick(act.number)
                self._derive()
            case "mallory":
                assert self.mallory is not None
                self.mallory.act(act)
            case "crash soon":
                node.crash_in = act.number
            case "crash or start":
                self._restart(node)
            case "stop":
                if node.up:
                    node.stop()
                    self._begin(node)
            case "decide":
                self._decide(node)
            case "close":
                self._close()
            case "part":
                self.sim.part({node.index})
            case "heal":
                self.sim.heal_links()
            case "reset":
                self.sim.reset(node.index, (node.index + 1) % len(self.sim.nodes))
            case "block" | "later" | "reorganisation" | "blind" | "leave":
                assert self.chain is not None
                self.chain.act(node, act)
            case "clock":
                node.clock_offset_ms += self.sim.random.choice([-90_000, -5_000, 5_000, 90_000])
                self.sim.saw("a clock jumped")
            case _:
                self._break(node, act.kind)

    def _break(self, node: SimNode, kind: str) -> None:
        """Faults of a disk or a database."""
        disk, database = node.log.disk, self.databases[node.index]
        match kind:
            case "slow disk":
                disk.slow_ms = 0 if disk.slow_ms else SLOW_MS
            case "disk full":
                disk.failing = "full"
            case "sync fails":
                disk.failing = "sync"
            case "damaged cut":
                node.damage_chance = 1.0
                node.crash()
                node.damage_chance = 0.0
                self._begin(node)
            case "rot":
                if node.up:
                    node.crash()
                node.log.disk.rot(self.sim.random)
                node.reopen(node.log.disk)
                self._begin(node)
            case "backup":
                self.backup = self.sim.nodes[self.plan.restored].log.durable_copy()
            case "restore":
                self._restore()
            case "database away":
                database.absent = not database.absent
            case "database slow":
                database.slow = not database.slow
            case _:
                raise AssertionError(f"no such act: {kind}")

    def _restore(self) -> None:
        """One node loses its disk and gets its backup. Never two: nodes that recover cannot tell each other."""
        node = self.sim.nodes[self.plan.restored]
        if self.backup is None:
            return
        before = self.audit.turn_of(node)
        known = self.audit.told_by_others(node)
        self._end_derivation(node)
        self.databases[node.index] = SimDatabase()  # with nothing in it: it is derived anew
        node.restore(self.backup)
        self._forget(node, known)
        self.sim.saw("a node came back from a backup")
        if before > self.audit.turn_of(node):
            self.sim.saw("a node came back from a stale backup")

    def _forget(self, node: SimNode, known: set[int]) -> None:
        """What its owner was told since the backup, and nobody else has all signatures of, is gone with the disk."""
        self.audit.look()
        check = self.audit.check_of(node)
        kept = check.included if check is not None else set()
        for channel, counter in list(node.acknowledged):
            if channel == self.channel and counter not in known and (node.index, counter) not in kept:
                del node.acknowledged[channel, counter]

    def _deliver(self, count: int) -> None:
        chance = 0.3 if self.plan.forking else 0.1 if self.plan.fickle else 0
        for _ in range(count):
            self.sim.step()
            if self.sim.random.random() < chance:
                self._change_mind()
        self._derive()

    def _change_mind(self) -> None:
        """Somebody refuses what it has signed already: so replaced proposals are completed."""
        draw = self.sim.random
        able = [n for n in self.sim.nodes[1:] if n.up and self.channel in n.drivers]
        able = [n for n in able if n.engine(self.channel).state.candidates]
        if able:
            node = draw.choice(able)
            turn = node.engine(self.channel).state.signed_turn
            word = Refuse(self.channel, turn, draw.choice(["mine", "time"]), "changed my mind", 0)
            self.sim.send(node, self.sim.nodes[0].signer.address, encode_message(word), None)

    def _say(self, node: SimNode, act: Act) -> None:
        if not node.up or self.channel not in node.drivers:
            return
        addresses = [n.signer.address for n in self.sim.nodes]
        payload = self.app.payload(self.sim.random, addresses, act.draw % 1_000)
        try:
            for counter in node.submit(self.channel, *[payload] * act.number):
                self.said.setdefault((node.index, counter), set()).add(payload)
        except LocalError:
            pass

    def _decide(self, node: SimNode) -> None:
        """Its owner says yes or no to a channel that waits for that."""
        if node.up and self.channel in node.drivers and node.engine(self.channel).phase == "proposed":
            if self.sim.random.random() < 0.5:
                node.input(self.channel, lambda e, _: e.accept())
            else:
                node.input(self.channel, lambda e, _: e.reject("not for me"))

    def _restart(self, node: SimNode) -> None:
        if node.up:
            node.crash()
        else:
            self._begin(node)

    def _begin(self, node: SimNode) -> None:
        """A process begins, and its derivation with it."""
        self._end_derivation(node)
        node.start()
        self.restarted.add(node.index)
        if node.up:
            self.sim.seen |= in_flight(node, self.channel)

    def _close(self) -> None:
        up = [n for n in self.sim.nodes if n.up and self.channel in n.drivers]
        if up:
            closer = self.sim.random.choice(up)
            if closer.engine(self.channel).phase == "running":
                closer.submit(self.channel, b"", kind=Kind.CLOSE)

    # Derivation

    def _derive(self) -> None:
        for node in self.audit.honest:
            if node.up and self.channel in node.drivers:
                self._derive_at(node)
            else:
                self._end_derivation(node)

    def _derive_at(self, node: SimNode) -> None:
        state = node.engine(self.channel).state
        if state.head is None:
            return
        database = self.databases[node.index]
        derivation = self.derivations.get(node.index)
        if derivation is None or derivation.source is not node.source:
            self._end_derivation(node)
            derivation = self.derivations[node.index] = Derivation(self.app.admission(), node.source, database)
        before = database.channels.get(self.channel)
        try:
            stopped = derivation.advance(state.setup.context)
        except CorruptionError:
            return  # a stored page that rotted after the start: derivation halts
        behind = state.sequence - (before.sequence if before else 0)
        if stopped:
            self.sim.saw(stopped)
            if database.absent and behind > 1:
                self.sim.saw("batches were signed while the database was away")
        elif behind > 3:
            self.sim.saw("a database that was behind caught up")

    def _end_derivation(self, node: SimNode) -> None:
        derivation = self.derivations.pop(node.index, None)
        if derivation is not None:
            derivation.close()

    # The end

    def _heal(self) -> None:
        if self.mallory is not None:
            self.mallory.repent()
        for node, database in zip(self.sim.nodes, self.databases, strict=True):
            node.clock_offset_ms = self.plan.skew_ms if node is self.sim.nodes[-1] else 0
            database.absent = database.slow = False
        self.sim.settle()
        self._override()
        if self.chain is not None:
            self.chain.finish()
            self.sim.settle()
        if self.behind is not None:
            self.behind.calm()
            self.sim.settle()
            self.behind.finish(self.audit.honest)
            self.sim.settle()
        self.audit.look()
        self._derive()

    def _override(self) -> None:
        """A restored node may find that only its operator can help, and says so; then the operator does."""
        for node in self.sim.nodes:
            here = node.up and node.restores and self.channel in node.drivers
            if here and "only an override helps" in node.engine(self.channel).waiting_for:
                node.input(self.channel, lambda e, _: e.recover())
                self.overridden = True
        if self.overridden:
            self.sim.saw("an operator ended a recovery")
            self.sim.settle()

    def _verdict(self) -> None:
        for node in self.audit.honest:
            if node.up and self.audit.sound(node):
                self.audit.compare_rows(node, self.databases[node.index], self.app)
                self.audit.exits(node)
            self._end_derivation(node)
        if self.chain is not None:
            self.chain.check_payouts()
        if self.behind is not None:
            for node in self.audit.honest:
                self.behind.check_paid(node, self.channel)
        nodes = self.sim.nodes
        if not all(self.audit.sound(node) for node in nodes):
            self.sim.saw(
                "a node refused to start on a damaged disk"
                if any(n.fault for n in nodes)
                else "a channel of a damaged disk stayed closed, its node went on"
            )
            return
        present = [n for n in nodes if self.channel in n.drivers]
        if len(present) < len(nodes):
            # Only a channel that its opener lost before anything was stored may be missing, or one that is not in the
            # backup from which somebody came back.
            excused = self.mallory is not None or any(n.restores for n in nodes)
            assert self.channel not in nodes[0].drivers or excused, "a channel is missing somewhere"
            self.sim.saw("lost before the first write")
            return
        if self.mallory is not None or self.plan.unwilling >= 0 or self.overridden:
            return
        self.audit.verdict(self.said)

    def _reached(self) -> set[str]:
        sim = self.sim
        seen = {what for node in sim.nodes for what in node.log.disk.events}
        if len(self.restarted) == len(sim.nodes):
            seen.add("everybody restarted")
        if self.mallory is not None and any(n.refused for n in self.audit.honest):
            seen.add("an honest node refused a peer's message")
        if self.plan.kernel:
            seen.add("the real kernel ran")
            if any(node.decided for node in sim.nodes):
                seen.add("the real kernel refused a message")
        return seen

    @property
    def messages(self) -> int:
        """Delivered."""
        return self.sim.delivered

    @property
    def seconds(self) -> float:
        """Simulated time."""
        return (self.sim.now_ms - START_MS) / 1_000


def play(seed: int) -> set[str]:
    """One life from its seed."""
    return Life(draw_plan(seed)).play()
