"""Running one message in a guest: the buffer it gets, the budgets, and what its failures mean; `reference.py` loops.

Neighbours: `engine_calls.py` crosses into the engine, `host.py` serves what the guest imports.
"""

from __future__ import annotations

import struct

from wasmtime import TrapCode

from scapp.channels.admission import ChannelContext
from scapp.channels.entries import Entry, Kind, decode_entry
from scapp.runtime.engine_calls import EngineError, Guest, GuestTrap, Imports, ImportTrap, OutOfFuel, fault_text
from scapp.runtime.engine_config import run_engine
from scapp.runtime.host import SIGNATURES, Host
from scapp.runtime.kernel import Budget, KernelFault
from scapp.runtime.module import CheckedModule

MESSAGE_HEADER = struct.Struct("<BBHIQQ20s32sI")  # 80 bytes
REASON_CHARACTERS_MAX = 2_000
_UNDECIDABLE = {TrapCode.STACK_OVERFLOW, TrapCode.INTERRUPT}


def check_entry(context: ChannelContext, sequence: int, entry_bytes: bytes) -> Entry:
    """The entry; raises ValueError for what is no entry of this channel at this place."""
    entry = decode_entry(entry_bytes)
    participants = context.participants
    if entry.author >= len(participants):
        raise ValueError(f"author {entry.author}; the channel has {len(participants)} participants, from 0")
    if (entry.kind is Kind.OPEN) != (sequence == 0):
        raise ValueError(f"{entry.kind.name} at sequence {sequence}; OPEN is entry 0 and nothing else")
    return entry


class Runner:
    """Makes guests of one module for one channel and runs messages in them. `close` frees what the engine holds."""

    def __init__(self, module: CheckedModule, context: ChannelContext, host: Host) -> None:
        self._module = module
        self._context = context
        self._host = host
        self._limits = module.limits
        self._imports: dict[Budget, Imports] = {}

    def guest(self, budget: Budget) -> Guest:
        """A fresh instance under a budget's stack limit; raises KernelFault."""
        imports = self._imports.get(budget)
        if imports is None:
            imports = self._imports[budget] = Imports(run_engine(budget), SIGNATURES, self._host.functions())
        try:
            return Guest(imports, self._module.module(budget), self._limits.memory_bytes_max)
        except (EngineError, GuestTrap) as error:
            raise KernelFault(f"no instance of the module: {error}") from error

    def message_bytes(self, sequence: int, entry_bytes: bytes) -> tuple[Kind, bytes]:
        """Kind and guest buffer of an entry; raises ValueError for what is no entry of this channel."""
        entry = check_entry(self._context, sequence, entry_bytes)
        header = MESSAGE_HEADER.pack(
            entry.kind,
            entry.author,
            0,
            len(entry.payload),
            sequence,
            entry.time_ms,
            self._context.participants[entry.author],
            self._context.channel_id,
            0,
        )
        return entry.kind, header + entry.payload

    def reduce(self, guest: Guest, kind: Kind, message: bytes, budget: Budget) -> int:
        """Status of `scapp_reduce`; raises GuestTrap, ImportTrap, EngineError. `host.end` is for the caller."""
        fuel = self._limits.fuel_per_message * budget
        guest.store.set_fuel(fuel)
        pointer = guest.call("scapp_alloc", len(message)) & 0xFFFF_FFFF
        memory = guest.refresh()
        if pointer + len(message) > len(memory):
            raise ImportTrap(
                f"scapp_alloc returned pointer {pointer} for {len(message)} bytes, outside the memory of {len(memory)}"
            )
        memory[pointer : pointer + len(message)] = message
        self._host.begin(guest, kind, fuel)
        status = guest.call("scapp_reduce", pointer, len(message)) & 0xFFFF_FFFF
        return status - (status >> 31 << 32)  # i32

    def close(self) -> None:
        """Free linkers and the cycles they are in; running again makes new ones."""
        for imports in self._imports.values():
            imports.close()
        self._imports = {}


def failure_code(failure: BaseException, budget: Budget) -> str:
    """`fault` or `undecidable`, for a Refusal."""
    if isinstance(failure, MemoryError) or (isinstance(failure, GuestTrap) and failure.code in _UNDECIDABLE):
        return "undecidable"
    out_of_fuel = isinstance(failure, OutOfFuel) or (
        isinstance(failure, GuestTrap) and failure.code is TrapCode.OUT_OF_FUEL
    )
    return "undecidable" if out_of_fuel and budget is not Budget.ORDER else "fault"


def failure_reason(failure: BaseException) -> str:
    """Text for a Refusal: the trap and the guest frame."""
    text = fault_text(failure) if isinstance(failure, GuestTrap | ImportTrap) else str(failure)
    # Function names are the guest's own words, and PostgreSQL cannot store a NUL.
    return (text or type(failure).__name__)[:REASON_CHARACTERS_MAX].replace("\0", "�")
