"""A user's SQL: what is answered, in which form, and how everything else is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from scapp.runtime.database.embedded import EmbeddedBackend
from scapp.runtime.database.port import Backend
from scapp.runtime.database.server import ServerBackend
from scapp.runtime.queries import RESULT_BYTES_MAX, BadQuery, DatabaseDown, QueryTimeout, run_query
from scapp.runtime.schema import prepare_database
from tests.support.postgres import NODE


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("'\\x00ff'::bytea", "0x00ff"),
        (str(2**256 - 1), str(2**256 - 1)),
        ("1.50::numeric", "1.50"),
        ("'NaN'::numeric", "NaN"),
        ("9223372036854775807", 2**63 - 1),
        ("1.5::float8", 1.5),
        ("'NaN'::float8", "NaN"),
        ("'-Infinity'::float8", "-Infinity"),
        ("true", True),
        ("NULL", None),
        ("'ü'::text", "ü"),
        ("'2026-11-23 05:00:00.25+00'::timestamptz", "2026-11-23T05:00:00.25+00"),
        ("'294276-12-31 00:00:00+00'::timestamptz", "294276-12-31 00:00:00+00"),
        ("'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        ("'{\"a\": [1, null]}'::json", {"a": [1, None]}),
        ("ARRAY['\\x01'::bytea, NULL]", ["0x01", None]),
        ("ARRAY[1::numeric]", ["1"]),
        ("interval '1 day'", "1 day"),
    ],
)
def test_values_take_a_form_that_json_holds(embedded: EmbeddedBackend, expression: str, value: Any) -> None:
    result = run_query(prepared(embedded), f"SELECT {expression} AS v")
    assert result.rows == ((value,),)
    assert json.loads(json.dumps(result.rows)) == [[value]]


def prepared(backend: Backend) -> Backend:
    prepare_database(backend, NODE)
    return backend


def test_columns_parameters_and_truncation(backend: Backend) -> None:
    """Columns parameters and truncation."""
    prepare_database(backend, NODE)
    result = run_query(backend, "SELECT g AS number, 't' AS letter FROM generate_series(1, $1::int) g", [5], rows_max=3)
    assert [(column.name, column.type) for column in result.columns] == [("number", "int4"), ("letter", "text")]
    assert result.rows == ((1, "t"), (2, "t"), (3, "t"))
    assert result.truncated
    empty = run_query(backend, "SELECT 1 AS one, 'é' AS \"é\" WHERE 1 = $1::int", [2])
    assert not empty.rows
    assert [(column.name, column.type) for column in empty.columns] == [("one", "int4"), ("é", "text")]
    assert not run_query(backend, "VALUES (1), (2)", rows_max=2).truncated


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("SELEC 1", 'syntax error at or near "SELEC" at character 1'),
        ("SELECT nope", "does not exist"),
        ("SELECT 1; SELECT 2", "multiple commands"),
        ("", "no rows"),
        ("SELECT 1/0", "division by zero"),
        ("SELECT $1::int", "parameter"),
        ("INSERT INTO scapp.schema_version VALUES (9)", "read-only|permission denied"),
        ("WITH a AS (DELETE FROM scapp.node RETURNING 1) SELECT * FROM a", "read-only|permission denied"),
        ("CREATE TABLE public.t (a int)", "read-only|permission denied"),
        ("COPY scapp.node TO '/tmp/x'", "permission denied|read-only|no rows|COPY"),
        ("SET default_transaction_read_only = off", "no rows"),
    ],
)
def test_what_is_wrong_is_said(backend: Backend, statement: str, words: str) -> None:
    if backend.name == "pglite" and statement.startswith("COPY"):
        pytest.skip("pglite lacks roles")
    prepare_database(backend, NODE)
    with pytest.raises(BadQuery, match=words):
        run_query(backend, statement)
    assert run_query(backend, "SELECT count(*) FROM scapp.node").rows == ((1,),)


def test_the_embedded_reader_cannot_take_more_rights(embedded: EmbeddedBackend) -> None:
    prepare_database(embedded, NODE)
    with pytest.raises(BadQuery, match="permission denied"):
        run_query(embedded, "SELECT set_config('role', 'scapp', false)")
    with pytest.raises(BadQuery, match="permission denied"):
        run_query(embedded, "SELECT pg_read_file('/etc/passwd')")


def test_too_long_is_ended(embedded: EmbeddedBackend) -> None:
    """A statement over its time is ended and said to be."""
    prepare_database(embedded, NODE)
    with pytest.raises(QueryTimeout, match=r"longer than the 0\.05 s"):
        run_query(embedded, "SELECT pg_sleep(60)", timeout_s=0.05)


def test_a_huge_result_is_neither_held_nor_waited_for(embedded: EmbeddedBackend) -> None:
    prepare_database(embedded, NODE)
    result = run_query(embedded, "SELECT generate_series(1, 1000000000)", rows_max=10)
    assert len(result.rows) == 10


def test_a_database_that_is_down_is_said_so() -> None:
    backend = ServerBackend("postgresql://user@127.0.0.1:1/db", "postgresql://user@127.0.0.1:1/db")
    with pytest.raises(DatabaseDown, match="cannot answer now"):
        run_query(backend, "SELECT 1")


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT repeat('x', 1000000) FROM generate_series(1, 1000000)",
        "SELECT array_fill(1, ARRAY[100000]) FROM generate_series(1, 1000000)",
        f"SELECT repeat('x', {RESULT_BYTES_MAX + 1})",
    ],
)
def test_a_result_is_bounded_in_bytes(embedded: EmbeddedBackend, statement: str) -> None:
    """Rows within the limit may still be larger than memory; the session is given up at once."""
    with pytest.raises(BadQuery, match="larger than 16777216 bytes"):
        run_query(prepared(embedded), statement, timeout_s=60)
    assert run_query(embedded, "SELECT 1").rows == ((1,),)
