"""The facts of a restore: every channel of the log, ledgers and purses too, recovers before it signs, and none begins a
second life.

`mark_restored` writes them into a log that came from a backup, before any node runs on it; `restored_ms` reads them.
"""

from __future__ import annotations

from collections.abc import Iterable

from scapp.channels.archive import last_events
from scapp.channels.books.events import BooksRestored
from scapp.channels.books.events import encode_event as encode_books_event
from scapp.channels.books.step import BOOKS_STREAM
from scapp.channels.channel.events import Restored, encode_event, retired_by
from scapp.channels.errors import CorruptionError
from scapp.channels.log.port import NODE_STREAM, Append, EventLog, StreamWrite
from scapp.channels.node_events import NodeRestored, decode_node_event, encode_node_event
from scapp.channels.payments.events import PurseRestored, encode_purse_event, ends_purse, is_purse_event
from scapp.channels.payments.locked.events import LOCKS_STREAM, LocksRestored, encode_locks_event


def mark_restored(log: EventLog, token: bytes, at_ms: int, backup_ms: int) -> dict[bytes, str]:
    """One durable append: `Restored` in each app channel's stream that is not retired, `PurseRestored` in that of each
    payment channel that is not settled, `BooksRestored` in that of the ledgers, `LocksRestored` in that of locked
    payments, `NodeRestored` in the node's. `token`: 16 random bytes.

    Returns the channels that cannot be read, and why; a node keeps them closed."""
    unreadable: dict[bytes, str] = {}
    of_app = encode_event(Restored(token, at_ms, backup_ms))
    of_purse = encode_purse_event(PurseRestored(token, at_ms, backup_ms))
    of_locks = encode_locks_event(LocksRestored(token, at_ms, backup_ms))
    of_books = encode_books_event(BooksRestored(token, at_ms, backup_ms))
    writes = [StreamWrite(NODE_STREAM, log.version(NODE_STREAM), (encode_node_event(NodeRestored(at_ms, backup_ms)),))]
    # Ledgers are told also when the backup knows of none: one that came after it must not begin a second life.
    streams = {*log.streams(), BOOKS_STREAM} - {NODE_STREAM}
    for stream in sorted(streams - finished(log, streams)):
        try:
            named = {BOOKS_STREAM: of_books, LOCKS_STREAM: of_locks}.get(stream)
            fact = named or (of_purse if is_purse(log, stream) else of_app)
            writes.append(StreamWrite(stream, log.version(stream), (fact,)))
        except CorruptionError as error:
            unreadable[stream] = str(error)
    log.append(Append(tuple(writes)))
    return unreadable


def is_purse(log: EventLog, stream: bytes) -> bool:
    """Is the stream a payment channel's purse? Its first event tells. Raises CorruptionError."""
    return is_purse_event(next((page.events[0] for page in log.read(stream)), b""))


def finished(log: EventLog, streams: Iterable[bytes]) -> set[bytes]:
    """Those of the streams that are over, by their last events alone: settled purses, and channels that are retired."""
    found = ((stream, event or b"") for stream, event in last_events(log, streams))
    return {stream for stream, event in found if ends_purse(event) or retired_by(event) is not None}


def restored_ms(log: EventLog) -> int:
    """When this log was last put in place from a backup, in milliseconds since 1970; 0 for never."""
    events = [decode_node_event(data) for page in log.read(NODE_STREAM) for data in page.events]
    return max((event.at_ms for event in events if event is not None), default=0)
