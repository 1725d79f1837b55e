"""What every test shares: the repository root on `sys.path`, Hypothesis profiles, seeds in the header, leak check.

`SCAPP_HYPOTHESIS_PROFILE` chooses dev (default), ci or nightly. `SCAPP_SEED` fixes the seed of everything a test
draws itself (fixture `seed`); without it each run draws a new one and prints it.
"""

from __future__ import annotations

import gc
import os
import secrets
import sys
import threading
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, is_hypothesis_test, settings

RECURSION_LIMIT = sys.getrecursionlimit()
ROOT = Path(__file__).resolve().parent.parent
NOT_TRACED = {ROOT / "tests" / name for name in ("chain", "scenarios", "simulation", "spec", "stateful")}
if str(ROOT) not in sys.path:  # `from tests.support…` also where pytest is started elsewhere
    sys.path.insert(0, str(ROOT))

_SLOW_STARTS = [HealthCheck.too_slow, HealthCheck.data_too_large]  # the machine's load is not a property
settings.register_profile("dev", max_examples=25, deadline=None, suppress_health_check=_SLOW_STARTS)
settings.register_profile("ci", max_examples=50, deadline=None, suppress_health_check=_SLOW_STARTS, print_blob=True)
settings.register_profile("nightly", max_examples=2_000, deadline=None, suppress_health_check=_SLOW_STARTS)
settings.load_profile(os.environ.get("SCAPP_HYPOTHESIS_PROFILE", "dev"))


def pytest_configure(config: pytest.Config) -> None:
    """Draw the run's seed in the controlling process; workers inherit it through the environment."""
    os.environ.setdefault("SCAPP_SEED", str(secrets.randbits(32)))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Modules and tests stay to the end: the garbage collector need not walk them, now or while the tests run."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Coverage counts what tests of single parts reach. Whole lives, contracts on an EVM and drawn examples run the
    same lines thousands of times; traced, they take three times as long. Others that do say so by the same mark."""
    for item in items:
        if NOT_TRACED & set(item.path.parents) or is_hypothesis_test(getattr(item, "obj", None)):
            item.add_marker("no_cover")


def pytest_report_header(config: pytest.Config) -> str:
    """Name what a failed run needs to be repeated."""
    profile = os.environ.get("SCAPP_HYPOTHESIS_PROFILE", "dev")
    return f"scapp: SCAPP_SEED={os.environ['SCAPP_SEED']} SCAPP_HYPOTHESIS_PROFILE={profile}"


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> str:
    """A seed for `random.Random`, different for each test and the same whenever SCAPP_SEED is."""
    return f"{os.environ['SCAPP_SEED']}/{request.node.nodeid}"


@pytest.fixture(autouse=True)
def recursion_limit() -> Iterator[None]:
    """Libraries that only tests use raise the process's limit to 100,000, with which a deeply nested document
    overflows the C stack instead of being refused; the product runs with the interpreter's own limit."""
    sys.setrecursionlimit(RECURSION_LIMIT)
    yield
    sys.setrecursionlimit(RECURSION_LIMIT)


@pytest.fixture
def no_leaks() -> Iterator[None]:
    """Fail when the test leaves behind a thread that would keep the process alive, or an open descriptor."""
    threads = set(threading.enumerate())
    descriptors = _descriptors()
    yield
    left = [t.name for t in threading.enumerate() if t not in threads and t.is_alive() and not t.daemon]
    assert not left, f"threads still running: {left}"
    opened = {fd: path for fd, path in _descriptors().items() if fd not in descriptors}
    assert not opened, f"descriptors still open: {opened}"


def _descriptors() -> dict[str, str]:
    """Open descriptors of this process and what they point to (empty where /proc does not exist)."""
    found = {}
    for link in Path("/proc/self/fd").glob("*"):
        try:
            found[link.name] = str(link.readlink())
        except OSError:  # closed meanwhile; the one that lists the folder always is
            continue
    return found
