"""The manifest: every limit is refused with the offender's name and what is allowed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from scapp.reducers.manifest import (
    DOCUMENT_BYTES_MAX,
    HISTORY_COLUMNS,
    SYSTEM_COLUMNS,
    ManifestError,
    encode_manifest,
    parse_manifest,
)


def document(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "name": "ledger",
        "version": "1.0.0",
        "tables": [
            {
                "name": "account",
                "columns": [
                    {"name": "owner", "type": "address"},
                    {"name": "balance", "type": "numeric", "default": "5"},
                    {"name": "note", "type": "json", "nullable": True},
                ],
                "key": 1,
                "indexes": [{"name": "by_balance", "columns": ["balance"]}],
            }
        ],
    }
    return base | changes


def table(**changes: Any) -> dict[str, Any]:
    return document(tables=[document()["tables"][0] | changes])


def column(**changes: Any) -> dict[str, Any]:
    return table(columns=[{"name": "id", "type": "int8"}, {"name": "x", "type": "text"} | changes], indexes=[])


def parse(value: object) -> Any:
    return parse_manifest(json.dumps(value).encode())


def test_a_full_document_survives_a_round_trip() -> None:
    manifest = parse(
        document(
            views=[{"name": "rich", "table": "account", "columns": ["owner"]}],
            messages=[{"name": "pay", "fields": [{"name": "to", "type": "bytes", "description": "payee"}]}],
        )
    )
    assert parse_manifest(encode_manifest(manifest)) == manifest
    assert [item.name for item in manifest.tables[0].key_columns] == ["owner"]


def test_history_is_asked_for_and_reserves_its_columns_only_there() -> None:
    """Tables without it may have columns of these names."""
    assert parse(table(history=True)).tables[0].history
    assert [parse(column(name=name)).tables[0].history for name in HISTORY_COLUMNS] == [False, False]


def test_sql_keywords_are_ordinary_names() -> None:
    assert parse(column(name="select")).tables[0].columns[1].name == "select"


REFUSED: list[tuple[Any, str]] = [
    ([], "not a valid document"),
    (document(colour="red"), "colour"),
    (document(abi="scapp_2"), "abi 'scapp_2'; this version runs 'scapp_1'"),
    (document(name="Ledger"), r"app name 'Ledger'; allowed are 1-48 characters of \[a-z\]"),
    (document(name="a" * 49), "1-48 characters"),
    (document(version="1 0"), "version '1 0'"),
    (document(encoding="xml"), "xml"),
    (document(tables=[]), "0 tables; allowed are 1 to 64"),
    (document(tables=document()["tables"] * 2), "'account' appears twice"),
    (table(name="scapp_x"), "'scapp_x' is reserved"),
    (table(name="pg_x"), "'pg_x' is reserved"),
    (table(name="skipped"), "'skipped' is reserved"),
    (table(name='a"; drop'), "allowed are 1-48"),
    (table(key=0), "key 0 of table account; allowed are 1 to 3"),
    (table(key=4), "key 4 of table account"),
    (table(key=3, indexes=[]), "key column balance of table account"),
    (table(columns=[]), "0 columns in table account; allowed are 1 to 250"),
    (table(columns=[{"name": f"c{i}", "type": "bool"} for i in range(251)], indexes=[]), "251 columns"),
    (table(columns=[{"name": f"c{i}", "type": "bool"} for i in range(20)], key=17, indexes=[]), "key 17 .* 1 to 16"),
    (table(columns=[{"name": "j", "type": "json"}], indexes=[]), "key column j of table account .json."),
    (table(columns=[{"name": "f", "type": "float8"}], indexes=[]), "key column f"),
    (table(columns=[{"name": "f", "type": "int8", "nullable": True}], indexes=[]), "key column f .* NOT NULL"),
    (column(name="channel_id"), "'channel_id' of table account is reserved"),
    *(
        (
            table(
                columns=[{"name": "a", "type": "int8"}, {"name": name, "type": "int8"}], indexes=[], history=True, key=1
            ),
            f"column {name} of table account is reserved in a table with history",
        )
        for name in HISTORY_COLUMNS
    ),
    (table(history=1), "history"),
    *((column(name=name), f"'{name}' of table account is PostgreSQL's own") for name in sorted(SYSTEM_COLUMNS)),
    (column(name="id"), "'id' appears twice"),
    (column(type="varchar"), "varchar"),
    (column(type="int2", default=40_000), "default 40000 of column x"),
    (column(type="bool", default=1), "default 1"),
    (column(type="int8", default=True), "default True"),
    (column(type="numeric", default="-1"), "default '-1'"),
    (column(type="numeric", default=str(2**256)), "default"),
    (column(type="text", default="\0"), "default"),
    (column(type="uuid", default="x"), "does not fit type uuid"),
    (table(indexes=[{"name": "i", "columns": ["nope"]}]), "names column 'nope'; the table has balance, note, owner"),
    (table(indexes=[{"name": "i", "columns": ["note"]}]), "column note of type json"),
    (table(indexes=[{"name": "i", "columns": []}]), "0 columns in index i"),
    (table(indexes=[{"name": "i", "columns": ["owner", "owner"]}]), "'owner' appears twice"),
    (table(indexes=[{"name": "account", "columns": ["owner"]}]), "'account' appears twice"),
    (document(views=[{"name": "v", "table": "t", "columns": ["owner"]}]), "names table 't'; the tables are account"),
    (document(views=[{"name": "v", "table": "account", "columns": ["z"]}]), "names column 'z'"),
    (document(messages=[{"name": "m"}, {"name": "m"}]), "'m' appears twice among messages"),
    (document(messages=[{"name": "m", "fields": [{"name": "F"}]}]), "field of message m 'F'"),
]


@pytest.mark.parametrize(("value", "text"), REFUSED)
def test_what_breaks_a_limit_is_refused_by_name(value: Any, text: str) -> None:
    with pytest.raises(ManifestError, match=text):
        parse(value)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" * 100_000, b" " * (DOCUMENT_BYTES_MAX + 1)])
def test_bytes_that_are_no_document_are_refused(data: bytes) -> None:
    with pytest.raises(ManifestError):
        parse_manifest(data)
