"""What a node announces of its ledgers, signed: the statement, its bytes, its hash, how coarse it is (ADR 0058).

A statement names all ledgers of its origin at once, so a ledger that ended is simply missing from the next one. Its
bytes are what is signed, and travel unchanged: a node of a later version may add fields that this one does not know.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

from scapp.channels.books.step import Signer
from scapp.channels.channel.messages import B20, B32, B65, U63
from scapp.channels.crypto import keccak256
from scapp.channels.errors import PeerError
from scapp.channels.routing.fees import MILLION, Schedule
from scapp.channels.signing import recover
from scapp.channels.types import Address, Hash

LEDGERS_MAX = 512
ASSETS_MAX = 16
BODY_BYTES_MAX = 49_152
SECONDS_MAX = 2**32 - 1
_DOMAIN = b"scapp: ledgers of a node, version 1"


class StatementRefused(PeerError):
    """No statement, a forged one, or one that contradicts itself; nothing changed."""


class Terms(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A schedule as it travels; amounts have 32 bytes."""

    asset: B20
    base: B32
    ppm: Annotated[int, msgspec.Meta(ge=0, le=MILLION)]
    least: B32
    most: B32


class Room(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the origin can put into new guarantees of a ledger: the number of bits of its balance of an asset. 0 is
    nothing, n stands for 2^(n-1) up to 2^n - 1."""

    asset: B20
    bits: Annotated[int, msgspec.Meta(ge=0, le=256)]


class Ledger(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A ledger of the origin: with whom, and its room per asset."""

    peer: B20
    rooms: Annotated[tuple[Room, ...], msgspec.Meta(min_length=1, max_length=ASSETS_MAX)]


class Statement(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """All that a node announces. Of two statements of one origin the higher `sequence` counts; none counts after
    `expires_ms` (since 1970). Without `terms` the origin forwards for nobody and is only to be reached. It takes
    virtual channels whose challenge lasts `duration_min_s` to `duration_max_s`."""

    origin: B20
    sequence: U63
    expires_ms: U63
    duration_min_s: Annotated[int, msgspec.Meta(ge=0, le=SECONDS_MAX)]
    duration_max_s: Annotated[int, msgspec.Meta(ge=0, le=SECONDS_MAX)]
    terms: Annotated[tuple[Terms, ...], msgspec.Meta(max_length=ASSETS_MAX)]
    ledgers: Annotated[tuple[Ledger, ...], msgspec.Meta(max_length=LEDGERS_MAX)]


class Signed(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A statement's bytes and its origin's signature."""

    body: Annotated[bytes, msgspec.Meta(max_length=BODY_BYTES_MAX)]
    signature: B65


_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(Statement)


def network_of(chain_id: int, adjudicator: Address) -> Hash:
    """What tells statements over ledgers of one contract from those of another, and from everything else signed."""
    return Hash(keccak256(_DOMAIN + chain_id.to_bytes(32, "big") + adjudicator))


def statement_hash(network: Hash, body: bytes) -> Hash:
    """What the origin signs (EIP-191 over it)."""
    return Hash(keccak256(network + body))


def sign_statement(statement: Statement, network: Hash, signer: Signer) -> Signed:
    body = _encode(statement)
    return Signed(body, signer.sign(statement_hash(network, body)))


def read_statement(body: bytes) -> Statement:
    """The statement without a look at its signature. Raises StatementRefused."""
    try:
        statement = _decoder.decode(body)
    except (ValueError, RecursionError) as error:
        raise StatementRefused(f"statement of {len(body)} bytes cannot be read: {error}") from error
    origin = f"statement of 0x{statement.origin.hex()}"
    if statement.duration_min_s > statement.duration_max_s:
        raise StatementRefused(f"{origin}: durations {statement.duration_min_s} to {statement.duration_max_s} s")
    peers = {ledger.peer for ledger in statement.ledgers}
    if len(peers) != len(statement.ledgers) or statement.origin in peers:
        raise StatementRefused(f"{origin}: names a peer twice, or itself")
    assets: list[Sequence[Terms | Room]] = [statement.terms, *(ledger.rooms for ledger in statement.ledgers)]
    if any(len({each.asset for each in several}) != len(several) for several in assets):
        raise StatementRefused(f"{origin}: names an asset twice")
    return statement


def check_signature(signed: Signed, statement: Statement, network: Hash) -> None:
    """Raises StatementRefused unless the statement's origin signed it for this network."""
    try:
        signer = recover(statement_hash(network, signed.body), signed.signature)
    except PeerError as error:
        raise StatementRefused(f"statement of 0x{statement.origin.hex()}: {error}") from None
    if signer != statement.origin:
        raise StatementRefused(f"statement of 0x{statement.origin.hex()} is signed by 0x{signer.hex()}")


def terms_of(schedule: Schedule) -> Terms:
    """Raises OverflowError for amounts of 2^256 and more."""
    base, least, most = (n.to_bytes(32, "big") for n in (schedule.base, schedule.least, schedule.most))
    return Terms(schedule.asset, base, schedule.ppm, least, most)


def schedule_of(terms: Terms) -> Schedule:
    base, least, most = (int.from_bytes(data, "big") for data in (terms.base, terms.least, terms.most))
    return Schedule(Address(terms.asset), base, terms.ppm, least, most)


def least_room(bits: int) -> int:
    """The smallest balance that has so many bits."""
    return 1 << (bits - 1) if bits else 0
