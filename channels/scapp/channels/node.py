"""The node: one asyncio shell around all channel engines, the log, the transport and admission.

Per channel one task takes inputs from an inbox, one at a time, and drives the engine (`driver.py`): store, then
act. What is signed leaves only after the append that records it has returned. Admission runs in worker threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

from scapp.channels.admission import Admission, AdmissionError, Admitted
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
    parse_outbox_row,
)
from scapp.channels.channel.engine import Engine
from scapp.channels.channel.events import ChannelCreated, Signed, encode_event
from scapp.channels.channel.messages import Entries, Message, Proposal, Rejected, decode_message, encode_message
from scapp.channels.channel.opening import created_from_proposal, open_signed, opening_entry, prefund_of
from scapp.channels.channel.session import Step
from scapp.channels.channel.setup import Setup
from scapp.channels.channel.signing_rules import StateSigner
from scapp.channels.deliveries import Deliveries
from scapp.channels.deployment import Deployment, encode_deployment
from scapp.channels.driver import Advanced, Ask, ChannelDriver, Do, Refusals, Request, Store, load
from scapp.channels.entries import HEADER, Kind
from scapp.channels.errors import CorruptionError, LocalError, PeerError, ScappError
from scapp.channels.log.port import NODE_STREAM, Append, EventLog, StreamWrite
from scapp.channels.log_source import LogSource
from scapp.channels.peer_book import PeerBook
from scapp.channels.service import ChannelInfo, NodeEvent, OpenRequest, Receipt
from scapp.channels.transport.port import PeerStatus, Transport
from scapp.channels.types import ZERO_ADDRESS, Address, ChannelId

logger = logging.getLogger("scapp.node")

TICK_SECONDS = 0.5
FETCH_BYTES_MAX = 1_048_576
FETCH_ENTRIES_MAX = 10_000
INBOX_MAX = 10_000


class Committer(Protocol):
    """`scapp.channels.log.committer.Committer`, as far as the node needs it."""

    async def append(self, append: Append) -> None: ...


class Policy(Protocol):
    """Decides about channels that others propose. Pure: it is asked once per proposal."""

    def decide(self, proposer: Address, deployment: Deployment, created: ChannelCreated) -> str:
        """ "accept", "ask" (leave it to the operator), or "reject: reason"."""
        ...


Input = Callable[[Engine, int], Step]


class _Channel:
    """One channel at run time."""

    def __init__(self, driver: ChannelDriver) -> None:
        self.driver = driver
        self.inbox: asyncio.Queue[tuple[Input, asyncio.Future[None] | None]] = asyncio.Queue(INBOX_MAX)
        self.receipts: dict[int, asyncio.Future[Receipt]] = {}
        self.changed = asyncio.Event()
        self.loaded = False
        self.task: asyncio.Task[None] | None = None

    @property
    def engine(self) -> Engine:
        return self.driver.engine


class Node:
    """Implements `service.NodeService`. `clock_ms` gives milliseconds since 1970, `nonce` fresh 64-bit numbers."""

    def __init__(
        self,
        *,
        signer: StateSigner,
        log: EventLog,
        committer: Committer,
        transport: Transport,
        admission: Admission,
        policy: Policy,
        clock_ms: Callable[[], int],
        nonce: Callable[[], int],
    ) -> None:
        self._signer = signer
        self._log = log
        self._committer = committer
        self._transport = transport
        self._admission = admission
        self._policy = policy
        self._clock_ms = clock_ms
        self._nonce = nonce
        self._channels: dict[bytes, _Channel] = {}
        self._creating: dict[bytes, asyncio.Lock] = {}
        self._deliveries = Deliveries()
        self._counters: Counter[str] = Counter()
        self._listeners: list[Callable[[NodeEvent], None]] = []
        self._linked: set[Address] = set()
        self._ticker: asyncio.Task[None] | None = None
        self._book = PeerBook(log)
        self._stopping = False
        self.source = LogSource(log, self._drivers)

    def _drivers(self) -> dict[bytes, ChannelDriver]:
        return {channel_id: channel.driver for channel_id, channel in list(self._channels.items())}

    # Life

    async def start(self) -> None:
        """Rebuild every channel from the log, then talk to peers. A corrupt channel is halted, others go on."""
        for stream in await asyncio.to_thread(self._log.streams):
            if stream != NODE_STREAM:
                await self._load(stream)
        await self._transport.start(self._on_message, self._on_link)
        for address, endpoint in self._book.peers().items():
            self._transport.add_peer(address, endpoint)
        self._resend_outbox()
        self._ticker = asyncio.create_task(self._tick_forever(), name="scapp-ticker")

    async def _load(self, stream: bytes) -> None:
        try:
            driver = await asyncio.to_thread(load, self._log, stream, self._signer)
        except CorruptionError as error:
            self._count("channels_corrupt")
            logger.error("channel 0x%s is corrupt and stays closed: %s", stream.hex(), error)
            return
        self._begin(driver)

    def _begin(self, driver: ChannelDriver) -> _Channel:
        channel = _Channel(driver)
        self._channels[driver.stream] = channel
        channel.task = asyncio.create_task(self._serve(channel), name=f"scapp-channel-{driver.stream.hex()[:8]}")
        return channel

    async def stop(self) -> None:
        """Stop talking, finish what is being stored, free admission. The log stays open: its owner closes it."""
        self._stopping = True
        if self._ticker is not None:
            self._ticker.cancel()
        await self._transport.stop()
        tasks = [c.task for c in self._channels.values() if c.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for channel in self._channels.values():
            self._settle_receipts(channel)
            if channel.loaded:
                await asyncio.to_thread(self._admission.unload, ChannelId(channel.driver.stream))

    def _settle_receipts(self, channel: _Channel) -> None:
        for counter, future in channel.receipts.items():
            if not future.done():
                future.set_result(Receipt(counter=counter, status="pending"))

    # One channel: inputs, and the driver's requests

    async def _serve(self, channel: _Channel) -> None:
        while True:
            decide, done = await channel.inbox.get()
            try:
                step = decide(channel.engine, self._clock_ms())
                await self._drive(channel, step)
                if done is not None and not done.done():
                    done.set_result(None)
            except PeerError as error:
                self._refuse_peer(channel.driver.stream, error)
                self._fail(done, error)
            except LocalError as error:
                self._fail(done, error)
            except ScappError as error:
                self._halt(channel, str(error))
                self._fail(done, error)
            except Exception as error:
                logger.exception("channel 0x%s: a bug stopped it", channel.driver.stream.hex())
                self._halt(channel, f"internal error: {error!r}")
                self._fail(done, ScappError(f"internal error: {error!r}"))

    @staticmethod
    def _fail(done: asyncio.Future[None] | None, error: Exception) -> None:
        if done is not None and not done.done():
            done.set_exception(error)

    def _halt(self, channel: _Channel, reason: str) -> None:
        channel.engine.session.failure = reason
        self._count("channels_halted")
        logger.error("channel 0x%s halted: %s", channel.driver.stream.hex(), reason)
        self._tell(channel, "halted", reason)

    async def _drive(self, channel: _Channel, step: Step) -> None:
        run = channel.driver.run(step, self._clock_ms())
        answer: object = None
        while True:
            try:
                request = run.send(answer)
            except StopIteration:
                return
            answer = await self._answer(channel, request)

    async def _answer(self, channel: _Channel, request: Request) -> object:
        match request:
            case Store():
                await self._store(request)
            case Ask():
                return await asyncio.to_thread(self._ask, channel, request.batch)
            case Do():
                await self._do(channel, request.effect)
            case Refusals():
                for refused in request.refused:
                    self._settle(channel, refused.counter, status="refused", code=refused.code, reason=refused.reason)
            case Advanced():
                self._advanced(channel, request.state)
        return None

    async def _store(self, store: Store) -> None:
        done = self._deliveries.take_done()
        append = store.append
        if done:
            append = Append(append.writes, {**done, **append.outbox})
        if store.durable:
            await self._committer.append(append)
        else:
            await asyncio.to_thread(self._log.append, append, durable=False)

    def _ask(self, channel: _Channel, batch: TryBatch) -> Admitted | AdmissionError:
        """In a worker thread: the channel's task waits for it, so nothing else touches this channel."""
        channel_id = ChannelId(channel.driver.stream)
        try:
            if not channel.loaded:
                self._load_admission(channel, batch.first_sequence)
            return self._admission.try_batch(channel_id, batch.first_sequence, batch.candidates, strict=batch.strict)
        except AdmissionError as error:
            return error

    def _load_admission(self, channel: _Channel, sequence: int) -> None:
        """Replay the entries before `sequence` and compare with what is signed, before anything is signed again."""
        state = channel.engine.state
        entries = self.source.entries(ChannelId(channel.driver.stream), 0, sequence)
        base = self._admission.load(state.setup.context, entries)
        head = state.head
        if head is not None and head.sequence == sequence:
            amounts = state.setup.unpack(head.amounts)
            if base.state_root != head.state_root or base.amounts != amounts:
                raise AdmissionError(
                    f"replaying {len(entries)} entries gives root 0x{base.state_root.hex()}, "
                    f"turn {head.turn} is signed with 0x{head.state_root.hex()}"
                )
        channel.loaded = True

    async def _do(self, channel: _Channel, effect: Effect) -> None:
        channel_id = ChannelId(channel.driver.stream)
        match effect:
            case SendNow(peer, message):
                self._send(channel.engine.state.setup.participants[peer], message, None)
            case CommitBatch():
                await asyncio.to_thread(self._admission.commit, channel_id)
            case RollbackBatch():
                if channel.loaded:
                    await asyncio.to_thread(self._admission.rollback, channel_id)
            case LoadAdmission():
                channel.loaded = False
            case Fetch():
                await self._send_entries(channel, effect)
            case Tell(kind, detail):
                log = logger.warning if kind in ("refused", "halted") else logger.info
                log("channel 0x%s: %s: %s", channel_id.hex(), kind, detail)
                self._count(f"told_{kind}")
                self._tell(channel, kind, detail)
            case SendRejected() | SendDecisions():
                self._deliver(channel, effect)
            case _:
                assert isinstance(effect, PENDING)
                self._say(channel, effect)

    # Sending

    def _say(self, channel: _Channel, send: PendingSend) -> None:
        peer = channel.engine.state.setup.participants[send.peer]
        for message in channel.engine.materialize(send):
            self._send(peer, message, None)

    def _deliver(self, channel: _Channel, send: StoredSend) -> None:
        setup = channel.engine.state.setup
        messages = channel.engine.materialize(send)
        key = self._deliveries.begin(setup.channel_id, send, len(messages))
        for message in messages:
            if not self._send(setup.participants[send.peer], message, lambda: self._deliveries.acknowledged(key)):
                self._deliveries.acknowledged(key)

    def _send(self, peer: Address, message: bytes, on_acked: Callable[[], None] | None) -> bool:
        """False when the peer's queue is full: status messages bring back what is not sent now."""
        try:
            self._transport.send(peer, message, on_acked)
        except LocalError as error:
            self._count("sends_dropped")
            logger.warning("peer 0x%s: %s", peer.hex(), error)
            return False
        return True

    def _resend_outbox(self) -> None:
        for key, value in self._log.outbox():
            channel_id, send = parse_outbox_row(key, value)
            channel = self._channels.get(channel_id)
            if channel is not None:
                self._deliver(channel, send)
        for channel in self._channels.values():
            for pending in channel.engine.pending():
                self._say(channel, pending)

    async def _send_entries(self, channel: _Channel, fetch: Fetch) -> None:
        setup = channel.engine.state.setup
        chosen: list[bytes] = []
        size = 0
        end = min(fetch.end, fetch.first + FETCH_ENTRIES_MAX)
        for entry in await asyncio.to_thread(self.source.entries, setup.channel_id, fetch.first, end):
            size += len(entry)
            if chosen and size > FETCH_BYTES_MAX:
                break
            chosen.append(entry)
        message = encode_message(Entries(setup.channel_id, fetch.first, tuple(chosen)))
        self._send(setup.participants[fetch.peer], message, None)

    # Receiving

    async def _on_message(self, peer: Address, data: bytes) -> None:
        """Returns when the message is processed and what follows from it is durable."""
        self._count("messages_received")
        try:
            message = decode_message(data)
            channel = self._channels.get(message.channel)
            if channel is None:
                await self._unknown_channel(peer, message)
                return
            participants = channel.engine.state.setup.participants
            if peer not in participants:
                raise PeerError(f"0x{peer.hex()} is no participant of channel 0x{message.channel.hex()}")
            index = participants.index(peer)
        except PeerError as error:
            self._refuse_peer(None, error, peer)
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await channel.inbox.put((lambda engine, now: engine.receive(index, message, now), done))
        with contextlib.suppress(ScappError):  # counted and logged where it was raised
            await done

    async def _unknown_channel(self, peer: Address, message: Message) -> None:
        if not isinstance(message, Proposal):
            raise PeerError(f"{type(message).__name__} for unknown channel 0x{message.channel.hex()}")
        if message.participants[0] != peer:
            raise PeerError(f"0x{peer.hex()} proposes a channel of 0x{message.participants[0].hex()}")
        async with self._creating.setdefault(message.channel, asyncio.Lock()):
            if message.channel in self._channels:
                return
            created = created_from_proposal(message, self._signer.address, self._clock_ms())
            deployment = Setup(created).deployment
            decision = self._policy.decide(peer, deployment, created)
            if decision.startswith("reject"):
                # Nothing is stored for a stranger's proposal that policy turns down: nothing was signed.
                reason = decision.partition(":")[2].strip() or "not accepted here"
                self._count("proposals_rejected")
                logger.warning("peer 0x%s: proposal rejected: %s", peer.hex(), reason)
                for other in message.participants:
                    if other != self._signer.address:
                        self._send(Address(other), encode_message(Rejected(message.channel, reason)), None)
                return
            channel = await self._create(message.channel, created)
            self._tell(channel, "proposed", f"by 0x{peer.hex()}")
        if decision == "accept":
            await self._input(channel, lambda engine, _: engine.accept())
        self._creating.pop(message.channel, None)

    async def _create(self, stream: bytes, created: ChannelCreated) -> _Channel:
        await self._committer.append(Append((StreamWrite(stream, 0, (encode_event(created),)),)))
        return self._begin(ChannelDriver(Engine.created(created, self._signer), 1))

    def _refuse_peer(self, stream: bytes | None, error: PeerError, peer: Address | None = None) -> None:
        self._count("messages_refused")
        where = f"channel 0x{stream.hex()}" if stream is not None else f"peer 0x{(peer or b'').hex()}"
        logger.warning("%s: refused: %s", where, error)

    def _on_link(self, peer: Address, connected: bool) -> None:
        (self._linked.add if connected else self._linked.discard)(peer)
        self._emit(NodeEvent(kind="link", peer=peer, detail="up" if connected else "down"))
        if not connected:
            return
        for channel in self._channels.values():
            participants = channel.engine.state.setup.participants
            if peer in participants:
                index = participants.index(peer)
                self._try_input(channel, lambda engine, _, index=index: engine.link_up(index))  # type: ignore[misc]

    async def _tick_forever(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            for channel in self._channels.values():
                if channel.engine.state.phase not in ("closed", "rejected", "proposed"):
                    self._try_input(channel, lambda engine, now: engine.tick(now))
            done = self._deliveries.take_done()
            if done:
                await asyncio.to_thread(self._log.append, Append((), done), durable=False)

    @staticmethod
    def _try_input(channel: _Channel, decide: Input) -> None:
        """For inputs that come again by themselves: a full inbox drops them."""
        with contextlib.suppress(asyncio.QueueFull):
            channel.inbox.put_nowait((decide, None))

    async def _input(self, channel: _Channel, decide: Input) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await channel.inbox.put((decide, done))
        await done

    # Telling

    def subscribe(self, listener: Callable[[NodeEvent], None]) -> Callable[[], None]:
        """See `service.NodeService.subscribe`."""
        self._listeners.append(listener)

        def end() -> None:
            with contextlib.suppress(ValueError):
                self._listeners.remove(listener)

        return end

    def _emit(self, event: NodeEvent) -> None:
        for listener in list(self._listeners):
            try:
                listener(event)
            except Exception:
                logger.exception("a listener failed and is dropped")
                self._listeners.remove(listener)

    def _tell(
        self, channel: _Channel, kind: str, detail: str = "", sequence: int | None = None, turn: int | None = None
    ) -> None:
        channel.changed.set()
        channel.changed = asyncio.Event()
        channel_id = ChannelId(channel.driver.stream)
        self._emit(NodeEvent(kind=kind, channel_id=channel_id, sequence=sequence, turn=turn, detail=detail))

    def _advanced(self, channel: _Channel, state: Signed) -> None:
        self._count("batches_supported")
        if channel.receipts:
            me = channel.engine.state.setup.my_index
            for sequence, entry in enumerate(state.entries, state.sequence - len(state.entries)):
                _, author, counter, _ = HEADER.unpack_from(entry)
                if author == me:
                    self._settle(channel, counter, status="accepted", sequence=sequence, turn=state.turn)
        kind = "closed" if state.is_final else "opened" if state.turn == 1 else "supported"
        self._tell(channel, kind, "", state.sequence, state.turn)

    def _settle(
        self,
        channel: _Channel,
        counter: int,
        *,
        status: str,
        sequence: int | None = None,
        turn: int | None = None,
        code: str = "",
        reason: str = "",
    ) -> None:
        self._count(f"submissions_{status}")
        future = channel.receipts.pop(counter, None)
        if future is not None and not future.done():
            future.set_result(
                Receipt(counter=counter, status=status, sequence=sequence, turn=turn, code=code, reason=reason)
            )

    def _count(self, name: str) -> None:
        self._counters[name] += 1

    # The local service

    @property
    def address(self) -> Address:
        return self._signer.address

    def counters(self) -> dict[str, int]:
        return dict(self._counters)

    def peers(self) -> list[PeerStatus]:
        return self._transport.peers()

    def add_peer(self, address: Address, endpoint: str) -> None:
        self._book.remember(address, endpoint)
        self._transport.add_peer(address, endpoint)

    def channels(self) -> list[ChannelInfo]:
        return [self._info(channel) for channel in self._channels.values()]

    def channel(self, channel_id: ChannelId) -> ChannelInfo:
        return self._info(self._find(channel_id))

    def _find(self, channel_id: bytes) -> _Channel:
        channel = self._channels.get(channel_id)
        if channel is None:
            raise LocalError(f"no channel 0x{channel_id.hex()} at this node")
        return channel

    def _info(self, channel: _Channel) -> ChannelInfo:
        engine = channel.engine
        state = engine.state
        head = state.head
        setup = state.setup
        return ChannelInfo(
            channel_id=setup.channel_id,
            phase=engine.phase,
            waiting_for=engine.waiting_for,
            participants=setup.participants,
            my_index=setup.my_index,
            deployment=setup.deployment,
            deployment_id=setup.deployment_id,
            slots=setup.slots,
            turn=head.turn if head else None,
            signed_turn=state.signed_turn if state.signed_turn >= 0 else None,
            sequence=state.sequence,
            log_root=state.log_root,
            state_root=head.state_root if head else bytes(32),
            amounts=setup.unpack(head.amounts) if head else setup.start_amounts,
            time_ms=state.time_ms,
            pending=len(state.outstanding) or len(channel.receipts),
            reason=state.rejected or engine.session.failure,
        )

    async def open_channel(self, request: OpenRequest) -> ChannelId:
        """See `service.NodeService.open_channel`."""
        participants = (self.address, *request.peers)
        slots = tuple((a, d, v.to_bytes(32, "big")) for a, d, v in request.slots)
        now = self._clock_ms()
        entry = opening_entry(participants, slots, request.params, now)
        created = ChannelCreated(
            my_index=0,
            participants=participants,
            nonce=self._nonce() if request.nonce is None else request.nonce,
            app_definition=ZERO_ADDRESS,
            challenge_duration=request.challenge_duration,
            deployment=encode_deployment(request.deployment),
            slots=slots,
            prefund=prefund_of(slots, len(participants), entry, bytes(32), now),
        )
        setup = Setup(created)
        if setup.channel_id in self._channels or self._log.version(setup.channel_id):
            raise LocalError(f"channel 0x{setup.channel_id.hex()} exists already; choose another nonce")
        try:
            await asyncio.to_thread(self._admission.load, setup.context, ())
            result = await asyncio.to_thread(self._admission.try_batch, setup.channel_id, 0, (entry,), strict=True)
        except AdmissionError as error:
            raise LocalError(str(error)) from error
        created = open_signed(created, self._signer, result)
        channel = self._begin(ChannelDriver(Engine.created(created, self._signer), 0, unstored=created))
        channel.loaded = True
        await self._input(channel, lambda engine, _: engine.opened())
        return setup.channel_id

    async def accept(self, channel_id: ChannelId) -> None:
        await self._input(self._find(channel_id), lambda engine, _: engine.accept())

    async def reject(self, channel_id: ChannelId, reason: str) -> None:
        await self._input(self._find(channel_id), lambda engine, _: engine.reject(reason))

    async def submit(
        self, channel_id: ChannelId, payloads: Sequence[bytes], *, tick: bool = False, timeout: float = 30.0
    ) -> list[Receipt]:
        """See `service.NodeService.submit`."""
        kind = Kind.TICK if tick else Kind.MESSAGE
        waiting = await self._submit(self._find(channel_id), payloads, kind)
        await asyncio.wait([f for _, f in waiting], timeout=timeout)
        return [f.result() if f.done() else Receipt(counter=c, status="pending") for c, f in waiting]

    async def _submit(
        self, channel: _Channel, payloads: Sequence[bytes], kind: Kind
    ) -> list[tuple[int, asyncio.Future[Receipt]]]:
        loop = asyncio.get_running_loop()
        futures: list[tuple[int, asyncio.Future[Receipt]]] = []

        def decide(engine: Engine, _: int) -> Step:
            first, step = engine.submit(payloads, kind)
            for counter in range(first, first + len(payloads)):
                future: asyncio.Future[Receipt] = loop.create_future()
                channel.receipts[counter] = future
                futures.append((counter, future))
            return step

        await self._input(channel, decide)
        return futures

    async def close_channel(self, channel_id: ChannelId) -> None:
        """See `service.NodeService.close_channel`."""
        channel = self._find(channel_id)
        if channel.engine.phase in ("closing", "closed"):
            return
        await self._submit(channel, (b"",), Kind.CLOSE)

    async def wait_phase(self, channel_id: ChannelId, phases: Sequence[str], timeout: float) -> ChannelInfo:
        """See `service.NodeService.wait_phase`."""
        channel = self._find(channel_id)
        async with asyncio.timeout(timeout):
            while channel.engine.phase not in phases:
                await channel.changed.wait()
        return self._info(channel)
