"""Generated clients: goldens, checkers of both languages, real rows and messages through the Python one."""

from __future__ import annotations

import datetime
import importlib.util
import json
import subprocess
import sys
import uuid
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from scapp.reducers import library, nodejs
from scapp.reducers.codegen import GENERATORS
from scapp.reducers.codegen.names import type_names, value_names
from scapp.reducers.manifest import Column, Field, Manifest, Message, Table, check_manifest
from scapp.reducers.toolchain import REPOSITORY
from scapp.runtime.api.payloads import encode_payload
from scapp.runtime.cli.describe import CLIENTS
from scapp.runtime.row_json import key_from_json, row_as_json
from tests.support.reducer_driver import ALICE, BOB, CAST, Driver, Refused, checked

GOLDEN = Path(__file__).parents[1] / "golden"
WASM = {"ledger": library.wasm_bytes("ledger"), "conformance": (GOLDEN / "conformance.wasm").read_bytes()}
SUFFIXES = {"python": "py", "typescript": "ts"}

# Names that mean something in Python, in TypeScript or in the generated code, and names that differ in little.
HARD = Manifest(
    name="hard",
    version="1",
    encoding="json",
    tables=(
        Table(
            "class",
            (
                Column("int", "int8"),
                Column("from", "timestamptz"),
                Column("from_", "uuid"),
                Column("bytes", "bytea", nullable=True),
                Column("constructor", "numeric"),
                Column("json", "json", nullable=True),
            ),
            key=3,
        ),
        Table("a_1", (Column("x", "bool"),), key=1),
        Table("a1", (Column("x", "text"),), key=1),
        Table("row", (Column("x", "address"),), key=1),
        Table("row_row", (Column("x", "bytes32"), Column("y", "float8")), key=1),
    ),
    messages=(
        Message("import", 'breaks " out */ of\n"""comments\\', (Field("def", "int"), Field("value", "bytes"))),
        Message("every", "", tuple(Field(t, t) for t in ("bool", "float", "text", "array", "map", "any"))),  # type: ignore[arg-type]
        Message("nothing"),
    ),
)


def generated(name: str, language: str) -> str:
    """Without the module's hash, so that the goldens change with the manifest alone."""
    return GENERATORS[language](checked(WASM[name]).manifest, "0x" + "00" * 32)


def loaded(text: str, folder: Path) -> Any:
    """The module that the text is."""
    path = folder / "generated_client.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location("generated_client", path)
    assert spec is not None
    assert spec.loader is not None
    module = ModuleType(spec.name)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", WASM)
@pytest.mark.parametrize("language", SUFFIXES)
def test_the_goldens_are_what_the_generators_write(name: str, language: str) -> None:
    """A change is seen in the goldens; `scapp codegen` writes them anew."""
    assert generated(name, language) == (GOLDEN / "clients" / f"{name}_client.{SUFFIXES[language]}").read_text()


def test_the_command_offers_every_generator() -> None:
    assert set(CLIENTS) == set(GENERATORS)


def test_python_clients_pass_mypy_strict(tmp_path: Path) -> None:
    """Hard names and foreign descriptions included; a wrong use is found."""
    check_manifest(HARD)
    (tmp_path / "hard.py").write_text(GENERATORS["python"](HARD, "0x00"))
    (tmp_path / "raw.py").write_text(GENERATORS["python"](msgspec.structs.replace(HARD, encoding="raw"), "0x00"))
    for name in WASM:
        (tmp_path / f"{name}.py").write_text(generated(name, "python"))
    (tmp_path / "wrong.py").write_text(
        "import ledger\nledger.make_burn(amount='1')\nledger.AccountRow(b'', 1).owner = b''\n"
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    lines = [line for line in done.stdout.splitlines() if "error:" in line]
    assert [line.partition(":")[0] for line in lines] == ["wrong.py", "wrong.py"], done.stdout + done.stderr


@pytest.mark.slow
def test_typescript_clients_pass_tsc(tmp_path: Path) -> None:
    """Strict, with hard names; then the compiled client takes and gives what the Python one does."""
    try:
        node, _ = nodejs.find_node()
        modules = nodejs.install(Path(__file__).parent / "codegen_node", REPOSITORY / "build" / "npm")
    except OSError as error:
        pytest.skip(f"no TypeScript compiler: {error}")
    check = 'import * as c from "./ledger.js";\nconst row = c.decodeAccount({ owner: "0x01", balance: "5" });\n'
    sound = check + (
        "const sum: bigint = row.balance + 1n;\n"
        "console.log(JSON.stringify([sum.toString(), c.valuesOfAccountKey(c.keyOfAccount(row)),\n"
        "  c.makeTransfer({ to: new Uint8Array([255, 1]), amount: 2n ** 64n }), c.makeBurn({ amount: 7 })]));\n"
        'try { c.decodeAccount({ owner: "0x0", balance: 1 }); } catch (e) { console.log(String(e)); }\n'
    )
    texts = {"ledger": generated("ledger", "typescript"), "conformance": generated("conformance", "typescript")}
    texts |= {
        "hard": GENERATORS["typescript"](HARD, "0x00"),
        "sound": "declare const console: { log(text: string): void };\n" + sound,
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.ts").write_text(text)
    options = ["--strict", "--target", "es2022", "--module", "nodenext", "--noUncheckedIndexedAccess"]
    options += ["--exactOptionalPropertyTypes", "--noUnusedLocals"]
    (tmp_path / "package.json").write_text('{"type": "module"}')

    def tsc(*files: str) -> subprocess.CompletedProcess[str]:
        command = [str(node), str(modules / "typescript" / "bin" / "tsc"), *options, *files]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)

    done = tsc(*(f"{name}.ts" for name in texts))
    assert done.returncode == 0, done.stdout
    ran = subprocess.run([str(node), "sound.js"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    first, second = ran.stdout.splitlines()
    transfer = {"transfer": {"to": {"$hex": "0xff01"}, "amount": str(2**64)}}
    assert json.loads(first) == ["6", ["0x01"], transfer, {"burn": {"amount": 7}}]
    assert "owner is 0x0; 0x and digits is expected" in second
    (tmp_path / "wrong.ts").write_text(check + "const sum: number = row.balance;\nc.makeBurn({});\nexport { sum };\n")
    assert tsc("wrong.ts").stdout.count("error TS") == 2


def test_messages_reach_the_reducer_and_rows_come_back_typed(tmp_path: Path) -> None:
    """Every column type, through the API's own forms in both directions."""
    client, driver = loaded(generated("conformance", "python"), tmp_path), Driver(WASM["conformance"], CAST[:2])
    day = datetime.datetime(2027, 1, 15, 8, tzinfo=datetime.UTC)
    values = {
        "id": -(2**63), "flag": True, "small": -3, "medium": 7, "amount": 2**256 - 1, "word": 2**64 - 1, "ratio": 0.5,
        "title": "é", "blob": b"\0\1", "hash": bytes(range(32)), "owner": ALICE,
    }  # fmt: skip
    sent = client.make_every(
        **values, uid=bytes(16), at=int(day.timestamp() * 1000), doc='{"a":1}', colour="red", note="n"
    )
    driver.raw(1, 0, encode_payload(json.loads(json.dumps(sent)), "msgpack"))
    table = driver.manifest.tables[0]
    (bytes_,) = driver.kernel.rows("every")
    shown = json.loads(json.dumps(row_as_json(table.columns, bytes_)))
    row = client.decode_every(shown)
    assert {name: getattr(row, name) for name in values} == values
    assert (row.uid, row.at, row.doc, row.note) == (uuid.UUID(int=0), day, {"a": 1}, "n")
    key = client.key_of_every(row)
    assert client.values_of_every_key(key) == [-(2**63)]
    assert key_from_json(table, client.values_of_every_key(key))
    shown["note"] = None
    assert client.decode_every(shown).note is None
    driver.close()


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("owner", "0xzz", "owner is '0xzz'; 0x and hexadecimal digits are expected"),
        ("owner", 5, "owner is 5"),
        ("balance", "1.5", "balance is '1.5'; a whole number is expected"),
        ("balance", True, "balance is True"),
        ("balance", None, "balance is None"),
    ],
)
def test_a_row_of_another_shape_is_refused_by_column(column: str, value: Any, problem: str, tmp_path: Path) -> None:
    client = loaded(generated("ledger", "python"), tmp_path)
    with pytest.raises(client.DecodeError, match=problem):
        client.decode_account({"owner": "0x" + ALICE.hex(), "balance": "5", column: value})
    with pytest.raises(client.DecodeError, match="the row has no column 'balance'; it has owner"):
        client.decode_account({"owner": "0x"})


def test_a_refused_message_is_refused_for_its_own_reason(tmp_path: Path) -> None:
    """The builder adds nothing that the reducer would refuse: a legal transfer passes, a large one lacks balance."""
    client = loaded(generated("ledger", "python"), tmp_path)
    driver = Driver(WASM["ledger"], CAST[:2], {"balances": [[ALICE, 10]]})
    driver.raw(1, 0, encode_payload(client.make_transfer(to=BOB, amount=3), "msgpack"))
    with pytest.raises(Refused, match=f"is 7, {2**200} are needed"):
        driver.raw(1, 0, encode_payload(client.make_transfer(to=BOB, amount=2**200), "msgpack"))
    driver.close()


def test_names_stay_apart() -> None:
    """CamelCase and trailing underscores never make one name of two."""
    assert type_names(["a_1", "a1", "a_b"]) == {"a_1": "A_1", "a1": "A1", "a_b": "AB"}
    assert type_names(["a__b", "a_b"]) == {"a__b": "A__B", "a_b": "A_B"}
    assert value_names(["from", "from_", "x"], {"from"}) == {"from": "from__", "from_": "from_", "x": "x"}
