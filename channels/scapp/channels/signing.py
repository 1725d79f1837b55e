"""Signatures as Nitro wants them: EIP-191 over a 32-byte hash, low s, v 27 or 28; keccak256 stands in `crypto.py`.

Two kinds of things are signed and can never be taken for one another: hashes (states, vouchers, challenges), always
32 bytes, and texts of any other length (the transport's handshake).

The curve stands in `curve.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from scapp.channels.crypto import keccak256
from scapp.channels.curve import HALF_ORDER_BYTES, ORDER, V_OF_ID, Backend, choose_backend
from scapp.channels.errors import LocalError, PeerError
from scapp.channels.types import Address, Hash, Signature

SIGNATURE_BYTES = 65
_PREFIX = b"\x19Ethereum Signed Message:\n"
_HASH_PREFIX = _PREFIX + b"32"
# Field size minus order. A smaller r may also stand for a point whose x is r plus the order (recovery ids 2 and 3), and
# the contracts' v names none of those.
_R_MIN = (0x14551231950B75FC4402DA1722FC9BAEE).to_bytes(32, "big")
_ID_OF_V = {27: 0, 28: 1}

_BACKEND: Backend = choose_backend()


class InvalidKey(LocalError, ValueError):
    """A secret that is no secp256k1 key. The text never shows it."""


class InvalidSignature(PeerError):
    """A signature of the wrong form, by nobody, or by somebody else."""


def eth_digest(h: bytes) -> bytes:
    """EIP-191 digest of a 32-byte hash: what is signed for it, here and in the contracts."""
    if len(h) != 32:
        raise LocalError(f"a digest is made of a hash of 32 bytes, not of {len(h)} bytes; texts go through sign_text")
    return keccak256(_HASH_PREFIX + h)


def text_digest(data: bytes) -> bytes:
    """EIP-191 digest of a text. Refuses 32 bytes: that would be the digest of a hash, a signature over a state."""
    if len(data) == 32:
        raise LocalError("a text of exactly 32 bytes could be a state hash; make it longer")
    return keccak256(_PREFIX + str(len(data)).encode() + data)


class Signer:
    """A private key in use. Parse it once and keep it: deriving the address costs as much as a signature."""

    __slots__ = ("_sign", "address", "public_key")

    address: Address
    public_key: bytes  # uncompressed, 64 bytes

    def __init__(self, secret: bytes) -> None:
        if len(secret) != 32:
            raise InvalidKey(f"a private key has 32 bytes, this one {len(secret)}")
        if not 0 < int.from_bytes(secret, "big") < ORDER:
            raise InvalidKey("a private key is a number from 1 to the curve's order minus 1; this one is outside")
        self._sign = _BACKEND.signs(bytes(secret))  # which holds the secret
        self.public_key = _BACKEND.public_key(secret)
        self.address = address_of(self.public_key)

    def sign(self, h: Hash) -> Signature:
        """Sign a state, voucher or challenge hash; the same hash always gives the same 65 bytes (RFC 6979)."""
        digest = keccak256(_HASH_PREFIX + h) if len(h) == 32 else eth_digest(h)  # which tells what is wrong
        sign = self._sign
        return sign(digest)  # type: ignore[return-value]  # a call of `Signature` is not free

    def sign_text(self, data: bytes) -> Signature:
        """Sign a text of any length but 32, with its length in the digest."""
        return Signature(self._sign(text_digest(data)))

    def __repr__(self) -> str:
        return f"Signer(0x{self.address.hex()})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Signer is not pickled or copied: it holds a private key")


class Verifier:
    """Checks signatures that must be by one known address; safe to share between threads.

    `verify` and `matches` take a signature as the contracts do: they recover the signer by v and compare. `signed`
    asks only whether the address signed, whatever v says, and is a fifth faster, for it checks against the public key
    once that is known; `completed` gives such a signature the one v with which the contracts take it."""

    __slots__ = ("_check", "_key", "address")

    def __init__(self, address: Address) -> None:
        if len(address) != 20:
            raise LocalError(f"an address has 20 bytes, this one {len(address)}: 0x{address.hex()}")
        self.address = address
        self._key: bytes | None = None  # a recovered key that hashes to the address, in the backend's form
        self._check: Callable[[bytes, bytes], bool] | None = None  # of the same key

    def verify(self, h: Hash, signature: bytes) -> None:
        """Raise `InvalidSignature`, with the reason, unless `signature` is this address's over the hash.

        It returns nothing, so that a caller who asks for its truth refuses everything instead of accepting it."""
        key = _recover_key(eth_digest(h), signature)
        if key != self._key:  # the hash of the same key needs no second look
            self._compare(key)

    def _compare(self, key: bytes) -> None:
        signer = address_of(_BACKEND.serialize_key(key))
        if signer != self.address:
            raise InvalidSignature(f"signed by 0x{signer.hex()}, expected 0x{self.address.hex()}")
        self._check = _BACKEND.checks(key)
        self._key = key

    def matches(self, h: Hash, signature: bytes) -> bool:
        """The same as an answer; never raises, whatever bytes a peer sent as a signature."""
        try:
            self.verify(h, signature)
        except InvalidSignature:
            return False
        return True

    def signed(self, h: Hash, signature: bytes) -> bool:
        """Are r and s by this address, and is v 27 or 28, be it the right one or not? Never raises.

        What passes here passes `completed` as well: exactly one v recovers the address. (Not so for the r below
        `_R_MIN`, which might stand for two points each; nobody is known to be able to make such a signature.)"""
        check = self._check
        if check is None or len(h) != 32:
            return self._signed_by_unknown_key(h, signature)
        if len(signature) != SIGNATURE_BYTES or signature[64] not in _ID_OF_V or signature < _R_MIN:
            return False
        return check(keccak256(_HASH_PREFIX + h), signature)

    def _signed_by_unknown_key(self, h: Hash, signature: bytes) -> bool:
        try:
            self.completed(h, signature)
        except InvalidSignature:
            return False
        return signature >= _R_MIN

    def completed(self, h: Hash, signature: bytes) -> Signature:
        """The signature with the v by which its signer is recovered; raises `InvalidSignature` unless r and s are by
        this address."""
        try:
            self.verify(h, signature)
        except InvalidSignature:
            if len(signature) != SIGNATURE_BYTES or signature[64] not in _ID_OF_V:
                raise
            signature = signature[:64] + V_OF_ID[1 - _ID_OF_V[signature[64]]]
            self.verify(h, signature)
        return Signature(bytes(signature))

    def __repr__(self) -> str:
        return f"Verifier(0x{self.address.hex()})"


def address_of(public_key: bytes) -> Address:
    """The Ethereum address of an uncompressed public key of 64 bytes."""
    return Address(keccak256(public_key)[12:])


def recover(h: Hash, signature: bytes) -> Address:
    """Who signed the hash; raises `InvalidSignature` for a wrong length, v, a high s, or when there is no such key."""
    return _recover_digest(eth_digest(h), signature)


def recover_text(data: bytes, signature: bytes) -> Address:
    """Who signed the text (`Signer.sign_text`); raises like `recover`."""
    return _recover_digest(text_digest(data), signature)


def _recover_digest(digest: bytes, signature: bytes) -> Address:
    return address_of(_BACKEND.serialize_key(_recover_key(digest, signature)))


def _recover_key(digest: bytes, signature: bytes) -> bytes:
    """The signer's key in the backend's form."""
    if len(signature) != SIGNATURE_BYTES:
        raise InvalidSignature(f"a signature has {SIGNATURE_BYTES} bytes, this one {len(signature)}")
    recovery_id = _ID_OF_V.get(signature[64])
    if recovery_id is None:
        raise InvalidSignature(f"v is {signature[64]}; allowed are 27 and 28")
    # Each signature has a twin with n - s; with one of the two forms forbidden nobody can make a second signature.
    if signature[32:64] > HALF_ORDER_BYTES:
        raise InvalidSignature(f"s is 0x{signature[32:64].hex()}, above half the curve's order")
    key = _BACKEND.recover_key(digest, signature, recovery_id)
    if key is None:
        raise InvalidSignature(f"no key makes the signature 0x{signature.hex()}")
    return key


def normalise_v(signature: bytes) -> Signature:
    """The same signature with v 27 or 28, for sources that write 0 or 1; raises `InvalidSignature` otherwise."""
    if len(signature) != SIGNATURE_BYTES:
        raise InvalidSignature(f"a signature has {SIGNATURE_BYTES} bytes, this one {len(signature)}")
    if signature[64] in _ID_OF_V:
        return Signature(bytes(signature))
    if signature[64] > 1:
        raise InvalidSignature(f"v is {signature[64]}; allowed are 27 and 28, and 0 and 1 where they are normalised")
    return Signature(signature[:64] + V_OF_ID[signature[64]])
