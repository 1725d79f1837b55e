"""Why the kernel refused an import: the call is made again in Python (`host.py`), on the memory the reducer left and
with what the kernel says of its state. So each text stands in one place, and the two are compared at every refusal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from scapp.channels.admission import ChannelContext
from scapp.channels.entries import Kind
from scapp.runtime.engine_calls import Guest, ImportTrap
from scapp.runtime.host import SIGNATURES, Host
from scapp.runtime.module import CheckedModule
from scapp.runtime.native.layout import IMPORTS, Report
from scapp.runtime.rows import RowError, TableCodec
from scapp.runtime.tables import Cursor, Tables

REDUCE = 2
"""The phase in which imports work (state.zig)."""

RowLength = Callable[[bytes], int | None]
"""Length of the row with a key, the table's number in front; None when there is none."""


class _Memory:
    """Stands for the reducer's instance, whose memory is all that imports look at."""

    def __init__(self, view: memoryview) -> None:
        self._view = view

    def refresh(self) -> memoryview:
        return self._view


def explain(
    report: Report,
    memory: memoryview,
    kind: Kind,
    module: CheckedModule,
    context: ChannelContext,
    row_length: RowLength,
) -> ImportTrap | None:
    """What the import says of its arguments; None when it finds nothing wrong with them."""
    tables = Tables(module.tables, module.limits)
    tables.row_count, tables.row_bytes = report.rows, report.row_bytes
    host = Host(tables, module.limits, context.slots)
    host.effects.events = [cast(Any, None)] * report.events
    host.open_cursors({number: _cursor(tables) for number in range(16) if report.open_cursors >> number & 1})
    name = IMPORTS[report.import_number]
    arguments = report.import_arguments
    if report.phase == REDUCE:
        host.begin(cast(Guest, _Memory(memory)), kind, report.import_fuel)
        if name == "put":
            _known_row(tables, module.tables, memory, arguments, row_length)
    parameters, _result = SIGNATURES[name]
    try:
        host.functions()[name](*arguments[:parameters])
    except ImportTrap as refusal:
        return refusal
    return None


def _cursor(tables: Tables) -> Cursor:
    return Cursor(tables.tables[0], None, b"", None, False)


def _known_row(
    tables: Tables, codecs: Sequence[TableCodec], memory: memoryview, arguments: Sequence[int], row_length: RowLength
) -> None:
    """Whether a channel's limit is exceeded depends on the row that is replaced."""
    number, pointer, length = arguments[:3]
    if number >= len(codecs) or pointer + length > len(memory):
        return
    try:
        key, _ = codecs[number].read_row(bytes(memory[pointer : pointer + length]))
    except RowError:
        return
    old = row_length(number.to_bytes(2, "big") + key)
    if old is not None:
        tables.tables[number].rows[key] = bytes(old)
