"""A network of nodes in one thread, every fault drawn from one seed; the real engine, driver and log.

A node is its disk (`disk.py`): a crash throws everything else away, and unsynced writes with it. Messages are lost,
doubled, reordered and delayed per draw; links can be cut. `settle` heals everything and runs until nothing moves.
Checkers look at the logs only.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from scapp.channels.admission import AdmissionError
from scapp.channels.admission_base import AdmissionBase
from scapp.channels.archive import Archive
from scapp.channels.books.step import BOOKS_STREAM
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
    TryBatch,
    parse_outbox_row,
)
from scapp.channels.channel.engine import Engine
from scapp.channels.channel.events import ChannelCreated, StateCompleted, StateSigned, decode_event, encode_event
from scapp.channels.channel.messages import Entries, Proposal, decode_message, encode_message
from scapp.channels.channel.opening import created_from_proposal, open_signed, opening_entry, prefund_of, virtual
from scapp.channels.channel.retiring import retirement
from scapp.channels.channel.session import Step
from scapp.channels.channel.setup import Setup
from scapp.channels.channel.terms import ChainTerms
from scapp.channels.deliveries import Deliveries
from scapp.channels.deployment import Deployment, Limits, encode_deployment
from scapp.channels.driver import ChannelDriver, Do, Refusals, Store, advances, load
from scapp.channels.entries import HEADER, Kind
from scapp.channels.errors import CorruptionError, LocalError, PeerError, ScappError
from scapp.channels.log.port import NODE_STREAM, Append, LogClosed, StreamWrite
from scapp.channels.log_source import LogSource
from scapp.channels.restoring import mark_restored, restored_ms
from scapp.channels.signing import Signer
from scapp.channels.state_snapshots import StateSnapshots
from scapp.channels.types import ZERO_ADDRESS, Address
from tests.support.checkers import require
from tests.support.disk import DiskLog, SimDisk
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

    def __init__(self, net: Sim, index: int, make_admission: Callable[[], Any]) -> None:
        self.net = net
        self.index = index
        self.name = NAMES[index]
        self.signer = Signer(KEYS[index])
        self.log = DiskLog(SimDisk())
        self.make_admission = make_admission
        self.clock_offset_ms = 0
        self.busy_until_ms = 0  # a slow disk holds up everything
        self.up = False
        self.fault = ""  # why this node refuses to start
        self.corrupt: dict[bytes, str] = {}  # channels that stay closed, and what is wrong with each
        self.damage_chance: float | None = None  # of a power cut; None: it takes exactly what is unsynced
        self.crash_in: int | None = None  # crash at that many stores from now
        self.signed: dict[tuple[bytes, int], bytes] = {}  # everything that ever left: (channel, turn) -> state hash
        self.refused: list[str] = []
        self.told: list[Tell] = []
        self.decided: list[tuple[int, str, str]] = []  # own submissions refused
        self.acknowledged: dict[tuple[bytes, int], bytes] = {}  # own entries told as accepted: (channel, counter)
        self.processed: set[bytes] = set()  # rows of the outbox whose message a peer has processed
        self.put_away: dict[bytes, list[Any]] = {}  # states of channels that went to the disk
        self.restores = 0
        self.blind = False  # it hears nothing of the chain
        self.accept = True
        self.start()

    def start(self) -> None:
        """Begin from the log, as `Node.start` does; a corrupt channel stays closed, others go on."""
        if self.fault:
            return
        self.admission = self.make_admission()
        self.archive = Archive(self.log, self.signer, self.net.terms)
        self.drivers = Drivers(self)
        self.bases: dict[bytes, AdmissionBase] = {}
        self.states: dict[bytes, StateSnapshots] = {}
        self.deliveries = Deliveries()
        self.source = LogSource(self.log, lambda: self.drivers, self.archive)
        self.up = True
        self.archive.fill(self.log.streams())
        for stream in self.log.streams():
            if stream in (NODE_STREAM, BOOKS_STREAM) or stream in self.archive:
                continue
            try:
                self.drivers[stream] = load(self.log, stream, self.signer, self.net.terms)
            except CorruptionError as error:
                self.corrupt[stream] = str(error)
        try:
            rows = self.log.outbox()
        except CorruptionError:
            self.net.saw("a corrupt outbox was passed over")
            rows = []
        for key, value in rows:
            channel, send = parse_outbox_row(key, value)
            if channel in self.drivers:
                self.deliver(self.drivers[channel], send)
        for stream, driver in list(self.drivers.items()):
            for pending in driver.engine.pending():
                self.say(driver, pending)
            if driver.engine.phase == "proposed" and self.accept:
                self.input(stream, lambda e, _: e.accept())
            for other in driver.engine.state.setup.others:
                self.input(stream, lambda e, _, other=other: e.link_up(other))

    def crash(self) -> None:
        """The process dies and the power goes: what is left is what the disk then holds."""
        disk = self.log.disk
        self.up = False
        self.drivers = Drivers(self)
        self.busy_until_ms = 0
        self.net.forget_from(self.index)
        if self.damage_chance is None:
            disk = disk.copy()
        else:
            disk.power_cut(self.net.random, self.damage_chance)
        self.reopen(disk)

    def stop(self) -> None:
        """The process ends in order."""
        self.up = False
        self.drivers = Drivers(self)
        try:
            self.log.close()
        except LogClosed:
            self.net.saw("a disk refused the last writes of an orderly stop")
        self.reopen(self.log.disk)

    def reopen(self, disk: SimDisk) -> None:
        """Find out what is on the disk; a log that cannot be opened keeps the node from starting."""
        try:
            self.log = DiskLog(disk)
        except CorruptionError as error:
            self.fault = str(error)

    def restore(self, backup: DiskLog) -> None:
        """The disk is lost, and what was on its way with it; a backup takes its place, and the node starts."""
        self.crash()
        self.net.queue = [item for item in self.net.queue if item[0] != self.index]
        self.restores += 1
        self.put_away = {}
        self.fault = ""
        self.corrupt = {}
        self.log = backup.durable_copy()
        token = self.net.random.getrandbits(128).to_bytes(16, "big")
        mark_restored(self.log, token, self.now(), self.now() - 1)
        self.start()

    def now(self) -> int:
        return self.net.now_ms + self.clock_offset_ms

    def engine(self, channel: bytes) -> Engine:
        return self.drivers[channel].engine

    # Inputs

    def open(
        self,
        peers: Sequence[SimNode],
        *,
        limits: Limits | None = None,
        slots: Sequence[int] = (),
        made: tuple[tuple[bytes, bytes, bytes], ...] = (),
        app_definition: bytes = ZERO_ADDRESS,
        challenge_duration: int = 60,
        deployment: Deployment | None = None,
        hubs: tuple[bytes, ...] | None = None,
        fees: Sequence[int] = (),
    ) -> bytes:
        """`slots` are amounts of the native coin, one per participant; `made` are whole slots instead. With `hubs`,
        none or more, the channel is virtual."""
        participants = (self.signer.address, *(p.signer.address for p in peers))
        made = made or tuple(
            (bytes(20), bytes(12) + p, amount.to_bytes(32, "big"))
            for p, amount in zip(participants, slots, strict=False)
        )
        deployment = deployment or Deployment(bytes(32), limits=limits or Limits())
        entry = opening_entry(participants, made, None, self.now())
        created = ChannelCreated(
            my_index=0,
            participants=participants,
            nonce=self.net.random.getrandbits(63),
            app_definition=app_definition,
            challenge_duration=challenge_duration,
            deployment=encode_deployment(deployment),
            slots=made,
            prefund=prefund_of(made, len(participants), entry, bytes(32), self.now()),
        )
        if hubs is not None:
            created = virtual(created, hubs, tuple(fee.to_bytes(32, "big") for fee in fees))
        return self.begin(created)

    def begin(self, created: ChannelCreated) -> bytes:
        """Open a channel of our own."""
        setup = Setup(created)
        self.admission.load(setup.context, ())
        result = self.admission.try_batch(setup.channel_id, 0, created.prefund.entries, strict=True)
        created = open_signed(created, self.signer, result)
        driver = ChannelDriver(Engine.created(created, self.signer, self.net.terms), 0, unstored=created)
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
            self.net.after_input(self, channel)
        except PeerError as error:
            self.refused.append(str(error))
        except LocalError:
            raise
        except ScappError as error:  # as `ChannelRunner` does
            driver.engine.session.failure = str(error)
            self.net.saw(f"a channel halted: {type(error).__name__}")
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
        if message.channel in self.corrupt or self.log.version(message.channel):
            raise PeerError("was here before and cannot be opened (rule 9)")
        if message.time_ms <= restored_ms(self.log):
            raise PeerError("was opened before this node was restored, and may have lived here (rule 9)")
        created = created_from_proposal(message, self.signer.address, self.now())
        fault = self.net.proposal_fault(self, Setup(created))
        if fault:
            raise PeerError(fault)
        try:
            self.append(Append((StreamWrite(message.channel, 0, (encode_event(created),)),)), durable=True)
        except LogClosed as error:
            raise PeerError(f"the log takes no more: {error}") from error
        self.drivers[message.channel] = ChannelDriver(Engine.created(created, self.signer, self.net.terms), 1)
        self.net.after_input(self, message.channel)
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
                session = driver.engine.session
                going = session.work is None or session.failure != ""
                require(going, "liveness: the answer of admission is waited for, unasked")
                return
            answer = self._answer(driver, request)

    def _answer(self, driver: ChannelDriver, request: Any) -> object:
        match request:
            case Store():
                self._store(driver, request)
            case TryBatch():
                return self._ask(driver, request)
            case Do(effects, notices):
                for notice in notices:
                    if isinstance(notice, Refusals):
                        self.decided.extend((r.counter, r.code, r.reason) for r in notice.refused)
                    else:
                        self._acknowledge(driver, notice.entries)
                for effect in effects:
                    self._do(driver, effect)
        return None

    def _acknowledge(self, driver: ChannelDriver, entries: Sequence[bytes]) -> None:
        """What its owner is told from here on never goes away again."""
        me = driver.engine.state.setup.my_index
        for data in entries:
            if HEADER.unpack_from(data)[1] == me:
                self.acknowledged[driver.stream, HEADER.unpack_from(data)[2]] = data

    def _store(self, driver: ChannelDriver, store: Store) -> None:
        if self.crash_in is not None:
            self.crash_in -= 1
            if self.crash_in <= 0:
                self.crash_in = None
                if self.net.random.random() < 0.5:  # after the write, before acting on it
                    self.append(store, durable=store.durable)
                    self.note_signed(store)
                    self.net.saw("a crash between a write and acting on it")
                else:
                    self.net.saw("a crash before a write")
                raise Crash
        done = self.deliveries.take_done()
        outbox = {**done, **store.outbox}
        self.append(Append(store.writes, outbox), durable=store.durable)
        self.note_signed(store)

    def append(self, append: Append, *, durable: bool) -> None:
        """Raises as the log does. A slow disk lets nothing of the node go on before it is done."""
        gone = {key for key, value in append.outbox.items() if value is None}
        assert gone <= self.processed, "1: a row of the outbox goes away before its peer has processed it"
        self.log.append(append, durable=durable)
        if durable and self.log.disk.slow_ms:
            self.net.saw("a disk was slow")
            self.busy_until_ms = max(self.net.now_ms, self.busy_until_ms) + self.log.disk.slow_ms

    def note_signed(self, store: Store) -> None:
        """What is durably signed may leave at any time: never two states of one turn (rule 2)."""
        for write in store.writes:
            for data in write.events:
                event = decode_event(data)
                if isinstance(event, StateSigned | StateCompleted):
                    key = (write.stream, event.state.turn)
                    content = encode_event(StateSigned(_unsigned(event.state)))
                    assert self.signed.setdefault(key, content) == content, f"2: {self.name} signed turn {key[1]} twice"

    def _ask(self, driver: ChannelDriver, batch: Any) -> object:
        channel = driver.engine.state.setup.channel_id
        try:
            if not self.base(driver).loaded:
                self.base(driver).load(batch.first_sequence)
                if self.base(driver).saved_at:
                    self.net.saw("a base was loaded from a snapshot")
                elif "snapshots" in self.log.disk.damaged:
                    self.net.saw("a damaged snapshot was passed over")
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
                if self.base(driver).loaded:
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
        if not messages:
            self.processed.add(key)

        def acked() -> None:
            self.processed.add(key)
            deliveries.acknowledged(key)

        for message in messages:
            self.net.send(self, driver.engine.state.setup.participants[send.peer], message, acked)

    def tick(self) -> None:
        for stream in list(self.drivers):
            if self.up:
                self._put_away(stream)
            if self.up and dict.__contains__(self.drivers, stream):
                self.input(stream, lambda e, now: e.tick(now, 0 if self.blind else self.net.head_time_s()))
                if self.up and self.accept and self.restores and self.drivers[stream].engine.phase == "proposed":
                    self.input(stream, lambda e, _: e.accept())  # its policy was asked before the restore

    def _put_away(self, stream: bytes) -> None:
        """As `PuttingAway` does, of whatever is over: whoever asks gets it from the disk."""
        driver = self.drivers[stream]
        fact = retirement(driver.engine.state)
        idle = not driver.engine.session.failure and driver.loaded() is not None
        if fact is None or not idle or self.deliveries.is_open(stream) or self.base(driver).loaded:
            return
        try:
            self.snapshots(driver).save_at_end()
            self.archive.add([(driver, fact)])
        except ScappError:
            self.net.saw("a disk took no fact that a channel is over")
            return
        self.net.saw("a channel that is over went to the disk")
        self.put_away[stream] = whole(driver)
        del self.drivers[stream]
        self.bases.pop(stream, None)
        self.states.pop(stream, None)

    def take_out(self, stream: bytes) -> ChannelDriver | None:
        """A channel that went to the disk: what it was when it went is what comes back, whatever has crashed."""
        driver = self.archive.take_out(stream) if self.up else None
        if driver is not None:
            self.net.saw("a channel that is over was asked for")
            before = self.put_away.get(stream, whole(driver))
            require(whole(driver) == before, "retired: a channel comes back from the disk as another")
            self.drivers[stream] = driver
        return driver

    def supported(self, channel: bytes) -> list[bytes]:
        """The supported log."""
        return [entry for state, _ in advances(self.log, channel) for entry in state.entries]

    @property
    def healthy(self) -> bool:
        """Can it start, with everything it had?"""
        return not self.fault and not self.corrupt


class Drivers(dict[bytes, ChannelDriver]):
    """A node's channels in memory by id; asked for one by its id, it has those on the disk as well."""

    def __init__(self, node: SimNode) -> None:
        super().__init__()
        self._node = node

    def __missing__(self, stream: bytes) -> ChannelDriver:
        found = self._node.take_out(stream)
        if found is None:
            raise KeyError(stream)
        return found

    def get(self, stream: bytes, default: Any = None) -> Any:
        return self[stream] if stream in self else default  # noqa: SIM401 - this is `get`

    def __contains__(self, stream: object) -> bool:
        return super().__contains__(stream) or (self._node.up and stream in self._node.archive)


def whole(driver: ChannelDriver) -> list[Any]:
    """All that is known of a channel, but for the fact that it is over."""
    state = driver.engine.state
    return [getattr(state, name) for name in state.__struct_fields__ if name != "setup"]


def _unsigned(state: Any) -> Any:
    import msgspec

    return msgspec.structs.replace(state, signatures=())


class Sim:
    """The network and the clock. `faults` gives the probabilities of loss, duplication and reordering."""

    terms: ChainTerms | None = None
    after_input: Callable[[SimNode, bytes], None] = staticmethod(lambda node, channel: None)
    proposal_fault: Callable[[SimNode, Setup], str] = staticmethod(lambda node, setup: "")

    def head_time_s(self) -> int:
        """Timestamp of the chain's newest block; here is no chain (`sim_chain.ChainSim` has one)."""
        return 0

    def __init__(
        self,
        count: int = 2,
        *,
        seed: int = 0,
        loss: float = 0.0,
        duplicate: float = 0.0,
        reorder: float = 0.0,
        make_admission: Callable[[], Any] = SumAdmission,
    ) -> None:
        self.random = random.Random(seed)
        self.loss, self.duplicate, self.reorder = loss, duplicate, reorder
        self.now_ms = START_MS
        self.delay_ms = 0
        self.queue: list[tuple[int, Address, bytes, Callable[[], None] | None, int]] = []
        self.cut: set[frozenset[int]] = set()  # pairs of nodes whose link is down
        self.seen: set[str] = set()  # what has happened, for coverage
        self.delivered = 0
        self.tap: Callable[[int, Address, bytes], bytes | None] | None = None
        self.nodes = [SimNode(self, i, make_admission) for i in range(count)]
        self.index_of = {node.signer.address: node.index for node in self.nodes}

    def saw(self, what: str) -> None:
        self.seen.add(what)

    def send(self, sender: SimNode, to: Address, data: bytes, acked: Callable[[], None] | None) -> None:
        if self.tap is not None:
            changed = self.tap(sender.index, to, data)
            if changed is None:
                return
            data = changed
        if self.cut and frozenset((sender.index, self.index_of[to])) in self.cut:
            self.saw("a message met a partition")
            return
        if self.random.random() < self.loss:
            self.saw("a message was lost")
            return
        due = max(self.now_ms, sender.busy_until_ms)
        if self.delay_ms:
            due += self.random.randrange(self.delay_ms)
        self.queue.append((sender.index, to, data, acked, due))
        if self.random.random() < self.duplicate:
            self.saw("a message was duplicated")
            self.queue.append((sender.index, to, data, None, due + self.random.randrange(self.delay_ms + 1)))

    def put(self, sender: int, to: Address, data: bytes, due_ms: int | None = None) -> None:
        """On its way past every fault of the network: what somebody replays or makes up."""
        self.queue.append((sender, to, data, None, self.now_ms if due_ms is None else due_ms))

    def forget_from(self, index: int) -> None:
        """A crash loses what was on its way from the node."""
        self.queue = [item for item in self.queue if item[0] != index or self.random.random() < 0.5]

    def part(self, indices: set[int]) -> None:
        """Nobody in `indices` hears anybody else."""
        others = {node.index for node in self.nodes} - indices
        self.cut |= {frozenset((a, b)) for a in indices for b in others}

    def heal_links(self) -> None:
        """Every link that is down comes up again."""
        for pair in sorted(self.cut, key=sorted):
            self.saw("a partition healed")
            self.cut.discard(pair)
            self.link_up(*sorted(pair))

    def reset(self, a: int, b: int) -> None:
        """The connection between two nodes breaks, with what was on its way, and comes back."""
        pair = {self.nodes[a].signer.address: b, self.nodes[b].signer.address: a}
        kept = [item for item in self.queue if pair.get(item[1]) != item[0]]
        if len(kept) < len(self.queue):
            self.saw("a connection broke with messages on it")
        self.queue = kept
        self.link_up(a, b)

    def link_up(self, a: int, b: int) -> None:
        """Both ends hear that they are connected."""
        for node, other in ((self.nodes[a], self.nodes[b]), (self.nodes[b], self.nodes[a])):
            for stream, driver in list(node.drivers.items()):
                participants = driver.engine.state.setup.participants
                if other.signer.address in participants:
                    index = participants.index(other.signer.address)
                    node.input(stream, lambda e, _, index=index: e.link_up(index))

    def _next(self) -> int:
        at = min(range(len(self.queue)), key=lambda i: self.queue[i][4])
        if self.random.random() < self.reorder:
            drawn = self.random.randrange(len(self.queue))
            if drawn != at:
                self.saw("messages changed places")
            return drawn
        return at

    def step(self, at: int | None = None) -> bool:
        """Deliver one message, the next or the one at that place of the queue; False when none waits."""
        if not self.queue:
            return False
        if at is None:
            at = self._next()
        sender, to, data, acked, due = self.queue.pop(at)
        self.now_ms = max(self.now_ms + 1, due)
        node = self.nodes[self.index_of[to]]
        if node.up and node.busy_until_ms > self.now_ms:
            self.queue.append((sender, to, data, acked, node.busy_until_ms))
            return True
        if node.up:
            self.delivered += 1
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
        """Heal every fault and let everybody catch up; a disk that lost what it had stays as it is."""
        self.loss = self.duplicate = self.reorder = 0.0
        self.delay_ms = 0
        self.heal_links()
        for node in self.nodes:
            node.crash_in = None
            node.log.disk.slow_ms = 0
            if node.log.disk.failing or any(d.engine.session.failure for d in node.drivers.values()):
                node.log.disk.failing = ""
                node.crash()
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
