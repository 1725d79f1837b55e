"""The projections of a node: kept on disk, each followed by a worker of its own, upgraded beside the old version.

What a version has derived stands whole in one schema (`projecting.py`), whose comment names the version. So taking over
is renaming a schema, in one transaction, and the database alone says which version is live.

Layout of the folder: `NAME.json`, and `modules/` as in `deployments.py`.
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from scapp.channels.admission import ChannelContext
from scapp.channels.deployment import Limits
from scapp.channels.errors import LocalError
from scapp.channels.reading import EntrySource
from scapp.channels.types import Address
from scapp.runtime.database.port import Backend
from scapp.runtime.database.write import read_turns
from scapp.runtime.deployments import App, DeploymentStore, write_whole
from scapp.runtime.follow import ChannelFollower
from scapp.runtime.modules import Modules
from scapp.runtime.projecting import ChannelsOf, ProjectionFollower, with_skipped
from scapp.runtime.schema import (
    AppSchema,
    drop_schema,
    ensure_deployment,
    ensure_side_schema,
    rename_schema,
    schema_comment,
)
from scapp.runtime.worker import Worker
from scapp.runtime.worker_status import ChannelStatus, State
from scapp.runtime.writing import Writing

_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_log = logging.getLogger(__name__)


class UnknownProjection(LocalError):
    """No projection of that name is kept here."""


class Record(msgspec.Struct, frozen=True):
    """What is kept of one projection: ids of the app it follows, of the version that answers, and of the one that is
    being derived to take its place."""

    name: str
    app: bytes
    live: bytes
    following: bytes | None = None


class ProjectionStatus(msgspec.Struct, frozen=True):
    """`channels`: how far each channel is, of the live version; `upgrade` of the one that catches up, if any."""

    record: Record
    schema: str
    channels: list[ChannelStatus]
    upgrade: list[ChannelStatus] | None


class _ProjectionWorker(Worker):
    """Follows one version. `promote` is called, on the worker's thread, once it has all that is supported."""

    def __init__(
        self,
        app: App,
        version: App,
        name: str,
        live_name: str,
        source: EntrySource,
        backend: Backend,
        node: Address,
        kernel_for: Callable[[ChannelContext], object],
        promote: Callable[[_ProjectionWorker], None] | None,
    ) -> None:
        super().__init__(
            ChannelsOf(source, app.deployment),
            backend,
            node,
            kernel_for=kernel_for,  # type: ignore[arg-type]
            manifest_for=lambda _: version.manifest,
        )
        self.version = version
        self._app = app
        self.schema_name = name
        self.live_name = live_name
        self.promote = promote

    def _follower(self, context: ChannelContext, writing: Writing) -> ChannelFollower:
        schema = self._schema()
        return ProjectionFollower(
            context, self.version.deployment, self.version.manifest, schema, self._source, self._kernel_for
        )

    def _written_turns(self, writing: Writing) -> dict[bytes, int]:
        return read_turns(writing.connection, self._schema().home)

    def _schema(self) -> AppSchema:
        if self.promote is not None and self.version.id not in self._schemas:
            with self._backend.connect() as connection:
                renamed = schema_comment(connection, self.live_name) == self.version.id.hex()
            if renamed:  # it had taken over when the process ended
                self.promote(self)
        return self.ensure_schema()

    def ensure_schema(self) -> AppSchema:
        """The version's tables, made if they are not there."""
        known = self._schemas.get(self.version.id)
        if known is None:
            ensure_deployment(self._backend, self._app.deployment, self._app.manifest)  # channels refer to it
            manifest = with_skipped(self.version.manifest)
            known = ensure_side_schema(self._backend, self.schema_name, manifest, self.version.id.hex())
            self._schemas[self.version.id] = known
        return known

    def _round(self) -> None:
        super()._round()
        if self.promote is not None and not self._retry_s and not self._stopping and self._caught_up():
            try:
                self.promote(self)
            except Exception as error:
                _log.warning("projection %s: its new version cannot take over yet: %s", self.schema_name, error)

    def _caught_up(self) -> bool:
        status = self.status()
        known = [context.channel_id for context in self._source.contexts()]
        known += [c for c, each in self._source.archived().items() if each.turn >= 0 and not self.has_all_of(c)]
        found = [status.get(channel_id) for channel_id in known]
        return all(each is not None and each.state is State.FOLLOWING for each in found)

    def take_over(self) -> None:
        """The schema has the live name from now on; on the worker's thread."""
        for follower in self._followers.values():
            follower.release()
        self._followers.clear()
        self._schemas.clear()
        self.schema_name, self.promote = self.live_name, None


class Projections:
    """Thread-safe. `apps` are the node's own; without `backend` nothing can be added. Raises LocalError throughout."""

    def __init__(
        self,
        folder: Path,
        cache: Path,
        apps: DeploymentStore,
        source: EntrySource,
        backend: Backend | None,
        node: Address,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._modules = Modules(folder / "modules", cache)
        self._apps = apps
        self._source = source
        self._backend = backend
        self._node = node
        self._lock = threading.RLock()
        self._records: dict[str, Record] = {}
        self._live: dict[str, _ProjectionWorker] = {}
        self._next: dict[str, _ProjectionWorker] = {}
        for path in sorted(folder.glob("*.json")):
            try:
                record = msgspec.json.decode(path.read_bytes(), type=Record)
            except msgspec.MsgspecError as error:
                _log.error("%s cannot be read: %s; add the projection again", path, error)
            else:
                self._records[record.name] = record

    def start(self) -> None:
        """Start a worker for each version; the database may come later."""
        with self._lock:
            for record in self._records.values():
                self._run(record)

    def stop(self) -> None:
        """Stop all workers; what they derived stays, and the next start goes on."""
        with self._lock:
            workers = [*self._live.values(), *self._next.values()]
            self._live.clear()
            self._next.clear()
        for worker in workers:
            worker.stop()

    def notify(self) -> None:
        """There may be new supported entries."""
        with self._lock:
            workers = [*self._live.values(), *self._next.values()]
        for worker in workers:
            worker.notify()

    def add(self, name: str, app: App, wasm: bytes, limits: Limits | None = None) -> ProjectionStatus:
        """Check and keep a module, and start to derive it from the beginning of each of the app's channels."""
        self._backend_or_refuse()
        if not _NAME.fullmatch(name):
            raise LocalError(f"{name!r} is no name for a projection; allowed are {_NAME.pattern}")
        version = self._modules.store.add(wasm, limits)
        with self._lock:
            if name in self._records:
                raise LocalError(f"there is a projection {name} already; `scapp projection upgrade` changes its module")
            record = Record(name, app.id, version.id)
            self._store(record)
            self._run(record)
        return self.status(name)

    def upgrade(self, name: str, wasm: bytes, limits: Limits | None = None) -> ProjectionStatus:
        """Derive another module beside the live version; it takes over once it has caught up."""
        self._backend_or_refuse()
        version = self._modules.store.add(wasm, limits)
        with self._lock:
            record = self._record(name)
            if record.live == version.id:
                raise LocalError(f"projection {name} runs this module already")
            following = self._next.pop(name, None)
        if following is not None:
            following.stop()  # its thread may be waiting for our lock
        with self._lock:
            record = self._record(name)
            if record.following not in (None, version.id):
                self._drop(_building(name))
            record = msgspec.structs.replace(record, following=version.id)
            self._store(record)
            self._run(record)
        return self.status(name)

    def remove(self, name: str) -> None:
        """Stop it and drop its tables."""
        self._backend_or_refuse()
        with self._lock:
            self._record(name)
            workers = [found.pop(name) for found in (self._live, self._next) if name in found]
        for worker in workers:
            worker.stop()
        self._drop(_live(name))
        self._drop(_building(name))
        with self._lock:
            self._live.pop(name, None)  # one that took over while it was being stopped
            self._records.pop(name, None)
            (self._folder / f"{name}.json").unlink(missing_ok=True)

    def all(self) -> list[ProjectionStatus]:
        with self._lock:
            names = sorted(self._records)
        found = []
        for name in names:
            with contextlib.suppress(LocalError):  # removed meanwhile
                found.append(self.status(name))
        return found

    def status(self, name: str) -> ProjectionStatus:
        with self._lock:
            record, live, following = self._record(name), self._live.get(name), self._next.get(name)
        upgrade = None if following is None else list(following.status().values())
        return ProjectionStatus(record, _live(name), list(live.status().values()) if live else [], upgrade)

    # -- inside ---------------------------------------------------------------------------------------------------

    def _backend_or_refuse(self) -> Backend:
        if self._backend is None:
            raise LocalError("projections need a database, and this node runs without one (database.backend is none)")
        return self._backend

    def _record(self, name: str) -> Record:
        if name not in self._records:
            known = ", ".join(sorted(self._records)) or "none"
            raise UnknownProjection(f"no projection {name[:80]!r} at this node (known: {known})")
        return self._records[name]

    def _store(self, record: Record) -> None:
        self._records[record.name] = record
        write_whole(self._folder / f"{record.name}.json", msgspec.json.encode(record))

    def _run(self, record: Record) -> None:
        """Workers for what the record names and nobody follows yet."""
        if self._backend is None:
            return
        app = self._apps.get(record.app)
        for identity, found, schema, promote in (
            (record.live, self._live, _live(record.name), None),
            (record.following, self._next, _building(record.name), self._promote),
        ):
            version = None if identity is None else self._modules.store.get(identity)
            if identity is None or record.name in found:
                continue
            if app is None or version is None:
                _log.error("projection %s: its app or module is lost; remove it and add it again", record.name)
                continue
            worker = found[record.name] = _ProjectionWorker(
                app, version, schema, _live(record.name), self._source, self._backend, self._node,
                self._modules.projection_kernel, promote,
            )  # fmt: skip
            worker.start()

    def _promote(self, worker: _ProjectionWorker) -> None:
        """The new version has caught up: it takes the live one's name; on its own thread."""
        name = next((name for name, found in self._next.items() if found is worker), None)
        if name is None:
            return  # removed or upgraded again meanwhile
        with self._lock:
            old = self._live.pop(name, None)
        if old is not None:
            old.stop()
        assert self._backend is not None
        with self._backend.connect() as connection:
            if schema_comment(connection, _live(name)) != worker.version.id.hex():  # else it was renamed before a crash
                worker.ensure_schema()
                with connection.transaction():
                    drop_schema(connection, _live(name))
                    rename_schema(connection, _building(name), _live(name))
        with self._lock:
            worker.take_over()
            self._next.pop(name, None)
            self._live[name] = worker
            self._store(msgspec.structs.replace(self._records[name], live=worker.version.id, following=None))
        _log.info("projection %s: the new version answers", name)

    def _drop(self, schema: str) -> None:
        with self._backend_or_refuse().connect() as connection:
            drop_schema(connection, schema)


def _live(name: str) -> str:
    return f"scapp_projection_{name}"


def _building(name: str) -> str:
    return f"scapp_building_{name}"
