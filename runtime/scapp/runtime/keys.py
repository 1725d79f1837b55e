"""Order-preserving key encodings: bytewise order of keys is the order of their values; `rows.py` splits the rows.

Each value's encoding is of fixed length or ends itself, so encodings joined together sort column by column. Root
paths, proofs, scans and SQL (`COLLATE "C"`) all follow this order. Vectors: tests/golden/keys-vectors.json.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from scapp.reducers.manifest import Column
from scapp.runtime.row_types import numeric_to_int

CHANNEL_ID_BYTES = 32
ENTRY_BYTES_MAX = 2_000  # with channel id: a btree refuses entries of about 2.7 kB
KEY_BYTES_MAX = ENTRY_BYTES_MAX - CHANNEL_ID_BYTES
PRESENT, NULL = b"\0", b"\1"

EncodeValue = Callable[[bytes], bytes]

_FLIPPED = [bytes([first ^ 0x80]) for first in range(256)]


def _signed(value: bytes) -> bytes:
    return _FLIPPED[value[0]] + value[1:]


def _terminated(value: bytes) -> bytes:
    """00 becomes 00 FF and 00 00 ends the value, so that a prefix sorts before what it begins."""
    return value.replace(b"\0", b"\0\xff") + b"\0\0"


def _unsigned(value: bytes) -> bytes:
    return numeric_to_int(value).to_bytes(32, "big")


_ENCODERS: dict[str, EncodeValue] = {
    "bool": bytes,
    "int2": _signed,
    "int4": _signed,
    "int8": _signed,
    "timestamptz": _signed,
    "numeric": _unsigned,
    "text": _terminated,
    "bytea": _terminated,
    "bytes32": bytes,
    "address": bytes,
    "uuid": bytes,
}


class KeyCodec:
    """Encodes values of some columns, given in binary form, into one sortable key."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self.columns = tuple(columns)
        self._encoders = [(_ENCODERS[column.type], column.nullable) for column in columns]
        self._single = self._encoders[0][0] if len(columns) == 1 and not columns[0].nullable else None

    def encode(self, values: Sequence[bytes | None]) -> bytes:
        """Key of checked `values`, in column order; fewer values than columns give a prefix. Raises ValueError."""
        if self._single is not None and len(values) == 1:
            key = self._single(values[0])  # type: ignore[arg-type]  # not nullable, so checked not to be None
        else:
            key = b"".join([self._value(i, value) for i, value in enumerate(values)])
        if len(key) > KEY_BYTES_MAX:
            names = ", ".join(column.name for column in self.columns)
            raise ValueError(
                f"key ({names}) of {len(key)} encoded bytes; at most {KEY_BYTES_MAX} are allowed "
                f"({ENTRY_BYTES_MAX} with the channel id)"
            )
        return key

    def _value(self, position: int, value: bytes | None) -> bytes:
        encode, nullable = self._encoders[position]
        if value is None:
            return NULL
        return PRESENT + encode(value) if nullable else encode(value)


def after_prefix(prefix: bytes) -> bytes | None:
    """The least key greater than every key that starts with `prefix`; None when there is no such key."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else None
