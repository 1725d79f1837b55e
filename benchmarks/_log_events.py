"""Events and folds that the log's measures share, on our side and as an eventsourcing aggregate.

An event has nine fields and 272 bytes as MessagePack array, like a signed state's record. Four kinds, so that decoding
goes through a tagged union and folding through a dispatch.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

EVENT_BYTES = 272


class _Event(msgspec.Struct, frozen=True, array_like=True, gc=False):
    channel: bytes  # 32
    turn: int
    author: int
    counter: int
    time_ms: int
    payload: bytes
    root: bytes  # 32
    signature: bytes  # 65


class Opened(_Event, frozen=True, array_like=True, gc=False, tag="opened.1"):
    pass


class Proposed(_Event, frozen=True, array_like=True, gc=False, tag="proposed.1"):
    pass


class Countersigned(_Event, frozen=True, array_like=True, gc=False, tag="countersigned.1"):
    pass


class Supported(_Event, frozen=True, array_like=True, gc=False, tag="supported.1"):
    pass


Event = Opened | Proposed | Countersigned | Supported
KINDS = (Proposed, Countersigned, Supported)
decode = msgspec.msgpack.Decoder(Event).decode
_encode = msgspec.msgpack.Encoder().encode


class State(msgspec.Struct, frozen=True, gc=False):
    """What the fold keeps: progress, the last root, and how much of each kind."""

    turn: int
    counter: int
    time_ms: int
    root: bytes
    proposed: int
    countersigned: int
    supported: int


INITIAL = State(0, 0, 0, bytes(32), 0, 0, 0)


def _opened(state: State, event: Opened) -> State:
    return State(event.turn, event.counter, event.time_ms, event.root, 0, 0, 0)


def _proposed(state: State, event: Proposed) -> State:
    return State(
        event.turn, event.counter, event.time_ms, event.root, state.proposed + 1, state.countersigned, state.supported
    )


def _countersigned(state: State, event: Countersigned) -> State:
    return State(
        event.turn, event.counter, event.time_ms, event.root, state.proposed, state.countersigned + 1, state.supported
    )


def _supported(state: State, event: Supported) -> State:
    return State(
        event.turn, event.counter, event.time_ms, event.root, state.proposed, state.countersigned, state.supported + 1
    )


_EVOLVE: dict[type, Callable[[State, Any], State]] = {
    Opened: _opened,
    Proposed: _proposed,
    Countersigned: _countersigned,
    Supported: _supported,
}


def evolve(state: State, event: Event) -> State:
    """The next state."""
    return _EVOLVE[type(event)](state, event)


def make_event(number: int) -> Event:
    """Event `number`: the first opens, the others go round the kinds."""
    kind = Opened if number == 0 else KINDS[number % 3]
    fields = (os.urandom(32), number, number % 2, number, 1_700_000_000_000 + number)
    bare = kind(*fields, b"", os.urandom(32), os.urandom(65))
    missing = EVENT_BYTES - len(_encode(bare))
    return kind(*fields, os.urandom(missing), bare.root, bare.signature)


def encode_all(events: Sequence[Event]) -> list[bytes]:
    """Events as they are stored."""
    encode_one = _encode
    return [encode_one(event) for event in events]


def event_bytes(count: int) -> tuple[bytes, ...]:
    """`count` encoded events of 272 bytes each."""
    return tuple(_encode(make_event(number)) for number in range(count))


@functools.cache
def aggregate_class() -> Any:
    """The eventsourcing aggregate that takes the same events; its class may be defined once per process."""
    from eventsourcing.domain import Aggregate, event

    class Channel(Aggregate):
        def __init__(self) -> None:
            self.turn = self.counter = self.time_ms = self.seen = 0
            self.root = ""

        @event("Supported")
        def support(
            self, channel: str, turn: int, author: int, counter: int, time_ms: int, payload: str, root: str, proof: str
        ) -> None:
            self.turn, self.counter, self.time_ms, self.root = turn, counter, time_ms, root
            self.seen += 1

    return Channel


@contextmanager
def eventsourcing_application(path: Path) -> Iterator[Any]:
    """An eventsourcing application on an SQLite file."""
    from eventsourcing.application import Application

    application: Any = Application(
        env={"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": str(path), "SQLITE_LOCK_TIMEOUT": "10"}
    )
    try:
        yield application
    finally:
        application.close()


def support_arguments(number: int) -> dict[str, Any]:
    """The fields of event `number` as eventsourcing's JSON can hold them: text of the same byte count."""
    event = make_event(number)
    return {
        "channel": event.channel.hex()[:32],
        "turn": event.turn,
        "author": event.author,
        "counter": event.counter,
        "time_ms": event.time_ms,
        "payload": event.payload.hex()[: len(event.payload)],
        "root": event.root.hex()[:32],
        "proof": event.signature.hex()[:65],
    }
