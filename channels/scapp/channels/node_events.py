"""Stored facts of the node itself, in its own stream (`log.port.NODE_STREAM`). `channel/events.py` has a channel's."""

from __future__ import annotations

import msgspec

from scapp.channels.errors import CorruptionError


class NodeRestored(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="node-restored.1"):
    """All of this log came from a backup made at `backup_ms`, put in place at `at_ms`. Channels that were opened in
    between are not in it, and must not begin a second life here."""

    at_ms: int
    backup_ms: int


NodeFact = NodeRestored
"""More of them become a union."""

_decoder = msgspec.msgpack.Decoder(NodeFact)

encode_node_event = msgspec.msgpack.Encoder().encode


def decode_node_event(data: bytes) -> NodeFact:
    """Raises CorruptionError for bytes that are no known event: an unknown event is never skipped."""
    try:
        return _decoder.decode(data)
    except (ValueError, RecursionError) as error:  # msgspec's own errors and UnicodeDecodeError are ValueErrors
        raise CorruptionError(f"stored event of the node cannot be read: {error}; {data[:24].hex()}…") from error
