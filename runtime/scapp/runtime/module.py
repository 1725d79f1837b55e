"""Deploy-time checks: what module may run at all, and what it says about itself; `reference.py` then runs it.

A module is refused before any of its code is compiled or run, wherever that can be seen from its bytes. Every refusal
names the offender and what is allowed. The manifest is read once, in a throw-away instance under fuel.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
from wasmtime import FuncType, GlobalType, MemoryType, Module, TableType, WasmtimeError

from scapp.channels.crypto import keccak256
from scapp.channels.deployment import ABI, Deployment, Limits
from scapp.channels.errors import LocalError
from scapp.reducers.manifest import DOCUMENT_BYTES_MAX, Manifest, ManifestError, parse_manifest
from scapp.runtime import wasm_sections
from scapp.runtime.compiled import CodeCache, CompiledModule
from scapp.runtime.engine_calls import ABI_MODULE, EngineError, Guest, GuestTrap, Imports, ImportTrap, fault_text
from scapp.runtime.engine_config import ALLOWED_FEATURES, PAGE_BYTES, TABLE_ELEMENTS_MAX, run_engine, strict_engine
from scapp.runtime.host import SIGNATURES
from scapp.runtime.kernel import Budget
from scapp.runtime.rows import TableCodec
from scapp.runtime.wasm_sections import MEMORY, START, TABLE, SectionError

MODULE_BYTES_MAX = 8_388_608
MANIFEST_FUEL = 50_000_000
MEMORY_BYTES_CEILING = 1 << 30  # of any deployment's memory limit: a host must be able to hold many channels

U32_MAX = 2**32 - 1
_LIMIT_RANGES = {
    "memory_bytes_max": (PAGE_BYTES, MEMORY_BYTES_CEILING),
    "fuel_per_message": (1, 10**12),  # times the widest budget it must fit the engine's 64 bits
    "row_bytes_total_max": (0, 2**48),
}
_EXPORTS = {"scapp_manifest": "() -> i64", "scapp_alloc": "(i32) -> i32", "scapp_reduce": "(i32, i32) -> i32"}
_TOLERATED = "globals named __* and the table __indirect_function_table"


class ModuleRefused(LocalError, ValueError):
    """The module may not be deployed; the text names the offender and what is allowed."""


class ManifestRefused(ModuleRefused):
    """It may not be deployed for what its manifest says."""


class CheckedModule:
    """A module that passed every check, compiled, with its manifest. Immutable and shared between channels."""

    def __init__(self, wasm: bytes, limits: Limits, manifest: Manifest, compiled: CompiledModule) -> None:
        self.wasm = wasm
        self.limits = limits
        self.manifest = manifest
        self.tables = tuple(TableCodec(table) for table in manifest.tables)
        self.deployment = Deployment(keccak256(wasm), ABI, limits)
        self._compiled = compiled

    def module(self, budget: Budget) -> Module:
        """Compiled code for the engine of a budget."""
        return self._compiled.module(budget)

    def portable(self) -> Module:
        """The module for the engine's interpreter; compiled at each call."""
        return self._compiled.portable()


def check_module(
    wasm: bytes, limits: Limits | None = None, *, cache_folder: Path | None = None, quick: bool = False
) -> CheckedModule:
    """Check, compile and describe a module; raises ModuleRefused, or PermissionError for an unsafe cache folder.
    `quick` compiles in less time to slower code."""
    limits = limits or Limits()
    _check_limits(limits)
    if len(wasm) > MODULE_BYTES_MAX:
        raise ModuleRefused(f"module of {len(wasm)} bytes; at most {MODULE_BYTES_MAX} are allowed")
    try:
        bounded = _check_sections(wasm, limits)
    except SectionError as error:
        raise ModuleRefused(str(error)) from None
    _check_features(wasm)
    try:
        compiled = CompiledModule(bounded, CodeCache(cache_folder), quick=quick)
    except WasmtimeError as error:
        raise ModuleRefused(f"module does not compile: {_first_line(error)}") from None
    module = compiled.module(Budget.ORDER)
    _check_imports(module)
    _check_exports(module)
    return CheckedModule(wasm, limits, _read_manifest(module, limits), compiled)


def _check_limits(limits: Limits) -> None:
    """Signed limits come from strangers: what the engine and PostgreSQL can take bounds them."""
    for name, value in msgspec.structs.asdict(limits).items():
        least, most = _LIMIT_RANGES.get(name, (0, U32_MAX))
        if not least <= value <= most:
            raise ModuleRefused(f"limit {name} {value}; allowed are {least} to {most}")


def _check_sections(wasm: bytes, limits: Limits) -> bytes:
    """The module with bounded maxima. Counts and sizes are readable here without trusting the module."""
    pages = limits.memory_bytes_max // PAGE_BYTES
    for section in wasm_sections.sections(wasm):
        if section.id == START:
            raise ModuleRefused("a start function; none is allowed, since nothing may run before scapp_reduce")
        if section.id not in (TABLE, MEMORY) or not (count := wasm_sections.count_of(wasm, section)):
            continue
        memory = section.id == MEMORY
        what, limit, unit = ("memory", pages, "pages") if memory else ("table", TABLE_ELEMENTS_MAX, "entries")
        if count > 1:
            raise ModuleRefused(f"{count} {'memories' if memory else 'tables'}; at most one is allowed")
        minimum = wasm_sections.bounds_of(wasm, section).minimum
        if minimum > limit:
            raise ModuleRefused(f"a {what} minimum of {minimum} {unit}; the limit of this deployment is {limit} {unit}")
    return wasm_sections.with_maxima(wasm, {MEMORY: pages, TABLE: TABLE_ELEMENTS_MAX})


def _check_features(wasm: bytes) -> None:
    try:
        Module.validate(strict_engine(), wasm)
    except WasmtimeError as error:
        raise ModuleRefused(
            f"invalid, or a feature that is not allowed: {_first_line(error)}; allowed are {ALLOWED_FEATURES}"
        ) from None


def _check_imports(module: Module) -> None:
    for item in module.imports:
        name = f"{item.module}.{item.name}"
        if item.module != ABI_MODULE or item.name not in SIGNATURES:
            allowed = ", ".join(sorted(SIGNATURES))
            raise ModuleRefused(f"import {name}; allowed are, from {ABI_MODULE}: {allowed}")
        parameters, result = SIGNATURES[item.name]
        wanted = _signature(["i32"] * parameters, ["i32"] * result)
        found = _described(item.type)
        if found != f"function {wanted}":
            raise ModuleRefused(f"import {name} is a {found}; it must be a function {wanted}")


def _check_exports(module: Module) -> None:
    exports = {item.name: item.type for item in module.exports}
    for name, type_ in exports.items():
        if name == "memory" or name in _EXPORTS:
            continue
        linker_global = isinstance(type_, GlobalType) and name.startswith("__")
        linker_table = isinstance(type_, TableType) and name == "__indirect_function_table"
        if not (linker_global or linker_table):
            wanted = ", ".join(["memory", *_EXPORTS])
            raise ModuleRefused(f"export {name[:100]!r}, a {_described(type_)}; allowed are {wanted}, {_TOLERATED}")
    if not isinstance(exports.get("memory"), MemoryType):
        raise ModuleRefused("no exported memory named 'memory'; it is required")
    for name, wanted in _EXPORTS.items():
        found = _described(exports[name]) if name in exports else "missing"
        if found != f"function {wanted}":
            raise ModuleRefused(f"export {name} is {found}; it must be a function {wanted}")


def _read_manifest(module: Module, limits: Limits) -> Manifest:
    imports = Imports(run_engine(Budget.ORDER), SIGNATURES, dict.fromkeys(SIGNATURES, _no_import))
    try:
        return parse_manifest(_manifest_document(imports, module, limits))
    except ManifestError as error:
        raise ManifestRefused(str(error)) from None
    except (GuestTrap, ImportTrap) as error:
        raise ModuleRefused(f"scapp_manifest failed: {fault_text(error)}") from None
    except EngineError as error:
        raise ModuleRefused(f"the module cannot be instantiated: {error}") from None
    finally:
        imports.close()


def _manifest_document(imports: Imports, module: Module, limits: Limits) -> bytes:
    guest = Guest(imports, module, limits.memory_bytes_max)
    try:
        guest.store.set_fuel(MANIFEST_FUEL)
        answer = guest.call("scapp_manifest")
        pointer, length = answer >> 32, answer & 0xFFFF_FFFF
        memory = guest.refresh()
        if length > DOCUMENT_BYTES_MAX:
            raise ModuleRefused(f"manifest of {length} bytes; at most {DOCUMENT_BYTES_MAX} are allowed")
        if pointer + length > len(memory):
            raise ModuleRefused(
                f"scapp_manifest returned pointer {pointer} with length {length}, outside the memory of "
                f"{len(memory)} bytes"
            )
        return bytes(memory[pointer : pointer + length])
    finally:
        guest.close()


def _no_import(*_arguments: int) -> int:
    raise ImportTrap("an import was called outside scapp_reduce")


def _described(type_: object) -> str:
    if isinstance(type_, FuncType):
        return f"function {_signature([str(p) for p in type_.params], [str(r) for r in type_.results])}"
    return {GlobalType: "global", MemoryType: "memory", TableType: "table"}.get(type(type_), "tag")


def _signature(parameters: list[str], results: list[str]) -> str:
    text = f"({', '.join(parameters)})"
    return f"{text} -> {', '.join(results)}" if results else text


def _first_line(error: WasmtimeError) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and line.strip() != "Caused by:"]
    return ": ".join(lines)[:500]
