"""A channel's side of the chain, as pure values: what the adjudicator holds of it, and what it wants done there.

The chain service (`scapp.channels.chain`) makes `ChainView`s; the engine answers each with the transactions that its
state asks for now. Those are computed from state and never stored, like pending sends (ADR 0007): the same question
gives the same answer, and each transaction has a purpose under which the service carries it out once.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from scapp.channels.adjudicator_status import Mode, Status
from scapp.channels.outcome import Outcome
from scapp.channels.reading import SignedState
from scapp.channels.types import Address, ChannelId, Hash


class ChannelOnChain(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the adjudicator holds of one channel in one block; read from its state, not summed up from events.

    `holdings` has one amount per asset, in the order in which the channel was watched. `registered` is the candidate
    of the newest ChallengeRegistered event that still stands (it comes from a stranger and is not checked); None when
    no challenge stands or its event is not known. The event does not say the channel's fixed part: those four fields
    of the candidate are empty, and its signatures stand in the order in which they came. `proof` are the states that
    it came with, in the same form."""

    block: int
    block_hash: bytes
    holdings: tuple[int, ...]
    status: Status
    registered: SignedState | None = None
    proof: tuple[SignedState, ...] = ()

    def mode(self, block_time_s: int) -> Mode:
        """Open, in challenge or finalized in a block of that timestamp (seconds)."""
        return self.status.mode(block_time_s)


class ChainView(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One channel at the newest block, and at the newest block that counts as confirmed (ADR 0012).

    Good news (a deposit, a payout) counts from `confirmed`, bad news (a challenge) from `latest`. A reorganisation
    shows as a view that takes something back; there is no other notice of it."""

    latest: ChannelOnChain
    confirmed: ChannelOnChain


class Deposit(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Bring the channel's holdings of `asset` up to `target`, once they are at least `safety` (docs/reference/nitro.md
    section 8). What is missing is read from the chain right before sending, so somebody else's deposit only makes
    ours smaller. `amount_max` is this participant's own share: never more is sent."""

    asset: Address
    safety: int
    target: int
    amount_max: int


class Conclude(msgspec.Struct, frozen=True, gc=False, tag=True):
    """`concludeAndTransferAllAssets` with a final state that everybody has signed; for a channel that pays nothing
    (`pays` False), a virtual one, `conclude`."""

    state: SignedState
    pays: bool = True


class Challenge(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Register `candidate`, signed by this node's channel key as the challenger. `proof` may be empty."""

    candidate: SignedState
    proof: tuple[SignedState, ...] = ()


class Checkpoint(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Record a newer supported state and so clear a challenge."""

    candidate: SignedState
    proof: tuple[SignedState, ...] = ()


class TransferAll(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Pay out a finalized channel. `state_hash` is zero after a conclude, else that of the registered state."""

    outcome: Outcome
    state_hash: Hash


class Transfer(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Pay chosen allocations of one asset of a finalized channel: the way around a recipient that refuses payment."""

    asset_index: int
    outcome: Outcome
    state_hash: Hash
    indices: tuple[int, ...]


class Reclaim(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Replace a guarantee in a finalized ledger by what the finalized channel that it funds gives its two parties.

    `outcome` and `state_hash` are the ledger's now, the guarantee is allocation `guarantee_index` of its asset
    `asset_index`; the others are the funded channel's. One asset at a time (docs/reference/nitro.md, 3.2)."""

    outcome: Outcome
    state_hash: Hash
    asset_index: int
    guarantee_index: int
    target_outcome: Outcome
    target_state_hash: Hash
    target_asset_index: int

    @property
    def target(self) -> ChannelId:
        """The channel that the guarantee funds."""
        return ChannelId(self.outcome[self.asset_index].allocations[self.guarantee_index].destination)


class Reveal(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Open the locks on this preimage's hash at the app of hash locks, for every channel."""

    preimage: bytes


Transaction = Deposit | Conclude | Challenge | Checkpoint | Reclaim | TransferAll | Transfer | Reveal


class Revealed(msgspec.Struct, frozen=True, gc=False):
    """When the preimages of some hashes were revealed at the app of hash locks (seconds, 0 for not yet), as of the
    newest confirmed block, whose timestamp is `seen_s`."""

    seen_s: int
    times: tuple[int, ...]


class Purpose(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Under which a transaction is carried out once: channel, kind and what sets it apart from others of the kind (an
    asset, a turn, a fingerprint)."""

    channel: ChannelId
    kind: str
    subject: bytes = b""


def purpose_of(channel: ChannelId, wanted: Transaction) -> Purpose:
    """The key of a wanted transaction; equal for the same want at every time."""
    match wanted:
        case Deposit(asset=asset):
            return Purpose(channel, "deposit", bytes(asset))
        case Conclude(pays=pays):
            return Purpose(channel, "conclude" if pays else "conclude-virtual")
        case Challenge(candidate=candidate):
            return Purpose(channel, "challenge", candidate.turn.to_bytes(6, "big"))
        case Checkpoint(candidate=candidate):
            return Purpose(channel, "checkpoint", candidate.turn.to_bytes(6, "big"))
        case Reclaim(asset_index=asset_index):
            return Purpose(channel, "reclaim", bytes(wanted.target) + bytes((asset_index,)))
        case Reveal(preimage=preimage):
            return Purpose(channel, "reveal", preimage)
        case TransferAll(state_hash=state_hash):
            return Purpose(channel, "transfer-all", bytes(state_hash))
        case Transfer(asset_index=asset_index, state_hash=state_hash, indices=indices):
            chosen = b"".join(index.to_bytes(2, "big") for index in indices)
            return Purpose(channel, "transfer", bytes(state_hash) + bytes((asset_index,)) + chosen)


class Protection(msgspec.Struct, frozen=True, gc=False):
    """Why guarantees of each kind of virtual channel are not safe on the configured contracts; empty where they are.
    `locks`: of payment channels that take hash locks."""

    payment: str = ""
    app: str = ""
    locks: str = ""

    def of(self, kind: Literal["payment", "app", "locks"]) -> str:
        """That of a kind."""
        return {"payment": self.payment, "app": self.app, "locks": self.locks}[kind]
