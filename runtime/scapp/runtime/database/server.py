"""Any PostgreSQL from 15 by URL; nothing is started or stopped. `embedded.py` is the default instead."""

from __future__ import annotations

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from scapp.runtime.database import connecting
from scapp.runtime.database.port import Capability, DatabaseError


class ServerBackend:
    """`reader_url` logs in as the read-only role; without it the reader is the same login bound to that role."""

    name = "server"

    def __init__(self, url: str, reader_url: str | None = None) -> None:
        self._dsn = _checked(url)
        self._reader_dsn = _checked(reader_url) if reader_url else None
        self._capabilities: frozenset[Capability] | None = None

    @property
    def capabilities(self) -> frozenset[Capability]:
        if self._capabilities is None:
            raise DatabaseError("the database's capabilities are known once it is started")
        return self._capabilities

    @property
    def dsn(self) -> str:
        return self._dsn

    @property
    def reader_dsn(self) -> str | None:
        return self._reader_dsn

    def start(self) -> None:
        if self._capabilities is not None:
            return
        try:
            with connecting.connect(self._dsn) as connection:
                connecting.check_server(connection)
            self._capabilities = connecting.probe_capabilities(self._dsn)
        except psycopg.OperationalError as error:
            raise DatabaseError(f"cannot connect to {_public(self._dsn)}: {error}") from error

    def connect(self) -> connecting.Connection:
        return connecting.connect(self._dsn)

    def connect_reader(self) -> connecting.Connection:
        connection = connecting.connect(self._reader_dsn or self._dsn)
        if self._reader_dsn is None and Capability.ROLES in self.capabilities:
            connecting.use_reader_role(connection)
        return connection

    def stop(self) -> None:
        self._capabilities = None


def _checked(url: str) -> str:
    try:
        return make_conninfo(url)
    except psycopg.ProgrammingError as error:
        raise DatabaseError(f"the database URL cannot be read: {error}") from error


def _public(dsn: str) -> str:
    """The connection string without its secrets."""
    return " ".join(f"{key}={value}" for key, value in conninfo_to_dict(dsn).items() if "password" not in key)
