"""A user's SQL, read-only: bounded in time and rows, answered in values that JSON can hold.

The reader's rights come from `database/`: a role of its own where the backend has roles; the read-only transaction
holds everywhere.
"""

from __future__ import annotations

import contextlib
import datetime
import decimal
import math
import uuid
from collections.abc import Sequence
from typing import Any

import msgspec
import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import Loader, PyFormat, Transformer
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGresult

from scapp.channels.errors import LocalError
from scapp.runtime.database.connecting import Connection
from scapp.runtime.database.port import Backend, Capability

ROWS_MAX = 1_000
RESULT_BYTES_MAX = 16_777_216
TIMEOUT_S = 10.0
_AS_TEXT = ("timestamptz", "timestamp", "date", "time", "timetz", "interval", "numeric")


class QueryError(LocalError):
    """The statement cannot be answered; the text is the server's, with its hint and where it applies."""


class BadQuery(QueryError):
    """The statement itself is wrong, or tries to change something."""


class QueryTimeout(QueryError):
    """The statement ran longer than allowed and was ended."""


class DatabaseDown(QueryError):
    """The database cannot be reached now."""


class Column(msgspec.Struct, frozen=True):
    """Name and PostgreSQL type of a result column."""

    name: str
    type: str


class QueryResult(msgspec.Struct, frozen=True):
    """`truncated`: there were more rows than asked for. bytea is 0x-hexadecimal, numeric text, times ISO 8601."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Any, ...], ...]
    truncated: bool


def run_query(
    backend: Backend,
    statement: str,
    params: Sequence[Any] = (),
    *,
    rows_max: int = ROWS_MAX,
    timeout_s: float = TIMEOUT_S,
) -> QueryResult:
    """Answer one SELECT (or WITH, VALUES, EXPLAIN, SHOW, TABLE); `params` fill $1, $2 …

    The result has at most `rows_max` rows and RESULT_BYTES_MAX bytes.

    Raises BadQuery, QueryTimeout or DatabaseDown."""
    try:
        with contextlib.closing(backend.connect_reader()) as connection:
            return _answer(connection, backend.capabilities, statement, params, rows_max, timeout_s)
    except psycopg.errors.QueryCanceled:
        raise QueryTimeout(f"the statement ran longer than the {timeout_s:g} s it is allowed") from None
    except psycopg.errors.ProtocolViolation as error:  # e.g. another number of parameters than the statement has
        raise BadQuery(_explained(error)) from error
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        raise DatabaseDown(f"the database cannot answer now: {error}") from error
    except psycopg.Error as error:
        raise BadQuery(_explained(error)) from error


def _answer(
    connection: Connection,
    capabilities: frozenset[Capability],
    statement: str,
    params: Sequence[Any],
    rows_max: int,
    timeout_s: float,
) -> QueryResult:
    for name in _AS_TEXT:
        connection.adapters.register_loader(name, _TextLoader)
    connection.read_only = True
    connection.autocommit = False
    if not statement.strip():
        raise BadQuery("the statement is empty, so it returns no rows")
    if Capability.TIMEOUTS not in capabilities:
        return _answer_at_once(connection, statement, params, rows_max)
    connection.execute("SELECT set_config('statement_timeout', %s, true)", [str(max(1, int(timeout_s * 1000)))])
    cursor: psycopg.RawCursor[tuple[Any, ...]] = psycopg.RawCursor(connection)
    rows: list[tuple[Any, ...]] = []
    size = 0
    truncated = False
    try:
        # One row at a time, so that a huge result is neither held nor waited for; it also allows one statement only.
        stream = cursor.stream(statement.encode(), params)
        with contextlib.closing(stream):  # type: ignore[type-var,unused-ignore]
            for row in stream:
                if len(rows) < rows_max:
                    rows.append(tuple(to_json(value) for value in row))
                    size = _grown(size, rows[-1])
                    continue
                truncated = True  # leaving early asks the server to cancel
                break
    except psycopg.ProgrammingError as error:
        if error.sqlstate is None:  # the client's own complaint: the statement gives no rows
            raise BadQuery("the statement returns no rows; allowed are statements that read, like SELECT") from error
        raise
    columns = _columns(cursor) if rows else _described(connection, statement, params)
    return QueryResult(columns, tuple(rows), truncated)


def _described(connection: Connection, statement: str, params: Sequence[Any]) -> tuple[Column, ...]:
    """Columns of a statement that had no rows: a stream has nothing to ask for them then."""
    adapt = Transformer(connection)
    adapt.dump_sequence(params, [PyFormat.AUTO] * len(params))
    result = connection.pgconn.prepare(b"", statement.encode(), adapt.types)
    if result.status == ExecStatus.COMMAND_OK:
        result = connection.pgconn.describe_prepared(b"")
    if result.status != ExecStatus.COMMAND_OK:
        raise psycopg.errors.error_from_result(result)
    return _columns_of(connection, result)


def _answer_at_once(connection: Connection, statement: str, params: Sequence[Any], rows_max: int) -> QueryResult:
    """For a backend that cannot cancel: streaming cancels after every error, and would wait for that in vain."""
    connection.execute("SELECT 1")  # opens the read-only transaction
    adapt = Transformer(connection)
    values = adapt.dump_sequence(params, [PyFormat.AUTO] * len(params))
    result = connection.pgconn.exec_params(statement.encode(), values, adapt.types, adapt.formats)
    if result.status == ExecStatus.FATAL_ERROR:
        raise psycopg.errors.error_from_result(result)
    if result.status != ExecStatus.TUPLES_OK:
        raise BadQuery("the statement returns no rows; allowed are statements that read, like SELECT")
    adapt.set_pgresult(result)
    rows = adapt.load_rows(0, min(rows_max, result.ntuples), tuple)
    shown = tuple(tuple(to_json(value) for value in row) for row in rows)
    size = 0
    for row in shown:
        size = _grown(size, row)
    return QueryResult(_columns_of(connection, result), shown, result.ntuples > rows_max)


def _columns_of(connection: Connection, result: PGresult) -> tuple[Column, ...]:
    columns = []
    for index in range(result.nfields):
        known = connection.adapters.types.get(result.ftype(index))
        columns.append(Column((result.fname(index) or b"").decode(), known.name if known else str(result.ftype(index))))
    return tuple(columns)


def _grown(size: int, row: Sequence[Any]) -> int:
    """Size of the result with one more row. Raises BadQuery: a few rows can be larger than memory."""
    size += _size(row)
    if size > RESULT_BYTES_MAX:
        raise BadQuery(f"the result is larger than {RESULT_BYTES_MAX} bytes; ask for fewer rows, columns or bytes")
    return size


def _size(value: Any) -> int:
    """About what a value of `to_json` takes."""
    if isinstance(value, str):
        return len(value) + 8
    if isinstance(value, list | tuple):
        return sum(map(_size, value)) + 8
    if isinstance(value, dict):
        return sum(len(key) + _size(item) for key, item in value.items()) + 8
    return 8


def to_json(value: Any) -> Any:
    """The value in a form JSON can hold, without losing anything."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value).replace("inf", "Infinity").replace("nan", "NaN")
    if isinstance(value, bytes | bytearray | memoryview):
        return "0x" + bytes(value).hex()
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, dict):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal | uuid.UUID):
        return str(value)
    return str(value)


class _TextLoader(Loader):
    """The server's own text: exact for every numeric, and for years that Python's datetime does not know."""

    def load(self, data: Buffer) -> str:
        text = bytes(data).decode()
        if len(text) > 10 and text[4:5] == "-" and text[10:11] == " ":
            return text.replace(" ", "T", 1)
        return text


def _columns(cursor: psycopg.RawCursor[tuple[Any, ...]]) -> tuple[Column, ...]:
    return tuple(Column(item.name, item.type_display) for item in cursor.description or ())


def _explained(error: psycopg.Error) -> str:
    parts = [error.diag.message_primary or str(error)]
    if error.diag.statement_position:
        parts.append(f"at character {error.diag.statement_position}")
    if error.diag.message_hint:
        parts.append(f"({error.diag.message_hint})")
    return " ".join(parts)
