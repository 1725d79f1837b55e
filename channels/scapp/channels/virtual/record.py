"""What a node knows durably of one virtual channel, and `evolve`, the fold of its events. Nothing here decides
anything."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec

from scapp.channels.errors import CorruptionError
from scapp.channels.ledger.chain_facts import VirtualExitStarted, VirtualSeen
from scapp.channels.state import VariablePart, state_hash
from scapp.channels.types import Address, ChannelId, Hash
from scapp.channels.virtual import agreement as agreements
from scapp.channels.virtual.agreement import Agreement, Amounts
from scapp.channels.virtual.events import (
    EndWanted,
    GuaranteeGone,
    GuaranteeHeld,
    JoiningRefused,
    Milestone,
    NeighbourReady,
    NeighbourTold,
    Rejected,
    SettledOnChain,
    Side,
    Signed,
    TotalKnown,
    VirtualCreated,
    VirtualEvent,
    VirtualRestored,
)

LEFT, RIGHT = 0, 1
NEITHER = (False, False)


class Signatures(msgspec.Struct, frozen=True, gc=False):
    """A milestone state and who has signed it: one item per participant, empty where unknown."""

    turn: int
    amounts: Amounts
    app_data: bytes
    signatures: tuple[bytes, ...]

    @property
    def complete(self) -> bool:
        """Has everybody signed?"""
        return b"" not in self.signatures


class VirtualRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One virtual channel. `left` and `right` are the ledgers with this node's neighbours, None at the path's ends.

    `held` and `gone` say for (left, right) whether the guarantee has ever stood in that ledger, and whether it is out
    of it for good, `unrefunded` whether it went without fees being returned. `left_held` and `right_cleared` are what
    the neighbours said of their other ledgers. `refusers` are the participants that do not take it up (`reachable`)."""

    channel_id: ChannelId
    agreement: Agreement
    my_index: int
    left: Side | None
    right: Side | None
    created_ms: int
    prefund: Signatures
    postfund: Signatures | None = None  # of an app channel: unknown until its two parties have signed it
    final: Signatures | None = None
    aborted: Signatures | None = None
    rejected_by: int = -1
    refusers: tuple[int, ...] = ()
    reason: str = ""  # why it was rejected, or shall end
    end_wanted: bool = False
    total: int | None = None
    held: tuple[bool, bool] = NEITHER
    gone: tuple[bool, bool] = NEITHER
    unrefunded: tuple[bool, bool] = NEITHER
    left_held: bool = False
    right_cleared: bool = False
    on_chain: Amounts | None = None
    chain: VirtualSeen | None = None
    exit_reason: str = ""  # why this node wants it settled on chain
    token: bytes = b""
    told: tuple[bool, bool] = NEITHER

    @property
    def sides(self) -> tuple[tuple[int, Side], ...]:
        """The ledgers that this node has a part in, with `LEFT` or `RIGHT`."""
        # Asked for several times in each step: spelled out, for the speed.
        if self.left is None:
            return () if self.right is None else ((RIGHT, self.right),)
        return ((LEFT, self.left),) if self.right is None else ((LEFT, self.left), (RIGHT, self.right))

    def _on_each_side(self, flags: tuple[bool, bool]) -> bool:
        """Does it hold for every ledger that this node has a part in?"""
        return (self.left is None or flags[LEFT]) and (self.right is None or flags[RIGHT])

    @property
    def peers(self) -> tuple[Address, ...]:
        """The neighbours."""
        return tuple(Address(side.peer) for _, side in self.sides)

    @property
    def is_hub(self) -> bool:
        return self.left is not None and self.right is not None

    @property
    def is_app_party(self) -> bool:
        """Is it the app engine here that signs, all but the aborted state?"""
        return self.agreement.kind == "app" and not self.is_hub

    @property
    def recovering(self) -> bool:
        """Restored, and not everything that this node has signed is known yet: it signs nothing."""
        return self.token != b""

    @property
    def accepted(self) -> bool:
        """Has this node signed the prefund state?"""
        return self.prefund.signatures[self.my_index] != b""

    @property
    def rejected(self) -> bool:
        """Given up before everybody had signed the prefund state: nothing is at stake. Should a complete prefund state
        turn up all the same, the channel is aborted instead."""
        return self.rejected_by >= 0 and not self.prefund.complete

    @property
    def guaranteed(self) -> bool:
        """Has the guarantee stood in every ledger that this node has a part in?"""
        return self._on_each_side(self.held)

    @property
    def funded(self) -> bool:
        """Has everybody signed the postfund state: may it be used, until its end? Not once somebody has signed that it
        is not funded: that one must not have signed both."""
        return self.postfund is not None and self.aborted is None and b"" not in self.postfund.signatures

    @property
    def aborting(self) -> bool:
        """Has anybody, of those who could, decided that it will not be funded?"""
        return self.aborted is not None

    @property
    def ended(self) -> Signatures | None:
        """The final or the aborted state once everybody has signed it."""
        for state in (self.aborted, self.final):
            if state is not None and state.complete:
                return state
        return None

    @property
    def strongest(self) -> Milestone | None:
        """The newest state that everybody has signed: with it this node can settle its guarantees on chain."""
        order: tuple[Milestone, ...] = ("aborted", "final", "postfund", "prefund")
        for milestone in order:
            state = self.milestone(milestone)
            if state is not None and state.complete:
                return milestone
        return None

    @property
    def cleared(self) -> bool:
        """Is the guarantee gone from every ledger that this node has a part in?"""
        return (self.gone[LEFT] or self.gone[RIGHT]) and self._on_each_side(self.gone)

    @property
    def over(self) -> bool:
        """Is there nothing left to be done here, unless a neighbour asks? Whoever has had no guarantee passes on the
        signatures under the aborted state until all are there that can come: those further on may have one."""
        if not self.cleared:  # asked for at each step, and usually no
            return self.rejected
        missing = self.aborted is not None and any(not self.aborted.signatures[index] for index in self.reachable)
        return self.rejected or not (missing and self.on_chain is None)

    @property
    def reachable(self) -> range:
        """The participants who may still sign or need what is passed on: up to the first one on either side that does
        not take the channel up. Nothing gets beyond that one."""
        if not self.refusers:
            return range(self.agreement.count)
        before = max((index for index in self.refusers if index < self.my_index), default=-1)
        behind = min((index for index in self.refusers if index > self.my_index), default=self.agreement.count)
        return range(before + 1, behind)

    @property
    def disputed(self) -> bool:
        """Does the chain show a challenge or an end of it?"""
        return self.chain is not None and self.chain.disputed

    @property
    def leaving(self) -> bool:
        """Is it being settled on chain, by this node's wish or as the chain shows? Then only its end is signed."""
        return self.disputed or self.exit_reason != "" or self.on_chain is not None

    def signed(self, state: Signatures | None, index: int | None = None) -> bool:
        """Is the signature of that participant, this node's by default, under the state?"""
        return state is not None and state.signatures[self.my_index if index is None else index] != b""

    def milestone(self, milestone: Milestone) -> Signatures | None:
        """The state of that milestone, None while unknown."""
        match milestone:
            case "prefund":
                return self.prefund
            case "postfund":
                return self.postfund
            case "final":
                return self.final
            case "aborted":
                return self.aborted

    def variable(self, milestone: Milestone) -> VariablePart | None:
        """The same as a Nitro state."""
        known = self.milestone(milestone)
        if known is None:
            return None
        return agreements.state_of(self.agreement, milestone, known.turn, known.amounts, known.app_data)

    def hash_of(self, milestone: Milestone, turn: int, amounts: Amounts, app_data: bytes) -> Hash:
        """What is signed for such a state."""
        return _hash_of(self.channel_id, self.agreement, milestone, turn, amounts, app_data)


@lru_cache(maxsize=512)
def _hash_of(
    channel: ChannelId, agreement: Agreement, milestone: Milestone, turn: int, amounts: Amounts, app_data: bytes
) -> Hash:
    """Asked for once for each signature, one's own and the others'."""
    return state_hash(channel, agreements.state_of(agreement, milestone, turn, amounts, app_data))


def create(event: VirtualCreated) -> VirtualRecord:
    """The record of a channel's first event."""
    agreement = agreements.from_event(event.agreed)
    nobody = (b"",) * agreement.count
    postfund = Signatures(1, agreement.start, b"", nobody) if agreement.kind == "payment" else None
    return VirtualRecord(
        channel_id=ChannelId(event.channel),
        agreement=agreement,
        my_index=event.my_index,
        left=event.left,
        right=event.right,
        created_ms=event.at_ms,
        prefund=Signatures(0, agreement.start, agreement.app_data, nobody),
        postfund=postfund,
    )


def evolve(record: VirtualRecord, event: VirtualEvent) -> VirtualRecord:
    """The record after one more fact. Raises CorruptionError for one that cannot follow."""
    match event:
        case Signed():
            amounts = agreements.unpack_amounts(event.amounts)
            state = Signatures(event.turn, amounts, event.app_data, event.signatures)
            return _replace(record, **{event.milestone: state})
        case Rejected(by=by, reason=reason):
            return _replace(record, rejected_by=by, reason=reason)
        case JoiningRefused(by=by):
            return _replace(record, refusers=(*record.refusers, by))
        case EndWanted(reason=reason):
            return _replace(record, end_wanted=True, reason=reason)
        case TotalKnown(total=total):
            return _replace(record, total=int.from_bytes(total, "big"))
        case GuaranteeHeld(side=side):
            return _replace(record, held=_with(record.held, side))
        case GuaranteeGone(side=side, by_chain=by_chain):
            unrefunded = _with(record.unrefunded, side) if by_chain else record.unrefunded
            return _replace(record, gone=_with(record.gone, side), unrefunded=unrefunded)
        case NeighbourReady(what="held"):
            return _replace(record, left_held=True)
        case NeighbourReady():
            return _replace(record, right_cleared=True)
        case SettledOnChain(amounts=amounts_blob):
            return _replace(record, on_chain=agreements.unpack_amounts(amounts_blob))
        case VirtualSeen():
            return _replace(record, chain=event)
        case VirtualExitStarted(reason=reason):
            return _replace(record, exit_reason=reason)
        case VirtualRestored(token=token):
            return _replace(record, token=token, told=NEITHER)
        case NeighbourTold(side=side):
            told = _with(record.told, side)
            return _replace(record, told=told, token=b"" if record._on_each_side(told) else record.token)
        case VirtualCreated():
            raise CorruptionError(f"virtual channel 0x{record.channel_id.hex()} was created twice")


def _replace(record: VirtualRecord, **changes: Any) -> VirtualRecord:
    return msgspec.structs.replace(record, **changes)


def _with(flags: tuple[bool, bool], side: int) -> tuple[bool, bool]:
    return (flags[LEFT] or side == LEFT, flags[RIGHT] or side == RIGHT)
