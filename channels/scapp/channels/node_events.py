"""Stored facts of the node itself, in its own stream (`log.port.NODE_STREAM`). `channel/events.py` has a channel's."""

from __future__ import annotations

import msgspec

from scapp.channels.errors import CorruptionError


class NodeRestored(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="node.restored.1"):
    """All of this log came from a backup made at `backup_ms`, put in place at `at_ms`. Channels that were opened in
    between are not in it, and must not begin a second life here."""

    at_ms: int
    backup_ms: int


NodeFact = NodeRestored
"""More of them become a union."""

PREFIX = "node."
_decoder = msgspec.msgpack.Decoder(NodeFact)
_any = msgspec.msgpack.Decoder(list[msgspec.Raw])
_tag = msgspec.msgpack.Decoder(str)

encode_node_event = msgspec.msgpack.Encoder().encode


def decode_node_event(data: bytes) -> NodeFact | None:
    """None for an event of another part of the node (their tags have other prefixes). Raises CorruptionError for bytes
    that are none, or an unknown one of ours: it is never skipped."""
    try:
        if not _tag.decode(_any.decode(data)[0]).startswith(PREFIX):
            return None
        return _decoder.decode(data)
    except (ValueError, RecursionError, IndexError) as error:  # msgspec's own errors are ValueErrors
        raise CorruptionError(f"stored event of the node cannot be read: {error}; {data[:24].hex()}…") from error
