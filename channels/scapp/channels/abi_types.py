"""ABI encoding and decoding by type, for what is not hashed a thousand times a second: calldata, answers, events.

`abi.py` has the layouts that must be fast. A type is written as in Solidity's signatures: `uint8` to `uint256`, `bool`,
`address`, `bytes32`, `bytes`, `string` (as bytes), `T[]` and `(T,…)`; values are int, bool, bytes and tuples.
Decoding takes what comes from strangers: it checks every bound and field, and reads no more words than there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from scapp.channels import abi
from scapp.channels.abi import WORD, InvalidValue
from scapp.channels.crypto import keccak256


@dataclass(frozen=True)
class AbiType:
    """A type by its `kind`: the name of an elementary one, "[]" for a list of `items[0]`, "()" for a tuple."""

    kind: str
    items: tuple[AbiType, ...] = ()
    bits: int = 0  # of an unsigned integer

    @property
    def dynamic(self) -> bool:
        return self.kind in ("bytes", "string", "[]") or any(item.dynamic for item in self.items)

    @property
    def head_bytes(self) -> int:
        """What it takes in the head of the tuple around it."""
        return WORD if self.dynamic or self.kind != "()" else sum(item.head_bytes for item in self.items)


@lru_cache(maxsize=256)
def parse(text: str) -> AbiType:
    """A type from its text. Raises ValueError: types are written in code, not by strangers."""
    if text.endswith("[]"):
        return AbiType("[]", (parse(text[:-2]),))
    if text.startswith("(") and text.endswith(")"):
        return AbiType("()", tuple(parse(part) for part in _split(text[1:-1])))
    if text.startswith("uint") and text[4:].isdigit():
        return AbiType("uint", bits=int(text[4:]))
    if text in ("bool", "address", "bytes32", "bytes", "string"):
        return AbiType(text)
    raise ValueError(f"{text!r} is no ABI type known here")


def _split(text: str) -> list[str]:
    """The parts between commas that stand in no inner parentheses."""
    parts, depth, start = [], 0, 0
    for at, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            parts.append(text[start:at])
            start = at + 1
    return [*parts, text[start:]] if text else []


def selector(name: str, types: str) -> bytes:
    """The first four bytes of calldata of a function with these argument types, written `(T,…)`."""
    return keccak256(f"{name}{types}".encode())[:4]


def topic(name: str, types: str) -> bytes:
    """The first topic of an event."""
    return keccak256(f"{name}{types}".encode())


def encode(types: str, values: Sequence[Any]) -> bytes:
    """`abi.encode` of arguments of types `(T,…)`. Raises InvalidValue for a value outside its type."""
    return _encode(parse(types), tuple(values))


def _encode(kind: AbiType, value: Any) -> bytes:
    match kind.kind:
        case "uint":
            return abi.uint(value, kind.bits, f"uint{kind.bits}")
        case "bool":
            return abi.TRUE if value else abi.FALSE
        case "address":
            return abi.address(value, "address")
        case "bytes32":
            return abi.bytes32(value, "bytes32")
        case "bytes" | "string":
            return abi.dynamic_bytes(value)
        case "[]":
            return abi.word(len(value)) + _encode_items([kind.items[0]] * len(value), value)
        case _:
            if len(value) != len(kind.items):
                raise InvalidValue(f"{len(value)} values for a tuple of {len(kind.items)}")
            return _encode_items(kind.items, value)


def _encode_items(kinds: Sequence[AbiType], values: Sequence[Any]) -> bytes:
    """Heads, then the bodies of the dynamic ones."""
    heads, bodies = [], []
    offset = sum(kind.head_bytes for kind in kinds)
    for kind, value in zip(kinds, values, strict=True):
        encoded = _encode(kind, value)
        if kind.dynamic:
            heads.append(abi.word(offset))
            bodies.append(encoded)
            offset += len(encoded)
        else:
            heads.append(encoded)
    return b"".join((*heads, *bodies))


def decode(types: str, data: bytes) -> tuple[Any, ...]:
    """Inverse of `encode`. Raises InvalidValue for bytes that no values encode to, except that gaps and an order of
    bodies other than the usual are let pass, and bytes after the end."""
    found: tuple[Any, ...] = _Reader(data).tuple(parse(types).items, 0)
    return found


class _Reader:
    """`_budget` is what is left of the words that may be read: bodies that overlap would else multiply the work."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._budget = 2 * (len(data) // WORD) + 2

    def word(self, at: int) -> bytes:
        self._budget -= 1
        if self._budget < 0:
            raise InvalidValue("the encoding refers to the same bytes again and again")
        found = self._data[at : at + WORD]
        if len(found) != WORD:
            raise InvalidValue(f"an encoding of {len(self._data)} bytes ends before byte {at + WORD}")
        return found

    def number(self, at: int, bits: int = 256) -> int:
        found = int.from_bytes(self.word(at), "big")
        if found >> bits:
            raise InvalidValue(f"a uint{bits} at byte {at} is {found}")
        return found

    def size(self, at: int) -> int:
        """An offset or a length: none reaches beyond the data."""
        found = self.number(at)
        if found > len(self._data):
            raise InvalidValue(f"{found} at byte {at} leads out of an encoding of {len(self._data)} bytes")
        return found

    def tuple(self, kinds: Sequence[AbiType], start: int) -> tuple[Any, ...]:
        values, at = [], start
        for kind in kinds:
            values.append(self.value(kind, start + self.size(at) if kind.dynamic else at))
            at += kind.head_bytes
        return tuple(values)

    def value(self, kind: AbiType, at: int) -> Any:
        match kind.kind:
            case "uint":
                return self.number(at, kind.bits)
            case "bool":
                return bool(self.number(at, 1))
            case "address":
                return self.number(at, 160).to_bytes(20, "big")
            case "bytes32":
                return self.word(at)
            case "bytes" | "string":
                length = self.size(at)
                found = self._data[at + WORD : at + WORD + length]
                if len(found) != length:
                    raise InvalidValue(f"{length} bytes at byte {at} reach beyond the end")
                return found
            case "[]":
                length = self.size(at)
                if length * kind.items[0].head_bytes > len(self._data) - at:
                    raise InvalidValue(f"a list of {length} items at byte {at} reaches beyond the end")
                return self.tuple([kind.items[0]] * length, at + WORD)
            case _:
                return self.tuple(kind.items, at)
