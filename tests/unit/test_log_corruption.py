"""Stored bytes that were altered, moved or lost: each is found when read, named, and never papered over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rocksdict import ColumnFamily, Rdict, WriteBatch

from scapp.channels.log.framing import (
    Head,
    frame_head,
    frame_page,
    page_key,
    unframe_head,
    unframe_outbox,
    unframe_page,
)
from scapp.channels.log.port import Append, LogCorrupt, LogReadFailed, Page, Snapshot, StreamWrite
from scapp.channels.log.rocks import RocksLog
from scapp.channels.log.rocks_store import Family, Store

A = b"\x0a" * 32
B = b"\x0b" * 32


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A log with stream A in pages at 0, 3, 5, 6 (7 events) and stream B alike."""
    with RocksLog(tmp_path / "log") as log:
        for stream in (A, B):
            for version, count in ((0, 3), (3, 2), (5, 1), (6, 1)):
                events = tuple(b"%d of %d" % (version + index, stream[0]) for index in range(count))
                log.append(Append((StreamWrite(stream, version, events),)), durable=False)
        log.append(Append((), {b"k": b"value"}))
    return tmp_path / "log"


def damage(path: Path, change: Callable[[Store, WriteBatch], None]) -> None:
    store = Store(path)
    batch = WriteBatch(raw_mode=True)
    change(store, batch)
    store.write(batch, sync=True)
    store.close()


def value_at(store: Store, stream: bytes, version: int) -> bytes:
    value = store.pages.get(page_key(stream, version))
    assert value is not None
    return value


def alter(stream: bytes, version: int, position: int) -> Callable[[Store, WriteBatch], None]:
    def change(store: Store, batch: WriteBatch) -> None:
        value = bytearray(value_at(store, stream, version))
        value[position] ^= 0x10
        store.pages.put(batch, page_key(stream, version), bytes(value))

    return change


def remove(stream: bytes, *versions: int) -> Callable[[Store, WriteBatch], None]:
    def change(store: Store, batch: WriteBatch) -> None:
        for version in versions:
            store.pages.delete(batch, page_key(stream, version))

    return change


def swap(first: tuple[bytes, int], second: tuple[bytes, int]) -> Callable[[Store, WriteBatch], None]:
    def change(store: Store, batch: WriteBatch) -> None:
        store.pages.put(batch, page_key(*first), value_at(store, *second))
        store.pages.put(batch, page_key(*second), value_at(store, *first))

    return change


def rewrite(store: Store, batch: WriteBatch) -> None:
    """Another, self-consistent page in the place of the second."""
    key = page_key(A, 3)
    store.pages.put(batch, key, frame_page(key, (b"forged", b"page"), 12345)[0])


def rewrite_and_link(store: Store, batch: WriteBatch) -> None:
    """The second page replaced by one that follows the first correctly; the third then does not follow it."""
    first = unframe_page(page_key(A, 0), value_at(store, A, 0))
    key = page_key(A, 3)
    store.pages.put(batch, key, frame_page(key, (b"other", b"events"), first.chain)[0])


def stretch(store: Store, batch: WriteBatch) -> None:
    """The second page with one event too many."""
    first = unframe_page(page_key(A, 0), value_at(store, A, 0))
    key = page_key(A, 3)
    store.pages.put(batch, key, frame_page(key, (b"3", b"4", b"5"), first.chain)[0])


def read_all(path: Path, from_version: int = 0) -> Iterator[Page]:
    with RocksLog(path) as log:
        yield from log.read(A, from_version)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (alter(A, 3, 8), "page at version 3: checksum expected .*, found"),
        (alter(A, 3, 0), "page at version 3: checksum"),
        (alter(A, 3, 3), "page at version 3: checksum"),
        (alter(A, 3, -1), "page at version 3: checksum"),
        (remove(A, 0), "expected a page at version 0, found one at 3"),
        (remove(A, 3), "expected a page at version 3, found one at 5"),
        (remove(A, 3, 5), "expected a page at version 3, found one at 6"),
        (remove(A, 6), "expected to end at version 7 .*, found its last page to end at version 6"),
        (remove(A, 0, 3, 5, 6), "expected to end at version 7 .*, found its last page to end at version 0"),
        (swap((A, 0), (B, 0)), "page at version 0: checksum"),
        (swap((A, 5), (A, 6)), "page at version (5|6): checksum"),
        (rewrite, "page at version 3: expected to follow checksum .*, found 00003039"),
        (rewrite_and_link, "page at version 5: expected to follow checksum"),
        (stretch, "expected a page at version 6, found one at 5"),
    ],
)
def test_a_damaged_page_is_found_by_reading_past_it(
    path: Path, change: Callable[[Store, WriteBatch], None], message: str
) -> None:
    """A damaged page is found by reading past it."""
    damage(path, change)
    with pytest.raises(LogCorrupt, match=f"stream {A.hex()}.*{message}"):
        list(read_all(path))
    with RocksLog(path) as log:
        if change.__qualname__.startswith("swap"):
            return
        assert sum(len(page.events) for page in log.read(B)) == 7, "the neighbour is unharmed"


def test_pages_before_the_damage_are_still_delivered(path: Path) -> None:
    """Pages before the damage are still delivered."""
    damage(path, alter(A, 5, 8))
    reading = read_all(path)
    assert [next(reading).first_version, next(reading).first_version] == [0, 3]
    with pytest.raises(LogCorrupt, match="version 5"):
        next(reading)


def test_damage_is_found_when_reading_from_the_middle(path: Path) -> None:
    """Damage is found when reading from the middle."""
    damage(path, alter(A, 3, 8))
    with pytest.raises(LogCorrupt, match="version 3"):
        list(read_all(path, 4))
    assert [page.first_version for page in read_all(path, 5)] == [5, 6]
    damage(path, remove(A, 3))
    with pytest.raises(LogCorrupt, match="expected a page with version 4, found one of versions 0 to 2"):
        list(read_all(path, 4))


def test_nothing_is_appended_to_a_stream_whose_end_is_damaged(path: Path) -> None:
    """Nothing is appended to a stream whose end is damaged."""
    damage(path, alter(A, 6, 8))
    with RocksLog(path) as log:
        with pytest.raises(LogCorrupt, match="version 6"):
            log.append(Append((StreamWrite(B, 7, (b"x",)), StreamWrite(A, 7, (b"x",)))))
        assert log.version(B) == 7
        log.append(Append((StreamWrite(B, 7, (b"x",)),)))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (b"\xc1", "head: c1 does not decode"),
        (b"\x93\xff\x00\x00", "does not decode"),
        (b"\x93\x07\x00\x00", "head at version 7: checksum expected 00000000, found"),
        (frame_head(B, Head(7, 1)), "head at version 7: checksum"),
        (frame_head(A, Head(6, 1)), "page at version 6: expected to follow checksum 00000001, found"),
        (frame_head(A, Head(4, 1)), "expected a page at version 4, found one at 5"),
        (frame_head(A, Head(7, 1)), "expected to end at version 7 .* found its last page to end at version 7"),
        (frame_head(A, Head(8, 1)), "expected to end at version 8 .* found its last page to end at version 7"),
        (None, "expected to end at version 0 .* found its last page to end at version 7"),
    ],
)
def test_a_damaged_or_missing_head_is_found(path: Path, row: bytes | None, message: str) -> None:
    """A damaged or missing head is found."""

    def change(store: Store, batch: WriteBatch) -> None:
        if row is None:
            store.heads.delete(batch, A)
        else:
            store.heads.put(batch, A, row)

    damage(path, change)
    with RocksLog(path) as log, pytest.raises(LogCorrupt, match=f"stream {A.hex()}.*{message}"):
        log.version(A)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (alter(A, 5, 8), "page at version 5: checksum expected .*, found"),
        (remove(A, 5), "expected a page at version 5, found one at 6"),
        (remove(A, 3, 5), "expected a page at version 3, found one at 6"),
        (remove(A, 0, 3, 5, 6), "expected to end at version 3 .*, found its last page to end at version 0"),
        (rewrite, "page at version 3: expected to follow checksum .*, found 00003039"),
        (rewrite_and_link, "page at version 5: expected to follow checksum"),
        (stretch, "expected a page at version 6, found one at 5"),
    ],
)
def test_damage_behind_a_head_that_lags_is_found_before_anything_is_appended(
    path: Path, change: Callable[[Store, WriteBatch], None], message: str
) -> None:
    """As a crash leaves it: the head is at the first page's end."""
    damage(path, head_at_3)
    damage(path, change)
    with RocksLog(path) as log, pytest.raises(LogCorrupt, match=f"stream {A.hex()}.*{message}"):
        log.append(Append((StreamWrite(A, 7, (b"x",)),)))


def head_at_3(store: Store, batch: WriteBatch) -> None:
    store.heads.put(batch, A, frame_head(A, Head(3, unframe_page(page_key(A, 0), value_at(store, A, 0)).chain)))


def test_the_newest_pages_behind_a_head_that_lags_may_be_missing_together(path: Path) -> None:
    """What the head does not name yet can be lost without a trace, as with its head before: less than a stride."""
    damage(path, head_at_3)
    damage(path, remove(A, 6))
    with RocksLog(path) as log:
        assert log.version(A) == 6


@pytest.mark.parametrize("row", [b"\xc1", b"\x92\xc4\x05value\x00"])
def test_a_damaged_outbox_row_is_found(path: Path, row: bytes) -> None:
    """A damaged outbox row is found."""
    damage(path, lambda store, batch: store.outbox.put(batch, b"k", row))
    with RocksLog(path) as log, pytest.raises(LogCorrupt, match="outbox row 6b"):
        log.outbox()


def test_the_newest_snapshot_that_holds_is_loaded(path: Path) -> None:
    """The newest snapshot that holds is loaded."""
    with RocksLog(path) as log:
        for version in (2, 5, 7):
            log.save_snapshot(A, Snapshot(version, b"at %d" % version))
        assert [key for key, _ in log._store.snapshots.rows()] == [page_key(A, 5), page_key(A, 7)]

    def spoil(version: int) -> Callable[[Store, WriteBatch], None]:
        def change(store: Store, batch: WriteBatch) -> None:
            value = bytearray(store.snapshots.get(page_key(A, version)) or b"")
            value[4] ^= 1
            store.snapshots.put(batch, page_key(A, version), bytes(value))

        return change

    damage(path, spoil(7))
    with RocksLog(path) as log:
        assert log.load_snapshot(A) == Snapshot(5, b"at 5")
    damage(path, spoil(5))
    with RocksLog(path) as log:
        assert log.load_snapshot(A) is None
        log.save_snapshot(A, Snapshot(7, b"again"))
        assert log.load_snapshot(A) == Snapshot(7, b"again")
    damage(path, lambda store, batch: store.snapshots.put(batch, page_key(A, 7), b"garbage"))
    with RocksLog(path) as log:
        assert log.load_snapshot(A) is None


def lose_tail(store: Store, batch: WriteBatch) -> None:
    """The stream as it was when it ended with version 4."""
    remove(A, 5, 6)(store, batch)
    store.heads.put(batch, A, frame_head(A, Head(5, unframe_page(page_key(A, 3), value_at(store, A, 3)).chain)))


def test_a_snapshot_of_lost_events_is_ignored_also_when_others_take_their_place(path: Path) -> None:
    """A snapshot of lost events is ignored also when others take their place."""
    with RocksLog(path) as log:
        log.save_snapshot(A, Snapshot(5, b"at 5"))
        log.save_snapshot(A, Snapshot(7, b"of lost events"))
    damage(path, lose_tail)
    with RocksLog(path) as log:
        assert log.version(A) == 5
        assert log.load_snapshot(A) == Snapshot(5, b"at 5")
        log.append(Append((StreamWrite(A, 5, (b"other", b"history")),)))
        assert log.load_snapshot(A) == Snapshot(5, b"at 5")


def test_a_snapshot_beyond_the_end_does_not_push_out_good_ones(path: Path) -> None:
    """A snapshot beyond the end does not push out good ones."""
    with RocksLog(path) as log:
        log.save_snapshot(A, Snapshot(6, b"lost"))
        log.save_snapshot(A, Snapshot(7, b"lost"))
    damage(path, lose_tail)
    with RocksLog(path) as log:
        log.save_snapshot(A, Snapshot(4, b"at 4"))
        log.save_snapshot(A, Snapshot(5, b"at 5"))
        assert log.load_snapshot(A) == Snapshot(5, b"at 5")
        assert [key for key, _ in log._store.snapshots.rows()] == [page_key(A, 4), page_key(A, 5)]


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=5), st.integers(0, 2**32 - 1), st.data())
def test_any_flipped_bit_of_a_page_is_found(events: list[bytes], previous: int, data: st.DataObject) -> None:
    """Any flipped bit of a page is found."""
    key = page_key(A, 9)
    value, chain = frame_page(key, events, previous)
    page = unframe_page(key, value)
    assert (page.events, page.previous_chain, page.chain, page.end_version) == (
        tuple(events),
        previous,
        chain,
        9 + len(events),
    )
    bit = data.draw(st.integers(0, len(value) * 8 - 1))
    flipped = bytearray(value)
    flipped[bit // 8] ^= 1 << bit % 8
    with pytest.raises(LogCorrupt):
        unframe_page(key, bytes(flipped))


@given(st.binary(max_size=60))
def test_arbitrary_bytes_in_a_row_are_corrupt_and_never_another_error(stored: bytes) -> None:
    """Arbitrary bytes in a row are corrupt and never another error."""
    for unframe in (lambda: unframe_page(page_key(A, 0), stored), lambda: unframe_head(A, stored)):
        with pytest.raises(LogCorrupt):
            unframe()
    with pytest.raises(LogCorrupt):
        unframe_outbox(b"k", stored)


def spoil_table_with(path: Path, needle: bytes) -> None:
    """Flip one bit in the table file that holds `needle`, inside it."""
    for file in path.glob("*.sst"):
        data = bytearray(file.read_bytes())
        position = data.find(needle)
        if position >= 0:
            data[position + len(needle) // 2] ^= 1
            file.write_bytes(data)
            return
    raise AssertionError(f"no table file holds {needle!r}")


def test_a_damaged_block_of_a_table_file_is_found_and_named(tmp_path: Path) -> None:
    """A damaged block of a table file is found and named."""
    path = tmp_path / "log"
    with RocksLog(path) as log:
        log.append(Append((StreamWrite(A, 0, (b"0" * 200_000,)), StreamWrite(B, 0, (b"x",)))))
    spoil_table_with(path, b"0" * 100_000)
    with RocksLog(path) as log:
        with pytest.raises(LogCorrupt, match=f"reading at stream {A.hex()} version .*Corruption"):
            log.version(A)
        with pytest.raises(LogCorrupt, match=f"reading at stream {A.hex()}"):
            log.append(Append((StreamWrite(A, 0, (b"over it",)),)))


def test_a_damaged_block_never_looks_like_fewer_rows(tmp_path: Path) -> None:
    """An iterator of RocksDB just ends at such a block; only its status tells."""
    path = tmp_path / "log"
    with RocksLog(path) as log:
        log.append(Append((StreamWrite(A, 0, (b"x",)),), {b"a needle in the outbox": b"value"}))
        head = log._store.heads.get(A)
        assert head is not None
    spoil_table_with(path, b"a needle in the outbox")
    spoil_table_with(path, head)
    with RocksLog(path) as log:
        with pytest.raises(LogCorrupt, match="Corruption"):
            log.outbox()
        with pytest.raises(LogCorrupt, match="Corruption") as held:
            log.streams()
    with RocksLog(path) as log:  # the error still held does not keep the lock
        assert "Corruption" in str(held.value)


class BrokenDisk:
    """Raises what rocksdict raises when the system fails a read."""

    def get(self, key: bytes) -> bytes:
        raise Exception("IO error: While pread offset 0 len 4096: 000009.sst: Input/output error")


def test_a_failed_read_is_not_called_corruption() -> None:
    """A failed read is not called corruption."""
    family = Family(Path("/log"), cast(Rdict, BrokenDisk()), cast(ColumnFamily, None))
    for key, text in ((A, f"stream {A.hex()}"), (page_key(A, 7), f"stream {A.hex()} version 7"), (b"k", "key 0x6b")):
        with pytest.raises(LogReadFailed, match=f"/log: reading at {text}: IO error"):
            family.get(key)


def test_a_page_whose_checksum_holds_but_whose_events_are_no_events_is_corrupt() -> None:
    """Only a defect of the writer can make one; it is named all the same."""
    key = page_key(A, 2)
    value, _ = frame_page(key, cast(list[bytes], [b"x", "text"]), 0)
    with pytest.raises(LogCorrupt, match="page at version 2: the checksum holds but the events do not decode"):
        unframe_page(key, value)


def test_a_page_lost_under_an_open_log_is_found(path: Path) -> None:
    """Heads are verified once per process; reads and snapshots still notice what vanished since."""
    with RocksLog(path) as log:
        assert log.version(A) == 7
        log.save_snapshot(A, Snapshot(7, b"at 7"))
        batch = WriteBatch(raw_mode=True)
        remove(A, 6)(log._store, batch)
        log._store.write(batch, sync=False)
        with pytest.raises(LogCorrupt, match="expected a page at version 6 of 7, found none"):
            list(log.read(A))
        with pytest.raises(LogCorrupt, match="expected a page with version 6, found one of versions 5 to 5"):
            log.save_snapshot(A, Snapshot(7, b"again"))


def test_a_last_page_replaced_under_an_open_log_is_found(path: Path) -> None:
    """The last page must give the head's checksum, whatever its own says."""
    with RocksLog(path) as log:
        assert log.version(A) == 7
        before = unframe_page(page_key(A, 5), value_at(log._store, A, 5))
        key = page_key(A, 6)
        batch = WriteBatch(raw_mode=True)
        log._store.pages.put(batch, key, frame_page(key, (b"another",), before.chain)[0])
        log._store.write(batch, sync=False)
        with pytest.raises(LogCorrupt, match=r"expected to end at version 7 with checksum .*, found version 7"):
            list(log.read(A))
