"""A channel derived again beside its live rows, compared with them, and put in their place.

The log is followed into a schema of its own by the same follower and the same write path as the live tables, so a
replay may be killed at any time and goes on where its own cursor stands. `differences.py` compares; taking over is one
transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from threading import Event

import msgspec
import psycopg

from scapp.channels.admission import ChannelContext
from scapp.channels.errors import LocalError
from scapp.channels.reading import Archived, EntrySource, SignedState, SupportedBatch
from scapp.channels.types import ChannelId
from scapp.reducers.manifest import Manifest, Table
from scapp.runtime.changes import EVENTS, MESSAGES
from scapp.runtime.database import sql
from scapp.runtime.database.connecting import Connection
from scapp.runtime.database.phrases import quoted
from scapp.runtime.database.port import Backend, Capability
from scapp.runtime.database.write import Cursor, read_cursor
from scapp.runtime.derive import DerivationHalted
from scapp.runtime.differences import Difference, difference, differing, row_difference
from scapp.runtime.follow import ChannelFollower
from scapp.runtime.history import history_tables
from scapp.runtime.kernel import Kernel
from scapp.runtime.progress import Meter
from scapp.runtime.rows import TableCodec
from scapp.runtime.schema import AppSchema, drop_schema, ensure_side_schema, register_channel
from scapp.runtime.stored import read_table
from scapp.runtime.writing import Writing

DIFFERENCES_MAX = 20


class ReplayStopped(LocalError):
    """The node stops, or the log cannot be run; what is replayed stays, and the same command goes on from there."""


class Compared(msgspec.Struct, frozen=True):
    """`differences` are the first DIFFERENCES_MAX of `count`: live rows against replayed ones."""

    differences: tuple[Difference, ...]
    count: int


class Replay:
    """One channel's replay; `make_kernel` gives a kernel that tracks changes. One at a time for a channel."""

    def __init__(
        self,
        backend: Backend,
        live: AppSchema,
        context: ChannelContext,
        source: EntrySource,
        make_kernel: Callable[[], Kernel],
        meter: Meter | None = None,
        stopping: Event | None = None,
    ) -> None:
        self.schema_name = schema_name(context.channel_id)
        self._backend = backend
        self._live = live
        self._context = context
        self._source = _Bounded(source)
        self._make_kernel = make_kernel
        self._meter = meter or Meter()
        self._stopping = stopping or Event()

    def run(self, *, compare: bool, swap: bool) -> tuple[Cursor, Compared | None]:
        """Derive up to where the live tables stand, then compare, then take their place, as asked.

        Raises ReplayStopped, and psycopg's errors; calling again goes on."""
        if Capability.CONCURRENT_SESSIONS not in self._backend.capabilities:
            raise LocalError(f"a replay needs two sessions at once, which {self._backend.name} does not have")
        schema = ensure_side_schema(self._backend, self.schema_name, self._live.manifest)
        follower = ChannelFollower(self._context, schema, self._source, self._make_kernel)
        try:
            with self._backend.connect() as connection, ThreadPoolExecutor(1, "scapp-replay") as thread:
                writing = Writing(connection, False, Capability.COPY_IN in self._backend.capabilities, thread)
                self._catch_up(follower, writing)
                with self._held() as live:
                    # What came while it was catching up; from here on the live tables stand still.
                    self._catch_up(follower, writing, live)
                    assert follower.cursor is not None
                    compared = self._compare(schema, live, writing.connection) if compare else None
                    if swap:
                        self._swap(schema, live)
                    return follower.cursor, compared
        finally:
            follower.release()

    def drop(self) -> None:
        """Drop what a replay left behind."""
        with self._backend.connect() as connection:
            drop_schema(connection, self.schema_name)

    # -- steps ----------------------------------------------------------------------------------------------------

    def _catch_up(self, follower: ChannelFollower, writing: Writing, live: Connection | None = None) -> None:
        if live is None:
            with self._backend.connect() as connection:
                cursor = read_cursor(connection, self._context.channel_id)
        else:
            cursor = read_cursor(live, self._context.channel_id)
        # A live cursor that somebody changed may lie beyond the log, which then ends the replay.
        self._source.turn_last = cursor.turn if cursor is not None and cursor.turn >= 0 else None
        total = cursor.sequence if cursor is not None else None
        self._meter.stage("deriving again", "entries", total, follower.cursor.sequence if follower.cursor else 0)
        try:
            for committed in follower.advance(writing):
                self._meter.advance(committed.end_sequence - committed.first_sequence)
                if self._stopping.is_set():
                    raise ReplayStopped("the node stops; the same command goes on from here")
        except DerivationHalted as error:
            raise ReplayStopped(f"the log cannot be derived here: {error}") from error

    @contextmanager
    def _held(self) -> Iterator[Connection]:
        """A transaction in which nobody moves the channel's live cursor, and so none of its rows."""
        with self._backend.connect() as connection:
            connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
            with connection.transaction():
                connection.execute(
                    "SELECT FROM scapp.cursors WHERE channel_id = %s FOR UPDATE", [bytes(self._context.channel_id)]
                )
                yield connection

    def _compare(self, schema: AppSchema, live: Connection, replayed: Connection) -> Compared:
        first: list[Difference] = []
        count = 0
        for found in self._differences(schema, live, replayed):
            count += 1
            if len(first) < DIFFERENCES_MAX:
                first.append(found)
        return Compared(tuple(first), count)

    def _differences(self, schema: AppSchema, live: Connection, replayed: Connection) -> Iterator[Difference]:
        channel_id = self._context.channel_id
        self._meter.stage("comparing rows", "rows")
        left, right = read_cursor(live, channel_id), read_cursor(replayed, channel_id, schema.home)
        if left != right:
            key = {"channel_id": "0x" + channel_id.hex()}
            yield difference("scapp.cursors", key, _cursor_shown(left), _cursor_shown(right))
        for table in _tables(self._live.manifest):
            found, expected = (f"{quoted(each.name)}.{quoted(table.name)}" for each in (self._live, schema))
            yield from self._table(f"{self._live.name}.{table.name}", table, (found, live), (expected, replayed))
        for table in (MESSAGES, EVENTS):
            found, expected = (f"{each.home}{table.name}" for each in (self._live, schema))
            yield from self._table(f"scapp.{table.name}", table, (found, live), (expected, replayed))

    def _table(
        self, name: str, table: Table, live: tuple[str, Connection], replayed: tuple[str, Connection]
    ) -> Iterator[Difference]:
        codec, channel_id = TableCodec(table), self._context.channel_id

        def keyed(target: str, connection: Connection) -> Generator[tuple[bytes, bytes], None, None]:
            for row in read_table(connection, target, table, channel_id):
                try:
                    yield codec.stored_key(row), row
                except ValueError:  # a key that only a hand at the database writes; it equals none
                    yield b"", row

        with closing(keyed(*live)) as left, closing(keyed(*replayed)) as right:
            for _, found, expected in differing(left, right):
                self._meter.advance()
                yield row_difference(name, table, found, expected)

    def _swap(self, schema: AppSchema, live: Connection) -> None:
        """Replayed rows in place of the live ones, and the replay gone: in the transaction that holds the cursor."""
        tables = _tables(self._live.manifest)
        self._meter.stage("taking the place of the live rows", "tables", len(tables) + 2)
        pairs = [
            (f"{quoted(self._live.name)}.{quoted(table.name)}", f"{quoted(schema.name)}.{quoted(table.name)}")
            for table in tables
        ]
        pairs += [(f"{self._live.home}{name}", f"{schema.home}{name}") for name in ("messages", "events")]
        channel_id = [bytes(self._context.channel_id)]
        register_channel(live, self._context)  # the cursor of a channel that lost it
        live.execute(sql.text("cursor_replace").format(source=f"{schema.home}cursors").encode(), channel_id)
        for target, source in pairs:
            live.execute(f"DELETE FROM {target} WHERE channel_id = %s".encode(), channel_id)  # noqa: S608
            live.execute(f"INSERT INTO {target} SELECT * FROM {source} WHERE channel_id = %s".encode(), channel_id)  # noqa: S608
            self._meter.advance()
        drop_schema(live, schema.name)


class _Bounded:
    """The log up to a turn."""

    def __init__(self, source: EntrySource) -> None:
        self._source = source
        self.turn_last: int | None = None

    def contexts(self) -> list[ChannelContext]:
        return self._source.contexts()

    def archived(self) -> Mapping[ChannelId, Archived]:
        return self._source.archived()

    def archive_version(self) -> int:
        return self._source.archive_version()

    def context(self, channel_id: ChannelId) -> ChannelContext | None:
        return self._source.context(channel_id)

    def batches(self, channel_id: ChannelId, position: int = 0) -> Iterator[SupportedBatch]:
        for batch in self._source.batches(channel_id, position):
            if self.turn_last is not None and batch.turn > self.turn_last:
                return
            yield batch

    def signed_state(self, channel_id: ChannelId, position: int) -> SignedState | None:
        return self._source.signed_state(channel_id, position)


def _tables(manifest: Manifest) -> list[Table]:
    """What the channel has rows in, besides what scapp keeps of every channel."""
    return [*manifest.tables, *history_tables(manifest)]


def schema_name(channel_id: bytes) -> str:
    """Where a channel is replayed to."""
    return f"scapp_replay_{channel_id[:8].hex()}"


def _cursor_shown(cursor: Cursor | None) -> dict[str, object] | None:
    if cursor is None:
        return None
    values = msgspec.structs.asdict(cursor)
    return {name: "0x" + value.hex() if isinstance(value, bytes) else str(value) for name, value in values.items()}
