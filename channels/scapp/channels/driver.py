"""Drives one channel's engine in the order that keeps it safe: store, then act (safety rule 1).

`ChannelDriver.run` yields what has to be done and is sent the answers, so that the asyncio node and the synchronous
simulation follow the very same order. A run is short-lived: nothing of it needs to survive a restart.

One append per proposal: that a state is supported is stored together with the sequencer's next one when that follows
at once, and by itself when nothing does. Until then nothing leaves the node, and local listeners hear nothing of it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import final

import msgspec

from scapp.channels.admission import AdmissionError, Admitted
from scapp.channels.batch_index import BatchIndex
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
    Refused,
    Signed,
    StateAdopted,
    StateCompleted,
    StateRecalled,
    StateSigned,
    StateSupported,
    SubmissionsRefused,
    decode_event,
    encode_event,
)
from scapp.channels.channel.session import NOTHING, Step
from scapp.channels.channel.signing_rules import StateSigner
from scapp.channels.channel.terms import ChainTerms
from scapp.channels.channel_snapshots import Loaded, StateCodec
from scapp.channels.errors import CorruptionError
from scapp.channels.log.fold import fold
from scapp.channels.log.port import Append, EventLog, StreamWrite


@final
class Store(Append, frozen=True, gc=False):
    """Append this; answer None once it is done (durably when `durable`)."""

    durable: bool = True


@final
class Refusals(msgspec.Struct, frozen=True, gc=False):
    """Own submissions were refused."""

    refused: tuple[Refused, ...]


Notice = Refusals | Signed
"""A state by itself says that it became supported: its entries are in the log."""


@final
class Do(msgspec.Struct, frozen=True, gc=False):
    """Tell local listeners the notices, then carry out the effects, in order; none of them has an answer."""

    effects: tuple[Effect, ...]
    notices: Sequence[Notice] = ()


_NO_ROWS: Mapping[bytes, bytes | None] = MappingProxyType({})

Request = Store | TryBatch | Do
"""`TryBatch` is answered with Admitted or an AdmissionError."""
Run = Generator[Request, object, None]


class ChannelDriver:
    """`version` is the number of events in the channel's stream, folded ones that wait for the next append included;
    `index` says where its batches stand; `snapshot_at` is the version of the snapshot it was rebuilt from."""

    def __init__(
        self, engine: Engine, version: int, unstored: ChannelCreated | None = None, loaded: Loaded | None = None
    ) -> None:
        """`unstored` is the first event of a channel of our own; it is stored with the first step."""
        self.engine = engine
        self.index = loaded.index if loaded is not None else BatchIndex()
        self.snapshot_at, self.snapshot_bytes = loaded.snapshot if loaded is not None else (0, 0)
        # Folded events that the next append stores before its own, and what listeners hear once it has. They belong
        # to the driver, not to one run: should a run be broken off, no later event is stored without them.
        self._held: list[bytes] = [] if unstored is None else [encode_event(unstored)]
        self._held_notices: list[Notice] = []
        self.version = version + len(self._held)
        self.stream: bytes = engine.state.setup.channel_id

    def run(self, step: Step | None, now_ms: int) -> Run:
        """Store and act on `step`, then on all that follows from it. A None step only follows up."""
        engine = self.engine
        if step is None or step is NOTHING:
            step = engine.follow_up(now_ms)
        while step is not None:
            events, effects, ask = step.events, step.effects, step.ask
            if events and step.joins:
                for event in events:
                    self._held.append(encode_event(event))
                self._fold(events, self._held_notices)
                if effects:
                    yield Do(effects)
            elif events:
                yield self._store(step)
                notices = self._told() if self._held else []
                self._fold(events, notices)
                if effects or notices:
                    yield Do(effects, notices)
            elif effects:
                # Only admission, which is undone by a crash, may run while folded events are held back.
                if self._held or any(type(effect) in STORED for effect in effects):
                    yield self._store(step)
                yield Do(effects, self._told())
            if ask is None:
                step = engine.follow_up(now_ms)
                continue
            answer = yield ask
            if type(answer) is Admitted:
                step = engine.admitted(answer, now_ms)
            else:
                assert isinstance(answer, AdmissionError)
                step = engine.admission_failed(str(answer))
        if self._held:
            yield self._store(NOTHING)
            yield Do((), self._told())

    def _rows(self, effects: Sequence[Effect]) -> Mapping[bytes, bytes | None]:
        """What the effects keep in the outbox."""
        return dict(outbox_row(self.stream, effect) for effect in effects if type(effect) in STORED)  # type: ignore[arg-type]

    def _store(self, step: Step) -> Store:
        """One append of all events held and those of the step."""
        held = self._held
        events = held.copy()
        for event in step.events:  # mostly one, for which a `map` costs more than the loop
            events.append(encode_event(event))
        rows = _NO_ROWS
        for effect in step.effects:
            if type(effect) in STORED:
                rows = self._rows(step.effects)
                break
        if not events:
            return Store((), rows, False)
        write = StreamWrite(self.stream, self.version - len(held), events)
        return Store((write,), rows, step.durable or bool(held))

    def _told(self) -> list[Notice]:
        """The held events are stored: what listeners hear of them now."""
        notices, self._held_notices = self._held_notices, []
        self._held.clear()
        return notices

    def _fold(self, events: Sequence[Event], notices: list[Notice]) -> None:
        """Fold the events; adds what listeners hear of them."""
        engine = self.engine
        for event in events:
            self.version += 1
            advanced = engine.apply(event)
            if advanced is not None:
                self.index.add(len(advanced.entries), advanced.sequence, self.version)
                notices.append(advanced)
            elif type(event) is SubmissionsRefused:
                notices += _refusals_of(engine.state.setup.my_index, event)

    def position_of(self, sequence: int) -> int:
        """Stream version from which the batch that holds entry `sequence` is found (see `BatchIndex`)."""
        return self.index.position_of(sequence)

    def loaded(self) -> Loaded | None:
        """What a snapshot keeps: the fold of all stored events. None while folded ones wait for their append."""
        if self._held:
            return None
        loaded = Loaded(self.stream, self.engine.state, self.index)
        loaded.version = self.version
        return loaded


def _refusals_of(author: int, event: SubmissionsRefused) -> list[Refusals]:
    mine = tuple(r for r in event.refused if r.author == author)
    return [Refusals(mine)] if mine else []


class _Advances:
    """Which events move the supported log, and with which state: the reader's half of `model.evolve`."""

    def __init__(self) -> None:
        self._signed: dict[int, Signed] = {}

    def next(self, event: Event) -> Signed | None:
        if isinstance(event, StateSigned | StateRecalled):
            self._signed[event.state.turn] = event.state
            return None
        if isinstance(event, StateCompleted | StateAdopted):
            self._signed.clear()
            return event.state
        if not isinstance(event, StateSupported) or max(self._signed, default=-1) != event.turn:
            return None
        state = msgspec.structs.replace(self._signed[event.turn], signatures=event.signatures)
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


def state_codec(log: EventLog, stream: bytes) -> StateCodec:
    """Snapshots of the channel's own state."""
    return StateCodec(stream, lambda: decode_event(next(log.read(stream)).events[0]))


def load(log: EventLog, stream: bytes, signer: StateSigner, terms: ChainTerms | None = None) -> ChannelDriver:
    """Rebuild a channel from its newest valid snapshot and the events after it. Raises CorruptionError when the stream
    contradicts itself."""
    codec = state_codec(log, stream)
    loaded, version = fold(log, stream, decode_event, Loaded.next, Loaded(stream), snapshot_codec=codec)
    state = loaded.state
    if state is None:
        raise CorruptionError(f"stream 0x{stream.hex()} is empty")
    if state.setup.channel_id != stream:
        raise CorruptionError(f"stream 0x{stream.hex()} holds channel 0x{state.setup.channel_id.hex()}")
    return ChannelDriver(Engine(state, signer, terms), version, loaded=loaded)
