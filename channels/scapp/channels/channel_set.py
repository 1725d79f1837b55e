"""A node's channels: those in memory, those that are left on the disk, those that are corrupt; `node.py` owns one.

A channel comes into memory when it is not over at a start, when it begins, and when anything is done with one that is
left on the disk (`archive.py`). `putting_away.py` takes it out again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Container, Iterable
from contextlib import suppress

from scapp.channels.archive import Archive, load_own
from scapp.channels.channel.effects import StoredSend, parse_outbox_row
from scapp.channels.channel.engine import Engine
from scapp.channels.channel_info import channel_info
from scapp.channels.driver import ChannelDriver
from scapp.channels.errors import CorruptionError, LocalError, PeerError, ScappError
from scapp.channels.log.port import LogClosed, LogReadFailed
from scapp.channels.putting_away import PuttingAway
from scapp.channels.restoring import is_purse
from scapp.channels.runner import ChannelRunner, Shared
from scapp.channels.service import ChannelInfo
from scapp.channels.succession_link import SuccessionLink
from scapp.channels.types import Address, ChannelId

logger = logging.getLogger("scapp.node")


class ChannelSet:
    """Belongs to the node's event loop. `runners` are the channels in memory by id."""

    def __init__(self, shared: Shared, archive: Archive, runners: dict[bytes, ChannelRunner]) -> None:
        self.archive = archive
        self.corrupt: dict[ChannelId, str] = {}  # channels that stay closed, and what is wrong with each
        self.runners = runners
        self.succession = SuccessionLink(self.engine, lambda channel, put: self.runners[channel].try_input(put))
        self._shared = shared

    def begin(self, driver: ChannelDriver) -> ChannelRunner:
        """Have the channel in memory."""
        runner = ChannelRunner(self._shared, driver)
        self.runners[driver.stream] = runner
        self.succession.update(runner.engine)
        return runner

    def awake(self, channel: bytes, looked: ChannelDriver | None = None) -> ChannelRunner | None:
        """The channel in memory, brought there if it was left on the disk; None when it is not here, corrupt, or cannot
        be read now. `looked`: see `Archive.take_out`."""
        runner = self.runners.get(channel)
        if runner is not None:
            return runner
        try:
            driver = self.archive.take_out(channel, looked)
        except CorruptionError as error:
            self.keep_closed(channel, error)
            return None
        except (LogReadFailed, LogClosed) as error:  # it stays where it is, for the next who asks
            logger.error("channel 0x%s cannot be read from the disk: %s", channel.hex(), error)
            return None
        return self.begin(driver) if driver is not None else None

    async def awake_for(self, peer: Address, channel: bytes) -> ChannelRunner | None:
        """As `awake`, for a peer's message. Raises PeerError for a stranger, who brings nothing from the disk; a stream
        that is long to read is read beside the event loop."""
        looked: ChannelDriver | None = None
        if channel not in self.runners and channel in self.archive:
            with suppress(ScappError):  # `awake` says what is wrong
                looked = await asyncio.to_thread(self.archive.driver, channel)
            if looked is not None and peer not in looked.engine.state.setup.participants:
                raise not_of(channel)
        runner = self.awake(channel, looked)
        if runner is not None and peer not in runner.participants:
            raise not_of(channel)
        return runner

    def find(self, channel: bytes) -> ChannelRunner:
        """The same. Raises LocalError, CorruptionError."""
        runner = self.awake(channel)
        if runner is None:
            fault = self.corrupt.get(ChannelId(channel))
            if fault is not None:
                raise CorruptionError(f"channel 0x{channel.hex()} is corrupt and stays closed: {fault}")
            if channel in self.archive:
                raise LocalError(f"channel 0x{channel.hex()} cannot be read from the disk now; the node's log says why")
            raise LocalError(f"no channel 0x{channel.hex()} at this node")
        return runner

    def look(self, channel: bytes) -> Engine:
        """For one look: brings nothing into memory. Raises as `find`."""
        driver = self.archive.driver(channel)
        return driver.engine if driver is not None else self.find(channel).engine

    def info(self, channel: bytes) -> ChannelInfo:
        """As its owner sees it; brings nothing into memory. Raises as `find`."""
        driver = self.archive.driver(channel)
        return channel_info(driver.engine, 0) if driver is not None else self.find(channel).info()

    def infos(self, channels: Iterable[bytes]) -> list[ChannelInfo]:
        """From any thread, of channels that are left on the disk and can be read."""
        found: list[ChannelInfo] = []
        for channel in channels:
            with suppress(CorruptionError):  # whoever asks for the one hears of it
                driver = self.archive.driver(channel)
                found += [channel_info(driver.engine, 0)] if driver is not None else []
        return found

    def engine(self, channel: ChannelId) -> Engine | None:
        """That of a channel in memory."""
        return self.runners[channel].engine if channel in self.runners else None

    def is_purse(self, stream: bytes) -> bool:
        """At a start, of a stream: is it a payment channel's? What cannot be read is taken for an app channel's."""
        with suppress(CorruptionError):
            return is_purse(self._shared.log, stream)
        return False

    async def load(self, stream: bytes, putting_away: PuttingAway, told: Container[bytes]) -> ChannelRunner | None:
        """At a start: have a stream's channel in memory, unless it is corrupt, or over as it turns out."""
        shared = self._shared
        try:
            driver = await asyncio.to_thread(load_own, shared.log, stream, shared.signer, shared.terms)
        except CorruptionError as error:
            self.keep_closed(stream, error)
            return None
        over = await asyncio.to_thread(putting_away.take, driver, told)
        return None if over else self.begin(driver)

    def keep_closed(self, stream: bytes, error: CorruptionError) -> None:
        """The channel is corrupt."""
        self._shared.counters["channels_corrupt"] += 1
        self.corrupt[ChannelId(stream)] = str(error)
        logger.error("channel 0x%s is corrupt and stays closed: %s", stream.hex(), error)

    def outbox(self) -> list[tuple[bytes, StoredSend]]:
        """What peers have not acknowledged, by channel."""
        try:
            return [parse_outbox_row(key, value) for key, value in self._shared.log.outbox()]
        except CorruptionError as error:
            # Refusals and rejections only: peers hear them again when they ask again. No reason to stop every channel.
            self._shared.counters["outbox_corrupt"] += 1
            logger.error("the outbox is corrupt and passed over: %s", error)
            return []


def not_of(channel: bytes) -> PeerError:
    """A peer speaks of a channel in which it is nobody."""
    return PeerError(f"no participant of channel 0x{channel.hex()}")
