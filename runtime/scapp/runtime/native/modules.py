"""The modules around a reducer, compiled once per process: kernel, shim, bridge and stack.

The shim breaks the import cycle between reducer and kernel: it forwards each call through a table that the bridge,
made last, fills. The bridge copies between the two memories. The stack module eats stack before it enters the kernel,
so that one engine serves budgets of different depths. Measured and decided in docs/adrs/0016-wasmtime-core-modules.md.
"""

from __future__ import annotations

import functools
from importlib.resources import files
from pathlib import Path

import msgspec
from wasmtime import Engine, Module, wat2wasm

from scapp.runtime.compiled import CodeCache, CompiledModule
from scapp.runtime.engine_config import portable_engine, run_engine
from scapp.runtime.host import SIGNATURES
from scapp.runtime.kernel import Budget

KERNEL_NAME, SHIM_NAME, BRIDGE_NAME, STACK_NAME = "scapp_kernel", "scapp_shim", "scapp_bridge", "scapp_stack"
OUR_NAMES = frozenset({KERNEL_NAME, SHIM_NAME, BRIDGE_NAME, STACK_NAME})
"""Names of modules whose frames are not the reducer's."""

# What the shim forwards besides the imports of the ABI: (number of i32 parameters, whether there is an i32 result).
_GUEST = {
    "guest_alloc": (1, True),
    "guest_reduce": (2, True),
    "guest_pages": (0, True),
    "guest_load": (3, False),
    "guest_store": (3, False),
}
_FORWARDED = SIGNATURES | _GUEST
_WIDE_RESULTS = 1_000  # the most a function may have; room for them is made in the caller's frame, not written


def _type(parameters: int, result: bool) -> str:
    return f"(param {'i32 ' * parameters})" * bool(parameters) + "(result i32)" * result


def shim_text() -> str:
    """A function for each import, forwarded through the table."""
    lines = [f"(module ${SHIM_NAME}", f'(table (export "table") {len(_FORWARDED)} {len(_FORWARDED)} funcref)']
    for slot, (name, (parameters, result)) in enumerate(_FORWARDED.items()):
        arguments = " ".join(f"(local.get {number})" for number in range(parameters))
        type_ = _type(parameters, result)
        lines.append(f'(func (export "{name}") {type_} (call_indirect {type_} {arguments} (i32.const {slot})))')
    return "\n".join((*lines, ")"))


def bridge_text() -> str:
    """Copies between the memories, and the table's content. Spans were checked by the kernel; the engine does again."""
    functions = [
        f'(import "kernel" "abi_{name}" (func $f_{name} {_type(parameters, result)}))'
        for name, (parameters, result) in SIGNATURES.items()
    ]
    slots = " ".join(f"$f_{name}" for name in _FORWARDED)
    return "\n".join(
        (
            f"(module ${BRIDGE_NAME}",
            f'(import "shim" "table" (table {len(_FORWARDED)} {len(_FORWARDED)} funcref))',
            '(import "kernel" "memory" (memory $kernel 0))',
            '(import "guest" "memory" (memory $guest 0))',
            *functions,
            '(import "guest" "scapp_alloc" (func $f_guest_alloc (param i32) (result i32)))',
            '(import "guest" "scapp_reduce" (func $f_guest_reduce (param i32 i32) (result i32)))',
            "(func $f_guest_pages (result i32) (memory.size $guest))",
            _copy("load", "guest", "kernel"),
            _copy("store", "kernel", "guest"),
            f"(elem (i32.const 0) func {slots}))",
        )
    )


def _copy(name: str, source: str, target: str) -> str:
    """Short copies by words, the last of which may take some bytes again: the engine's own instruction is a call, which
    they do not repay."""
    return f"""(func $f_guest_{name} (param $from i32) (param $to i32) (param $length i32)
      (if (i32.gt_u (local.get $length) (i32.const 128))
        (then (memory.copy ${target} ${source} (local.get $to) (local.get $from) (local.get $length)) (return)))
      (if (i32.ge_u (local.get $length) (i32.const 8))
        (then
          (local.set $length (i32.sub (local.get $length) (i32.const 8)))
          (i64.store ${target} (i32.add (local.get $to) (local.get $length))
            (i64.load ${source} (i32.add (local.get $from) (local.get $length))))
          (block $words_done
            (loop $words
              (br_if $words_done (i32.le_s (local.get $length) (i32.const 0)))
              (i64.store ${target} (local.get $to) (i64.load ${source} (local.get $from)))
              (local.set $from (i32.add (local.get $from) (i32.const 8)))
              (local.set $to (i32.add (local.get $to) (i32.const 8)))
              (local.set $length (i32.sub (local.get $length) (i32.const 8)))
              (br $words)))
          (return)))
      (block $done
        (loop $bytes
          (br_if $done (i32.eqz (local.get $length)))
          (i32.store8 ${target} (local.get $to) (i32.load8_u ${source} (local.get $from)))
          (local.set $from (i32.add (local.get $from) (i32.const 1)))
          (local.set $to (i32.add (local.get $to) (i32.const 1)))
          (local.set $length (i32.sub (local.get $length) (i32.const 1)))
          (br $bytes))))"""


_WIDE = f"(func $wide (result {'i64 ' * _WIDE_RESULTS}) (unreachable))"
_NEVER = f"(if (i32.lt_s (local.get $frames) (i32.const 0)) (then (call $wide) {'drop ' * _WIDE_RESULTS}))"


def probe_text() -> str:
    """Frames like those of the stack module, and nothing beneath them."""
    return f"""(module ${STACK_NAME} {_WIDE}
        (func $probe (export "probe") (param $frames i32) {_NEVER}
            (if (local.get $frames) (then (call $probe (i32.sub (local.get $frames) (i32.const 1)))))))"""


def stack_text() -> str:
    """`scapp_run` and `scapp_step` of the kernel under a number of wide frames."""
    kernel, entries = [], []
    for name, type_, arguments in (
        ("scapp_run", "(param i32 i32)", "(local.get 1) (local.get 2)"),
        ("scapp_step", "(param i32) (result i32)", "(local.get 1)"),
    ):
        result = "(result i32)" * ("result" in type_)
        given = type_.removesuffix("(result i32)").strip()
        kernel.append(f'(import "kernel" "{name}" (func $kernel_{name} {type_}))')
        entries.append(
            f'(func ${name} (export "{name}") (param $frames i32) {given} {result}'
            f" (if (i32.eqz (local.get $frames)) (then (return (call $kernel_{name} {arguments}))))"
            f" {_NEVER}"
            f" (call ${name} (i32.sub (local.get $frames) (i32.const 1)) {arguments}))"
        )
    return "\n".join((f"(module ${STACK_NAME}", *kernel, _WIDE, *entries, ")"))


class KernelModules(msgspec.Struct, frozen=True):
    """Compiled for one engine."""

    engine: Engine
    kernel: Module
    shim: Module
    bridge: Module
    stack: Module


def kernel_bytes() -> bytes:
    """The shipped kernel; `make kernel` builds it."""
    return files("scapp.runtime.native").joinpath("kernel.wasm").read_bytes()


def _all_bytes() -> list[bytes]:
    return [kernel_bytes(), *(bytes(wat2wasm(text)) for text in (shim_text(), bridge_text(), stack_text()))]


@functools.cache
def load(cache_folder: Path | None = None) -> KernelModules:
    """Compile everything, or take it from the cache."""
    cache = CodeCache(cache_folder)
    return KernelModules(run_engine(BUDGET), *(CompiledModule(code, cache).module(BUDGET) for code in _all_bytes()))


@functools.cache
def load_portable() -> KernelModules:
    """Everything for the engine's interpreter."""
    engine = portable_engine()
    return KernelModules(engine, *(Module(engine, code) for code in _all_bytes()))


BUDGET = Budget.DERIVE
"""Whose engine runs native kernels: its stack is the deepest; `stack` takes off what another budget may not have."""
