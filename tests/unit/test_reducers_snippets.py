"""What the documentation shows of reducers, in each language, has been compiled: it stands in `tests/snippets`."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from scapp.reducers import build
from scapp.reducers.toolchain import ToolchainMissing
from scapp.runtime.cli.main import scapp
from scapp.runtime.module import check_module
from tests.support.snippets import Snippet, blocks, fenced, of_zig, tabled
from tests.support.tree import ROOT

DOCS = ROOT / "docs"
SOURCES = sorted((ROOT / "tests" / "snippets").iterdir())
HIDDEN = DOCS / "howto" / "hidden-moves.md"
WHOLE = (DOCS / "tutorial" / "first-reducer.md", HIDDEN)  # their blocks are whole reducers, which other tests run


def shown() -> list[Snippet]:
    pages = [page for page in DOCS.rglob("*.md") if page not in WHOLE and "adrs" not in page.parts]
    zig = [DOCS / "reference" / "zig-sdk.md", *(DOCS / "howto").glob("*.md"), *(DOCS / "explanation").glob("*.md")]
    of = [(fenced, pages), (tabled, pages), (of_zig, zig)]
    return [each for find, places in of for page in places for each in find(page)]


def built(source: Path, out: Path) -> Path:
    """The module; the test is skipped where the compiler is one that need not be there, and is not."""
    try:
        build.build_reducer(source, out, quick=True)
    except ToolchainMissing as error:
        if build.language_of(source) not in build.OPTIONAL:
            raise
        pytest.skip(str(error))
    return out


@pytest.mark.parametrize("language", build.LANGUAGES.values())
def test_what_pages_show_stands_in_a_source_that_compiles(language: str) -> None:
    sources = [path.read_text() for path in SOURCES if build.language_of(path) == language]
    found = [each for each in shown() if each.language == language]
    assert len(found) > 40, "the tables have been found"
    missing = [each for each in found if not any(each.occurs_in(source) for source in sources)]
    assert not missing, "\n".join(f"{each.place}: {each.code}" for each in missing)


def test_the_table_of_sizes_is_of_these_modules() -> None:
    """`make bench ONLY=S5` makes it, with the speeds that only a measure can tell."""
    page = (DOCS / "reference" / "sdks.md").read_text()
    for name, folder, module in (
        ("Zig", "reducers/scapp/reducers/library", "ledger"), ("C", "tests/golden", "ledger-c"),
        ("Rust", "tests/golden", "ledger-rust"), ("AssemblyScript", "tests/golden", "ledger-assemblyscript"),
    ):  # fmt: skip
        assert f"| {name} | {(ROOT / folder / f'{module}.wasm').stat().st_size:,} bytes |" in page


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES, ids=[path.name for path in SOURCES])
def test_the_sources_of_snippets_compile_to_modules(source: Path, tmp_path: Path) -> None:
    """And what they declare passes the checks of `deploy`."""
    assert check_module(built(source, tmp_path / "out.wasm").read_bytes()).manifest.tables


@pytest.mark.slow
@pytest.mark.parametrize(("fence", "suffix"), [("zig", ".zig"), ("rust", ".rs")])
def test_the_game_with_hidden_moves_passes_its_test(fence: str, suffix: str, tmp_path: Path) -> None:
    """Whichever way it runs; and silence pays what the page says."""
    (source,), (document,), (stalls,) = (blocks(HIDDEN, each) for each in (fence, "toml", "text"))
    folder = tmp_path / "tests"
    folder.mkdir()
    (folder / "first.toml").write_text(document)
    (tmp_path / f"rps{suffix}").write_text(source)
    wasm = built(tmp_path / f"rps{suffix}", tmp_path / "rps.wasm")
    tested = CliRunner().invoke(scapp, ["test", str(wasm), "--determinism", "--stall"])
    assert tested.exit_code == 0, tested.output
    assert "every message was accepted at least once" in tested.output
    assert all(line in tested.output for line in stalls.splitlines())
