"""An embedded PostgreSQL server for measures, in a folder of its own that goes with it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def folder() -> Iterator[Path]:
    """One that the server's own user can reach too, when this runs as root."""
    made = Path(tempfile.mkdtemp(prefix="scapp-bench-"))
    made.chmod(0o711 if os.geteuid() == 0 else 0o700)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


@contextmanager
def server(at: Path) -> Iterator[Any]:
    """A started backend."""
    from scapp.runtime.database.embedded import EmbeddedBackend

    backend = EmbeddedBackend(at)
    backend.start()
    try:
        yield backend
    finally:
        backend.remove()
