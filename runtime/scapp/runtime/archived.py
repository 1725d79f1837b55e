"""Channels that are over, for the derivation worker: of which the database still lacks something.

A node with many of them keeps them on the disk (`reading.Archived`), and so does the worker: it has neither a follower
nor a status of those that are in the database to the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set

from scapp.channels.admission import ChannelContext
from scapp.channels.reading import EntrySource
from scapp.channels.types import ChannelId


class ArchivedChannels:
    """Belongs to the worker's thread; `forget` and a look into `finished` may come from any."""

    def __init__(self, source: EntrySource) -> None:
        self.finished: set[ChannelId] = set()  # those of which the database has everything
        self._source = source
        self._contexts: dict[ChannelId, ChannelContext] = {}  # of those that could not be finished yet
        self._is_known = False  # what the database has
        self._version: int | None = None  # of the source, at which nothing was left to do

    def forget(self) -> None:
        """What is in the database may have changed: it is looked at again."""
        self._is_known = False

    def context(self, channel_id: ChannelId) -> ChannelContext | None:
        """As `EntrySource.context`."""
        found = self._contexts.get(channel_id) or self._source.context(channel_id)
        if found is not None:
            self._contexts[channel_id] = found
        return found

    def finish(self, channel_id: ChannelId) -> None:
        """The database has everything of it."""
        self.finished.add(channel_id)
        self._contexts.pop(channel_id, None)

    def unfinished(
        self, live: Set[ChannelId], followed: Iterable[ChannelId], written: Callable[[], Mapping[bytes, int]]
    ) -> dict[ChannelId, int]:
        """Channels left on the disk that are not in the database to the end, or still `followed`, each with its last
        turn. `live` are those in memory, `written` says how far each channel is in the database."""
        version = self._source.archive_version()
        if self._is_known and version == self._version:
            return {}
        archived = {channel: each.turn for channel, each in self._source.archived().items() if each.turn >= 0}
        if not self._is_known:
            self._is_known = True
            turns = written()
            self.finished = {channel for channel, turn in archived.items() if turns.get(channel) == turn}
        self.finished.difference_update(followed)
        found = {c: turn for c, turn in archived.items() if c not in self.finished and c not in live}
        self._version = None if found else version
        return found
