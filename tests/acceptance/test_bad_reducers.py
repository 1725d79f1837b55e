"""Hostile reducers through real nodes: each is refused at deploy or contained at run time, in words people can use.

Two whole nodes in one event loop, spoken to through the command line, one of them with a database.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import shutil
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import wasmtime
from click.testing import CliRunner

from scapp.reducers.manifest import Column, Index, Table, encode_manifest
from scapp.runtime.cli.main import scapp
from scapp.runtime.client import Client
from scapp.runtime.compose import NodeProcess
from scapp.runtime.config import load_config
from scapp.runtime.keys_file import key_info, new_key
from tests.support import wat
from tests.support.cluster import eventually
from tests.support.folders import open_folder

GOOD = (wat.MEMORY, wat.ALLOC, wat.ACCEPT)


class Answer:
    """What a command gave back: its exit code, its document, and what a person would have read."""

    def __init__(self, code: int, text: str) -> None:
        self.code = code
        self.text = text

    @property
    def document(self) -> Any:
        return json.loads(self.text)

    @property
    def message(self) -> str:
        found = self.document["error"]
        assert found["code"] != "internal", found
        return str(found["message"])


class Pair:
    """Two nodes and the commands of their people."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.addresses = {name: "0x" + key_info(folder / name).address.hex() for name in ("alice", "bob")}

    async def run(self, name: str, *arguments: str) -> Answer:
        """`scapp -C HOME …` on a thread, as in a shell."""
        found = await asyncio.to_thread(CliRunner().invoke, scapp, ["-C", str(self.folder / name), *arguments])
        assert found.exception is None or isinstance(found.exception, SystemExit), repr(found.exception)
        return Answer(found.exit_code, found.output)

    async def json(self, name: str, *arguments: str) -> Answer:
        return await self.run(name, "--json", *arguments)

    def file(self, wasm: bytes) -> str:
        path = self.folder / "module.wasm"
        path.write_bytes(wasm)
        return str(path)

    async def deploy(self, wasm: bytes) -> str:
        """Deploy at both; the deployment's id."""
        path = self.file(wasm)
        found = [await self.json(name, "deploy", path) for name in ("alice", "bob")]
        assert [answer.code for answer in found] == [0, 0], found[0].text + found[1].text
        return str(found[0].document["deployment_id"])

    async def open(self, wasm: bytes) -> Answer:
        return await self.json("alice", "channel", "open", "bob", "--app", await self.deploy(wasm))

    async def derived(self, channel: str, sequence: int) -> None:
        """Wait until Alice's database holds that many entries."""

        def probe() -> bool | None:
            with Client.at_home(self.folder / "alice") as client:
                found = client.channel(channel).derived
                return True if found and found.sequence >= sequence else None

        await asyncio.to_thread(eventually, probe, lambda: f"{sequence} entries derived")

    async def send(self, name: str, channel: str, *payloads: bytes) -> list[dict[str, Any]]:
        found = await self.json(name, "send", channel, "--hex", *("0x" + payload.hex() for payload in payloads))
        return list(found.document["receipts"])


@contextlib.asynccontextmanager
async def pair() -> AsyncIterator[Pair]:
    folder = open_folder("scapp-test-")
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        files = {}
        for name, database in (("alice", "embedded"), ("bob", "none")):
            new_key(folder / name)
            flags = {"node.listen": "127.0.0.1:0", "api.listen": "127.0.0.1:0", "database.backend": database}
            process = NodeProcess(folder / name, load_config(folder / name, environ={}, flags=flags), lambda _: "")
            files[name] = await process.start()
            stack.push_async_callback(process.stop)
        found = Pair(folder)
        for name, other in (("alice", "bob"), ("bob", "alice")):
            await found.run(name, "peers", "add", files[other].address, files[other].listen, "--name", other)
        yield found


def manifest(**changed: object) -> bytes:
    return encode_manifest(msgspec.structs.replace(wat.MANIFEST, **changed))


def column(name: str) -> bytes:
    return manifest(tables=(Table("t", (Column("k", "int4"), Column(name, "text")), key=1),))


def wasm(text: str) -> bytes:
    return bytes(wasmtime.wat2wasm(text))


REFUSED_AT_DEPLOY: dict[str, tuple[bytes, str]] = {
    "not WASM": (b"#!/bin/sh\necho hello\n", "not a WebAssembly module"),
    "empty": (b"", "not a WebAssembly module"),
    "a component": (b"\0asm\x0d\0\1\0", "version or layer"),
    "cut off": (wat.module(*GOOD)[:-9], "runs past"),
    "an import of the host's clock": (
        wat.module('(import "wasi_snapshot_preview1" "clock_time_get" (func (param i32 i64 i32) (result i32)))', *GOOD),
        "import wasi_snapshot_preview1.clock_time_get; allowed are",
    ),
    "an import of another type": (
        wat.module('(import "scapp_1" "put" (func (param i64) (result i32)))', *GOOD),
        "import scapp_1.put is a function (i64) -> i32; it must be a function (i32, i32, i32) -> i32",
    ),
    "a start function": (wat.module(*GOOD, "(func $s) (start $s)"), "a start function; none is allowed"),
    "a memory minimum above the limit": (
        wat.module('(memory (export "memory") 257)', wat.ALLOC, wat.ACCEPT),
        "a memory minimum of 257 pages; the limit of this deployment is 256 pages",
    ),
    "threads": (wat.module('(memory (export "memory") 1 1 shared)', wat.ALLOC, wat.ACCEPT), "memory with flags 03"),
    "no reduce": (wat.module(wat.MEMORY, wat.ALLOC), "export scapp_reduce is missing"),
    "an endless manifest": (
        wasm(
            f'(module {wat.MEMORY} {wat.ALLOC} {wat.ACCEPT} (func (export "scapp_manifest") (result i64) '
            "(loop $e (br $e)) (i64.const 0)))"
        ),
        "scapp_manifest failed: out of fuel",
    ),
    "a manifest outside memory": (
        wasm(
            f'(module {wat.MEMORY} {wat.ALLOC} {wat.ACCEPT} (func (export "scapp_manifest") (result i64) '
            "(i64.const 0x7fffffff00000010)))"
        ),
        "outside the memory of 262144 bytes",
    ),
    "a manifest that is no JSON": (wat.module(*GOOD, manifest=b"tables: score"), "manifest is not a valid document"),
    "a manifest nested deeply": (wat.module(*GOOD, manifest=b"[" * 50_000), "manifest is not a valid document"),
    "a manifest of another app format": (wat.module(*GOOD, manifest=manifest(abi="scapp_9")), "this version runs"),
    "a table without columns": (wat.module(*GOOD, manifest=manifest(tables=(Table("t", (), key=1),))), "0 columns"),
    "a table in SQL": (
        wat.module(*GOOD, manifest=manifest(tables=(Table('t"; drop', (Column("k", "int4"),), key=1),))),
        "allowed are 1-48 characters",
    ),
    "a column PostgreSQL has itself": (wat.module(*GOOD, manifest=column("ctid")), "column 'ctid' of table t"),
}


OF_ITS_MANIFEST = {
    "a manifest that is no JSON",
    "a manifest nested deeply",
    "a manifest of another app format",
    "a table without columns",
    "a table in SQL",
    "a column PostgreSQL has itself",
}
"""Refused for what the manifest says: the reader is sent to its page, and to that of the ABI for anything else."""


async def test_what_is_refused_at_deploy_says_why_and_leaves_no_trace() -> None:
    """Every offence that can be seen before the module runs; the node knows no app afterwards."""
    async with pair() as nodes:
        for name, (data, words) in REFUSED_AT_DEPLOY.items():
            answer = await nodes.json("alice", "deploy", nodes.file(data))
            assert answer.code == 1, name
            assert answer.document["error"]["code"] == "bad_module", name
            assert words in answer.message, name
            page = "reference/manifest.md" if name in OF_ITS_MANIFEST else "reference/abi.md"
            assert page in answer.document["error"]["hint"], name
        assert (await nodes.json("alice", "deploy", "--list")).document["deployments"] == []


async def test_a_module_without_a_declared_maximum_is_bounded_and_hostile_messages_are_contained(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The scripted reducer declares no maximum. Each hostile message is refused with its reason, for its author and in
    the operator's table, and the channel goes on; a deployment of smaller memory is refused."""
    caplog.set_level(logging.INFO)
    async with pair() as nodes:
        small = await nodes.json(
            "alice", "deploy", nodes.file(wat.scripted_wasm()), "--limit", "memory_bytes_max=131072"
        )
        assert "a memory minimum of 4 pages; the limit of this deployment is 2 pages" in small.message
        opened = await nodes.open(wat.scripted_wasm())
        assert opened.code == 0, opened.text
        channel = opened.document["channel_id"]
        for author in ("alice", "bob"):
            for payload, code, words in HOSTILE:
                (receipt,) = await nodes.send(author, channel, payload)
                assert (receipt["status"], receipt["code"]) == ("refused", code), receipt
                assert words in receipt["reason"], receipt
        good = wat.op(wat.GROW)  # a memory bomb that stops when there is no more
        receipts = await nodes.send("bob", channel, good, HOSTILE[0][0], wat.op(wat.EMIT, b"hello"))
        assert [receipt["status"] for receipt in receipts] == ["accepted", "refused", "accepted"]
        shown = await nodes.run("bob", "send", channel, "--hex", "0x" + wat.op(wat.REJECT, ESCAPES).hex())
        assert shown.code == 1
        assert "\x1b" not in shown.text
        await nodes.derived(channel, 3)
        pages = await nodes.json("alice", "query", "select data from scapp.events order by sequence, index")
        assert pages.document["rows"][0] == ["0x" + (256).to_bytes(4, "little").hex()], "grew to the limit, no further"
        found = await nodes.json("alice", "query", "select code, reason from scapp.rejections order by id")
        told = [tuple(row) for row in found.document["rows"]]
        for _, code, words in HOSTILE:
            assert any(row[0] == code and words in row[1] for row in told), (code, words, told)
        for name in ("alice", "bob"):
            assert (await nodes.json(name, "channel", "show", channel)).document["phase"] == "running"
        assert (await nodes.json("alice", "verify", channel)).document["ok"]
    assert "Traceback" not in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


ESCAPES = b"\x1b]0;owned\x07\x1b[2J\0\xff\xed\xa0\x80 end"
HOSTILE = (
    (wat.op(wat.LOOP), "fault", "out of fuel in function step"),
    (wat.op(wat.BURN), "fault", "out of fuel"),
    (wat.op(wat.RECURSE), "undecidable", "stack overflow in function deep"),
    (wat.op(wat.TRAP), "fault", "unreachable in function step"),
    (wat.op(wat.STORE_OUTSIDE), "fault", "memory out of bounds"),
    (wat.op(wat.RETURN, arg=7), "rejected", "scapp_reduce returned 7"),
    (wat.op(wat.REJECT, b"not your turn"), "rejected", "not your turn"),
    (wat.op(wat.REJECT, ESCAPES), "rejected", " end"),
    (wat.op(wat.PUT, b"\0\1"), "fault", "put: "),
    (wat.op(wat.SET_OUTCOME, bytes(31)), "fault", "set_outcome: 31 bytes"),
    (wat.op(wat.EMIT) * 257, "fault", "more than 256 events in one message"),
    (wat.op(wat.OPEN_CURSOR) * 17, "fault", "16 cursors are open already"),
    (wat.op(wat.NEXT, arg=3), "fault", "no open cursor"),
)


FAILS_TO_OPEN: dict[str, tuple[tuple[str, ...], str]] = {
    "a trap": (
        (wat.MEMORY, wat.ALLOC, '(func (export "scapp_reduce") (param i32 i32) (result i32) unreachable)'),
        "unreachable in function",
    ),
    "an endless alloc": (
        (
            wat.MEMORY,
            '(func (export "scapp_alloc") (param i32) (result i32) (loop $e (br $e)) (i32.const 0))',
            wat.ACCEPT,
        ),
        "out of fuel",
    ),
    "a buffer outside memory": (
        (wat.MEMORY, '(func (export "scapp_alloc") (param i32) (result i32) (i32.const -1))', wat.ACCEPT),
        "scapp_alloc returned pointer 4294967295",
    ),
    "an import from alloc": (
        (
            wat.IMPORTS,
            wat.MEMORY,
            '(func (export "scapp_alloc") (param i32) (result i32) (drop (call $put (i32.const 0) (i32.const 0) '
            "(i32.const 0))) (i32.const 0))",
            wat.ACCEPT,
        ),
        "an import was called outside scapp_reduce",
    ),
}  # fmt: skip


async def test_what_fails_at_entry_0_opens_no_channel() -> None:
    """The module deploys, since nothing can be seen from outside; opening is refused in words and leaves no channel."""
    async with pair() as nodes:
        for name, (parts, words) in FAILS_TO_OPEN.items():
            opened = await nodes.open(wat.module(*parts))
            assert opened.code == 1, name
            assert words in opened.message, name
        for name in ("alice", "bob"):
            assert (await nodes.json(name, "channel", "list")).document["channels"] == []


def value(*items: bytes | None) -> bytes:
    """A tuple in the binary form of rows."""
    parts = [struct.pack(">h", len(items))]
    for item in items:
        parts.append(struct.pack(">i", -1) if item is None else struct.pack(">i", len(item)) + item)
    return b"".join(parts)


def numeric(digits: list[int]) -> bytes:
    return struct.pack(f">HhHH{len(digits)}H", len(digits), len(digits) - 1 if digits else 0, 0, 0, *digits)


def base_10000(number: int) -> list[int]:
    digits: list[int] = []
    while number:
        number, digit = divmod(number, 10_000)
        digits.insert(0, digit)
    return digits


LARGEST = numeric(base_10000(2**256 - 1))
TIMES = (-211813488000000000, 9223371331200000000 - 1)
WIDE = 250
EDGES = (
    Table("user", (Column("select", "bytea"), Column("order", "text")), key=1, indexes=(Index("where", ("order",)),)),
    Table("wide", tuple(Column(f"c{n:03}_".ljust(48, "x"), "numeric") for n in range(WIDE)), key=1),
    Table("hashes", tuple(Column(f"h{n}", "bytes32") for n in range(WIDE)), key=16),
    Table(
        "edge",
        (
            Column("at", "timestamptz"),
            Column("f", "float8"),
            Column("j", "json"),
            Column("n", "numeric", nullable=True),
            Column("t", "text"),
            Column("big", "bytea"),
        ),
        key=1,
    ),
)
ROWS = (
    (0, value(b"\0" * 980, b"")),
    (0, value(b"\xff" * 1_900, "\U0010ffff".encode() * 400)),
    (1, value(*[LARGEST] * WIDE)),
    (1, value(numeric([]), *[LARGEST] * (WIDE - 1))),
    (2, value(*[bytes([n]) * 32 for n in range(WIDE)])),
    (3, value(struct.pack(">q", TIMES[0]), struct.pack(">d", -0.0), b'{"a":1,"a":2}', None, b"", b"")),
    (3, value(struct.pack(">q", TIMES[1]), b"\x7f\xf8" + bytes(6), b"[" * 64 + b"]" * 64, LARGEST, b"\x01\x1b", b"")),
    (3, value(struct.pack(">q", 0), struct.pack(">d", 5e-324), b" 1e999999 ", numeric([]), b"x", b"\xab" * 14_000)),
)
REFUSED_ROWS = (
    (0, value(b"\0" * 1_000, b""), "key"),
    (0, value(b"k", b"a\0b"), "NUL"),
    (0, value(b"k", b"\xed\xa0\x80"), "UTF-8"),
    (1, value(*[numeric(base_10000(2**256))] * WIDE), "2^256"),
    (3, value(struct.pack(">q", TIMES[0] - 1), bytes(8), b"1", None, b"", b""), "timestamptz"),
    (3, value(struct.pack(">q", TIMES[1] + 1), bytes(8), b"1", None, b"", b""), "timestamptz"),
    (3, value(struct.pack(">q", 1), b"\x7f\xf8" + bytes(5) + b"\1", b"1", None, b"", b""), "NaN"),
    (3, value(struct.pack(">q", 1), bytes(8), b"[" * 65 + b"]" * 65, None, b"", b""), "json"),
    (3, value(struct.pack(">q", 1), bytes(8), b'"\\u0000"', None, b"", b""), "json"),
    (3, value(struct.pack(">q", 1), bytes(8), b"01", None, b"", b""), "json"),
)


async def test_rows_at_every_limit_reach_the_database_and_rows_beyond_are_refused() -> None:
    """What passes the checks before signing never fails in PostgreSQL afterwards, and reads back to the same root."""
    document = encode_manifest(msgspec.structs.replace(wat.MANIFEST, name="edges", tables=EDGES))
    memory = '(memory (export "memory") 8)'
    moved = wat.ALLOC.replace("65536", "262144")  # the manifest is longer than the room before the usual buffer
    data = wat.module(wat.IMPORTS, memory, moved, wat.SCRIPT, manifest=document)
    async with pair() as nodes:
        opened = await nodes.open(data)
        channel = opened.document["channel_id"]
        for table, row, words in REFUSED_ROWS:
            (receipt,) = await nodes.send("bob", channel, wat.op(wat.PUT, row, table))
            assert (receipt["status"], receipt["code"]) == ("refused", "fault"), receipt
            assert words in receipt["reason"], receipt
        payloads = [wat.op(wat.PUT, row, table) for table, row in ROWS]
        receipts = await nodes.send("bob", channel, *payloads)
        assert [receipt["status"] for receipt in receipts] == ["accepted"] * len(ROWS), receipts
        await nodes.derived(channel, 1 + len(ROWS))
        verified = await nodes.json("alice", "verify", channel)
        assert verified.document["ok"], verified.text
        assert verified.document["rows"] >= len(ROWS)
        found = await nodes.json("alice", "query", 'select count(*) from edges."user" where "order" is not null')
        assert found.document["rows"] == [[2]]
        shown = await nodes.run("alice", "query", "select t, f, n from edges.edge order by at")
        assert "\\x1b" in shown.text
        assert "\x1b" not in shown.text
