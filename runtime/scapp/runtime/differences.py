"""Two sorted streams compared, and each difference named: where, what stands there, what the log gives.

`verify.py` and `replay.py` say what is compared; memory does not grow with the streams.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar

import msgspec

from scapp.reducers.manifest import Column, Table
from scapp.runtime.row_json import row_as_json

K = TypeVar("K", bound=Any)
V = TypeVar("V")


class Difference(msgspec.Struct, frozen=True):
    """`key` names the row by its key columns; `found` stands in the database and `expected` is what the log gives,
    None for a row that is not there. Values are JSON's, as in answers to queries."""

    table: str
    kind: Literal["missing", "extra", "changed"]
    key: Mapping[str, Any]
    found: Mapping[str, Any] | None
    expected: Mapping[str, Any] | None

    def __str__(self) -> str:
        where = f"{self.table} ({_listed(self.key)})"
        if self.found is None:
            return f"{where} is missing; the log gives {_listed(self.expected or {})}"
        if self.expected is None:
            return f"{where} is extra: {_listed(self.found)}"
        changed = [name for name in self.expected if self.found.get(name) != self.expected[name]]
        values = (f"{name} is {_shown(self.found.get(name))}, not {_shown(self.expected[name])}" for name in changed)
        return f"{where} is changed: {'; '.join(values) or 'its bytes differ'}"


def difference(
    table: str, key: Mapping[str, Any], found: Mapping[str, Any] | None, expected: Mapping[str, Any] | None
) -> Difference:
    """With the kind that follows from what is there."""
    kind: Literal["missing", "extra", "changed"] = (
        "missing" if found is None else "extra" if expected is None else "changed"
    )
    return Difference(table, kind, key, found, expected)


def differing(found: Iterator[tuple[K, V]], expected: Iterator[tuple[K, V]]) -> Iterator[tuple[K, V | None, V | None]]:
    """Keys whose values differ, each with both values, of two streams sorted by key."""
    left, right = next(found, None), next(expected, None)
    while left is not None or right is not None:
        if right is None or (left is not None and left[0] < right[0]):
            assert left is not None
            yield left[0], left[1], None
            left = next(found, None)
        elif left is None or right[0] < left[0]:
            yield right[0], None, right[1]
            right = next(expected, None)
        else:
            if left[1] != right[1]:
                yield left[0], left[1], right[1]
            left, right = next(found, None), next(expected, None)


def row_difference(name: str, table: Table, found: bytes | None, expected: bytes | None) -> Difference:
    """Of two rows of one key, at least one of which is there."""
    left, right = _row_shown(table.columns, found), _row_shown(table.columns, expected)
    row = right or left
    assert row is not None
    key = {column.name: row[column.name] for column in table.key_columns if column.name in row}
    return difference(name, key, left, right)


def _row_shown(columns: Sequence[Column], row: bytes | None) -> dict[str, Any] | None:
    if row is None:
        return None
    try:
        return row_as_json(columns, row)
    except (ValueError, LookupError, OverflowError, msgspec.MsgspecError):
        return {"row": "0x" + row.hex()}  # only a hand at the database writes such


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_shown(value)}" for name, value in values.items())


def _shown(value: Any) -> str:
    text = "NULL" if value is None else str(value)
    return text if len(text) <= 200 else f"{text[:200]}… ({len(text)} characters)"
