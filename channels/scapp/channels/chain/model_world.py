"""State of the modelled chain: what the adjudicator stores, balances, tokens. `model.py` has what changes it."""

from __future__ import annotations

import dataclasses

from scapp.channels.adjudicator_status import Status, unpack_status
from scapp.channels.chain.support import OVERFLOW, SILENT, App
from scapp.channels.types import U256_MAX, ZERO_HASH, Address, ChannelId, Hash

__all__ = ["OVERFLOW", "SILENT", "Revert", "Token", "World"]


class Revert(Exception):
    """The contract refuses; the text is its reason, `panic N`, or `revert` without one."""


@dataclasses.dataclass
class Token:
    """An ERC20. `zero_first`: an allowance above zero can only be set to zero, and calls answer nothing (USDT)."""

    balances: dict[bytes, int]
    allowances: dict[tuple[bytes, bytes], int]
    zero_first: bool = False

    def approve(self, owner: bytes, spender: bytes, amount: int) -> None:
        if self.zero_first and amount and self.allowances.get((owner, spender), 0):
            raise Revert("reset first")
        if not any(spender):
            raise Revert("ERC20: approve to the zero address")
        self.allowances[owner, spender] = amount

    def take(self, owner: bytes, spender: bytes, amount: int) -> None:
        """`transferFrom` by the spender to itself. An allowance of 2^256 - 1 is not used up."""
        allowed = self.allowances.get((owner, spender), 0)
        if self.zero_first and (allowed < amount or self.balances.get(owner, 0) < amount):
            raise Revert("not allowed")
        if allowed != U256_MAX or self.zero_first:
            if allowed < amount:
                raise Revert("ERC20: insufficient allowance")
            self.allowances[owner, spender] = allowed - amount
        self.move(owner, spender, amount)

    def move(self, source: bytes, recipient: bytes, amount: int) -> None:
        if not any(recipient) and not self.zero_first:
            raise Revert("ERC20: transfer to the zero address")
        if self.balances.get(source, 0) < amount:
            raise Revert(OVERFLOW if self.zero_first else "ERC20: transfer amount exceeds balance")
        self.balances[source] = self.balances.get(source, 0) - amount
        self.balances[recipient] = self.balances.get(recipient, 0) + amount


@dataclasses.dataclass
class World:
    """State of the chain. `apps` are the contracts of apps beside the ConsensusApp; `virtual` the channels that
    pay out nothing, `refusing` are addresses that take no coin, `revealed` says when the app of hash locks learned the
    preimage of a hash. `copy` is deep: what is tried can be undone."""

    adjudicator: Address
    consensus: Address
    apps: dict[bytes, App] = dataclasses.field(default_factory=dict)
    status: dict[ChannelId, Hash] = dataclasses.field(default_factory=dict)
    holdings: dict[tuple[Address, ChannelId], int] = dataclasses.field(default_factory=dict)
    balances: dict[bytes, int] = dataclasses.field(default_factory=dict)
    nonces: dict[bytes, int] = dataclasses.field(default_factory=dict)
    tokens: dict[bytes, Token] = dataclasses.field(default_factory=dict)
    virtual: set[ChannelId] = dataclasses.field(default_factory=set)
    refusing: frozenset[bytes] = frozenset()
    revealed: dict[bytes, int] = dataclasses.field(default_factory=dict)

    def copy(self) -> World:
        tokens = {
            address: Token(dict(token.balances), dict(token.allowances), token.zero_first)
            for address, token in self.tokens.items()
        }
        return dataclasses.replace(
            self,
            status=dict(self.status),
            holdings=dict(self.holdings),
            balances=dict(self.balances),
            nonces=dict(self.nonces),
            virtual=set(self.virtual),
            revealed=dict(self.revealed),
            tokens=tokens,
        )

    def status_of(self, channel: ChannelId) -> Status:
        return unpack_status(self.status.get(channel, ZERO_HASH))

    def app_at(self, address: bytes) -> App | None:
        """The app whose contract is there."""
        return "consensus" if address == self.consensus else self.apps.get(address)

    def held(self, asset: Address, channel: ChannelId) -> int:
        return self.holdings.get((asset, channel), 0)

    def pay(self, source: bytes, recipient: bytes, amount: int) -> None:
        """Move coin; the sender must have it. Raises Revert when the recipient refuses."""
        if recipient in self.refusing:
            raise Revert(SILENT)
        self.balances[source] = self.balances.get(source, 0) - amount
        self.balances[recipient] = self.balances.get(recipient, 0) + amount
