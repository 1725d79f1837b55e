"""Values of a message's types at their limits, for tests that say what no honest node would: the shapes are right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import inspect

ITEMS_MAX = 40
"""In a list that may be longer."""
TEXT_MAX = 200


def odd_values(kind: type, known: Sequence[bytes]) -> list[Any]:
    """Instances of a message: of each, all fields are at one limit. `known` are ids and addresses that mean something
    to whoever hears it, taken where they fit."""
    return _of(inspect.type_info(kind), known)


def damaged(message: Any, known: Sequence[bytes]) -> list[Any]:
    """The same message with one field at a limit, for each field and each of its limits."""
    info = inspect.type_info(type(message))
    assert isinstance(info, inspect.StructType)
    return [
        msgspec.structs.replace(message, **{field.name: value})
        for field in info.fields
        for value in _of(field.type, known)
        if value != getattr(message, field.name)
    ]


def _of(info: inspect.Type, known: Sequence[bytes]) -> list[Any]:
    match info:
        case inspect.BoolType():
            return [False, True]
        case inspect.IntType():
            least = info.ge if info.ge is not None else -(2**63)
            most = info.le if info.le is not None else info.lt - 1 if info.lt is not None else 2**64 - 1
            return list(dict.fromkeys((least, most, min(most, least + 1))))
        case inspect.BytesType():
            least = info.min_length or 0
            sizes = dict.fromkeys((least, TEXT_MAX if info.max_length is None else info.max_length))
            return [each for each in known if len(each) in sizes] + [
                fill * size for size in sizes for fill in (b"\x00", b"\xff")
            ]
        case inspect.StrType():
            return ["", "x" * min(TEXT_MAX, info.max_length or TEXT_MAX)]
        case inspect.LiteralType():
            return list(info.values)
        case inspect.NoneType():
            return [None]
        case inspect.UnionType():
            return [value for each in info.types for value in _of(each, known)]
        case inspect.TupleType():
            return _aligned([_of(each, known) for each in info.item_types])
        case inspect.VarTupleType():
            least, most = info.min_length or 0, min(ITEMS_MAX, info.max_length or ITEMS_MAX)
            items = _of(info.item_type, known)
            lists = [tuple(items[:1]) * least, tuple(items[:most])]
            return [*lists, *((each,) * size for each in items for size in (1, 2, most) if least <= size <= most)]
        case inspect.StructType():
            fields = [_of(field.type, known) for field in info.fields]
            return [info.cls(*values) for values in _aligned(fields)]
    raise AssertionError(f"no values of {info}")


def _aligned(columns: list[list[Any]]) -> list[tuple[Any, ...]]:
    """As many rows as the longest column has; shorter ones begin again."""
    count = max(map(len, columns), default=0)
    return [tuple(column[row % len(column)] for column in columns) for row in range(count)]
