"""The first steps of a virtual channel: proposal, its checks, approval (docs/reference/virtual.md)."""

from __future__ import annotations

from typing import Literal

import msgspec

from scapp.channels.books.step import Context, Step
from scapp.channels.types import Address, ChannelId
from scapp.channels.virtual.agreement import Agreement
from scapp.channels.virtual.events import Side
from scapp.channels.virtual.messages import Proposed
from scapp.channels.virtual.record import VirtualRecord


class HubRequest(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a policy is asked before this node signs the prefund state of a channel that somebody proposes.

    `role`: "hub", "payee" of a payment channel, or "party" of an app channel. `proposer` and `last` are its ends, `left`
    and `right` this node's neighbours. `amounts`: per asset the first participant's and the last one's. `locks`: per
    asset what this node binds until the channel has ended, over both its ledgers. `fee` is for this node, in `fee_asset`.
    `opened_ms`: when it was proposed, by the proposer's clock."""

    channel: ChannelId
    kind: Literal["payment", "app"]
    role: Literal["hub", "payee", "party"]
    proposer: Address
    last: Address
    left: Address | None
    right: Address | None
    hubs: int
    amounts: tuple[tuple[Address, int, int], ...]
    locks: tuple[tuple[Address, int], ...]
    fee: int
    fee_asset: Address
    challenge_duration_s: int
    opened_ms: int


class Apps(msgspec.Struct, frozen=True, gc=False):
    """The contracts behind the two kinds on the chain of this node's ledgers."""

    payment: Address
    app: Address


def propose(
    agreement: Agreement,
    left: Side | None,
    right: Side | None,
    apps: Apps,
    context: Context,
    prefund: tuple[bytes, ...] = (),
) -> Step:
    """Begin a channel of which this node is the first or the last participant.

    A payment channel is proposed by its payer. Of an app channel both parties may begin with the same, each for itself,
    with `prefund`, its two signatures. Raises LocalError."""
    raise NotImplementedError


def receive_proposal(
    peer: Address,
    message: Proposed,
    left: Side | None,
    right: Side | None,
    apps: Apps,
    context: Context,
    not_before_ms: int = 0,
) -> Step:
    """A channel that a neighbour proposes and that is not here yet: its creation, or PeerError. Nothing is signed;
    `request_of` its record asks the policy. `not_before_ms`: when this node was restored, 0 for never."""
    raise NotImplementedError


def neighbours_of(message: Proposed, me: Address) -> tuple[Address | None, Address | None]:
    """Left and right neighbour of this node on the path, so that the caller finds their ledgers. Raises PeerError."""
    raise NotImplementedError


def request_of(record: VirtualRecord) -> HubRequest:
    """What the policy has to decide on."""
    raise NotImplementedError


def approve(record: VirtualRecord, context: Context) -> Step:
    """Policy or operator agree: sign the prefund state. Raises LocalError, for an app party always: it agrees through
    its app channel, whose signatures come by `offer.offer`."""
    raise NotImplementedError


def reject(record: VirtualRecord, reason: str) -> Step:
    """Do not join. Raises LocalError once the prefund state is signed here."""
    raise NotImplementedError


def refuse(channel: ChannelId, my_index: int, peer: Address, reason: str) -> Step:
    """The same for a proposal that is not to be stored."""
    raise NotImplementedError
