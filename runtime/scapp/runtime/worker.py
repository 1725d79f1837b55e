"""The derivation worker: a thread that keeps the database up with the supported log, channel by channel.
`follow.py` derives one channel; here are waking, waiting, retrying, status and listeners.

A failure of one channel halts that channel; a database that is down makes everything wait and retry, and nothing is
lost by it. The worker may be killed at any time.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Set
from concurrent.futures import ThreadPoolExecutor

import psycopg

from scapp.channels.admission import AdmissionError, ChannelContext
from scapp.channels.deployment import Deployment, deployment_id
from scapp.channels.errors import ScappError
from scapp.channels.reading import EntrySource
from scapp.channels.types import Address, ChannelId
from scapp.reducers.manifest import Manifest
from scapp.runtime.archived import ArchivedChannels
from scapp.runtime.database.connecting import Connection, one_line
from scapp.runtime.database.port import Backend, Capability, DatabaseError, ForeignDatabase
from scapp.runtime.database.rejections import Rejection, store_waiting
from scapp.runtime.database.write import read_turns
from scapp.runtime.derive import DerivationHalted, Halt
from scapp.runtime.follow import ChannelFollower, Committed
from scapp.runtime.keeping import KERNEL_BYTES_MAX, KERNELS_MAX, KernelBound, Progress
from scapp.runtime.kernel import Kernel
from scapp.runtime.schema import AppSchema, build_indexes, ensure_deployment, prepare_database
from scapp.runtime.worker_status import ChannelStatus, DatabaseStatus, State
from scapp.runtime.writing import Writing

RETRY_FIRST_S, RETRY_MAX_S = 0.1, 10.0
REJECTIONS_QUEUED_MAX = 1_000
TRANSIENT = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.errors.ReadOnlySqlTransaction, DatabaseError)
"""Errors of the database that pass: everything is retried until they do."""
DATABASE_CURE = "give it back, or drop the database, and start the node again: the log fills it"
_log = logging.getLogger(__name__)


class Worker:
    """`kernel_for` builds a channel's kernel with no entries applied; it and `manifest_for` may raise AdmissionError
    or a ScappError, which blocks the channel until they do not. `poll_s`: how often to look without a `notify`.
    Kernels that were not used for longest are freed beyond `kernels_max` of them, or `kernel_bytes_max` in sum."""

    def __init__(
        self,
        source: EntrySource,
        backend: Backend,
        node: Address,
        *,
        kernel_for: Callable[[ChannelContext], Kernel],
        manifest_for: Callable[[Deployment], Manifest],
        poll_s: float | None = 1.0,
        kernels_max: int = KERNELS_MAX,
        kernel_bytes_max: int = KERNEL_BYTES_MAX,
    ) -> None:
        self._source = source
        self._backend = backend
        self._node = node
        self._kernel_for = kernel_for
        self._manifest_for = manifest_for
        self._poll_s = poll_s
        self._kernels = KernelBound(kernels_max, kernel_bytes_max)
        self._followers: dict[ChannelId, ChannelFollower] = {}
        self._archived = ArchivedChannels(source)
        self._schemas: dict[bytes, AppSchema] = {}
        self._unindexed: set[bytes] = set()  # deployments whose secondary indexes may be missing
        self._connection: Connection | None = None
        self._writer = ThreadPoolExecutor(1, "scapp-writing")
        self._prepared = False
        self._first_round_done = False
        self._retry_s = 0.0
        self._rejections: collections.deque[Rejection] = collections.deque(maxlen=REJECTIONS_QUEUED_MAX)
        self._listeners: list[Callable[[Committed], None]] = []
        self._changed = threading.Condition()
        self._status: dict[ChannelId, ChannelStatus] = {}
        self._database = DatabaseStatus(backend.name, "starting")
        self._wake = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None

    # -- for callers, from any thread ---------------------------------------------------------------------------

    def prepare(self) -> None:
        """Start the database and claim it for this node, in the caller's thread; `start` does it otherwise, and
        retries. Raises DatabaseError, e.g. when the database belongs to another node."""
        self._backend.start()
        prepare_database(self._backend, self._node, self._connected())
        self._prepared = True

    def start(self) -> None:
        """Start the thread; the database is started and prepared there."""
        assert self._thread is None, "a worker starts once"
        self._thread = threading.Thread(target=self._run, name="scapp-derivation", daemon=True)
        self._wake.set()
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the write or the entry it is at. The backend is the caller's and goes on."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._wake.set()
        for follower in list(self._followers.values()):
            follower.interrupt()
        if self._thread is not None:
            self._thread.join()
        self._writer.shutdown()
        self._close()

    def notify(self) -> None:
        """There may be new supported entries."""
        self._wake.set()

    def look_again(self, channel_id: ChannelId) -> None:
        """The channel's rows were replaced: read where its cursor stands, also of a channel that was halted."""
        with self._changed:
            self._status.pop(channel_id, None)
        follower = self._followers.get(channel_id)
        if follower is not None:
            follower.doubt()
        self._archived.forget()
        self._wake.set()

    def status(self) -> dict[ChannelId, ChannelStatus]:
        """Every channel the worker has looked at."""
        with self._changed:
            return dict(self._status)

    def status_of(self, channel_id: ChannelId) -> ChannelStatus | None:
        """Of one channel, None before the worker has looked at it; costs the same however many there are."""
        with self._changed:
            return self._status.get(channel_id)

    def has_all_of(self, channel_id: ChannelId) -> bool:
        """Is the channel over, and all of it in the database? The worker has no status of it then."""
        return channel_id in self._archived.finished

    def database(self) -> DatabaseStatus:
        """Whether the database can be used."""
        with self._changed:
            return self._database

    def wait_started(self, timeout: float) -> None:
        """Wait until a worker that is starting has the database, and in it what was in the log; at most `timeout`
        seconds, and not for a database that is down."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._first_round_done or self._database.state in ("down", "foreign"), timeout
            )

    def wait_for(self, channel_id: ChannelId, sequence: int, timeout: float) -> bool:
        """Wait until `sequence` entries of the channel are in the database; False after `timeout` seconds.

        Raises DerivationHalted when the channel is halted."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                status = self._status.get(channel_id)
                if status is not None and status.cursor is not None and status.cursor.sequence >= sequence:
                    return True
                if status is None and channel_id in self._archived.finished:
                    return True
                if status is not None and status.halt is not None:
                    raise DerivationHalted(status.halt, status.detail)
                left = deadline - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    return False

    def subscribe(self, listener: Callable[[Committed], None]) -> Callable[[], None]:
        """Call `listener`, on the worker's thread, after each commit; returns a function that ends it."""
        self._listeners.append(listener)

        def end() -> None:
            with contextlib.suppress(ValueError):
                self._listeners.remove(listener)

        return end

    def record_rejection(self, rejection: Rejection) -> None:
        """Keep a refusal of this node's admission in the database, when there is time; never blocks."""
        self._rejections.append(rejection)
        self._wake.set()

    def run_once(self) -> None:
        """One round in the caller's thread, instead of `start`: everything supported now, as far as it goes."""
        self._round()

    # -- the thread ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping:
            self._wake.wait(self._retry_s or self._poll_s)
            if self._stopping:
                return
            self._wake.clear()
            self._round()
            if self._retry_s:
                # New entries do not make a database come back sooner; only `stop` cuts the pause short.
                self._pause(self._retry_s)
                self._wake.set()

    def _pause(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._stopping, seconds)

    def _round(self) -> None:
        try:
            writing = self._writing()
            self._set_database("up")
            contexts = self._source.contexts()
            for context in contexts:
                if self._stopping:
                    return
                self._follow(context, writing)
            self._follow_archived({context.channel_id for context in contexts}, writing)
            self._build_indexes(writing)
            store_waiting(writing.connection, self._rejections, TRANSIENT)
            self._retry_s = 0.0
            with self._changed:
                self._first_round_done = True
                self._changed.notify_all()
        except (*TRANSIENT, psycopg.Error) as error:  # a right that the role lacks is retried too: it may be granted
            self._retry_later(one_line(error), "foreign" if isinstance(error, ForeignDatabase) else "down")
            _log.warning("database: %s (retried in %.1f s)", one_line(error), self._retry_s)
        except Exception as error:  # no channel's, so it must not end the thread for all of them
            self._retry_later(f"unexpected {type(error).__name__}: {error}")
            _log.exception("derivation failed (retried in %.1f s)", self._retry_s)

    def _retry_later(self, reason: str, state: str = "down") -> None:
        self._close()
        for follower in self._followers.values():
            follower.doubt()
        self._prepared = False  # whatever comes back may be an older copy, or an empty one
        self._archived.forget()
        self._schemas.clear()
        with self._changed:  # who was refused may ask it again
            self._status = {of: status for of, status in self._status.items() if status.halt is not Halt.REFUSED}
        self._retry_s = min(max(RETRY_FIRST_S, self._retry_s * 2), RETRY_MAX_S)
        self._set_database(state, reason)

    def _writing(self) -> Writing:
        if not self._prepared:
            self.prepare()
        can = self._backend.capabilities
        return Writing(self._connected(), Capability.NOTIFY_ACROSS in can, Capability.COPY_IN in can, self._writer)

    def _connected(self) -> Connection:
        """The worker's one connection: opening one costs as much as writing some hundred rows."""
        if self._connection is None or self._connection.closed:
            self._connection = self._backend.connect()
        return self._connection

    def _follow(self, context: ChannelContext, writing: Writing) -> None:
        channel_id = context.channel_id
        known = self._status.get(channel_id)
        if known is not None and known.state is State.HALTED:
            return
        with self._classified(channel_id):
            follower = self._follower_of(context, writing)
            progress = Progress()
            for committed in follower.advance(writing):
                self._set(channel_id, State.FOLLOWING, progress.text(channel_id, committed))
                self._tell(committed)
                if self._stopping:
                    return
            self._set(channel_id, State.FOLLOWING)
            self._kernels.used(follower)

    def _follow_archived(self, live: Set[ChannelId], writing: Writing) -> None:
        """Channels that are over, until the database has all of them."""
        unfinished = self._archived.unfinished(live, self._followers.keys(), lambda: self._written_turns(writing))
        for channel_id, turn in unfinished.items():
            if self._stopping:
                return
            known = self._followers.get(channel_id)
            with self._classified(channel_id):
                context = known.context if known is not None else self._archived.context(channel_id)
                if context is not None:
                    self._follow(context, writing)
            status = self.status_of(channel_id)
            if status is not None and status.cursor is not None and status.cursor.turn == turn:
                self._archived.finish(channel_id)
                self._drop(channel_id)

    def _written_turns(self, writing: Writing) -> dict[bytes, int]:
        """How far each channel is in the database."""
        return read_turns(writing.connection)

    def _drop(self, channel_id: ChannelId) -> None:
        follower = self._followers.pop(channel_id, None)
        if follower is not None:
            follower.release()
            self._kernels.used(follower)
        with self._changed:
            self._status.pop(channel_id, None)
            self._changed.notify_all()

    @contextlib.contextmanager
    def _classified(self, channel_id: ChannelId) -> Iterator[None]:
        """Turn a channel's failure into its status; what passes goes on to the round as it is."""
        try:
            yield
        except TRANSIENT as error:
            self._set(channel_id, State.RETRYING, one_line(error))
            raise
        except DerivationHalted as error:
            if self._stopping:  # most likely our own interruption; whatever it was, the next start meets it again
                return
            self._halt(channel_id, error.kind, error.reason)
        except psycopg.Error as error:
            self._halt(channel_id, Halt.REFUSED, f"the database refuses it: {one_line(error)}; {DATABASE_CURE}")
        except (AdmissionError, ScappError) as error:
            self._set(channel_id, State.BLOCKED, str(error))
        except Exception as error:
            _log.exception("channel 0x%s: unexpected error in derivation", channel_id.hex())
            self._halt(channel_id, Halt.FAULT, f"unexpected {type(error).__name__}: {error}")

    def _follower_of(self, context: ChannelContext, writing: Writing) -> ChannelFollower:
        """The one there is, unless the database has come back without the tables that it writes to."""
        known = self._followers.get(context.channel_id)
        if known is not None and not known.is_doubted:
            return known
        made = self._follower(context, writing)
        if known is not None:
            if known.schema == made.schema:
                return known
            known.release()
        self._followers[context.channel_id] = made
        return made

    def _follower(self, context: ChannelContext, writing: Writing) -> ChannelFollower:
        identity = deployment_id(context.deployment)
        schema = self._schemas.get(identity)
        if schema is None:
            manifest = self._manifest_for(context.deployment)
            schema = ensure_deployment(self._backend, context.deployment, manifest, writing.connection)
            self._schemas[identity] = schema
            self._unindexed.add(identity)
        return ChannelFollower(context, schema, self._source, lambda: self._kernel_for(context))

    def _build_indexes(self, writing: Writing) -> None:
        """Once a round has brought in all that was waiting."""
        for identity in tuple(self._unindexed):
            schema = self._schemas[identity]
            try:
                if build_indexes(writing.connection, identity, schema):
                    _log.info("app %s: secondary indexes are built", schema.manifest.name)
            except TRANSIENT:
                raise
            except psycopg.Error as error:  # a dropped table is its channels' trouble
                _log.warning("app %s: its indexes cannot be built: %s", schema.manifest.name, error)
            self._unindexed.discard(identity)

    def _tell(self, committed: Committed) -> None:
        for listener in tuple(self._listeners):
            try:
                listener(committed)
            except Exception:
                _log.exception("a listener of the derivation failed")

    # -- status -------------------------------------------------------------------------------------------------

    def _halt(self, channel_id: ChannelId, kind: Halt, reason: str) -> None:
        _log.error("channel 0x%s halted, %s: %s", channel_id.hex(), kind.value, reason)
        follower = self._followers.get(channel_id)
        if follower is not None:
            follower.release()
        self._set(channel_id, State.HALTED, reason, kind)

    def _set(self, channel_id: ChannelId, state: State, detail: str = "", halt: Halt | None = None) -> None:
        follower = self._followers.get(channel_id)
        cursor = follower.cursor if follower is not None else None
        with self._changed:
            self._status[channel_id] = ChannelStatus(channel_id, state, cursor, detail, halt)
            self._changed.notify_all()

    def _set_database(self, state: str, detail: str = "") -> None:
        with self._changed:
            self._database = DatabaseStatus(self._backend.name, state, detail)
            self._changed.notify_all()

    def _close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):
                self._connection.close()
            self._connection = None
