"""Tables of one channel in memory: rows, secondary indexes, a journal that undoes, and cursors; `host.py` serves them.

Every write goes to the journal first, so any prefix of a batch can be undone whatever interrupted it. Sorted key lists
are made when a table is first scanned and kept from then on.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable
from typing import Any, Generic, TypeVar

from scapp.channels.deployment import Limits
from scapp.runtime.keys import after_prefix
from scapp.runtime.rows import IndexCodec, TableCodec

K = TypeVar("K", bound=Any)
IndexEntry = tuple[bytes, bool]  # index key of a row, and whether a NULL is in it


class LimitError(ValueError):
    """A channel's total of rows or bytes would be exceeded."""


class UniqueViolation(ValueError):
    """Two rows share a value of a unique index at the end of a message."""


class SortedKeys(Generic[K]):
    """Keys in order, built from `source` when first needed."""

    def __init__(self, source: Iterable[K]) -> None:
        self._source = source
        self._keys: list[K] | None = None

    def get(self) -> list[K]:
        if self._keys is None:
            self._keys = sorted(self._source)
        return self._keys

    def add(self, key: K) -> None:
        if self._keys is not None:
            insort(self._keys, key)

    def remove(self, key: K) -> None:
        if self._keys is not None:
            del self._keys[bisect_left(self._keys, key)]


class IndexStore:
    """Entries (index key, primary key) of one secondary index."""

    def __init__(self, codec: IndexCodec) -> None:
        self.codec = codec
        self.entries: set[tuple[bytes, bytes]] = set()
        self.sorted: SortedKeys[tuple[bytes, bytes]] = SortedKeys(self.entries)
        self.counts: dict[bytes, int] = {}  # of unique indexes: rows by index key, those with a NULL left out

    def change(self, key: bytes, entry: IndexEntry, *, add: bool) -> bytes | None:
        """Add or remove a row's entry; the index key where uniqueness has to be looked at."""
        index_key, has_null = entry
        item = index_key, key
        if add:
            self.entries.add(item)
            self.sorted.add(item)
        else:
            self.entries.remove(item)
            self.sorted.remove(item)
        if not self.codec.index.unique or has_null:
            return None
        count = self.counts.get(index_key, 0) + (1 if add else -1)
        if count:
            self.counts[index_key] = count
        else:
            del self.counts[index_key]
        return index_key


class TableStore:
    """Rows of one table by encoded primary key."""

    def __init__(self, position: int, codec: TableCodec) -> None:
        self.position = position
        self.codec = codec
        self.rows: dict[bytes, bytes] = {}
        self.sorted: SortedKeys[bytes] = SortedKeys(self.rows)
        self.indexes = [IndexStore(index) for index in codec.indexes]

    def index_entries(self, row: bytes) -> list[IndexEntry]:
        """The entry of a stored row in each index."""
        values = self.codec.row.split(row)
        return [index.codec.entry(values) for index in self.indexes]


class Cursor:
    """An open scan over a table (`index` None) or an index of it, between encoded bounds."""

    def __init__(
        self, table: TableStore, index: IndexStore | None, lo: bytes, hi: bytes | None, backwards: bool
    ) -> None:
        self.table, self.index, self.backwards = table, index, backwards
        self._lo: Any = lo if index is None else (lo, b"")
        self._hi: Any = hi if index is None or hi is None else (hi, b"")
        self._last: Any = None

    def peek(self) -> Any:
        """The next key (an index's entry) in the table as it is now, or None at the end."""
        keys: list[Any] = (self.table if self.index is None else self.index).sorted.get()
        if self.backwards:
            bound = self._hi if self._last is None else self._last
            position = (len(keys) if bound is None else bisect_left(keys, bound)) - 1
            return keys[position] if position >= 0 and keys[position] >= self._lo else None
        position = bisect_left(keys, self._lo) if self._last is None else bisect_right(keys, self._last)
        if position < len(keys) and (self._hi is None or keys[position] < self._hi):
            return keys[position]
        return None

    def row(self, key: Any) -> bytes:
        """The row that a peeked key stands for."""
        return self.table.rows[key if self.index is None else key[1]]

    def advance(self, key: Any) -> None:
        self._last = key


class Tables:
    """All tables of a channel with one journal over them. A mark is a journal length to come back to."""

    def __init__(self, codecs: Iterable[TableCodec], limits: Limits) -> None:
        self.tables = [TableStore(position, codec) for position, codec in enumerate(codecs)]
        self.indexes = [(table, index) for table in self.tables for index in table.indexes]
        self.row_count = 0
        self.row_bytes = 0
        self._limits = limits
        self._journal: list[tuple[TableStore, bytes, bytes | None]] = []
        self._unique: list[tuple[IndexStore, bytes]] = []  # index keys this message added to

    def put(self, table: TableStore, data: bytes) -> bool:
        """Insert or replace; whether it replaced. Raises RowError, LimitError."""
        key, values = table.codec.read_row(data)
        entries = [index.codec.entry(values) for index in table.indexes]  # may refuse, so before anything changes
        old = table.rows.get(key)
        count = self.row_count + (old is None)
        total = self.row_bytes + len(data) - (0 if old is None else len(old))
        if count > self._limits.rows_max or total > self._limits.row_bytes_total_max:
            raise LimitError(
                f"table {table.codec.table.name}: {count} rows of {total} bytes in this channel; at most "
                f"{self._limits.rows_max} rows of {self._limits.row_bytes_total_max} bytes are allowed"
            )
        self._journal.append((table, key, old))
        self._set(table, key, data, entries)
        return old is not None

    def delete(self, table: TableStore, key: bytes) -> bool:
        """Whether there was such a row."""
        old = table.rows.get(key)
        if old is None:
            return False
        self._journal.append((table, key, old))
        self._set(table, key, None, None)
        return True

    def _set(self, table: TableStore, key: bytes, row: bytes | None, entries: list[IndexEntry] | None) -> None:
        """Make `row` the row of `key`, None for no row; `entries` are its index entries where they are known."""
        old = table.rows.get(key)
        if table.indexes:
            self._index(table, key, old, row, entries)
        if old is not None:
            self.row_count -= 1
            self.row_bytes -= len(old)
        if row is not None:
            table.rows[key] = row
            self.row_count += 1
            self.row_bytes += len(row)
            if old is None:
                table.sorted.add(key)
        elif old is not None:
            table.sorted.remove(key)
            del table.rows[key]

    def _index(
        self, table: TableStore, key: bytes, old: bytes | None, row: bytes | None, entries: list[IndexEntry] | None
    ) -> None:
        gone = None if old is None else table.index_entries(old)
        come = None if row is None else entries or table.index_entries(row)
        for position, index in enumerate(table.indexes):
            before = None if gone is None else gone[position]
            after = None if come is None else come[position]
            if before == after:
                continue
            if before is not None:
                index.change(key, before, add=False)
            if after is not None and (touched := index.change(key, after, add=True)) is not None:
                self._unique.append((index, touched))

    def check_unique(self) -> None:
        """At the end of a message. Raises UniqueViolation naming index and table."""
        for index, index_key in self._unique:
            if index.counts.get(index_key, 0) > 1:
                codec = index.codec
                raise UniqueViolation(f"unique violation: {codec.bound.name}")
        self._unique.clear()

    def mark(self) -> int:
        """Where the journal stands; start of a message."""
        self._unique.clear()
        return len(self._journal)

    def undo(self, mark: int) -> None:
        """Undo every write since `mark`."""
        while len(self._journal) > mark:
            table, key, old = self._journal[-1]
            self._set(table, key, old, None)
            self._journal.pop()
        self._unique.clear()

    def forget(self) -> None:
        """Make everything since the last `forget` permanent."""
        self._journal.clear()
        self._unique.clear()

    def net(self, mark: int = 0) -> list[tuple[TableStore, dict[bytes, bytes | None]]]:
        """By table: the row before the journal began, or stood at `mark`, of each key whose row is now another."""
        found: dict[int, dict[bytes, bytes | None]] = {}
        for table, key, old in self._journal[mark:]:
            found.setdefault(table.position, {}).setdefault(key, old)
        changed = []
        for position in sorted(found):
            table = self.tables[position]
            originals = {key: old for key, old in found[position].items() if table.rows.get(key) != old}
            changed.append((table, originals))
        return changed


def scan_bounds(lo: bytes, hi: bytes, hi_inclusive: bool) -> tuple[bytes, bytes | None]:
    """Least key and first key beyond, of encoded bounds where an empty one leaves its side open."""
    if not hi:
        return lo, None
    return lo, after_prefix(hi) if hi_inclusive else hi
