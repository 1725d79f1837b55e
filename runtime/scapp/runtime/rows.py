"""COPY BINARY tuples against a table's columns: splitting, checking, building; types stand in `row_types.py`.

A tuple is `u16 column count | per column i32 length (-1 for NULL) and the value's bytes`, integers big-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

from scapp.reducers.manifest import Column, Index, Table
from scapp.runtime.keys import KeyCodec
from scapp.runtime.row_types import CODECS

ROW_BYTES_MAX = 1_048_576

_LENGTH = struct.Struct(">i")
_NULL = b"\xff\xff\xff\xff"
_length_at = _LENGTH.unpack_from
Values = list[bytes | None]


class RowError(ValueError):
    """A row, key or bound is malformed; the text names table, column, what was found and what is allowed."""


class TupleCodec:
    """Splits and checks tuples of given columns; `name` is used in errors, e.g. "table account"."""

    def __init__(self, name: str, columns: Sequence[Column]) -> None:
        self.name = name
        self.columns = tuple(columns)
        self._specs = [
            (column.name, column.nullable, CODECS[column.type].width, CODECS[column.type].check) for column in columns
        ]

    def split(self, data: bytes, *, prefix: bool = False) -> Values:
        """Checked values of a tuple; with `prefix` it may hold fewer columns. Raises RowError."""
        size = len(data)
        if size < 2:
            raise RowError(f"{self.name}: tuple of {size} bytes; the column count alone is 2")
        count = data[0] << 8 | data[1]
        if count != len(self._specs) and not (prefix and count < len(self._specs)):
            at_most = "at most " if prefix else ""
            raise RowError(f"{self.name}: {count} columns; allowed are {at_most}{len(self._specs)}")
        values: Values = []
        position = 2
        for name, nullable, width, check in self._specs[:count]:
            start = position + 4
            if start > size:
                raise RowError(f"{self.name}: tuple of {size} bytes ends before column {name}")
            length: int = _length_at(data, position)[0]
            if length < 0:
                if length != -1 or not nullable:
                    found = "NULL" if length == -1 else f"length {length}"
                    raise RowError(
                        f"{self.name}: {found} in column {name}; it is {'nullable' * nullable or 'NOT NULL'}"
                    )
                values.append(None)
                position = start
                continue
            position = start + length
            if position > size:
                raise RowError(f"{self.name}: column {name} of {length} bytes; only {size - start} are left")
            value = data[start:position]
            if width is not None and length != width:
                raise RowError(f"{self.name}: column {name} of {length} bytes; its type has {width}")
            if check is not None and (problem := check(value)) is not None:
                raise RowError(f"{self.name}: column {name}: {problem}")
            values.append(value)
        if position != size:
            raise RowError(f"{self.name}: {size - position} bytes after the last column")
        return values

    def encode(self, values: Sequence[Any]) -> bytes:
        """Tuple of Python values in column order (None for NULL), checked like any other. Raises RowError."""
        if len(values) > len(self.columns):
            raise RowError(f"{self.name}: {len(values)} values; the columns are {len(self.columns)}")
        encoded: Values = []
        for column, value in zip(self.columns, values, strict=False):
            try:
                encoded.append(None if value is None else CODECS[column.type].encode(value))
            except (ValueError, OverflowError, UnicodeEncodeError) as error:
                raise RowError(f"{self.name}: column {column.name}: {error}") from None
        data = join(encoded)
        self.split(data, prefix=True)
        return data

    def decode(self, data: bytes, *, prefix: bool = False) -> tuple[Any, ...]:
        """Python values of a tuple, None for NULL. Raises RowError."""
        values = self.split(data, prefix=prefix)
        return tuple(
            None if value is None else CODECS[column.type].decode(value)
            for column, value in zip(self.columns, values, strict=False)
        )


class TableCodec:
    """Everything that turns one table's rows into keys; built once per module."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.row = TupleCodec(f"table {table.name}", table.columns)
        self.key = TupleCodec(f"key of table {table.name}", table.key_columns)
        self._encode_key = KeyCodec(table.key_columns).encode
        self._key_count = table.key
        self.indexes = [IndexCodec(table, index) for index in table.indexes]

    def read_row(self, data: bytes) -> tuple[bytes, Values]:
        """Primary key and checked values of a row. Raises RowError."""
        if len(data) > ROW_BYTES_MAX:
            raise RowError(f"{self.row.name}: row of {len(data)} bytes; at most {ROW_BYTES_MAX} are allowed")
        values = self.row.split(data)
        try:
            return self._encode_key(values[: self._key_count]), values
        except ValueError as error:
            raise RowError(f"{self.row.name}: {error}") from None

    def read_key(self, data: bytes, *, prefix: bool = False) -> bytes:
        """Encoded key of a key tuple, or of a prefix of one. Raises RowError."""
        try:
            return self._encode_key(self.key.split(data, prefix=prefix))
        except RowError:
            raise
        except ValueError as error:
            raise RowError(f"{self.key.name}: {error}") from None

    def stored_key(self, row: bytes) -> bytes:
        """Encoded key of a row that a database gave back, whatever its other columns hold. Raises ValueError."""
        values: Values = []
        position = 2
        for _ in range(self._key_count):
            (length,) = _length_at(row, position)
            position += 4
            if length < 0:
                raise ValueError(f"table {self.table.name}: NULL in its key")
            values.append(row[position : position + length])
            position += length
        try:
            return self._encode_key(values)
        except IndexError:
            raise ValueError(f"table {self.table.name}: a key of no bytes") from None

    def key_tuple(self, row: bytes) -> bytes:
        """Key tuple cut out of a stored row."""
        end = 2
        for _ in range(self._key_count):
            end += 4 + _length_at(row, end)[0]  # key columns are never NULL
        return self._key_count.to_bytes(2, "big") + row[2:end]


class IndexCodec:
    """Keys of one secondary index; an entry is these bytes followed by the primary key."""

    def __init__(self, table: Table, index: Index) -> None:
        self.index = index
        names = [column.name for column in table.columns]
        self.positions = [names.index(name) for name in index.columns]
        columns = [table.columns[position] for position in self.positions]
        self.bound = TupleCodec(f"index {index.name} of table {table.name}", columns)
        self._encode_key = KeyCodec(columns).encode

    def entry(self, values: Values) -> tuple[bytes, bool]:
        """Index key of a row's values, and whether any of them is NULL. Raises RowError."""
        picked = [values[position] for position in self.positions]
        return self._encode(picked), None in picked

    def read_bound(self, data: bytes) -> bytes:
        """Encoded prefix of a bound tuple. Raises RowError."""
        return self._encode(self.bound.split(data, prefix=True))

    def _encode(self, values: Values) -> bytes:
        try:
            return self._encode_key(values)
        except ValueError as error:
            raise RowError(f"{self.bound.name}: {error}") from None


def join(values: Sequence[bytes | None]) -> bytes:
    """Tuple of binary values, unchecked."""
    parts = [len(values).to_bytes(2, "big")]
    for value in values:
        parts.append(_NULL if value is None else _LENGTH.pack(len(value)) + value)
    return b"".join(parts)


def encode_row(table: Table, values: Sequence[Any] | Mapping[str, Any]) -> bytes:
    """Row of Python values, in column order or by column name (defaults fill gaps). Raises RowError."""
    codec = TableCodec(table)
    if isinstance(values, Mapping):
        names = {column.name for column in table.columns}
        unknown = sorted(set(values) - names)
        if unknown:
            raise RowError(f"table {table.name}: no column {unknown[0]!r}; it has {', '.join(sorted(names))}")
        values = [values.get(column.name, _default(column)) for column in table.columns]
    row = codec.row.encode(values)
    codec.read_row(row)
    return row


def decode_row(table: Table, data: bytes) -> tuple[Any, ...]:
    """Python values of a row in column order. Raises RowError."""
    return TableCodec(table).row.decode(data)


def encode_key(table: Table, values: Sequence[Any]) -> bytes:
    """Key tuple of Python values of the primary key columns. Raises RowError."""
    codec = TableCodec(table)
    key = codec.key.encode(values)
    codec.read_key(key)
    return key


def _default(column: Column) -> Any:
    if column.type == "numeric" and isinstance(column.default, str):
        return int(column.default)
    return column.default
