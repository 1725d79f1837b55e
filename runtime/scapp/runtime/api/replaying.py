"""The API's replays: one at a time for a channel, ended with the node, gone on with by asking again."""

from __future__ import annotations

import threading
import time

import psycopg

from scapp.channels.deployment import deployment_id
from scapp.channels.reading import EntrySource
from scapp.channels.types import ChannelId
from scapp.runtime.api.derived import must_be_ours
from scapp.runtime.api.errors import ApiError
from scapp.runtime.database.connecting import one_line
from scapp.runtime.database.port import Backend, DatabaseError
from scapp.runtime.derived_documents import ReplayAnswer, ReplayRequest, difference_view
from scapp.runtime.modules import Modules
from scapp.runtime.progress import Meters
from scapp.runtime.replay import Replay
from scapp.runtime.schema import ensure_deployment
from scapp.runtime.worker import DATABASE_CURE, Worker


class Replaying:
    """Thread-safe; answers block. Without a database (`backend` None) everything is refused."""

    def __init__(
        self, worker: Worker | None, backend: Backend | None, source: EntrySource, modules: Modules, meters: Meters
    ) -> None:
        self._worker = worker
        self._backend = backend
        self._source = source
        self._modules = modules
        self._meters = meters
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._busy: set[ChannelId] = set()

    def stop(self) -> None:
        """End what goes on, after the write it is at."""
        self._stopping.set()

    def replay(self, channel_id: ChannelId, request: ReplayRequest) -> ReplayAnswer:
        """Raises ApiError: refused, unknown_app, database_down; and ReplayStopped."""
        with self._lock:
            if channel_id in self._busy:
                raise ApiError(
                    "refused", "this channel is being replayed already", "`GET /v1/work` shows how far it is"
                )
            self._busy.add(channel_id)
        try:
            return self._replay(channel_id, request)
        except (psycopg.OperationalError, psycopg.InterfaceError, DatabaseError) as error:
            hint = "what was replayed stays; the same command goes on from there"
            raise ApiError("database_down", f"the database cannot answer now: {one_line(error)}", hint) from None
        except psycopg.Error as error:
            hint = f"nothing of the live rows was changed; {DATABASE_CURE}"
            raise ApiError("refused", f"the database refuses: {one_line(error)}", hint) from None
        finally:
            with self._lock:
                self._busy.discard(channel_id)

    def _replay(self, channel_id: ChannelId, request: ReplayRequest) -> ReplayAnswer:
        if self._backend is None or self._worker is None:
            raise ApiError("database_down", "this node runs without a database (database.backend is none)")
        must_be_ours(self._worker)
        context = self._source.context(channel_id)
        app = None if context is None else self._modules.store.get(deployment_id(context.deployment))
        if context is None or app is None:
            raise ApiError(
                "refused", f"channel 0x{channel_id.hex()} has no co-signed state, or its app is unknown here"
            )
        began = time.monotonic()
        with self._meters.running("replay", "0x" + channel_id.hex()) as meter:
            live = ensure_deployment(self._backend, app.deployment, app.manifest)
            replay = Replay(
                self._backend,
                live,
                context,
                self._source,
                lambda: self._modules.derivation_kernel(context),
                meter,
                self._stopping,
            )
            if request.abandon:
                replay.drop()
                return _answer(channel_id, replay.schema_name, "abandoned")
            cursor, compared = replay.run(compare=request.compare, swap=request.then == "swap")
            if request.then == "drop":
                replay.drop()
            if request.then == "swap":
                self._worker.look_again(channel_id)
        result = {"keep": "kept", "swap": "swapped", "drop": "dropped"}[request.then]
        return ReplayAnswer(
            channel_id="0x" + channel_id.hex(),
            schema=replay.schema_name,
            result=result,
            sequence=cursor.sequence,
            turn=cursor.turn,
            seconds=round(time.monotonic() - began, 3),
            difference_count=None if compared is None else compared.count,
            differences=[] if compared is None else [difference_view(each) for each in compared.differences],
        )


def _answer(channel_id: ChannelId, schema: str, result: str) -> ReplayAnswer:
    return ReplayAnswer(
        channel_id="0x" + channel_id.hex(), schema=schema, result=result, sequence=0, turn=-1, seconds=0
    )
