"""The read side of the supported log: implements `reading.EntrySource` over the event log and the loaded channels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from scapp.channels.admission import ChannelContext
from scapp.channels.archive import Archive
from scapp.channels.channel.full_set import signed_state
from scapp.channels.driver import ChannelDriver, advances
from scapp.channels.errors import LocalError
from scapp.channels.log.port import EventLog
from scapp.channels.reading import Archived, SignedState, SupportedBatch
from scapp.channels.types import ChannelId


class LogSource:
    """`drivers` gives the channels in memory by id, each time it is asked; `archive` has the others, if there are."""

    def __init__(
        self, log: EventLog, drivers: Callable[[], Mapping[bytes, ChannelDriver]], archive: Archive | None = None
    ) -> None:
        self._log = log
        self._drivers = drivers
        self._archive = archive

    def contexts(self) -> list[ChannelContext]:
        """See `reading.EntrySource`."""
        states = [driver.engine.state for driver in self._drivers().values()]
        return [state.setup.context for state in states if state.head is not None]

    def archived(self) -> Mapping[ChannelId, Archived]:
        """See `reading.EntrySource`."""
        return self._archive.all() if self._archive is not None else {}

    def archive_version(self) -> int:
        """See `reading.EntrySource`."""
        return self._archive.version if self._archive is not None else 0

    def context(self, channel_id: ChannelId) -> ChannelContext | None:
        """See `reading.EntrySource`."""
        driver = self._known(channel_id)
        state = driver.engine.state if driver is not None else None
        return state.setup.context if state is not None and state.head is not None else None

    def batches(self, channel_id: ChannelId, position: int = 0) -> Iterator[SupportedBatch]:
        """See `reading.EntrySource`. A batch without entries (postfund) is given as well: it moves the turn."""
        setup = self._driver(channel_id).engine.state.setup
        for state, after in advances(self._log, channel_id, position):
            yield SupportedBatch(
                turn=state.turn,
                first_sequence=state.sequence - len(state.entries),
                entries=state.entries,
                log_root=state.log_root,
                state_root=state.state_root,
                amounts=setup.unpack(state.amounts),
                time_ms=state.time_ms,
                is_final=state.is_final,
                position=after,
            )

    def signed_state(self, channel_id: ChannelId, position: int) -> SignedState | None:
        """See `reading.EntrySource`."""
        now = self._driver(channel_id).engine.state
        setup = now.setup
        for state, _ in advances(self._log, channel_id, position):
            known = now.backed.signatures(state.turn) if now.backed is not None else ()
            return signed_state(setup, state, known or setup.in_place(state.signatures))
        return None

    def entries(self, channel_id: ChannelId, first: int, end: int) -> list[bytes]:
        """Entries `first .. end-1` of the supported log, fewer when it is shorter."""
        found: list[bytes] = []
        if first >= end:
            return found
        for batch in self.batches(channel_id, self._driver(channel_id).position_of(first)):
            if batch.first_sequence >= end:
                break
            skipped = max(0, first - batch.first_sequence)
            found.extend(batch.entries[skipped : end - batch.first_sequence])
            if batch.end_sequence >= end:
                break
        return found

    def _driver(self, channel_id: ChannelId) -> ChannelDriver:
        driver = self._known(channel_id)
        if driver is None:
            raise LocalError(f"no channel 0x{channel_id.hex()} at this node")
        return driver

    def _known(self, channel_id: ChannelId) -> ChannelDriver | None:
        found = self._drivers().get(channel_id)
        if found is None and self._archive is not None:
            found = self._archive.driver(channel_id)
        return found or self._drivers().get(channel_id)  # it may have come into memory between the two looks
