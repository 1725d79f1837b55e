"""Signatures on the curve secp256k1: libsecp256k1 through coincurve, by one of two backends; `signing.py` says what is
signed.

coincurve's cffi module is private to it, but leaves out what its public classes do on every call (objects, DER,
hashing): signing and recovery are five to ten percent faster. Where it is missing or looks different, the public
classes do the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from coincurve import GLOBAL_CONTEXT, PrivateKey, PublicKey

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
HALF_ORDER_BYTES = (ORDER // 2).to_bytes(32, "big")
# Ids 2 and 3 mean an x coordinate above the order: about one in 2^128 signatures, none the chain accepts.
V_OF_ID = (b"\x1b", b"\x1c", b"\x1d", b"\x1e")
_COMPACT_BYTES = 64


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
            return signed[:_COMPACT_BYTES] + V_OF_ID[signed[_COMPACT_BYTES]]

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
            if signature[32:64] > HALF_ORDER_BYTES:
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


class DirectBackend(PublicBackend):
    """Through the library's own functions, without coincurve's classes in between.

    These release the interpreter lock, so each call takes buffers that nobody else has: `_spare` holds those that
    nobody uses. A list gives an item to one thread only, and for a third of what thread-local data costs."""

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
        self._spare = [_Buffers(ffi)]

    def signs(self, secret: bytes) -> Callable[[bytes], bytes]:
        # The C functions read 32 bytes whatever they are given.
        if len(secret) != 32:
            raise ValueError(f"secret of {len(secret)} bytes; it must have 32")
        ffi, spare, context, null = self._ffi, self._spare, self._context, self._null
        c_sign, serialize = self._sign, self._serialize

        def sign(digest: bytes) -> bytes:
            if len(digest) != 32:
                raise ValueError(f"digest of {len(digest)} bytes; it must have 32")
            # `_take`, here and in `check` without the call: these two are every batch.
            try:
                buffers = spare.pop()
            except IndexError:
                buffers = _Buffers(ffi)
            signature, recovery_id = buffers.signature, buffers.recovery_id
            # Two nulls: the library's default nonce function, which is RFC 6979, without extra data.
            if not c_sign(context, signature, digest, secret, null, null):
                raise ValueError("the secret is not a valid key")
            serialize(context, buffers.compact, recovery_id, signature)
            signed = buffers.compact_view[:] + V_OF_ID[recovery_id[0]]
            spare.append(buffers)
            return signed  # type: ignore[no-any-return]

        return sign

    def recover_key(self, digest: bytes, signature: bytes, recovery_id: int) -> bytes | None:
        if len(digest) != 32 or len(signature) < _COMPACT_BYTES or not 0 <= recovery_id <= 3:
            return None
        buffers, context = self._take(), self._context
        key: bytes | None = None
        if self._parse(context, buffers.signature, signature, recovery_id) and self._recover(
            context, buffers.public_key, buffers.signature, digest
        ):
            key = buffers.key_view[:]
        self._spare.append(buffers)
        return key

    def serialize_key(self, key: bytes) -> bytes:
        buffers = self._take()
        buffers.key_view[:] = key
        buffers.length[0] = 65
        self._serialize_key(self._context, buffers.point, buffers.length, buffers.public_key, self._uncompressed)
        serialized: bytes = buffers.point_view[1:65]
        self._spare.append(buffers)
        return serialized

    def _take(self) -> _Buffers:
        try:
            return self._spare.pop()
        except IndexError:
            return _Buffers(self._ffi)

    def checks(self, key: bytes) -> Callable[[bytes, bytes], bool]:
        point = self._ffi.new("secp256k1_pubkey *")
        self._ffi.buffer(point)[:] = key
        ffi, spare, context = self._ffi, self._spare, self._context
        parse, verify = self._parse_plain, self._verify

        def check(digest: bytes, signature: bytes) -> bool:
            try:
                buffers = spare.pop()
            except IndexError:
                buffers = _Buffers(ffi)
            plain = buffers.plain_signature
            valid = parse(context, plain, signature) == 1 and verify(context, plain, digest, point) == 1
            spare.append(buffers)
            return valid  # type: ignore[no-any-return]

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
