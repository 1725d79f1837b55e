"""Deploy-time checks: every kind of bad module is refused with the offender's name, and the process lives on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import wasmtime

from scapp.channels.crypto import keccak256
from scapp.channels.deployment import Limits
from scapp.runtime import engine_config
from scapp.runtime.compiled import CodeCache
from scapp.runtime.kernel import Budget
from scapp.runtime.module import MODULE_BYTES_MAX, ModuleRefused, check_module
from scapp.runtime.wasm_sections import SectionError, bounds_of, read_u32, sections, with_maxima, write_u32
from tests.support import wat

REDUCE = wat.ACCEPT
GOOD = (wat.MEMORY, wat.ALLOC, REDUCE)


def refused(*parts: str, limits: Limits | None = None, manifest: bytes | None = None) -> str:
    with pytest.raises(ModuleRefused) as caught:
        check_module(wat.module(*parts, manifest=manifest), limits)
    return str(caught.value)


def raw(text: str) -> str:
    with pytest.raises(ModuleRefused) as caught:
        check_module(bytes(wasmtime.wat2wasm(text)))
    return str(caught.value)


def test_a_minimal_module_is_accepted_and_identified_by_its_original_bytes() -> None:
    wasm = wat.module(*GOOD)
    checked = check_module(wasm)
    assert checked.deployment.reducer == keccak256(wasm)
    assert checked.manifest == wat.MANIFEST


def test_what_linkers_add_is_tolerated() -> None:
    extras = """(global (export "__heap_base") i32 (i32.const 7))
    (global (export "__stack_pointer") (mut i32) (i32.const 7))
    (table (export "__indirect_function_table") 2 funcref)"""
    check_module(wat.module(wat.IMPORTS, *GOOD, extras))


@pytest.mark.parametrize("data", [b"", b"\0asm", b"MZ\x90\0", b"\0asm\x0d\0\1\0", b"#!/bin/sh\n"])
def test_other_files_are_not_modules(data: bytes) -> None:
    with pytest.raises(ModuleRefused, match=r"not a WebAssembly module|version or layer"):
        check_module(data)


def test_truncations_and_flipped_bytes_are_refused_or_harmless() -> None:
    wasm = wat.scripted_wasm()
    for cut in range(0, len(wasm), 97):
        with pytest.raises(ModuleRefused):
            check_module(wasm[:cut])
    for at in range(8, 400, 7):
        broken = bytearray(wasm)
        broken[at] ^= 0x55
        try:
            check_module(bytes(broken))
        except ModuleRefused:
            continue


def test_a_huge_module_is_refused_unread() -> None:
    with pytest.raises(ModuleRefused, match="at most 8388608"):
        check_module(bytes(MODULE_BYTES_MAX + 1))


def test_imports_other_than_the_abi_are_refused() -> None:
    assert "import env.now; allowed are, from scapp_1: delete, emit, get" in refused(
        '(import "env" "now" (func (result i64)))', *GOOD
    )
    assert "import scapp_1.random" in refused('(import "scapp_1" "random" (func))', *GOOD)
    assert "wasi_snapshot_preview1.fd_write" in refused(
        '(import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))', *GOOD
    )
    text = refused('(import "scapp_1" "get" (func (param i32) (result i64)))', *GOOD)
    assert (
        "import scapp_1.get is a function (i32) -> i64; it must be a function (i32, i32, i32, i32, i32) -> i32" in text
    )
    assert "import scapp_1.put is a memory" in raw('(module (import "scapp_1" "put" (memory 1)))')
    assert "import scapp_1.put is a global" in refused('(import "scapp_1" "put" (global i32))', *GOOD)


def test_exports_are_exactly_the_abi() -> None:
    assert "export 'main', a function ()" in refused(*GOOD, '(func (export "main"))')
    assert "export 'total', a global" in refused(*GOOD, '(global (export "total") i32 (i32.const 0))')
    assert "export scapp_reduce is missing" in refused(wat.MEMORY, wat.ALLOC)
    assert "export scapp_alloc is missing" in refused(wat.MEMORY, REDUCE)
    assert "export scapp_alloc is function (i64) -> i32; it must be a function (i32) -> i32" in refused(
        wat.MEMORY, REDUCE, '(func (export "scapp_alloc") (param i64) (result i32) (i32.const 0))'
    )
    assert "no exported memory" in refused("(memory 4)", wat.ALLOC, REDUCE)
    assert "no exported memory" in raw(
        '(module (func (export "scapp_reduce") (param i32 i32) (result i32) (i32.const 0)))'
    )
    assert "export scapp_manifest is missing" in raw(f"(module {' '.join(GOOD)})")


def test_a_start_function_is_refused() -> None:
    assert "a start function" in refused(*GOOD, "(func $s) (start $s)")


def test_memory_and_table_sizes_are_bounded_by_the_deployment() -> None:
    limits = Limits(memory_bytes_max=4 * 65_536)
    assert "a memory minimum of 5 pages; the limit of this deployment is 4 pages" in refused(
        '(memory (export "memory") 5)', wat.ALLOC, REDUCE, limits=limits
    )
    assert "a table minimum of 10001 entries" in refused(*GOOD, "(table 10001 funcref)")
    assert "2 memories; at most one" in refused(*GOOD, "(memory 1)")
    assert "2 tables; at most one" in refused(*GOOD, "(table 1 funcref) (table 1 funcref)")
    check_module(wat.module('(memory (export "memory") 4 65536)', wat.ALLOC, REDUCE), limits)


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        (Limits(memory_bytes_max=0), "limit memory_bytes_max 0; allowed are 65536 to 1073741824"),
        (Limits(memory_bytes_max=2**31), "memory_bytes_max 2147483648"),
        (Limits(fuel_per_message=2**60), "fuel_per_message 1152921504606846976; allowed are 1 to 1000000000000"),
        (Limits(fuel_per_message=0), "fuel_per_message 0"),
        (Limits(rows_max=-1), "limit rows_max -1; allowed are 0 to 4294967295"),
    ],
)
def test_limits_no_engine_could_keep_are_refused(limits: Limits, text: str) -> None:
    with pytest.raises(ModuleRefused, match=text):
        check_module(wat.module(*GOOD), limits)


FORBIDDEN = {
    "threads": "(func (drop (i32.atomic.load (i32.const 0))))",
    "simd": "(func (drop (v128.const i32x4 0 0 0 0)))",
    "relaxed simd": "(func (param v128) (drop (i32x4.relaxed_trunc_f32x4_s (local.get 0))))",
    "tail calls": "(func $f (return_call $f))",
    "function references": "(type $t (func)) (func (param (ref $t)) (call_ref $t (local.get 0)))",
    "gc": "(type $s (struct (field i32))) (func (drop (struct.new $s (i32.const 0))))",
    "externref": "(func (param externref))",
    "exceptions": "(tag $e) (func (throw $e))",
    "stack switching": "(type $f (func)) (type $c (cont $f)) (func (param (ref $c)) (resume $c (local.get 0)))",
    "wide arithmetic": "(func (result i64 i64) (i64.add128 (i64.const 0) (i64.const 0) (i64.const 0) (i64.const 0)))",
}


@pytest.mark.parametrize("feature", FORBIDDEN)
def test_each_forbidden_feature_is_refused(feature: str) -> None:
    assert "a feature that is not allowed" in refused(*GOOD, FORBIDDEN[feature])


@pytest.mark.parametrize(
    "memory",
    [
        '(memory (export "memory") i64 1)',
        '(memory (export "memory") 1 2 shared)',
        '(memory (export "memory") 1 (pagesize 1))',
    ],
)
def test_other_kinds_of_memory_are_refused(memory: str) -> None:
    assert "allowed are 00 and 01 (unshared, 32-bit, standard page size)" in refused(memory, wat.ALLOC, REDUCE)


ALLOWED = {
    "bulk memory": "(func (memory.fill (i32.const 0) (i32.const 0) (i32.const 1)))",
    "sign extension": "(func (drop (i32.extend8_s (i32.const 1))))",
    "saturating conversion": "(func (drop (i32.trunc_sat_f32_s (f32.const 1))))",
    "multiple values": "(func (result i32 i32) (i32.const 1) (i32.const 2))",
    "mutable globals": "(global (mut i64) (i64.const 0))",
    "floats": "(func (drop (f64.sqrt (f64.const 2))))",
    "indirect calls": "(table 1 funcref) (type $t (func)) (func (call_indirect (type $t) (i32.const 0)))",
}


@pytest.mark.parametrize("feature", ALLOWED)
def test_each_allowed_feature_is_accepted(feature: str) -> None:
    check_module(wat.module(*GOOD, ALLOWED[feature]))


def manifest_module(body: str, *parts: str) -> str:
    return raw(f'(module {" ".join(parts)} {" ".join(GOOD)} (func (export "scapp_manifest") (result i64) {body}))')


def test_a_bad_manifest_function_is_contained() -> None:
    assert "scapp_manifest failed: out of fuel in function #" in manifest_module("(loop $l (br $l)) (i64.const 0)")
    assert "scapp_manifest failed: unreachable in function #" in manifest_module("unreachable")
    assert "scapp_manifest failed: an import was called outside scapp_reduce in function #" in manifest_module(
        "(call $log (i32.const 0) (i32.const 0) (i32.const 0)) (i64.const 0)", wat.IMPORTS
    )
    assert "returned pointer 262143 with length 2, outside the memory of 262144 bytes" in manifest_module(
        f"(i64.const {262_143 << 32 | 2})"
    )
    assert "manifest of 4294967295 bytes; at most 262144" in manifest_module("(i64.const -1)")
    assert "not a valid document" in manifest_module("(i64.const 0)")
    assert "stack overflow" in manifest_module(
        "(call $deep)", "(func $deep (result i64) (i64.add (call $deep) (call $deep)))"
    )


def test_a_bad_manifest_is_refused_with_its_reason() -> None:
    assert "colour" in refused(*GOOD, manifest=b'{"name":"a","version":"1","tables":[],"colour":1}')
    assert "0 tables" in refused(*GOOD, manifest=b'{"name":"a","version":"1","tables":[]}')


def test_an_initialiser_that_traps_is_refused() -> None:
    assert "memory out of bounds" in refused(*GOOD, '(data (i32.const 300000) "x")')


# -- compiled code on disk --------------------------------------------------------------------------------------------


def test_compiled_code_is_kept_and_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cache"
    check_module(wat.scripted_wasm(), cache_folder=folder)
    (file,) = folder.iterdir()
    assert engine_config.engine_id() in file.name
    assert folder.stat().st_mode & 0o777 == 0o700
    assert file.stat().st_mode & 0o077 == 0
    monkeypatch.setattr("scapp.runtime.compiled.Module", _NoCompiler)
    check_module(wat.scripted_wasm(), cache_folder=folder)


class _NoCompiler(wasmtime.Module):
    def __init__(self, *_: object) -> None:
        raise AssertionError("compiled again")


@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped", "foreign"])
def test_a_damaged_cache_file_costs_only_a_compilation(tmp_path: Path, damage: str) -> None:
    check_module(wat.scripted_wasm(), cache_folder=tmp_path)
    (file,) = tmp_path.iterdir()
    good = file.read_bytes()
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 1
    foreign = CodeCache(tmp_path)
    if damage == "foreign":  # whole, but no code of this engine
        foreign.store(b"other", b"not compiled code at all")
        other = next(path for path in tmp_path.iterdir() if path != file)
        file.write_bytes(other.read_bytes())
        other.unlink()
    else:
        file.write_bytes({"truncated": good[: len(good) // 2], "empty": b"", "flipped": bytes(flipped)}[damage])
    assert check_module(wat.scripted_wasm(), cache_folder=tmp_path).manifest.name == "scripted"
    assert file.read_bytes() == good


def test_a_cache_folder_open_to_others_is_closed(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    CodeCache(tmp_path)
    assert tmp_path.stat().st_mode & 0o777 == 0o700


def test_a_cache_folder_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    with pytest.raises(PermissionError, match="must be our own"):
        CodeCache(tmp_path)


def test_a_cache_that_cannot_be_written_does_not_matter(tmp_path: Path) -> None:
    cache = CodeCache(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    cache.store(b"wasm", b"code")
    assert cache.load(b"wasm") is None


# -- engine and sections ----------------------------------------------------------------------------------------------


def test_every_configuration_builds_without_aborting_the_process() -> None:
    code = (
        "import wasmtime\nfrom scapp.runtime.engine_config import *\n"
        "for budget in [None, *Budget]: wasmtime.Engine(build_config(budget))\nprint('built')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "built"), done.stderr


def test_the_engine_id_names_version_and_settings() -> None:
    assert engine_config.engine_id().startswith("wasmtime-50.0.1-")


def test_one_compilation_serves_every_budget() -> None:
    checked = wat.scripted()
    assert len({id(checked.module(budget)) for budget in Budget}) == len(Budget)
    assert all(checked.module(budget) is checked.module(budget) for budget in Budget)


def test_maxima_are_written_where_there_were_none_or_larger_ones() -> None:
    def maximum(text: str, limit: int, kind: int) -> int | None:
        bounded = with_maxima(bytes(wasmtime.wat2wasm(f"(module {text})")), {kind: limit})
        wasmtime.Module.validate(engine_config.strict_engine(), bounded)
        (section,) = [section for section in sections(bounded) if section.id == kind]
        return bounds_of(bounded, section).maximum

    assert maximum("(memory 1)", 200, 5) == 200
    assert maximum("(memory 1 300)", 200, 5) == 200
    assert maximum("(memory 1 3)", 200, 5) == 3
    assert maximum("(table 1 funcref) (memory 1)", 10_000, 4) == 10_000
    assert maximum("(table 1 5 funcref) (func) (memory 0)", 10_000, 4) == 5


@pytest.mark.parametrize("value", [0, 1, 127, 128, 16_383, 16_384, 2**32 - 1])
def test_numbers_of_sections_survive_a_round_trip(value: int) -> None:
    assert read_u32(write_u32(value) + b"\xff", 0) == (value, len(write_u32(value)))


@pytest.mark.parametrize("data", [b"", b"\x80", b"\xff\xff\xff\xff\xff", b"\xff\xff\xff\xff\x7f", b"\x80" * 6])
def test_broken_numbers_of_sections_are_refused(data: bytes) -> None:
    with pytest.raises(SectionError):
        read_u32(data, 0)
