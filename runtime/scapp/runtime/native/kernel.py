"""The kernel port over the WebAssembly kernel: one call per batch, and what its traps mean.

A batch first runs whole on the fuel of one message: when it stays within, no message exceeded it. When it does not,
or a trap strikes where no reducer runs, the batch is run again one message to a call, with fuel of its own for each.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Sequence
from pathlib import Path

from wasmtime import TrapCode

from scapp.channels.admission import ChannelContext, Refusal
from scapp.channels.deployment import deployment_id
from scapp.channels.entries import Kind
from scapp.runtime.changes import BatchChanges, LogLine
from scapp.runtime.clean_run import Pass, admit
from scapp.runtime.engine_calls import EngineError, GuestTrap, ImportTrap, OutOfFuel
from scapp.runtime.guest_run import REASON_CHARACTERS_MAX, check_entry, failure_code, failure_reason
from scapp.runtime.host import OUT_OF_FUEL
from scapp.runtime.kernel import BatchResult, Budget, KernelFault
from scapp.runtime.kernel_export import decode_export, encode_export
from scapp.runtime.module import CheckedModule
from scapp.runtime.native import layout
from scapp.runtime.native.crossing import NO_MEMORY, Crossing
from scapp.runtime.native.explain import explain
from scapp.runtime.native.layout import REASON, Report
from scapp.runtime.proofs import Proof

ACCEPTED, REJECTED, COLLIDED, MALFORMED, TRAPPED, LEFT_OUT = 1, 2, 3, 4, 5, 9  # batch.zig `Status`
IDLE = 0  # state.zig `Phase`
IMPORT_REFUSED, BAD_ALLOC, CORRUPT, IMPORT_FUEL = 1, 2, 4, 5  # failure.zig `Code`, besides NO_MEMORY


class NativeKernel(Crossing):
    """Implements `Kernel`. `close` frees engine memory.

    Not `rooted`: events and rows are under no root, and all roots are meaningless. `projection`: outcomes are ignored.
    `portable`: code for the engine's interpreter. `cache_folder` keeps the kernel's compiled code."""

    def __init__(
        self,
        module: CheckedModule,
        context: ChannelContext,
        *,
        track: bool = True,
        rooted: bool = True,
        projection: bool = False,
        portable: bool = False,
        cache_folder: Path | None = None,
    ) -> None:
        if context.deployment != module.deployment:
            raise KernelFault(
                f"the channel runs deployment {deployment_id(context.deployment).hex()}, the module is "
                f"{deployment_id(module.deployment).hex()}"
            )
        super().__init__(
            module,
            context,
            track=track,
            rooted=rooted,
            projection=projection,
            portable=portable,
            cache_folder=cache_folder,
        )
        self._interrupted = False
        self._fresh()

    def _fresh(self) -> None:
        self._open = False
        self._late = False  # the open batch's root is to come after the commit
        self._owed = False  # of one that is committed
        self._count = 0
        self._written: tuple[bytes, ...] | None = None  # entries that lie in the kernel, for the next `run`
        self._trapped: dict[int, Refusal] = {}
        self._begin()

    # -- the port -------------------------------------------------------------------------------------------------

    def run(self, first_sequence: int, entries: Sequence[bytes], *, budget: Budget, late: bool = False) -> BatchResult:
        self._check_whole()
        if not late:
            self._check_owed()
        self._open = False
        try:
            self._write_entries(entries)
            self._written = None  # nobody comes back to them, and an idle kernel is not to keep them

            def attempt(indices: Sequence[int], fresh_each: bool) -> Pass:
                return self._attempt(first_sequence, entries, indices, budget, fresh_each, late)

            result = admit(len(entries), attempt)
        except EngineError as error:
            self._broken = f"the engine failed: {error}"
            raise KernelFault(self._broken) from error
        except KernelFault:
            if not self._broken:
                self.rollback()
            raise
        self._open = True
        report = self._report()
        root = b"" if self._late else report.state_root
        return BatchResult(result.accepted, result.refusals, root, self._amounts(report.amounts), result.logs)

    def commit(self, turn: int, *, messages: bool = True) -> None:
        if not self._open:
            raise KernelFault("commit without a batch; run one first")
        self._kernel("scapp_commit", turn, int(messages))
        self._open = False
        self._owed, self._late = self._owed or self._late, False

    def late_root(self) -> bytes:
        if not self._owed:
            raise KernelFault("no root is owed")
        self._open = False
        self._kernel("scapp_settle_root")
        self._owed = False
        return self._report().base_state_root

    def take_changes(self, copy_rows_min: int) -> BatchChanges:
        if not self._track:
            raise KernelFault("this kernel does not track changes")
        if self._open:
            raise KernelFault("changes are taken between batches; commit or roll back the last run first")
        self._kernel("scapp_take", min(copy_rows_min, 2**32 - 1))
        return layout.read_changes(self._output(), self.tables)

    def held_bytes(self) -> int:
        return self._kernel("scapp_held")

    def messages(self, first_sequence: int, turn: int, entries: Sequence[bytes]) -> bytes:
        self.rollback()
        self._write_entries(entries)
        self._kernel("scapp_messages", first_sequence, turn)
        return bytes(self._output())

    def rollback(self) -> None:
        """Forget the uncommitted batch, if any."""
        self._open = self._late = False
        self._kernel("scapp_close")

    def log_root(self, root: bytes, entries: Sequence[bytes]) -> bytes:
        self.rollback()
        self._write_entries(entries)
        address = self._pass_in(root, "scapp_log_root") & 0xFFFF_FFFF
        return bytes(self._assembly.view()[address : address + 32])

    def state_root(self) -> bytes:
        self._check_whole()
        self._check_owed()
        return self._report().base_state_root

    def prove(self, table_position: int, key: bytes) -> tuple[bytes | None, Proof]:
        """Committed row of an encoded key, or None, with the proof of it."""
        self._check_owed()
        return super().prove(table_position, key)

    def export_state(self) -> bytes:
        self._check_owed()
        rows = tuple(tuple(self._rows(number)) for number in range(len(self.tables)))
        return encode_export(self._context, self.event_root(), self.amounts(), rows, self.state_root())

    def import_state(self, data: bytes) -> None:
        export = decode_export(self._context, len(self.tables), data)
        self._reset()
        try:
            self._fill(export)
        except ValueError as error:
            self._reset()
            raise ValueError(f"export does not hold together: {error}") from None

    def interrupt(self) -> None:
        self._interrupted = True

    def close(self) -> None:
        self._broken = self._broken or "it is closed"
        self._assembly.close()

    # -- one pass over a batch ------------------------------------------------------------------------------------

    def _write_entries(self, entries: Sequence[bytes]) -> None:
        if self._written is entries:
            return
        self._written = entries if isinstance(entries, tuple) else None
        self._count = count = len(entries)
        offsets = itertools.accumulate(map(len, entries), initial=4 * (count + 1))
        data = struct.pack(f"<{count + 1}I", *offsets) + b"".join(entries)
        address = self._kernel("scapp_reserve", count, len(data))
        self._assembly.view()[address : address + len(data)] = data

    def _attempt(
        self,
        first_sequence: int,
        entries: Sequence[bytes],
        indices: Sequence[int],
        budget: Budget,
        fresh_each: bool,
        late: bool,
    ) -> Pass:
        """Run the entries at `indices` on the base, from nothing. What is refused takes no sequence."""
        if fresh_each or not self._run_whole(first_sequence, indices, entries, budget):
            self._run_singly(first_sequence, indices, entries, budget, fresh_each)
        report = self._report()
        statuses = bytes(self._assembly.view()[report.statuses : report.statuses + self._count])
        self._late = late and self._rooted and statuses.count(ACCEPTED) == self._count
        if self._late:
            self._kernel("scapp_finish_late")
        else:
            self._check_owed()  # a refusal has it come at once
            self.finish()
        report = self._report()
        result = Pass(state_root=report.state_root, amounts=self._amounts(report.amounts))
        if statuses.count(ACCEPTED) == self._count:
            result.accepted = list(range(self._count))
        else:
            reasons = {index: text for index, level, text in self._notes(report) if level == REASON}
            self._sort_out(statuses, first_sequence, entries, reasons, result)
        result.logs = [
            LogLine(index, level, _text(text)) for index, level, text in self._notes(report) if level != REASON
        ]
        return result

    def _start(self, first_sequence: int, indices: Sequence[int]) -> None:
        """A pass begins: nothing on the base, a fresh instance, and only these entries to run."""
        self._trapped = {}
        self._kernel("scapp_open", first_sequence, self._allowance)
        if len(indices) != self._count:
            wanted = set(indices)
            marks = bytes(0 if index in wanted else LEFT_OUT for index in range(self._count))
            statuses = self._report().statuses
            self._assembly.view()[statuses : statuses + self._count] = marks
        self._plug()

    def _run_whole(self, first_sequence: int, indices: Sequence[int], entries: Sequence[bytes], budget: Budget) -> bool:
        """The batch in as few calls as traps allow; False when it must be run singly."""
        self._allowance = fuel = self._module.limits.fuel_per_message * budget
        self._start(first_sequence, indices)
        first = 0
        while True:
            self._check_interrupted()
            try:
                self._assembly.set_fuel(fuel)
                self._assembly.enter("scapp_run", budget, first, self._count)
                return True
            except GuestTrap as trap:
                fuel = trap.fuel
                report = self._describe()
                if report.phase == IDLE or trap.code is TrapCode.OUT_OF_FUEL or report.failure_code == NO_MEMORY:
                    return False
                self._trap(report.message, report, trap, entries[report.message], budget)
                self._plug()
                first = report.message + 1

    def _run_singly(
        self, first_sequence: int, indices: Sequence[int], entries: Sequence[bytes], budget: Budget, fresh_each: bool
    ) -> None:
        """Each message with fuel of its own, of which settling it takes nothing."""
        self._allowance = self._module.limits.fuel_per_message * budget
        self._start(first_sequence, indices)
        for position, index in enumerate(indices):
            self._check_interrupted()
            if not self._assembly.plugged or (fresh_each and position):
                self._plug()
            self._assembly.set_fuel(self._allowance)
            try:
                settle = self._assembly.enter("scapp_step", budget, index) & 1
            except GuestTrap as trap:
                self._trap(index, self._describe(), trap, entries[index], budget)
                self._assembly.plugged = False
                continue
            if settle:
                self._kernel("scapp_settle", index)

    def _plug(self) -> None:
        try:
            self._assembly.plug()
        except GuestTrap as error:
            raise KernelFault(f"no instance of the module: {error}") from error

    def _trap(self, index: int, report: Report, trap: GuestTrap, entry: bytes, budget: Budget) -> None:
        """The message that ran, or was to, is refused for what the trap says."""
        failure: Exception = trap
        if report.failure_code == IMPORT_REFUSED:
            failure = self._explained(report, trap, Kind(entry[0]))
        elif report.failure_code == IMPORT_FUEL:
            failure = OutOfFuel(OUT_OF_FUEL)
            failure.add_note(trap.frame)
        elif report.failure_code == BAD_ALLOC:
            length = len(entry) + 62  # header of the message for that of the entry
            size = len(self._assembly.guest_view())
            failure = ImportTrap(
                f"scapp_alloc returned pointer {report.failure_detail} for {length} bytes, outside the memory of {size}"
            )
        elif report.failure_code == NO_MEMORY:
            failure = MemoryError("the kernel's memory is exhausted")
        elif report.failure_code == CORRUPT:
            raise self._break("an invariant of the kernel is broken")
        self._kernel("scapp_abandon", index)
        self._trapped[index] = Refusal(index, failure_code(failure, budget), failure_reason(failure))

    def _explained(self, report: Report, trap: GuestTrap, kind: Kind) -> ImportTrap:
        memory = self._assembly.guest_view()
        refusal = explain(report, memory, kind, self._module, self._context, self._row_length)
        if refusal is None:
            raise self._break(
                f"the kernel refuses import {report.import_number} with {report.import_arguments} for no reason"
            )
        refusal.add_note(trap.frame)
        return refusal

    def _row_length(self, key: bytes) -> int | None:
        found = self._pass_in(key, "scapp_row_length") & 0xFFFF_FFFF
        return found - 1 if found else None

    def _sort_out(
        self,
        statuses: bytes,
        first_sequence: int,
        entries: Sequence[bytes],
        reasons: dict[int, bytes],
        result: Pass,
    ) -> None:
        """What became of each entry of the pass."""
        for index, status in enumerate(statuses):
            if status == ACCEPTED:
                result.accepted.append(index)
            elif status == TRAPPED:
                result.refusals.append(self._trapped[index])
            elif status == MALFORMED:
                problem = self._entry_problem(first_sequence + len(result.accepted), entries[index])
                result.refusals.append(Refusal(index, "rejected", problem))
            elif status == REJECTED:
                reason = _text(reasons[index]) if index in reasons else f"scapp_reduce returned {self._result(index)}"
                result.refusals.append(Refusal(index, "rejected", reason[:REASON_CHARACTERS_MAX]))
            elif status == COLLIDED:
                result.refusals.append(
                    Refusal(index, "fault", f"unique violation: {self._index_name(self._result(index))}")
                )

    def _entry_problem(self, sequence: int, entry: bytes) -> str:
        try:
            check_entry(self._context, sequence, entry)
        except ValueError as error:
            return str(error)
        raise self._break(f"the kernel takes entry {sequence} for malformed")

    def _result(self, index: int) -> int:
        start = self._report().statuses + self._count + 7 & ~7
        (value,) = struct.unpack_from("<i", self._assembly.view(), start + 4 * index)
        return int(value)

    def _notes(self, report: Report) -> list[tuple[int, int, bytes]]:
        if not report.last_note:
            return []
        self._kernel("scapp_notes")
        return layout.read_notes(bytes(self._output()))

    # -- state ----------------------------------------------------------------------------------------------------

    def _reset(self) -> None:
        self.close()
        self._fresh()

    def finish(self) -> None:
        """Compute the roots of the batch; `run` does it."""
        self._kernel("scapp_finish")

    def _check_owed(self) -> None:
        if self._owed:
            raise KernelFault("the last batch's root comes first")

    def _check_interrupted(self) -> None:
        if self._interrupted:
            raise KernelFault("interrupted: the channel is being unloaded")


def _text(data: bytes) -> str:
    """As `host.py` reads texts: what is not UTF-8, and NUL, is replaced."""
    return data.decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
