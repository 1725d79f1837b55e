"""A ledger as this node knows it durably, and `evolve`, the fold of its events. Nothing here decides anything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec

from scapp.channels.channel.events import with_signature
from scapp.channels.errors import CorruptionError, ScappError
from scapp.channels.ledger.balances import Balances
from scapp.channels.ledger.chain_facts import LedgerExitStarted, LedgerSeen
from scapp.channels.ledger.consensus import FOLLOWER, LEADER, Ledger, Queued
from scapp.channels.ledger.events import (
    AskDeclined,
    CloseRequested,
    Countersigned,
    FinalStateSigned,
    FollowerSigned,
    LedgerCreated,
    LedgerEvent,
    LedgerRecovered,
    LedgerRejected,
    LedgerRestored,
    PeerRestoreSeen,
    ProposalSigned,
    RequestDropped,
    Requested,
    StageSigned,
)
from scapp.channels.ledger.proposals import Proposal, apply
from scapp.channels.ledger.setup import POSTFUND, PREFUND, LedgerSetup, setup_of
from scapp.channels.ledger.wire import balances_from_wire, from_wire
from scapp.channels.types import Address, ChannelId, Hash

Phase = Literal[
    "proposed", "opening", "funding", "running", "disputed", "closing", "closed", "settled", "rejected", "recovering"
]
Pair = tuple[bytes, bytes]
"""The leader's and the follower's signature, empty where it is not known."""
UNSIGNED: Pair = (b"", b"")
DECLINED_KEPT = 16


class Request(msgspec.Struct, frozen=True, gc=False):
    """A change that this node, the follower, has asked for and that is not decided yet."""

    number: int
    proposal: Proposal


class Final(msgspec.Struct, frozen=True, gc=False):
    """The final state: `balances` with its own turn number. `time_ms` is when the last signature came."""

    balances: Balances
    signatures: Pair
    time_ms: int

    @property
    def complete(self) -> bool:
        return b"" not in self.signatures


class LedgerRecord(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """`prefund` and `postfund` are signatures under turns 0 and 1; after a restore they may stay unknown though later
    states are there. `ledger` is None below a complete postfund.

    `floor`: updates have turns above it. `asked`: the highest number of the follower's requests that the leader has
    proposed or declined; at the follower, that is done or declined. `token`: of this node's own restore, empty unless
    it recovers. `peer_restores`: tokens of the other party's restores and the floors it was told."""

    setup: LedgerSetup
    created_ms: int
    prefund: Pair
    postfund: Pair = UNSIGNED
    ledger: Ledger | None = None
    requests: tuple[Request, ...] = ()
    asked: int = 0
    declined: tuple[tuple[int, str], ...] = ()
    closing_by: int | None = None
    final: Final | None = None
    rejected_by: int | None = None
    reject_reason: str = ""
    chain: LedgerSeen | None = None
    exit_reason: str = ""
    token: bytes = b""
    floor: int = 0
    peer_restores: tuple[tuple[bytes, int], ...] = ()

    @property
    def channel(self) -> ChannelId:
        return self.setup.channel_id

    @property
    def peer(self) -> Address:
        """The other party."""
        return self.setup.peer

    @property
    def leads(self) -> bool:
        """Is this node the leader, who proposes the changes?"""
        return self.setup.my_index == LEADER

    @property
    def recovering(self) -> bool:
        return bool(self.token)

    @property
    def phase(self) -> Phase:
        """Where the ledger is in its life; computed from what has happened."""
        if self.rejected_by is not None:
            return "rejected"
        if self.token:
            return "recovering"
        chain = self.chain
        if chain is not None and chain.settled:
            return "settled"
        if self.final is not None and self.final.complete:
            return "settled" if self._holds_nothing else "closed"
        if self.exit_reason:
            return "settled" if self.left_unfunded else "disputed"
        if chain is not None and chain.disputed:
            return "disputed"
        if self.final is not None or self.closing_by is not None:
            return "closing"
        if self.ledger is not None:
            return "running"
        if b"" not in self.prefund:
            return "funding"
        return "opening" if self.prefund[self.setup.my_index] else "proposed"

    @property
    def left_unfunded(self) -> bool:
        """Does this node leave it, with no end that both have signed, though nobody has deposited? There is nothing to
        take out then, and what each deposits all the same it can take back alone: with that it is disputed again."""
        ended = self.final is not None and self.final.complete
        return bool(self.exit_reason) and not (self.token or self.ledger or ended) and self._holds_nothing

    @property
    def deposits_first(self) -> bool:
        """Does this node deposit before anything of the other party is there? The leader does, with what it brings."""
        mine = self.setup.shares.of[self.setup.my_index]
        return any(share.amount for share in mine) and not any(share.safety for share in mine)

    @property
    def own_may_arrive(self) -> bool:
        """Was it left unfunded, and may a deposit arrive that this node has sent, be it before a restore? The other
        party's alone are its own matter: it can challenge with the prefund state, which pays them back."""
        return self.left_unfunded and self.deposits_first

    @property
    def _holds_nothing(self) -> bool:
        """Is nothing on chain, for good? So it is when a ledger was ended before anybody had deposited."""
        if self.chain is None or self.chain.disputed:
            return False
        seen = self.chain
        return not any(map(any, (*seen.latest.holdings, *seen.confirmed.holdings)))

    @property
    def usable(self) -> bool:
        """May it take new guarantees and changes now?"""
        return self.phase == "running"

    @property
    def is_open(self) -> bool:
        """Does it keep this pair of keys from opening another ledger?"""
        return self.phase not in ("rejected", "settled")

    @property
    def balances(self) -> Balances:
        """The newest money that both have signed, or are about to fund."""
        return self.ledger.current if self.ledger is not None else self.setup.opening

    def holds(self, target: ChannelId) -> bool:
        """Have both signed a guarantee for the channel that still stands?"""
        ledger = self.ledger
        return ledger is not None and any(each.find(target) is not None for each in ledger.current.assets)

    @property
    def asks_done(self) -> int:
        """Up to which number the follower's requests are done or declined, not only made or proposed."""
        queue = self.ledger.queue if self.ledger is not None else ()
        open_asks = [queued.ask for queued in queue if queued.ask] + [each.number for each in self.requests]
        return min(open_asks, default=self.asked + 1) - 1

    @property
    def has_guarantees(self) -> bool:
        """Is there any, signed by both or proposed?"""
        ledger = self.ledger
        return ledger is not None and any(each.guarantees for each in ledger.proposed.assets)


_replace = msgspec.structs.replace


def create(event: LedgerCreated) -> LedgerRecord:
    """The record of a new ledger. Raises `setup.LedgerNotAllowed` for parameters that no ledger may have."""
    return LedgerRecord(setup=setup_of(event), created_ms=event.time_ms, prefund=(event.signature, b""))


def evolve(record: LedgerRecord, event: LedgerEvent) -> LedgerRecord:
    """The record after a fact. Raises CorruptionError for a fact that cannot follow."""
    fold = _FOLDS.get(type(event))
    if fold is None or event.channel != record.channel:
        raise CorruptionError(f"{type(event).__name__} of 0x{event.channel.hex()} in ledger 0x{record.channel.hex()}")
    try:
        return fold(record, event)
    except (ScappError, ValueError, IndexError) as error:
        raise CorruptionError(f"{type(event).__name__} does not follow: {error}") from error


def _rejected(record: LedgerRecord, event: LedgerRejected) -> LedgerRecord:
    return _replace(record, rejected_by=event.by, reject_reason=event.reason)


def _stage(record: LedgerRecord, event: StageSigned) -> LedgerRecord:
    if event.turn == PREFUND:
        return _replace(record, prefund=_put(record.prefund, event.index, event.signature))
    postfund = _put(record.postfund, event.index, event.signature)
    ledger = record.ledger
    if ledger is None and b"" not in postfund:
        setup = record.setup
        current = setup.stage(POSTFUND)
        ledger = Ledger(setup.fixed, setup.channel_id, setup.my_index, current, postfund, floor=record.floor)
    return _replace(record, postfund=postfund, ledger=ledger)


def _put(signatures: Pair, index: int, signature: bytes) -> Pair:
    leader, follower = with_signature(signatures, index, signature)
    return leader, follower


def _proposal(record: LedgerRecord, event: ProposalSigned) -> LedgerRecord:
    ledger = _ledger(record)
    proposal = from_wire(event.proposal)
    after = _next(ledger, proposal, event.turn)
    queued = Queued(proposal, after, Hash(event.state_hash), event.signature, event.ask)
    asked = max(record.asked, event.ask)
    return _replace(record, ledger=_replace(ledger, queue=(*ledger.queue, queued)), asked=asked)


def _follower_signed(record: LedgerRecord, event: FollowerSigned) -> LedgerRecord:
    ledger = _ledger(record)
    for index, queued in enumerate(ledger.queue):
        if queued.after.turn == event.turn:
            signatures = (queued.signature, event.signature)
            queue = ledger.queue[index + 1 :]
            return _replace(record, ledger=_replace(ledger, current=queued.after, signatures=signatures, queue=queue))
    raise CorruptionError(f"turn {event.turn} was countersigned, but not proposed")


def _countersigned(record: LedgerRecord, event: Countersigned) -> LedgerRecord:
    ledger = _ledger(record)
    after = _next(ledger, from_wire(event.proposal), event.turn)
    signed = _replace(ledger, current=after, signatures=(event.leader_signature, event.signature))
    requests = tuple(request for request in record.requests if request.number != event.ask)
    return _replace(record, ledger=signed, requests=requests, asked=max(record.asked, event.ask))


def _next(ledger: Ledger, proposal: Proposal, turn: int) -> Balances:
    before = ledger.proposed
    if turn <= before.turn:
        raise CorruptionError(f"turn {turn} was signed after turn {before.turn}")
    return apply(before if turn == before.turn + 1 else _replace(before, turn=turn - 1), proposal)


def _ledger(record: LedgerRecord) -> Ledger:
    if record.ledger is None:
        raise CorruptionError("the ledger does not run yet")
    return record.ledger


def _requested(record: LedgerRecord, event: Requested) -> LedgerRecord:
    return _replace(record, requests=(*record.requests, Request(event.number, from_wire(event.proposal))))


def _dropped(record: LedgerRecord, event: RequestDropped) -> LedgerRecord:
    requests = tuple(request for request in record.requests if request.number != event.number)
    return _replace(record, requests=requests, asked=max(record.asked, event.number))


def _declined(record: LedgerRecord, event: AskDeclined) -> LedgerRecord:
    declined = (*record.declined, (event.number, event.reason))[-DECLINED_KEPT:]
    return _replace(record, declined=declined, asked=max(record.asked, event.number))


def _close(record: LedgerRecord, event: CloseRequested) -> LedgerRecord:
    return _replace(record, closing_by=event.by)


def _final(record: LedgerRecord, event: FinalStateSigned) -> LedgerRecord:
    known = record.final
    before = known.signatures if known is not None and known.balances.turn == event.turn else UNSIGNED
    balances = _replace(record.balances, turn=event.turn)
    return _replace(record, final=Final(balances, _put(before, event.index, event.signature), event.time_ms))


def _restored(record: LedgerRecord, event: LedgerRestored) -> LedgerRecord:
    over = record.rejected_by is not None or (record.final is not None and record.final.complete)
    return record if over else _replace(record, token=event.token)


def _peer_restored(record: LedgerRecord, event: PeerRestoreSeen) -> LedgerRecord:
    seen = (*record.peer_restores, (event.token, event.floor))
    asked = max(record.asked, event.asked)
    return _with_floor(_replace(record, peer_restores=seen, asked=asked), event.floor)


def _recovered(record: LedgerRecord, event: LedgerRecovered) -> LedgerRecord:
    ledger = record.ledger
    if event.balances is not None:
        setup = record.setup
        current = balances_from_wire(event.balances, setup.opening.parties)
        ledger = Ledger(setup.fixed, setup.channel_id, setup.my_index, current, event.signatures)
    elif ledger is not None:
        ledger = _replace(ledger, queue=())  # what is below the floor will never be countersigned
    recovered = _replace(
        record,
        ledger=ledger,
        token=b"",
        asked=event.asked,
        declined=tuple(each for each in record.declined if each[0] <= event.asked),
        requests=tuple(each for each in record.requests if each.number in event.kept),
    )
    return _with_floor(recovered, event.floor)


def _with_floor(record: LedgerRecord, floor: int) -> LedgerRecord:
    floor = max(record.floor, floor)
    ledger = record.ledger if record.ledger is None else _replace(record.ledger, floor=floor)
    return _replace(record, floor=floor, ledger=ledger)


def _chain(record: LedgerRecord, event: LedgerSeen) -> LedgerRecord:
    return _replace(record, chain=event)


def _exit(record: LedgerRecord, event: LedgerExitStarted) -> LedgerRecord:
    return _replace(record, exit_reason=event.reason)


_FOLDS: dict[type, Callable[[LedgerRecord, Any], LedgerRecord]] = {
    LedgerRejected: _rejected,
    StageSigned: _stage,
    ProposalSigned: _proposal,
    FollowerSigned: _follower_signed,
    Countersigned: _countersigned,
    Requested: _requested,
    RequestDropped: _dropped,
    AskDeclined: _declined,
    CloseRequested: _close,
    FinalStateSigned: _final,
    LedgerRestored: _restored,
    PeerRestoreSeen: _peer_restored,
    LedgerRecovered: _recovered,
    LedgerSeen: _chain,
    LedgerExitStarted: _exit,
}

__all__ = ["FOLLOWER", "LEADER", "Final", "LedgerRecord", "Phase", "Request", "create", "evolve"]
