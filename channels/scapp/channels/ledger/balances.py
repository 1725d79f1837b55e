"""Who has what in a ledger channel: per asset two balances, any number of guarantees, and deposits that are announced
and not merged yet (ADR 0059); and its state's bytes.

The encoding is kept beside the guarantees and changed where they change, because hundreds of them may stand while one
comes or goes; what remains per update is copying and hashing those bytes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache

import msgspec

from scapp.channels import abi
from scapp.channels.abi import InvalidValue
from scapp.channels.crypto import keccak256
from scapp.channels.outcome import (
    Allocation,
    AllocationType,
    Outcome,
    SingleAssetExit,
    allocations_body,
    guarantee_metadata,
    is_external,
)
from scapp.channels.same import Same
from scapp.channels.state import state_head
from scapp.channels.types import U256_MAX, Address, ChannelId, Destination, Hash

_SIMPLE_BYTES = abi.SIMPLE_ALLOCATION_BYTES
_GUARANTEE_BYTES = 7 * abi.WORD  # destination, amount, type, offset and length of metadata, left, right


class Guarantee(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """`amount` that is kept for channel `target`, between the ledger's two destinations in its order."""

    target: ChannelId
    amount: int
    left: Destination
    right: Destination


class Trailing(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """`amount` that a party (0 leader, 1 follower) is about to deposit. It ranks behind everything else of its asset,
    so that while the money is not there it takes nothing from anybody."""

    party: int
    amount: int


class AssetBalances(msgspec.Struct, frozen=True, gc=False):
    """One asset. `guarantees` are in the order of their targets' bytes; `encoded` holds their allocations' bodies.
    `trailing` stands in the order of announcement, at most one for each party."""

    asset: Address
    leader: int
    follower: int
    guarantees: tuple[Guarantee, ...] = ()
    encoded: bytes = b""
    trailing: tuple[Trailing, ...] = ()

    def find(self, target: ChannelId) -> Guarantee | None:
        """The guarantee for a channel, if there is one."""
        at = self._place(target)
        found = self.guarantees[at : at + 1]
        return found[0] if found and found[0].target == target else None

    @property
    def total(self) -> int:
        """Everything of this asset that the ledger holds, without what is only announced."""
        return self.leader + self.follower + sum(guarantee.amount for guarantee in self.guarantees)

    def announced(self, party: int) -> tuple[int, int] | None:
        """From and to which holdings the party's announced deposit fills the ledger; None when none is announced."""
        if not self.trailing:
            return None
        before = self.total
        for each in self.trailing:
            if each.party == party:
                return before, before + each.amount
            before += each.amount
        return None

    def with_guarantee(self, new: Guarantee, leader: int, follower: int, guarantee_type: int) -> AssetBalances:
        """`new` inserted, under the given balances."""
        at = self._place(new.target)
        cut = at * _GUARANTEE_BYTES
        body = _encoded(new, guarantee_type)
        return AssetBalances(
            self.asset,
            leader,
            follower,
            (*self.guarantees[:at], new, *self.guarantees[at:]),
            _joined(self.encoded, cut, cut, body),
            self.trailing,
        )

    def without_guarantee(self, target: ChannelId, leader: int, follower: int) -> AssetBalances:
        """The guarantee for `target`, which is there, taken out, under the given balances."""
        at = self._place(target)
        cut = at * _GUARANTEE_BYTES
        return AssetBalances(
            self.asset,
            leader,
            follower,
            (*self.guarantees[:at], *self.guarantees[at + 1 :]),
            _joined(self.encoded, cut, cut + _GUARANTEE_BYTES),
            self.trailing,
        )

    def _place(self, target: ChannelId) -> int:
        return bisect_left(self.guarantees, target, key=lambda guarantee: guarantee.target)


def _joined(encoded: bytes, end: int, start: int, between: bytes = b"") -> bytes:
    """`encoded` up to `end`, `between`, and `encoded` from `start` on, with one copy."""
    view = memoryview(encoded)
    return b"".join((view[:end], between, view[start:]))


def _encoded(guarantee: Guarantee, guarantee_type: int) -> bytes:
    """The body of a guarantee's allocation, by the general encoder: an array of one is its count, an offset, it."""
    return allocations_body((_allocation(guarantee, guarantee_type),))[2 * abi.WORD :]


def _allocation(guarantee: Guarantee, guarantee_type: int) -> Allocation:
    metadata = guarantee_metadata(guarantee.left, guarantee.right)
    return Allocation(Destination(guarantee.target), guarantee.amount, guarantee_type, metadata)


def asset_balances(
    asset: Address, leader: int, follower: int, guarantees: tuple[Guarantee, ...], trailing: tuple[Trailing, ...]
) -> AssetBalances:
    """One asset's balances as a whole, encoded here; `guarantees` are in the order of their targets' bytes."""
    encoded = b"".join([_encoded(guarantee, AllocationType.GUARANTEE) for guarantee in guarantees])
    return AssetBalances(asset, leader, follower, guarantees, encoded, trailing)


class Parties(msgspec.Struct, frozen=True, gc=False):
    """Where the two parties of a ledger are paid."""

    leader: Destination
    follower: Destination

    def of(self, party: int) -> Destination:
        """Of the leader (0) or the follower (1)."""
        return self.follower if party else self.leader


class Balances(msgspec.Struct, frozen=True, gc=False):
    """A ledger at one turn. `guarantee_type` is 2; go-nitro's 1, which no contract pays, only for its vectors."""

    turn: int
    parties: Parties
    assets: tuple[AssetBalances, ...]
    guarantee_type: int = AllocationType.GUARANTEE

    def outcome(self) -> Outcome:
        """The outcome of the state: leader, follower, guarantees in the order of their targets, announced deposits."""
        return tuple(
            SingleAssetExit(
                each.asset,
                (
                    Allocation(self.parties.leader, each.leader),
                    Allocation(self.parties.follower, each.follower),
                    *(_allocation(guarantee, self.guarantee_type) for guarantee in each.guarantees),
                    *(Allocation(self.parties.of(item.party), item.amount) for item in each.trailing),
                ),
            )
            for each in self.assets
        )

    def encode_outcome(self) -> bytes:
        """`outcome.encode_outcome` of `outcome()`, without building it."""
        return b"".join((abi.OFFSET_OF_ONLY_ARGUMENT, *self._outcome_parts()))

    def _outcome_parts(self) -> list[bytes]:
        """The outcome's body, in pieces."""
        exits = [_exit_parts(each, self.parties) for each in self.assets]
        parts = [abi.word(len(exits))]
        offset = abi.WORD * len(exits)
        for exit_parts in exits:
            parts.append(abi.word(offset))
            offset += sum(map(len, exit_parts))
        for exit_parts in exits:
            parts += exit_parts
        return parts

    def state_hash(self, channel: ChannelId, *, is_final: bool = False) -> Hash:
        """The hash of the ledger's state at this turn, without app data."""
        return _state_hash(Same(self), channel, is_final)


@lru_cache(maxsize=32)  # it may have been computed ahead (`books/ahead.py`)
def _state_hash(balances: Same[Balances], channel: ChannelId, is_final: bool) -> Hash:
    # One join: with many guarantees each further copy costs a good part of the hash.
    head = state_head(channel, b"", balances.it.turn, is_final=is_final)
    return Hash(keccak256(b"".join((*head, *balances.it._outcome_parts()))))


def _exit_parts(balances: AssetBalances, parties: Parties) -> tuple[bytes, ...]:
    """The body of one asset's exit, in pieces."""
    return (
        abi.address(balances.asset, "asset"),
        abi.PLAIN_EXIT_TAIL,
        _array_head(len(balances.guarantees), len(balances.trailing)),
        parties.leader,
        abi.uint(balances.leader, 256, "leader's balance"),
        abi.SIMPLE_ALLOCATION_TAIL,
        parties.follower,
        abi.uint(balances.follower, 256, "follower's balance"),
        abi.SIMPLE_ALLOCATION_TAIL,
        balances.encoded,
        *(_simple(parties.of(item.party), item.amount) for item in balances.trailing),
    )


def _simple(destination: Destination, amount: int) -> bytes:
    return b"".join((destination, abi.uint(amount, 256, "announced deposit"), abi.SIMPLE_ALLOCATION_TAIL))


@lru_cache(maxsize=512)
def _array_head(guarantees: int, trailing: int) -> bytes:
    """Length and offsets of the allocations; offsets count from behind the length."""
    count = guarantees + 2 + trailing
    first = count * abi.WORD
    longer = first + 2 * _SIMPLE_BYTES
    last = longer + _GUARANTEE_BYTES * guarantees
    offsets = (
        first,
        first + _SIMPLE_BYTES,
        *range(longer, last, _GUARANTEE_BYTES),
        *range(last, last + _SIMPLE_BYTES * trailing, _SIMPLE_BYTES),
    )
    return b"".join([abi.word(count), *(offset.to_bytes(abi.WORD, "big") for offset in offsets)])


def opening_balances(
    parties: Parties,
    amounts: Sequence[tuple[Address, int, int]],
    turn: int = 1,
    guarantee_type: int = AllocationType.GUARANTEE,
) -> Balances:
    """The ledger as it is funded: per asset the leader's and the follower's amount. Raises InvalidValue."""
    if not amounts:
        raise InvalidValue("a ledger without an asset holds nothing")
    if len({asset for asset, _, _ in amounts}) != len(amounts):
        raise InvalidValue("an asset is named twice")
    if parties.leader == parties.follower:
        raise InvalidValue(f"both parties are paid at 0x{parties.leader.hex()}")
    for destination in (parties.leader, parties.follower):
        abi.bytes32(destination, "destination")
        if not is_external(destination):
            raise InvalidValue(f"a party is paid into channel 0x{destination.hex()}")
    for asset, leader, follower in amounts:
        if leader < 0 or follower < 0 or leader + follower > U256_MAX:
            raise InvalidValue(f"{leader} and {follower} of asset 0x{asset.hex()}; allowed are 0 to 2^256-1 together")
    assets = tuple(AssetBalances(asset, leader, follower) for asset, leader, follower in amounts)
    return Balances(turn, parties, assets, guarantee_type)
