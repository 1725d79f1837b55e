"""What neighbours say to each other about locked payments (docs/reference/payments.md): tags begin "k:".

Everything here is a peer's claim until `deciding` has checked it. Decoding checks shapes and lengths only. None of it
has to arrive: vouchers and preimages are said again until they are answered, asks are asked anew.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from scapp.channels.channel.messages import B20, B32, B65, U48, U63, MalformedMessage, Short
from scapp.channels.payments.locks import LOCKS_MAX
from scapp.channels.payments.messages import Token

HOPS_MAX = 8
PREIMAGES_MAX = 256
"""In one message: of a lane's locks that have not ended."""

Hops = Annotated[tuple[tuple[B20, B32, U48], ...], msgspec.Meta(max_length=HOPS_MAX)]
Locks = Annotated[tuple[tuple[B32, B32, U48], ...], msgspec.Meta(max_length=LOCKS_MAX)]


class Ask(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="k:ask"):
    """Would you take a lock of `amount` on that hash, which ends at `expiry_s`, and pass it on along `hops` (none: is
    it for you)? Nothing is promised by it. `number` is the asker's own."""

    hash: B32
    asset: B20
    amount: B32
    expiry_s: U48
    hops: Hops
    number: U63


class Answer(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="k:answer"):
    """`by` would not, or everybody would (`reason` empty). `fee`: what that hub asks, where it was offered less.
    `number` is that of the question."""

    hash: B32
    by: B20
    reason: Short
    fee: B32
    number: U63


class Locked(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="k:locked"):
    """From the payer: its newest voucher, and for each lock in it where it goes on to, (hash, hops)."""

    channel: B32
    number: U63
    amount: B32
    locks: Locks
    signature: B65
    onward: Annotated[tuple[tuple[B32, Hops], ...], msgspec.Meta(max_length=LOCKS_MAX)]


class LockedSeen(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="k:seen"):
    """From the payee: it holds the voucher with that number, durably."""

    channel: B32
    number: U63


class LockedRefusal(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="k:refused"):
    """From the payee: it does not take the voucher with that number, and why."""

    channel: B32
    number: U63
    reason: Short


class Secret(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="k:secret"):
    """From the payee: the preimage of a lock in its newest voucher; the payer makes it unconditional."""

    channel: B32
    preimage: B32


class Failed(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="k:failed"):
    """From the payee: the lock on that hash that ends then will not be opened, and why. It stands until its end."""

    channel: B32
    hash: B32
    expiry_s: U48
    reason: Short


class LaneWanted(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="k:want"):
    """Ask the other party for the newest voucher it knows. `token` is that of the asker's restore."""

    channel: B32
    token: Token


class LaneHeld(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="k:held"):
    """Answer to `LaneWanted`; number zero and no signature for none. `token` is echoed only by a node that does not
    recover itself. `preimages` of locks that the lane has had and that have not ended yet. `number` leaves
    room for more in `Locked`: it is not signed."""

    channel: B32
    token: Token
    number: U48
    amount: B32
    locks: Locks
    signature: Annotated[bytes, msgspec.Meta(max_length=65)]
    preimages: Annotated[tuple[B32, ...], msgspec.Meta(max_length=PREIMAGES_MAX)]


LockMessage = Ask | Answer | Locked | LockedSeen | LockedRefusal | Secret | Failed | LaneWanted | LaneHeld

encode_lock_message = msgspec.msgpack.Encoder().encode
_decoder: msgspec.msgpack.Decoder[LockMessage] = msgspec.msgpack.Decoder(LockMessage)


def decode_lock_message(data: bytes) -> LockMessage:
    """Raises MalformedMessage."""
    try:
        return _decoder.decode(data)
    except (ValueError, RecursionError) as error:  # msgspec's own errors are ValueErrors
        raise MalformedMessage(f"message of {len(data)} bytes cannot be read: {error}") from error
