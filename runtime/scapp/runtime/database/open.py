"""Chooses the backend from one configuration word: `embedded`, `pglite`, or a PostgreSQL URL."""

from __future__ import annotations

from pathlib import Path

from scapp.runtime.database.port import Backend, DatabaseError


def open_backend(database: str, data: Path) -> Backend:
    """The backend that `database` names, not started; `data` is the node's data directory, made when needed.

    `database` is `embedded` (the default of a node), `pglite`, or `postgresql://…`. Raises DatabaseError for
    anything else."""
    if database == "embedded":
        from scapp.runtime.database.embedded import EmbeddedBackend

        return EmbeddedBackend(data / "pg")
    if database == "pglite":
        from scapp.runtime.database.pglite import PgliteBackend

        return PgliteBackend(data / "pglite")
    if database.startswith(("postgresql://", "postgres://")):
        from scapp.runtime.database.server import ServerBackend

        return ServerBackend(database)
    raise DatabaseError(f"database {database!r} is not known; allowed are embedded, pglite, or a postgresql:// URL")
