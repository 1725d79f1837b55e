"""The facts of a restore: every channel of the log recovers before it signs, and no channel begins a second life.

`mark_restored` writes them into a log that came from a backup, before any node runs on it; `restored_ms` reads them.
"""

from __future__ import annotations

from scapp.channels.channel.events import Restored, encode_event
from scapp.channels.errors import CorruptionError
from scapp.channels.log.port import NODE_STREAM, Append, EventLog, StreamWrite
from scapp.channels.node_events import NodeRestored, decode_node_event, encode_node_event


def mark_restored(log: EventLog, token: bytes, at_ms: int, backup_ms: int) -> dict[bytes, str]:
    """One durable append: `Restored` in each channel's stream, `NodeRestored` in the node's. `token`: 16 random bytes.

    Returns the channels that cannot be read, and why; a node keeps them closed."""
    unreadable: dict[bytes, str] = {}
    event = encode_event(Restored(token, at_ms, backup_ms))
    facts = {NODE_STREAM: encode_node_event(NodeRestored(at_ms, backup_ms))}
    facts.update((stream, event) for stream in log.streams() if stream != NODE_STREAM)
    writes: list[StreamWrite] = []
    for stream, fact in facts.items():
        try:
            writes.append(StreamWrite(stream, log.version(stream), (fact,)))
        except CorruptionError as error:
            unreadable[stream] = str(error)
    log.append(Append(tuple(writes)))
    return unreadable


def restored_ms(log: EventLog) -> int:
    """When this log was last put in place from a backup, in milliseconds since 1970; 0 for never."""
    events = [decode_node_event(data) for page in log.read(NODE_STREAM) for data in page.events]
    return max((event.at_ms for event in events if event is not None), default=0)
