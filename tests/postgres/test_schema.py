"""Schemas: fresh and migrated ones agree, names never clash, hostile manifests make valid SQL."""

from __future__ import annotations

from pathlib import Path

import pytest

from scapp.channels.deployment import Deployment, deployment_id
from scapp.reducers.manifest import Column, Manifest, Table, View, check_manifest
from scapp.runtime.database import sql
from scapp.runtime.database.connecting import Connection
from scapp.runtime.database.embedded import EmbeddedBackend
from scapp.runtime.schema import ensure_deployment, migrate, prepare_database, schema_version
from tests.support.postgres import DEPLOYMENT, NODE, SHOP, rows_of

# Everything the catalog says of the schema's objects, in an order that does not depend on how they came about.
_CATALOG = """
SELECT c.relname, c.relkind::text, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
       coalesce(pg_get_expr(d.adbin, d.adrelid), ''), coalesce(l.collname, ''), a.attidentity::text
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum LEFT JOIN pg_collation l ON l.oid = a.attcollation
WHERE c.relnamespace = 'scapp'::regnamespace
UNION ALL
SELECT conname, contype::text, pg_get_constraintdef(oid), '', false, '', '', '' FROM pg_constraint
WHERE connamespace = 'scapp'::regnamespace
UNION ALL
SELECT indexname, 'index', indexdef, '', false, '', '', '' FROM pg_indexes WHERE schemaname = 'scapp'
ORDER BY 1, 2, 3
"""


def catalog(connection: Connection) -> list[tuple[object, ...]]:
    return rows_of(connection, _CATALOG)


def test_a_migrated_schema_is_the_fresh_one(embedded: EmbeddedBackend) -> None:
    with embedded.connect() as connection:
        with connection.transaction():
            migrate(connection)
        fresh = catalog(connection)
        connection.execute("DROP SCHEMA scapp CASCADE")
        with connection.transaction():
            migrate(connection, Path(sql.__file__).parent / "migrations")
        assert catalog(connection) == fresh
        assert len(fresh) > 50


def test_only_missing_migrations_are_applied_and_a_failing_one_leaves_nothing(
    embedded: EmbeddedBackend, tmp_path: Path
) -> None:
    (tmp_path / "0001.sql").write_text(sql.migrations()[1])
    with embedded.connect() as connection:
        with connection.transaction():
            assert migrate(connection, tmp_path) == 1
        (tmp_path / "0002.sql").write_text("CREATE TABLE scapp.extra (a int)")
        (tmp_path / "0003.sql").write_text("CREATE TABLE scapp.extra (a int)")
        with pytest.raises(Exception, match="already exists"), connection.transaction():
            migrate(connection, tmp_path)
        assert schema_version(connection) == 1
        (tmp_path / "0003.sql").unlink()
        for _ in range(2):
            with connection.transaction():
                assert migrate(connection, tmp_path) == 2
        assert rows_of(connection, "SELECT version FROM scapp.schema_version ORDER BY 1") == [(1,), (2,)]


def test_a_deployment_gets_one_schema_named_after_its_app(embedded: EmbeddedBackend) -> None:
    prepare_database(embedded, NODE)
    assert ensure_deployment(embedded, DEPLOYMENT, SHOP).name == "shop"
    assert ensure_deployment(embedded, DEPLOYMENT, SHOP).name == "shop"
    other = Deployment(b"\2" * 32)
    name = ensure_deployment(embedded, other, SHOP).name
    assert name == f"shop_{bytes(deployment_id(other))[:4].hex()}"
    assert ensure_deployment(embedded, other, SHOP).name == name


@pytest.mark.parametrize("name", ["scapp", "public", "information_schema", "pg_mine", "select", "user", "a" * 48])
def test_any_app_name_makes_a_schema(embedded: EmbeddedBackend, name: str) -> None:
    prepare_database(embedded, NODE)
    manifest = Manifest(name, "1", (Table("t", (Column("a", "int4"),), 1),))
    check_manifest(manifest)
    schema = ensure_deployment(embedded, DEPLOYMENT, manifest).name
    assert schema not in ("scapp", "public", "information_schema")
    with embedded.connect() as connection:
        assert rows_of(connection, f'SELECT count(*) FROM "{schema}".t') == [(0,)]


def test_the_widest_manifest_makes_valid_sql(embedded: EmbeddedBackend) -> None:
    """250 columns with the longest names, 16 of them keys, and a view over all."""
    prepare_database(embedded, NODE)
    columns = tuple(Column(f"c{number:03}" + "x" * 44, "numeric") for number in range(250))
    table = Table("t" * 48, columns, 16)
    manifest = Manifest("wide", "1", (table,), views=(View("v" * 48, table.name, tuple(c.name for c in columns)),))
    check_manifest(manifest)
    ensure_deployment(embedded, DEPLOYMENT, manifest)
    with embedded.connect() as connection:
        assert rows_of(connection, f"SELECT count(*) FROM wide.{'v' * 48}") == [(0,)]
