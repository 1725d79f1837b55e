"""A reducer whose messages are lists of import calls with any arguments, over tables of every column type.

Each instruction copies its data to `DATA`, calls one import with six given words and emits what came of it: the
result, and what the import wrote. So a test drives a kernel with anything a hostile reducer could pass.
"""

from __future__ import annotations

import functools
import struct

from scapp.channels.deployment import Limits
from scapp.reducers.manifest import Column, Index, Manifest, Table, encode_manifest
from scapp.runtime.module import CheckedModule, check_module
from scapp.runtime.native.layout import IMPORTS, TYPES
from tests.support import wat

DATA, OUT, MEMORY_BYTES = 131_072, 196_608, 4 * 65_536
OUT_CAP = 32_768
_KEYS = tuple(name for name in TYPES if name not in ("float8", "json"))

MANIFEST = Manifest(
    name="raw_calls",
    version="1",
    tables=(
        Table("small", (Column("id", "int2"), Column("note", "text", nullable=True)), key=1, history=True),
        Table(
            "every",
            (
                Column("id", "bytea"),
                *(Column(f"c_{name}", name, nullable=True) for name in TYPES),  # type: ignore[arg-type]
            ),
            key=1,
            indexes=(
                *(Index(f"every_{name}", (f"c_{name}",)) for name in _KEYS),
                Index("every_pair", ("c_text", "c_int4")),
            ),
        ),
        Table(
            "keyed",
            tuple(Column(f"c_{name}", name) for name in _KEYS),  # type: ignore[arg-type]
            key=len(_KEYS),
            history=True,
        ),
        Table(
            "unique",
            (
                Column("room", "int4"),
                Column("seat", "text"),
                Column("holder", "text", nullable=True),
                Column("mark", "int2", nullable=True),
                Column("paid", "numeric"),
            ),
            key=2,
            history=True,
            indexes=(
                Index("unique_holder", ("holder",), unique=True),
                Index("unique_mark", ("mark", "paid"), unique=True),
                Index("unique_paid", ("paid", "room")),
            ),
        ),
    ),
)
SMALL, EVERY, KEYED, UNIQUE = range(4)
NUMBERS = len(MANIFEST.tables) + sum(len(table.indexes) for table in MANIFEST.tables)
"""Tables and indexes: what a scan may name."""

TRAP, LOOP, RECURSE, RETURN, GROW = range(100, 105)

_CALLS = {
    name: (f"(call ${name} {{}})", number, result)
    for name, number, result in (
        ("get", 5, True),
        ("put", 3, True),
        ("delete", 3, True),
        ("scan", 6, True),
        ("next", 3, True),
        ("emit", 4, False),
        ("set_outcome", 2, False),
        ("reject", 2, False),
        ("log", 3, False),
        ("keccak256", 3, False),
        ("sha256", 3, False),
    )
}


def _call(name: str) -> str:
    text, count, result = _CALLS[name]
    words = " ".join(f"(i32.load offset={4 + 4 * n} (local.get $at))" for n in range(count))
    call = text.format(words)
    if result:
        call = f"(local.set $got {call})"
    return f"(if (i32.eq (local.get $op) (i32.const {IMPORTS.index(name)})) (then {call}))"


_SCRIPT = f"""
(data (i32.const 512) "r=")
(func $deep (param i32) (result i32) (i32.add (i32.const 1) (call $deep (i32.add (local.get 0) (i32.const 1)))))
(func $say (param $got i32) (param $op i32) (local $length i32)
  (i32.store (i32.const 520) (local.get $got))
  (call $emit (i32.const 512) (i32.const 1) (i32.const 520) (i32.const 4))
  (if (i32.or (i32.eq (local.get $op) (i32.const 1)) (i32.eq (local.get $op) (i32.const 5)))
    (then (local.set $length (select (local.get $got) (i32.const 0) (i32.lt_u (local.get $got) (i32.const 4096))))))
  (if (i32.ge_u (local.get $op) (i32.const 10)) (then (local.set $length (i32.const 32))))
  (if (local.get $length)
    (then (call $emit (i32.const 513) (i32.const 1) (i32.const {OUT}) (local.get $length)))))
(func $step (param $at i32) (result i32) (local $op i32) (local $got i32)
  (local.set $op (i32.load8_u (local.get $at)))
  (memory.copy (i32.const {DATA}) (i32.add (local.get $at) (i32.const 28))
    (i32.shr_u (i32.load (local.get $at)) (i32.const 16)))
  {" ".join(map(_call, _CALLS))}
  (if (i32.eq (local.get $op) (i32.const {TRAP})) (then (unreachable)))
  (if (i32.eq (local.get $op) (i32.const {LOOP})) (then (loop $ever (br $ever))))
  (if (i32.eq (local.get $op) (i32.const {RECURSE})) (then (drop (call $deep (i32.const 0)))))
  (if (i32.eq (local.get $op) (i32.const {RETURN})) (then (return (i32.load offset=4 (local.get $at)))))
  (if (i32.eq (local.get $op) (i32.const {GROW}))
    (then (local.set $got (memory.grow (i32.load offset=4 (local.get $at))))))
  (if (i32.load8_u offset=1 (local.get $at)) (then (call $say (local.get $got) (local.get $op))))
  (i32.const 0))
(func (export "scapp_reduce") (param $at i32) (param $size i32) (result i32) (local $end i32) (local $status i32)
  (local.set $end (i32.add (local.get $at) (local.get $size)))
  (if (i32.eqz (i32.load8_u (local.get $at))) (then (return (i32.const 0))))
  (local.set $at (i32.add (local.get $at) (i32.const 80)))
  (loop $more
    (if (i32.lt_u (local.get $at) (local.get $end))
      (then
        (local.set $status (call $step (local.get $at)))
        (if (local.get $status) (then (return (local.get $status))))
        (local.set $at (i32.add (i32.add (local.get $at) (i32.const 28))
          (i32.shr_u (i32.load (local.get $at)) (i32.const 16))))
        (br $more))))
  (i32.const 0))
"""


@functools.cache
def checked(limits: Limits | None = None) -> CheckedModule:
    """The reducer, checked."""
    document = encode_manifest(MANIFEST)
    assert len(document) < 60_000
    return check_module(wat.module(wat.IMPORTS, wat.MEMORY, wat.ALLOC, _SCRIPT, manifest=document), limits)


def raw(operation: int, *words: int, data: bytes = b"", say: bool = True) -> bytes:
    """One instruction: its data lies at `DATA` when it runs."""
    padded = [*words, *[0] * (6 - len(words))]
    return struct.pack("<BBH6I", operation, say, len(data), *(word & 0xFFFF_FFFF for word in padded)) + data


def _code(name: str) -> int:
    return IMPORTS.index(name)


def put(table: int, row: bytes) -> bytes:
    return raw(_code("put"), table, DATA, len(row), data=row)


def get(table: int, key: bytes, cap: int = OUT_CAP) -> bytes:
    return raw(_code("get"), table, DATA, len(key), OUT, cap, data=key)


def delete(table: int, key: bytes) -> bytes:
    return raw(_code("delete"), table, DATA, len(key), data=key)


def scan(number: int, low: bytes = b"", high: bytes = b"", flags: int = 0) -> bytes:
    return raw(_code("scan"), number, DATA, len(low), DATA + len(low), len(high), flags, data=low + high)


def step(cursor: int, cap: int = OUT_CAP) -> bytes:
    """The import `next`."""
    return raw(_code("next"), cursor, OUT, cap)


def emit(topic: bytes, data: bytes) -> bytes:
    return raw(_code("emit"), DATA, len(topic), DATA + len(topic), len(data), data=topic + data, say=False)


def set_outcome(data: bytes) -> bytes:
    return raw(_code("set_outcome"), DATA, len(data), data=data)


def reject(data: bytes) -> bytes:
    return raw(_code("reject"), DATA, len(data), data=data)


def log(level: int, data: bytes) -> bytes:
    return raw(_code("log"), level, DATA, len(data), data=data)


def digest(name: str, data: bytes) -> bytes:
    return raw(_code(name), DATA, len(data), OUT, data=data)


def import_call(name: str, *words: int) -> bytes:
    """Any import with any words."""
    return raw(_code(name), *words)
