"""`scapp new`, `scapp build`, `scapp test`: a new app passes its test at once, and what is missing is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from scapp.reducers import assemblyscript, build, rust
from scapp.runtime.cli.develop import LANGUAGES
from scapp.runtime.cli.main import scapp
from tests.support.snippets import blocks
from tests.support.tree import ROOT

needs_zig = pytest.importorskip("ziglang", reason="the Zig compiler is not installed: pip install 'scapp[zig]'")


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(scapp, [str(argument) for argument in arguments])


@pytest.mark.parametrize("language", [*LANGUAGES[:-1], pytest.param(LANGUAGES[-1], marks=pytest.mark.slow)])
def test_a_new_app_compiles_and_passes_its_test(language: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one command after `new`; every message is covered. So does the test that the documentation shows."""
    if language in build.OPTIONAL:
        try:
            (rust if language == "rust" else assemblyscript).compiler()
        except build.ToolchainMissing as error:
            pytest.skip(str(error))
    monkeypatch.chdir(tmp_path)
    made = run("new", "duel", "--lang", language)
    assert made.exit_code == 0, made.output
    example, _ = blocks(ROOT / "docs" / "howto" / "test-a-reducer.md", "toml")
    (tmp_path / "duel" / "tests" / "page.toml").write_text(example)
    tested = run("test", "duel")
    assert tested.exit_code == 0, tested.output
    passed = "ok      first.toml  6 steps\nok      page.toml  4 steps\n"
    assert tested.output == f"{passed}every message was accepted at least once\n"
    built = json.loads(run("build", "duel", "--json").output)
    assert Path(built["module"]).stat().st_size == built["bytes"]


def test_a_failing_test_fails_the_command_and_names_uncovered_messages(tmp_path: Path) -> None:
    """A module without its source is tested as well."""
    wasm = tmp_path / "app.wasm"
    wasm.write_bytes((build.REPOSITORY / "tests/golden/ledger-c.wasm").read_bytes())
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "x.toml").write_text('participants = ["a"]\ntables = { account = [{ owner = "@a" }] }\n')
    tested = run("test", wasm)
    assert tested.exit_code == 1
    assert "FAILED  x.toml  0 steps\n  table account: 0 rows, not as expected" in tested.output
    assert "never accepted: transfer, mint, burn" in tested.output
    (tmp_path / "tests" / "x.toml").write_text("participants = 3\n")
    assert "x.toml: Expected `array`, got `int`" in run("test", wasm).output
    (tmp_path / "tests" / "x.toml").unlink()
    assert "no tests" in run("test", wasm).output


def test_bad_names_and_folders_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "app name 'Duel'; allowed are 1-48 characters of [a-z][a-z0-9_]*" in run("new", "Duel").output
    (tmp_path / "duel").mkdir()
    (tmp_path / "duel" / "notes").write_text("mine")
    refused = run("new", "duel")
    assert refused.exit_code == 1
    assert "duel exists already" in refused.output
    assert "has 0 reducer files (none); one is needed" in run("build", "duel").output
    for name in ("a.zig", "b.c"):
        (tmp_path / "duel" / name).write_text("")
    assert "has 2 reducer files (a.zig, b.c); one is needed" in run("build", "duel").output
    assert "no such file" in run("build", "gone.zig").output


def test_a_missing_compiler_is_named_with_the_way_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCAPP_RUSTC", str(tmp_path / "none"))
    run("new", "duel", "--lang", "rust")
    missing = run("build", "duel")
    assert missing.exit_code == 1
    assert "rustup target add wasm32-unknown-unknown" in missing.output


def test_the_command_offers_every_language_that_builds() -> None:
    """The list in the command is a copy, so that `--help` need not load the compilers' module."""
    assert set(LANGUAGES) == set(build.LANGUAGES.values())
