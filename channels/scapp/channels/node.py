"""The node: all channels, the log, the transport, admission and local callers, in one asyncio process.

Implements `service.NodeService`. What one channel does stands in `runner.py`; what it decides, in `channel/`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Container, Mapping, Sequence
from typing import TYPE_CHECKING

from scapp.channels.admission import Admission
from scapp.channels.archive import Archive
from scapp.channels.backing import BackingSource
from scapp.channels.backing_link import BackingLink
from scapp.channels.books.messages import PREFIXES, prefix_of
from scapp.channels.books.step import BOOKS_STREAM
from scapp.channels.chain.port import ChainService
from scapp.channels.chain_link import ChainLink
from scapp.channels.channel.effects import StoredSend
from scapp.channels.channel.engine import Engine
from scapp.channels.channel.full_set import for_contracts, newest_enforceable
from scapp.channels.channel.messages import Decisions, ModulePart, ModuleWanted, Rejected, decode_message
from scapp.channels.channel.retiring import retirement
from scapp.channels.channel.signing_rules import StateSigner
from scapp.channels.channel.terms import ChainTerms
from scapp.channels.channel_set import ChannelSet
from scapp.channels.entries import Kind
from scapp.channels.errors import CorruptionError, LocalError, PeerError, ScappError
from scapp.channels.idle import IdleBound
from scapp.channels.log.port import NODE_STREAM, Append, Committer, EventLog
from scapp.channels.log_source import LogSource
from scapp.channels.module_exchange import ModuleExchange, ModuleOf
from scapp.channels.openings import Openings
from scapp.channels.payments.locked.events import LOCKS_STREAM
from scapp.channels.proposals import Proposals
from scapp.channels.putting_away import PuttingAway
from scapp.channels.reading import Archived, SignedState
from scapp.channels.restoring import restored_ms
from scapp.channels.runner import ChannelRunner, Input, Shared
from scapp.channels.service import ChannelInfo, NodeEvent, OpenRequest, Policy, Receipt
from scapp.channels.state_snapshots import StateSnapshots
from scapp.channels.transport.limits import TransportLimits
from scapp.channels.transport.port import PeerStatus, Transport
from scapp.channels.types import Address, ChannelId

if TYPE_CHECKING:
    from scapp.channels.books.service import NodeBooks
    from scapp.channels.books.setup import BooksSetup

logger = logging.getLogger("scapp.node")

TICK_SECONDS = 0.5
QUIET_PHASES = frozenset(("closed", "rejected", "proposed", "settled"))


def _is_quiet(engine: Engine) -> bool:
    """Does nothing happen in the channel by the mere passing of time?"""
    phase = engine.state.phase
    return phase in QUIET_PHASES and not (phase == "closed" and engine.state.setup.funded)


class Node:
    """`clock_ms` gives milliseconds since 1970, `nonce` fresh 64-bit numbers. The log stays the caller's to close."""

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
        module_of: ModuleOf = lambda _: None,
        frame_bytes_max: int = TransportLimits().frame_bytes_max,
        idle: IdleBound | None = None,
        chain: ChainService | None = None,
        backing: BackingSource | None = None,
        terms: ChainTerms | None = None,
        books: BooksSetup | None = None,
    ) -> None:
        """`module_of` gives reducer modules by hash, for participants that ask for a channel's module;
        `frame_bytes_max` is the transport's: channels whose batches would not fit are neither opened nor accepted;
        `idle` bounds how many channels admission keeps in memory. Without a `chain` no channel is funded directly, and
        there are no ledgers; the node starts and stops it. `books`: how this node deals with ledgers. `backing` funds
        virtual channels, the node's own ledgers by default."""
        self._runners: dict[bytes, ChannelRunner] = {}
        archive = Archive(log, signer, terms or ChainTerms(), lambda each: StateSnapshots(log, each).save_at_end())
        self.source = LogSource(
            log, lambda: {key: runner.driver for key, runner in list(self._runners.items())}, archive
        )
        self._shared = Shared(
            signer, log, committer, transport, admission, clock_ms, self.source, self._emit, idle or IdleBound()
        )
        self._chain = ChainLink(chain, terms or ChainTerms(), self._runners.values, clock_ms)
        self._shared.terms = self._chain.terms
        self.books: NodeBooks | None = None
        if self._chain.desk is not None:
            from scapp.channels.books.service import open_books  # two fifths of all imports: only for a chain

            self.books = open_books(self._shared, self._chain.desk, books, nonce, self)
            if backing is None:
                backing = self.books.backing
        self._channels = channels = ChannelSet(self._shared, archive, self._runners)
        self._find = channels.find
        self._succession = channels.succession
        self._backing = BackingLink(backing, self._chain.terms, self._runners, archive, channels.awake)
        self._shared.after_input = self._after_input
        self._modules = ModuleExchange(self._shared, module_of)
        self._log = log
        self._transport = transport
        self._proposals = Proposals(
            self._shared,
            policy,
            self._chain,
            self._backing,
            self._succession,
            frame_bytes_max,
            self._runners,
            channels.begin,
        )
        self._openings = Openings(
            self._shared,
            self._chain,
            self._backing,
            self._proposals,
            self._succession,
            self._runners,
            channels.begin,
            nonce,
        )
        self._putting_away = PuttingAway(
            self._shared, archive, self._chain, self._backing, self._succession, self._runners
        )
        self._listeners: list[Callable[[NodeEvent], None]] = []
        self._ticker: asyncio.Task[None] | None = None

    # Life

    async def start(self) -> None:
        """Rebuild every channel that is not over from the log, then talk to peers. A corrupt channel stays closed,
        others go on."""
        others = {NODE_STREAM, BOOKS_STREAM, LOCKS_STREAM}
        streams = [stream for stream in await asyncio.to_thread(self._log.streams) if stream not in others]
        known = await self.books.read() if self.books is not None else frozenset()
        left = await asyncio.to_thread(self._channels.archive.fill, streams, known)
        rows = self._channels.outbox()
        told = {channel for channel, _ in rows}
        for stream in left:
            await self._load(stream, told)
        await asyncio.to_thread(self._putting_away.end_of_start)
        if self.books is not None:
            await self.books.start(frozenset(self._channels.corrupt))
        await self._chain.start()
        self._backing.start()
        self._proposals.restored_ms = await asyncio.to_thread(restored_ms, self._log)
        await self._transport.start(self._on_message, self._on_link)
        self._resend(rows)
        self._ticker = asyncio.create_task(self._tick_forever(), name="scapp-ticker")

    async def _load(self, stream: bytes, told: Container[bytes]) -> None:
        if await asyncio.to_thread(self._channels.is_purse, stream):
            try:
                if self.books is not None:
                    self.books.load_purse(stream)
            except CorruptionError as error:
                self._channels.keep_closed(stream, error)
            return
        runner = await self._channels.load(stream, self._putting_away, told)
        if runner is not None:
            await self._proposals.explain(runner)

    def _resend(self, rows: list[tuple[bytes, StoredSend]]) -> None:
        """After a restart everything pending goes out again."""
        for channel_id, send in rows:
            runner = self._channels.awake(channel_id)
            if runner is not None:
                runner.deliver(send)
        for runner in self._runners.values():
            for pending in runner.engine.pending():
                runner.say(pending)

    async def stop(self) -> None:
        """Stop talking, finish what is being stored, free admission."""
        self._shared.stopping = True
        if self._ticker is not None:
            self._ticker.cancel()
        await self._transport.stop()
        await self._chain.stop()
        if self.books is not None:
            await self.books.stop()
        await self._putting_away.finish()
        await asyncio.gather(*(runner.stop() for runner in self._runners.values()))
        await asyncio.to_thread(self._putting_away.at_stop)

    async def _tick_forever(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            for runner in self._runners.values():
                if not _is_quiet(runner.engine):
                    runner.try_input(lambda engine, now: engine.tick(now))
            if self.books is not None:
                self.books.tick()
            await self._putting_away.round()
            await self._shared.store(Append(()), durable=False)

    def _after_input(self, runner: ChannelRunner) -> None:
        """Of a funded channel."""
        if runner.engine.state.setup.virtual:
            self._backing.update(runner)
        else:
            self._chain.update(runner)
            self._succession.update(runner.engine)

    # Peers

    async def _on_message(self, peer: Address, data: bytes) -> None:
        """Returns when the message is processed and what follows from it is durable, or, where status messages would
        bring back what a crash loses, when its channel has queued it: a busy channel holds up no other."""
        self._shared.counters["messages_received"] += 1
        try:
            if prefix_of(data) in PREFIXES:
                await self._to_books(peer, data)
                return
            message = decode_message(data)
            runner = await self._channels.awake_for(peer, message.channel)
            if runner is None:
                if message.channel in self._channels.corrupt:
                    raise PeerError(f"channel 0x{message.channel.hex()} is corrupt here and stays closed")
                await self._proposals.receive(peer, message)
                return
            index = runner.participants.index(peer)
            if isinstance(message, ModuleWanted):
                await self._modules.serve(runner, index, message)
                return
            if isinstance(message, ModulePart):
                self._modules.receive(runner, index, message)
                return
        except PeerError as error:
            self._shared.counters["messages_refused"] += 1
            logger.warning("peer 0x%s: refused: %s", peer.hex(), error)
            self._emit(NodeEvent(kind="refused", peer=peer, detail=str(error)))
            return
        decide: Input = lambda engine, now: engine.receive(index, message, now)  # noqa: E731 - it closes over both
        if isinstance(message, Decisions | Rejected):  # rows of the sender's outbox, gone once acknowledged
            with contextlib.suppress(ScappError):  # counted and logged where it was raised
                await runner.input(decide)
        else:
            await runner.queue(decide, len(data))

    async def _to_books(self, peer: Address, data: bytes) -> None:
        """Raises PeerError."""
        if self.books is None:
            raise PeerError("speaks of ledgers; this node has no chain, and so none")
        await self.books.on_message(peer, data)

    def _on_link(self, peer: Address, connected: bool) -> None:
        self._emit(NodeEvent(kind="link", peer=peer, detail="up" if connected else "down"))
        if self.books is not None:
            self.books.on_link(peer, connected)
        if not connected:
            return
        for runner in self._runners.values():
            if peer in runner.participants and retirement(runner.engine.state) is None:  # whoever lacks its end asks
                index = runner.participants.index(peer)
                runner.try_input(lambda engine, _, index=index: engine.link_up(index))  # type: ignore[misc]

    # The local service

    @property
    def address(self) -> Address:
        return self._shared.signer.address

    def counters(self) -> dict[str, int]:
        """See `service.NodeService`; so for all methods below."""
        return dict(self._shared.counters)

    def peers(self) -> list[PeerStatus]:
        return self._transport.peers()

    def add_peer(self, address: Address, endpoint: str) -> None:
        if address == self.address:
            raise LocalError(f"0x{address.hex()} is this node's own address")
        self._transport.add_peer(address, endpoint)

    def remove_peer(self, address: Address) -> None:
        self._transport.remove_peer(address)

    def channels(self) -> list[ChannelInfo]:
        return [runner.info() for runner in self._runners.values()]

    def archived(self) -> Mapping[ChannelId, Archived]:
        return self._channels.archive.all()

    def was_archived(self, channel_id: ChannelId) -> bool:
        return channel_id in self._channels.archive.revived

    async def read_archived(self, channels: Sequence[ChannelId]) -> list[ChannelInfo]:
        return await asyncio.to_thread(self._channels.infos, channels)

    def channel(self, channel_id: ChannelId) -> ChannelInfo:
        return self._channels.info(channel_id)

    def corrupt(self) -> dict[ChannelId, str]:
        fault = self.books.fault if self.books is not None else ""
        return {**self._channels.corrupt, ChannelId(BOOKS_STREAM): fault} if fault else dict(self._channels.corrupt)

    async def open_channel(self, request: OpenRequest) -> ChannelId:
        return await self._openings.open(request)

    async def resize(
        self, channel_id: ChannelId, withdrawn: Mapping[Address, int], params: object = None
    ) -> ChannelId | None:
        return await self._openings.resize(self._find(channel_id), withdrawn, params)

    async def accept(self, channel_id: ChannelId) -> None:
        await self._find(channel_id).input(lambda engine, _: engine.accept())

    async def fetch_module(self, channel_id: ChannelId, timeout: float) -> bytes:
        return await self._modules.fetch(self._find(channel_id), timeout)

    async def reject(self, channel_id: ChannelId, reason: str) -> None:
        await self._find(channel_id).input(lambda engine, _: engine.reject(reason))

    async def recover(self, channel_id: ChannelId) -> None:
        await self._find(channel_id).input(lambda engine, _: engine.recover())

    async def submit(
        self, channel_id: ChannelId, payloads: Sequence[bytes], *, tick: bool = False, timeout: float = 30.0
    ) -> list[Receipt]:
        kind = Kind.TICK if tick else Kind.MESSAGE
        waiting = await self._find(channel_id).submit(payloads, kind)
        if waiting:
            await asyncio.wait([future for _, future in waiting], timeout=timeout)
        return [f.result() if f.done() else Receipt(counter=counter, status="pending") for counter, f in waiting]

    async def close_channel(self, channel_id: ChannelId) -> None:
        runner = self._find(channel_id)
        if runner.engine.phase not in ("closing", "closed", "settled"):
            await runner.submit((b"",), Kind.CLOSE)

    async def top_up(self, channel_id: ChannelId, asset: Address, amount: int) -> None:
        await self._find(channel_id).input(lambda engine, _: engine.top_up(asset, amount))

    async def challenge(self, channel_id: ChannelId) -> None:
        runner = self._find(channel_id)
        link = self._backing if runner.engine.state.setup.virtual else self._chain
        await runner.input(lambda engine, _: link.leave(engine, "the operator's decision"))

    def enforceable_state(self, channel_id: ChannelId) -> SignedState | None:
        state = self._channels.look(channel_id).state
        full = newest_enforceable(state) if state.setup.shares is not None else None
        return for_contracts(state, full) if full is not None else None

    def enforceable_stack(self, channel_id: ChannelId) -> tuple[SignedState, tuple[SignedState, ...]] | None:
        return self._channels.look(channel_id).enforceable_stack()

    async def shown(self, channel_id: ChannelId, candidate: SignedState) -> None:
        await self._find(channel_id).input(lambda engine, _: engine.on_shown(candidate))

    async def checkpoint(self, channel_id: ChannelId) -> None:
        await self._find(channel_id).input(lambda engine, _: engine.checkpoint_now())

    async def withdraw(self, channel_id: ChannelId) -> None:
        await self._find(channel_id).input(lambda engine, _: engine.conclude_now())

    async def wait_phase(self, channel_id: ChannelId, phases: Sequence[str], timeout: float) -> ChannelInfo:
        async with asyncio.timeout(timeout):
            return await self._find(channel_id).wait_phase(phases)

    def subscribe(self, listener: Callable[[NodeEvent], None]) -> Callable[[], None]:
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
