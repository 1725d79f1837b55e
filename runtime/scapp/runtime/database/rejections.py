"""What this node's admission refused, kept for whoever asks why; bounded per channel by number and age.

Local diagnostics: not derived from the log, not under any root, gone when the database is rebuilt.
"""

from __future__ import annotations

import collections
import contextlib
import logging
from collections.abc import Sequence

import msgspec
import psycopg

from scapp.runtime.database import binary, sql
from scapp.runtime.database.binary import Raw
from scapp.runtime.database.connecting import Connection

KEPT_PER_CHANNEL = 1_000
KEPT_SECONDS = 30 * 86_400
REASON_CHARACTERS_MAX = 2_000
_log = logging.getLogger(__name__)


class Rejection(msgspec.Struct, frozen=True, gc=False):
    """One refused payload: its author's index and counter, the refusal's code and its reason."""

    channel_id: bytes
    author: int
    counter: int
    code: str
    reason: str


def store_rejections(connection: Connection, rejections: Sequence[Rejection], *, kept: int = KEPT_PER_CHANNEL) -> None:
    """Append, then drop what is too old or too many, in one transaction."""
    binary.register(connection)
    cursor = psycopg.RawCursor(connection)
    with connection.transaction():
        for item in rejections:
            parameters = [
                Raw(item.channel_id),
                Raw(item.author.to_bytes(2, "big", signed=True)),
                Raw(b"%d" % item.counter),
                Raw(_text(item.code)),
                Raw(_text(item.reason)),
            ]
            cursor.execute(sql.text("rejections_insert").encode(), parameters)
        for channel_id in sorted({item.channel_id for item in rejections}):
            cursor.execute(sql.text("rejections_trim").encode(), [Raw(channel_id), kept, float(KEPT_SECONDS)])


def store_waiting(
    connection: Connection, waiting: collections.deque[Rejection], passing: tuple[type[Exception], ...]
) -> None:
    """Store all that waits; it waits on when an error of the database is a `passing` one, which is raised again."""
    batch: list[Rejection] = []
    with contextlib.suppress(IndexError):
        while True:
            batch.append(waiting.popleft())
    if not batch:
        return
    try:
        store_rejections(connection, batch)
    except passing:
        waiting.extendleft(reversed(batch))
        raise
    except psycopg.Error as error:  # diagnostics must not hold up the rows
        _log.warning("%d refusals cannot be recorded: %s", len(batch), error)


def _text(text: str) -> bytes:
    """UTF-8 without NUL, which PostgreSQL's text cannot hold; a reason comes from a reducer and may be anything."""
    return text[:REASON_CHARACTERS_MAX].replace("\0", "�").encode("utf-8", "replace")
