"""The books at run time: one task that takes all waiting inputs at once and stores what follows from them together.

However many inputs wait, they cost one durable append: the more there is to do, the less each costs. Nothing is sent
and nobody is told before that append is done. `engine.py` decides; `service.py` owns the one `BooksRunner` of a node.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from scapp.channels.books.engine import Books, Input
from scapp.channels.books.events import encode_event
from scapp.channels.books.messages import encode_message
from scapp.channels.books.snapshots import BooksCodec, BooksSnapshots
from scapp.channels.books.step import BOOKS_STREAM, Step
from scapp.channels.errors import LocalError, PeerError, ScappError
from scapp.channels.log.port import Append, StreamWrite
from scapp.channels.runner import Shared
from scapp.channels.service import NodeEvent
from scapp.channels.types import ChannelId

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
        self._work = asyncio.Event()
        self._room = asyncio.Event()
        self._changed = asyncio.Event()
        self._stopping = False
        self._ticking = False
        self.failure = ""  # why the books stand still
        self.snapshots = BooksSnapshots(shared.log, books.state, codec)
        self._task = asyncio.create_task(self._serve(), name="scapp-books")

    async def stop(self) -> None:
        """Finish the inputs at hand, then end."""
        self._stopping = True
        self._work.set()
        await asyncio.wait([self._task], timeout=FINISH_SECONDS)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        for waiting in self._inbox:
            if waiting.done is not None and not waiting.done.done():
                waiting.done.set_exception(LocalError("the node stops"))
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
        self._work.set()

    def _take(self) -> list[_Waiting]:
        taken = [self._inbox.popleft() for _ in range(min(len(self._inbox), INPUTS_MAX))]
        self._inbox_bytes -= sum(each.size for each in taken)
        self._room.set()
        if not self._inbox:
            self._work.clear()
        return taken

    async def _serve(self) -> None:
        while not (self._stopping and not self._inbox):
            await self._work.wait()
            taken = self._take()
            if self.failure:
                _answer(taken, [ScappError(self.failure)] * len(taken))
                continue
            outcomes: list[ScappError | None]
            try:
                outcomes = await self._run(taken)
            except Exception as error:  # of the log, or a bug in what is none of one record's
                if not isinstance(error, ScappError):
                    logger.exception("a bug stopped the books")
                self._fail(str(error) or repr(error))
                outcomes = [ScappError(self.failure)] * len(taken)
            _answer(taken, outcomes)
            self.wake()

    async def _run(self, taken: list[_Waiting]) -> list[ScappError | None]:
        """Decide each input, follow up, store, then say."""
        books = self.books
        books.at(self._shared.clock_ms(), self._head_time_s())
        outcomes = [self._decide(each.decide) for each in taken]
        books.crank()
        self._log_faults()
        step, touched = books.take()
        stored = self._store(step)
        messages = [(send.peer, encode_message(send.message)) for send in step.sends]  # while the disk is at work
        if stored is not None:
            await stored
        for peer, message in messages:
            self._shared.send(peer, message)
        for note in step.notes:
            self._tell(note.channel, note.kind, note.detail)
        if touched:
            self._after(touched)
        if self.snapshots.is_due:
            await asyncio.to_thread(self.snapshots.take())
        return outcomes

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
                logger.warning("0x%s: %s", channel.hex(), error)
                continue
            logger.error("0x%s stands still because of a bug", channel.hex(), exc_info=error)
            self._shared.counters["books_bugs"] += 1
        self.books.faults.clear()

    def _store(self, step: Step) -> asyncio.Future[None] | None:
        """Begin to store the facts of a step; None where there are none."""
        if not step.events:
            return None
        state = self.books.state
        first = state.version - len(step.events)
        self._shared.counters["books_appends"] += 1
        self._shared.counters["books_events"] += len(step.events)
        events = tuple(map(encode_event, step.events))
        return self._shared.begin_to_store(Append((StreamWrite(BOOKS_STREAM, first, events),)))

    def _fail(self, reason: str) -> None:
        """What is in memory may be ahead of the log: nothing more is decided, and nothing was said of it."""
        self.failure = f"the books stand still: {reason}"
        self._shared.counters["books_failed"] += 1
        logger.error("%s", self.failure)

    # Telling

    def _tell(self, channel: ChannelId, kind: str, detail: str) -> None:
        what = "ledger" if channel in self.books.state.ledgers else "virtual"
        text = f"{kind}: {detail}" if detail else kind
        logger.info("%s 0x%s: %s", what, channel.hex(), text)
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
