"""What a kernel writes as its snapshot, and the check of one that is read back; `reference.py` fills tables from it."""

from __future__ import annotations

import msgspec

from scapp.channels.admission import ChannelContext
from scapp.channels.deployment import deployment_id

EXPORT_VERSION = 1


class Export(msgspec.Struct, frozen=True, array_like=True):
    """What `export_state` writes, in MessagePack."""

    version: int
    deployment: bytes
    channel_id: bytes
    event_root: bytes
    amounts: tuple[bytes, ...]  # 32 bytes each, big-endian
    rows: tuple[tuple[bytes, ...], ...]  # by table position, in key order
    state_root: bytes


_decoder = msgspec.msgpack.Decoder(Export)


def encode_export(
    context: ChannelContext,
    event_root: bytes,
    amounts: tuple[int, ...],
    rows: tuple[tuple[bytes, ...], ...],
    root: bytes,
) -> bytes:
    """Snapshot bytes of one channel."""
    words = tuple(amount.to_bytes(32, "big") for amount in amounts)
    deployment = deployment_id(context.deployment)
    export = Export(EXPORT_VERSION, deployment, context.channel_id, event_root, words, rows, root)
    return msgspec.msgpack.encode(export)


def decode_export(context: ChannelContext, table_count: int, data: bytes) -> Export:
    """A snapshot of this channel; raises ValueError for anything else. Its rows are yet to be checked."""
    try:
        export = _decoder.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"not an export of a kernel: {error}") from None
    found = (export.version, export.deployment, export.channel_id, len(export.amounts), len(export.rows))
    deployment = deployment_id(context.deployment)
    expected = (EXPORT_VERSION, deployment, context.channel_id, len(context.slots), table_count)
    if found != expected:
        raise ValueError(f"export of another channel, deployment or version: {found}; expected {expected}")
    words = (export.event_root, *export.amounts, export.state_root)
    if any(len(word) != 32 for word in words):
        raise ValueError(f"export with roots and amounts of {[len(word) for word in words]} bytes; each has 32")
    return export
