"""The documentation holds together: links resolve, every page is reachable, every decision is in the index."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import tree

DOCS = tree.ROOT / "docs"
DECISIONS = DOCS / "adrs"
SECTIONS = ("Context", "Options", "Decision", "Consequences", "How we check it")


def target_of(page: Path, link: str) -> tuple[Path, str] | None:
    """File and anchor a relative link points to; None for addresses elsewhere."""
    if re.match(r"[a-z][a-z0-9+.-]*:", link):
        return None
    path, _, anchor = link.partition("#")
    return ((page.parent / path).resolve() if path else page), anchor


def decisions() -> list[Path]:
    """The decision records, in order of their numbers."""
    return sorted(DECISIONS.glob("[0-9][0-9][0-9][0-9]-*.md"))


def test_links_resolve():
    """Each relative link names a file that exists, and each anchor a heading in it."""
    broken = []
    for page in tree.markdown_files():
        for link in tree.links(page):
            if (target := target_of(page, link)) is None:
                continue
            path, anchor = target
            if not path.exists():
                broken.append(f"{tree.relative(page)}: {link} (no such file)")
            elif anchor and path.suffix == ".md" and anchor not in tree.headings(path):
                broken.append(f"{tree.relative(page)}: {link} (no such heading)")
    assert not broken


def test_every_page_is_reachable():
    """From docs/README.md links lead to every page."""
    seen: set[Path] = set()
    waiting = [DOCS / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in seen or page.suffix != ".md" or not page.exists():
            continue
        seen.add(page)
        waiting += [target[0] for link in tree.links(page) if (target := target_of(page, link))]
    assert sorted(tree.relative(page) for page in set(DOCS.rglob("*.md")) - seen) == []


def test_named_pages_exist():
    """Pages that code, tests and the README name as `docs/….md` exist."""
    missing = []
    for path in tree.tracked_files():
        if path.suffix in {".py", ".toml", ".sh", ".zig", ".sql", ".md"}:
            names = re.findall(r"\bdocs/[\w/.-]+?\.md\b", path.read_text(errors="replace"))
            missing += [f"{tree.relative(path)}: {name}" for name in names if not (tree.ROOT / name).exists()]
    assert not missing


def test_every_decision_is_in_the_index():
    """docs/adrs/README.md lists each record once, with the status the record itself states."""
    index = (DECISIONS / "README.md").read_text()
    assert decisions()
    for record in decisions():
        rows = [line for line in index.splitlines() if f"]({record.name})" in line]
        assert len(rows) == 1, f"{record.name}: {len(rows)} rows in the index"
        assert status(record) in rows[0].lower(), f"{record.name} is {status(record)!r}, the index says {rows[0]!r}"


def status(record: Path) -> str:
    """The record's status in one word."""
    found = re.search(r"^\W*status\W+(accepted|proposed|superseded|rejected)", record.read_text(), re.I | re.M)
    assert found, f"{record.name} states no status (accepted, proposed, superseded or rejected)"
    return found.group(1).lower()


def test_numbers_of_decisions_are_unique():
    """A number names one decision for good."""
    numbers = [record.name[:4] for record in decisions()]
    assert len(numbers) == len(set(numbers))


def test_decisions_have_all_sections():
    """Each record says what was weighed, what follows from it, and how it is checked."""
    for record in [*decisions(), DECISIONS / "template.md"]:
        titles = re.findall(r"^## (.+)$", record.read_text(), re.MULTILINE)
        missing = [s for s in SECTIONS if not any(title.lower().startswith(s.lower()) for title in titles)]
        assert not missing, f"{record.name} lacks {missing}"


CHECK = re.compile(r"`((?:[\w-]+/)*(?:test_\w+|\w+_contract|g\d+_\w+|s\d+_\w+)\.py|tests/\w+(?:/\w+\.py)?)`")


def test_accepted_decisions_name_what_checks_them():
    """The last section of an accepted record names tests or measures, and what it names exists."""
    paths = [f"/{tree.relative(path)}" for path in tree.tracked_files()]
    for record in decisions():
        named = CHECK.findall(record.read_text().partition("## How we check it")[2])
        missing = [n for n in named if not any(p.endswith(f"/{n}") or f"/{n}/" in p for p in paths)]
        assert not missing, f"{record.name} names {missing}"
        assert named or status(record) != "accepted", f"{record.name} names no test"


def systemd_complaints(unit: str, folder: Path) -> list[str]:
    """What `systemd-analyze verify` says of a unit whose program is not installed here."""
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("no systemd-analyze (Debian's package systemd)")
    file = folder / "documented.service"
    file.write_text(re.sub(r"(?m)^(ExecStart=)\S+", r"\1/bin/true", unit))
    said = subprocess.run([tool, "verify", "--man=no", str(file)], capture_output=True, text=True, timeout=60)
    return [line for line in said.stderr.splitlines() if file.name in line]


def test_units_for_systemd_are_ones(tmp_path: Path):
    """Every directive is known there and has a value that it takes."""
    (unit,) = re.findall(r"(?s)```ini\n(.*?)```", (DOCS / "howto" / "operate.md").read_text())
    assert "KillMode=" in unit
    wrong = unit.replace("RestartSec=5", "RestartSec=soon").replace("KillMode=", "KillModes=")
    found = systemd_complaints(wrong, tmp_path)
    if not found:
        pytest.skip("systemd-analyze judges no units here")
    assert len(found) == 2, found
    assert systemd_complaints(unit, tmp_path) == []


def test_named_tests_exist():
    """Tests that the documentation names, by function or by file."""
    files = [path for path in tree.tracked_files() if tree.relative(path).startswith("tests/") and path.suffix == ".py"]
    known = {path.stem for path in files}
    known.update(name for path in files for name in re.findall(r"\bdef (test_\w+)", path.read_text()))
    pages = [path for path in tree.tracked_files() if path.suffix == ".md"]
    missing = [
        f"{tree.relative(page)}: {name}"
        for page in pages
        for name in re.findall(r"\btest_\w*[a-z0-9]\b", page.read_text())
        if name not in known
    ]
    assert not missing


def test_readme_opens_with_what_it_is_and_the_two_commands():
    """The first screen (40 lines) of the README names the purpose and the commands that run and test it."""
    first = (tree.ROOT / "README.md").read_text().splitlines()[:40]
    assert "make demo" in "\n".join(first)
    assert "make test" in "\n".join(first)
    assert any("co-signed" in line for line in first)


def test_changelog_has_the_current_version_or_unreleased():
    """Whoever upgrades finds what changed."""
    assert re.search(r"^## \[Unreleased\]", (tree.ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
