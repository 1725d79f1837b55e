"""Crossing into wasmtime: one instance of a module, its memory, its calls, and Python functions it may import.

Goes through the package's ctypes layer (`wasmtime._ffi`) instead of its public classes, for two reasons. A public call
or import costs 15-25 µs, 30 times as much. And the public layer keeps an import's exception in one global variable,
so that a trap in one thread can come out of another thread's call. The version is pinned exactly for this module.
Configuration stands in `engine_config.py`; what the imports mean in `host.py`.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Mapping, Set
from typing import Any

from wasmtime import Engine, FuncType, Linker, Module, Store, Trap, TrapCode, ValType, WasmtimeError
from wasmtime import _ffi as ffi

from scapp.runtime.engine_config import TABLE_ELEMENTS_MAX

ABI_MODULE = "scapp_1"
Import = Callable[..., int | None]

INSTANTIATION_FUEL = 50_000_000

_VALUE_BYTES = 16  # sizeof(wasmtime_val_raw_t)
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_library: Any = ffi.dll
# The package's own prototype wants another callback type, and `ctypes.cast` leaves reference cycles behind.
_define_function = ctypes.CFUNCTYPE(
    ctypes.POINTER(ffi.wasmtime_error_t),
    ctypes.c_void_p,
    ctypes.c_char_p,
    ctypes.c_size_t,
    ctypes.c_char_p,
    ctypes.c_size_t,
    ctypes.c_void_p,
    _CALLBACK,
    ctypes.c_void_p,
    ctypes.c_void_p,
)(("wasmtime_linker_define_func_unchecked", _library))


class GuestTrap(Exception):
    """Guest code ended in a trap. `code` is None when an import asked for it; the text names trap and frame."""

    def __init__(self, code: TrapCode | None, text: str, frame: str = "") -> None:
        super().__init__(text)
        self.code = code
        self.frame = frame
        self.fuel = 0  # what was left, where it is known


class ImportTrap(Exception):
    """Raised by an import to end the message with a trap; its text becomes the reason."""


class OutOfFuel(ImportTrap):
    """The work of imports exceeded its allowance."""


class EngineError(Exception):
    """wasmtime itself failed (no memory for an instance, say); this says nothing about the guest."""


class Imports:
    """A linker with i32 functions of module `scapp_1`, for any number of instances in `engine`, one at a time.

    `signatures` gives (number of i32 parameters, whether there is an i32 result) by name."""

    def __init__(
        self, engine: Engine, signatures: Mapping[str, tuple[int, bool]], functions: Mapping[str, Import]
    ) -> None:
        self.engine = engine
        self.linker = Linker(engine)
        self.failure: BaseException | None = None
        self.guest: Guest | None = None
        self._callbacks: list[Any] = []  # the engine holds bare pointers to these
        for name, (parameters, result) in signatures.items():
            self._define(name, parameters, result, functions[name])

    def _define(self, name: str, parameters: int, result: bool, function: Import) -> None:
        callback = _CALLBACK(self._callback(parameters, result, function))
        self._callbacks.append(callback)
        # A FuncType belongs to the first engine that uses it, so it is made afresh here.
        type_ = FuncType([ValType.i32()] * parameters, [ValType.i32()] * result)
        module, field = ABI_MODULE.encode(), name.encode()
        linker = self.linker.ptr()
        error = _define_function(linker, module, len(module), field, len(field), type_.ptr(), callback, None, None)
        if error:
            raise EngineError(str(WasmtimeError._from_ptr(error)))

    def _callback(self, parameters: int, result: bool, function: Import) -> Callable[..., int]:
        unpack = struct.Struct("<" + "I12x" * parameters).unpack
        size = parameters * _VALUE_BYTES
        read = ctypes.string_at
        result_at = ctypes.c_int32.from_address

        def callback(_env: Any, _caller: Any, values: int, _count: int) -> int:
            # Nothing may escape: ctypes would print it and the guest would go on with a made-up result.
            try:
                answer = function(*unpack(read(values, size)))
                if answer is not None and result:
                    result_at(values).value = answer
                return 0
            except BaseException as failure:
                self.failure = failure
                # A trap with a code carries guest frames; one with a text would come out as a bare error.
                trap = ffi.wasmtime_trap_new_code(TrapCode.UNREACHABLE.value)
                return ctypes.addressof(trap.contents)

        return callback

    def close(self) -> None:
        """Free the linker and break the cycle with whoever serves the functions."""
        self.linker.close()
        self._callbacks.clear()


class Guest:
    """One instance in a Store of its own. Not thread-safe. `memory_bytes_max` bounds what `memory.grow` gives."""

    def __init__(self, imports: Imports, module: Module, memory_bytes_max: int) -> None:
        self._imports = imports
        self.store = Store(imports.engine)
        self.store.set_limits(memory_bytes_max, TABLE_ELEMENTS_MAX, 1, 1, 1)
        self.store.set_fuel(INSTANTIATION_FUEL)  # copying data segments costs fuel too
        self._context = self.store._context()
        self._instance = ffi.wasmtime_instance_t()
        self._trap = ctypes.POINTER(ffi.wasm_trap_t)()
        error = ffi.wasmtime_linker_instantiate(
            imports.linker.ptr(),
            self._context,
            module.ptr(),
            ctypes.byref(self._instance),
            ctypes.byref(self._trap),
        )
        self._raise(error)
        self._functions: dict[str, Any] = {}
        self._memory = self._export("memory").memory
        self._values = (ffi.wasmtime_val_raw_t * 2)()
        self._words = (ctypes.c_uint64 * 4).from_buffer(self._values)
        self._size = -1
        self.view: memoryview = memoryview(b"")

    def _export(self, name: str) -> Any:
        item = ffi.wasmtime_extern_t()
        if not ffi.wasmtime_instance_export_get(
            self._context, ctypes.byref(self._instance), name.encode(), len(name.encode()), ctypes.byref(item)
        ):
            raise EngineError(f"the instance has no export {name}")
        return item.of

    def call(self, name: str, *arguments: int) -> int:
        """Call an export with up to two i32 arguments; its result as the unsigned 64 bits the engine left.

        Raises GuestTrap, EngineError, or what an import raised (ImportTrap among it, with the frame in its notes).
        """
        function = self._functions.get(name)
        if function is None:
            function = self._functions[name] = self._export(name).func
        words = self._words
        for position, argument in enumerate(arguments):
            words[2 * position] = argument
        error = ffi.wasmtime_func_call_unchecked(
            self._context, ctypes.byref(function), self._values, 2, ctypes.byref(self._trap)
        )
        if error or self._trap:
            self._raise(error)
        return words[0]

    def _raise(self, error: Any) -> None:
        failure, self._imports.failure = self._imports.failure, None
        if self._trap:
            trap = Trap._from_ptr(self._trap)
            self._trap = ctypes.POINTER(ffi.wasm_trap_t)()
            if failure is not None:
                if isinstance(failure, ImportTrap):
                    failure.add_note(frame_text(trap))
                raise failure
            raise guest_trap(trap)
        if failure is not None:
            raise failure
        if error:
            raise EngineError(str(WasmtimeError._from_ptr(error)))

    def refresh(self) -> memoryview:
        """The memory as it is now; the base may move when the guest grows it, so refresh once per crossing."""
        size = ffi.wasmtime_memory_data_size(self._context, ctypes.byref(self._memory))
        if size != self._size:
            base = ffi.wasmtime_memory_data(self._context, ctypes.byref(self._memory))
            address = ctypes.addressof(base.contents) if size else 0
            self._size = size
            self.view = memoryview((ctypes.c_ubyte * size).from_address(address)).cast("B") if size else memoryview(b"")
        return self.view

    def close(self) -> None:
        """Free the Store; the view must not be used any more."""
        self.view = memoryview(b"")
        self.store.close()


def fault_text(error: GuestTrap | ImportTrap) -> str:
    """What ended the guest and where: the trap, and the guest frame it struck in."""
    return " in ".join([str(error), *getattr(error, "__notes__", [])])


def guest_trap(trap: Trap, not_guest: Set[str] = frozenset()) -> GuestTrap:
    """The error for a trap, naming the innermost frame that is of none of the modules `not_guest`."""
    code = trap.trap_code
    name = "trap" if code is None else code.name.lower().replace("_", " ")
    frame = frame_text(trap, not_guest)
    return GuestTrap(code, f"{name} in {frame}", frame)


def frame_text(trap: Trap, not_guest: Set[str] = frozenset()) -> str:
    """The innermost guest frame, e.g. `function transfer (module offset 0x1a2)`."""
    frame = next((frame for frame in trap.frames if frame.module_name not in not_guest), None)
    if frame is None:
        return "no guest frame"
    name = (frame.func_name or f"#{frame.func_index}")[:100]  # the guest chose it
    offset = frame.module_offset
    known = offset not in (0xFFFF_FFFF, 0xFFFF_FFFF_FFFF_FFFF)
    return f"function {name} (module offset {offset:#x})" if known else f"function {name}"
