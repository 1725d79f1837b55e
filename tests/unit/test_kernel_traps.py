"""A trap anywhere leaves the native kernel as if the message had not been: fuel, stack, memory, outside its time.

What differs by design: instructions of the kernel count as fuel, so the two kernels end at different places. Each
end is compared with the committed state before the message, or with the whole message.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from scapp.channels.deployment import Limits
from scapp.reducers.manifest import encode_manifest
from scapp.runtime.kernel import BatchResult, Budget, Kernel, KernelFault
from scapp.runtime.module import CheckedModule, check_module
from scapp.runtime.native import assembly
from scapp.runtime.native.kernel import NativeKernel
from scapp.runtime.native.layout import IMPORTS
from scapp.runtime.reference import ReferenceKernel
from scapp.runtime.rows import join
from tests.support import raw_calls as raw
from tests.support import wat
from tests.support.kernel_pair import Pair

OUT_OF_FUEL = "out of fuel"


def small(number: int, note: bytes | None) -> bytes:
    return raw.put(raw.SMALL, join([number.to_bytes(2, "big"), note]))


def seat(number: int, holder: bytes) -> bytes:
    paid = bytes.fromhex("00010000000000000001")
    return raw.put(raw.UNIQUE, join([bytes(4), bytes([97 + number]), holder, None, paid]))


WRITES = (
    small(1, b"x" * 100),
    raw.set_outcome(wat.amounts(1, 99)),
    raw.emit(b"t", b"data"),
    seat(1, b"ann"),
    seat(2, b"bob"),
    raw.scan(raw.UNIQUE),
    raw.step(0),
    raw.delete(raw.SMALL, join([b"\0\0"])),
    raw.log(1, b"line"),
    raw.digest("sha256", b"x"),
)
BATCHES = (
    [wat.message(*WRITES), wat.message(seat(1, b"bob"), seat(2, b"ann"))],
    [wat.message(seat(3, b"carl"), small(2, None))],
)

# What the batch before leaves: whoever puts back too much puts back its events and amounts.
OLD = [
    wat.message(small(0, b"old"), raw.emit(b"t", b"old"), raw.set_outcome(wat.amounts(30, 70))),
    wat.message(small(9, None)),
]
FIRST = 1 + len(OLD)


class Metered(NativeKernel):
    """A kernel in which each call that runs reducers may burn `fuel` units, whatever the budget says."""

    fuel: int | None = None
    every = True  # else the whole batch at once only
    fuel_of: Mapping[int | None, int] = {}  # by message, None for the whole batch at once

    def _fresh(self) -> None:
        super()._fresh()
        enter = self._assembly.enter

        def metered(name: str, budget: Budget, *arguments: int) -> int:
            if self.fuel is not None and (self.every or name == "scapp_run"):
                self._assembly.set_fuel(self.fuel)
            message = arguments[0] if name == "scapp_step" else None
            if message in self.fuel_of:
                self._assembly.set_fuel(self.fuel_of[message])
            return enter(name, budget, *arguments)

        self._assembly.enter = metered  # type: ignore[method-assign]


def opened(checked: CheckedModule) -> Metered:
    kernel = Metered(checked, wat.context_of(checked))
    assert kernel.run(0, [wat.open_entry(), *OLD], budget=Budget.DERIVE).accepted == (0, 1, 2)
    kernel.commit(0)
    return kernel


State = tuple[bytes, bytes]


def state(kernel: NativeKernel) -> State:
    return kernel.state_root(), kernel.export_state()


def run_all(kernel: Metered, first: int = FIRST) -> list[BatchResult]:
    """The batches one after another; what is accepted is committed."""
    results = []
    for batch in BATCHES:
        result = kernel.run(first, batch, budget=Budget.ORDER)
        kernel.commit(0)
        first += len(result.accepted)
        results.append(result)
    return results


def wanted(which: tuple[int, ...]) -> State:
    """State after these of the messages, by the plain-Python kernel."""
    pair = Pair(raw.checked())
    pair.run(OLD)
    pair.commit()
    messages = [message for batch in BATCHES for message in batch]
    pair.run([messages[index] for index in which])
    pair.commit()
    found = pair.reference.state_root(), pair.reference.export_state()
    pair.close()
    return found


def _sweep(step: int, *, every: bool) -> set[tuple[int, ...]]:
    """Every end that fuel from none to plenty comes to; each is compared with the oracle."""
    known: dict[tuple[int, ...], State] = {}
    for fuel in range(1, 60_000, step):
        kernel = opened(raw.checked())
        kernel.fuel, kernel.every = fuel, every
        first, second = run_all(kernel)
        for result in (first, second):
            assert all(OUT_OF_FUEL in refusal.reason for refusal in result.refusals), (fuel, result.refusals)
        assert len(first.accepted) + len(first.refusals) == 2, fuel
        assert len(second.accepted) + len(second.refusals) == 1, fuel
        which = (*first.accepted, *(2 for _ in second.accepted))
        if which not in known:
            known[which] = wanted(which)
        assert state(kernel) == known[which], fuel
        kernel.fuel = None  # and it goes on like one to which nothing happened
        following = kernel.run(FIRST + len(which), [wat.message(*WRITES)], budget=Budget.ORDER)
        assert following.accepted == (0,), (fuel, following.refusals)
        kernel.close()
    return set(known)


def test_a_message_that_never_began_takes_nothing_back() -> None:
    """Its fuel ends before it is begun. What would be put back then is of before the message in front of it, which has
    made room for the one behind it."""
    full = raw.checked(Limits(rows_max=2))
    kernel = Metered(full, wat.context_of(full))
    filled = wat.message(small(0, None), small(1, None))
    assert kernel.run(0, [wat.open_entry(), filled], budget=Budget.ORDER).accepted == (0, 1)
    kernel.commit(0)
    kernel.fuel_of = {None: 1, 1: 1}  # one message to a call, and of these the second with next to none
    batch = [wat.message(raw.delete(raw.SMALL, join([b"\0\0"]))), wat.message(), wat.message(small(2, None))]
    result = kernel.run(2, batch, budget=Budget.ORDER)
    assert (result.accepted, [refusal.index for refusal in result.refusals]) == ((0, 2), [1])
    assert OUT_OF_FUEL in result.refusals[0].reason
    kernel.close()


def test_fuel_may_end_anywhere_in_a_message() -> None:
    """Each message has what a call may burn: it happens whole or not at all, and others are as they were."""
    ends = _sweep(607, every=True)
    assert {(), (0, 1, 2)} <= ends


def test_fuel_may_end_anywhere_in_a_batch() -> None:
    """The whole batch at once has so much; then each message its own, so that all are accepted in the end."""
    assert _sweep(607, every=False) == {(0, 1, 2)}


@pytest.mark.slow
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("every", [False, True])
def test_fuel_may_end_at_every_unit(every: bool) -> None:
    """As above with every amount of fuel there is, in `make nightly`; otherwise with one in 61."""
    assert (0, 1, 2) in _sweep(int(os.environ.get("SCAPP_FUEL_STEP", "61")), every=every)


DEEP = """
(global $left (mut i32) (i32.const 0))
(data (i32.const 200000) "\\00\\02\\00\\00\\00\\02\\00\\00\\ff\\ff\\ff\\ff")
(data (i32.const 200032) "\\00\\01\\00\\00\\00\\02\\00\\00")
(func $deep (param $depth i32) (result i32)
  (i32.store16 (i32.const 200006) (local.get $depth))
  (i32.store16 (i32.const 200038) (local.get $depth))
  {call}
  (if (result i32) (i32.lt_u (local.get $depth) (global.get $left))
    (then (i32.add (i32.const 1) (call $deep (i32.add (local.get $depth) (i32.const 1)))))
    (else (i32.const 0))))
(func (export "scapp_reduce") (param $at i32) (param i32) (result i32)
  (if (i32.eqz (i32.load8_u (local.get $at))) (then (return (i32.const 0))))
  (global.set $left (i32.load offset=80 (local.get $at)))
  (drop (call $deep (i32.const 0))) (i32.const 0))
"""
AT_EACH_LEVEL = {
    "put": "(drop (call $put (i32.const 0) (i32.const 200000) (i32.const 12)))",
    "get": "(drop (call $get (i32.const 0) (i32.const 200032) (i32.const 8) (i32.const 0) (i32.const 0)))",
    "delete": "(drop (call $put (i32.const 0) (i32.const 200000) (i32.const 12)))"
    "(drop (call $delete (i32.const 0) (i32.const 200032) (i32.const 8)))",
    "scan": "(if (i32.ne (call $next (call $scan (i32.const 0) (i32.const 200032) (i32.const 8)"
    " (i32.const 0) (i32.const 0) (i32.const 0)) (i32.const 131072) (i32.const 100)) (i32.const -1))"
    " (then (unreachable)))",
    "emit": "(if (i32.lt_u (local.get $depth) (i32.const 200))"
    " (then (call $emit (i32.const 200033) (i32.const 1) (i32.const 0) (i32.const 9))))"
    " (call $log (i32.const 1) (i32.const 0) (i32.const 9))",
    "hash": "(call $keccak256 (i32.const 0) (i32.const 9) (i32.const 131072))"
    " (call $sha256 (i32.const 0) (i32.const 9) (i32.const 131072))",
}
STACKS = """
import sys, threading
from tests.unit.test_kernel_traps import deepest
threading.stack_size(2 << 20)
thread = threading.Thread(target=deepest, args=(sys.argv[1], int(sys.argv[2])))
thread.start()
thread.join()
"""


def deepest(call: str, around: int) -> None:
    """Run at each depth about the one where the stack ends, and print what came of it; for a process of its own."""
    body = DEEP.format(call=AT_EACH_LEVEL[call])
    document = encode_manifest(raw.MANIFEST)
    wasm = wat.module(wat.IMPORTS, wat.MEMORY, wat.ALLOC, body, manifest=document)
    checked = check_module(wasm, Limits(fuel_per_message=10**11))
    kernel = NativeKernel(checked, wat.context_of(checked))
    kernel.run(0, [wat.open_entry()], budget=Budget.ORDER)
    kernel.commit(0)
    before = state(kernel)

    def fits(depth: int) -> bool:
        result = kernel.run(1, [wat.message(depth.to_bytes(4, "little"))], budget=Budget.ORDER)
        kernel.rollback()
        if not result.accepted:
            assert result.state_root == before[0], depth
            (refusal,) = result.refusals
            assert (refusal.code, refusal.reason.split(" in ")[0]) == ("undecidable", "stack overflow"), refusal
        return bool(result.accepted)

    low, high = 0, 1 << 16
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    ends = [fits(depth) for depth in range(max(low - around, 0), low + around)]
    assert state(kernel) == before
    shallow = kernel.run(1, [wat.message(bytes(4))], budget=Budget.ORDER)
    assert shallow.refusals == ()
    print("alive", low > 100, ends == sorted(ends, reverse=True))


@pytest.mark.parametrize("call", AT_EACH_LEVEL)
def test_the_stack_may_end_at_every_depth(call: str) -> None:
    """Recursion that calls an import at each level ends as undecidable wherever it ends, and leaves nothing."""
    assert _at_the_end_of_the_stack(call, 12) == ["alive True True"]


@pytest.mark.slow
@pytest.mark.parametrize("call", AT_EACH_LEVEL)
def test_the_stack_may_end_at_many_more_depths(call: str) -> None:
    """As above over a wide range; frames of the kernel are longer than the reducer's."""
    assert _at_the_end_of_the_stack(call, 400) == ["alive True True"]


def _at_the_end_of_the_stack(call: str, around: int) -> list[str]:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", STACKS, call, str(around)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


# -- memory -----------------------------------------------------------------------------------------------------------


def test_a_message_for_which_the_kernel_has_no_memory_is_undecidable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it stays, and others go on; here in memory that its own writes have filled."""
    monkeypatch.setattr(assembly, "KERNEL_BYTES_MAX", 24 * 65_536)
    kernel = opened(raw.checked())
    before = state(kernel)
    for _ in range(3):
        row = join([b"\0\1", b"x" * 8_000])
        again = raw.raw(IMPORTS.index("put"), raw.SMALL, raw.DATA, len(row), say=False)
        huge = wat.message(raw.put(raw.SMALL, row), *[again] * 400)
        result = kernel.run(FIRST, [huge, wat.message(small(3, None))], budget=Budget.DERIVE)
        assert [refusal.code for refusal in result.refusals] == ["undecidable"]
        assert result.refusals[0].reason == "the kernel's memory is exhausted"
        assert result.accepted == (1,)
        kernel.rollback()
        assert state(kernel) == before
    kernel.close()


def test_without_memory_outside_a_message_the_kernel_stops_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers nothing from then on; a new one from the last export has all that was committed."""
    monkeypatch.setattr(assembly, "KERNEL_BYTES_MAX", 40 * 65_536)
    kernel = opened(raw.checked())
    sequence, last, problem = FIRST, state(kernel), ""
    while not problem:
        try:
            result = kernel.run(sequence, [wat.message(small(sequence, b"y" * 4_000))], budget=Budget.ORDER)
            kernel.commit(0)
            sequence += len(result.accepted)
            last = state(kernel)
        except KernelFault as fault:
            problem = str(fault)
    assert problem == "the kernel cannot go on: its memory is exhausted"
    questions: list[Callable[[], object]] = [
        kernel.state_root,
        kernel.amounts,
        kernel.event_root,
        kernel.export_state,
        lambda: list(kernel.rows("small")),
    ]
    for question in questions:
        with pytest.raises(KernelFault, match="cannot go on"):
            question()
    assert sequence > 50
    monkeypatch.undo()
    again = NativeKernel(raw.checked(), wat.context_of(raw.checked()))
    again.import_state(last[1])
    assert state(again) == last


# -- long lives -------------------------------------------------------------------------------------------------------


def _after_traps(batches: int) -> int:
    """Bytes of the kernel's memory after batches of messages that trap in many ways."""
    kernel = opened(raw.checked())
    before = state(kernel)
    ways = [
        raw.raw(raw.TRAP),
        raw.put(9, b""),
        raw.raw(raw.RETURN, 1),
        seat(1, b"x") + seat(2, b"x"),
        raw.reject(b"no"),
    ]
    bad = [wat.message(*WRITES, way) for way in ways]
    for _ in range(batches):
        result = kernel.run(FIRST, bad, budget=Budget.ORDER)
        assert len(result.refusals) == len(bad)
        assert result.state_root == before[0]
    kernel.rollback()
    assert state(kernel) == before
    size = len(kernel._assembly.view())
    kernel.close()
    return size


def test_trapped_messages_leave_no_memory_behind() -> None:
    assert _after_traps(60) == _after_traps(10)


@pytest.mark.slow
@pytest.mark.timeout(1_200)
def test_ten_thousand_trapped_messages_leave_no_memory_behind() -> None:
    assert _after_traps(2_000) == _after_traps(10)


# -- outside scapp_reduce ---------------------------------------------------------------------------------------------

OUTSIDE = (
    '(func (export "scapp_alloc") (param i32) (result i32) {call} (i32.const 65536))'
    '(func (export "scapp_reduce") (param i32 i32) (result i32) (i32.const 0))'
)
CALLS = [
    *[AT_EACH_LEVEL[name].replace("local.get $depth", "local.get 0") for name in ("put", "get", "scan", "hash")],
    "(call $emit (i32.const 200033) (i32.const 1) (i32.const 0) (i32.const 9))",
    "(call $log (i32.const 1) (i32.const 0) (i32.const 9))",
    "(call $set_outcome (i32.const 0) (i32.const 64))",
    "(call $reject (i32.const 0) (i32.const 9))",
]
ALLOCS = [
    "(unreachable)",
    "(loop $ever (br $ever))",
    "(return (i32.const -1))",
    "(return (i32.const 262100))",
    "(i32.store (i32.const -1) (i32.const 0))",
]


@pytest.mark.parametrize("call", [*CALLS, *ALLOCS])
def test_what_scapp_alloc_does_wrong_is_the_same_fault_in_both(call: str) -> None:
    wasm = wat.module(wat.IMPORTS, wat.MEMORY, OUTSIDE.format(call=call), manifest=encode_manifest(raw.MANIFEST))
    checked = check_module(wasm, Limits(fuel_per_message=100_000))
    kernels: list[Kernel] = [kind(checked, wat.context_of(checked)) for kind in (NativeKernel, ReferenceKernel)]
    ours, theirs = (kernel.run(0, [wat.open_entry()], budget=Budget.ORDER) for kernel in kernels)
    assert ours == theirs
    assert ours.accepted == ()
    assert ours.refusals[0].code == "fault"


def test_after_close_everything_is_refused() -> None:
    """Nothing reads memory that is no longer there."""
    kernel = opened(raw.checked())
    kernel.close()
    kernel.close()
    questions: list[Callable[[], object]] = [
        kernel.state_root,
        kernel.amounts,
        kernel.event_root,
        kernel.export_state,
        kernel.rollback,
        kernel.memory_bytes,
        lambda: list(kernel.rows("small")),
        lambda: kernel.prove(0, b""),
        lambda: kernel.run(1, [], budget=Budget.ORDER),
        lambda: kernel.take_changes(1),
    ]
    for question in questions:
        with pytest.raises(KernelFault, match="it is closed"):
            question()
