"""Signatures as Nitro wants them: EIP-191 over a 32-byte hash, low s, v 27 or 28; keccak256 stands in `crypto.py`.

Two kinds of things are signed and can never be taken for one another: hashes (states, vouchers, challenges), always
32 bytes, and texts of any other length (the transport's handshake).

The curve is libsecp256k1 through coincurve, by one of two backends. coincurve's cffi module is private to it, but
leaves out what its public classes do on every call (objects, DER, hashing): signing and recovery are five to ten
percent faster. Where it is missing or looks different, the public classes do the same.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NoReturn, Protocol

from coincurve import GLOBAL_CONTEXT, PrivateKey, PublicKey

from scapp.channels.crypto import keccak256
from scapp.channels.errors import LocalError, PeerError
from scapp.channels.types import Address, Hash, Signature

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
SIGNATURE_BYTES = 65
_COMPACT_BYTES = 64
_HALF_ORDER_BYTES = (ORDER // 2).to_bytes(32, "big")
_PREFIX = b"\x19Ethereum Signed Message:\n"
_HASH_PREFIX = _PREFIX + b"32"
# Field size minus order. A smaller r may also stand for a point whose x is r plus the order (recovery ids 2 and 3), and
# the contracts' v names none of those.
_R_MIN = (0x14551231950B75FC4402DA1722FC9BAEE).to_bytes(32, "big")
# Ids 2 and 3 mean an x coordinate above the order: about one in 2^128 signatures, none the chain accepts.
_V_OF_ID = (b"\x1b", b"\x1c", b"\x1d", b"\x1e")
_ID_OF_V = {27: 0, 28: 1}


class Backend(Protocol):
    """`digest` and `secret` are 32 bytes."""

    def public_key(self, secret: bytes) -> bytes:
        """Uncompressed point without its prefix, 64 bytes; `secret` must be in range."""
        ...

    def signs(self, secret: bytes) -> Callable[[bytes], bytes]:
        """What signs a digest with the secret: r || s || v, 65 bytes, with RFC 6979 nonce and low s; v is 27 plus the
        recovery id. Threads may share it."""
        ...

    def recover_key(self, digest: bytes, signature: bytes, recovery_id: int) -> bytes | None:
        """The signer's public key in the backend's own form, the same bytes for the same key, or None when no key
        made the signature, which begins with r || s."""
        ...

    def serialize_key(self, key: bytes) -> bytes:
        """The public key, 64 bytes, of `recover_key`'s answer."""
        ...

    def recover(self, digest: bytes, signature: bytes, recovery_id: int) -> bytes | None:
        """Both in one: the signer's public key, 64 bytes, or None."""
        ...

    def checks(self, key: bytes) -> Callable[[bytes, bytes], bool]:
        """What tells of a digest and a signature whether the key, an answer of `recover_key`, made it. The caller has
        counted their bytes: 32, and at least 64, which are r || s. False for a high s. Threads may share it."""
        ...


class PublicBackend:
    """Through coincurve's documented classes."""

    def public_key(self, secret: bytes) -> bytes:
        return PublicKey.from_secret(secret).format(compressed=False)[1:]

    def signs(self, secret: bytes) -> Callable[[bytes], bytes]:
        key = PrivateKey(secret)

        def sign(digest: bytes) -> bytes:
            signed = key.sign_recoverable(digest, hasher=None)
            return signed[:_COMPACT_BYTES] + _V_OF_ID[signed[_COMPACT_BYTES]]

        return sign

    def recover(self, digest: bytes, signature: bytes, recovery_id: int) -> bytes | None:
        key = self.recover_key(digest, signature, recovery_id)
        return self.serialize_key(key) if key is not None else None

    def serialize_key(self, key: bytes) -> bytes:
        return key

    def recover_key(self, digest: bytes, signature: bytes, recovery_id: int) -> bytes | None:
        recoverable = signature[:_COMPACT_BYTES] + bytes([recovery_id])
        try:
            return PublicKey.from_signature_and_message(recoverable, digest, hasher=None).format(compressed=False)[1:]
        except Exception:  # coincurve raises bare Exception when nothing can be recovered, ValueError when parsing
            return None

    def checks(self, key: bytes) -> Callable[[bytes, bytes], bool]:
        def check(digest: bytes, signature: bytes) -> bool:
            if signature[32:64] > _HALF_ORDER_BYTES:
                return False
            return any(self.recover_key(digest, signature, recovery_id) == key for recovery_id in (0, 1))

        return check


class _Buffers:
    """C memory reused from call to call."""

    __slots__ = (
        "compact",
        "compact_view",
        "key_view",
        "length",
        "plain_signature",
        "point",
        "point_view",
        "public_key",
        "recovery_id",
        "signature",
    )

    def __init__(self, ffi: Any) -> None:
        self.signature = ffi.new("secp256k1_ecdsa_recoverable_signature *")
        self.plain_signature = ffi.new("secp256k1_ecdsa_signature *")
        self.public_key = ffi.new("secp256k1_pubkey *")
        self.recovery_id = ffi.new("int *")
        self.length = ffi.new("size_t *")
        self.compact = ffi.new(f"unsigned char[{_COMPACT_BYTES}]")
        self.point = ffi.new("unsigned char[65]")
        self.compact_view = ffi.buffer(self.compact)
        self.point_view = ffi.buffer(self.point)
        self.key_view = ffi.buffer(self.public_key)


class _PerThread(threading.local):
    """One set of buffers per thread: the library's calls release the interpreter lock."""

    def __init__(self, ffi: Any) -> None:
        self.buffers = _Buffers(ffi)


class DirectBackend(PublicBackend):
    """Through the library's own functions, without coincurve's classes in between."""

    def __init__(self) -> None:
        from coincurve._libsecp256k1 import ffi, lib  # type: ignore[import-not-found]

        self._context = GLOBAL_CONTEXT.ctx
        self._null = ffi.NULL
        self._uncompressed = lib.SECP256K1_EC_UNCOMPRESSED
        self._sign = lib.secp256k1_ecdsa_sign_recoverable
        self._serialize = lib.secp256k1_ecdsa_recoverable_signature_serialize_compact
        self._parse = lib.secp256k1_ecdsa_recoverable_signature_parse_compact
        self._recover = lib.secp256k1_ecdsa_recover
        self._serialize_key = lib.secp256k1_ec_pubkey_serialize
        self._parse_plain = lib.secp256k1_ecdsa_signature_parse_compact
        self._verify = lib.secp256k1_ecdsa_verify
        self._ffi = ffi
        self._mine = _PerThread(ffi)

    def signs(self, secret: bytes) -> Callable[[bytes], bytes]:
        # The C functions read 32 bytes whatever they are given.
        if len(secret) != 32:
            raise ValueError(f"secret of {len(secret)} bytes; it must have 32")
        mine, context, null = self._mine, self._context, self._null
        c_sign, serialize = self._sign, self._serialize

        def sign(digest: bytes) -> bytes:
            if len(digest) != 32:
                raise ValueError(f"digest of {len(digest)} bytes; it must have 32")
            buffers = mine.buffers
            signature, recovery_id = buffers.signature, buffers.recovery_id
            # Two nulls: the library's default nonce function, which is RFC 6979, without extra data.
            if not c_sign(context, signature, digest, secret, null, null):
                raise ValueError("the secret is not a valid key")
            serialize(context, buffers.compact, recovery_id, signature)
            return buffers.compact_view[:] + _V_OF_ID[recovery_id[0]]  # type: ignore[no-any-return]

        return sign

    def recover_key(self, digest: bytes, signature: bytes, recovery_id: int) -> bytes | None:
        if len(digest) != 32 or len(signature) < _COMPACT_BYTES or not 0 <= recovery_id <= 3:
            return None
        buffers, context = self._mine.buffers, self._context
        if not self._parse(context, buffers.signature, signature, recovery_id):
            return None
        if not self._recover(context, buffers.public_key, buffers.signature, digest):
            return None
        return buffers.key_view[:]  # type: ignore[no-any-return]

    def serialize_key(self, key: bytes) -> bytes:
        buffers = self._mine.buffers
        buffers.key_view[:] = key
        buffers.length[0] = 65
        self._serialize_key(self._context, buffers.point, buffers.length, buffers.public_key, self._uncompressed)
        return buffers.point_view[1:65]  # type: ignore[no-any-return]

    def checks(self, key: bytes) -> Callable[[bytes, bytes], bool]:
        point = self._ffi.new("secp256k1_pubkey *")
        self._ffi.buffer(point)[:] = key
        mine, context = self._mine, self._context
        parse, verify = self._parse_plain, self._verify

        def check(digest: bytes, signature: bytes) -> bool:
            plain = mine.buffers.plain_signature
            return parse(context, plain, signature) == 1 and verify(context, plain, digest, point) == 1  # type: ignore[no-any-return]

        return check


def choose_backend() -> Backend:
    """The direct one, if it is there and gives the same answers as the public one on a fixed example."""
    public = PublicBackend()
    secret, digest = bytes(31) + b"\x01", bytes(range(32))
    expected = public.signs(secret)(digest)
    try:
        direct = DirectBackend()
        recovered = direct.recover(digest, expected, expected[64] - 27)
        if direct.signs(secret)(digest) == expected and recovered == public.public_key(secret) and _checks(direct):
            return direct
    except (ImportError, AttributeError, TypeError):
        pass
    return public


def _checks(backend: Backend) -> bool:
    """Is a signature of the key accepted, and of no other?"""
    digest = bytes(range(32))
    signatures = [backend.signs(secret)(digest) for secret in (bytes(31) + b"\x01", bytes(31) + b"\x02")]
    key = backend.recover_key(digest, signatures[0], signatures[0][64] - 27)
    assert key is not None
    check = backend.checks(key)
    return [check(digest, signature) for signature in signatures] == [True, False]


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
            signature = signature[:64] + _V_OF_ID[1 - _ID_OF_V[signature[64]]]
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
    if signature[32:64] > _HALF_ORDER_BYTES:
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
    return Signature(signature[:64] + _V_OF_ID[signature[64]])
