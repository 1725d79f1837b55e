"""Changes for tests: taken from a kernel in one go, or made of rows and events."""

from __future__ import annotations

from collections.abc import Sequence

from scapp.runtime.changes import COPY_NEVER, EVENTS, AppEvent, BatchChanges, TableChange
from scapp.runtime.kernel import Kernel
from scapp.runtime.net_changes import event_row, table_change


def committed(kernel: Kernel, turn: int = 0) -> BatchChanges:
    """Commit the last run and take its changes, in arrays."""
    kernel.commit(turn)
    return kernel.take_changes(COPY_NEVER)


def changes_of(tables: Sequence[TableChange] = (), events: Sequence[AppEvent] = ()) -> BatchChanges:
    """What a kernel would give for these."""
    rows = [event_row(event) for event in events]
    emitted = table_change(bytes(32), EVENTS, rows, copy_rows_min=COPY_NEVER) if rows else None
    return BatchChanges(tuple(tables), None, emitted)
