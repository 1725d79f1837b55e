"""Drives one channel's engine in the order that keeps it safe: store, then act (safety rule 1).

`ChannelDriver.run` yields what has to be done and is sent the answers, so that the asyncio node and the synchronous
simulation follow the very same order. A run is short-lived: nothing of it needs to survive a restart.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Generator, Iterator, Sequence

import msgspec
from scapp.channels.admission import AdmissionError, Admitted
from scapp.channels.channel.effects import (
    STORED,
    Effect,
    TryBatch,
    outbox_row,
)
from scapp.channels.channel.engine import Engine
from scapp.channels.channel.events import (
    ChannelCreated,
    Event,
    Signed,
    StateAdopted,
    StateSigned,
    StateSupported,
    SubmissionsRefused,
    decode_event,
    encode_event,
)
from scapp.channels.channel.model import create, evolve
from scapp.channels.channel.session import Step
from scapp.channels.channel.signing_rules import StateSigner
from scapp.channels.entries import HEADER
from scapp.channels.errors import CorruptionError
from scapp.channels.log.port import Append, EventLog, StreamWrite


class Store(msgspec.Struct, frozen=True, gc=False):
    """Append this; answer None once it is done (durably when `durable`)."""

    append: Append
    durable: bool


class Ask(msgspec.Struct, frozen=True, gc=False):
    """Ask admission; answer with Admitted or an AdmissionError."""

    batch: TryBatch


class Clock(msgspec.Struct, frozen=True, gc=False):
    """Answer with the time in milliseconds."""


class Do(msgspec.Struct, frozen=True, gc=False):
    """Carry out an effect that has no answer."""

    effect: Effect


class Decided(msgspec.Struct, frozen=True, gc=False):
    """An own submission was decided: in the log at `sequence`, or refused (sequence -1)."""

    counter: int
    sequence: int
    turn: int
    code: str = ""
    reason: str = ""


class Advanced(msgspec.Struct, frozen=True, gc=False):
    """A state became supported; its entries are in the log."""

    turn: int
    sequence: int  # after its entries
    is_final: bool


Request = Store | Ask | Clock | Do | Decided | Advanced
Run = Generator[Request, object, None]

_CLOCK = Clock()


class ChannelDriver:
    """`version` is the number of events in the channel's stream; `ends` and `positions` index its batches."""

    def __init__(self, engine: Engine, version: int, unstored: ChannelCreated | None = None) -> None:
        """`unstored` is the first event of a channel of our own; it is stored with the first step."""
        self.engine = engine
        self._unstored = unstored
        self.version = version
        self.stream: bytes = engine.state.setup.channel_id
        self.ends: list[int] = []  # sequence after each supported batch that has entries
        self.positions: list[int] = []  # stream version from which that batch is found
        self._after_last = 0

    def run(self, step: Step | None) -> Run:
        """Store and act on `step`, then on all that follows from it. A None step only follows up."""
        while True:
            if step is None:
                now = yield _CLOCK
                assert isinstance(now, int)
                step = self.engine.follow_up(now)
                if step is None:
                    return
            step = yield from self._one(step)

    def _one(self, step: Step) -> Generator[Request, object, Step | None]:
        if step.events or any(type(e) in STORED for e in step.effects):
            yield self._store(step)
        if step.events:
            notices = self._notices(step.events)
            self.engine.apply(step.events)
            yield from notices
        following: Step | None = None
        for effect in step.effects:
            if type(effect) is TryBatch:
                answer = yield Ask(effect)
                now = yield _CLOCK
                assert isinstance(now, int)
                if isinstance(answer, AdmissionError):
                    following = self.engine.admission_failed(str(answer))
                else:
                    assert isinstance(answer, Admitted)
                    following = self.engine.admitted(answer, now)
            else:
                yield Do(effect)
        return following

    def _store(self, step: Step) -> Store:
        rows = (outbox_row(self.stream, e) for e in step.effects if isinstance(e, STORED))
        writes: tuple[StreamWrite, ...] = ()
        if step.events:
            events = tuple(map(encode_event, step.events))
            if self._unstored is not None:
                events = (encode_event(self._unstored), *events)
            writes = (StreamWrite(self.stream, self.version, events),)
        return Store(Append(writes, dict(rows)), step.durable and bool(step.events))

    def _notices(self, events: Sequence[Event]) -> list[Request]:
        """What local listeners hear about these events; computed before they are folded."""
        notices: list[Request] = []
        if self._unstored is not None:
            self._unstored = None
            self.version += 1
        fold = _Advances(self.engine.state.candidates)
        me = self.engine.state.setup.my_index
        for event in events:
            self.version += 1
            if isinstance(event, SubmissionsRefused):
                notices.extend(Decided(r.counter, -1, -1, r.code, r.reason) for r in event.refused if r.author == me)
            advanced = fold.next(event)
            if advanced is not None:
                notices.extend(_own(advanced, me))
                notices.append(Advanced(advanced.turn, advanced.sequence, advanced.is_final))
                self.index(advanced)
        return notices

    def index(self, advanced: Signed) -> None:
        """Remember where a supported batch stands in the stream."""
        if advanced.entries:
            self.ends.append(advanced.sequence)
            self.positions.append(self._after_last)
        self._after_last = self.version

    def position_of(self, sequence: int) -> int:
        """Stream version from which the batch that holds entry `sequence` is found."""
        at = bisect_right(self.ends, sequence)
        return self.positions[at] if at < len(self.positions) else self._after_last


def _own(advanced: Signed, me: int) -> Iterator[Decided]:
    first = advanced.sequence - len(advanced.entries)
    for sequence, entry in enumerate(advanced.entries, first):
        _, author, counter, _ = HEADER.unpack_from(entry)
        if author == me and counter:
            yield Decided(counter, sequence, advanced.turn)


class _Advances:
    """Which events move the supported log, and with which state: the reader's half of `model.evolve`."""

    def __init__(self, candidates: Sequence[Signed] = ()) -> None:
        self._signed = {c.turn: c for c in candidates}

    def next(self, event: Event) -> Signed | None:
        if isinstance(event, StateSigned):
            self._signed[event.state.turn] = event.state
            return None
        if isinstance(event, StateAdopted):
            self._signed.clear()
            return event.state
        if not isinstance(event, StateSupported) or max(self._signed, default=-1) != event.turn:
            return None
        state = self._signed[event.turn]
        self._signed.clear()
        return state


def advances(log: EventLog, stream: bytes, position: int = 0) -> Iterator[tuple[Signed, int]]:
    """Supported states of a stream from a position on, each with the position after it."""
    fold = _Advances()
    for page in log.read(stream, position):
        for version, data in enumerate(page.events, page.first_version + 1):
            advanced = fold.next(decode_event(data))
            if advanced is not None:
                yield advanced, version


def load(log: EventLog, stream: bytes, signer: StateSigner) -> ChannelDriver:
    """Rebuild a channel from its stream. Raises CorruptionError when the stream contradicts itself."""
    state = None
    version = 0
    marks: list[tuple[Signed, int]] = []
    fold = _Advances()
    for page in log.read(stream):
        for data in page.events:
            event = decode_event(data)
            version += 1
            if state is None:
                if not isinstance(event, ChannelCreated):
                    raise CorruptionError(f"stream 0x{stream.hex()} begins with {type(event).__name__}")
                state = create(event)
                continue
            state = evolve(state, event)
            advanced = fold.next(event)
            if advanced is not None:
                marks.append((advanced, version))
    if state is None:
        raise CorruptionError(f"stream 0x{stream.hex()} is empty")
    if state.setup.channel_id != stream:
        raise CorruptionError(f"stream 0x{stream.hex()} holds channel 0x{state.setup.channel_id.hex()}")
    driver = ChannelDriver(Engine(state, signer), 0)
    for advanced, after in marks:
        driver.version = after
        driver.index(advanced)
    driver.version = version
    return driver
