"""A small reader of a module's sections, and the rewriting of its memory and table maxima; used by `module.py`.

Limits are per Store in wasmtime, and a maximum inside the module makes `memory.grow` fail at the same page in every
engine. The reader never trusts a length.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

MAGIC = b"\0asm\1\0\0\0"
TABLE, MEMORY, START = 4, 5, 8
_NAMES = {TABLE: "table", MEMORY: "memory"}


class SectionError(ValueError):
    """The bytes are not a readable module."""


class Section(msgspec.Struct, frozen=True):
    """One section: its id, and where header and body lie."""

    id: int
    start: int  # of the header
    body: int
    end: int


class Bounds(msgspec.Struct, frozen=True):
    """Declared size of a memory (pages) or table (elements) and where it is written."""

    minimum: int
    maximum: int | None
    start: int  # of the flags byte
    end: int


def sections(wasm: bytes) -> Iterator[Section]:
    """Every section in order. Raises SectionError."""
    if wasm[:4] != MAGIC[:4]:
        raise SectionError(f"not a WebAssembly module: it starts with {wasm[:8].hex() or 'nothing'}, not {MAGIC.hex()}")
    if wasm[4:8] != MAGIC[4:]:
        raise SectionError(
            f"WebAssembly version or layer {wasm[4:8].hex()}; allowed is a core module, {MAGIC[4:].hex()}"
        )
    position = 8
    while position < len(wasm):
        size, body = read_u32(wasm, position + 1)
        if body + size > len(wasm):
            raise SectionError(f"section {wasm[position]} of {size} bytes runs past the module's {len(wasm)} bytes")
        yield Section(wasm[position], position, body, body + size)
        position = body + size


def read_u32(wasm: bytes, position: int) -> tuple[int, int]:
    """An unsigned LEB128 number and the position after it. Raises SectionError."""
    value = 0
    for index in range(5):
        if position + index >= len(wasm):
            raise SectionError(f"the module ends inside a number at byte {position}")
        byte = wasm[position + index]
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            if value >> 32:
                break
            return value, position + index + 1
    raise SectionError(f"a number at byte {position} exceeds 32 bits")


def write_u32(value: int) -> bytes:
    """Shortest unsigned LEB128."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def count_of(wasm: bytes, section: Section) -> int:
    """Number of entries of a vector section."""
    return read_u32(wasm, section.body)[0]


def bounds_of(wasm: bytes, section: Section) -> Bounds:
    """Bounds of the one memory or table that the section declares. Raises SectionError."""
    count, position = read_u32(wasm, section.body)
    if count != 1:
        raise SectionError(f"{count} entries in the {_NAMES[section.id]} section; allowed is one")
    if section.id == TABLE:
        if wasm[position : position + 1] != b"\x70":
            raise SectionError(f"table of type {wasm[position : position + 1].hex()}; allowed is funcref (70)")
        position += 1
    flags = wasm[position : position + 1]
    if flags not in (b"\0", b"\1"):
        raise SectionError(
            f"{_NAMES[section.id]} with flags {flags.hex() or 'missing'}; allowed are 00 and 01 (unshared, 32-bit, "
            "standard page size)"
        )
    minimum, end = read_u32(wasm, position + 1)
    maximum = None
    if flags == b"\1":
        maximum, end = read_u32(wasm, end)
    if end != section.end:
        raise SectionError(f"{_NAMES[section.id]} section has {section.end - end} bytes too many")
    return Bounds(minimum, maximum, position, end)


def with_maxima(wasm: bytes, maxima: dict[int, int]) -> bytes:
    """The module with the maximum of its memory and table lowered to at most `maxima[section id]`."""
    parts = [wasm[:8]]
    for section in sections(wasm):
        if section.id not in maxima or not count_of(wasm, section):
            parts.append(wasm[section.start : section.end])
            continue
        bounds = bounds_of(wasm, section)
        maximum = maxima[section.id] if bounds.maximum is None else min(bounds.maximum, maxima[section.id])
        body = wasm[section.body : bounds.start] + b"\1" + write_u32(bounds.minimum) + write_u32(maximum)
        parts.append(bytes([section.id]) + write_u32(len(body)) + body)
    return b"".join(parts)
