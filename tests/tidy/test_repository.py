"""What is committed: no addresses of registries or machines, documented modules and tests, no oversized files."""

from __future__ import annotations

import re
import tomllib

import pytest

from tests.support import tree

# Spelt in pieces so that this file does not trip over itself.
FOREIGN = re.compile(
    "|".join(
        [
            r"(?<![\w.])py" + r"pi\.org/(simple|pypi)", "files.python" + r"hosted\.org", "registry.np" + r"mjs\.org",
            "registry.yarn" + r"pkg\.com", "static.crates" + r"\.io", "proxy.golang" + r"\.org",
            r"(?<![\w.~-])/wo" + r"rk/", "/op" + r"t/(pypi|wheels)", r"(?<![\w.])/(ho" + r"me|Users)/[a-z]\w*/",
            r"--(extra-)?index-" + r"url[= ]\S+:/", r"file:" + r"///\w",
        ]
    )
)  # fmt: skip
TEXT = {
    ".py",
    ".toml",
    ".md",
    ".txt",
    ".in",
    ".sh",
    ".sql",
    ".json",
    ".js",
    ".zig",
    ".c",
    ".h",
    ".ts",
    ".wat",
    ".html",
    "",
}

LINES_MAX = 400
LONGER: dict[str, str] = {}  # path -> why it may be longer than LINES_MAX
BYTES_MAX = 1_000_000
LARGER = {  # path -> why
    "tests/golden/nitro-vectors.json": "vectors of the protocol, all sections",
}

PYTHON_FOLDERS = (*tree.COMPONENTS, "tests", "benchmarks")


def test_no_registry_addresses_or_machine_paths():
    """Where packages come from and where a checkout lies is each machine's own business."""
    found = []
    for path in tree.tracked_files():
        if path.suffix not in TEXT:
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if match := FOREIGN.search(line):
                found.append(f"{tree.relative(path)}:{number} {match.group()}")
    assert not found


@pytest.mark.parametrize(
    "line",
    [
        "--index-" + "url https://mirror.example/simple",
        "resolved https://registry.np" + "mjs.org/x.tgz",
        'ROOT = "/ho' + 'me/alice/scapp"',
    ],
)
def test_the_address_check_finds(line):
    """The pattern above matches what it is for."""
    assert FOREIGN.search(line)


def test_requirements_are_pinned_with_hashes():
    """Each locked requirement names one version and at least one sha256; nothing is fetched by address."""
    for path in sorted((tree.ROOT / "requirements").glob("*.txt")):
        text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
        lines = [line for line in text.splitlines() if line.strip()]
        assert lines, f"{path.name} is empty"
        for line in lines:
            assert re.match(r"[a-z0-9][\w.-]*(\[[\w,-]+\])?==\S+ ", line), f"{path.name}: {line[:60]}"
            assert "--hash=sha256:" in line, f"{path.name}: {line[:60]}"


def test_the_lock_covers_every_declared_dependency():
    """A dependency added to pyproject.toml must be locked: run `make lock`."""
    project = tomllib.loads((tree.ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    runtime = project["project"]["dependencies"]
    optional = [name for extra in extras.values() for name in extra]
    development = [*runtime, *project["dependency-groups"]["dev"], *optional]
    for file, wanted in (("runtime.txt", runtime), ("dev.txt", development)):
        locked = re.findall(r"^([\w.-]+)(?:\[[\w,-]+\])?==", (tree.ROOT / "requirements" / file).read_text(), re.M)
        names = {re.split(r"[\[<>=~! ]", item, maxsplit=1)[0].lower().replace("_", "-") for item in wanted}
        assert names <= set(locked), f"{file} lacks {sorted(names - set(locked))}: run `make lock`"


def test_every_dependency_has_its_reason():
    """docs/reference/dependencies.md says why each runtime dependency is there."""
    project = tomllib.loads((tree.ROOT / "pyproject.toml").read_text())
    page = (tree.ROOT / "docs/reference/dependencies.md").read_text()
    names = [re.split(r"[\[<>=~! ]", item, maxsplit=1)[0] for item in project["project"]["dependencies"]]
    assert [name for name in names if f"`{name}`" not in page] == []


def test_every_module_says_what_it_holds():
    """Each module opens with a docstring; an empty `__init__.py` needs none."""
    paths = (path for folder in PYTHON_FOLDERS for path in tree.python_files(folder))
    assert not [tree.relative(path) for path in paths if not tree.source(path).documented]


def test_every_test_states_its_behaviour():
    """A test's docstring is the sentence it proves, unless its name already is one (of five words or more)."""
    silent = []
    for path in tree.python_files("tests"):
        for function in tree.source(path).functions if path.name.startswith("test_") else ():
            if function.name.startswith("test_") and not function.documented:
                words = function.name.removeprefix("test_").split("_")
                if len(words) < 5:
                    silent.append(f"{tree.relative(path)}:{function.line} {function.name}")
    assert not silent


def test_modules_stay_readable():
    """No product module grows beyond what one reads in a sitting."""
    long = []
    for folder in tree.COMPONENTS:
        for path in tree.python_files(folder):
            lines = len(path.read_text().splitlines())
            if lines > LINES_MAX and tree.relative(path) not in LONGER:
                long.append(f"{tree.relative(path)}: {lines} lines")
    assert not long


def test_no_large_files():
    """The repository holds sources; a large file needs a reason."""
    sizes = {tree.relative(path): path.stat().st_size for path in tree.tracked_files()}
    assert [f"{name}: {size}" for name, size in sizes.items() if size > BYTES_MAX and name not in LARGER] == []


def test_nothing_is_left_to_do_in_code():
    """Unfinished work is written down in issues, not in product code."""
    marker = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|X" + r"XX)\b|NotImplementedError")
    found = []
    for folder in tree.COMPONENTS:
        for path in tree.python_files(folder):
            lines = enumerate(path.read_text().splitlines(), 1)
            found += [f"{tree.relative(path)}:{number}" for number, line in lines if marker.search(line)]
    assert not found
