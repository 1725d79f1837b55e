"""Domain types shared by every room of the channel stack; `state.py` builds Nitro's structures from them.

All values are raw bytes inside; hexadecimal text exists only at the edges (CLI, HTTP API, logs).
"""

from __future__ import annotations

from typing import NewType

Address = NewType("Address", bytes)
"""20 bytes: an Ethereum address."""
Bytes32 = NewType("Bytes32", bytes)
"""32 bytes without further meaning."""
ChannelId = NewType("ChannelId", bytes)
"""32 bytes: keccak256 of the ABI-encoded fixed part (docs/reference/nitro.md section 2)."""
Destination = NewType("Destination", bytes)
"""32 bytes: twelve zero bytes and an address, or a channel id (docs/reference/nitro.md section 3)."""
Hash = NewType("Hash", bytes)
"""32 bytes: a keccak256 digest."""
Signature = NewType("Signature", bytes)
"""65 bytes: r (32) || s (32) || v (27 or 28), low s."""

ZERO_ADDRESS = Address(bytes(20))
ZERO_HASH = Hash(bytes(32))
U48_MAX = 2**48 - 1
U64_MAX = 2**64 - 1
U256_MAX = 2**256 - 1


def asset_unit(asset: bytes) -> str:
    """What stands behind an amount in words for people: `wei`, or `of token 0x…`."""
    return "wei" if asset == ZERO_ADDRESS else f"of token 0x{asset.hex()}"
