"""Parts of the statements that `write.py` and `replacing.py` send."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from scapp.reducers.manifest import Column
from scapp.runtime.arrays import BASE_TYPES


def quoted(name: str) -> str:
    """A quoted identifier; names are checked by the manifest, so this cannot meet a quote."""
    assert not set('"%') & set(name), name
    return f'"{name}"'


def unnested(columns: Sequence[Column], numbers: Iterator[int]) -> str:
    """Rows `u` of columns `c0`, `c1`, …, of parameters that are arrays, one for each column."""
    arrays = ", ".join(f"${next(numbers)}::{BASE_TYPES[column.type]}[]" for column in columns)
    names = ", ".join(f"c{index}" for index in range(len(columns)))
    return f"unnest({arrays}) AS u({names})"
