"""The kernel in plain Python: runs a batch through the reducer and keeps tables, root, events and amounts.

It is the readable statement of what a kernel does, and the oracle for a native one. Around it: `host.py` serves the
imports, `guest_run.py` runs one message, `tables.py` holds the rows, `root.py` the tree, `clean_run.py` decides what a
batch admits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from scapp.channels.admission import ChannelContext, Refusal
from scapp.channels.crypto import keccak256
from scapp.channels.deployment import deployment_id
from scapp.channels.entries import Kind, extend_log_root
from scapp.runtime.changes import AppEvent, BatchChanges, LogLine
from scapp.runtime.clean_run import Pass, admit
from scapp.runtime.engine_calls import EngineError, Guest, GuestTrap, ImportTrap
from scapp.runtime.guest_run import REASON_CHARACTERS_MAX, Runner, failure_code, failure_reason
from scapp.runtime.history import version_row
from scapp.runtime.host import Host
from scapp.runtime.kernel import BatchResult, Budget, KernelFault
from scapp.runtime.kernel_export import Export, decode_export, encode_export
from scapp.runtime.module import CheckedModule
from scapp.runtime.net_changes import NetChanges, message_rows
from scapp.runtime.proofs import Proof, walk
from scapp.runtime.root import (
    EMPTY,
    EVENT_PATH,
    Node,
    apply_updates,
    event_leaf,
    extend_event_root,
    root_of,
    row_path,
    row_update,
)
from scapp.runtime.rows import RowError
from scapp.runtime.tables import LimitError, Tables, UniqueViolation

_IDLE_BYTES, ROW_OVERHEAD_BYTES = 50_000, 1_500
"""Measured: an empty kernel without a guest; and Python's objects for a row, its key and its place in the tree."""


class _State(msgspec.Struct):
    """What a batch changes besides the tables."""

    tree: Node
    event_root: bytes
    amounts: tuple[int, ...]
    events: list[AppEvent]
    first_sequence: int = 0
    entries: list[bytes] = []  # accepted ones
    versions: list[tuple[int, bytes]] = []  # table positions and tuples of their histories


class ReferenceKernel:
    """Implements `Kernel`. Holds one guest at a time; `close` frees engine memory."""

    def __init__(
        self, module: CheckedModule, context: ChannelContext, *, track: bool = True, projection: bool = False
    ) -> None:
        if context.deployment != module.deployment:
            raise KernelFault(
                f"the channel runs deployment {deployment_id(context.deployment).hex()}, the module is "
                f"{deployment_id(module.deployment).hex()}"
            )
        self._module = module
        self._context = context
        self._track = track
        self._projection = projection
        self._interrupted = False
        self._fresh()

    def _fresh(self) -> None:
        limits = self._module.limits
        self._tables = Tables(self._module.tables, limits)
        self._host = Host(self._tables, limits, self._context.slots, ignore_outcome=self._projection)
        self._runner = Runner(self._module, self._context, self._host)
        amounts = tuple(slot[2] for slot in self._context.slots)
        self._base = _State(apply_updates(None, [event_leaf(EMPTY)]), EMPTY, amounts, [])
        self._batch: _State | None = None
        self._changes = NetChanges(self._context.channel_id)

    def _reset(self) -> None:
        self.close()
        self._fresh()

    # -- the port -------------------------------------------------------------------------------------------------

    def run(self, first_sequence: int, entries: Sequence[bytes], *, budget: Budget, late: bool = False) -> BatchResult:
        self.rollback()

        def attempt(indices: Sequence[int], fresh_each: bool) -> Pass:
            return self._attempt(first_sequence, entries, indices, budget, fresh_each)

        try:
            result = admit(len(entries), attempt)
        except BaseException as error:
            self._host.end()  # an interrupt may have left the middle of a message
            self.rollback()
            if isinstance(error, EngineError):
                raise KernelFault(f"the engine failed: {error}") from error
            raise
        assert self._batch is not None
        return BatchResult(
            result.accepted,
            result.refusals,
            root_of(self._batch.tree),
            self._batch.amounts,
            result.logs,
        )

    def late_root(self) -> bytes:
        raise KernelFault("no root is owed")

    def log_root(self, root: bytes, entries: Sequence[bytes]) -> bytes:
        self.rollback()
        return extend_log_root(root, entries)

    def messages(self, first_sequence: int, turn: int, entries: Sequence[bytes]) -> bytes:
        self.rollback()
        return message_rows(self._context.channel_id, first_sequence, turn, entries)

    def held_bytes(self) -> int:
        return self._changes.held_bytes()

    def commit(self, turn: int, *, messages: bool = True) -> None:
        if self._batch is None:
            raise KernelFault("commit without a batch; run one first")
        if self._track:
            for table, originals in self._tables.net():
                self._changes.add_table(table.position, originals)
            if messages:
                self._changes.add_entries(self._batch.first_sequence, turn, self._batch.entries)
            self._changes.add_events(self._batch.events)
            self._changes.add_versions(self._batch.versions)
        self._base, self._batch = self._batch, None
        self._base.events, self._base.entries, self._base.versions = [], [], []
        self._tables.forget()

    def take_changes(self, copy_rows_min: int) -> BatchChanges:
        if not self._track:
            raise KernelFault("this kernel does not track changes")
        if self._batch is not None:
            raise KernelFault("changes are taken between batches; commit or roll back the last run first")
        return self._changes.take([(store.codec, store.rows) for store in self._tables.tables], copy_rows_min)

    def rollback(self) -> None:
        """Forget the uncommitted batch, if any."""
        self._tables.undo(0)
        self._batch = None

    def state_root(self) -> bytes:
        return root_of(self._base.tree)

    def amounts(self) -> tuple[int, ...]:
        return self._base.amounts

    def event_root(self) -> bytes:
        """Committed root of the event chain."""
        return self._base.event_root

    def rows(self, table: str) -> Iterable[bytes]:
        """Committed rows in key order; raises KeyError for an unknown table."""
        store = next((store for store in self._tables.tables if store.codec.table.name == table), None)
        if store is None:
            names = ", ".join(store.codec.table.name for store in self._tables.tables)
            raise KeyError(f"table {table!r}; the tables are {names}")
        originals = next((old for changed, old in self._tables.net() if changed is store), {})
        keys = sorted(originals.keys() | store.rows.keys()) if originals else sorted(store.rows)
        committed = (originals[key] if key in originals else store.rows.get(key) for key in keys)
        return [row for row in committed if row is not None]

    def export_state(self) -> bytes:
        rows = tuple(tuple(self.rows(store.codec.table.name)) for store in self._tables.tables)
        return encode_export(self._context, self._base.event_root, self._base.amounts, rows, self.state_root())

    def import_state(self, data: bytes) -> None:
        export = decode_export(self._context, len(self._tables.tables), data)
        self._reset()
        try:
            self._fill(export)
        except (RowError, LimitError, ValueError) as error:
            self._reset()
            raise ValueError(f"export does not hold together: {error}") from None

    def memory_bytes(self) -> int:
        return _IDLE_BYTES + self._tables.row_bytes + ROW_OVERHEAD_BYTES * self._tables.row_count

    def interrupt(self) -> None:
        self._interrupted = True

    def close(self) -> None:
        self._runner.close()

    def prove(self, table_position: int, key: bytes) -> tuple[bytes | None, Proof]:
        """Committed row of an encoded key, or None, and the proof of it; absence may have to look at every row."""
        path = row_path(table_position, key)
        siblings, found = walk(self._base.tree, path)
        row = self._committed_row(table_position, key)
        if row is not None or found is None:
            return row, Proof(tuple(siblings))
        return None, Proof(tuple(siblings), self._leaf_at(found))

    # -- one pass over a batch ------------------------------------------------------------------------------------

    def _attempt(
        self, first_sequence: int, entries: Sequence[bytes], indices: Sequence[int], budget: Budget, fresh_each: bool
    ) -> Pass:
        """Run the entries at `indices` on the base, from nothing. What is refused takes no sequence."""
        self.rollback()
        batch = _State(self._base.tree, self._base.event_root, self._base.amounts, [], first_sequence)
        result = Pass()
        guest: Guest | None = None
        try:
            for index in indices:
                if self._interrupted:
                    raise KernelFault("interrupted: the channel is being unloaded")
                if guest is None:
                    guest = self._runner.guest(budget)
                sequence = first_sequence + len(result.accepted)
                refusal, trapped = self._message(guest, index, sequence, entries[index], budget, batch, result)
                if refusal is None:
                    result.accepted.append(index)
                else:
                    result.refusals.append(refusal)
                if trapped or fresh_each:
                    guest.close()
                    guest = None
        finally:
            if guest is not None:
                guest.close()
        updates = [event_leaf(batch.event_root)]
        for table, originals in self._tables.net():
            updates += [row_update(table.position, key, table.rows.get(key)) for key in originals]
        batch.tree = apply_updates(batch.tree, updates)
        batch.entries = [entries[index] for index in result.accepted]
        self._batch = batch
        result.state_root = root_of(batch.tree)
        result.amounts = batch.amounts
        return result

    def _message(
        self,
        guest: Guest,
        index: int,
        sequence: int,
        entry_bytes: bytes,
        budget: Budget,
        batch: _State,
        result: Pass,
    ) -> tuple[Refusal | None, bool]:
        """Refusal of one entry, or None, and whether the instance must not be used any more."""
        try:
            kind, message = self._runner.message_bytes(sequence, entry_bytes)
        except ValueError as error:
            return Refusal(index, "rejected", str(error)), False
        if kind is Kind.CLOSE:
            return None, False  # ends the log; no reducer runs
        mark = self._tables.mark()
        trapped = True
        try:
            status = self._runner.reduce(guest, kind, message, budget)
            trapped = False
            if not status and self._host.effects.rejection is None:
                self._tables.check_unique()
        except (GuestTrap, ImportTrap, UniqueViolation, MemoryError) as failure:
            self._tables.undo(mark)
            effects = self._host.end()
            result.add_logs(LogLine(index, level, text) for level, text in effects.logs)
            return Refusal(index, failure_code(failure, budget), failure_reason(failure)), trapped
        effects = self._host.end()
        result.add_logs(LogLine(index, level, text) for level, text in effects.logs)
        if status or effects.rejection is not None:
            self._tables.undo(mark)
            reason = effects.rejection if effects.rejection is not None else f"scapp_reduce returned {status}"
            return Refusal(index, "rejected", reason[:REASON_CHARACTERS_MAX]), False
        if effects.amounts is not None:
            batch.amounts = effects.amounts
        for number, (topic, data) in enumerate(effects.events):
            batch.events.append(AppEvent(sequence, number, topic, data))
            batch.event_root = extend_event_root(batch.event_root, sequence, topic.encode(), data)
        if self._track:
            batch.versions += self._versions(mark, sequence)
        return None, False

    def _versions(self, mark: int, sequence: int) -> Iterator[tuple[int, bytes]]:
        """What the message whose writes begin at `mark` made of rows of tables with history."""
        for store, originals in self._tables.net(mark):
            if not store.codec.table.history:
                continue
            for key, before in sorted(originals.items()):
                yield store.position, version_row(store.codec.table, sequence, before, store.rows.get(key))

    # -- state ----------------------------------------------------------------------------------------------------

    def _fill(self, export: Export) -> None:
        for store, rows in zip(self._tables.tables, export.rows, strict=True):
            for row in rows:
                if self._tables.put(store, row):
                    raise ValueError(f"table {store.codec.table.name} holds a key twice")
        self._tables.check_unique()
        self._tables.forget()
        updates = [event_leaf(export.event_root)]
        for store in self._tables.tables:
            updates += [row_update(store.position, key, row) for key, row in store.rows.items()]
        tree = apply_updates(None, updates)
        if root_of(tree) != export.state_root:
            raise ValueError(f"its rows have root {root_of(tree).hex()}, it says {export.state_root.hex()}")
        amounts = tuple(int.from_bytes(amount, "big") for amount in export.amounts)
        self._base = _State(tree, export.event_root, amounts, [])

    def _committed_row(self, table_position: int, key: bytes) -> bytes | None:
        store = self._tables.tables[table_position]
        originals = next((old for changed, old in self._tables.net() if changed is store), {})
        return originals[key] if key in originals else store.rows.get(key)

    def _committed(self, table_position: int) -> list[tuple[bytes, bytes]]:
        codec = self._module.tables[table_position]
        return [(codec.read_row(row)[0], row) for row in self.rows(codec.table.name)]

    def _leaf_at(self, path: int) -> tuple[bytes, bytes]:
        wanted = path.to_bytes(32, "big")
        if wanted == EVENT_PATH:
            return wanted, keccak256(self._base.event_root)
        for position in range(len(self._module.tables)):
            for key, row in self._committed(position):
                if row_path(position, key) == wanted:
                    return wanted, keccak256(row)
        raise KernelFault(f"the tree holds path {wanted.hex()} and no table does")
