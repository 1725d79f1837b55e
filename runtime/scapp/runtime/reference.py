"""The kernel in plain Python: runs a batch through the reducer and keeps tables, root, events and amounts.

It is the readable statement of what a kernel does, and the oracle for a native one. Around it: `host.py` serves the
imports, `tables.py` holds the rows, `root.py` the tree, `clean_run.py` decides what a batch admits.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence

import msgspec
from wasmtime import TrapCode

from scapp.channels.admission import ChannelContext, Refusal
from scapp.channels.crypto import keccak256
from scapp.channels.deployment import deployment_id
from scapp.channels.entries import Kind, decode_entry
from scapp.runtime.changes import AppEvent, BatchChanges, LogLine
from scapp.runtime.clean_run import Pass, admit
from scapp.runtime.engine_calls import EngineError, Guest, GuestTrap, Imports, ImportTrap, OutOfFuel, fault_text
from scapp.runtime.engine_config import run_engine
from scapp.runtime.host import SIGNATURES, Host
from scapp.runtime.kernel import BatchResult, Budget, KernelFault
from scapp.runtime.module import CheckedModule
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
from scapp.runtime.rows import RowError, TableCodec
from scapp.runtime.tables import LimitError, Tables, UniqueViolation

MESSAGE_HEADER = struct.Struct("<BBHIQQ20s32sI")
MESSAGE_HEADER_BYTES = MESSAGE_HEADER.size  # 80
REASON_CHARACTERS_MAX = 2_000
_UNDECIDABLE = {TrapCode.STACK_OVERFLOW, TrapCode.INTERRUPT}


class Export(msgspec.Struct, frozen=True, array_like=True):
    """What `export_state` writes, in MessagePack."""

    version: int
    deployment: bytes
    channel_id: bytes
    event_root: bytes
    amounts: tuple[bytes, ...]  # 32 bytes each, big-endian
    rows: tuple[tuple[bytes, ...], ...]  # by table position, in key order
    state_root: bytes


_export_decoder = msgspec.msgpack.Decoder(Export)
EXPORT_VERSION = 1


class _State(msgspec.Struct):
    """What a batch changes besides the tables."""

    tree: Node
    event_root: bytes
    amounts: tuple[int, ...]
    events: list[AppEvent]


class ReferenceKernel:
    """Implements `Kernel`. Holds one guest at a time; `close` frees engine memory."""

    def __init__(self, module: CheckedModule, context: ChannelContext) -> None:
        if context.deployment != module.deployment:
            raise KernelFault(
                f"the channel runs deployment {deployment_id(context.deployment).hex()}, the module is "
                f"{deployment_id(module.deployment).hex()}"
            )
        self._module = module
        self._context = context
        self._limits = module.limits
        self._imports: dict[Budget, Imports] = {}
        self._reset()

    def _reset(self) -> None:
        self.close()
        self._tables = Tables(self._module.tables, self._limits)
        self._host = Host(self._tables, self._limits, self._context.slots)
        amounts = tuple(slot[2] for slot in self._context.slots)
        self._base = _State(apply_updates(None, [event_leaf(EMPTY)]), EMPTY, amounts, [])
        self._batch: _State | None = None

    # -- the port -------------------------------------------------------------------------------------------------

    def run(self, first_sequence: int, entries: Sequence[bytes], *, budget: Budget) -> BatchResult:
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

    def commit(self) -> BatchChanges:
        if self._batch is None:
            raise KernelFault("commit without a batch; run one first")
        changes = BatchChanges(self._tables.changes(), tuple(self._batch.events))
        self._base, self._batch = self._batch, None
        self._base.events = []
        self._tables.forget()
        return changes

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
        export = Export(
            EXPORT_VERSION,
            deployment_id(self._context.deployment),
            self._context.channel_id,
            self._base.event_root,
            tuple(amount.to_bytes(32, "big") for amount in self._base.amounts),
            tuple(tuple(self.rows(store.codec.table.name)) for store in self._tables.tables),
            self.state_root(),
        )
        return msgspec.msgpack.encode(export)

    def import_state(self, data: bytes) -> None:
        try:
            export = _export_decoder.decode(data)
        except (msgspec.DecodeError, RecursionError) as error:
            raise ValueError(f"not an export of a kernel: {error}") from None
        found = (export.version, export.deployment, export.channel_id, len(export.amounts), len(export.rows))
        expected = (
            EXPORT_VERSION,
            deployment_id(self._context.deployment),
            self._context.channel_id,
            len(self._context.slots),
            len(self._tables.tables),
        )
        if found != expected:
            raise ValueError(f"export of another channel, deployment or version: {found}; expected {expected}")
        self._reset()
        try:
            self._fill(export)
        except (RowError, LimitError, ValueError) as error:
            self._reset()
            raise ValueError(f"export does not hold together: {error}") from None

    def close(self) -> None:
        for imports in self._imports.values():
            imports.close()
        self._imports = {}

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
        batch = _State(self._base.tree, self._base.event_root, self._base.amounts, [])
        result = Pass()
        guest: Guest | None = None
        try:
            for index in indices:
                if guest is None:
                    guest = self._guest(budget)
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
        self._batch = batch
        result.state_root = root_of(batch.tree)
        result.amounts = batch.amounts
        return result

    def _guest(self, budget: Budget) -> Guest:
        imports = self._imports.get(budget)
        if imports is None:
            imports = self._imports[budget] = Imports(run_engine(budget), SIGNATURES, self._host.functions())
        try:
            return Guest(imports, self._module.module(budget), self._limits.memory_bytes_max)
        except (EngineError, GuestTrap) as error:
            raise KernelFault(f"no instance of the module: {error}") from error

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
            kind, message = self._message_bytes(sequence, entry_bytes)
        except ValueError as error:
            return Refusal(index, "rejected", str(error)), False
        if kind is Kind.CLOSE:
            return None, False  # ends the log; no reducer runs
        mark = self._tables.mark()
        trapped = True
        try:
            status = self._reduce(guest, kind, message, budget)
            trapped = False
            if not status and self._host.effects.rejection is None:
                self._tables.check_unique()
        except (GuestTrap, ImportTrap, UniqueViolation, MemoryError) as failure:
            self._tables.undo(mark)
            effects = self._host.end()
            result.add_logs(LogLine(index, level, text) for level, text in effects.logs)
            return Refusal(index, _code(failure, budget), _reason(failure)), trapped
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
        return None, False

    def _message_bytes(self, sequence: int, entry_bytes: bytes) -> tuple[Kind, bytes]:
        """Kind and guest buffer of an entry; raises ValueError for what is no entry of this channel."""
        entry = decode_entry(entry_bytes)
        participants = self._context.participants
        if entry.author >= len(participants):
            raise ValueError(f"author {entry.author}; the channel has {len(participants)} participants, from 0")
        if (entry.kind is Kind.OPEN) != (sequence == 0):
            raise ValueError(f"{entry.kind.name} at sequence {sequence}; OPEN is entry 0 and nothing else")
        header = MESSAGE_HEADER.pack(
            entry.kind,
            entry.author,
            0,
            len(entry.payload),
            sequence,
            entry.time_ms,
            participants[entry.author],
            self._context.channel_id,
            0,
        )
        return entry.kind, header + entry.payload

    def _reduce(self, guest: Guest, kind: Kind, message: bytes, budget: Budget) -> int:
        fuel = self._limits.fuel_per_message * budget
        guest.store.set_fuel(fuel)
        pointer = guest.call("scapp_alloc", len(message)) & 0xFFFF_FFFF
        memory = guest.refresh()
        if pointer + len(message) > len(memory):
            raise ImportTrap(
                f"scapp_alloc returned pointer {pointer} for {len(message)} bytes, outside the memory of {len(memory)}"
            )
        memory[pointer : pointer + len(message)] = message
        self._host.begin(guest, kind, fuel)
        status = guest.call("scapp_reduce", pointer, len(message)) & 0xFFFF_FFFF
        return status - (status >> 31 << 32)  # i32

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


def root_of_rows(tables: Sequence[TableCodec], rows: Mapping[str, Iterable[bytes]], event_root: bytes) -> bytes:
    """State root of given rows, from nothing: what `scapp verify` compares. Raises RowError for a malformed row."""
    updates = [event_leaf(event_root)]
    for position, codec in enumerate(tables):
        for row in rows.get(codec.table.name, ()):
            updates.append(row_update(position, codec.read_row(row)[0], row))
    return root_of(apply_updates(None, updates))


def _code(failure: BaseException, budget: Budget) -> str:
    if isinstance(failure, MemoryError) or (isinstance(failure, GuestTrap) and failure.code in _UNDECIDABLE):
        return "undecidable"
    out_of_fuel = isinstance(failure, OutOfFuel) or (
        isinstance(failure, GuestTrap) and failure.code is TrapCode.OUT_OF_FUEL
    )
    return "undecidable" if out_of_fuel and budget is not Budget.ORDER else "fault"


def _reason(failure: BaseException) -> str:
    text = fault_text(failure) if isinstance(failure, GuestTrap | ImportTrap) else str(failure)
    # Function names are the guest's own words, and PostgreSQL cannot store a NUL.
    return (text or type(failure).__name__)[:REASON_CHARACTERS_MAX].replace("\0", "�")
