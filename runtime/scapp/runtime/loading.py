"""A channel's kernel filled from its tables in the database, instead of from the whole log. `follow.py` uses it."""

from __future__ import annotations

from scapp.channels.admission import ChannelContext
from scapp.channels.types import ZERO_HASH
from scapp.runtime.database.connecting import Connection
from scapp.runtime.database.write import Cursor, read_cursor
from scapp.runtime.derive import DerivationHalted, Halt
from scapp.runtime.kernel import Kernel
from scapp.runtime.kernel_export import encode_export
from scapp.runtime.root import extend_event_root
from scapp.runtime.schema import AppSchema
from scapp.runtime.stored import read_events, read_rows


class CursorMoved(Exception):
    """Somebody else writes this channel: its cursor is not where it was."""


def load_tables(
    kernel: Kernel, context: ChannelContext, schema: AppSchema, connection: Connection, cursor: Cursor
) -> None:
    """Fill a fresh kernel with the rows at `cursor`, whose state root is a signed one.

    Raises DerivationHalted (corrupt) when the rows do not have that root, and CursorMoved."""
    channel_id = context.channel_id
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        if read_cursor(connection, channel_id, schema.home) != cursor:
            raise CursorMoved
        tables = schema.manifest.tables
        rows = tuple(tuple(read_rows(connection, schema.name, table, channel_id)) for table in tables)
        event_root = cursor.event_root or _event_root(connection, channel_id, schema.home)
    try:
        kernel.import_state(encode_export(context, event_root, cursor.amounts, rows, cursor.state_root))
    except ValueError as error:
        raise DerivationHalted(
            Halt.CORRUPT,
            f"the rows in the database are not those signed at turn {cursor.turn}: {error}. Nothing is written over "
            "them; `scapp verify` names what differs",
        ) from None


def _event_root(connection: Connection, channel_id: bytes, home: str) -> bytes:
    root: bytes = ZERO_HASH
    for event in read_events(connection, channel_id, home=home):
        root = extend_event_root(root, event.sequence, event.topic.encode(), event.data)
    return root
