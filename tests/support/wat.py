"""Reducers in WAT: one that runs a script from its payload, and parts from which hostile ones are made.

`SCRIPTED` does what each message says, instruction by instruction (`op`), so that a test states a reducer's behaviour
where it uses it. `module` wraps any body in a loadable module.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Sequence

import msgspec
import wasmtime

from scapp.channels.admission import ChannelContext
from scapp.channels.deployment import Limits
from scapp.channels.entries import Kind, OpenPayload, Slot, encode_entry
from scapp.channels.types import ChannelId
from scapp.reducers.manifest import Column, Index, Manifest, Table, encode_manifest
from scapp.runtime.kernel import Budget, Kernel
from scapp.runtime.module import CheckedModule, check_module
from scapp.runtime.native.kernel import NativeKernel
from scapp.runtime.reference import ReferenceKernel

MANIFEST = Manifest(
    name="scripted",
    version="1",
    tables=(
        Table("score", (Column("player", "text"), Column("points", "int8")), key=1),
        Table(
            "seat",
            (
                Column("room", "int4"),
                Column("number", "int4"),
                Column("holder", "text", nullable=True),
                Column("paid", "numeric"),
            ),
            key=2,
            indexes=(Index("seat_by_holder", ("holder",), unique=True), Index("seat_by_paid", ("paid",))),
        ),
    ),
)
SCORE, SEAT, BY_HOLDER, BY_PAID = range(4)

IMPORTS = """
(import "scapp_1" "get" (func $get (param i32 i32 i32 i32 i32) (result i32)))
(import "scapp_1" "put" (func $put (param i32 i32 i32) (result i32)))
(import "scapp_1" "delete" (func $delete (param i32 i32 i32) (result i32)))
(import "scapp_1" "scan" (func $scan (param i32 i32 i32 i32 i32 i32) (result i32)))
(import "scapp_1" "next" (func $next (param i32 i32 i32) (result i32)))
(import "scapp_1" "emit" (func $emit (param i32 i32 i32 i32)))
(import "scapp_1" "set_outcome" (func $set_outcome (param i32 i32)))
(import "scapp_1" "reject" (func $reject (param i32 i32)))
(import "scapp_1" "log" (func $log (param i32 i32 i32)))
(import "scapp_1" "keccak256" (func $keccak256 (param i32 i32 i32)))
(import "scapp_1" "sha256" (func $sha256 (param i32 i32 i32)))
"""
MEMORY = '(memory (export "memory") 4)'
ALLOC = '(func (export "scapp_alloc") (param i32) (result i32) (i32.const 65536))'
ACCEPT = '(func (export "scapp_reduce") (param i32 i32) (result i32) (i32.const 0))'

SCRIPT = """
(data (i32.const 512) "rs-ekhgn")
(global $count (mut i32) (i32.const 0))
(func $deep (param i32) (result i32) (i32.add (i32.const 1) (call $deep (i32.add (local.get 0) (i32.const 1)))))
(func $run_scan (param $arg i32) (param $data i32) (param $len i32)
  (local $cursor i32) (local $got i32) (local $lo i32)
  (local.set $lo (i32.load (local.get $data)))
  (local.set $cursor (call $scan (i32.and (local.get $arg) (i32.const 15))
    (i32.add (local.get $data) (i32.const 4)) (local.get $lo)
    (i32.add (i32.add (local.get $data) (i32.const 4)) (local.get $lo))
    (i32.sub (i32.sub (local.get $len) (i32.const 4)) (local.get $lo))
    (i32.shr_u (local.get $arg) (i32.const 4))))
  (loop $more
    (local.set $got (call $next (local.get $cursor) (i32.const 131072) (i32.const 65536)))
    (if (i32.ge_s (local.get $got) (i32.const 0))
      (then (call $emit (i32.const 513) (i32.const 1) (i32.const 131072) (local.get $got)) (br $more)))))
(func $run_get (param $arg i32) (param $data i32) (param $len i32) (local $got i32)
  (local.set $got (call $get (local.get $arg) (local.get $data) (local.get $len) (i32.const 131072) (i32.const 65536)))
  (if (i32.lt_s (local.get $got) (i32.const 0))
    (then (call $emit (i32.const 514) (i32.const 1) (i32.const 0) (i32.const 0)))
    (else (call $emit (i32.const 512) (i32.const 1) (i32.const 131072) (local.get $got)))))
(func $step (param $op i32) (param $arg i32) (param $data i32) (param $len i32) (result i32)
  (if (i32.eq (local.get $op) (i32.const 1))
    (then (drop (call $put (local.get $arg) (local.get $data) (local.get $len)))))
  (if (i32.eq (local.get $op) (i32.const 2))
    (then (drop (call $delete (local.get $arg) (local.get $data) (local.get $len)))))
  (if (i32.eq (local.get $op) (i32.const 3))
    (then (call $run_get (local.get $arg) (local.get $data) (local.get $len))))
  (if (i32.eq (local.get $op) (i32.const 4))
    (then (call $run_scan (local.get $arg) (local.get $data) (local.get $len))))
  (if (i32.eq (local.get $op) (i32.const 5))
    (then (call $emit (i32.const 515) (i32.const 1) (local.get $data) (local.get $len))))
  (if (i32.eq (local.get $op) (i32.const 6)) (then (call $set_outcome (local.get $data) (local.get $len))))
  (if (i32.eq (local.get $op) (i32.const 7)) (then (call $reject (local.get $data) (local.get $len))))
  (if (i32.eq (local.get $op) (i32.const 8))
    (then (call $log (local.get $arg) (local.get $data) (local.get $len))))
  (if (i32.eq (local.get $op) (i32.const 9)) (then (unreachable)))
  (if (i32.eq (local.get $op) (i32.const 10)) (then (loop $ever (br $ever))))
  (if (i32.eq (local.get $op) (i32.const 11)) (then (drop (call $deep (i32.const 0)))))
  (if (i32.eq (local.get $op) (i32.const 12))
    (then
      (global.set $count (i32.add (global.get $count) (i32.const 1)))
      (if (i32.gt_u (global.get $count) (local.get $arg)) (then (return (i32.const 1))))))
  (if (i32.eq (local.get $op) (i32.const 13))
    (then
      (call $keccak256 (local.get $data) (local.get $len) (i32.const 131072))
      (call $emit (i32.const 516) (i32.const 1) (i32.const 131072) (i32.const 32))
      (call $sha256 (local.get $data) (local.get $len) (i32.const 131072))
      (call $emit (i32.const 517) (i32.const 1) (i32.const 131072) (i32.const 32))))
  (if (i32.eq (local.get $op) (i32.const 14))
    (then
      (loop $bomb (br_if $bomb (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
      (i32.store (i32.const 131072) (memory.size))
      (call $emit (i32.const 518) (i32.const 1) (i32.const 131072) (i32.const 4))))
  (if (i32.eq (local.get $op) (i32.const 15))
    (then
      (f64.store (i32.const 131072) (f64.div (f64.load (local.get $data)) (f64.load (local.get $data))))
      (call $emit (i32.const 519) (i32.const 1) (i32.const 131072) (i32.const 8))))
  (if (i32.eq (local.get $op) (i32.const 16))
    (then (drop (call $scan (local.get $arg) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))))
  (if (i32.eq (local.get $op) (i32.const 17))
    (then (drop (call $put (local.get $arg) (i32.load (local.get $data)) (i32.load offset=4 (local.get $data))))))
  (if (i32.eq (local.get $op) (i32.const 18)) (then (return (local.get $arg))))
  (if (i32.eq (local.get $op) (i32.const 19)) (then (i32.store (i32.const -8) (i32.const 1))))
  (if (i32.eq (local.get $op) (i32.const 20))
    (then (loop $ever (call $keccak256 (i32.const 0) (i32.const 60000) (i32.const 131072)) (br $ever))))
  (if (i32.eq (local.get $op) (i32.const 21))
    (then (drop (call $next (local.get $arg) (i32.const 131072) (i32.const 65536)))))
  (if (i32.eq (local.get $op) (i32.const 22))
    (then (global.set $count (i32.add (global.get $count) (i32.const 1)))
      (i32.store (i32.const 131072) (global.get $count))
      (call $emit (i32.const 519) (i32.const 1) (i32.const 131072) (i32.const 4))))
  (i32.const 0))
(func (export "scapp_reduce") (param $at i32) (param $size i32) (result i32)
  (local $end i32) (local $len i32) (local $status i32)
  (local.set $end (i32.add (local.get $at) (local.get $size)))
  (if (i32.eqz (i32.load8_u (local.get $at))) (then (return (i32.const 0))))
  (local.set $at (i32.add (local.get $at) (i32.const 80)))
  (loop $more
    (if (i32.lt_u (local.get $at) (local.get $end))
      (then
        (local.set $len (i32.load offset=2 (local.get $at)))
        (local.set $status (call $step (i32.load8_u (local.get $at)) (i32.load8_u offset=1 (local.get $at))
          (i32.add (local.get $at) (i32.const 6)) (local.get $len)))
        (if (local.get $status) (then (return (local.get $status))))
        (local.set $at (i32.add (i32.add (local.get $at) (i32.const 6)) (local.get $len)))
        (br $more))))
  (i32.const 0))
"""

PUT, DELETE, GET, SCAN, EMIT, SET_OUTCOME, REJECT, LOG, TRAP, LOOP, RECURSE = range(1, 12)
COUNT_UP_TO, HASH, GROW, NAN, OPEN_CURSOR, PUT_AT, RETURN, STORE_OUTSIDE, BURN, NEXT, EMIT_COUNT = range(12, 23)


def module(*parts: str, manifest: bytes | None = None) -> bytes:
    """A module with memory, alloc and a manifest function around `parts`."""
    document = encode_manifest(MANIFEST) if manifest is None else manifest
    return bytes(wasmtime.wat2wasm(f"(module {' '.join(parts)} {manifest_function(document)})"))


def manifest_function(document: bytes) -> str:
    """`scapp_manifest` and its data at address 1024."""
    escaped = "".join(f"\\{byte:02x}" for byte in document)
    return (
        f'(data (i32.const 1024) "{escaped}") (func (export "scapp_manifest") (result i64) '
        f"(i64.const {1024 << 32 | len(document)}))"
    )


@functools.cache
def scripted_wasm() -> bytes:
    """The reducer that runs scripts."""
    return module(IMPORTS, MEMORY, ALLOC, SCRIPT)


@functools.cache
def scripted(limits: Limits | None = None) -> CheckedModule:
    """The scripted reducer, checked."""
    return check_module(scripted_wasm(), limits)


def op(code: int, data: bytes = b"", arg: int = 0) -> bytes:
    """One instruction of a script."""
    return struct.pack("<BBI", code, arg, len(data)) + data


def scan_op(number: int, lo: bytes = b"", hi: bytes = b"", flags: int = 0) -> bytes:
    """Scan a table or index and emit every row with topic `s`."""
    return op(SCAN, struct.pack("<I", len(lo)) + lo + hi, number | flags << 4)


ALICE, BOB = b"\xa1" * 20, b"\xb0" * 20
CHANNEL = ChannelId(b"\xc4" * 32)
ASSET = bytes(20)
SLOTS = ((ASSET, bytes(12) + ALICE, 60), (ASSET, bytes(12) + BOB, 40))


def context_of(checked: CheckedModule, channel_id: ChannelId = CHANNEL) -> ChannelContext:
    """A channel between Alice and Bob, 60 and 40 at stake."""
    return ChannelContext(channel_id, (ALICE, BOB), checked.deployment, SLOTS)


def open_entry() -> bytes:
    """Entry 0 of that channel."""
    slots = tuple(Slot(asset, destination, amount.to_bytes(32, "big")) for asset, destination, amount in SLOTS)
    payload = msgspec.msgpack.encode(OpenPayload((ALICE, BOB), slots, {}))
    return encode_entry(Kind.OPEN, 0, 0, 1_000, payload)


def message(*instructions: bytes, author: int = 0, counter: int = 1) -> bytes:
    """A MESSAGE entry with a script."""
    return encode_entry(Kind.MESSAGE, author, counter, 2_000, b"".join(instructions))


class Tested:
    """Which kernel `fresh` makes; the fixture `each_kernel` sets it."""

    kind: type[NativeKernel] | type[ReferenceKernel] = NativeKernel


def fresh(checked: CheckedModule, context: ChannelContext | None = None, *, track: bool = True) -> Kernel:
    """A kernel with no entries applied."""
    return Tested.kind(checked, context_of(checked) if context is None else context, track=track)


def opened(checked: CheckedModule) -> Kernel:
    """A kernel with entry 0 committed."""
    kernel = fresh(checked)
    result = kernel.run(0, [open_entry()], budget=Budget.ORDER)
    assert result.accepted == (0,), result.refusals
    kernel.commit(0)
    return kernel


def amounts(*values: int) -> bytes:
    """Argument of set_outcome."""
    return b"".join(value.to_bytes(32, "big") for value in values)


Script = Sequence[bytes]
