"""What the documentation shows of reducers, in each language, has been compiled: it stands in `tests/snippets`."""

from __future__ import annotations

from pathlib import Path

import pytest

from scapp.reducers import build
from scapp.runtime.module import check_module
from tests.support.snippets import Snippet, fenced, of_zig, tabled
from tests.support.tree import ROOT

DOCS = ROOT / "docs"
SOURCES = sorted((ROOT / "tests" / "snippets").iterdir())
TUTORIAL = DOCS / "tutorial" / "first-reducer.md"  # its blocks are run by a test of its own


def shown() -> list[Snippet]:
    pages = [page for page in DOCS.rglob("*.md") if page != TUTORIAL and "adrs" not in page.parts]
    zig = [DOCS / "reference" / "zig-sdk.md", *(DOCS / "howto").glob("*.md"), *(DOCS / "explanation").glob("*.md")]
    return [
        each for of, pages in ((fenced, pages), (tabled, pages), (of_zig, zig)) for page in pages for each in of(page)
    ]


@pytest.mark.parametrize("language", build.LANGUAGES.values())
def test_what_pages_show_stands_in_a_source_that_compiles(language: str) -> None:
    sources = [path.read_text() for path in SOURCES if build.language_of(path) == language]
    found = [each for each in shown() if each.language == language]
    assert len(found) > 40, "the tables have been found"
    missing = [each for each in found if not any(each.occurs_in(source) for source in sources)]
    assert not missing, "\n".join(f"{each.place}: {each.code}" for each in missing)


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES, ids=[path.name for path in SOURCES])
def test_the_sources_of_snippets_compile_to_modules(source: Path, tmp_path: Path) -> None:
    """And what they declare passes the checks of `deploy`."""
    out = tmp_path / "out.wasm"
    try:
        build.build_reducer(source, out, quick=True)
    except build.ToolchainMissing as error:
        if build.language_of(source) not in build.OPTIONAL:
            raise
        pytest.skip(str(error))
    assert check_module(out.read_bytes()).manifest.tables
