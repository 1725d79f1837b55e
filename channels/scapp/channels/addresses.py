"""Addresses and keys as text: EIP-55 checksums and Nitro peer ids (docs/reference/nitro.md section 15)."""

from __future__ import annotations

from scapp.channels.abi import InvalidValue
from scapp.channels.crypto import keccak256
from scapp.channels.types import Address

_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
# Identity multihash of 37 bytes: protobuf with key type 2 (secp256k1) and 33 bytes of compressed key.
_PEER_ID_PREFIX = bytes((0x00, 0x25, 0x08, 0x02, 0x12, 0x21))


def checksum_address(address: Address) -> str:
    """`0x` and 40 digits whose upper and lower case carry a checksum (EIP-55)."""
    if len(address) != 20:
        raise InvalidValue(f"an address has 20 bytes, this one {len(address)}: 0x{address.hex()}")
    digits = address.hex()
    nibbles = keccak256(digits.encode()).hex()
    return "0x" + "".join(
        digit.upper() if nibble >= "8" else digit for digit, nibble in zip(digits, nibbles, strict=False)
    )


def parse_address(text: str) -> Address:
    """An address from text; mixed case must carry a right checksum. Raises `InvalidValue`."""
    if len(text) != 42 or text[:2] != "0x" or not set(text[2:].lower()) <= set("0123456789abcdef"):
        raise InvalidValue(f"{text[:80]!r} is no address; it must be 0x and 40 hexadecimal digits")
    address = Address(bytes.fromhex(text[2:]))
    digits = text[2:]
    if digits not in (digits.lower(), digits.upper()) and text != checksum_address(address):
        raise InvalidValue(
            f"{text} has a wrong checksum, so a digit may be wrong; is {checksum_address(address)} meant?"
        )
    return address


def peer_id(public_key: bytes) -> str:
    """The libp2p peer id that go-nitro gives to an uncompressed public key of 64 bytes."""
    if len(public_key) != 64:
        raise InvalidValue(f"an uncompressed public key has 64 bytes, this one {len(public_key)}")
    compressed = bytes([2 + (public_key[63] & 1)]) + public_key[:32]
    return _base58(_PEER_ID_PREFIX + compressed)


def _base58(data: bytes) -> str:
    number = int.from_bytes(data, "big")
    digits = ""
    while number:
        number, digit = divmod(number, 58)
        digits = _BASE58[digit] + digits
    leading_zeros = len(data) - len(data.lstrip(b"\0"))
    return _BASE58[0] * leading_zeros + digits
