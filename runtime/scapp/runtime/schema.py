"""Schemas: the `scapp` one with its versions, the claim of a node on its database, and one schema per deployment.

`database/sql/` holds the texts, `database/write.py` fills the tables. docs/reference/tables.md describes them.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psycopg
from psycopg import sql as compose

from scapp.channels.admission import ChannelContext
from scapp.channels.deployment import Deployment, deployment_id
from scapp.channels.errors import LocalError
from scapp.channels.types import Address
from scapp.reducers.manifest import HISTORY_COLUMNS, HISTORY_PREFIX, Column, Manifest, Table, encode_manifest
from scapp.runtime.database import binary, sql
from scapp.runtime.database.binary import Raw
from scapp.runtime.database.connecting import Connection
from scapp.runtime.database.phrases import quoted
from scapp.runtime.database.port import READER, Backend, Capability, DatabaseError, ForeignDatabase
from scapp.runtime.database.write import LIVE
from scapp.runtime.history import history_table

AS_OF_PREFIX = "scapp_as_of_"
"""Of the name of the function that gives a table with history as it was."""
_LOCK = 0x5CA99  # advisory lock that keeps two processes from making schemas at the same time
_TAKEN_SCHEMAS = frozenset({"scapp", "public", "information_schema", "pg_catalog", "pg_toast"})
_log = logging.getLogger(__name__)


class AppSchema(msgspec.Struct, frozen=True, gc=False):
    """Where a deployment's tables are, and with which prefix its cursors, messages and events."""

    name: str
    manifest: Manifest
    home: str = LIVE


def prepare_database(backend: Backend, node: Address, given: Connection | None = None) -> None:
    """Make or migrate the `scapp` schema and claim it for `node`, over a given connection or its own. Idempotent.

    Raises DatabaseError when the database belongs to another node or to a newer version of scapp."""
    with _connected(backend, given) as connection:
        if Capability.ROLES in backend.capabilities:
            _make_reader_role(connection)
        with connection.transaction():
            _begin(connection)
            migrate(connection)
            _claim(connection, node)
            _grant(connection, backend, "scapp")


@contextlib.contextmanager
def _connected(backend: Backend, given: Connection | None) -> Iterator[Connection]:
    if given is not None:
        yield given
        return
    with backend.connect() as made:
        yield made


def migrate(connection: Connection, folder: Path | None = None) -> int:
    """Bring the `scapp` schema to the newest version; returns it. Runs inside the caller's transaction."""
    steps = sql.migrations(folder)
    newest = max(steps)
    found = schema_version(connection)
    if found > newest:
        raise DatabaseError(f"the database's schema is version {found}, this scapp knows up to {newest}: update scapp")
    if found == 0 and folder is None:
        connection.execute(sql.text("schema").encode())
        connection.execute("INSERT INTO scapp.schema_version (version) VALUES (%s)", [newest])
        return newest
    for version in range(found + 1, newest + 1):
        connection.execute(steps[version].encode())
        connection.execute("INSERT INTO scapp.schema_version (version) VALUES (%s)", [version])
    return newest


def schema_version(connection: Connection) -> int:
    """Version of the `scapp` schema, 0 where there is none."""
    row = connection.execute("SELECT to_regclass('scapp.schema_version') IS NOT NULL").fetchone()
    if row is None or not row[0]:
        return 0
    row = connection.execute("SELECT coalesce(max(version), 0) FROM scapp.schema_version").fetchone()
    assert row is not None
    return int(str(row[0]))


def ensure_deployment(
    backend: Backend, deployment: Deployment, manifest: Manifest, given: Connection | None = None
) -> AppSchema:
    """Make the deployment's schema and tables, once, over a given connection or one of its own; later calls find them.
    `build_indexes` is for later.

    The schema is named after the app, with the deployment's first eight digits behind it when that name is taken."""
    with _connected(backend, given) as connection:
        known = _schema_of(connection, bytes(deployment_id(deployment)))
        return AppSchema(known or _make(connection, backend, deployment, manifest), manifest)


def _schema_of(connection: Connection, identity: bytes) -> str | None:
    row = connection.execute("SELECT schema_name FROM scapp.deployments WHERE deployment = %s", [identity]).fetchone()
    return None if row is None else str(row[0])


def _make(connection: Connection, backend: Backend, deployment: Deployment, manifest: Manifest) -> str:
    """The schema that this process made, or another one meanwhile."""
    identity = bytes(deployment_id(deployment))
    with connection.transaction():
        _begin(connection)
        known = _schema_of(connection, identity)
        if known is not None:
            return known
        name = _free_name(connection, manifest.name, identity)
        for statement in deployment_ddl(name, manifest):
            connection.execute(statement.encode())
        connection.execute(
            "INSERT INTO scapp.deployments (deployment, schema_name, app, version, abi, reducer, manifest, indexed)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, false)",
            [
                identity,
                name,
                manifest.name,
                manifest.version,
                deployment.abi,
                deployment.reducer,
                encode_manifest(manifest).decode(),
            ],
        )
        _grant(connection, backend, name)
    return name


def ensure_side_schema(backend: Backend, name: str, manifest: Manifest, comment: str = "") -> AppSchema:
    """Make a schema beside the live ones, once: the manifest's tables, with cursors, messages and events of its own,
    which have reserved names. `name` must begin with `scapp_`, which no app's schema does.

    Raises LocalError when a schema of that name has another comment."""
    assert name.startswith("scapp_"), name
    schema = AppSchema(name, manifest, f"{quoted(name)}.scapp_")
    with backend.connect() as connection, connection.transaction():
        _begin(connection)
        if schema_exists(connection, name):
            if (found := schema_comment(connection, name)) != comment:
                raise LocalError(f"schema {name} belongs to {found or 'nobody'}, expected {comment or 'nobody'}")
            return schema
        for statement in (*deployment_ddl(name, manifest), *index_ddl(name, manifest)):
            connection.execute(statement.encode())
        for table in ("cursors", "messages", "events"):
            connection.execute(f"CREATE TABLE {schema.home}{table} (LIKE scapp.{table} INCLUDING ALL)".encode())
        connection.execute(
            compose.SQL("COMMENT ON SCHEMA {} IS {}").format(compose.Identifier(name), compose.Literal(comment))
        )
        _grant(connection, backend, name)
    return schema


def schema_exists(connection: Connection, name: str) -> bool:
    return connection.execute("SELECT FROM pg_namespace WHERE nspname = %s", [name]).fetchone() is not None


def schema_comment(connection: Connection, name: str) -> str:
    """What the schema's comment says, empty without one or without the schema."""
    row = connection.execute(
        "SELECT coalesce(obj_description(oid, 'pg_namespace'), '') FROM pg_namespace WHERE nspname = %s", [name]
    ).fetchone()
    return "" if row is None else str(row[0])


def rename_schema(connection: Connection, name: str, to: str) -> None:
    """Give a schema made by `ensure_side_schema` another name."""
    connection.execute(f"ALTER SCHEMA {quoted(name)} RENAME TO {quoted(to)}".encode())


def drop_schema(connection: Connection, name: str) -> None:
    """Drop a schema made by `ensure_side_schema`, if it is there."""
    assert name.startswith("scapp_"), name
    connection.execute(f"DROP SCHEMA IF EXISTS {quoted(name)} CASCADE".encode())


def register_channel(connection: Connection, context: ChannelContext, home: str = LIVE) -> None:
    """Make the channel's row, and its cursor before entry 0 at `home`. Registering again changes nothing."""
    binary.register(connection)
    parameters = [
        Raw(context.channel_id),
        Raw(deployment_id(context.deployment)),
        binary.bytea_array(context.participants),
        binary.bytea_array(asset for asset, _, _ in context.slots),
        binary.bytea_array(destination for _, destination, _ in context.slots),
        binary.text_array(amount for _, _, amount in context.slots),
    ]
    psycopg.RawCursor(connection).execute(sql.text("channel_register", home).encode(), parameters)


def deployment_ddl(schema: str, manifest: Manifest) -> Iterator[str]:
    """Statements that make a deployment's schema, tables and views.

    Every key starts with the channel, so that tables can be partitioned or spread by it."""
    yield f"CREATE SCHEMA {quoted(schema)}"
    # No name of a manifest or of a table of ours starts like the names of these constraints; all have room in 63 bytes.
    for table in manifest.tables:
        yield _table_ddl(schema, table, "scapp_key_" + table.name)
        if table.history:
            yield _table_ddl(schema, history_table(table), "scapp_versions_" + table.name)
            yield _as_of_ddl(schema, table)
    for view in manifest.views:
        names = ", ".join(("channel_id", *(quoted(name) for name in view.columns)))
        yield (
            f"CREATE VIEW {quoted(schema)}.{quoted(view.name)} WITH (security_invoker = true) AS"  # noqa: S608 - identifiers are checked, quoted
            f" SELECT {names} FROM {quoted(schema)}.{quoted(view.table)}"
        )


def index_ddl(schema: str, manifest: Manifest) -> Iterator[str]:
    """Statements that make a deployment's secondary indexes, where they are not there.

    Unique indexes of the manifest become plain ones: the kernel enforces uniqueness per message, and two rows that swap
    a value within one batch would fail against a unique index."""
    for table in manifest.tables:
        for index in table.indexes:
            names = ", ".join(("channel_id", *(quoted(name) for name in index.columns)))
            yield f"CREATE INDEX IF NOT EXISTS {quoted(index.name)} ON {quoted(schema)}.{quoted(table.name)} ({names})"


def build_indexes(connection: Connection, deployment: bytes, schema: AppSchema) -> bool:
    """Make a deployment's secondary indexes, once: after the first rows are in, which is much faster than keeping them
    up while the rows come. True when they were made now."""
    if not _lacks_indexes(connection, deployment):
        return False
    with connection.transaction():
        _begin(connection)
        if not _lacks_indexes(connection, deployment):
            return False
        for statement in index_ddl(schema.name, schema.manifest):
            connection.execute(statement.encode())
        connection.execute("UPDATE scapp.deployments SET indexed = true WHERE deployment = %s", [deployment])
    return True


def _table_ddl(schema: str, table: Table, constraint: str) -> str:
    lines = ["channel_id scapp.bytes32 NOT NULL", *(_column_ddl(column) for column in table.columns)]
    keys = ", ".join(("channel_id", *(quoted(column.name) for column in table.key_columns)))
    lines.append(f"CONSTRAINT {quoted(constraint)} PRIMARY KEY ({keys})")
    return f"CREATE TABLE {quoted(schema)}.{quoted(table.name)} (\n  " + ",\n  ".join(lines) + "\n)"


def _as_of_ddl(schema: str, table: Table) -> str:
    """The function that gives a table's rows as they were. The server puts its text into the query around it, so a
    condition on key columns is a look into the index, and parses it here, so the schema may be renamed."""
    keys = ", ".join(quoted(column.name) for column in table.key_columns)
    names = ", ".join(("channel_id", *(quoted(column.name) for column in table.columns)))
    sequence, present = HISTORY_COLUMNS
    return (
        f"CREATE FUNCTION {quoted(schema)}.{quoted(AS_OF_PREFIX + table.name)}(channel bytea, sequence bigint)"  # noqa: S608
        f" RETURNS SETOF {quoted(schema)}.{quoted(table.name)} LANGUAGE sql STABLE PARALLEL SAFE BEGIN ATOMIC\n"
        f"SELECT {names} FROM (\n"
        f"  SELECT DISTINCT ON (channel_id, {keys}) {names}, {present}\n"
        f"  FROM {quoted(schema)}.{quoted(HISTORY_PREFIX + table.name)}\n"
        f"  WHERE channel_id = $1 AND {sequence} <= $2\n"
        f"  ORDER BY channel_id, {keys}, {sequence} DESC\n"
        f") AS latest WHERE {present};\nEND"
    )


def _lacks_indexes(connection: Connection, deployment: bytes) -> bool:
    row = connection.execute("SELECT indexed FROM scapp.deployments WHERE deployment = %s", [deployment]).fetchone()
    return row is not None and not row[0]


def _column_ddl(column: Column) -> str:
    kind = f"scapp.{column.type}" if column.type in ("bytes32", "address") else column.type
    collation = ' COLLATE "C"' if column.type == "text" else ""
    return f"{quoted(column.name)} {kind}{collation}{'' if column.nullable else ' NOT NULL'}"


def _free_name(connection: Connection, app: str, identity: bytes) -> str:
    if app in _TAKEN_SCHEMAS or app.startswith("pg_") or schema_exists(connection, app):
        return f"{'app_' if app.startswith('pg_') else ''}{app}_{identity[:4].hex()}"
    return app


def _claim(connection: Connection, node: Address) -> None:
    connection.execute("INSERT INTO scapp.node (address) VALUES (%s) ON CONFLICT DO NOTHING", [bytes(node)])
    row = connection.execute("SELECT address FROM scapp.node").fetchone()
    assert row is not None
    assert isinstance(row[0], bytes)
    if row[0] != node:
        raise ForeignDatabase(
            f"this database belongs to node 0x{row[0].hex()}, and this is 0x{node.hex()}: "
            "every node needs a database of its own"
        )


def _make_reader_role(connection: Connection) -> None:
    name = compose.Identifier(READER)
    if connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [READER]).fetchone() is None:
        try:
            connection.execute(compose.SQL("CREATE ROLE {} NOLOGIN").format(name))
        except (psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
            _log.debug("another process made role %s at the same moment", READER)
    row = connection.execute(
        "SELECT rolsuper OR pg_has_role(%s, 'MEMBER') FROM pg_roles WHERE rolname = current_user", [READER]
    ).fetchone()
    if row is None or not row[0]:
        connection.execute(compose.SQL("GRANT {} TO CURRENT_USER").format(name))


def _grant(connection: Connection, backend: Backend, schema: str) -> None:
    if Capability.ROLES in backend.capabilities:
        connection.execute(sql.text("reader_grants").format(schema=quoted(schema)).encode())


def _begin(connection: Connection) -> None:
    """One at a time, and durable: the log refills lost rows, but not lost tables under a worker that knows of them."""
    connection.execute("SET LOCAL synchronous_commit = on")
    connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
