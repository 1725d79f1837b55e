"""K1: the kernel alone, beside a reducer that is called message by message through the engine's public API.

A message reads a row of 10,000, writes it and emits an event. Ours: entries as bytes through the kernel, which keeps
the batch undoable, commits it and hands over its change set, events and messages included; once without a state root,
as a projection runs, and once with a root for every 1000 messages, as a channel does. The reference
writes the message into the module's memory, calls it, and reads
and unpacks the changed row; it has no table store, no undo and no events.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks._zig import compiled
from benchmarks.runner import Measure, Part, Result
from benchmarks.timing import Side, compare

ROWS = 10_000
PLAIN, ROOTED = 10_000, 1_000  # messages in a batch


def _payloads(count: int) -> list[bytes]:
    source = random.Random(7)
    return [struct.pack("<qq", source.randrange(ROWS), number) for number in range(count)]


def kernel_over(*, rooted: bool, track: bool = True) -> Any:
    """A kernel of the counter, without any row."""
    from scapp.channels.admission import ChannelContext
    from scapp.channels.deployment import Limits
    from scapp.channels.types import ChannelId
    from scapp.runtime.module import check_module
    from scapp.runtime.native.kernel import NativeKernel

    wasm = compiled("reducers/counter.zig", ("scapp_manifest", "scapp_alloc", "scapp_reduce"))
    module = check_module(wasm, Limits(fuel_per_message=10**9))
    context = ChannelContext(ChannelId(bytes(32)), (bytes(20), bytes([1]) * 20), module.deployment, ())
    return NativeKernel(module, context, track=track, rooted=rooted)


def _batches(*, rooted: bool, size: int) -> Callable[[], None]:
    """A call derives one batch after the other."""
    from scapp.channels.entries import encode_entry
    from scapp.runtime.kernel import Budget

    kernel = kernel_over(rooted=rooted)
    first = [encode_entry(0, 0, 0, 0, b"")]
    first += [encode_entry(1, 0, number, 1_000, struct.pack("<qq", number, 1)) for number in range(ROWS)]
    batch = [encode_entry(1, 0, number, 1_000, payload) for number, payload in enumerate(_payloads(size))]
    sequence = 0

    def derive(entries: Sequence[bytes]) -> None:
        nonlocal sequence
        result = kernel.run(sequence, entries, budget=Budget.DERIVE)
        assert len(result.accepted) == len(entries), result.refusals[:1]
        kernel.commit(1)
        changes = kernel.take_changes(1 << 30)
        assert changes.events is not None or sequence == 0
        sequence += len(entries)

    derive(first)
    return lambda: derive(batch)


def _reference(size: int) -> Callable[[], None]:
    from wasmtime import Instance, Module, Store

    from scapp.runtime.engine_config import run_engine
    from scapp.runtime.kernel import Budget

    engine = run_engine(Budget.DERIVE)
    store = Store(engine)
    store.set_fuel(1 << 62)
    module = Module(engine, compiled("reducers/counter_reference.zig", ("alloc", "reduce")))
    exports: Any = Instance(store, module, []).exports(store)
    memory, reduce = exports["memory"], exports["reduce"]
    pointer = exports["alloc"](store, 16)
    payloads = _payloads(size)
    unpack = struct.Struct("<qqq").unpack

    def run() -> None:
        for payload in payloads:
            memory.write(store, payload, pointer)
            place = reduce(store, pointer, 16)
            start, length = place >> 32 & 0xFFFF_FFFF, place & 0xFFFF_FFFF
            unpack(memory.read(store, start, start + length))

    return run


def run() -> Result:
    reference = Side(_reference(1_000), units=1_000)
    plain = compare(Side(_batches(rooted=False, size=PLAIN), units=PLAIN), reference)
    rooted = compare(Side(_batches(rooted=True, size=ROOTED), units=ROOTED), reference)
    parts = [Part("without root", plain.ratio, 50), Part("with a root per 1000", rooted.ratio, 12)]
    notes = (f"with roots {rooted.rate:,.0f} messages/s, the reference {plain.reference_rate:,.0f}",)
    return Result.of_parts(plain.rate, "messages/s", parts, notes)


MEASURES = [Measure("K1", "get, put and event per message, against per-message calls", goal=1, run=run)]
