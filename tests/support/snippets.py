"""Code in the documentation: fenced blocks, and the spans of tables that have a column or a row for each language."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LANGUAGES = {"Zig": "zig", "C": "c", "Rust": "rust", "AssemblyScript": "assemblyscript"}
FENCES = {"zig": "zig", "c": "c", "rust": "rust", "ts": "assemblyscript"}
_SPAN = re.compile(r"(?<!`)(`+)(?!`)\s?(.+?)\s?\1(?!`)")


@dataclass(frozen=True)
class Snippet:
    """A piece of code and where it stands. `…` in it is for the reader to fill, and so is a type called T."""

    language: str
    code: str
    place: str

    def occurs_in(self, source: str) -> bool:
        """Whether the source has it, however it is wrapped."""
        if self.code.isidentifier() and not self.code.endswith("T"):
            return re.search(rf"\b{self.code}\b", source) is not None
        if re.fullmatch(r"[^\w\s](\s[^\w\s])+", self.code):  # a list of operators
            return all(operator in source for operator in self.code.split())
        parts = re.split(r"…|(?<![A-Za-z])T(?![A-Za-z])", self.code)
        pattern = ".{0,300}?".join(re.escape(_bare(part)) for part in parts)
        return re.search(pattern, _bare(source), re.DOTALL) is not None


def _bare(text: str) -> str:
    return re.sub(r"\s", "", text)


def blocks(page: Path, fence: str) -> list[str]:
    """What stands between ```fence and ```, in order."""
    return re.findall(rf"^```{fence}\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


def spans(text: str) -> list[str]:
    """Code between backticks, with a table's escapes undone."""
    return [code.replace("\\|", "|") for _, code in _SPAN.findall(text)]


def fenced(page: Path) -> Iterator[Snippet]:
    for fence, language in FENCES.items():
        for number, code in enumerate(blocks(page, fence), 1):
            yield Snippet(language, code, f"{page.name}, {fence} block {number}")


def tabled(page: Path) -> Iterator[Snippet]:
    """Of tables with languages for columns, or rows of a language and its code."""
    columns: dict[int, str] = {}
    for number, line in enumerate(page.read_text().splitlines(), 1):
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        place = f"{page.name}:{number}"
        named = {at: LANGUAGES[word] for at, cell in enumerate(cells) if (word := cell.split(" (")[0]) in LANGUAGES}
        if not cells:
            columns = {}
        elif list(named) == [0]:
            if len(cells) == 2:
                yield from (Snippet(named[0], code, place) for code in spans(cells[1]))
        elif named:
            columns = named
        else:
            yield from (Snippet(columns[at], code, place) for at in columns for code in spans(cells[at]))


def of_zig(page: Path) -> Iterator[Snippet]:
    """Spans that look like Zig wherever they stand on a page about it."""
    looks = re.compile(r"\bdb\.[a-z]+\(|\bscapp\.[A-Z]|\.\{|^\.\w+(\(| =)|^pub |\brows\.next")
    for number, line in enumerate(page.read_text().splitlines(), 1):
        yield from (Snippet("zig", code, f"{page.name}:{number}") for code in spans(line) if looks.search(code))
