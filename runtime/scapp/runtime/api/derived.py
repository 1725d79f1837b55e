"""The database side of the API over the real worker and backend; `NoDatabase` where there is none."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from typing import Any

import psycopg

from scapp.channels.admission import AdmissionError
from scapp.channels.reading import EntrySource
from scapp.channels.types import ChannelId
from scapp.runtime.api.errors import ApiError
from scapp.runtime.changes import AppEvent
from scapp.runtime.config import hide_password
from scapp.runtime.database.connecting import one_line
from scapp.runtime.database.port import Backend, DatabaseError
from scapp.runtime.deployments import App
from scapp.runtime.derived_documents import difference_view
from scapp.runtime.documents import (
    DatabaseView,
    DerivedView,
    QueryAnswer,
    QueryColumn,
    VerifyAnswer,
)
from scapp.runtime.follow import Committed
from scapp.runtime.modules import Modules
from scapp.runtime.progress import Meters
from scapp.runtime.queries import BadQuery, DatabaseDown, QueryTimeout, run_query
from scapp.runtime.schema import AppSchema, ensure_deployment
from scapp.runtime.stored import read_events
from scapp.runtime.verify import NothingDerived, verify_channel
from scapp.runtime.worker import DATABASE_CURE, Worker

STARTING_S = 15.0  # a question right after the node's start waits for its database
_DOWN_HINT = "it is retried by itself, and signing goes on; `scapp status` shows its state"


def must_be_ours(worker: Worker) -> None:
    """Raises ApiError (database_down) for a database whose rows are another node's."""
    status = worker.database()
    if status.state == "foreign":
        raise ApiError("database_down", status.detail, "set another database.url, or database.backend to embedded")


class DerivedData:
    """Implements `context.Derived`."""

    def __init__(self, worker: Worker, backend: Backend, source: EntrySource, modules: Modules, meters: Meters) -> None:
        self._worker = worker
        self._backend = backend
        self._source = source
        self._modules = modules
        self._meters = meters
        self._schemas: dict[bytes, AppSchema] = {}
        self._lock = threading.Lock()

    def view(self) -> DatabaseView:
        status = self._worker.database()
        url = (self._backend.reader_dsn or self._backend.dsn) if status.state == "up" else ""
        return DatabaseView(backend=status.backend, state=status.state, detail=status.detail, url=hide_password(url))

    def cursor(self, channel_id: ChannelId) -> DerivedView | None:
        status = self._worker.status_of(channel_id)
        if status is None:
            return None
        cursor = status.cursor
        return DerivedView(
            sequence=cursor.sequence if cursor else 0,
            turn=cursor.turn if cursor and cursor.turn >= 0 else None,
            state_root="0x" + cursor.state_root.hex() if cursor else "",
            state=status.state.value,
            detail=status.detail,
        )

    def followed(self) -> Collection[ChannelId]:
        return self._worker.status().keys()

    def has_all_of(self, channel_id: ChannelId) -> bool:
        return self._worker.has_all_of(channel_id)

    def schema_of(self, deployment_id: bytes) -> str:
        known = self._schemas.get(deployment_id)
        return known.name if known else ""

    def prepare(self, app: App) -> str:
        if self._worker.database().state != "up":
            return ""
        try:
            return self._schema(app).name
        except (psycopg.Error, DatabaseError):
            return ""  # the worker makes it with the first channel

    def _schema(self, app: App) -> AppSchema:
        with self._lock:
            known = self._schemas.get(app.id)
        if known is None:
            known = ensure_deployment(self._backend, app.deployment, app.manifest)
            with self._lock:
                self._schemas[app.id] = known
        return known

    def query(self, sql: str, params: Sequence[Any], rows_max: int, timeout_s: float) -> QueryAnswer:
        self._ready()
        try:
            result = run_query(self._backend, sql, params, rows_max=rows_max, timeout_s=timeout_s)
        except BadQuery as error:
            raise ApiError(
                "bad_sql",
                str(error),
                "`scapp deploy --list` shows the schemas, the schema `scapp` has the log; rows are only read",
            ) from None
        except QueryTimeout as error:
            raise ApiError("timeout", str(error), "ask for less, or allow more with timeout_s (--timeout)") from None
        except (DatabaseDown, DatabaseError) as error:
            raise ApiError("database_down", one_line(error), _DOWN_HINT) from None
        columns = [QueryColumn(name=column.name, type=column.type) for column in result.columns]
        return QueryAnswer(columns=columns, rows=[list(row) for row in result.rows], truncated=result.truncated)

    def verify(self, channel_id: ChannelId) -> VerifyAnswer:
        self._ready()
        context = self._source.context(channel_id)
        if context is None:
            raise ApiError("refused", f"channel 0x{channel_id.hex()} has no co-signed state yet")
        try:
            app = self._modules.store.get(self._identity(context.deployment))
            if app is None:
                raise ApiError("unknown_app", "the channel's app is not deployed here")
            with self._meters.running("verify", "0x" + channel_id.hex()) as meter:
                report = verify_channel(
                    self._backend,
                    self._schema(app),
                    context,
                    self._source,
                    lambda: self._modules.derivation_kernel(context),
                    meter,
                )
        except NothingDerived as error:
            raise ApiError("refused", str(error), "`scapp status` shows how far the database is") from None
        except (psycopg.OperationalError, psycopg.InterfaceError, DatabaseError) as error:
            raise ApiError("database_down", f"the database cannot answer now: {one_line(error)}", _DOWN_HINT) from None
        except psycopg.Error as error:
            said = f"the database lacks what scapp made in it: {one_line(error)}"
            raise ApiError("refused", said, DATABASE_CURE) from None
        except AdmissionError as error:
            raise ApiError("refused", str(error)) from None
        return VerifyAnswer(
            channel_id="0x" + channel_id.hex(),
            ok=report.ok,
            sequence=report.sequence,
            turn=report.turn,
            expected_root="0x" + report.expected_root.hex(),
            found_root="0x" + report.found_root.hex(),
            rows=report.rows,
            detail="; ".join(report.problems),
            difference_count=report.difference_count,
            differences=[difference_view(each) for each in report.differences],
            notes=list(report.notes),
        )

    def _ready(self) -> None:
        self._worker.wait_started(STARTING_S)
        must_be_ours(self._worker)

    @staticmethod
    def _identity(deployment: Any) -> bytes:
        from scapp.channels.deployment import deployment_id

        return bytes(deployment_id(deployment))

    def app_events(self, channel_id: ChannelId, first_sequence: int, end_sequence: int) -> list[AppEvent]:
        must_be_ours(self._worker)
        try:
            with self._backend.connect_reader() as connection:
                return list(read_events(connection, channel_id, first_sequence, end_sequence))
        except (psycopg.Error, DatabaseError) as error:
            raise ApiError("database_down", f"the database cannot answer now: {one_line(error)}", _DOWN_HINT) from None

    def subscribe(self, listener: Callable[[Committed], None]) -> Callable[[], None]:
        return self._worker.subscribe(listener)


class NoDatabase:
    """`database.backend` is "none": a node that orders and signs, and derives nothing."""

    def view(self) -> DatabaseView:
        return DatabaseView(backend="none", state="off")

    def cursor(self, channel_id: ChannelId) -> DerivedView | None:
        return None

    def followed(self) -> Collection[ChannelId]:
        return ()

    def has_all_of(self, channel_id: ChannelId) -> bool:
        return False

    def schema_of(self, deployment_id: bytes) -> str:
        return ""

    def prepare(self, app: App) -> str:
        return ""

    def query(self, sql: str, params: Sequence[Any], rows_max: int, timeout_s: float) -> QueryAnswer:
        raise self._off()

    def verify(self, channel_id: ChannelId) -> VerifyAnswer:
        raise self._off()

    def app_events(self, channel_id: ChannelId, first_sequence: int, end_sequence: int) -> list[AppEvent]:
        return []

    def subscribe(self, listener: Callable[[Committed], None]) -> Callable[[], None]:
        return lambda: None

    @staticmethod
    def _off() -> ApiError:
        hint = "start the node with --database embedded, or with --database-url postgresql://…"
        return ApiError("database_down", "this node runs without a database (database.backend is none)", hint)
