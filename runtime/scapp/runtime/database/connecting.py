"""Opening psycopg connections with scapp's settings, and asking a server what it is; used by every backend."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql

from scapp.runtime.database.port import READER, SERVER_VERSION_MIN, Capability, DatabaseError

CONNECT_TIMEOUT_S = 10
Connection = psycopg.Connection[tuple[object, ...]]


def connect(dsn: str, *, prepare: bool = True, **options: Any) -> Connection:
    """An autocommit connection: client encoding UTF8, ISO dates, UTC, and prepared statements where they are safe."""
    connection: Connection = psycopg.connect(
        dsn,
        autocommit=True,
        connect_timeout=CONNECT_TIMEOUT_S,
        client_encoding="UTF8",
        application_name="scapp",
        **options,
    )
    if not prepare:
        connection.prepare_threshold = None
    return connection


def one_line(error: Exception) -> str:
    """What an error of the database says, without the statement that PostgreSQL shows below it."""
    said = (error.diag.message_primary, error.diag.message_detail) if isinstance(error, psycopg.Error) else ()
    return " ".join((": ".join(filter(None, said)) or str(error)).split())


def check_server(connection: Connection) -> None:
    """Raises DatabaseError unless the server is PostgreSQL 15 or newer with UTF8 on both sides."""
    info = connection.info
    if info.server_version < SERVER_VERSION_MIN:
        raise DatabaseError(
            f"the server is PostgreSQL {info.parameter_status('server_version')}; scapp needs 15 or newer"
        )
    for setting in ("server_encoding", "client_encoding"):
        found = info.parameter_status(setting)
        if found != "UTF8":
            raise DatabaseError(
                f"{setting} is {found!r}; scapp needs UTF8 (CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0)"
            )


def use_reader_role(connection: Connection) -> None:
    """Take the read-only role for the session and make every transaction of it read-only."""
    connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(READER)))
    connection.execute("SET default_transaction_read_only = on")


def probe_capabilities(dsn: str) -> frozenset[Capability]:
    """What the server at `dsn` can do, found by trying it; leaves nothing behind."""
    found = {Capability.COPY_IN}
    with connect(dsn) as first, connect(dsn) as second:
        if first.info.backend_pid != second.info.backend_pid:
            found.add(Capability.CONCURRENT_SESSIONS)
            # In a session shared by all, a role that one connection takes is every connection's.
            if _can_have_roles(first):
                found.add(Capability.ROLES)
        if _stops_in_time(first):
            found.add(Capability.TIMEOUTS)
        if _notifies(first, second):
            found.add(Capability.NOTIFY_ACROSS)
    return frozenset(found)


def _can_have_roles(connection: Connection) -> bool:
    row = connection.execute(
        "SELECT (rolsuper OR rolcreaterole) OR EXISTS (SELECT FROM pg_roles r WHERE r.rolname = %s"
        " AND pg_has_role(r.oid, 'MEMBER')) FROM pg_roles WHERE rolname = current_user",
        [READER],
    ).fetchone()
    return bool(row and row[0])


def _stops_in_time(connection: Connection) -> bool:
    try:
        with connection.transaction():
            connection.execute("SET LOCAL statement_timeout = 20")
            connection.execute("SELECT pg_sleep(0.5)")
    except psycopg.errors.QueryCanceled:
        return True
    return False


def _notifies(first: Connection, second: Connection) -> bool:
    channel = f"scapp_probe_{first.info.backend_pid}"
    first.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
    second.execute("SELECT pg_notify(%s, '')", [channel])
    heard = any(True for _ in first.notifies(timeout=2, stop_after=1))
    first.execute(sql.SQL("UNLISTEN {}").format(sql.Identifier(channel)))
    return heard
