"""The books at run time: all waiting inputs are taken at once, and what follows from them is stored together.

However many inputs wait, they cost one durable append: the more there is to do, the less each costs. Nothing is sent
and nobody is told before that append is done; nothing more is decided meanwhile. Turns are callbacks, without a task
or a future: each of those costs a lone message a turn of the event loop. `engine.py` decides; `service.py` owns the one
`BooksRunner` of a node.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from functools import partial

from scapp.channels.books import ahead
from scapp.channels.books.engine import Books, Input
from scapp.channels.books.events import encode_event
from scapp.channels.books.messages import encode_message
from scapp.channels.books.snapshots import BooksCodec, BooksSnapshots
from scapp.channels.books.step import BOOKS_STREAM, Step
from scapp.channels.errors import LocalError, PeerError, ScappError
from scapp.channels.log.port import Append, StreamWrite
from scapp.channels.runner import Shared
from scapp.channels.service import NodeEvent
from scapp.channels.types import Address, ChannelId

logger = logging.getLogger("scapp.books")

INBOX_BYTES_MAX = 8_388_608  # of peers' messages; beyond that their links wait
INPUTS_MAX = 256  # taken at once, so that other tasks of the node are not kept waiting for long
FINISH_SECONDS = 2.0


class _Waiting:
    """An input, who waits for its end, and how much of the inbox it takes."""

    __slots__ = ("decide", "done", "size")

    def __init__(self, decide: Input, done: asyncio.Future[None] | None, size: int = 0) -> None:
        self.decide = decide
        self.done = done
        self.size = size


class BooksRunner:
    """Belongs to the node's event loop. `after` hears of the records that a batch of inputs has changed."""

    def __init__(
        self,
        shared: Shared,
        books: Books,
        codec: BooksCodec,
        after: Callable[[tuple[ChannelId, ...]], None],
        head_time_s: Callable[[], int],
        followed_ms: Callable[[], int | None],
    ) -> None:
        self._shared = shared
        self.books = books
        self._after = after
        self._head_time_s = head_time_s
        self._followed_ms = followed_ms
        self._inbox: deque[_Waiting] = deque()
        self._inbox_bytes = 0
        self._at_hand: list[_Waiting] | None = None  # inputs whose turn has begun, or is about to
        self._loop = asyncio.get_running_loop()
        self._room = asyncio.Event()
        self._changed = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopping = self._ended = False
        self._ticking = False
        self.failure = ""  # why the books stand still
        self.snapshots = BooksSnapshots(shared.log, books.state, codec)
        self._saving: asyncio.Task[None] | None = None

    async def stop(self) -> None:
        """Finish the inputs at hand, then end."""
        self._stopping = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), FINISH_SECONDS)
        self._ended = True
        if self._saving is not None:
            await asyncio.gather(self._saving, return_exceptions=True)
        left, self._at_hand = [*(self._at_hand or ()), *self._inbox], None
        self._inbox.clear()
        _answer(left, [LocalError("the node stops")] * len(left))
        save = None if self.failure else self.snapshots.at_end()
        if save is not None:
            await asyncio.to_thread(save)

    # Inputs

    async def input(self, decide: Input) -> None:
        """Queue an input; returns when what follows from it is stored and said. Raises its ScappError."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._put(_Waiting(decide, done))
        await done

    async def queue(self, decide: Input, size: int) -> None:
        """Queue a peer's message of `size` bytes, in order with all other inputs; waits while the inbox is full."""
        while self._inbox_bytes >= INBOX_BYTES_MAX and not self._stopping:
            self._room.clear()
            await self._room.wait()
        self._inbox_bytes += size
        self._put(_Waiting(decide, None, size))

    def try_input(self, decide: Input) -> None:
        """Queue an input that nobody waits for."""
        self._put(_Waiting(decide, None))

    def tick(self) -> None:
        """Time has passed; a tick that still waits stands for this one as well."""
        if not self._ticking:
            self._ticking = True
            followed_ms = self._followed_ms()  # what that look has shown stands in the inbox already, before this
            self.try_input(lambda books: self._tick(books, followed_ms))

    def _tick(self, books: Books, followed_ms: int | None) -> Step:
        self._ticking = False
        books.followed(followed_ms)
        return books.tick()

    def _put(self, waiting: _Waiting) -> None:
        self._inbox.append(waiting)
        self._go_on()

    # Turns

    def _go_on(self) -> None:
        """Have what waits taken soon, with all that comes until then."""
        if self._at_hand is not None:
            return
        if self._inbox:
            self._at_hand = []
            self._idle.clear()
            self._loop.call_soon(self._turn)
        else:
            self._idle.set()

    def _take(self) -> list[_Waiting]:
        taken = [self._inbox.popleft() for _ in range(min(len(self._inbox), INPUTS_MAX))]
        self._inbox_bytes -= sum(each.size for each in taken)
        self._room.set()
        return taken

    def _turn(self) -> None:
        """Decide each input, follow up, store; `_stored` goes on."""
        self._at_hand = taken = self._take()
        if self._ended or self.failure:
            self._end_turn([LocalError("the node stops") if self._ended else ScappError(self.failure)] * len(taken))
            return
        books = self.books
        try:
            books.at(self._shared.clock_ms(), self._head_time_s())
            outcomes = [self._decide(each.decide) for each in taken]
            books.crank()
            self._log_faults()
            step, touched = books.take()
            messages: list[tuple[Address, bytes]] = []
            then = partial(self._stored, outcomes, step, messages, touched)
            if step.events:
                self._store(step, then)
            messages += [(send.peer, encode_message(send.message)) for send in step.sends]  # while the disk is at work
        except Exception as error:
            self._broken(error)
            return
        if not step.events:
            then(None)

    def _stored(
        self,
        outcomes: list[ScappError | None],
        step: Step,
        messages: list[tuple[Address, bytes]],
        touched: tuple[ChannelId, ...],
        failed: Exception | None,
    ) -> None:
        """Say what follows from a step, once it is durable."""
        if self._ended or self.failure:
            return
        try:
            if failed is not None:
                raise failed
            for peer, message in messages:
                self._shared.send(peer, message)
            for note in step.notes:
                self._tell(note.channel, note.kind, note.detail)
            if touched:
                self._after(touched)
                if not self._inbox:
                    self._loop.call_soon(ahead.compute, self.books, touched)
        except Exception as error:
            self._broken(error)
            return
        if self.snapshots.is_due:
            self._saving = self._loop.create_task(self._save(outcomes))
        else:
            self._end_turn(outcomes)

    async def _save(self, outcomes: list[ScappError | None]) -> None:
        """Save a snapshot before the next turn."""
        try:
            await asyncio.to_thread(self.snapshots.take())
        except Exception as error:
            self._broken(error)
        else:
            self._end_turn(outcomes)
        self._saving = None

    def _broken(self, error: Exception) -> None:
        """Of the log, or a bug in what is none of one record's."""
        if not isinstance(error, ScappError):
            logger.error("a bug stopped the books", exc_info=error)
        self._fail(str(error) or repr(error))
        self._end_turn([ScappError(self.failure)] * len(self._at_hand or ()))

    def _end_turn(self, outcomes: list[ScappError | None]) -> None:
        taken, self._at_hand = self._at_hand or [], None
        _answer(taken, outcomes)
        self.wake()
        self._go_on()

    def _decide(self, decide: Input) -> ScappError | None:
        """One input's decision; what it is refused for changes nothing."""
        try:
            self.books.decide(decide)
        except PeerError as refused:
            self._shared.counters["messages_refused"] += 1
            logger.warning("refused: %s", refused)
            return refused
        except ScappError as refused:
            return refused
        except Exception as bug:
            logger.exception("an input was given up because of a bug")
            self._shared.counters["books_bugs"] += 1
            return ScappError(f"internal error: {bug!r}")
        return None

    def _log_faults(self) -> None:
        """One record must not hold up the others: it stands still until its next input."""
        for channel, error in self.books.faults:
            if isinstance(error, ScappError):
                # Two texts: what peers cause, in any number, takes no line from what this node has found.
                text = "0x%s: refused: %s" if isinstance(error, PeerError) else "0x%s stands still: %s"
                logger.warning(text, channel.hex(), error)
                continue
            logger.error("0x%s stands still because of a bug", channel.hex(), exc_info=error)
            self._shared.counters["books_bugs"] += 1
        self.books.faults.clear()

    def _store(self, step: Step, then: Callable[[Exception | None], None]) -> None:
        """Begin to store the facts of a step."""
        first = self.books.state.version - len(step.events)
        self._shared.counters["books_appends"] += 1
        self._shared.counters["books_events"] += len(step.events)
        events = tuple(map(encode_event, step.events))
        self._shared.enqueue(Append((StreamWrite(BOOKS_STREAM, first, events),)), then)

    def _fail(self, reason: str) -> None:
        """What is in memory may be ahead of the log: nothing more is decided, and nothing was said of it."""
        self.failure = f"the books stand still: {reason}"
        self._shared.counters["books_failed"] += 1
        logger.error("%s", self.failure)

    # Telling

    def _tell(self, channel: ChannelId, kind: str, detail: str) -> None:
        what = "ledger" if channel in self.books.state.ledgers else "virtual"
        text = f"{kind}: {detail}" if detail else kind
        logger.info("%s 0x%s: %s", what, channel.hex(), text, extra={what: channel, "event": kind})
        self._shared.counters[f"{what}s_{kind}"] += 1
        self._shared.emit(NodeEvent(kind=what, channel_id=channel, detail=text))

    def wake(self) -> None:
        """Have those in `wait_until` look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_until(self, happened: Callable[[], bool]) -> None:
        """Wait for something that follows from a change of the books."""
        while not happened():
            if self.failure:
                raise ScappError(self.failure)
            await self._changed.wait()


def _answer(taken: list[_Waiting], outcomes: list[ScappError | None]) -> None:
    for waiting, outcome in zip(taken, outcomes, strict=True):
        if waiting.done is not None and not waiting.done.done():
            waiting.done.set_exception(outcome) if outcome is not None else waiting.done.set_result(None)
