"""Folding a stream: with and without snapshots the same state; when snapshots are passed over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scapp.channels.log.fold import fold
from scapp.channels.log.memory import MemoryLog
from scapp.channels.log.port import Append, LogCorrupt, Page, Snapshot, StreamWrite

A = b"\x0a" * 32

Notes = tuple[int, ...]
decode = msgspec.msgpack.Decoder(int).decode


def evolve(state: Notes, event: int) -> Notes:
    return (*state, event)


class NotesCodec:
    def __init__(self) -> None:
        self.decoded = 0

    def encode(self, state: Notes) -> bytes:
        return msgspec.msgpack.encode(state)

    def decode(self, data: bytes) -> Notes:
        self.decoded += 1
        return msgspec.msgpack.decode(data, type=Notes)


def filled(*pages: Sequence[int]) -> MemoryLog:
    log = MemoryLog()
    version = 0
    for numbers in pages:
        log.append(Append((StreamWrite(A, version, [msgspec.msgpack.encode(number) for number in numbers]),)))
        version += len(numbers)
    return log


def test_a_stream_that_does_not_exist_folds_to_the_initial_state() -> None:
    """A stream that does not exist folds to the initial state."""
    assert fold(MemoryLog(), A, decode, evolve, (), snapshot_codec=NotesCodec()) == ((), 0)


def test_all_events_are_folded_in_order() -> None:
    """All events are folded in order."""
    assert fold(filled([1, 2], [3], [4, 5, 6]), A, decode, evolve, ()) == ((1, 2, 3, 4, 5, 6), 6)


@pytest.mark.parametrize("version", range(7))
def test_the_newest_snapshot_replaces_the_events_before_it(version: int) -> None:
    """The newest snapshot replaces the events before it."""
    log = filled([1, 2], [3], [4, 5, 6])
    marked = tuple(-number for number in range(1, version + 1))  # shows what came from the snapshot
    log.save_snapshot(A, Snapshot(version, NotesCodec().encode(marked)), "channel")
    codec = NotesCodec()
    assert fold(log, A, decode, evolve, (), snapshot_codec=codec) == ((*marked, *range(version + 1, 7)), 6)
    assert codec.decoded == 1


def test_snapshots_are_left_alone_without_a_codec() -> None:
    """Snapshots are left alone without a codec."""
    log = filled([1, 2, 3])
    log.save_snapshot(A, Snapshot(2, b"anything"), "channel")
    assert fold(log, A, decode, evolve, ()) == ((1, 2, 3), 3)


def test_a_snapshot_in_an_unknown_form_is_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    """Loudly: the operator hears why the start took longer."""
    log = filled([1, 2, 3])
    log.save_snapshot(A, Snapshot(2, b"\xc1 of another release"), "channel")
    assert fold(log, A, decode, evolve, (), snapshot_codec=NotesCodec()) == ((1, 2, 3), 3)
    assert "the channel snapshot is passed over" in caplog.text


def test_an_event_that_does_not_decode_is_named() -> None:
    """An event that does not decode is named."""
    log = filled([1, 2])
    log.append(Append((StreamWrite(A, 2, (msgspec.msgpack.encode(3), b"\xc1")),)))
    with pytest.raises(LogCorrupt, match=f"stream {A.hex()}: event 3 does not decode"):
        fold(log, A, decode, evolve, ())


def test_an_error_of_evolve_passes_through() -> None:
    """An error of evolve passes through."""

    def refuse(state: Notes, event: int) -> Notes:
        raise ValueError(f"unknown event {event}")

    with pytest.raises(ValueError, match="unknown event 1"):
        fold(filled([1]), A, decode, refuse, ())


def test_a_gap_between_pages_is_found() -> None:
    """A gap between pages is found."""

    class Gapped(MemoryLog):
        def read(self, stream: bytes, from_version: int = 0) -> Iterator[Page]:
            return (page for page in super().read(stream, from_version) if page.first_version != 2)

    log = Gapped()
    for version in range(4):
        log.append(Append((StreamWrite(A, version, (msgspec.msgpack.encode(version),)),)))
    with pytest.raises(LogCorrupt, match="expected a page at version 2, found 3"):
        fold(log, A, decode, evolve, ())


@given(st.lists(st.lists(st.integers(0, 99), max_size=4), max_size=12), st.integers(1, 7))
def test_snapshots_never_change_the_result(pages: list[list[int]], every: int) -> None:
    """Snapshots never change the result."""
    log = filled(*pages)
    expected = tuple(number for page in pages for number in page)
    state: Notes = ()
    for version, number in enumerate(expected, start=1):
        state = evolve(state, number)
        if version % every == 0:
            log.save_snapshot(A, Snapshot(version, NotesCodec().encode(state)), "channel")
        assert fold(log, A, decode, evolve, (), snapshot_codec=NotesCodec()) == (expected, len(expected))
