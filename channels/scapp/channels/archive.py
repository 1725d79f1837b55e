"""Channels that are over and stay on the disk: which they are, and one of them for whoever asks (ADR 0081).

What is in memory of each is what its stream's last event says. `putting_away.py` decides who comes here; node and
simulation share this.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence

from scapp.channels.channel.events import Retired, encode_event, retired_by
from scapp.channels.channel.signing_rules import StateSigner
from scapp.channels.channel.terms import ChainTerms
from scapp.channels.driver import ChannelDriver, load
from scapp.channels.errors import CorruptionError
from scapp.channels.log.port import Append, EventLog, StreamWrite
from scapp.channels.payments.events import ends_purse
from scapp.channels.reading import Archived
from scapp.channels.types import ChannelId

LOOKS_PER_STEP = 1_000


def last_events(log: EventLog, streams: Iterable[bytes]) -> Iterator[tuple[bytes, bytes | None]]:
    """The streams in byte order, each with its last event, some at a time: a node has as many streams as it ever had
    channels. None for one that cannot be read."""
    ordered = sorted(streams)
    for first in range(0, len(ordered), LOOKS_PER_STEP):
        some = ordered[first : first + LOOKS_PER_STEP]
        found = log.last_events(some)
        for stream in some:
            yield stream, found.get(stream)


class Archive:
    """`driver` and `all` may be called from any thread, the others belong to the owner's."""

    def __init__(
        self,
        log: EventLog,
        signer: StateSigner,
        terms: ChainTerms | None,
        looked_at: Callable[[ChannelDriver], None] = lambda _: None,
    ) -> None:
        """`looked_at` is told of each channel that was loaded for one look, in whatever thread."""
        self._looked_at = looked_at
        self._log = log
        self._signer = signer
        self._terms = terms
        self.revived: set[bytes] = set()  # taken out again
        self.version = 0  # goes up with every channel that is taken in
        self._index: dict[ChannelId, Archived] = {}
        self._apps: dict[bytes, bytes] = {}  # one object for each app's id …
        self._phases: dict[str, str] = {}  # … and phase

    def __contains__(self, channel: object) -> bool:
        return channel in self._index

    def all(self) -> dict[ChannelId, Archived]:
        """Every channel here, as it is now."""
        return self._index.copy()

    def fill(self, streams: Iterable[bytes], known: Container[bytes] = ()) -> list[bytes]:
        """At a start: take in those of the streams whose last events say that they are over. Returns those that have to
        be loaded: all others but settled purses, which the same looks tell (ADR 0076), of channels that are not
        `known`."""
        left: list[bytes] = []
        for stream, event in last_events(self._log, streams):
            retired = retired_by(event) if event is not None else None
            if retired is not None:
                self._take(stream, retired)
            elif event is None or stream in known or not ends_purse(event):
                left.append(stream)
        return left

    def add(self, retired: Sequence[tuple[ChannelDriver, Retired]]) -> None:
        """Take in channels that are over, with one append: their streams end with that fact from here on. Nothing is
        written into those that end so already.

        Not durable: a start after a power cut loads those whose fact is lost, and adds them again. Raises as the log
        does; the channels are then where they were."""
        ends = self._log.last_events([driver.stream for driver, _ in retired])
        writes = [
            StreamWrite(driver.stream, driver.version, (encode_event(fact),))
            for driver, fact in retired
            if retired_by(ends.get(driver.stream, b"")) is None
        ]
        if writes:
            self._log.append(Append(tuple(writes)), durable=False)
        self.leave(retired)

    def leave(self, retired: Iterable[tuple[ChannelDriver, Retired]]) -> None:
        """Take in channels that are over, though their streams do not say so: the next start finds out again."""
        for driver, fact in retired:
            self._take(driver.stream, fact)
            self.forget(driver.stream)

    def take_out(self, channel: bytes, looked: ChannelDriver | None = None) -> ChannelDriver | None:
        """The channel, which is in memory from now on; None when it is not here. `looked`: what a look has just loaded,
        used unless the stream has grown since. Raises CorruptionError, and then it is not here either, and as the log
        does, and then it stays."""
        if channel not in self._index:
            return None
        try:
            driver = looked
            if driver is None or driver.version != self._log.version(channel):
                driver = load_own(self._log, channel, self._signer, self._terms)
        except CorruptionError:
            del self._index[ChannelId(channel)]
            raise
        del self._index[ChannelId(channel)]
        self.revived.add(channel)
        return driver

    def driver(self, channel: bytes) -> ChannelDriver | None:
        """The channel for one look, None when it is not here. Raises CorruptionError, and as the log does.

        `looked_at` may save it again, so that after an upgrade not every look folds the whole stream."""
        if channel not in self._index:
            return None
        try:
            driver = load_own(self._log, channel, self._signer, self._terms)
            self._looked_at(driver)
            return driver
        finally:
            self.forget(channel)

    def forget(self, channel: bytes) -> None:
        """The log keeps nothing of the channel in memory, if it is here."""
        if channel in self._index:
            self._log.forget(channel)

    def _take(self, stream: bytes, fact: Retired) -> None:
        app = self._apps.setdefault(fact.deployment_id, fact.deployment_id)
        self.version += 1
        self.revived.discard(stream)
        self._index[ChannelId(stream)] = Archived(self._phases.setdefault(fact.phase, fact.phase), fact.turn, app)


def load_own(log: EventLog, stream: bytes, signer: StateSigner, terms: ChainTerms | None) -> ChannelDriver:
    """As `driver.load`. Raises CorruptionError also for a channel of another key."""
    driver = load(log, stream, signer, terms)
    setup = driver.engine.state.setup
    owner = setup.participants[setup.my_index]
    if owner != signer.address:
        raise CorruptionError(f"it is of the key 0x{owner.hex()}, this node's is 0x{signer.address.hex()}")
    return driver
