"""The one place that builds wasmtime configurations; `engine_calls.py` crosses into the engine.

Invalid combinations abort the whole process in this package (no exception), so a Config is only ever built from the
constants below; a test builds each of them in a subprocess. Why each setting: docs/adrs/0017-determinism-rules.md.
"""

from __future__ import annotations

import functools
import hashlib
import json
import threading

from wasmtime import Config, Engine

from scapp.runtime.kernel import Budget

# What a reducer may use: core WebAssembly with bulk memory, sign extension, saturating conversions, multiple values,
# mutable globals and funcref tables. Order matters: relaxed SIMD goes off before SIMD.
FEATURES: dict[str, bool] = {
    "wasm_threads": False,
    "shared_memory": False,
    "wasm_relaxed_simd": False,
    "wasm_simd": False,
    "wasm_tail_call": False,
    "wasm_function_references": False,
    "wasm_gc": False,
    "gc_support": False,
    "wasm_exceptions": False,
    "wasm_stack_switching": False,
    "wasm_memory64": False,
    "wasm_custom_page_sizes": False,
    "wasm_wide_arithmetic": False,
    "wasm_component_model": False,
    "wasm_multi_memory": False,
    "wasm_multi_value": True,
    "wasm_bulk_memory": True,
}
# What the kernel and its bridge use besides; reducers are validated without. Order: SIMD after relaxed SIMD.
KERNEL_FEATURES: dict[str, bool] = {"wasm_simd": True, "wasm_multi_memory": True}
ALLOWED_FEATURES = "the core instructions with bulk memory, sign extension, saturating conversion and multiple values"

CODE: dict[str, object] = {
    "consume_fuel": True,
    "cranelift_nan_canonicalization": True,
    "cranelift_opt_level": "speed",
    "epoch_interruption": False,
    # The whole 32-bit space for each memory: no access needs a check, and a memory never moves. 128 TiB of addresses
    # are room for 30,000 memories; what bounds them is how many channels are loaded (native/assembly.py).
    "memory_reservation": 1 << 32,
    "memory_reservation_for_growth": 0,
    "memory_guard_size": 1 << 25,
    "memory_may_move": False,
}
# Stack depth depends on compiler and machine, so reaching it is undecidable; a wider budget leaves room for what
# another machine's sequencer let pass. The package aborts above 2 MiB, and the engine does not know how large the
# calling thread's stack is: threads that run kernels need 2 MiB, a quarter of what Linux with glibc gives them.
STACK_BYTES: dict[Budget, int] = {Budget.ORDER: 256 << 10, Budget.CHECK: 1 << 20, Budget.DERIVE: 3 << 19}

TABLE_ELEMENTS_MAX = 10_000
PAGE_BYTES = 65_536

_lock = threading.Lock()
_engines: dict[Budget | str | None, Engine] = {}


def strict_engine() -> Engine:
    """Validates reducers: every feature outside the deterministic set is off."""
    return _engine(None)


def run_engine(budget: Budget) -> Engine:
    """Runs reducers under a budget's stack limit. Compiled code is the same for all budgets."""
    return _engine(budget)


def portable_engine() -> Engine:
    """Like the engine of the widest budget, with code for the engine's own interpreter instead of this machine: another
    way to the same results, for `determinism.py`. Ten to thirty times slower."""
    return _engine(PORTABLE)


def quick_engine() -> Engine:
    """Compiles in less time to slower code, which the engines of all budgets load: for trying things, `scapp dev`."""
    return _engine(QUICK)


PORTABLE = "portable"
QUICK = "quick"


def build_config(budget: Budget | str | None) -> Config:
    """A fresh Config: the strict one for None. A Config belongs to one Engine."""
    config = Config()
    if budget == PORTABLE:
        config.target = "pulley64"
    deepest = Budget.DERIVE if isinstance(budget, str) else budget or Budget.ORDER
    features = FEATURES if budget is None else FEATURES | KERNEL_FEATURES
    for name, value in (features | CODE).items():
        setattr(config, name, value)
    if budget == QUICK:
        config.cranelift_opt_level = "none"
    config.max_wasm_stack = STACK_BYTES[deepest]
    return config


@functools.cache
def engine_id() -> str:
    """Names engine version and settings; equal ids give equal fuel counts and interchangeable compiled modules."""
    from importlib.metadata import version  # costs more to import than all the rest here

    settings = json.dumps(
        [FEATURES, KERNEL_FEATURES, CODE, sorted(STACK_BYTES.items()), TABLE_ELEMENTS_MAX], sort_keys=True
    )
    digest = hashlib.sha256(settings.encode()).hexdigest()[:16]
    return f"wasmtime-{version('wasmtime')}-{digest}"


def _engine(budget: Budget | str | None) -> Engine:
    with _lock:
        if budget not in _engines:
            _engines[budget] = Engine(build_config(budget))
        return _engines[budget]
