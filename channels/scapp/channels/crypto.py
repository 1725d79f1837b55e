"""keccak256, chosen once at import and checked against known answers; signatures stand in `signing.py`.

tiny-keccak (Rust) is about 1.8 times faster on short inputs than safe-pysha3 (C); both are dependencies, so
that a platform without a wheel of the first still runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from scapp.channels.types import Hash

_KNOWN_ANSWERS = (
    (b"", "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"),
    (bytes(range(250)) * 4, "9c8f0cd3e22e9cea4110004c95f1639fd1962fec184b1a23b2fbced2d64ad5ff"),
)


def _sha3(data: bytes) -> bytes:
    from sha3 import keccak_256

    digest: bytes = keccak_256(data).digest()
    return digest


def _choose() -> Callable[[bytes], Hash]:
    chosen: Callable[[bytes], bytes]
    try:
        from tiny_keccak import keccak256 as chosen
    except ImportError:
        chosen = _sha3
    for data, answer in _KNOWN_ANSWERS:
        if chosen(data).hex() != answer:
            raise ImportError(f"{chosen!r} does not compute keccak256; reinstall it")
    return cast(Callable[[bytes], Hash], chosen)


keccak256: Callable[[bytes], Hash] = _choose()


def commitment(salt: bytes, channel_id: bytes, author: bytes, round_number: int, value: bytes) -> bytes:
    """What hides `value` until its author shows value and salt, as the SDKs compute it: keccak256(salt 32 B || channel
    id 32 B || author 20 B || round u64 big-endian || value).

    Raises ValueError for wrong lengths, OverflowError for a round outside 64 bits."""
    for name, given, size in (("salt", salt, 32), ("channel id", channel_id, 32), ("author", author, 20)):
        if len(given) != size:
            raise ValueError(f"{name} of {len(given)} bytes: {size} are needed")
    return keccak256(salt + channel_id + author + round_number.to_bytes(8, "big") + value)
