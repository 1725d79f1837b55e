"""The manifest a reducer carries: tables, columns, keys, indexes and hints for tooling, parsed and checked.

Neighbour: `scapp.runtime.module` reads the document out of the module; `scapp.runtime.rows` turns tables into codecs.
Every limit exists so that nothing a reducer writes later can be refused by PostgreSQL.
The format is described in docs/reference/manifest.md.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Literal

import msgspec

ABI = "scapp_1"
DOCUMENT_BYTES_MAX = 262_144
TABLES_MAX = 64
COLUMNS_MAX = 250
KEY_COLUMNS_MAX = 16
INDEXES_MAX = 16
HINTS_MAX = 64
NUMERIC_MAX = 2**256 - 1

ColumnType = Literal[
    "bool",
    "int2",
    "int4",
    "int8",
    "numeric",
    "float8",
    "text",
    "bytea",
    "bytes32",
    "address",
    "uuid",
    "timestamptz",
    "json",
]
Default = bool | int | float | str | None

UNSORTABLE = frozenset({"float8", "json"})
RESERVED_COLUMNS = frozenset({"channel_id"})
SYSTEM_COLUMNS = frozenset({"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"})  # PostgreSQL's own, in every table
RESERVED_RELATIONS = frozenset({"skipped"})
RESERVED_PREFIXES = ("scapp_", "pg_")
HISTORY_PREFIX = "scapp_history_"
"""Of the name of the table that holds the versions of another one's rows."""
HISTORY_COLUMNS = ("scapp_sequence", "scapp_present")
"""What such a table has besides the other one's columns."""

_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]{0,47}")
_VERSION = re.compile(r"[\x21-\x7e]{1,64}")
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,77}")
_INT_BITS = {"int2": 16, "int4": 32, "int8": 64}


class ManifestError(ValueError):
    """The manifest is not acceptable; the text names the offender and what is allowed."""


class Column(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One column; `default` is a JSON value of the column's type, None for no default."""

    name: str
    type: ColumnType
    nullable: bool = False
    default: Default = None


class Index(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A secondary index over columns of its table, in this order."""

    name: str
    columns: tuple[str, ...]
    unique: bool = False


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One table; `key` is how many leading columns form the primary key, `history` asks for every version of its rows
    to be kept."""

    name: str
    columns: tuple[Column, ...]
    key: int
    indexes: tuple[Index, ...] = ()
    history: bool = False

    @property
    def key_columns(self) -> tuple[Column, ...]:
        return self.columns[: self.key]


class View(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A named selection of columns of one table. Structured rather than SQL, because the author is not trusted."""

    name: str
    table: str
    columns: tuple[str, ...]


class Field(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One field of a described message."""

    name: str
    type: Literal["bool", "int", "float", "text", "bytes", "array", "map", "any"] = "any"
    description: str = ""


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A hint for tooling: what one kind of payload looks like. The reducer alone decides what it accepts."""

    name: str
    description: str = ""
    fields: tuple[Field, ...] = ()


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole document. Build it with `parse_manifest`, which checks it."""

    name: str
    version: str
    tables: tuple[Table, ...]
    abi: str = ABI
    encoding: Literal["msgpack", "json", "raw"] = "msgpack"
    views: tuple[View, ...] = ()
    messages: tuple[Message, ...] = ()


_decoder = msgspec.json.Decoder(Manifest)


def parse_manifest(document: bytes) -> Manifest:
    """Parse and check the JSON document; raises `ManifestError`."""
    if len(document) > DOCUMENT_BYTES_MAX:
        raise ManifestError(f"manifest of {len(document)} bytes; at most {DOCUMENT_BYTES_MAX} are allowed")
    try:
        manifest = _decoder.decode(document)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ManifestError(f"manifest is not a valid document: {error}") from None
    check_manifest(manifest)
    return manifest


def encode_manifest(manifest: Manifest) -> bytes:
    """JSON of a manifest, for SDKs and tests."""
    return msgspec.json.encode(manifest)


def check_manifest(manifest: Manifest) -> None:
    """Check every limit; raises `ManifestError` for the first one broken."""
    if manifest.abi != ABI:
        raise ManifestError(f"abi {manifest.abi!r}; this version runs {ABI!r}")
    _identifier(manifest.name, "app name")
    if not _VERSION.fullmatch(manifest.version):
        raise ManifestError(f"version {manifest.version!r}; allowed are 1-64 printable ASCII characters without blanks")
    _count(manifest.tables, "tables", 1, TABLES_MAX)
    for table in manifest.tables:
        _check_table(table)
    _count(manifest.views, "views", 0, HINTS_MAX)
    for view in manifest.views:
        _check_view(view, manifest.tables)
    relations = [table.name for table in manifest.tables] + [view.name for view in manifest.views]
    relations += [index.name for table in manifest.tables for index in table.indexes]
    _distinct(relations, "tables, views and indexes")
    _check_messages(manifest.messages)


def _check_table(table: Table) -> None:
    _relation(table.name, "table")
    where = f"table {table.name}"
    _count(table.columns, f"columns in {where}", 1, COLUMNS_MAX)
    for column in table.columns:
        _check_column(column, where)
        if table.history and column.name in HISTORY_COLUMNS:
            raise ManifestError(
                f"column {column.name} of {where} is reserved in a table with history; not allowed are "
                f"{_listing(HISTORY_COLUMNS)}"
            )
    _distinct((column.name for column in table.columns), f"columns of {where}")
    key_max = min(KEY_COLUMNS_MAX, len(table.columns))
    if not 1 <= table.key <= key_max:
        raise ManifestError(f"key {table.key} of {where}; allowed are 1 to {key_max} leading columns")
    for column in table.key_columns:
        if column.nullable or column.type in UNSORTABLE or column.default is not None:
            raise ManifestError(
                f"key column {column.name} of {where} ({_describe(column)}); a key column is NOT NULL, has no default "
                f"and is of any type but {_listing(UNSORTABLE)}"
            )
    _count(table.indexes, f"indexes of {where}", 0, INDEXES_MAX)
    for index in table.indexes:
        _check_index(index, table)


def _check_column(column: Column, where: str) -> None:
    _identifier(column.name, f"column of {where}")
    if column.name in RESERVED_COLUMNS:
        raise ManifestError(f"column {column.name!r} of {where} is reserved: every table gets it by itself")
    if column.name in SYSTEM_COLUMNS:
        raise ManifestError(
            f"column {column.name!r} of {where} is PostgreSQL's own; not allowed are {_listing(SYSTEM_COLUMNS)}"
        )
    if column.default is not None and not _default_fits(column.type, column.default):
        raise ManifestError(
            f"default {column.default!r} of column {column.name} of {where} does not fit type {column.type}; "
            "allowed are values of bool, int2, int4, int8, numeric (integer or decimal text), float8 and text in range"
        )


def _default_fits(type_: str, value: Default) -> bool:
    if type_ == "bool":
        return isinstance(value, bool)
    if type_ == "text":
        return isinstance(value, str) and "\0" not in value
    if isinstance(value, bool):
        return False
    if type_ == "float8":
        return isinstance(value, int | float) and math.isfinite(value)
    if type_ == "numeric":
        if isinstance(value, str):
            return bool(_DECIMAL.fullmatch(value)) and int(value) <= NUMERIC_MAX
        return isinstance(value, int) and 0 <= value <= NUMERIC_MAX
    bits = _INT_BITS.get(type_)
    return bits is not None and isinstance(value, int) and -(1 << bits - 1) <= value < 1 << bits - 1


def _check_index(index: Index, table: Table) -> None:
    _relation(index.name, f"index of table {table.name}")
    where = f"index {index.name} of table {table.name}"
    _count(index.columns, f"columns in {where}", 1, KEY_COLUMNS_MAX)
    _distinct(index.columns, f"columns of {where}")
    types = {column.name: column.type for column in table.columns}
    for name in index.columns:
        if name not in types:
            raise ManifestError(f"{where} names column {name!r}; the table has {_listing(types)}")
        if types[name] in UNSORTABLE:
            raise ManifestError(f"{where} names column {name} of type {types[name]}, which cannot be indexed")


def _check_view(view: View, tables: tuple[Table, ...]) -> None:
    _relation(view.name, "view")
    by_name = {table.name: table for table in tables}
    if view.table not in by_name:
        raise ManifestError(f"view {view.name} names table {view.table!r}; the tables are {_listing(by_name)}")
    names = [column.name for column in by_name[view.table].columns]
    _count(view.columns, f"columns of view {view.name}", 1, COLUMNS_MAX)
    _distinct(view.columns, f"columns of view {view.name}")
    for name in view.columns:
        if name not in names:
            raise ManifestError(f"view {view.name} names column {name!r}; table {view.table} has {_listing(names)}")


def _check_messages(messages: tuple[Message, ...]) -> None:
    _count(messages, "messages", 0, HINTS_MAX)
    _distinct((message.name for message in messages), "messages")
    for message in messages:
        _identifier(message.name, "message")
        _count(message.fields, f"fields of message {message.name}", 0, COLUMNS_MAX)
        _distinct((field.name for field in message.fields), f"fields of message {message.name}")
        for field in message.fields:
            _identifier(field.name, f"field of message {message.name}")


def _relation(name: str, what: str) -> None:
    _identifier(name, what)
    if name in RESERVED_RELATIONS or name.startswith(RESERVED_PREFIXES):
        raise ManifestError(
            f"{what} {name!r} is reserved; not allowed are {_listing(RESERVED_RELATIONS)} and names that start with "
            f"{_listing(RESERVED_PREFIXES)}"
        )


def _identifier(name: str, what: str) -> None:
    if not _IDENTIFIER.fullmatch(name):
        raise ManifestError(f"{what} {name[:80]!r}; allowed are 1-48 characters of [a-z][a-z0-9_]*")


def _count(items: tuple[object, ...], what: str, least: int, most: int) -> None:
    if not least <= len(items) <= most:
        raise ManifestError(f"{len(items)} {what}; allowed are {least} to {most}")


def _distinct(names: Iterable[str], what: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ManifestError(f"the name {name!r} appears twice among {what}")
        seen.add(name)


def _describe(column: Column) -> str:
    return f"{column.type}{', nullable' * column.nullable}{', with default' * (column.default is not None)}"


def _listing(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
