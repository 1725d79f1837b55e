"""The native kernel beside the plain-Python one: both do each thing, and whatever differs fails the test."""

from __future__ import annotations

from collections.abc import Sequence

from scapp.runtime.changes import COPY_NEVER
from scapp.runtime.kernel import BatchResult, Budget
from scapp.runtime.module import CheckedModule
from scapp.runtime.native.kernel import NativeKernel
from scapp.runtime.reference import ReferenceKernel
from tests.support import wat


def _comparable(result: BatchResult) -> BatchResult:
    """The frame in which fuel ended differs by design, and so does which of the two allowances ended first."""
    refusals = tuple(
        type(found)(found.index, found.code, "out of fuel" if "out of fuel" in found.reason else found.reason)
        for found in result.refusals
    )
    return BatchResult(result.accepted, refusals, result.state_root, result.amounts, result.logs)


class Pair:
    """Both kernels of a channel, entry 0 committed. `close` frees them."""

    def __init__(self, checked: CheckedModule) -> None:
        context = wat.context_of(checked)
        self.checked = checked
        self.native = NativeKernel(checked, context)
        self.reference = ReferenceKernel(checked, context)
        self.sequence = 0
        self.turn = 0
        assert self.run([wat.open_entry()], Budget.DERIVE).accepted == (0,)
        self.commit()

    def run(self, entries: Sequence[bytes], budget: Budget = Budget.ORDER) -> BatchResult:
        ours = self.native.run(self.sequence, entries, budget=budget)
        theirs = self.reference.run(self.sequence, entries, budget=budget)
        assert _comparable(ours) == _comparable(theirs)
        self.accepted = len(ours.accepted)
        return ours

    def commit(self) -> None:
        self.turn += 1
        self.native.commit(self.turn)
        self.reference.commit(self.turn)
        self.sequence += self.accepted

    def rollback(self) -> None:
        self.native.rollback()
        self.reference.rollback()

    def take(self, copy_rows_min: int = COPY_NEVER) -> None:
        assert self.native.take_changes(copy_rows_min) == self.reference.take_changes(copy_rows_min)

    def compare(self) -> None:
        """Committed state, whole."""
        assert self.native.state_root() == self.reference.state_root()
        assert self.native.event_root() == self.reference.event_root()
        assert self.native.amounts() == self.reference.amounts()
        for codec in self.checked.tables:
            name = codec.table.name
            assert list(self.native.rows(name)) == list(self.reference.rows(name)), name

    def reload(self) -> None:
        """Each goes on from what the other wrote."""
        ours, theirs = self.native.export_state(), self.reference.export_state()
        assert ours == theirs
        self.native.import_state(theirs)
        self.reference.import_state(ours)

    def prove(self, table: int, key: bytes) -> None:
        assert self.native.prove(table, key) == self.reference.prove(table, key)

    def close(self) -> None:
        self.native.close()
        self.reference.close()
