"""The books out of the log: newest valid snapshot, then the events after it."""

from __future__ import annotations

from scapp.channels.books.events import decode_event
from scapp.channels.books.snapshots import BooksCodec
from scapp.channels.books.state import BooksState
from scapp.channels.books.step import BOOKS_STREAM
from scapp.channels.errors import CorruptionError
from scapp.channels.log.fold import fold
from scapp.channels.log.port import EventLog
from scapp.channels.types import Address


def load_books(log: EventLog, codec: BooksCodec, owner: Address) -> BooksState:
    """Raises CorruptionError when the stream contradicts itself, or is another key's."""
    state, version = fold(log, BOOKS_STREAM, decode_event, BooksState.next, BooksState(), snapshot_codec=codec)
    if state.version != version:
        raise CorruptionError(f"the books: a snapshot of version {state.version} stands at version {version}")
    for ledger in state.ledgers.values():
        if ledger.setup.me != owner:
            raise CorruptionError(
                f"ledger 0x{ledger.channel.hex()} is of the key 0x{ledger.setup.me.hex()}, this node's is "
                f"0x{owner.hex()}"
            )
    return state
