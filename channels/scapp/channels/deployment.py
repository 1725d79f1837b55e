"""What the participants agree to run: reducer hash, ABI version and signed limits, and the id that commits to them.

The id stands in every signed state (`appData.deployment`). The manifest proper (tables, columns) is inside the
reducer's bytes and so under `reducer`; its types live in `scapp.reducers.manifest`.
"""

from __future__ import annotations

import msgspec

from scapp.channels.crypto import keccak256
from scapp.channels.types import Hash

ABI = "scapp_1"


class Limits(msgspec.Struct, frozen=True, array_like=True, gc=False, kw_only=True):
    """The signed limits. Sizes are bytes, times milliseconds; all are part of the deployment id."""

    payload_bytes_max: int = 16_384
    batch_entries_max: int = 1_000
    batch_bytes_max: int = 1_048_576
    rows_max: int = 1_000_000
    row_bytes_total_max: int = 268_435_456
    events_per_message_max: int = 256
    event_bytes_max: int = 65_536
    logs_per_message_max: int = 256
    log_bytes_max: int = 4_096
    fuel_per_message: int = 50_000_000
    memory_bytes_max: int = 16_777_216
    time_tolerance_ms: int = 60_000


class Deployment(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """`reducer` is keccak256 of the module's original bytes."""

    reducer: bytes  # 32
    abi: str = ABI
    limits: Limits = Limits()


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Deployment)


def encode_deployment(deployment: Deployment) -> bytes:
    """Canonical bytes: the MessagePack array `[reducer, abi, [limits…]]`, fields in the order declared here."""
    return _encoder.encode(deployment)


def decode_deployment(data: bytes) -> Deployment:
    """Inverse of `encode_deployment`; raises `msgspec.DecodeError` or `ValueError` for anything but canonical bytes."""
    deployment = _decoder.decode(data)
    if len(deployment.reducer) != 32 or _encoder.encode(deployment) != data:
        raise ValueError("deployment bytes are not canonical")
    return deployment


def deployment_id(deployment: Deployment) -> Hash:
    """keccak256 of the canonical bytes."""
    return Hash(keccak256(encode_deployment(deployment)))
