"""A network of nodes in one thread, every fault drawn from one seed; the real engine, driver and memory log.

A node is its log: a crash throws everything else away, and unsynced writes with it. Messages are lost, doubled and
reordered per draw. `settle` heals everything and runs until nothing moves. Checkers look at the logs only.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from scapp.channels.admission import AdmissionError
from scapp.channels.admission_base import AdmissionBase
from scapp.channels.channel.effects import (
    PENDING,
    CommitBatch,
    Fetch,
    LoadAdmission,
    RollbackBatch,
    SendDecisions,
    SendNow,
    SendRejected,
    Tell,
    parse_outbox_row,
)
from scapp.channels.channel.engine import Engine
from scapp.channels.channel.events import ChannelCreated, StateCompleted, StateSigned, decode_event, encode_event
from scapp.channels.channel.messages import Entries, Proposal, decode_message, encode_message
from scapp.channels.channel.opening import created_from_proposal, open_signed, opening_entry, prefund_of
from scapp.channels.channel.session import Step
from scapp.channels.channel.setup import Setup
from scapp.channels.deliveries import Deliveries
from scapp.channels.deployment import Deployment, Limits, encode_deployment
from scapp.channels.driver import Ask, ChannelDriver, Do, Refusals, Store, advances, load
from scapp.channels.entries import Kind
from scapp.channels.errors import PeerError
from scapp.channels.log.memory import MemoryLog
from scapp.channels.log.port import NODE_STREAM, Append, StreamWrite
from scapp.channels.log_source import LogSource
from scapp.channels.restoring import mark_restored
from scapp.channels.signing import Signer
from scapp.channels.state_snapshots import StateSnapshots
from scapp.channels.types import ZERO_ADDRESS, Address
from tests.support.fakes import SumAdmission

NAMES = ("alice", "bob", "carol", "dave")
KEYS = tuple(bytes([n + 1]) * 32 for n in range(len(NAMES)))
START_MS = 1_700_000_000_000
SNAPSHOT_ENTRIES = 3
SNAPSHOT_EVENTS = 4


class Crash(Exception):
    """The node's process ends here."""


class SimNode:
    """One node: `crash()` keeps only what is durable, `start()` begins again from the log."""

    def __init__(self, net: Sim, index: int, make_admission: Callable[[], SumAdmission]) -> None:
        self.net = net
        self.index = index
        self.name = NAMES[index]
        self.signer = Signer(KEYS[index])
        self.log = MemoryLog()
        self.make_admission = make_admission
        self.clock_offset_ms = 0
        self.up = False
        self.crash_in: int | None = None  # crash at that many stores from now
        self.signed: dict[tuple[bytes, int], bytes] = {}  # everything that ever left: (channel, turn) -> state hash
        self.refused: list[str] = []
        self.told: list[Tell] = []
        self.decided: list[tuple[int, str, str]] = []  # own submissions refused
        self.accept = True
        self.start()

    def start(self) -> None:
        self.admission = self.make_admission()
        self.drivers: dict[bytes, ChannelDriver] = {}
        self.bases: dict[bytes, AdmissionBase] = {}
        self.states: dict[bytes, StateSnapshots] = {}
        self.deliveries = Deliveries()
        self.source = LogSource(self.log, lambda: self.drivers)
        self.up = True
        for stream in self.log.streams():
            if stream == NODE_STREAM:
                continue
            self.drivers[stream] = load(self.log, stream, self.signer)
        for key, value in self.log.outbox():
            channel, send = parse_outbox_row(key, value)
            self.deliver(self.drivers[channel], send)
        for stream, driver in list(self.drivers.items()):
            for pending in driver.engine.pending():
                self.say(driver, pending)
            if driver.engine.phase == "proposed" and self.accept:
                self.input(stream, lambda e, _: e.accept())
            for other in driver.engine.state.setup.others:
                self.input(stream, lambda e, _, other=other: e.link_up(other))

    def crash(self) -> None:
        self.log = self.log.durable_copy()
        self.up = False
        self.drivers = {}
        self.net.forget_from(self.index)

    def restore(self, backup: MemoryLog) -> None:
        """The disk is lost, and what was on its way with it; a backup takes its place, and the node starts."""
        self.crash()
        self.net.queue = [item for item in self.net.queue if item[0] != self.index]
        self.log = backup.durable_copy()
        token = self.net.random.getrandbits(128).to_bytes(16, "big")
        mark_restored(self.log, token, self.now(), self.now() - 1)
        self.start()

    def now(self) -> int:
        return self.net.now_ms + self.clock_offset_ms

    def engine(self, channel: bytes) -> Engine:
        return self.drivers[channel].engine

    # Inputs

    def open(self, peers: Sequence[SimNode], *, limits: Limits | None = None, slots: Sequence[int] = ()) -> bytes:
        participants = (self.signer.address, *(p.signer.address for p in peers))
        made = tuple(
            (bytes(20), bytes(12) + p, amount.to_bytes(32, "big"))
            for p, amount in zip(participants, slots, strict=False)
        )
        deployment = Deployment(bytes(32), limits=limits or Limits())
        entry = opening_entry(participants, made, None, self.now())
        created = ChannelCreated(
            my_index=0,
            participants=participants,
            nonce=self.net.random.getrandbits(63),
            app_definition=ZERO_ADDRESS,
            challenge_duration=60,
            deployment=encode_deployment(deployment),
            slots=made,
            prefund=prefund_of(made, len(participants), entry, bytes(32), self.now()),
        )
        setup = Setup(created)
        self.admission.load(setup.context, ())
        result = self.admission.try_batch(setup.channel_id, 0, (entry,), strict=True)
        created = open_signed(created, self.signer, result)
        driver = ChannelDriver(Engine.created(created, self.signer), 0, unstored=created)
        self.drivers[setup.channel_id] = driver
        self.base(driver).loaded = True
        self.input(setup.channel_id, lambda e, _: e.opened())
        return setup.channel_id

    def submit(self, channel: bytes, *payloads: bytes, kind: Kind = Kind.MESSAGE) -> list[int]:
        counters: list[int] = []

        def decide(engine: Engine, _: int) -> Step:
            first, step = engine.submit(payloads, kind)
            counters.extend(range(first, first + len(payloads)))
            return step

        self.input(channel, decide)
        return counters

    def input(self, channel: bytes, decide: Callable[[Engine, int], Step]) -> None:
        driver = self.drivers.get(channel)
        if driver is None:  # crashed meanwhile
            return
        try:
            self.drive(driver, decide(driver.engine, self.now()))
            if self.base(driver).is_due:
                self.base(driver).save()
            if self.snapshots(driver).is_due:
                self.snapshots(driver).save()
        except PeerError as error:
            self.refused.append(str(error))
        except Crash:
            self.crash()

    def receive(self, sender: Address, data: bytes) -> None:
        try:
            message = decode_message(data)
            driver = self.drivers.get(message.channel)
            if driver is None:
                self._unknown(sender, message)
                return
            participants = driver.engine.state.setup.participants
            if sender not in participants:
                raise PeerError("no participant")
        except PeerError as error:
            self.refused.append(str(error))
            return
        index = participants.index(sender)
        self.input(message.channel, lambda e, now: e.receive(index, message, now))

    def _unknown(self, sender: Address, message: Any) -> None:
        if not isinstance(message, Proposal) or message.participants[0] != sender:
            raise PeerError("unknown channel")
        created = created_from_proposal(message, self.signer.address, self.now())
        self.log.append(Append((StreamWrite(message.channel, 0, (encode_event(created),)),)))
        self.drivers[message.channel] = ChannelDriver(Engine.created(created, self.signer), 1)
        if self.accept:
            self.input(message.channel, lambda e, _: e.accept())

    # The driver's requests

    def drive(self, driver: ChannelDriver, step: Step) -> None:
        run = driver.run(step, self.now())
        answer: object = None
        while True:
            try:
                request = run.send(answer)
            except StopIteration:
                return
            answer = self._answer(driver, request)

    def _answer(self, driver: ChannelDriver, request: Any) -> object:
        match request:
            case Store():
                self._store(driver, request)
            case Ask(batch):
                return self._ask(driver, batch)
            case Do(effects, notices):
                for notice in notices:
                    if isinstance(notice, Refusals):
                        self.decided.extend((r.counter, r.code, r.reason) for r in notice.refused)
                for effect in effects:
                    self._do(driver, effect)
        return None

    def _store(self, driver: ChannelDriver, store: Store) -> None:
        if self.crash_in is not None:
            self.crash_in -= 1
            if self.crash_in <= 0:
                self.crash_in = None
                if self.net.random.random() < 0.5:  # after the write, before acting on it
                    self.log.append(store.append, durable=store.durable)
                    self.note_signed(store)
                raise Crash
        done = self.deliveries.take_done()
        outbox = {**done, **store.append.outbox}
        self.log.append(Append(store.append.writes, outbox), durable=store.durable)
        self.note_signed(store)

    def note_signed(self, store: Store) -> None:
        """What is durably signed may leave at any time: never two states of one turn (rule 2)."""
        for write in store.append.writes:
            for data in write.events:
                event = decode_event(data)
                if isinstance(event, StateSigned | StateCompleted):
                    key = (write.stream, event.state.turn)
                    content = encode_event(StateSigned(_unsigned(event.state)))
                    assert self.signed.setdefault(key, content) == content, f"{self.name} signed turn {key[1]} twice"

    def _ask(self, driver: ChannelDriver, batch: Any) -> object:
        channel = driver.engine.state.setup.channel_id
        try:
            if not self.base(driver).loaded:
                self.base(driver).load(batch.first_sequence)
            return self.admission.try_batch(channel, batch.first_sequence, batch.candidates, strict=batch.strict)
        except AdmissionError as error:
            return error

    def base(self, driver: ChannelDriver) -> AdmissionBase:
        """The channel's admission base, with a snapshot after every few entries."""
        if driver.stream not in self.bases:
            base = AdmissionBase(self.admission, self.log, self.source, driver, entries_min=SNAPSHOT_ENTRIES)
            self.bases[driver.stream] = base
        return self.bases[driver.stream]

    def snapshots(self, driver: ChannelDriver) -> StateSnapshots:
        """The channel's own state, saved every few events."""
        if driver.stream not in self.states:
            self.states[driver.stream] = StateSnapshots(self.log, driver, events_min=SNAPSHOT_EVENTS)
        return self.states[driver.stream]

    def _do(self, driver: ChannelDriver, effect: Any) -> None:
        channel = driver.engine.state.setup.channel_id
        participants = driver.engine.state.setup.participants
        match effect:
            case SendNow(peer, message):
                self.net.send(self, participants[peer], message, None)
            case CommitBatch():
                self.admission.commit(channel)
            case RollbackBatch():
                self.admission.rollback(channel)
            case LoadAdmission():
                self.base(driver).loaded = False
            case Fetch(peer, first, end):
                entries = tuple(self.source.entries(channel, first, end))
                message = encode_message(Entries(channel, first, entries))
                self.net.send(self, participants[peer], message, None)
            case Tell():
                self.told.append(effect)
            case SendRejected() | SendDecisions():
                self.deliver(driver, effect)
            case _:
                assert isinstance(effect, PENDING)
                self.say(driver, effect)

    def say(self, driver: ChannelDriver, send: Any) -> None:
        for message in driver.engine.materialize(send):
            self.net.send(self, driver.engine.state.setup.participants[send.peer], message, None)

    def deliver(self, driver: ChannelDriver, send: Any) -> None:
        messages = driver.engine.materialize(send)
        key = self.deliveries.begin(driver.stream, send, len(messages))
        deliveries = self.deliveries
        for message in messages:
            peer = driver.engine.state.setup.participants[send.peer]
            self.net.send(self, peer, message, lambda: deliveries.acknowledged(key))

    def tick(self) -> None:
        for stream in list(self.drivers):
            if self.up:
                self.input(stream, lambda e, now: e.tick(now))

    def supported(self, channel: bytes) -> list[bytes]:
        """The supported log."""
        return [entry for state, _ in advances(self.log, channel) for entry in state.entries]


def _unsigned(state: Any) -> Any:
    import msgspec

    return msgspec.structs.replace(state, signatures=())


class Sim:
    """The network and the clock. `faults` gives the probabilities of loss, duplication and reordering."""

    def __init__(
        self,
        count: int = 2,
        *,
        seed: int = 0,
        loss: float = 0.0,
        duplicate: float = 0.0,
        reorder: float = 0.0,
        make_admission: Callable[[], SumAdmission] = SumAdmission,
    ) -> None:
        self.random = random.Random(seed)
        self.loss, self.duplicate, self.reorder = loss, duplicate, reorder
        self.now_ms = START_MS
        self.queue: list[tuple[int, Address, bytes, Callable[[], None] | None]] = []
        self.tap: Callable[[int, Address, bytes], bytes | None] | None = None
        self.nodes = [SimNode(self, i, make_admission) for i in range(count)]

    def send(self, sender: SimNode, to: Address, data: bytes, acked: Callable[[], None] | None) -> None:
        if self.tap is not None:
            changed = self.tap(sender.index, to, data)
            if changed is None:
                return
            data = changed
        if self.random.random() < self.loss:
            return
        self.queue.append((sender.index, to, data, acked))
        if self.random.random() < self.duplicate:
            self.queue.append((sender.index, to, data, None))

    def forget_from(self, index: int) -> None:
        """A crash loses what was on its way from the node."""
        self.queue = [item for item in self.queue if item[0] != index or self.random.random() < 0.5]

    def step(self) -> bool:
        """Deliver one message; False when none waits."""
        if not self.queue:
            return False
        at = self.random.randrange(len(self.queue)) if self.random.random() < self.reorder else 0
        sender, to, data, acked = self.queue.pop(at)
        self.now_ms += 1
        for node in self.nodes:
            if node.signer.address == to and node.up:
                node.receive(self.nodes[sender].signer.address, data)
                if acked is not None and node.up:
                    acked()
        return True

    def run(self, steps: int = 10_000) -> None:
        """Deliver until nothing waits."""
        for _ in range(steps):
            if not self.step():
                return
        raise AssertionError("the network never came to rest")

    def tick(self, milliseconds: int = 1_000) -> None:
        self.now_ms += milliseconds
        for node in self.nodes:
            if node.up:
                node.tick()

    def settle(self, rounds: int = 40) -> None:
        """Heal every fault and let everybody catch up."""
        self.loss = self.duplicate = self.reorder = 0.0
        for node in self.nodes:
            node.crash_in = None
            if not node.up:
                node.start()
        self.run()
        for _ in range(rounds):
            self.tick(31_000)
            self.run()

    def check(self, channel: bytes) -> None:
        """Invariants that hold at every moment: logs are prefixes of each other and lead to the signed roots."""
        logs = [node.supported(channel) for node in self.nodes]
        longest = max(logs, key=len)
        for node, log in zip(self.nodes, logs, strict=True):
            assert log == longest[: len(log)], f"{node.name}'s log is no prefix"
