"""What starting a node, the worker or the CLI may load, seen in `sys.modules` of a fresh interpreter."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

HEAVY = ("web3", "eth_account", "eth_abi", "eth_keys", "eth_utils", "pydantic", "requests")

STARTS = {
    "node": ("scapp.channels.node", "import scapp.channels.node", (*HEAVY, "aiohttp", "psycopg", "wasmtime", "rich")),
    "worker": ("scapp.runtime.worker", "import scapp.runtime.worker", (*HEAVY, "aiohttp", "rich")),
    "chain": (
        "scapp.channels.chain.service",
        "import scapp.channels.chain.service, scapp.channels.chain.fake, scapp.channels.chain.deploy",
        (*HEAVY, "aiohttp", "psycopg", "wasmtime", "rich"),
    ),
    "help": (
        "scapp.runtime.cli.main",
        "import sys; sys.argv = ['scapp', '--help']\n"
        "from scapp.runtime.cli.main import main\n"
        "try: main()\nexcept SystemExit as end: assert not end.code, end.code",
        (*HEAVY, "aiohttp", "psycopg", "wasmtime", "rocksdict", "cryptography"),
    ),
}

REPORT = """
import sys as _sys
print("\\nLOADED", *sorted({name.partition(".")[0] for name in _sys.modules}))
"""


def landed(module: str) -> bool:
    """Whether the module's file exists (its package may not, either)."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def loaded(code: str) -> set[str]:
    """Top-level packages in `sys.modules` after running the code in a new interpreter."""
    done = subprocess.run([sys.executable, "-c", code + REPORT], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("LOADED ")[2].split())


@pytest.mark.parametrize("start", STARTS)
def test_start_loads_nothing_heavy(start):
    """Each way to start loads none of the packages that would dominate its start-up time."""
    module, code, forbidden = STARTS[start]
    if not landed(module):
        pytest.fail(f"{module} does not exist")
    found = loaded(code)
    assert "scapp" in found
    assert not found & set(forbidden)


def test_the_check_would_notice():
    """The probe sees a package that is loaded (`msgspec` is, through the entry types)."""
    assert {"scapp", "msgspec"} <= loaded("import scapp.channels.entries")
