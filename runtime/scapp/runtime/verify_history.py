"""The part of `verify.py` that looks at versions of rows: those in the database against those the log gives.

No signed root is over them, so the log is always run again for them. Both sides come in the order of messages, of which
one at a time is compared: memory does not grow with the history.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing

from scapp.channels.admission import ChannelContext
from scapp.channels.reading import EntrySource
from scapp.reducers.manifest import HISTORY_COLUMNS, Table
from scapp.runtime.arrays import field_end
from scapp.runtime.changes import COPY_NEVER
from scapp.runtime.database.connecting import Connection
from scapp.runtime.database.phrases import quoted
from scapp.runtime.differences import Difference, row_difference
from scapp.runtime.history import history_table
from scapp.runtime.kernel import Kernel
from scapp.runtime.progress import Meter
from scapp.runtime.replica import Replica
from scapp.runtime.rows import TableCodec, join
from scapp.runtime.schema import AppSchema

ROWS_AT_ONCE = 100  # a row may have a megabyte
_Place = tuple[int, bytes]  # sequence and encoded key; a key that no reducer writes is b""


def history_differences(
    connection: Connection,
    schema: AppSchema,
    context: ChannelContext,
    source: EntrySource,
    make_kernel: Callable[[], Kernel],
    turn: int,
    meter: Meter,
) -> Iterator[Difference]:
    """Every version up to a turn that is missing, extra or another; inside the caller's transaction. Raises
    DerivationHalted."""
    walks = {
        walk.table.name: walk
        for walk in (
            _Walk(connection, schema.name, table, context.channel_id, f"versions_{position}")
            for position, table in enumerate(schema.manifest.tables)
            if table.history
        )
    }
    with closing(make_kernel()) as kernel:
        for batch in Replica(context, source, kernel).advance(turn):
            for change in kernel.take_changes(COPY_NEVER).history:
                yield from walks[change.table].meet(change.rows())
            meter.advance(len(batch.entries))
    for walk in walks.values():
        yield from walk.rest()


class _Walk:
    """Goes through one table's stored versions while the derived ones come."""

    def __init__(self, connection: Connection, schema: str, table: Table, channel_id: bytes, cursor: str) -> None:
        self.table = history_table(table)
        self._name = f"{schema}.{self.table.name}"
        self._codec = TableCodec(table)
        target = f"{quoted(schema)}.{quoted(self.table.name)}"
        self._stored = self._placed(_stored(connection, target, self.table, channel_id, cursor))
        self._next = next(self._stored, None)

    def meet(self, rows: Iterable[bytes]) -> Iterator[Difference]:
        for place, right in self._placed(rows):
            yield from self._before(place)
            if self._next is None or self._next[0] != place:
                yield row_difference(self._name, self.table, None, right)
                continue
            if self._next[1] != right:
                yield row_difference(self._name, self.table, self._next[1], right)
            self._next = next(self._stored, None)

    def rest(self) -> Iterator[Difference]:
        yield from self._before((2**64, b""))

    def _before(self, place: _Place) -> Iterator[Difference]:
        while self._next is not None and self._next[0] < place:
            yield row_difference(self._name, self.table, self._next[1], None)
            self._next = next(self._stored, None)

    def _placed(self, rows: Iterable[bytes]) -> Iterator[tuple[_Place, bytes]]:
        count = self._codec.table.key
        for row in rows:
            end = 2
            for _ in range(count):
                end = field_end(row, end)
            sequence = int.from_bytes(row[end + 4 : end + 12], "big", signed=True)
            try:
                key = self._codec.read_key(count.to_bytes(2, "big") + row[2:end])
            except ValueError:  # only a hand at the database writes such
                key = b""
            yield (sequence, key), row


def _stored(connection: Connection, target: str, table: Table, channel_id: bytes, cursor: str) -> Iterator[bytes]:
    """The rows of a table of versions by sequence, then key, through a cursor of the server's: several may go on at
    once."""
    sequence = HISTORY_COLUMNS[0]
    keys = [c for c in table.key_columns if c.name != sequence]
    order = ", ".join((sequence, *(quoted(c.name) + (' COLLATE "C"' if c.type == "text" else "") for c in keys)))
    names = ", ".join(quoted(column.name) for column in table.columns)
    query = f"SELECT {names} FROM {target} WHERE channel_id = '\\x{channel_id.hex()}'::bytea ORDER BY {order}"  # noqa: S608
    connection.execute(f"DECLARE {cursor} NO SCROLL CURSOR FOR {query}".encode())
    fetch = f"FETCH {ROWS_AT_ONCE} FROM {cursor}".encode()
    width = range(len(table.columns))
    while True:
        result = connection.execute(fetch, binary=True).pgresult
        assert result is not None, "FETCH has a result"
        for row in range(result.ntuples):
            yield join([result.get_value(row, column) for column in width])
        if result.ntuples < ROWS_AT_ONCE:
            return
