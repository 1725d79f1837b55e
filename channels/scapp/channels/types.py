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


_ETH_WEI, _ETH_SHOWN_FROM = 10**18, 10**12


def coin_text(wei: int) -> str:
    """`0.1 eth`, or `12 wei` for so little that zeros could be miscounted."""
    if wei < _ETH_SHOWN_FROM:
        return f"{wei} wei"
    whole, part = divmod(wei, _ETH_WEI)
    return f"{whole}.{part:018d}".rstrip("0").rstrip(".") + " eth"


def money(amount: int, asset: bytes = ZERO_ADDRESS, *, named: bool = False) -> str:
    """An amount for people: `12 wei`, `500000000000000000 wei (0.5 eth)`, `12 of token 0x…`; without the unit if the
    sentence has it elsewhere (`named`). The decimals of tokens are not known here."""
    shown = str(amount) if named else f"{amount} {asset_unit(asset)}"
    return f"{shown} ({coin_text(amount)})" if asset == ZERO_ADDRESS and amount >= _ETH_SHOWN_FROM else shown


def asset_unit(asset: bytes) -> str:
    """What stands behind an amount in words for people: `wei`, or `of token 0x…`."""
    return "wei" if asset == ZERO_ADDRESS else f"of token 0x{asset.hex()}"
