"""The stream: what happens at the node, in order, to any number of followers, without losing anything on the way.

A follower keeps two sequences per channel, entries and derived, and *pulls*: news only wake it. Entries come from
the log, app events from memory or the database, so both can be resumed from any sequence. Row changes are kept for
the latest batches only, by number and by memory; a follower that asks for older ones gets `reset` and reads the tables
instead.
"""

from __future__ import annotations

import asyncio
import collections
import itertools
from collections.abc import AsyncIterator, Callable, Iterable, Set

import msgspec

from scapp.channels.service import ChannelInfo, NodeEvent
from scapp.channels.types import ChannelId
from scapp.runtime.api.context import ApiContext
from scapp.runtime.api.views import app_event_item, derived_view, encoding_of, entry_view, hexed, rows_item
from scapp.runtime.deployments import App
from scapp.runtime.documents import StreamItem
from scapp.runtime.follow import Committed

KINDS = ("entries", "rows", "app", "node")
RECENT_BATCHES = 1_024  # per channel
RECENT_BYTES = 64 * 2**20  # of changes, in all channels together
RECENT_EVENTS = 4_096  # per follower
ENTRIES_PER_ITEM = 256
HEARTBEAT_S = 15.0
_ON_ITS_WAY_S = 0.05
_LOOK_AGAIN_S = 0.5


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What a follower asked for. `channels` empty: all. `start`: channel to (entries, derived) sequences; channels
    that are not in it begin with what is new."""

    channels: frozenset[ChannelId] = frozenset()
    start: dict[ChannelId, tuple[int, int]] = {}
    kinds: frozenset[str] = frozenset(KINDS)

    def covers(self, channel_id: ChannelId | None) -> bool:
        return not self.channels or channel_id in self.channels


class Sent(msgspec.Struct, frozen=True):
    """One item and, for those of a channel, the id to go on from after it."""

    item: StreamItem
    resume: str = ""


class StreamHub:
    """One per node. `close` ends every follower. Belongs to the event loop; derivations arrive from their thread."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._recent: dict[ChannelId, collections.deque[Committed]] = {}
        self._arrived: collections.deque[Committed] = collections.deque()
        self._recent_bytes = 0
        self._followers: set[_Follower] = set()
        self._closed = False
        self._unsubscribe: list[Callable[[], None]] = [
            context.service.subscribe(self._on_event),
            context.derived.subscribe(self._from_worker),
        ]

    def close(self) -> None:
        """End all followers. Idempotent."""
        self._closed = True
        for unsubscribe in self._unsubscribe:
            unsubscribe()
        self._unsubscribe.clear()
        for follower in self._followers:
            follower.news.set()

    def _on_event(self, event: NodeEvent) -> None:
        for follower in self._followers:
            follower.hear(event)

    def _from_worker(self, derivation: Committed) -> None:
        if not self._closed:
            self._loop.call_soon_threadsafe(self._on_derivation, derivation)

    def _on_derivation(self, derivation: Committed) -> None:
        recent = self._recent.setdefault(derivation.channel_id, collections.deque(maxlen=RECENT_BATCHES))
        recent.append(derivation)
        self._arrived.append(derivation)
        self._recent_bytes += _weight(derivation)
        while self._recent_bytes > RECENT_BYTES and len(self._arrived) > 1:
            oldest = self._arrived.popleft()
            self._recent_bytes -= _weight(oldest)
            held = self._recent[oldest.channel_id]
            if held and held[0] is oldest:  # it may have gone by number
                held.popleft()
        for follower in self._followers:
            follower.news.set()

    def derived_since(self, channel_id: ChannelId, sequence: int) -> list[Committed]:
        """Recent derivations that end after `sequence`."""
        return [d for d in self._recent.get(channel_id, ()) if d.end_sequence > sequence]

    def oldest(self, channel_id: ChannelId) -> int | None:
        """First sequence of the oldest derivation at hand."""
        recent = self._recent.get(channel_id)
        return recent[0].first_sequence if recent else None

    async def follow(self, wish: Wish) -> AsyncIterator[Sent | None]:
        """Items as they come; None every 15 seconds without any, so that the server can probe the connection."""
        follower = _Follower(self._context, self, wish)
        self._followers.add(follower)
        spoken = self._loop.time()
        try:
            while not self._closed:
                follower.news.clear()
                async for sent in follower.pull():
                    yield sent
                    spoken = self._loop.time()
                if follower.news.is_set():
                    continue
                try:
                    async with asyncio.timeout(_LOOK_AGAIN_S if follower.is_early else HEARTBEAT_S):
                        await follower.news.wait()
                except TimeoutError:
                    if self._loop.time() - spoken >= HEARTBEAT_S:
                        yield None
                        spoken = self._loop.time()
        finally:
            self._followers.discard(follower)


def _weight(derivation: Committed) -> int:
    return derivation.changes.size + 1_000  # the objects around it


class _Follower:
    """One connection: its sequences, its unread node events."""

    def __init__(self, context: ApiContext, hub: StreamHub, wish: Wish) -> None:
        self.news = asyncio.Event()
        self.is_early = False  # of some channel it is not known yet how far it is derived, and nobody will tell
        self._context = context
        self._hub = hub
        self._wish = wish
        self._events: collections.deque[NodeEvent] = collections.deque(maxlen=RECENT_EVENTS)
        self._at: dict[ChannelId, tuple[int, int]] = {}
        self._new: set[ChannelId] = set()  # channels that have begun since the last look
        service = context.service
        over = service.archived()
        wanted = [service.channel(channel_id) for channel_id in {*wish.channels, *wish.start} if channel_id in over]
        for info in (*service.channels(), *wanted):
            if wish.covers(info.channel_id):
                view = derived_view(info, context)
                now = (info.sequence, view.sequence if view else 0)
                self._at[info.channel_id] = wish.start.get(info.channel_id, now)

    def hear(self, event: NodeEvent) -> None:
        if "node" in self._wish.kinds and (event.channel_id is None or self._wish.covers(event.channel_id)):
            self._events.append(event)
        if event.kind in ("proposed", "opened") and event.channel_id is not None and not self._wish.channels:
            self._new.add(event.channel_id)
        self.news.set()

    async def pull(self) -> AsyncIterator[Sent]:
        """Everything that is new since the last call."""
        self.is_early = False
        while self._events:
            yield Sent(_node_item(self._events.popleft()))
        channels, gone = self._channels()
        for info in channels:
            entries, _ = self._at.setdefault(info.channel_id, (0, 0))
            app = self._context.apps.get(info.deployment_id)
            if info.sequence > entries:
                async for sent in self._entries(info.channel_id, info.participants, encoding_of(app)):
                    yield sent
            async for sent in self._derived(info, app):
                yield sent
            if info.channel_id in gone and not self._awaits(info):
                del self._at[info.channel_id]

    def _channels(self) -> tuple[list[ChannelInfo], Set[ChannelId]]:
        """Where there may be news, and those that have gone since: they are looked at until nothing more comes."""
        service = self._context.service
        if self._wish.channels:
            return [service.channel(channel_id) for channel_id in self._wish.channels], frozenset()
        found = service.channels()
        gone = (self._at.keys() | self._new) - {info.channel_id for info in found}
        known, self._new = self._at.keys() | self._new, set()
        found = [info for info in found if info.channel_id in known or not service.was_archived(info.channel_id)]
        return [*found, *map(service.channel, gone)], gone

    def _awaits(self, info: ChannelInfo) -> bool:
        """Of a channel that has gone: is it in the database to the end only later, as after an outage?"""
        is_derived = self._context.derived.view().state != "off" and not {"rows", "app"}.isdisjoint(self._wish.kinds)
        return is_derived and self._at[info.channel_id][1] < info.sequence

    async def _derived(self, info: ChannelInfo, app: App | None) -> AsyncIterator[Sent]:
        encoding, channel_id = encoding_of(app), info.channel_id
        horizon = await self._horizon(info)
        if horizon > self._at[channel_id][1]:
            async for sent in self._missed(channel_id, horizon, encoding):
                yield sent
        for derivation in self._hub.derived_since(channel_id, self._at[channel_id][1]):
            entries, derived = self._at[channel_id]
            wanted = derivation.changes.app_events() if "app" in self._wish.kinds else ()
            events = [event for event in wanted if event.sequence >= derived]
            # Who goes on after the rows still gets the events, so what comes first must not stand for the rest.
            if "rows" in self._wish.kinds:
                yield Sent(
                    rows_item(derivation, app), self._resume(channel_id, derived if events else derivation.end_sequence)
                )
            for event, after in itertools.zip_longest(events, events[1:]):
                item = app_event_item(channel_id, event, encoding)
                following = derivation.end_sequence if after is None else event.sequence + 1
                # In the middle of a message's events there is no place to go on from.
                has_place = after is None or after.sequence > event.sequence
                yield Sent(item, self._resume(channel_id, following) if has_place else "")
            self._at[channel_id] = (entries, derivation.end_sequence)

    async def _horizon(self, info: ChannelInfo) -> int:
        """The sequence from which on derivations are at hand; everything before must come from the database."""
        channel_id = info.channel_id
        oldest = self._hub.oldest(channel_id)
        if oldest is not None:
            return oldest
        cursor = derived_view(info, self._context)
        if cursor is None and self._at[channel_id][0]:  # it has entries
            self.is_early |= self._context.derived.view().state != "off"
        if cursor is None or cursor.sequence <= self._at[channel_id][1]:
            return 0
        await asyncio.sleep(_ON_ITS_WAY_S)  # the cursor shows a commit a moment before listeners hear of it
        oldest = self._hub.oldest(channel_id)
        return cursor.sequence if oldest is None else oldest

    async def _entries(
        self, channel_id: ChannelId, participants: tuple[bytes, ...], encoding: str
    ) -> AsyncIterator[Sent]:
        following: int | None = self._at[channel_id][0]
        while following is not None:
            stored, following = await self._context.blocking(
                self._context.entries.page, channel_id, following, ENTRIES_PER_ITEM
            )
            if not stored:
                return
            self._at[channel_id] = (stored[-1].sequence + 1, self._at[channel_id][1])
            if "entries" in self._wish.kinds:
                item = StreamItem(
                    kind="entries",
                    channel_id=hexed(channel_id),
                    sequence=stored[-1].sequence + 1,
                    turn=stored[-1].turn,
                    entries=[entry_view(entry, participants, encoding) for entry in stored],
                )
                yield Sent(item, self._resume(channel_id))

    async def _missed(self, channel_id: ChannelId, horizon: int, encoding: str) -> AsyncIterator[Sent]:
        """What lies between the follower's derived sequence and the oldest derivation at hand."""
        entries, derived = self._at[channel_id]
        missed = await self._context.blocking(self._context.derived.app_events, channel_id, derived, horizon)
        self._at[channel_id] = (entries, horizon)
        if "app" in self._wish.kinds:
            for event in missed:
                yield Sent(app_event_item(channel_id, event, encoding))
        if "rows" in self._wish.kinds:
            detail = "row changes before this sequence are no longer at hand; read the tables, then go on"
            item = StreamItem(kind="reset", channel_id=hexed(channel_id), sequence=horizon, detail=detail)
            yield Sent(item, self._resume(channel_id))

    def _resume(self, channel_id: ChannelId, derived: int | None = None) -> str:
        """The place at which the follower is, or is once it has seen the first `derived` entries' changes."""
        entries, at = self._at[channel_id]
        return f"{hexed(channel_id)}:{entries}:{at if derived is None else derived}"


def _node_item(event: NodeEvent) -> StreamItem:
    return StreamItem(
        kind="node",
        channel_id=hexed(event.channel_id) if event.channel_id else None,
        sequence=event.sequence,
        turn=event.turn,
        event=event.kind,
        peer=hexed(event.peer) if event.peer else None,
        detail=event.detail or None,
    )


def parse_start(texts: Iterable[str]) -> list[tuple[str, int, int]]:
    """`CHANNEL:ENTRIES[:DERIVED]` to its parts; DERIVED is ENTRIES when left out. Raises ValueError."""
    found = []
    for text in texts:
        channel, *numbers = text.split(":")
        if not 1 <= len(numbers) <= 2 or not all(n.isascii() and n.isdigit() and len(n) < 19 for n in numbers):
            raise ValueError(f"{text[:120]!r} is not CHANNEL:ENTRIES or CHANNEL:ENTRIES:DERIVED")
        found.append((channel, int(numbers[0]), int(numbers[-1])))
    return found
