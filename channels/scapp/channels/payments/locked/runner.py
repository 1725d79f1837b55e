"""The node's locked payments at run time: one task decides all inputs at hand, stores what follows, then says it.

`book.py` and what it names decide. Nothing is said before it is durable; what was not answered is said again with each
new link, and after 2, 4, 8 … 30 seconds.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence

from scapp.channels.errors import LocalError, PeerError, ScappError
from scapp.channels.log.port import Append, Committer, EventLog, StreamWrite
from scapp.channels.onchain import Revealed
from scapp.channels.payments.hops import LockRefused
from scapp.channels.payments.locked import claims, forgetting, recovering, speaking, taking
from scapp.channels.payments.locked import paying as payer
from scapp.channels.payments.locked.asking import Asks
from scapp.channels.payments.locked.book import LockBook
from scapp.channels.payments.locked.events import LOCKS_STREAM, LocksEvent, encode_locks_event
from scapp.channels.payments.locked.messages import (
    Answer,
    Ask,
    Failed,
    LaneHeld,
    LaneWanted,
    Locked,
    LockedRefusal,
    LockedSeen,
    LockMessage,
    Secret,
    decode_lock_message,
    encode_lock_message,
)
from scapp.channels.payments.locked.port import LockPort
from scapp.channels.payments.locked.records import Lane
from scapp.channels.payments.locked.stored import load_locks, save_locks
from scapp.channels.payments.locked.terms import ChainClock, LockSettings
from scapp.channels.payments.resending import Resending
from scapp.channels.payments.vouchers import VoucherSigner
from scapp.channels.types import Address, ChannelId

logger = logging.getLogger("scapp.payments")

INBOX_MAX, WAITING_MAX = 10_000, 1_000
"""Messages that wait, of all peers (then each may have its part) and of one; more are dropped, for they come again."""
SNAPSHOT_EVENTS = 4_096
HEAD_OLD_S = 60
_COUNTED = Ask | Locked | LaneWanted | LaneHeld
"""What a peer may say as often as it likes, and makes this node store or work; the rest answers what was begun."""

Decide = Callable[[LockBook], None]


class _Input:
    __slots__ = ("decide", "done", "peer")

    def __init__(self, decide: Decide, done: asyncio.Future[None] | None, peer: Address | None = None) -> None:
        self.decide = decide
        self.done = done
        self.peer = peer


class LockRunner:
    """Belongs to the node's event loop. `send` queues a message for a peer and says whether it could; `head_s` is the
    newest block's timestamp, 0 while unknown, `revealed` asks the chain, `reveal_cost` is what one reveal costs there
    now, in wei. `limit` counts a message of so many bytes and
    says why nothing new is begun for the peer, or "". Of the node's `counters` those that begin with "locks_" are
    counted here."""

    def __init__(
        self,
        *,
        signer: VoucherSigner,
        settings: LockSettings,
        log: EventLog,
        committer: Committer,
        send: Callable[[Address, bytes], bool],
        clock_ms: Callable[[], int],
        head_s: Callable[[], int],
        revealed: Callable[[Sequence[bytes]], Awaitable[Revealed]],
        reveal_cost: Callable[[], int],
        limit: Callable[[Address, int], str],
        counters: Counter[str],
    ) -> None:
        self.book = LockBook(signer, settings)
        self.asks = Asks(self.book, self._tell, clock_ms)
        self.port: LockPort | None = None
        self.failure = ""  # why nothing is decided any more
        self._log = log
        self._committer = committer
        self._send = send
        self._clock_ms = clock_ms
        self._head_s = head_s
        self._revealed = revealed
        self._reveal_cost = reveal_cost
        self._limit = limit
        self._counters = counters
        self._inbox: deque[_Input] = deque()
        self._waiting: Counter[Address] = Counter()  # how many of them are of which peer
        self._work = asyncio.Event()
        self._seen: dict[ChannelId, int] = {}  # number of the newest voucher that the payee of a lane holds
        self._resending = Resending()
        # What the inputs at hand answer, and lanes to speak of, once all of it is durable.
        self._replies: list[tuple[Address, LockMessage]] = []
        self._again: dict[ChannelId, None] = {}
        self._storing = False  # the book is ahead of the disk: nothing may be said of it
        self._stored = 0
        self._saved = 0
        self._forget_at = 0  # how much is remembered when it is time to look for what may be forgotten
        self._polled_s = 0
        self._poll: asyncio.Task[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = False

    # Life

    async def start(self) -> None:
        """Rebuild from the log, before the node talks to peers. Raises CorruptionError."""
        state, version = await asyncio.to_thread(load_locks, self._log)
        self.book.state = state
        self._stored = self._saved = version
        for channel in state.live_lanes:
            self._resending.said(channel, self._clock_ms())
        self._task = asyncio.create_task(self._serve(), name="scapp-locks")

    async def stop(self) -> None:
        """Finish the inputs at hand, then end."""
        self._stopping = True
        self.asks.stop()
        self._work.set()
        if self._poll is not None:
            self._poll.cancel()
            await asyncio.gather(self._poll, return_exceptions=True)
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        for waiting in self._inbox:
            _answer(waiting, LocalError("the node stops"))
        self._inbox.clear()

    # Inputs

    async def input(self, decide: Decide) -> None:
        """Decide something; returns when what follows is durable and said. Raises its ScappError."""
        if self._stopping:
            raise LocalError("the node stops")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._put(_Input(decide, done))
        await done

    def receive(self, peer: Address, data: bytes) -> None:
        """A message whose tag begins "k:". Raises PeerError for what is refused at once; what is taken is decided soon,
        and a crash before that loses nothing: the peer says it again."""
        message = decode_lock_message(data)
        limited = self._limit(peer, len(data)) if isinstance(message, _COUNTED) else ""
        if isinstance(message, Ask):
            self._now()
            self.asks.on_ask(peer, message, limited)
        elif isinstance(message, Answer):
            self.asks.on_answer(peer, message)
        elif isinstance(message, LockedSeen):
            self._on_seen(peer, message)
        elif isinstance(message, LockedRefusal):
            self._on_refusal(peer, message)
        elif self._waiting[peer] >= min(WAITING_MAX, INBOX_MAX // (len(self._waiting) or 1)):
            self._counters["locks_dropped"] += 1
        elif limited and not isinstance(message, Locked):
            raise PeerError(limited)
        else:
            self._waiting[peer] += 1
            self._put(_Input(lambda book: self._decide_message(book, peer, message, limited), None, peer))

    def link(self, peer: Address, connected: bool) -> None:
        """A link has come up or gone down: say what the peer may lack."""
        if not connected:
            self.asks.linked.discard(peer)
            return
        self.asks.linked.add(peer)
        self._say(list(self.book.state.with_peer(peer)))

    def tick(self) -> None:
        """Time has passed, a second or so: say again what was not answered, and look at the chain if it has moved."""
        self.asks.tick()
        state = self.book.state
        due = [state.lanes[channel] for channel in self._resending.due(self._clock_ms()) if channel in state.lanes]
        self._say(due, again=True)
        if forgetting.size(self.book) >= self._forget_at:
            self._put(_Input(self._forget, None))
        self.on_head()
        self._now()
        if self.port is not None and not self._storing and self.book.time_s > self.book.chain.head_s + HEAD_OLD_S:
            self.port.changed(state.locked())  # no block comes, and a preimage is due on chain all the same

    def on_head(self) -> None:
        """There may be a new block: ask the chain, if anything depends on it."""
        if self._head_s() > self._polled_s and not self._stopping and (self._poll is None or self._poll.done()):
            self._poll = asyncio.create_task(self._follow(), name="scapp-locks-chain")

    def _put(self, item: _Input) -> None:
        self._inbox.append(item)
        self._work.set()

    def _decide_message(self, book: LockBook, peer: Address, message: LockMessage, limited: str) -> None:
        match message:
            case Locked():
                self._take(book, peer, message, limited)
            case Secret(channel, preimage):
                lane = payer.secret_told(book, peer, channel, preimage)
                self._seen.pop(lane.channel, None)  # it lacks the voucher, perhaps one that was made long ago
                self._again[lane.channel] = None
            case Failed():
                payer.failure_told(book, peer, message)
            case LaneWanted(channel, token):
                self._replies.append((peer, recovering.answer(book, book.shared(peer, channel), token)))
            case LaneHeld():
                recovering.held(book, peer, message)

    def _forget(self, book: LockBook) -> None:
        fact = forgetting.forgettable(book, self.port.is_over) if self.port is not None else None
        if fact is not None:
            book.forget(fact)
            for channel in map(ChannelId, fact.lanes):
                self._seen.pop(channel, None)
                self._resending.done(channel)
        self._forget_at = forgetting.size(book) + forgetting.KEPT_MAX // 2

    def _take(self, book: LockBook, peer: Address, message: Locked, limited: str) -> None:
        try:
            if taking.take(book, peer, message, limited):
                self._replies.append((peer, LockedSeen(message.channel, message.number)))
        except LockRefused as refused:
            self._counters["locks_refused"] += 1
            refusal = LockedRefusal(message.channel, message.number, str(refused)[: payer.REASON_MAX])
            self._replies.append((peer, refusal))
            raise

    def _on_seen(self, peer: Address, message: LockedSeen) -> None:
        lane = self.book.shared(peer, message.channel)
        if lane.payee != peer or message.number > lane.number:
            raise PeerError("holds a voucher that its payer has not made")
        self._seen[lane.channel] = max(message.number, self._seen.get(lane.channel, 0))
        if self._seen[lane.channel] == lane.number and not lane.token:
            self._resending.done(lane.channel)

    def _on_refusal(self, peer: Address, message: LockedRefusal) -> None:
        lane = self.book.shared(peer, message.channel)
        self._counters["locks_refused_by_payee"] += 1
        logger.warning("payment channel 0x%s: its payee refuses: %s", lane.channel.hex(), message.reason)

    # Deciding

    def _now(self) -> None:
        book, head_s = self.book, self._head_s()
        book.now_ms, book.reveal_cost = self._clock_ms(), self._reveal_cost()
        if head_s != book.chain.head_s:
            chain = book.chain
            book.chain = ChainClock(head_s=head_s, seen_s=chain.seen_s, revealed=chain.revealed)

    async def _serve(self) -> None:
        while not (self._stopping and not self._inbox):
            await self._work.wait()
            taken = list(self._inbox)
            self._inbox.clear()
            self._waiting.clear()
            self._work.clear()
            if self._stopping:
                self._work.set()
            await self._run(taken)

    async def _run(self, taken: Sequence[_Input]) -> None:
        if self.failure:
            for item in taken:
                _answer(item, ScappError(self.failure))
            return
        self._now()
        outcomes = [self._decide(item) for item in taken]
        events = self.book.take()
        if events:
            write = StreamWrite(LOCKS_STREAM, self._stored, [encode_locks_event(event) for event in events])
            self._storing = True
            try:
                await self._committer.append(Append([write]))
            except Exception as error:
                # The book holds what the disk does not: nothing may be decided on top of it.
                self.failure = f"locked payments stop: {error}"
                logger.exception("locked payments stop: what was decided cannot be stored")
                outcomes = [ScappError(self.failure)] * len(taken)
            else:
                self._stored += len(events)
                self._counters["locks_events"] += len(events)
        self._storing = bool(self.failure)
        if not self.failure:
            self._after(events)
        for item, outcome in zip(taken, outcomes, strict=True):
            _answer(item, outcome)
        await self._snapshot()

    def _decide(self, item: _Input) -> ScappError | None:
        try:
            item.decide(self.book)
        except ScappError as refused:
            if item.peer is not None:
                self._counters["messages_refused"] += 1
                logger.warning("peer 0x%s: refused: %s", item.peer.hex(), refused)
            return refused
        except Exception as bug:
            logger.exception("an input of locked payments was given up because of a bug")
            self._counters["locks_bugs"] += 1
            return ScappError(f"internal error: {bug!r}")
        return None

    def _after(self, events: Sequence[LocksEvent]) -> None:
        """What was decided is durable: say it, and tell the books."""
        state, again, replies = self.book.state, self._again, self._replies
        self._again, self._replies = {}, []
        for peer, message in replies:
            self._tell(peer, message)
        touched = dict.fromkeys((*speaking.touched(self.book, events), *again))
        lanes = [state.lanes[channel] for channel in touched]
        for lane in lanes:
            if lane.payee == self.book.me and lane.voucher is not None and not lane.token:
                self._tell(lane.payer, LockedSeen(lane.channel, lane.number))
        self._say(lanes)
        if self.port is not None and events:
            self.port.over(events)
            self.port.changed(lanes)

    async def _snapshot(self) -> None:
        if not self.failure and self._stored >= self._saved + SNAPSHOT_EVENTS:
            self._saved = self._stored
            await asyncio.to_thread(save_locks, self._log, self.book.state, self._stored)

    # The chain

    async def _follow(self) -> None:
        """Until nothing newer is known; a chain that does not answer is asked again at the next tick."""
        try:
            while self._head_s() > self._polled_s and await self._look(self._head_s()):
                pass
        except ScappError as error:  # the node stops, or its disk has failed
            logger.debug("locks are not looked after: %s", error)
        except Exception:
            logger.exception("a bug in looking after locks")
            self._counters["locks_bugs"] += 1

    async def _look(self, head_s: int) -> bool:
        """Ask the chain for every hash that matters now, and draw the consequences; has it answered?"""
        names = self.book.asked_of_chain()
        if not names:
            self._polled_s = head_s
            return True
        answered = True
        try:
            found = await self._revealed(names)
        except ScappError as error:
            logger.debug("the chain cannot tell of preimages: %s", error)
            answered = False
        else:
            self._polled_s = head_s
            times = dict(zip(names, found.times, strict=True))

            def looked(book: LockBook) -> None:
                book.chain = ChainClock(head_s=head_s, seen_s=found.seen_s, revealed=times)
                book.sweep()

            await self.input(looked)
        if self.port is not None:  # a preimage may be due on chain all the same
            self.port.changed(self.book.state.locked())
        return answered

    def reveals(self, lane: Lane) -> tuple[bytes, ...]:
        """Preimages that have to go on chain for a lane now."""
        self._now()
        return claims.reveals(self.book, lane)

    # Saying

    def _say(self, lanes: Sequence[Lane], *, again: bool = False) -> None:
        if self._storing:
            self._again.update(dict.fromkeys(lane.channel for lane in lanes))
            return
        self._now()
        for lane in lanes:
            found = speaking.pending(self.book, lane, self._seen.get(lane.channel, 0))
            if not found:
                self._resending.done(lane.channel)
            elif not again:
                self._resending.said(lane.channel, self._clock_ms())
            for message in found:
                self._tell(lane.peer_of(self.book.me), message)

    def _tell(self, peer: Address, message: LockMessage) -> bool:
        return self._send(peer, encode_lock_message(message))


def _answer(item: _Input, outcome: ScappError | None) -> None:
    if item.done is not None and not item.done.done():
        item.done.set_exception(outcome) if outcome is not None else item.done.set_result(None)
