"""The commitments an app channel puts into every state's `appData` (docs/reference/app-channel.md section 2)."""

from __future__ import annotations

import msgspec

from scapp.channels import abi
from scapp.channels.abi import InvalidValue
from scapp.channels.types import U64_MAX, Hash

VERSION = 1
APP_DATA_BYTES = 6 * abi.WORD
_VERSION_WORD = abi.word(VERSION)
_U64_PADDING = bytes(24)


class AppData(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """`sequence` counts the entries so far; `time_ms` is the state's time in milliseconds since 1970 UTC."""

    deployment: Hash
    sequence: int
    log_root: Hash
    state_root: Hash
    time_ms: int


def encode_app_data(deployment: bytes, sequence: int, log_root: bytes, state_root: bytes, time_ms: int) -> bytes:
    """`abi.encode(uint8 version, bytes32, uint64, bytes32, bytes32, uint64)`, 192 bytes; raises `InvalidValue`."""
    if len(deployment) != 32 or len(log_root) != 32 or len(state_root) != 32:
        for value, field in ((deployment, "deployment"), (log_root, "log root"), (state_root, "state root")):
            abi.bytes32(value, field)
    if sequence >> 64 or time_ms >> 64:
        for number, field in ((sequence, "sequence"), (time_ms, "time")):
            abi.uint(number, 64, field)
    return b"".join(
        (_VERSION_WORD, deployment, sequence.to_bytes(32, "big"), log_root, state_root, time_ms.to_bytes(32, "big"))
    )


def decode_app_data(data: bytes) -> AppData:
    """Inverse of `encode_app_data`; raises `InvalidValue` for anything that function would not have written."""
    if len(data) != APP_DATA_BYTES:
        abi.wrong_length(data, APP_DATA_BYTES, "app data")
    if data[:32] != _VERSION_WORD:
        raise InvalidValue(f"app data of version 0x{data[:32].hex().lstrip('0')}; this node speaks version {VERSION}")
    if data[64:88] != _U64_PADDING or data[160:184] != _U64_PADDING:
        raise InvalidValue(f"sequence or time in app data is above {U64_MAX}")
    return AppData(
        Hash(data[32:64]),
        int.from_bytes(data[88:96], "big"),
        Hash(data[96:128]),
        Hash(data[128:160]),
        int.from_bytes(data[184:192], "big"),
    )
