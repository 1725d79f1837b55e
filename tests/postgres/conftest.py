"""The backends, one of each for all tests of a run; every test starts with an empty database."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from scapp.runtime.database.binaries import find_system_binaries
from scapp.runtime.database.embedded import EmbeddedBackend
from scapp.runtime.database.pglite import PgliteBackend
from scapp.runtime.database.port import Backend, Capability, DatabaseError
from scapp.runtime.database.server import ServerBackend
from tests.support.folders import open_folder
from tests.support.postgres import as_server, reset, running_embedded

BACKENDS = ("embedded", "server", "pglite")


@pytest.fixture(scope="session")
def embedded_backend() -> Iterator[EmbeddedBackend]:
    """The embedded PostgreSQL, from its wheel."""
    with running_embedded("scapp-embedded-") as backend:
        yield backend


@pytest.fixture(scope="session")
def server_backend() -> Iterator[ServerBackend]:
    """A server by URL: the operating system's PostgreSQL where there is one, else a second one from the wheel."""
    with running_embedded("scapp-server-", find_system_binaries()) as server:
        backend = as_server(server)
        backend.start()
        yield backend
        backend.stop()


@pytest.fixture(scope="session")
def pglite_backend() -> Iterator[PgliteBackend]:
    """PGlite, where Node and npm's packages are to be had."""
    folder = open_folder("scapp-pglite-")
    backend = PgliteBackend(folder / "pglite")
    try:
        backend.start()
    except DatabaseError as error:
        pytest.skip(f"PGlite is not available here: {error}")
    yield backend
    backend.stop()
    shutil.rmtree(folder)


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    """Each backend in turn; a test marked with `needs` is skipped where the backend lacks that capability."""
    chosen: Backend = request.getfixturevalue(f"{request.param}_backend")
    needed: Capability | None = getattr(request.function, "needs", None)
    if needed is not None and needed not in chosen.capabilities:
        pytest.skip(f"{chosen.name} lacks {needed.value}")
    reset(chosen)
    return chosen


@pytest.fixture
def embedded(embedded_backend: EmbeddedBackend) -> EmbeddedBackend:
    """The embedded backend alone, empty."""
    reset(embedded_backend)
    return embedded_backend
