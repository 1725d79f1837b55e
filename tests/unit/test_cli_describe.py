"""`scapp describe` and `scapp codegen`: of files and of a node's apps; what cannot be read is named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from scapp.channels.deployment import Limits
from scapp.reducers import library
from scapp.reducers.codegen import GENERATORS
from scapp.runtime.cli.main import scapp
from tests.support.api_harness import Harness, served
from tests.support.reducer_driver import checked

LEDGER = library.wasm_bytes("ledger")


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Harness]:
    with served(tmp_path / "alice") as harness:
        harness.apps._inspect = harness.modules.inspect  # real modules here
        yield harness


@pytest.fixture
def module(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.wasm"
    path.write_bytes(LEDGER)
    return path


def run(*arguments: str | Path, home: Path | None = None) -> Result:
    return CliRunner().invoke(scapp, [*(["-C", str(home)] if home else []), *map(str, arguments)])


def test_what_is_no_app_is_refused(module: Path, node: Harness, tmp_path: Path) -> None:
    """A missing file, bytes that are no module, an unknown limit, limits of a deployed app, an unknown app."""
    assert "no file" in run("describe", tmp_path / "gone.wasm").stderr
    (tmp_path / "bad.wasm").write_bytes(b"\0asm")
    refused = run("describe", tmp_path / "bad.wasm")
    assert (refused.exit_code, refused.stdout) == (1, "")
    wrong = run("describe", module, "--limit", "rows=1")
    assert wrong.exit_code == 2
    assert "unknown limit rows; known are payload_bytes_max" in wrong.stderr
    assert "no app 'chess' is deployed" in run("describe", "chess", home=node.home).stderr
    assert run("describe", "ledger", "--limit", "rows_max=1", home=node.home).exit_code == 2
    assert run("codegen", module, "--lang", "cobol").exit_code == 2


def test_a_file_and_the_deployed_app_are_described_alike(module: Path, node: Harness) -> None:
    """Also under other limits than the defaults, which make another deployment of the same reducer."""
    node.client.deploy(LEDGER, {"rows_max": 7})
    of_file = json.loads(run("describe", module, "--limit", "rows_max=7", "--json").stdout)
    assert of_file == json.loads(run("describe", "ledger", "--json", home=node.home).stdout)
    assert of_file["limits"]["rows_max"] == 7
    assert of_file["deployment_id"] == node.client.deployment("ledger").deployment_id
    assert of_file["deployment_id"] != json.loads(run("describe", module, "--json").stdout)["deployment_id"]
    assert of_file["reducer"] == f"0x{checked(LEDGER).deployment.reducer.hex()}"
    assert of_file["sets_outcome"] is True
    assert [table["name"] for table in of_file["tables"]] == ["account", "transfer", "token", "payee", "room"]


def test_people_see_keys_indexes_messages_and_limits(module: Path) -> None:
    text = run("describe", module).stdout
    for line in (
        "owner*                 address",
        "  unique index payee_by_owner (owner)",
        "transfer  to bytes, amount int",
        "holder  account   owner, balance",
        f"rows_max                  {Limits().rows_max:,}",
        "the reducer sets it; the slots are each channel's own",
    ):
        assert line in text
    conformance = Path(__file__).resolve().parents[1] / "golden" / "conformance.wasm"
    assert "  index pair_by_value (value)\n  with history\n" in run("describe", conformance).stdout
    quiet = Path(__file__).resolve().parents[2] / "benchmarks" / "transfer.wasm"
    assert "never changed: the reducer has no set_outcome" in run("describe", quiet).stdout


def test_a_module_whose_file_is_gone_is_named(node: Harness) -> None:
    """The node keeps running; deploying again mends it."""
    node.client.deploy(LEDGER)
    for path in (node.home / "deployments" / "modules").glob("*.wasm"):
        path.unlink()
    gone = run("describe", "ledger", home=node.home)
    assert gone.exit_code == 6
    assert "the file of the module of ledger is gone\n  deploy it again" in gone.stderr


def test_a_client_is_written_from_a_file_and_from_a_node(module: Path, node: Harness, tmp_path: Path) -> None:
    """The same text, on stdout, in JSON, or in a file."""
    node.client.deploy(LEDGER)
    expected = GENERATORS["typescript"](checked(LEDGER).manifest, f"0x{checked(LEDGER).deployment.reducer.hex()}")
    assert run("codegen", module, "--lang", "typescript").stdout == expected
    assert json.loads(run("codegen", module, "--lang", "typescript", "--json").stdout)["text"] == expected
    out = tmp_path / "client.ts"
    told = run("codegen", "ledger", "--lang", "typescript", "-o", out, home=node.home)
    assert told.stdout == f"{out}  {len(expected.splitlines()):,} lines\n"
    assert out.read_text() == expected
