"""Whether a reducer and a log give one root whichever way they are run; `scapp test --determinism` asks.

What is signed is a clean run, so nodes agree whatever a reducer does. But a reducer that remembers something outside
its tables is refused work (clean_run.py), and one that differs between compilers would stop its channel. Each way here
takes the same entries; the first sequence after which a way's root is another names the entry to look at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import msgspec

from scapp.channels.admission import ChannelContext
from scapp.runtime.kernel import Budget, Kernel
from scapp.runtime.module import CheckedModule
from scapp.runtime.native.kernel import NativeKernel
from scapp.runtime.reference import ReferenceKernel

NO_ENTRY = b"\xff"
"""Refused whatever the reducer is."""


class Difference(msgspec.Struct, frozen=True):
    """After `sequence` entries this way has another root than one fresh instance per message, or refuses an entry."""

    way: str
    sequence: int
    detail: str
    hint: str


Roots = dict[int, bytes]
"""State root by number of entries derived."""

_HIDDEN = "the reducer keeps something outside its tables, in a global or in memory that it did not write first"
_ENGINE = "the result depends on the compiler or the kernel; report it with the module and this log"


class _Refused(Exception):
    def __init__(self, sequence: int, reason: str) -> None:
        super().__init__(reason)
        self.sequence = sequence


def differences(module: CheckedModule, context: ChannelContext, entries: Sequence[bytes]) -> list[Difference]:
    """Run accepted `entries` (entry 0 first) in every way; empty when all agree."""
    try:
        expected = _batches(NativeKernel(module, context, track=False), entries, 1)
    except _Refused as refused:
        return [Difference("one instance per message", refused.sequence, str(refused), _HIDDEN)]
    found = (_difference(name, way, expected, hint) for name, way, hint in _ways(module, context, entries))
    return [difference for difference in found if difference is not None]


def _ways(
    module: CheckedModule, context: ChannelContext, entries: Sequence[bytes]
) -> Iterator[tuple[str, Callable[[], Roots], str]]:
    def native(*, portable: bool = False) -> NativeKernel:
        return NativeKernel(module, context, track=False, portable=portable)

    yield "one instance for all", lambda: _batches(native(), entries, max(len(entries), 1)), _HIDDEN
    for size in (7, 1000):
        yield f"batches of {size}", lambda size=size: _batches(native(), entries, size), _HIDDEN  # type: ignore[misc]
    yield "refused entries in between", lambda: _batches(native(), entries, 7, refused=True), _HIDDEN
    yield "each batch rolled back first", lambda: _batches(native(), entries, 7, rolled_back=True), _HIDDEN
    yield "reloaded in the middle", lambda: _reloaded(native, entries), _ENGINE
    yield "the kernel in Python", lambda: _batches(ReferenceKernel(module, context, track=False), entries, 1), _ENGINE
    yield "the portable interpreter", lambda: _batches(native(portable=True), entries, 1), _ENGINE


def _difference(name: str, way: Callable[[], Roots], expected: Roots, hint: str) -> Difference | None:
    try:
        found = way()
    except _Refused as refused:
        return Difference(name, refused.sequence, f"entry {refused.sequence} is refused: {refused}", hint)
    for sequence, root in sorted(found.items()):
        if root != expected[sequence]:
            detail = f"root 0x{root.hex()[:16]}…, expected 0x{expected[sequence].hex()[:16]}…"
            return Difference(name, sequence, detail, hint)
    return None


def _batches(
    kernel: Kernel,
    entries: Sequence[bytes],
    size: int,
    *,
    first: int = 0,
    refused: bool = False,
    rolled_back: bool = False,
) -> Roots:
    """Derive in batches of `size`; closes the kernel."""
    roots: Roots = {}
    try:
        for start in range(first, len(entries), size):
            batch = list(entries[start : start + size])
            expected_refusals = 0
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
            roots[min(start + size, len(entries))] = result.state_root
    finally:
        kernel.close()
    return roots


def _reloaded(make: Callable[[], NativeKernel], entries: Sequence[bytes]) -> Roots:
    """The second half in a kernel that begins with what the first one exported."""
    middle = len(entries) // 2
    if not middle:
        return {}
    kernel = make()
    for sequence, entry in enumerate(entries[:middle]):
        result = kernel.run(sequence, [entry], budget=Budget.DERIVE)
        if result.refusals:
            raise _Refused(sequence, result.refusals[0].reason)
        kernel.commit(sequence)
    state = kernel.export_state()
    kernel.close()
    after = make()
    after.import_state(state)
    return _batches(after, entries, 1, first=middle)
