"""The kernel in plain Python, from inside: failures around it, and what it frees. `test_kernel.py` has what it does."""

from __future__ import annotations

import gc
import weakref
from typing import NoReturn

import pytest

from scapp.runtime.engine_calls import EngineError
from scapp.runtime.kernel import Budget, KernelFault
from scapp.runtime.reference import ReferenceKernel
from scapp.runtime.rows import encode_key, encode_row
from tests.support import wat
from tests.support.wat import SCORE, message, op

SCORES = wat.MANIFEST.tables[SCORE]


def put_score(player: str, points: int) -> bytes:
    return op(wat.PUT, encode_row(SCORES, [player, points]), SCORE)


def opened() -> ReferenceKernel:
    """With entry 0 committed."""
    checked = wat.scripted()
    made = ReferenceKernel(checked, wat.context_of(checked))
    assert made.run(0, [wat.open_entry()], budget=Budget.ORDER).accepted == (0,)
    made.commit(0)
    return made


@pytest.fixture
def kernel() -> ReferenceKernel:
    return opened()


def test_the_work_of_imports_has_fuel_of_its_own(kernel: ReferenceKernel) -> None:
    """Python's instructions cost a reducer nothing, so what imports do is counted apart."""
    (refusal,) = kernel.run(1, [message(op(wat.BURN))], budget=Budget.ORDER).refusals
    assert "out of fuel for the work of imports in function step" in refusal.reason


def test_a_failure_of_the_engine_says_nothing_about_the_entries(
    kernel: ReferenceKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> NoReturn:
        raise EngineError("mmap failed")

    with monkeypatch.context() as patch:
        patch.setattr("scapp.runtime.engine_calls.Guest.call", broken)
        with pytest.raises(KernelFault, match="the engine failed: mmap failed"):
            kernel.run(1, [message()], budget=Budget.ORDER)
        patch.setattr("scapp.runtime.guest_run.Guest", broken)
        with pytest.raises(KernelFault, match="no instance of the module: mmap failed"):
            kernel.run(1, [message()], budget=Budget.ORDER)
    assert kernel.run(1, [message()], budget=Budget.ORDER).accepted == (0,)


def test_running_out_of_host_memory_is_undecidable(kernel: ReferenceKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object) -> bool:
        raise MemoryError

    monkeypatch.setattr(kernel._tables, "put", exhausted)
    result = kernel.run(1, [message(put_score("a", 1))], budget=Budget.ORDER)
    assert [(found.code, found.reason) for found in result.refusals] == [("undecidable", "MemoryError")]


def test_a_bug_in_an_import_comes_out_and_leaves_the_tables_as_they_were(
    kernel: ReferenceKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = kernel.state_root()

    def interrupted(*_: object) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(kernel._tables, "delete", interrupted)
        with pytest.raises(KeyboardInterrupt):
            kernel.run(1, [message(put_score("a", 1), op(wat.DELETE, encode_key(SCORES, ["a"])))], budget=Budget.ORDER)
    assert kernel.state_root() == root
    assert list(kernel.rows("score")) == []
    assert kernel.run(1, [message(put_score("a", 1))], budget=Budget.ORDER).accepted == (0,)


def test_a_closed_kernel_can_go_on_and_is_freed_without_the_garbage_collector() -> None:
    kernel = opened()
    kernel.close()
    assert kernel.run(1, [message(put_score("z", 1))], budget=Budget.ORDER).accepted == (0,)
    host = weakref.ref(kernel._host)
    gc.disable()
    try:
        kernel.close()
        del kernel
        assert host() is None
    finally:
        gc.enable()
