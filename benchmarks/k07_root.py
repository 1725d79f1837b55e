"""K7: the state root after 1000 of 1,000,000 rows changed, beside the bare keccak256 calls that it needs.

Ours is the kernel's `finish`: finding what changed, leaves, new nodes and their hashes. It needs two hashes for a
changed row, one for each node that it makes, and nothing for the other rows. The bare calls are as many of the kernel's
own keccak256, one after the other in a loop under the same engine. Value: seconds. Beside it: a row's proof.
"""

from __future__ import annotations

import random
import struct
import time
from collections.abc import Callable
from typing import Any

from benchmarks._zig import compiled
from benchmarks.k01_kernel import kernel_over
from benchmarks.runner import Measure, Part, Result
from benchmarks.timing import Side, compare, median_seconds

ROWS, CHANGED = 1_000_000, 1_000
BATCH = 20_000


def _filled() -> Any:
    from scapp.channels.entries import encode_entry
    from scapp.runtime.kernel import Budget

    kernel = kernel_over(rooted=True, track=False)
    kernel.run(0, [encode_entry(0, 0, 0, 0, b"")], budget=Budget.DERIVE)
    kernel.commit(0)
    for start in range(0, ROWS, BATCH):
        entries = [_entry(number, 1) for number in range(start, start + BATCH)]
        assert len(kernel.run(1 + start, entries, budget=Budget.DERIVE).accepted) == BATCH
        kernel.commit(0)
    return kernel


def _entry(row: int, amount: int) -> bytes:
    from scapp.channels.entries import encode_entry

    return encode_entry(2, 0, 0, 1_000, struct.pack("<qq", row, amount))  # a tick emits nothing


def _bare(count: int) -> Callable[[], None]:
    from wasmtime import Instance, Module, Store

    from scapp.runtime.engine_config import run_engine
    from scapp.runtime.kernel import Budget

    engine = run_engine(Budget.DERIVE)
    store = Store(engine)
    store.set_fuel(1 << 62)
    code = compiled("reducers/keccak_loop.zig", ("hashes",), "+simd128", kernel_source="keccak")
    hashes: Any = Instance(store, Module(engine, code), []).exports(store)["hashes"]
    return lambda: hashes(store, count)


def run() -> Result:
    from scapp.runtime.kernel import Budget
    from scapp.runtime.keys import KeyCodec
    from scapp.runtime.proofs import verify_inclusion
    from scapp.runtime.root import row_path

    kernel = _filled()
    source = random.Random(3)
    entries = [_entry(row, 5) for row in source.sample(range(ROWS), CHANGED)]
    kernel.run(1 + ROWS, entries, budget=Budget.DERIVE)
    hashes = 2 * CHANGED + kernel._report().nodes_made

    def again() -> None:
        """The same batch, up to its root."""
        kernel.rollback()
        kernel._write_entries(entries)
        assert kernel._run_whole(1 + ROWS, range(CHANGED), entries, Budget.DERIVE)

    root = compare(Side(kernel.finish, 1, again), Side(_bare(hashes), 1), slot_seconds=0.001)
    key = KeyCodec(kernel.tables[0].key_columns).encode([struct.pack(">q", 777)])
    proof = median_seconds(lambda: kernel.prove(0, key), clock="thread")
    row, found = kernel.prove(0, key)
    began = time.thread_time()
    assert verify_inclusion(kernel.state_root(), row_path(0, key), row, found)
    checked = time.thread_time() - began
    notes = (
        f"{hashes} hashes; root {1e3 / root.rate:.2f} ms, bare {1e3 / root.reference_rate:.2f} ms",
        f"a proof in {proof * 1e3:.3f} ms, checked in {checked * 1e3:.3f} ms; memory {kernel.memory_bytes() >> 20} MiB",
    )
    parts = [
        Part("root against bare hashes", 1 / root.ratio, 1.5, lower_is_better=True),
        Part("proof, ms", proof * 1e3, 1, lower_is_better=True),
    ]
    return Result.of_parts(1 / root.rate, "s", parts, notes)


MEASURES = [Measure("K7", "root over 1,000,000 rows after 1000 changed, against bare keccak256", goal=1, run=run)]
