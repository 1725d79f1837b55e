"""Stored facts of virtual channels, in the past tense; `record.evolve` folds them. Each names its channel first.

Tags carry their version and never change meaning. A signature of this node is stored before it leaves; amounts are
blobs of 32-byte big-endian integers, the first party's and the last one's per asset.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from scapp.channels.ledger.chain_facts import VirtualExitStarted, VirtualSeen

Milestone = Literal["prefund", "postfund", "final", "aborted"]
"""The states that every participant signs: turn 0, turn 1, and one of two ends. `aborted` returns everybody's deposits
and fees, `final` pays what the two parties agreed on."""


class Side(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The ledger with a neighbour on the path: where `mine` and `theirs` are paid in it, and whether this node
    leads."""

    peer: bytes
    ledger: bytes
    mine: bytes
    theirs: bytes
    leads: bool


class Agreed(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is proposed and never changes. `assets` are (asset, amounts of first and last participant as a blob), paid
    to `destinations` (first, last) in every asset; `fees` a blob with one amount per hub, in the first asset;
    `app_data` that of the prefund state, empty in a payment channel."""

    kind: Literal["payment", "app"]
    participants: tuple[bytes, ...]
    nonce: int
    app_definition: bytes
    challenge_duration: int
    destinations: tuple[bytes, bytes]
    assets: tuple[tuple[bytes, bytes], ...]
    app_data: bytes
    fees: bytes


class VirtualCreated(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="v:created.1"):
    """A virtual channel came to be here: proposed by this node, or to it. `at_ms` by this node's clock."""

    channel: bytes
    my_index: int
    agreed: Agreed
    left: Side | None
    right: Side | None
    at_ms: int


class Signed(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="v:signed.1"):
    """Valid signatures under a milestone state, one item per participant, empty where unknown; this node's among them
    is what it has signed. `turn`, `amounts` and `app_data` say which state; they are the same in every event of a
    milestone."""

    channel: bytes
    milestone: Milestone
    turn: int
    amounts: bytes
    app_data: bytes
    signatures: tuple[bytes, ...]


class Rejected(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="v:rejected.1"):
    """Participant `by` does not join, or no longer offers it, while the prefund state was incomplete here."""

    channel: bytes
    by: int
    reason: str


class JoiningRefused(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="v:refused.1"):
    """Participant `by` does not take the channel up though the prefund state is complete here: its node has no ledger
    for it, or knows it no more. Of an app party that signed through its app channel, this is no contradiction."""

    channel: bytes
    by: int


class EndWanted(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="v:end.1"):
    """A participant wants the channel to end: funded, with its final state; not yet funded, by whoever may abort."""

    channel: bytes
    reason: str


class TotalKnown(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="v:total.1"):
    """The payments have ended here: the payer has promised `total` (32 bytes) in vouchers, or the payee holds as
    much."""

    channel: bytes
    total: bytes


class GuaranteeHeld(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="v:held.1"):
    """The co-signed ledger with the left (0) or right (1) neighbour holds the guarantee."""

    channel: bytes
    side: int


class GuaranteeGone(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="v:gone.1"):
    """That ledger holds no guarantee for the channel and never will again: it was taken out, will not be put in, or the
    ledger was settled on chain. `by_chain`: so, or with what the chain says the channel is worth: without a refund."""

    channel: bytes
    side: int
    by_chain: bool


class NeighbourReady(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="v:ready.1"):
    """The left neighbour told that its own left ledger holds the guarantee (`held`), so that it will pay fees on; or
    the right one that its own right ledger is free of it (`cleared`), so that it will refund them."""

    channel: bytes
    what: Literal["held", "cleared"]


class SettledOnChain(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="v:settled.1"):
    """The channel is finalized on chain, for good, with these amounts: what the guarantees still held are worth."""

    channel: bytes
    amounts: bytes


class VirtualRestored(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="v:restored.1"):
    """The books came from a backup: this node may have signed more than it knows. `token` (16 random bytes) tells
    answers to this restore from older ones."""

    channel: bytes
    token: bytes


class NeighbourTold(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="v:told.1"):
    """The left (0) or right (1) neighbour has told all it knows, this node's own signatures among it, after `token`;
    or the operator goes on without that."""

    channel: bytes
    side: int
    token: bytes


VirtualEvent = (
    VirtualCreated
    | Signed
    | Rejected
    | JoiningRefused
    | EndWanted
    | TotalKnown
    | GuaranteeHeld
    | GuaranteeGone
    | NeighbourReady
    | SettledOnChain
    | VirtualRestored
    | NeighbourTold
    | VirtualSeen
    | VirtualExitStarted
)
