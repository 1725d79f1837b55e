"""Vouchers with locked parts, for channels whose app is HashLockPaymentApp (docs/reference/payments.md). Pure.

A lock adds its amount to the voucher's for whoever shows the preimage of its hash in time. `hops.py` has the rules by
which a payment crosses several channels in all of them or in none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from scapp.channels import abi
from scapp.channels.crypto import keccak256
from scapp.channels.payments.vouchers import VoucherSigner
from scapp.channels.signing import Verifier
from scapp.channels.types import ChannelId, Hash

LOCKS_MAX = 32
"""In one voucher: what the payee can open on chain in one transaction, many times over."""
_EXPIRY_BITS = 48


class Lock(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """`amount` for the preimage (32 bytes) whose sha256 is `hash`, revealed at `expiry_s` (seconds since 1970, as the
    chain counts them) at the latest."""

    amount: int
    hash: bytes
    expiry_s: int


class LockedVoucher(msgspec.Struct, frozen=True, gc=False):
    """`amount`: everything paid so far in the channel without condition; `locks`: what may come on top."""

    channel: ChannelId
    amount: int
    locks: tuple[Lock, ...]
    signature: bytes

    @property
    def most(self) -> int:
        """What the payee has if every lock is opened."""
        return self.amount + sum(lock.amount for lock in self.locks)

    def worth(self, opened: frozenset[bytes]) -> int:
        """What the payee has if the locks of these hashes are opened."""
        return self.amount + sum(lock.amount for lock in self.locks if lock.hash in opened)


def hash_of(preimage: bytes) -> bytes:
    """What a preimage opens."""
    return hashlib.sha256(preimage).digest()


def locked_voucher_hash(voucher: LockedVoucher) -> Hash:
    """What the payer signs: keccak256 of `abi.encode(bytes32 channel, uint256 amount, Lock[] locks)`."""
    return _hash(voucher.channel, voucher.amount, voucher.locks)


def _hash(channel: ChannelId, amount: int, locks: Sequence[Lock]) -> Hash:
    head = abi.bytes32(channel, "channel id") + abi.uint(amount, 256, "voucher amount") + abi.word(3 * abi.WORD)
    return Hash(keccak256(head + _encode(locks)))


def _encode(locks: Sequence[Lock]) -> bytes:
    items = (
        abi.uint(lock.amount, 256, "lock amount")
        + abi.bytes32(lock.hash, "lock hash")
        + abi.uint(lock.expiry_s, _EXPIRY_BITS, "lock expiry")
        for lock in locks
    )
    return abi.word(len(locks)) + b"".join(items)


def sign_locked(channel: ChannelId, amount: int, locks: Sequence[Lock], signer: VoucherSigner) -> LockedVoucher:
    """Raises InvalidValue for numbers that do not fit."""
    return LockedVoucher(channel, amount, tuple(locks), signer.sign(_hash(channel, amount, locks)))


def redemption_of_locks(voucher: LockedVoucher, payer: Verifier) -> bytes:
    """App data of the redemption: `abi.encode(uint256 amount, Lock[] locks, (uint8 v, bytes32 r, bytes32 s))`. Its turn
    is 2 plus the number of locks opened on chain, its outcome what those and `amount` give.

    Raises InvalidSignature when the payer did not sign it."""
    signature = payer.completed(locked_voucher_hash(voucher), voucher.signature)
    head = abi.uint(voucher.amount, 256, "voucher amount") + abi.word(5 * abi.WORD)
    return head + abi.word(signature[64]) + signature[:64] + _encode(voucher.locks)
