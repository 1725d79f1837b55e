"""When a channel that is over leaves memory: at a start, some time after its last use, or when the node stops.

`channel/retiring.py` says what over means; here is what the node itself still has to do with such a channel.
"""

from __future__ import annotations

import logging
from collections.abc import Container

from scapp.channels.archive import Archive
from scapp.channels.backing_link import BackingLink
from scapp.channels.chain_link import ChainLink
from scapp.channels.channel.events import Retired
from scapp.channels.channel.retiring import retirement
from scapp.channels.driver import ChannelDriver
from scapp.channels.errors import ScappError
from scapp.channels.runner import ChannelRunner, Shared
from scapp.channels.state_snapshots import StateSnapshots
from scapp.channels.succession_link import SuccessionLink

logger = logging.getLogger("scapp.node")

UNUSED_MS = 10_000
"""A channel stays so long in memory after its last use: to load it takes a fifth of a millisecond."""
PER_ROUND_MAX = 256
AT_START_MAX = 256
"""Facts in one append of a start."""


class PuttingAway:
    """Belongs to the node's event loop. `runners` are its channels by id."""

    def __init__(
        self,
        shared: Shared,
        archive: Archive,
        chain: ChainLink,
        backing: BackingLink,
        succession: SuccessionLink,
        runners: dict[bytes, ChannelRunner],
    ) -> None:
        self._shared = shared
        self._archive = archive
        self._chain = chain
        self._backing = backing
        self._succession = succession
        self._runners = runners
        self._found: list[tuple[ChannelDriver, Retired]] = []
        self._going: list[ChannelRunner] = []  # on the disk, and not stopped yet

    # At a start

    def take(self, driver: ChannelDriver, told: Container[bytes]) -> bool:
        """At a start, of a loaded channel: is it over, though its stream does not end so? It is left on the disk then.
        `told`: channels with something in the outbox. What the chain or another channel may concern begins first."""
        state = driver.engine.state
        fact = retirement(state) if state.setup.shares is None and driver.stream not in told else None
        if fact is None:
            return False
        StateSnapshots(self._shared.log, driver).save_at_end()
        self._found.append((driver, fact))
        if len(self._found) >= AT_START_MAX:
            self.end_of_start()
        return True

    def end_of_start(self) -> None:
        """Store what `take` has found."""
        if not self._found:
            return
        try:
            self._archive.add(self._found)
            logger.info("%d channels are over: they stay on the disk from now on, until asked for", len(self._found))
        except ScappError as error:  # a full disk: they are over all the same
            self._archive.leave(self._found)
            logger.warning("%d channels that are over could not be marked so: %s", len(self._found), error)
        self._found.clear()

    # While it runs

    async def round(self) -> None:
        """Put away what was not used for some time."""
        now_ms = self._shared.clock_ms()
        gone: list[tuple[ChannelRunner, Retired]] = []
        for runner in self._runners.values():
            if abs(now_ms - runner.used_ms) < UNUSED_MS or not runner.is_idle():
                continue
            fact = self._fact(runner)
            if fact is None:
                continue
            if runner.base.loaded:
                runner.set_aside()
                continue
            gone.append((runner, fact))
            if len(gone) >= PER_ROUND_MAX:
                break
        if not gone:
            return
        try:
            self._archive.add([(runner.driver, fact) for runner, fact in gone])
        except ScappError as error:  # a full disk: they stay
            logger.warning("%d channels that are over stay in memory: %s", len(gone), error)
            return
        for runner, _ in gone:
            self._drop(runner)
            self._going.append(runner)
        await self.finish()

    async def finish(self) -> None:
        """End what those that went have left; the node's stop may break off a round in between."""
        while self._going:
            runner = self._going[-1]
            await runner.stop()
            if runner in self._going:
                self._going.remove(runner)
            self._archive.forget(runner.channel_id)

    def _drop(self, runner: ChannelRunner) -> None:
        del self._runners[runner.channel_id]
        self._backing.drop(runner.channel_id)
        self._succession.drop(runner.engine)

    def at_stop(self) -> None:
        """All runners are stopped: the next start leaves those on the disk that are over."""
        facts = [(runner, self._fact(runner)) for runner in self._runners.values()]
        found = [(runner.driver, fact) for runner, fact in facts if fact is not None]
        try:
            self._archive.add(found)
        except ScappError as error:  # the next start loads them
            logger.warning("%d channels that are over could not be marked so: %s", len(found), error)

    def _fact(self, runner: ChannelRunner) -> Retired | None:
        """That the channel is over, when nothing else of this node needs it."""
        engine, channel = runner.engine, runner.channel_id
        fact = retirement(engine.state)
        if fact is None or engine.session.failure or runner.driver.loaded() is None:
            return None
        if engine.session.wanted is not None:  # a full set whose entries are asked for
            return None
        if self._chain.follows(channel) or self._backing.has_news(channel) or self._succession.needs(engine):
            return None
        return None if self._shared.deliveries.is_open(channel) else fact
