"""The database port: what a backend is, and which abilities it declares; `embedded.py`, `server.py` and `pglite.py`
implement it.

A backend hands out plain psycopg connections. Whoever uses one asks `capabilities` before it relies on more than
SQL in short transactions.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Protocol

from scapp.channels.errors import ScappError

if TYPE_CHECKING:
    import psycopg

SERVER_VERSION_MIN = 150_000
READER = "scapp_reader"
"""Name of the role that may read everything scapp stores and change nothing."""


class DatabaseError(ScappError):
    """The database cannot be used as configured; the text says what was found and what to do."""


class ForeignDatabase(DatabaseError):
    """It belongs to another node, so nothing in it is this node's."""


class Capability(enum.StrEnum):
    """What not every backend can do. A backend declares what it has; tests check that it declares the truth."""

    ROLES = "roles"
    """Rights are enforced: a connection can be bound to the read-only role."""
    COPY_IN = "copy-in"
    """COPY FROM STDIN."""
    NOTIFY_ACROSS = "notify-across"
    """A NOTIFY reaches other connections."""
    TIMEOUTS = "timeouts"
    """statement_timeout and cancel requests stop a running statement."""
    CONCURRENT_SESSIONS = "concurrent-sessions"
    """Connections have sessions of their own: an open transaction in one does not block another."""


class Backend(Protocol):
    """Thread-safe."""

    name: str

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What this backend can do; known after `start`."""
        ...

    @property
    def dsn(self) -> str:
        """Connection string for psql and other clients; holds no password when a password file does."""
        ...

    @property
    def reader_dsn(self) -> str | None:
        """Connection string that logs in as the read-only role; None when this backend has no such login."""
        ...

    def start(self) -> None:
        """Make the database reachable; starts a server where the backend owns one. Idempotent.

        Raises DatabaseError."""
        ...

    def connect(self) -> psycopg.Connection[tuple[object, ...]]:
        """A new connection in autocommit mode with the right settings for this backend.

        Raises psycopg.OperationalError while the database is unreachable."""
        ...

    def connect_reader(self) -> psycopg.Connection[tuple[object, ...]]:
        """A new autocommit connection that cannot write, as far as this backend can enforce it."""
        ...

    def stop(self) -> None:
        """Give up what `start` took; a server that others still use goes on. Idempotent."""
        ...
