"""Calls of the kernel in which no reducer runs: making it, passing bytes in and out, reading and filling its base.
`kernel.py` runs batches on top.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from scapp.channels.admission import ChannelContext
from scapp.runtime.engine_calls import EngineError, GuestTrap
from scapp.runtime.kernel import KernelFault
from scapp.runtime.kernel_export import Export
from scapp.runtime.module import CheckedModule
from scapp.runtime.native import layout, modules
from scapp.runtime.native.assembly import FUEL_UNLIMITED, Assembly
from scapp.runtime.native.layout import Report
from scapp.runtime.proofs import Proof
from scapp.runtime.rows import RowError, TableCodec

NO_MEMORY = 3  # failure.zig `Code`
ROWS_CHUNK_BYTES = 1 << 20
LOAD_ROWS = 10_000


class Crossing:
    """A kernel in its assembly. After a call that trapped it is *broken*: every later one raises KernelFault."""

    def __init__(
        self,
        module: CheckedModule,
        context: ChannelContext,
        *,
        track: bool,
        rooted: bool,
        projection: bool,
        portable: bool,
        cache_folder: Path | None,
    ) -> None:
        self._module = module
        self._context = context
        self._track = track
        self._rooted = rooted
        self._projection = projection
        self._portable = portable
        self._cache_folder = cache_folder
        self.tables = [codec.table for codec in module.tables]
        imports = {item.name for item in module.module(modules.BUDGET).imports}
        self._ordered = "scan" in imports or any(index.unique for table in self.tables for index in table.indexes)

    def _begin(self) -> None:
        """An empty kernel."""
        try:
            if self._portable:
                self._assembly = Assembly(modules.load_portable(), self._module.portable())
            else:
                self._assembly = Assembly(modules.load(self._cache_folder), self._module.module(modules.BUDGET))
            self._broken = ""
            self._assembly.call("scapp_init")
            self._pass_in(layout.description(self._context, self._module.limits, self.tables), "scapp_configure")
            self._assembly.call("scapp_track", int(self._track))
            self._assembly.call("scapp_set_rooted", int(self._rooted))
            self._assembly.call("scapp_set_ordered", int(self._ordered))
            self._assembly.call("scapp_ignore_outcome", int(self._projection))
        except (GuestTrap, EngineError) as error:
            raise KernelFault(f"no instance of the kernel: {error}") from error
        self._report_address = self._assembly.call("scapp_report")

    # -- calls ----------------------------------------------------------------------------------------------------

    def _kernel(self, name: str, *arguments: int) -> int:
        """A call in which no reducer runs. A trap in it leaves nothing to rely on."""
        self._check_whole()
        self._assembly.set_fuel(FUEL_UNLIMITED)
        try:
            return self._assembly.call(name, *arguments)
        except GuestTrap as trap:
            code = self._describe().failure_code
            raise self._break("its memory is exhausted" if code == NO_MEMORY else f"{name}: {trap}") from trap

    def _break(self, reason: str) -> KernelFault:
        """From now on nothing works; the error to raise."""
        self._broken = reason
        return KernelFault(f"the kernel cannot go on: {reason}")

    def _check_whole(self) -> None:
        if self._broken:
            raise KernelFault(f"the kernel cannot go on: {self._broken}")

    def _pass_in(self, data: bytes, name: str, *arguments: int) -> int:
        """Call with `data` in the scratch and its length as first argument."""
        address = self._kernel("scapp_scratch", len(data))
        self._assembly.view()[address : address + len(data)] = data
        return self._kernel(name, len(data), *arguments)

    def _report(self) -> Report:
        return layout.read_report(self._assembly.view(), self._report_address)

    def _describe(self) -> Report:
        """The report after a trap."""
        self._assembly.call("scapp_describe")
        return self._report()

    def _output(self) -> memoryview:
        report = self._report()
        return self._assembly.view()[report.output : report.output + report.output_length]

    def _amounts(self, address: int) -> tuple[int, ...]:
        memory = self._assembly.view()
        starts = range(address, address + 32 * len(self._context.slots), 32)
        return tuple(int.from_bytes(memory[start : start + 32], "big") for start in starts)

    # -- the base -------------------------------------------------------------------------------------------------

    def amounts(self) -> tuple[int, ...]:
        self._check_whole()
        return self._amounts(self._report().base_amounts)

    def event_root(self) -> bytes:
        """Committed root of the event chain."""
        self._check_whole()
        return self._report().base_event_root

    def rows(self, table: str) -> Iterator[bytes]:
        """Committed rows in key order; raises KeyError for an unknown table."""
        names = [known.name for known in self.tables]
        if table not in names:
            raise KeyError(f"table {table!r}; the tables are {', '.join(names)}")
        return self._rows(names.index(table))

    def prove(self, table_position: int, key: bytes) -> tuple[bytes | None, Proof]:
        """Committed row of an encoded key, or None, and the proof of it."""
        self._pass_in(table_position.to_bytes(2, "big") + key, "scapp_prove")
        return layout.read_proof(self._output())

    def memory_bytes(self) -> int:
        self._check_whole()
        return self._assembly.memory_bytes()

    def _fill(self, export: Export) -> None:
        self._kernel("scapp_track", 0)
        for number, rows in enumerate(export.rows):
            for start in range(0, len(rows), LOAD_ROWS):
                self._load(number, rows[start : start + LOAD_ROWS])
        words = b"".join(export.amounts)
        self._pass_in(export.event_root + words, "scapp_restore")
        self._kernel("scapp_track", int(self._track))
        root = self._report().base_state_root
        if root != export.state_root:
            raise ValueError(f"its rows have root {root.hex()}, it says {export.state_root.hex()}")

    def _load(self, number: int, rows: Sequence[bytes]) -> None:
        codec = self._module.tables[number]
        parts = [len(row).to_bytes(4, "little") + row + bytes(-len(row) % 4) for row in rows]
        address = self._kernel("scapp_scratch", sum(map(len, parts)))
        data = b"".join(parts)
        self._assembly.view()[address : address + len(data)] = data
        self._kernel("scapp_reserve", 0, 4)
        self._kernel("scapp_open", 0, 0)
        bad = self._kernel("scapp_load", number, len(rows)) & 0xFFFF_FFFF
        if bad:
            raise ValueError(_load_problem(codec, rows, bad - 1))
        collision = self._report().has_collision
        if collision:
            raise ValueError(f"unique violation: {self._index_name(collision)}")
        self._kernel("scapp_finish")
        self._kernel("scapp_commit", 0, 1)

    def _rows(self, number: int) -> Iterator[bytes]:
        after = number.to_bytes(2, "big")
        while True:
            self._pass_in(after, "scapp_rows", ROWS_CHUNK_BYTES)
            rows, after = layout.read_rows(bytes(self._output()))
            if not rows:
                return
            yield from rows

    def _index_name(self, number: int) -> str:
        names = [index.bound.name for codec in self._module.tables for index in codec.indexes]
        return names[number - len(self.tables)]


def _load_problem(codec: TableCodec, rows: Sequence[bytes], bad: int) -> str:
    try:
        key, _ = codec.read_row(rows[bad])
    except RowError as error:
        return str(error)
    if any(codec.read_row(row)[0] == key for row in rows[:bad]):
        return f"table {codec.table.name} holds a key twice"
    return f"table {codec.table.name}: more rows, or bytes of rows, than its channel may hold, or a key twice"
