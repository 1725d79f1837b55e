"""What the imports of `scapp_1` mean, over `tables.py`; how bytes cross into the guest stands in `engine_calls.py`.

Each import's traps and results: docs/reference/abi.md. Numbers arrive unsigned; results are i32.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from scapp.channels.crypto import keccak256
from scapp.channels.deployment import Limits
from scapp.channels.entries import Kind
from scapp.runtime.engine_calls import Guest, Import, ImportTrap, OutOfFuel
from scapp.runtime.rows import RowError
from scapp.runtime.tables import Cursor, IndexStore, LimitError, Tables, TableStore, scan_bounds

SIGNATURES: dict[str, tuple[int, bool]] = {
    "get": (5, True),
    "put": (3, True),
    "delete": (3, True),
    "scan": (6, True),
    "next": (3, True),
    "emit": (4, False),
    "set_outcome": (2, False),
    "reject": (2, False),
    "log": (3, False),
    "keccak256": (3, False),
    "sha256": (3, False),
}
"""Imports of module `scapp_1`: (number of i32 parameters, whether there is an i32 result)."""

CURSORS_MAX = 16
TOPIC_BYTES_MAX = 256
FUEL_PER_IMPORT = 500
OUT_OF_FUEL = "out of fuel for the work of imports"
BACKWARDS, HI_INCLUSIVE = 1, 2


class Effects(msgspec.Struct):
    """What one message did beside its rows."""

    events: list[tuple[str, bytes]] = []
    logs: list[tuple[int, str]] = []
    amounts: tuple[int, ...] | None = None
    rejection: str | None = None


class Host:
    """Serves the imports for one channel. `begin` and `end` enclose each `scapp_reduce`; outside, imports trap."""

    def __init__(
        self,
        tables: Tables,
        limits: Limits,
        slots: Sequence[tuple[bytes, bytes, int]],
        *,
        ignore_outcome: bool = False,
    ) -> None:
        self.tables = tables
        self.effects = Effects()
        self._limits = limits
        self._slots = slots
        self._ignore_outcome = ignore_outcome
        self._sums = _sums([slot[0] for slot in slots], [slot[2] for slot in slots])
        self._guest: Guest | None = None
        self._kind = Kind.MESSAGE
        self._fuel = 0
        self._cursors: dict[int, Cursor] = {}

    def begin(self, guest: Guest, kind: Kind, fuel: int) -> None:
        """`scapp_reduce` starts in `guest`; imports may do `fuel` units of work."""
        self._guest, self._kind, self._fuel = guest, kind, fuel

    def open_cursors(self, cursors: dict[int, Cursor]) -> None:
        """These cursors are open, by number."""
        self._cursors = cursors

    def end(self) -> Effects:
        """`scapp_reduce` is over, however it ended."""
        effects, self.effects = self.effects, Effects()
        self._guest = None
        self._cursors.clear()
        return effects

    def functions(self) -> dict[str, Import]:
        """The imports by name."""
        return {name: self.next_ if name == "next" else getattr(self, name) for name in SIGNATURES}

    # -- rows -----------------------------------------------------------------------------------------------------

    def get(self, number: int, key_ptr: int, key_len: int, out_ptr: int, out_cap: int) -> int:
        memory = self._enter()
        key = self._key(self._table(number), self._read(memory, key_ptr, key_len))
        self._span(memory, out_ptr, out_cap)
        row = self._table(number).rows.get(key)
        return -1 if row is None else self._give(memory, row, out_ptr, out_cap)

    def put(self, number: int, row_ptr: int, row_len: int) -> int:
        memory = self._enter()
        table = self._table(number)
        data = self._read(memory, row_ptr, row_len)
        try:
            return int(self.tables.put(table, data))
        except (RowError, LimitError) as error:
            raise ImportTrap(f"put: {error}") from None

    def delete(self, number: int, key_ptr: int, key_len: int) -> int:
        memory = self._enter()
        table = self._table(number)
        return int(self.tables.delete(table, self._key(table, self._read(memory, key_ptr, key_len))))

    def scan(self, number: int, lo_ptr: int, lo_len: int, hi_ptr: int, hi_len: int, flags: int) -> int:
        memory = self._enter()
        if flags & ~(BACKWARDS | HI_INCLUSIVE):
            raise ImportTrap(f"scan: flags {flags:#x}; allowed are bit 0 (backwards) and bit 1 (hi inclusive)")
        table, index = self._scannable(number)
        lo = self._bound(table, index, self._read(memory, lo_ptr, lo_len))
        hi = self._bound(table, index, self._read(memory, hi_ptr, hi_len))
        cursor = next((n for n in range(CURSORS_MAX) if n not in self._cursors), None)
        if cursor is None:
            raise ImportTrap(f"scan: {CURSORS_MAX} cursors are open already, which is the most allowed in one message")
        least, beyond = scan_bounds(lo, hi, bool(flags & HI_INCLUSIVE))
        self._cursors[cursor] = Cursor(table, index, least, beyond, bool(flags & BACKWARDS))
        return cursor

    def next_(self, number: int, out_ptr: int, out_cap: int) -> int:
        memory = self._enter()
        cursor = self._cursors.get(number)
        if cursor is None:
            raise ImportTrap(f"next: {number} is no open cursor; open are {sorted(self._cursors) or 'none'}")
        self._span(memory, out_ptr, out_cap)
        key = cursor.peek()
        if key is None:
            del self._cursors[number]
            return -1
        row = cursor.row(key)
        if len(row) <= out_cap:
            cursor.advance(key)
        return self._give(memory, row, out_ptr, out_cap)

    # -- everything else ------------------------------------------------------------------------------------------

    def emit(self, topic_ptr: int, topic_len: int, data_ptr: int, data_len: int) -> None:
        memory = self._enter()
        limits = self._limits
        if len(self.effects.events) >= limits.events_per_message_max:
            raise ImportTrap(f"emit: more than {limits.events_per_message_max} events in one message")
        if topic_len + data_len > limits.event_bytes_max:
            raise ImportTrap(
                f"emit: event of {topic_len + data_len} bytes; at most {limits.event_bytes_max} are allowed"
            )
        if not 1 <= topic_len <= TOPIC_BYTES_MAX:
            raise ImportTrap(f"emit: topic of {topic_len} bytes; allowed are 1 to {TOPIC_BYTES_MAX}")
        topic = self._read(memory, topic_ptr, topic_len)
        data = self._read(memory, data_ptr, data_len)
        try:
            text = topic.decode()
        except UnicodeDecodeError as error:
            raise ImportTrap(f"emit: topic is not UTF-8 at byte {error.start}") from None
        if "\0" in text:
            raise ImportTrap("emit: topic contains a NUL")
        self.effects.events.append((text, data))

    def set_outcome(self, ptr: int, length: int) -> None:
        memory = self._enter()
        if self._ignore_outcome:
            self._read(memory, ptr, length)
            return
        if self._kind is Kind.OPEN:
            raise ImportTrap("set_outcome: not allowed in open, whose outcome was negotiated")
        if length != 32 * len(self._slots):
            raise ImportTrap(
                f"set_outcome: {length} bytes; allowed are {32 * len(self._slots)}: 32 for each of the "
                f"{len(self._slots)} outcome slots"
            )
        data = self._read(memory, ptr, length)
        amounts = tuple(int.from_bytes(data[at : at + 32], "big") for at in range(0, length, 32))
        sums = _sums([slot[0] for slot in self._slots], amounts)
        for asset, total in sums.items():
            if total != self._sums[asset]:
                raise ImportTrap(
                    f"set_outcome: amounts of asset 0x{asset.hex()} add up to {total}; they must to {self._sums[asset]}"
                )
        self.effects.amounts = amounts

    def reject(self, ptr: int, length: int) -> None:
        memory = self._enter()
        text = self._text(memory, ptr, length)
        if self.effects.rejection is None:
            self.effects.rejection = text

    def log(self, level: int, ptr: int, length: int) -> None:
        memory = self._enter()
        if level > 3:
            raise ImportTrap(f"log: level {level}; allowed are 0 error, 1 warning, 2 info, 3 debug")
        text = self._text(memory, ptr, length)
        if len(self.effects.logs) < self._limits.logs_per_message_max:
            self.effects.logs.append((level, text))

    def keccak256(self, ptr: int, length: int, out_ptr: int) -> None:
        memory = self._enter()
        self._write(memory, out_ptr, keccak256(self._read(memory, ptr, length)))

    def sha256(self, ptr: int, length: int, out_ptr: int) -> None:
        memory = self._enter()
        self._write(memory, out_ptr, hashlib.sha256(self._read(memory, ptr, length)).digest())

    # -- crossing -------------------------------------------------------------------------------------------------

    def _enter(self) -> memoryview:
        if self._guest is None:
            raise ImportTrap("an import was called outside scapp_reduce")
        self._spend(FUEL_PER_IMPORT)
        return self._guest.refresh()

    def _spend(self, units: int) -> None:
        self._fuel -= units
        if self._fuel < 0:
            raise OutOfFuel(OUT_OF_FUEL)

    def _span(self, memory: memoryview, ptr: int, length: int) -> None:
        if ptr + length > len(memory):
            raise ImportTrap(f"pointer {ptr} with length {length} is outside the memory of {len(memory)} bytes")

    def _read(self, memory: memoryview, ptr: int, length: int) -> bytes:
        self._span(memory, ptr, length)
        self._spend(length)
        return bytes(memory[ptr : ptr + length])

    def _write(self, memory: memoryview, ptr: int, data: bytes) -> None:
        self._span(memory, ptr, len(data))
        self._spend(len(data))
        memory[ptr : ptr + len(data)] = data

    def _give(self, memory: memoryview, row: bytes, out_ptr: int, out_cap: int) -> int:
        if len(row) <= out_cap:
            self._write(memory, out_ptr, row)
        return len(row)

    def _text(self, memory: memoryview, ptr: int, length: int) -> str:
        self._span(memory, ptr, length)
        # A NUL could not be stored in PostgreSQL, where reasons and log lines end up.
        data = self._read(memory, ptr, min(length, self._limits.log_bytes_max))
        return data.decode(errors="replace").replace("\0", "�")

    def _table(self, number: int) -> TableStore:
        if number >= len(self.tables.tables):
            raise ImportTrap(f"table {number}; the manifest has {len(self.tables.tables)}, numbered from 0")
        return self.tables.tables[number]

    def _scannable(self, number: int) -> tuple[TableStore, IndexStore | None]:
        tables, indexes = self.tables.tables, self.tables.indexes
        if number < len(tables):
            return tables[number], None
        if number < len(tables) + len(indexes):
            return indexes[number - len(tables)]
        raise ImportTrap(
            f"scan: number {number}; there are {len(tables)} tables and then {len(indexes)} indexes, from 0"
        )

    def _key(self, table: TableStore, data: bytes) -> bytes:
        try:
            return table.codec.read_key(data)
        except RowError as error:
            raise ImportTrap(str(error)) from None

    def _bound(self, table: TableStore, index: IndexStore | None, data: bytes) -> bytes:
        if not data:
            return b""
        try:
            return table.codec.read_key(data, prefix=True) if index is None else index.codec.read_bound(data)
        except RowError as error:
            raise ImportTrap(f"scan: {error}") from None


def _sums(assets: Sequence[bytes], amounts: Sequence[int]) -> dict[bytes, int]:
    totals: dict[bytes, int] = {}
    for asset, amount in zip(assets, amounts, strict=True):
        totals[asset] = totals.get(asset, 0) + amount
    return totals
