"""The kernel port: tables, reducer and root of one channel, driven by one call per batch.

The plain-Python implementation is `reference.py`; a native one goes behind the same port and is compared with it.
State is the tables after the last `commit` plus at most one undoable batch on top. A kernel that tracks also gathers
what it committed, until `take_changes`: derivation's does, admission's does not.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec

from scapp.channels.admission import Refusal
from scapp.runtime.changes import BatchChanges, LogLine
from scapp.runtime.proofs import Proof


class Budget(enum.IntEnum):
    """Factor on the signed fuel, memory and stack limits (docs/reference/derivation.md, "Budgets")."""

    ORDER = 1  # the sequencer decides what is ordered
    CHECK = 4  # a countersigner checks; reaching it is undecidable, never rejected
    DERIVE = 16  # derivation of supported entries


class BatchResult(msgspec.Struct, frozen=True, gc=False):
    """Result of `run`. Without refusals `accepted` is every index; roots and amounts are after the accepted ones."""

    accepted: tuple[int, ...]
    refusals: tuple[Refusal, ...]
    state_root: bytes
    amounts: tuple[int, ...]
    logs: tuple[LogLine, ...]


class KernelFault(Exception):
    """The module cannot run at all, or the engine failed in a way that says nothing about the entries."""


class Kernel(Protocol):
    """Not thread-safe: one caller at a time."""

    def run(self, first_sequence: int, entries: Sequence[bytes], *, budget: Budget, late: bool = False) -> BatchResult:
        """Apply entries as an undoable batch on the committed tables, dropping an earlier uncommitted batch.

        A fresh reducer instance starts every batch (a *clean run*). When an entry is refused, instance and changes
        are discarded and the accepted ones are run again, so the result is always that of a clean run over exactly
        `accepted`.

        With `late`, and if nothing is refused, the state root may be missing (empty). Once that is committed,
        `late_root` must follow; before it, more may be run in the same way and changes may be taken, but nothing is
        refused then (KernelFault), and no root, proof or export can be had."""
        ...

    def late_root(self) -> bytes:
        """The state root of all that is committed, which runs left out. Whoever does not agree with it must not go on
        with this kernel."""
        ...

    def commit(self, turn: int, *, messages: bool = True) -> None:
        """Make the last run the base. `turn` is what brought its entries under all signatures; only a kernel that
        tracks keeps it, and with `messages` the entries, for `take_changes`. Raises KernelFault without a run."""
        ...

    def messages(self, first_sequence: int, turn: int, entries: Sequence[bytes]) -> bytes:
        """Entries as rows of MESSAGES, in the form of `TableChange.copy`; they need not have been run. Drops an
        uncommitted batch. Who commits them must leave out its messages."""
        ...

    def held_bytes(self) -> int:
        """What has gathered for `take_changes`, roughly; without messages."""
        ...

    def take_changes(self, copy_rows_min: int) -> BatchChanges:
        """The net changes of all that was committed since the last take, or since the kernel was made or imported,
        and forget them. Of a change that only inserts `copy_rows_min` rows or more, the rows come as a COPY stream.

        Raises KernelFault while a run is neither committed nor rolled back, and in a kernel that does not track."""
        ...

    def rollback(self) -> None: ...

    def log_root(self, root: bytes, entries: Sequence[bytes]) -> bytes:
        """What `extend_log_root` gives. Drops an uncommitted batch, as `run` does, which usually follows."""
        ...

    def state_root(self) -> bytes:
        """Root of the committed tables and event chain."""
        ...

    def amounts(self) -> tuple[int, ...]:
        """Committed outcome amounts."""
        ...

    def event_root(self) -> bytes:
        """Committed end of the event chain."""
        ...

    def rows(self, table: str) -> Iterable[bytes]:
        """Committed rows in key order."""
        ...

    def prove(self, table_position: int, key: bytes) -> tuple[bytes | None, Proof]:
        """Committed row of an encoded key (`keys.py`), or None, with the proof of it under `state_root`."""
        ...

    def export_state(self) -> bytes:
        """Committed tables, event root and amounts, for `import_state`."""
        ...

    def import_state(self, data: bytes) -> None:
        """Replace everything; raises ValueError for bytes that are not an export of this deployment."""
        ...

    def memory_bytes(self) -> int:
        """What it holds while it is idle, roughly; who keeps many kernels bounds the sum."""
        ...

    def interrupt(self) -> None:
        """From any thread: a `run` that goes on raises KernelFault before its next message, and so do later ones."""
        ...

    def close(self) -> None: ...
