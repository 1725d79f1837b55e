"""A simulated disk under the real log: `RocksLog` with its framing, heads and checks runs on it unchanged.

Writes go into a write-ahead file, unsynced until something syncs. A power cut leaves a drawn part of what was not
synced, the last record torn or damaged. As RocksDB is set up for the node (`log/rocks_open.py`): an incomplete last
record is cut, any other damage refuses to open. A disk may also be full, fail a sync, be slow, or rot: a bit of a
stored row changes behind everybody's back. `truth` is what was acknowledged as durable; checkers compare with it.
"""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec

from scapp.channels.log.framing import STREAM_BYTES, unframe_page
from scapp.channels.log.port import LogClosed, LogCorrupt, LogWriteFailed
from scapp.channels.log.rocks import RocksLog
from scapp.channels.log.rocks_store import Family, Store

FAMILIES = ("pages", "heads", "outbox", "snapshots", "states")
_HEADER_BYTES = 8
Change = tuple[str, bytes, bytes | None]  # family, key, value or None for a removal
Row = tuple[bytes, bytes]


class SimDisk:
    """One node's disk; it outlives the process, whose log is a `DiskLog` on it."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[bytes, bytes]] = {name: {} for name in FAMILIES}  # what earlier processes left
        self.synced = b""  # the write-ahead file, as far as a power cut cannot take it
        self.cache = b""  # and what only the page cache holds
        self.waiting: list[list[Change]] = []
        self.truth: dict[bytes, list[bytes]] = {}  # by stream: events whose write was acknowledged as durable
        self.pages: list[Row] = []  # the same as stored, in order
        self.damaged: set[str] = set()  # families, or "file", that rotted
        self.failing = ""  # "full": no byte more; "sync": the next sync fails
        self.slow_ms = 0
        self.events: list[str] = []  # what happened here, for coverage

    def copy(self) -> SimDisk:
        """A backup: everything durable."""
        other = SimDisk()
        other.tables = {name: dict(rows) for name, rows in self.tables.items()}
        other.synced = self.synced
        other.truth = {stream: list(events) for stream, events in self.truth.items()}
        other.pages = list(self.pages)
        return other

    # What the store does

    def write(self, changes: list[Change], sync: bool) -> None:
        """Append one record. Raises LogWriteFailed."""
        record = _record(changes)
        if self.failing == "full":
            self.cache += record[: len(record) // 2]
            self.events.append("a write found the disk full")
            raise LogWriteFailed("simulated disk: no space left on device")
        self.cache += record
        self.waiting.append(changes)
        if sync:
            self.sync()

    def sync(self) -> None:
        """Raises LogWriteFailed: what the disk then holds is unknown until it is read again."""
        if self.failing == "sync":
            self.failing = "full"  # whoever goes on writing all the same gets nowhere
            self.events.append("a sync failed")
            raise LogWriteFailed("simulated disk: input/output error while syncing")
        self.synced += self.cache
        self.cache = b""
        for changes in self.waiting:
            self._acknowledged(changes)
        self.waiting.clear()

    def _acknowledged(self, changes: list[Change]) -> None:
        for family, key, value in changes:
            if family == "pages" and value is not None:
                self.pages.append((key, value))
                self.truth.setdefault(key[:STREAM_BYTES], []).extend(unframe_page(key, value).events)

    def replay(self) -> dict[str, dict[bytes, bytes]]:
        """Everything stored, as a process finds it at its start; the write-ahead file goes into the tables.

        Raises LogCorrupt when the file is damaged anywhere but at its torn end."""
        rows = {name: dict(table) for name, table in self.tables.items()}
        for at, changes in self._records():
            if at >= len(self.synced):
                self._acknowledged(changes)  # it stays from now on
            for family, key, value in changes:
                if value is None:
                    rows[family].pop(key, None)
                else:
                    rows[family][key] = value
        self.tables = {name: dict(table) for name, table in rows.items()}
        self.synced = self.cache = b""
        self.waiting.clear()
        return rows

    def _records(self) -> list[tuple[int, list[Change]]]:
        data = self.synced + self.cache
        found: list[tuple[int, list[Change]]] = []
        at = 0
        while at < len(data):
            size = int.from_bytes(data[at : at + 4], "big")
            body = data[at + _HEADER_BYTES : at + _HEADER_BYTES + size]
            if len(data) - at < _HEADER_BYTES or len(body) < size:
                # An incomplete last record is nobody's loss, unless it is of what was acknowledged.
                if at < len(self.synced):
                    raise LogCorrupt(f"simulated disk: a length at byte {at} of the write-ahead file is damaged")
                self.events.append("a torn record was cut")
                break
            if crc32(body) != int.from_bytes(data[at + 4 : at + 8], "big"):
                raise LogCorrupt(f"simulated disk: the record at byte {at} of the write-ahead file is damaged")
            found.append((at, msgspec.msgpack.decode(body, type=list[tuple[str, bytes, bytes | None]])))
            at += _HEADER_BYTES + size
        return found

    # What happens to it

    def power_cut(self, draw: random.Random, damage: float = 0.0) -> None:
        """Of the unsynced bytes a drawn number is left; with probability `damage` one bit of them is wrong."""
        if not self.cache:
            return
        kept = draw.choice([0, len(self.cache), draw.randrange(len(self.cache) + 1)])
        if kept < len(self.cache):
            self.events.append("unsynced writes were lost")
        self.cache = self.cache[:kept]
        if self.cache and draw.random() < damage:
            self.events.append("the unsynced end was damaged")
            self.damaged.add("file")
            self.cache = _flipped(self.cache, draw)

    def rot(self, draw: random.Random) -> str:
        """One bit of something acknowledged changes; the family it is in, or an empty string when there is none."""
        names = [name for name in FAMILIES if self.tables[name]]
        if self.synced:
            names.append("file")
        if not names:
            return ""
        name = "outbox" if "outbox" in names and draw.random() < 0.5 else draw.choice(names)  # it is rarely filled
        self.damaged.add(name)
        if name == "file":
            self.synced = _flipped(self.synced, draw)
        else:
            key = draw.choice(sorted(self.tables[name]))
            self.tables[name][key] = _flipped(self.tables[name][key], draw)
        return name


def _record(changes: list[Change]) -> bytes:
    body = msgspec.msgpack.encode(changes)
    return len(body).to_bytes(4, "big") + crc32(body).to_bytes(4, "big") + body


def _flipped(data: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :]


class SimFamily(Family):
    """One column family in memory, with the answers of `rocks_store.Family`."""

    def __init__(self, name: str, rows: dict[bytes, bytes]) -> None:
        self._name = name
        self._rows = rows
        self._keys = sorted(rows)
        self.is_open = True

    def _check_open(self) -> None:
        if not self.is_open:
            raise LogClosed("the log on the simulated disk is closed")

    def get(self, key: bytes) -> bytes | None:
        self._check_open()
        return self._rows.get(key)

    def rows(self, start: bytes = b"", end: bytes | None = None, limit: int | None = None) -> list[Row]:
        self._check_open()
        first = bisect_left(self._keys, start)
        last = len(self._keys) if end is None else bisect_left(self._keys, end)
        if limit is not None:
            last = min(last, first + limit)
        return [(key, self._rows[key]) for key in self._keys[first:last]]

    def keys(self) -> list[bytes]:
        self._check_open()
        return list(self._keys)

    def rows_at_or_before(self, keys: Sequence[bytes]) -> list[Row | None]:
        self._check_open()
        ends = [bisect_right(self._keys, key) for key in keys]
        return [(self._keys[at - 1], self._rows[self._keys[at - 1]]) if at else None for at in ends]

    def put(self, batch: Any, key: bytes, value: bytes) -> None:
        batch.append((self._name, key, value))

    def delete(self, batch: Any, key: bytes) -> None:
        batch.append((self._name, key, None))

    def release(self) -> None:
        self.is_open = False

    def apply(self, key: bytes, value: bytes | None) -> None:
        """What a batch does once it is written."""
        if value is None:
            if self._rows.pop(key, None) is not None:
                del self._keys[bisect_left(self._keys, key)]
        else:
            if key not in self._rows:
                insort(self._keys, key)
            self._rows[key] = value


class SimStore(Store):
    """The rows of one process on a `SimDisk`, with the answers of `rocks_store.Store`."""

    def __init__(self, path: Path, disk: SimDisk) -> None:
        self.path = path
        self.disk = disk
        self.is_open = True
        rows = disk.replay()
        self._families = {name: SimFamily(name, rows[name]) for name in FAMILIES}
        self.pages, self.heads, self.outbox, self.snapshots, self.states = (self._families[n] for n in FAMILIES)
        self.snapshots_of = {"admission": self.snapshots, "channel": self.states}

    def check_open(self) -> None:
        if not self.is_open:
            raise LogClosed("the log on the simulated disk is closed")

    def batch(self) -> Any:
        return []

    def write(self, batch: Any, sync: bool) -> None:
        self.check_open()
        self.disk.write(batch, sync)
        for family, key, value in batch:
            self._families[family].apply(key, value)

    def put_page(self, key: bytes, value: bytes, sync: bool) -> None:
        self.write([("pages", key, value)], sync)

    def sync(self) -> None:
        self.check_open()
        self.disk.sync()

    def close(self) -> None:
        self.is_open = False
        for family in self._families.values():
            family.release()


class DiskLog(RocksLog):
    """The real log on a simulated disk. Raises LogCorrupt as `SimDisk.replay` says."""

    def __init__(self, disk: SimDisk) -> None:
        self.disk = disk
        super().__init__(Path("simulated"), lambda path: SimStore(path, disk))

    def durable_copy(self) -> DiskLog:
        """A log with what a power cut now would leave at least; this one is not touched."""
        return DiskLog(self.disk.copy())
