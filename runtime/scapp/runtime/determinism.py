"""Whether a reducer and a log give one result whichever way they are run; `scapp test --determinism` asks.

What is signed is a clean run, so nodes agree whatever a reducer does. But a reducer that remembers something outside
its tables is refused work (clean_run.py), and one that differs between compilers would stop its channel. Each way here
takes the same entries and is compared wherever its batches end. A difference may be gone again an entry later, with a
row that is deleted, so the ways that look for hidden state have batches that end at every entry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import NamedTuple

import msgspec

from scapp.channels.admission import ChannelContext
from scapp.runtime.kernel import Budget, Kernel
from scapp.runtime.module import CheckedModule
from scapp.runtime.native.kernel import NativeKernel
from scapp.runtime.reference import ReferenceKernel

NO_ENTRY = b"\xff"
"""Refused whatever the reducer is."""


class Difference(msgspec.Struct, frozen=True):
    """After `sequence` entries this way has another root or outcome than one fresh instance per message, or refuses an
    entry."""

    way: str
    sequence: int
    detail: str
    hint: str


class _Result(NamedTuple):
    """What is signed after `sequence` entries."""

    sequence: int
    state_root: bytes
    amounts: tuple[int, ...]


_Results = Iterator[_Result]
PREFIX_ENTRIES = 200_000
"""Entries of all prefixes together that are run in one instance each; of a short log these are all of its prefixes."""

_HIDDEN = "the reducer keeps something outside its tables, in a global or in memory that it did not write first"
_ENGINE = "the result depends on the compiler or the kernel; report it with the module and this log"


class _Refused(Exception):
    def __init__(self, sequence: int, reason: str) -> None:
        super().__init__(reason)
        self.sequence = sequence


def differences(module: CheckedModule, context: ChannelContext, entries: Sequence[bytes]) -> list[Difference]:
    """Run accepted `entries` (entry 0 first) in every way; empty when all agree."""
    try:
        base = _batches(NativeKernel(module, context, track=False), entries, 1)
        expected = {result.sequence: result for result in base}
    except _Refused as refused:
        return [Difference("one instance per message", refused.sequence, str(refused), _HIDDEN)]
    found = (_difference(name, way, expected, hint) for name, way, hint in _ways(module, context, entries))
    return [difference for difference in found if difference is not None]


def _ways(
    module: CheckedModule, context: ChannelContext, entries: Sequence[bytes]
) -> Iterator[tuple[str, Callable[[], _Results], str]]:
    def native(*, portable: bool = False) -> NativeKernel:
        return NativeKernel(module, context, track=False, portable=portable)

    yield "one instance for all", lambda: _prefixes(native(), entries), _HIDDEN
    yield "batches of 7", lambda: _shifted(native, entries, 7), _HIDDEN
    yield "batches of 1000", lambda: _batches(native(), entries, 1000), _HIDDEN
    yield "refused entries in between", lambda: _batches(native(), entries, 7, refused=True), _HIDDEN
    yield "each batch rolled back first", lambda: _batches(native(), entries, 7, rolled_back=True), _HIDDEN
    yield "reloaded in the middle", lambda: _reloaded(native, entries), _ENGINE
    yield "the kernel in Python", lambda: _batches(ReferenceKernel(module, context, track=False), entries, 1), _ENGINE
    yield "the portable interpreter", lambda: _batches(native(portable=True), entries, 1), _ENGINE


def _difference(
    name: str, way: Callable[[], _Results], expected: Mapping[int, _Result], hint: str
) -> Difference | None:
    """The one after the fewest entries."""
    found: Difference | None = None
    try:
        for result in way():
            sequence, wanted = result.sequence, expected[result.sequence]
            if result != wanted and (found is None or sequence < found.sequence):
                found = Difference(name, sequence, _other(result, wanted), hint)
    except _Refused as refused:
        if found is None or refused.sequence < found.sequence:
            reason = f"entry {refused.sequence} is refused: {refused}"
            return Difference(name, refused.sequence, reason, hint)
    return found


def _other(found: _Result, expected: _Result) -> str:
    if found.state_root != expected.state_root:
        return f"root 0x{found.state_root.hex()[:16]}…, expected 0x{expected.state_root.hex()[:16]}…"
    return f"outcome {list(found.amounts)}, expected {list(expected.amounts)}"


def _prefixes(kernel: Kernel, entries: Sequence[bytes]) -> _Results:
    """The first entries in one instance, for as many numbers of them as PREFIX_ENTRIES allows, up to all; closes the
    kernel."""
    count = max(1, min(len(entries), 2 * PREFIX_ENTRIES // max(len(entries), 1)))
    ends = sorted({-(-len(entries) * number // count) for number in range(1, count + 1)} - {0})
    with closing(kernel):
        for end in ends:
            result = kernel.run(0, entries[:end], budget=Budget.DERIVE)
            if result.refusals:
                raise _Refused(result.refusals[0].index, result.refusals[0].reason)
            yield _Result(end, result.state_root, result.amounts)
            kernel.rollback()


def _shifted(make: Callable[[], Kernel], entries: Sequence[bytes], size: int) -> _Results:
    """Batches of `size`, so often that one of them ends at every entry."""
    for head in range(1, min(size, len(entries)) + 1):
        yield from _batches(make(), entries, size, head=head)


def _batches(
    kernel: Kernel,
    entries: Sequence[bytes],
    size: int,
    *,
    first: int = 0,
    head: int | None = None,
    refused: bool = False,
    rolled_back: bool = False,
) -> _Results:
    """Derive from entry `first` on in batches of `size`, the first of `head`; closes the kernel."""
    with closing(kernel):
        start = first
        while start < len(entries):
            batch = list(entries[start : start + (head if head and start == first else size)])
            end, expected_refusals = start + len(batch), 0
            if refused and start:
                batch = [item for entry in batch for item in (NO_ENTRY, entry)]
                expected_refusals = len(batch) // 2
            if rolled_back:
                kernel.run(start, batch, budget=Budget.DERIVE)
                kernel.rollback()
            result = kernel.run(start, batch, budget=Budget.DERIVE)
            if len(result.refusals) != expected_refusals:
                refusal = next(item for item in result.refusals if batch[item.index] != NO_ENTRY)
                place = refusal.index // 2 if expected_refusals else refusal.index
                raise _Refused(start + place, refusal.reason)
            kernel.commit(start)
            yield _Result(end, result.state_root, result.amounts)
            start = end


def _reloaded(make: Callable[[], NativeKernel], entries: Sequence[bytes]) -> _Results:
    """The second half in a kernel that begins with what the first one exported."""
    middle = len(entries) // 2
    if not middle:
        return
    with closing(make()) as kernel:
        for sequence, entry in enumerate(entries[:middle]):
            result = kernel.run(sequence, [entry], budget=Budget.DERIVE)
            if result.refusals:
                raise _Refused(sequence, result.refusals[0].reason)
            kernel.commit(sequence)
        state = kernel.export_state()
    after = make()
    after.import_state(state)
    yield from _batches(after, entries, 1, first=middle)
