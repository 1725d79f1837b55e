"""The repository as data for the tidy tests: tracked files, modules and their imports, Markdown links."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMPONENTS = ("channels", "runtime", "reducers", "examples/game")
_SKIPPED = {".git", ".venv", "node_modules", "__pycache__", "build", "dist", ".zig-cache", "zig-out", "out"}


@functools.cache
def tracked_files() -> tuple[Path, ...]:
    """Files under version control, or, in an unpacked source archive, all that are not build products."""
    if (ROOT / ".git").exists():
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout
        paths = (ROOT / name for name in listed.decode().split("\0") if name)
        return tuple(path for path in paths if path.is_file())
    everything = (path for path in ROOT.rglob("*") if path.is_file())
    return tuple(path for path in everything if not _SKIPPED & set(path.relative_to(ROOT).parts))


def relative(path: Path) -> str:
    """The path as people write it, from the repository root."""
    return path.relative_to(ROOT).as_posix()


@dataclass(frozen=True)
class Import:
    """One import statement's target. `lazy`: inside a function, or only for type checkers."""

    name: str
    line: int
    lazy: bool


@dataclass(frozen=True)
class Function:
    """A function of a file, at whatever depth."""

    name: str
    line: int
    documented: bool


@dataclass(frozen=True)
class Source:
    """What the tests ask of a Python file. Its syntax tree is not kept: all of them take half a gigabyte."""

    path: Path
    documented: bool  # an empty file is, too
    imports: tuple[Import, ...]  # every module it may import; `from a import b` counts as `a.b`
    relative_imports: tuple[int, ...]  # their lines
    functions: tuple[Function, ...]


@functools.cache
def source(path: Path) -> Source:
    """A Python file, read and parsed once."""
    tree = ast.parse(path.read_text(), str(path))
    name = module_name(path)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    nodes = list(ast.walk(tree))
    return Source(
        path,
        not tree.body or ast.get_docstring(tree) is not None,
        imports_of(tree, package),
        tuple(node.lineno for node in nodes if isinstance(node, ast.ImportFrom) and node.level),
        tuple(
            Function(node.name, node.lineno, ast.get_docstring(node) is not None)
            for node in nodes
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ),
    )


def module_name(path: Path) -> str:
    """The dotted name of a module of the `scapp` packages; nothing for any other file."""
    for component in COMPONENTS:
        if path.is_relative_to(ROOT / component / "scapp"):
            parts = path.relative_to(ROOT / component).with_suffix("").parts
            return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    return ""


@functools.cache
def modules() -> dict[str, Source]:
    """All modules of the `scapp` packages by dotted name, whether committed yet or not."""
    paths = (path for component in COMPONENTS for path in python_files(f"{component}/scapp"))
    return {module_name(path): source(path) for path in paths}


def python_files(folder: str) -> list[Path]:
    """Every Python file under a folder of the repository."""
    return sorted((ROOT / folder).rglob("*.py"))


def imports_of(tree: ast.Module, package: str = "") -> tuple[Import, ...]:
    """Imports of any file; relative ones are resolved against `package`."""
    return tuple(_imports(tree, package, lazy=False))


def _imports(node: ast.AST, package: str, *, lazy: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, child.lineno, lazy) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            base = _absolute(child, package)
            yield from (Import(f"{base}.{alias.name}", child.lineno, lazy) for alias in child.names)
        else:
            inside = lazy or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _imports(child, package, lazy=inside or _for_checkers_only(child))


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    parts = parts[: len(parts) - (node.level - 1)]
    return ".".join([*parts, *([node.module] if node.module else [])])


def _for_checkers_only(node: ast.AST) -> bool:
    if not isinstance(node, ast.If):
        return False
    return ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}


_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)|!\[[^\]]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]*`")


def markdown_files() -> list[Path]:
    """Every tracked Markdown file, and those in docs/ that are not committed yet."""
    files = {path for path in tracked_files() if path.suffix == ".md"} | set((ROOT / "docs").rglob("*.md"))
    return sorted(files)


def links(path: Path) -> list[str]:
    """Targets of a Markdown file's links, code blocks and spans left out."""
    text = _CODE.sub("", _FENCE.sub("", path.read_text()))
    return [first or second for first, second in _LINK.findall(text)]


def headings(path: Path) -> set[str]:
    """Anchors of a Markdown file's headings, as forges derive them."""
    text = _FENCE.sub("", path.read_text())
    titles = re.findall(r"^#{1,6}\s+(.+?)\s*#*$", text, re.MULTILINE)
    slugs: set[str] = set()
    for title in titles:
        slug = re.sub(r"[^\w\- ]", "", title.replace("`", "").lower()).replace(" ", "-")
        number = 0
        while (unique := f"{slug}-{number}" if number else slug) in slugs:
            number += 1
        slugs.add(unique)
    return slugs
