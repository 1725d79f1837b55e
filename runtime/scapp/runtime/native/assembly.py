"""One Store with a kernel in it and, one after another, the reducer instances that run against it.

Instances cannot be taken out of a Store, so after a number of them the kernel's memory moves into a new Store: its
globals are all in there, but for the stack pointer, which stands at its start between calls.
"""

from __future__ import annotations

import ctypes
import functools
import threading
from collections.abc import Sequence
from typing import Any

from wasmtime import Module, Store, Trap, WasmtimeError
from wasmtime import _ffi as ffi

from scapp.runtime.engine_calls import EngineError, GuestTrap, guest_trap
from scapp.runtime.engine_config import PAGE_BYTES, STACK_BYTES, TABLE_ELEMENTS_MAX, run_engine
from scapp.runtime.kernel import Budget
from scapp.runtime.native import modules
from scapp.runtime.native.modules import KernelModules

FUEL_UNLIMITED = 1 << 62
KERNEL_BYTES_MAX = (1 << 32) - PAGE_BYTES
# In one Store, each with 4 GiB of addresses; between the two as many as take twice the kernel's own memory together.
REDUCERS_MIN, REDUCERS_MAX = 8, 256
REDUCERS_IN_PROCESS_MAX = 6_000  # beyond, a Store keeps one
STORE_BYTES = 100_000  # measured: a Store with its instances, besides their memories
_VALUES = 4
_VALUE_WORDS = ctypes.sizeof(ffi.wasmtime_val_raw_t) // 8


class Instance:
    """An instance in a Store; its exports by name."""

    def __init__(self, context: Any, module: Any, imports: Any) -> None:
        self._context = context
        self._instance = ffi.wasmtime_instance_t()
        trap = ctypes.POINTER(ffi.wasm_trap_t)()
        error = ffi.wasmtime_instance_new(
            context, module, imports, len(imports), ctypes.byref(self._instance), ctypes.byref(trap)
        )
        if trap:
            raise GuestTrap(None, str(Trap._from_ptr(trap)))
        if error:
            raise EngineError(str(WasmtimeError._from_ptr(error)))

    def export(self, name: str) -> Any:
        """A `wasmtime_extern_t`; raises EngineError."""
        item = ffi.wasmtime_extern_t()
        encoded = name.encode()
        if not ffi.wasmtime_instance_export_get(
            self._context, ctypes.byref(self._instance), encoded, len(encoded), ctypes.byref(item)
        ):
            raise EngineError(f"the instance has no export {name}")
        return item


def _externs(items: Sequence[Any]) -> Any:
    return (ffi.wasmtime_extern_t * len(items))(*items)


class _Process:
    """All reducers of the process: each takes a few of the mappings that the system gives to one."""

    reducers = 0
    _lock = threading.Lock()

    @classmethod
    def add(cls, count: int) -> None:
        with cls._lock:
            cls.reducers += count


def _names(module: Module) -> list[str]:
    """Of its imports."""
    return [item.name or "" for item in module.imports]


class Assembly:
    """Kernel, shim and stack in a Store, and the reducer that is plugged in. Not thread-safe."""

    def __init__(self, code: KernelModules, reducer: Module) -> None:
        self._code = code
        self._reducer = reducer
        self._reducer_imports = _names(reducer)
        owners = [item.module for item in code.bridge.imports]
        self._bridge_imports = list(zip(owners, _names(code.bridge), strict=True))
        self._from_reducer = [
            (place, name) for place, (owner, name) in enumerate(self._bridge_imports) if owner == "guest"
        ]
        self._kernel_imports = _names(code.kernel)
        self.plugged = False
        self._build()

    def _build(self) -> None:
        self._store = Store(self._code.engine)
        # Reducers carry their own maximum (wasm_sections); this one is the kernel's. Two instances to a reducer.
        self._store.set_limits(KERNEL_BYTES_MAX, TABLE_ELEMENTS_MAX, -1, -1, -1)
        self._context = self._store._context()
        self._values = (ffi.wasmtime_val_raw_t * _VALUES)()
        self._words = (ctypes.c_uint64 * (_VALUES * _VALUE_WORDS)).from_buffer(self._values)
        self._trap = ctypes.POINTER(ffi.wasm_trap_t)()
        self._functions: dict[str, Any] = {}
        self._reducers = self._used_bytes = 0  # the latter: memory of all but the last, each as large as it has become
        self.plugged = False
        self._view = memoryview(b"")
        self.set_fuel(FUEL_UNLIMITED)
        shim = Instance(self._context, self._code.shim.ptr(), _externs([]))
        imports = [shim.export(name) for name in self._kernel_imports]
        self._kernel = kernel = Instance(self._context, self._code.kernel.ptr(), _externs(imports))
        self._memory = kernel.export("memory").of.memory
        names = _names(self._code.stack)
        self._stack = Instance(self._context, self._code.stack.ptr(), _externs([kernel.export(name) for name in names]))
        self._to_reducer = _externs([shim.export(name) for name in self._reducer_imports])
        owners = {"kernel": kernel, "shim": shim}
        missing = ffi.wasmtime_extern_t()
        self._to_bridge = _externs(
            [owners[owner].export(name) if owner in owners else missing for owner, name in self._bridge_imports]
        )
        self._stack_top = self.call("scapp_stack")

    def plug(self) -> None:
        """A fresh reducer instance takes the place of the one before. Raises EngineError, GuestTrap."""
        if self._is_full():
            self._move()
        try:
            self._plug()
        except EngineError:  # most likely the process has no room for one more; those of earlier reducers can be had
            if not self._reducers:
                raise
            self._move(close_first=True)
            self._plug()

    def _plug(self) -> None:
        self.plugged = False
        self.set_fuel(FUEL_UNLIMITED)
        guest = Instance(self._context, self._reducer.ptr(), self._to_reducer)
        for position, name in self._from_reducer:
            self._to_bridge[position] = guest.export(name)
        Instance(self._context, self._code.bridge.ptr(), self._to_bridge)
        self._used_bytes = self._guest_bytes()
        self._reducers += 1
        _Process.add(1)
        self.guest = guest
        self.plugged = True

    def _is_full(self) -> bool:
        """Does the Store hold all the reducers that it may? Their memory counts as it is: each message may make its own
        as large as the limits allow, and none of it is given back before the Store is."""
        if _Process.reducers > REDUCERS_IN_PROCESS_MAX:
            return self._reducers > 0
        if not REDUCERS_MIN <= self._reducers < REDUCERS_MAX:
            return self._reducers >= REDUCERS_MAX
        return self._guest_bytes() >= 2 * len(self.view())

    def _guest_bytes(self) -> int:
        """Memory of all reducers in the Store."""
        return self._used_bytes + len(self.guest_view()) if self._reducers else 0

    def _move(self, *, close_first: bool = False) -> None:
        """Into a new Store, without the reducers that were. With `close_first` the two are never there at once."""
        old_store, data = self._store, self.view()
        if close_first:
            data = memoryview(bytes(data))
            old_store.close()
        _Process.add(-self._reducers)
        self._build()
        missing = len(data) // PAGE_BYTES - len(self.view()) // PAGE_BYTES
        if missing > 0:
            previous = ctypes.c_uint64()
            error = ffi.wasmtime_memory_grow(self._context, ctypes.byref(self._memory), missing, ctypes.byref(previous))
            if error:
                raise EngineError(str(WasmtimeError._from_ptr(error)))
        self.view()[:] = data
        if not close_first:
            old_store.close()  # its memory is gone, and views of it with it

    def set_fuel(self, units: int) -> None:
        """What the next calls may burn together."""
        error = ffi.wasmtime_context_set_fuel(self._context, units)
        if error:
            raise EngineError(str(WasmtimeError._from_ptr(error)))

    def call(self, name: str, *arguments: int) -> int:
        """Call the kernel; the result as the engine's 64 bits. Raises GuestTrap, EngineError."""
        function = self._functions.get(name)
        if function is None:
            function = self._functions[name] = self._kernel.export(name).of.func
        return self._call(function, arguments)

    def enter(self, name: str, budget: Budget, *arguments: int) -> int:
        """Like `call`, for `scapp_run` and `scapp_step`, with the native stack that the budget allows."""
        function = self._functions.get("stack " + name)
        if function is None:
            function = self._functions["stack " + name] = self._stack.export(name).of.func
        return self._call(function, (frames_of(budget), *arguments))

    def _call(self, function: Any, arguments: tuple[int, ...]) -> int:
        words = self._words
        for position, argument in enumerate(arguments):
            words[position * _VALUE_WORDS] = argument
        error = ffi.wasmtime_func_call_unchecked(
            self._context, ctypes.byref(function), self._values, _VALUES, ctypes.byref(self._trap)
        )
        if error or self._trap:
            self._raise(error)
        result: int = words[0]
        return result

    def _raise(self, error: Any) -> None:
        if not self._trap:
            raise EngineError(str(WasmtimeError._from_ptr(error)))
        trap = Trap._from_ptr(self._trap)
        self._trap = ctypes.POINTER(ffi.wasm_trap_t)()
        fuel = ctypes.c_uint64()
        ffi.wasmtime_context_get_fuel(self._context, ctypes.byref(fuel))
        self.set_fuel(FUEL_UNLIMITED)
        self.call("scapp_set_stack", self._stack_top)  # unwinding skips what would have put it back
        failure = guest_trap(trap, modules.OUR_NAMES)
        failure.fuel = fuel.value
        raise failure

    def view(self) -> memoryview:
        """The kernel's memory as it is now; a call may make it grow."""
        size = ffi.wasmtime_memory_data_size(self._context, ctypes.byref(self._memory))
        if size != len(self._view):
            self._view = self._view_of(self._memory)
        return self._view

    def guest_view(self) -> memoryview:
        """The plugged reducer's memory."""
        return self._view_of(self.guest.export("memory").of.memory)

    def memory_bytes(self) -> int:
        """Of the kernel and of the reducers in its Store, as if each had touched all its memory."""
        return len(self.view()) + self._guest_bytes() + STORE_BYTES

    def _view_of(self, memory: Any) -> memoryview:
        size = ffi.wasmtime_memory_data_size(self._context, ctypes.byref(memory))
        if not size:
            return memoryview(b"")
        base = ffi.wasmtime_memory_data(self._context, ctypes.byref(memory))
        return memoryview((ctypes.c_ubyte * size).from_address(ctypes.addressof(base.contents))).cast("B")

    def close(self) -> None:
        """Free everything."""
        _Process.add(-self._reducers)
        self._reducers = 0
        self._store.close()


@functools.cache
def frames_of(budget: Budget) -> int:
    """How many frames of the stack module leave a budget its part of the engine's stack."""
    available = STACK_BYTES[modules.BUDGET]
    return _frames_that_fit() * (available - STACK_BYTES[budget]) // available


def _frames_that_fit() -> int:
    """Found by trying: how large a frame is depends on compiler and machine."""
    engine = run_engine(modules.BUDGET)
    store = Store(engine)
    context = store._context()
    module = Module(engine, modules.probe_text())
    function = Instance(context, module.ptr(), _externs([])).export("probe").of.func
    values = (ffi.wasmtime_val_raw_t * 1)()
    word = ctypes.c_uint64.from_buffer(values)

    def fits(frames: int) -> bool:
        ffi.wasmtime_context_set_fuel(context, FUEL_UNLIMITED)
        word.value = frames
        trap = ctypes.POINTER(ffi.wasm_trap_t)()
        ffi.wasmtime_func_call_unchecked(context, ctypes.byref(function), values, 1, ctypes.byref(trap))
        if trap:
            Trap._from_ptr(trap)  # frees it
        return not trap

    low, high = 0, 1 << 16
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    store.close()
    return low
