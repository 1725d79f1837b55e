"""A channel's own state as a snapshot: the fold of its events, and where its batches stand. `driver.load` begins there.

A snapshot names the fold's release and the shape of the state; one that is of another release is passed over, and the
whole stream is folded. Participants, deployment and slots are not in it: event 0 says them, and is read at every start.
"""

from __future__ import annotations

import functools
from binascii import crc32
from collections.abc import Callable
from typing import Any, get_type_hints

import msgspec

from scapp.channels.batch_index import BatchIndex, SavedIndex
from scapp.channels.channel.events import ChannelCreated, Event, Signed, StateSupported
from scapp.channels.channel.model import ChannelState, create, evolve
from scapp.channels.errors import CorruptionError, LocalError

FORM = "channel.1"
FOLD = 1
"""To be raised whenever `model.evolve` gives another state for the same events; a change of the state's shape is
noticed without."""

# What events raise that decode and that no node has written: indices of nobody, parameters that are not allowed.
_NONSENSE = (LocalError, LookupError, ValueError, TypeError)
_FROM_CREATION = ("setup", "prefund")
_FIELDS = tuple(name for name in ChannelState.__struct_fields__ if name not in _FROM_CREATION)


class Loaded:
    """A channel on its way out of the log: the fold of its events so far, and the index of its batches."""

    def __init__(self, stream: bytes, state: ChannelState | None = None, index: BatchIndex | None = None) -> None:
        self.stream = stream
        self.state = state
        self.index = index or BatchIndex()
        self.version = 0
        self.snapshot: tuple[int, int] = (0, 0)  # version and size of the snapshot that this began at

    def next(self, event: Event) -> Loaded:
        """Fold one event. Raises CorruptionError when it cannot follow."""
        self.version += 1
        try:
            self._fold(event)
        except _NONSENSE as error:
            kind = type(event).__name__
            raise CorruptionError(
                f"stream 0x{self.stream.hex()}: event {self.version - 1}, {kind}, cannot be: {error}"
            ) from error
        return self

    def _fold(self, event: Event) -> None:
        before = self.state
        if before is None:
            if not isinstance(event, ChannelCreated):
                raise CorruptionError(f"stream 0x{self.stream.hex()} begins with {type(event).__name__}")
            self.state = create(event)
            return
        self.state = state = evolve(before, event)
        if state.head is not before.head:
            advanced: Signed = before.candidates[-1] if type(event) is StateSupported else event.state  # type: ignore[union-attr]
            self.index.add(len(advanced.entries), advanced.sequence, self.version)


class _Saved(msgspec.Struct, frozen=True, array_like=True, gc=False):
    form: str
    fold: int
    shape: int
    version: int
    index: SavedIndex
    state: msgspec.Raw


class StateCodec:
    """`log.fold.SnapshotCodec` of one channel. `created` gives event 0 of its stream."""

    def __init__(self, stream: bytes, created: Callable[[], Event]) -> None:
        self._stream = stream
        self._created = created

    def encode(self, state: Loaded) -> bytes:
        assert state.state is not None
        fields = tuple(getattr(state.state, name) for name in _FIELDS)
        body = msgspec.Raw(msgspec.msgpack.encode(fields))
        return msgspec.msgpack.encode(_Saved(FORM, FOLD, _shape(), state.version, state.index.saved(), body))

    def decode(self, data: bytes) -> Loaded:
        """Raises ValueError (msgspec's errors are some) for a snapshot of another release."""
        try:
            saved = msgspec.msgpack.decode(data, type=_Saved)
        except RecursionError as error:
            raise ValueError(str(error)) from None
        if (saved.form, saved.fold, saved.shape) != (FORM, FOLD, _shape()):
            found = f"{saved.form} {saved.fold} {saved.shape:08x}"
            raise ValueError(f"snapshot is of form {found}, this release has {FORM} {FOLD} {_shape():08x}")
        fields = msgspec.msgpack.decode(saved.state, type=_state_type())  # of the shape that this release wrote
        created = self._created()
        if not isinstance(created, ChannelCreated):
            raise CorruptionError(f"stream 0x{self._stream.hex()} begins with {type(created).__name__}")
        state = msgspec.structs.replace(create(created), **{name: getattr(fields, name) for name in _FIELDS})
        loaded = Loaded(self._stream, state, BatchIndex(saved.index))
        loaded.version = saved.version
        loaded.snapshot = saved.version, len(data)
        return loaded


@functools.cache
def _state_type() -> Any:
    """What the fields of a state decode as."""
    hints = get_type_hints(ChannelState)
    return msgspec.defstruct("SavedState", [(name, hints[name]) for name in _FIELDS], array_like=True, gc=False)


@functools.cache
def _shape() -> int:
    """A checksum of the state's fields and their types, to the bottom."""
    return crc32(msgspec.json.encode(msgspec.json.schema(_state_type())))
