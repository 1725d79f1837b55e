"""One channel at run time: an inbox, one task that drives the engine, and the receipts that local callers wait for.

`node.py` owns one `ChannelRunner` per channel and everything they share (`Shared`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from scapp.channels.admission import Admission, AdmissionError, Admitted
from scapp.channels.admission_base import AdmissionBase
from scapp.channels.channel.effects import (
    PENDING,
    CommitBatch,
    Effect,
    Fetch,
    LoadAdmission,
    PendingSend,
    RollbackBatch,
    SendDecisions,
    SendNow,
    SendRejected,
    StoredSend,
    Tell,
    TryBatch,
)
from scapp.channels.channel.engine import Engine
from scapp.channels.channel.events import Signed
from scapp.channels.channel.messages import Entries, encode_message
from scapp.channels.channel.session import NOTHING, Step
from scapp.channels.channel.signing_rules import StateSigner
from scapp.channels.channel.terms import ChainTerms
from scapp.channels.channel_info import channel_info
from scapp.channels.deliveries import Deliveries
from scapp.channels.driver import ChannelDriver, Do, Notice, Refusals, Request, Store
from scapp.channels.entries import HEADER, Kind
from scapp.channels.errors import LocalError, PeerError, ScappError
from scapp.channels.idle import IdleBound
from scapp.channels.log.port import Append, Committer, EventLog
from scapp.channels.log_source import LogSource
from scapp.channels.service import ChannelInfo, NodeEvent, Receipt
from scapp.channels.state_snapshots import StateSnapshots
from scapp.channels.transport.port import Transport
from scapp.channels.types import Address, ChannelId

logger = logging.getLogger("scapp.node")
# Of what channels tell, else info. Peers cause any number of refusals, of which only some lines are written.
LEVELS = {"refused": logging.WARNING, "halted": logging.ERROR}

FETCH_BYTES_MAX, FETCH_ENTRIES_MAX = 1_048_576, 10_000
INBOX_MAX = 10_000
FINISH_SECONDS = 2.0  # for the input at hand when the node stops
QUEUED_BYTES_MAX = 8_388_608  # of peers' messages per channel; beyond that their links wait

Input = Callable[[Engine, int], Step]  # decides one step from an engine and the time in milliseconds


@dataclass
class Shared:
    """What all channels of a node have in common."""

    signer: StateSigner
    log: EventLog
    committer: Committer
    transport: Transport
    admission: Admission
    clock_ms: Callable[[], int]
    source: LogSource
    emit: Callable[[NodeEvent], None]
    idle: IdleBound = field(default_factory=IdleBound)
    deliveries: Deliveries = field(default_factory=Deliveries)
    counters: Counter[str] = field(default_factory=Counter)
    stopping: bool = False
    terms: ChainTerms | None = None
    after_input: Callable[[ChannelRunner], None] = lambda _: None  # of a funded channel

    def send(self, peer: Address, message: bytes, on_acked: Callable[[], None] | None = None) -> bool:
        """False when it cannot be queued: status messages bring back what is not sent now."""
        try:
            self.transport.send(peer, message, on_acked)
        except LocalError as error:
            self.counters["sends_dropped"] += 1
            logger.log(logging.DEBUG if self.stopping else logging.WARNING, "peer 0x%s: %s", peer.hex(), error)
            return False
        return True

    async def store(self, append: Append, *, durable: bool) -> None:
        """Append, together with the removal of outbox rows that are done."""
        if durable:
            await self.committer.append(self._with_done(append))
            return
        append = self._with_done(append)
        if append.writes or append.outbox:
            await asyncio.to_thread(self.log.append, append, durable=False)

    def enqueue(self, append: Append, then: Callable[[Exception | None], None]) -> None:
        """The same durably, begun when this returns; see `Committer.enqueue`."""
        self.committer.enqueue(self._with_done(append), then)

    def _with_done(self, append: Append) -> Append:
        done = self.deliveries.take_done()
        return Append(append.writes, {**done, **append.outbox}) if done else append


class ChannelRunner:
    """Belongs to the node's event loop."""

    def __init__(self, shared: Shared, driver: ChannelDriver) -> None:
        self._shared = shared
        self.driver = driver
        self._inbox: asyncio.Queue[tuple[Input, asyncio.Future[None] | None]] = asyncio.Queue(INBOX_MAX)
        self._receipts: dict[int, asyncio.Future[Receipt]] = {}
        self._changed = asyncio.Event()
        self._queued_bytes = 0
        self._room = asyncio.Event()
        self._funded = driver.engine.state.setup.funded
        self._stopping = self._busy = False  # busy: an input is being driven
        self._asking = False  # admission runs a batch in a worker thread
        self.used_ms = shared.clock_ms()  # when the last input came
        self.base = AdmissionBase(shared.admission, shared.log, shared.source, driver)
        self.snapshots = StateSnapshots(shared.log, driver)
        self._task = asyncio.create_task(self._serve(), name=f"scapp-channel-{driver.stream.hex()[:8]}")

    @property
    def engine(self) -> Engine:
        return self.driver.engine

    @property
    def channel_id(self) -> ChannelId:
        return self.engine.state.setup.channel_id

    @property
    def participants(self) -> tuple[Address, ...]:
        return self.engine.state.setup.participants

    def is_idle(self) -> bool:
        """Is there no input, and nobody who waits for a receipt?"""
        return not self._busy and self._inbox.empty() and not self._receipts

    async def stop(self) -> None:
        """End the task, answer waiting callers with "pending", free admission.

        The input at hand is finished first, unless a batch is running that may take long."""
        self._stopping = True
        self.try_input(lambda engine, now_ms: NOTHING)  # wakes a task that waits for input
        if not self._asking:
            await asyncio.wait([self._task], timeout=FINISH_SECONDS)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        for counter, future in self._receipts.items():
            if not future.done():
                future.set_result(Receipt(counter=counter, status="pending"))
        await asyncio.to_thread(self._unload)
        self._shared.idle.freed(self.channel_id)

    # Inputs

    async def input(self, decide: Input) -> None:
        """Queue an input; returns when it and what follows from it are stored and done. Raises its ScappError."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await self._inbox.put((decide, done))
        await done

    async def queue(self, decide: Input, size: int) -> None:
        """Queue a peer's message of `size` bytes; returns when it is queued, in order with all other inputs."""
        while self._queued_bytes >= QUEUED_BYTES_MAX:
            self._room.clear()
            await self._room.wait()
        self._queued_bytes += size

        def taken(engine: Engine, now_ms: int) -> Step:
            self._queued_bytes -= size
            self._room.set()
            return decide(engine, now_ms)

        await self._inbox.put((taken, None))

    def try_input(self, decide: Input) -> None:
        """For inputs that come again by themselves: a full inbox drops them."""
        with contextlib.suppress(asyncio.QueueFull):
            self._inbox.put_nowait((decide, None))

    async def submit(self, payloads: Sequence[bytes], kind: Kind) -> list[tuple[int, asyncio.Future[Receipt]]]:
        """Submit, and get for each counter the future of its receipt."""
        loop = asyncio.get_running_loop()
        futures: list[tuple[int, asyncio.Future[Receipt]]] = []

        def decide(engine: Engine, _: int) -> Step:
            first, step = engine.submit(payloads, kind)
            for counter in range(first, first + len(payloads)):
                future: asyncio.Future[Receipt] = loop.create_future()
                self._receipts[counter] = future
                futures.append((counter, future))
            return step

        await self.input(decide)
        return futures

    async def _serve(self) -> None:
        while not self._stopping:
            self._busy = False
            decide, done = await self._inbox.get()
            self._busy, self.used_ms = True, self._shared.clock_ms()
            error: ScappError | None = None
            try:
                await self._drive(decide(self.engine, self.used_ms))
                if self._funded and not self._stopping:  # of one that leaves memory nobody keeps anything
                    self._shared.after_input(self)
                for kept in (self.base, self.snapshots):
                    if kept.is_due:
                        await asyncio.to_thread(kept.save)
                await self._keep_or_free()
            except PeerError as refused:
                error = refused
                self._shared.counters["messages_refused"] += 1
                logger.warning("channel 0x%s: refused: %s", self.channel_id.hex(), refused)
            except LocalError as refused:
                error = refused
            except ScappError as failed:
                error = failed
                self._halt(str(failed))
            except Exception as bug:
                logger.exception("channel 0x%s: a bug stopped it", self.channel_id.hex())
                error = ScappError(f"internal error: {bug!r}")
                self._halt(str(error))
            if done is not None and not done.done():
                done.set_exception(error) if error is not None else done.set_result(None)

    def set_aside(self) -> None:
        """See `idle.Holder`. Only the channel's own task frees its base, between two inputs."""

        def asked(engine: Engine, now_ms: int) -> Step:
            self.base.asked_aside = True
            return NOTHING

        self.try_input(asked)

    async def _keep_or_free(self) -> None:
        """What becomes of the admission base until the next input."""
        base, idle = self.base, self._shared.idle
        if base.should_go:
            await asyncio.to_thread(base.set_aside)
            self._shared.counters["admission_set_aside"] += 1
            idle.freed(self.channel_id)
        elif base.loaded and (base.used or base.asked_aside):
            idle.used(self, base.keep(), idle=base.is_idle)

    def _halt(self, reason: str) -> None:
        self.engine.session.failure = reason
        self._shared.counters["channels_halted"] += 1
        logger.error("channel 0x%s halted: %s", self.channel_id.hex(), reason)
        self.tell("halted", reason)

    # The driver's requests

    async def _drive(self, step: Step) -> None:
        run = self.driver.run(step, self._shared.clock_ms())
        answer: object = None
        while True:
            try:
                request = run.send(answer)
            except StopIteration:
                return
            answer = await self._answer(request)

    async def _answer(self, request: Request) -> object:
        match request:
            case Store():
                await self._shared.store(request, durable=request.durable)
            case TryBatch():
                return await asyncio.to_thread(self._ask, request)
            case Do(effects, notices):
                for notice in notices:
                    self._hear(notice)
                for effect in effects:
                    await self._do(effect)
        return None

    def _hear(self, notice: Notice) -> None:
        match notice:
            case Refusals(refused):
                for item in refused:
                    self._settle(Receipt(counter=item.counter, status="refused", code=item.code, reason=item.reason))
                    self.tell("submission_refused", f"{item.counter}: {item.code}: {item.reason}")
            case Signed():
                self._advanced(notice)

    def _ask(self, batch: TryBatch) -> Admitted | AdmissionError:
        self._asking = True  # in a worker thread; the channel's task waits, so nothing else touches this channel
        try:
            return self.base.try_batch(batch)
        finally:
            self._asking = False

    def _unload(self) -> None:
        # A batch that still runs holds admission's lock, for minutes at worst: unloading ends it, saving would wait.
        if not self.engine.session.failure and not self._asking:
            self.base.save()
            self.snapshots.save_at_end()
        self.base.unload()

    async def _do(self, effect: Effect) -> None:
        match effect:
            case SendNow(peer, message):
                self._shared.send(self.participants[peer], message)
            case CommitBatch():
                await asyncio.to_thread(self.base.commit)
            case RollbackBatch():
                if self.base.loaded:
                    await asyncio.to_thread(self.base.rollback)
            case LoadAdmission():
                self.base.loaded = False
            case Fetch():
                await self._send_entries(effect)
            case Tell(kind, detail):
                text = f"{kind}: {detail}" if detail else kind
                logger.log(LEVELS.get(kind, logging.INFO), "channel 0x%s: %s", self.channel_id.hex(), text)
                self._shared.counters[f"told_{kind}"] += 1
                self.tell(kind, detail)
            case SendRejected() | SendDecisions():
                self.deliver(effect)
            case _:
                assert isinstance(effect, PENDING)
                self.say(effect)

    # Sending

    def say(self, send: PendingSend) -> None:
        """Say what the state says is pending."""
        for message in self.engine.materialize(send):
            self._shared.send(self.participants[send.peer], message)

    def deliver(self, send: StoredSend) -> None:
        """Say what an outbox row stands for, and forget the row once it is acknowledged (or cannot be queued)."""
        messages = self.engine.materialize(send)
        deliveries = self._shared.deliveries
        key = deliveries.begin(self.channel_id, send, len(messages))
        for message in messages:
            if not self._shared.send(self.participants[send.peer], message, lambda: deliveries.acknowledged(key)):
                deliveries.acknowledged(key)

    async def _send_entries(self, fetch: Fetch) -> None:
        end = min(fetch.end, fetch.first + FETCH_ENTRIES_MAX)
        chosen: list[bytes] = []
        size = 0
        for entry in await asyncio.to_thread(self._shared.source.entries, self.channel_id, fetch.first, end):
            size += len(entry)
            if chosen and size > FETCH_BYTES_MAX:
                break
            chosen.append(entry)
        answer = Entries(self.channel_id, fetch.first, tuple(chosen))
        self._shared.send(self.participants[fetch.peer], encode_message(answer))

    # Telling

    def _advanced(self, state: Signed) -> None:
        self._shared.counters["batches_supported"] += 1
        if self._receipts:
            me = self.engine.state.setup.my_index
            for sequence, entry in enumerate(state.entries, state.sequence - len(state.entries)):
                _, author, counter, _ = HEADER.unpack_from(entry)
                if author == me:
                    self._settle(Receipt(counter=counter, status="accepted", sequence=sequence, turn=state.turn))
        kind = "closed" if state.is_final else "opened" if state.turn == 1 else "supported"
        self.tell(kind, "", state.sequence, state.turn)

    def _settle(self, receipt: Receipt) -> None:
        self._shared.counters[f"submissions_{receipt.status}"] += 1
        future = self._receipts.pop(receipt.counter, None)
        if future is not None and not future.done():
            future.set_result(receipt)

    def tell(self, kind: str, detail: str = "", sequence: int | None = None, turn: int | None = None) -> None:
        """Tell the node's listeners, and whoever waits for a phase."""
        self._changed.set()
        self._changed = asyncio.Event()
        self._shared.emit(NodeEvent(kind=kind, channel_id=self.channel_id, sequence=sequence, turn=turn, detail=detail))

    async def wait_phase(self, phases: Sequence[str]) -> ChannelInfo:
        while self.engine.phase not in phases:
            await self._changed.wait()
        return self.info()

    async def wait_until(self, holds: Callable[[Engine], bool], timeout: float) -> bool:
        """Wait until something told of the channel makes it so; False when it takes longer than `timeout` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while not holds(self.engine):
                    await self._changed.wait()
                return True
        return False

    def info(self) -> ChannelInfo:
        """The channel as its owner sees it."""
        return channel_info(self.engine, len(self._receipts))
