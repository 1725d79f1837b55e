"""The changes of a running ledger: the leader signs what this node wants, the follower countersigns what it wants too.

The follower also signs what harms nobody: a payment to it, an announced deposit, and its merging once it is confirmed.
A leader's signed proposal cannot be taken back, so the leader proposes only what the follower is going to want.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from scapp.channels.books.step import NOTHING, Context, Send, Step
from scapp.channels.errors import LocalError, PeerError
from scapp.channels.ledger import consensus
from scapp.channels.ledger.consensus import FOLLOWER, LEADER, QUEUE_MAX, Ledger, Queued, SignedProposal
from scapp.channels.ledger.events import Countersigned, FollowerSigned, ProposalSigned
from scapp.channels.ledger.funding import is_deposited, is_retracting
from scapp.channels.ledger.messages import Agree, SignStage, Update, Updates
from scapp.channels.ledger.proposals import Add, Expand, Merge, Proposal, Remove, Retract, Transfer, is_by
from scapp.channels.ledger.record import LedgerRecord
from scapp.channels.ledger.session import LedgerSession
from scapp.channels.ledger.setup import POSTFUND
from scapp.channels.ledger.signed import TURN_LEAD_MAX
from scapp.channels.ledger.wire import from_wire, to_wire
from scapp.channels.types import ChannelId, Signature, asset_unit, money

AGAIN = "make the same request again"
_replace = msgspec.structs.replace


class Impossible(msgspec.Struct, frozen=True, gc=False):
    """A guarantee that this ledger cannot give, for now at least, and why."""

    want: Add
    reason: str


class Pursuit(msgspec.Struct, frozen=True, gc=False):
    """What came of this node's wants."""

    step: Step = NOTHING
    impossible: tuple[Impossible, ...] = ()


def pursue(record: LedgerRecord, session: LedgerSession, wants: Sequence[Proposal], context: Context) -> Pursuit:
    """`wants` is all that this node's virtual channels want of this ledger now; what is done already is skipped.

    The leader signs and proposes what applies. The follower countersigns from the head of the leader's queue on. A
    channel that is given up may have been proposed by the other already: the follower then wants its Add and its
    Remove, and the leader, which finds both, proposes neither unless the guarantee is on its way."""
    phase = record.phase
    if phase in ("disputed", "closed", "settled", "rejected"):
        return Pursuit(impossible=_no_more(wants, f"the ledger is {phase}"))
    if record.ledger is None or phase not in ("running", "closing"):
        return Pursuit()
    if record.leads:
        return _lead(record, record.ledger, wants, context)
    return Pursuit(_follow(record, session, wants, context))


def _no_more(wants: Iterable[Proposal], reason: str) -> tuple[Impossible, ...]:
    return tuple(Impossible(want, reason) for want in wants if isinstance(want, Add))


def _lead(record: LedgerRecord, ledger: Ledger, wants: Sequence[Proposal], context: Context) -> Pursuit:
    before = ledger
    impossible: list[Impossible] = []
    given_up = {want.target for want in wants if isinstance(want, Remove)}
    for want in wants:
        stands = isinstance(want, Add | Remove) and _stands(ledger, want.target)
        match want:
            case Add(target=target) if stands or target in given_up:
                continue
            case Add() if record.closing_by is not None:
                impossible.append(Impossible(want, "the ledger is closing"))
                continue
            case Remove() if not stands:
                continue
            case Transfer() | Expand() | Merge() | Retract():
                raise LocalError(f"a {type(want).__name__} is requested, not pursued")
        if len(ledger.queue) >= QUEUE_MAX:
            break
        try:
            ledger, _ = consensus.propose(ledger, want, context.signer)
        except LocalError as error:
            if isinstance(want, Add):  # a refund that right cannot pay now is tried again with each change
                why = f"the ledger with 0x{record.peer.hex()} cannot hold it: {error.__cause__ or error}"
                impossible.append(Impossible(want, why))
    step = NOTHING if ledger is before else proposed(record, before, ledger)
    return Pursuit(step, tuple(impossible))


def _stands(ledger: Ledger, target: ChannelId) -> bool:
    return any(each.find(target) is not None for each in ledger.proposed.assets)


def proposed(record: LedgerRecord, before: Ledger, after: Ledger) -> Step:
    """The facts of what the leader has newly signed in `after`, and its whole queue for the follower."""
    new = after.queue[len(before.queue) :]
    events = tuple(
        ProposalSigned(record.channel, q.after.turn, to_wire(q.proposal), q.state_hash, q.signature, q.ask) for q in new
    )
    return Step(events, (Send(record.peer, updates_message(after)),))


def with_ask(ledger: Ledger, ask: int) -> Ledger:
    """The last proposal of the queue answers the follower's request of that number."""
    return _replace(ledger, queue=(*ledger.queue[:-1], _replace(ledger.queue[-1], ask=ask))) if ask else ledger


def updates_message(ledger: Ledger) -> Updates:
    """All that waits for a countersignature."""
    updates = (Update(q.after.turn, to_wire(q.proposal), q.signature, q.ask) for q in ledger.queue)
    return Updates(ledger.channel_id, tuple(updates))


def merges(record: LedgerRecord, context: Context) -> Step:
    """The leader proposes to merge each deposit that was announced and is confirmed."""
    ledger = record.ledger
    if ledger is None or not record.leads or not any(each.trailing for each in ledger.current.assets):
        return NOTHING
    if not record.usable:
        return NOTHING
    before = ledger
    for each in ledger.current.assets:
        for trailing in each.trailing[:1]:
            merge = Merge(each.asset, trailing.party)
            if any(queued.proposal == merge for queued in ledger.queue) or len(ledger.queue) >= QUEUE_MAX:
                continue
            stays = not is_retracting(record, each.asset, trailing.party)
            if stays and is_deposited(record, each.asset, trailing.party):
                ledger, _ = consensus.propose(ledger, merge, context.signer)
    return NOTHING if ledger is before else proposed(record, before, ledger)


# --- the follower -----------------------------------------------------------------------------------------------------


def followed(record: LedgerRecord, session: LedgerSession) -> Ledger:
    """The follower's ledger with what the leader has proposed."""
    ledger = record.ledger
    assert ledger is not None
    turn = ledger.current.turn
    return _replace(ledger, queue=tuple(queued for queued in session.queue if queued.after.turn > turn))


def receive_updates(record: LedgerRecord, session: LedgerSession, message: Updates) -> Step:
    """The leader's queue: what is new of it is checked and kept for `pursue`. Raises PeerError, and changes nothing."""
    if record.leads:
        raise PeerError("proposes updates to the leader")
    if record.ledger is None:
        own = record.postfund[FOLLOWER]  # the leader has the postfund, so ours is out and theirs was lost
        again = SignStage(record.channel, POSTFUND, own, answer=True)
        return Step(sends=(Send(record.peer, again),)) if own else NOTHING
    if record.final is not None:
        return NOTHING
    ledger = followed(record, session)
    first = message.updates[0].turn
    known = max(ledger.current.turn, ledger.floor)
    if first > known + 1:  # the queue begins with the turn after the last one we signed, or after a restore above it
        if first > known + TURN_LEAD_MAX:
            raise PeerError(f"proposes turn {first} after turn {known}")
        ledger = _replace(ledger, queue=tuple(q for q in ledger.queue if q.after.turn >= first))
        ledger = ledger if ledger.queue else _replace(ledger, floor=first - 1)
    for update in message.updates:
        if update.turn > ledger.proposed.turn:
            signed = SignedProposal(ledger.channel_id, from_wire(update.proposal), update.turn, update.signature)
            ledger = with_ask(consensus.receive_proposal(ledger, signed), update.ask)
    session.queue = ledger.queue
    return Step(sends=agreed(record)) if first <= ledger.current.turn else NOTHING


def agreed(record: LedgerRecord) -> tuple[Send, ...]:
    """The follower's newest signature, once more."""
    ledger = record.ledger
    if ledger is None or ledger.current.turn <= POSTFUND:
        return ()
    return (Send(record.peer, Agree(record.channel, ledger.current.turn, ledger.signatures[FOLLOWER])),)


def _follow(record: LedgerRecord, session: LedgerSession, wants: Sequence[Proposal], context: Context) -> Step:
    ledger = followed(record, session)
    events: list[Countersigned] = []
    turn, signature = 0, Signature(b"")
    session.refused = ""
    while ledger.queue:
        head = ledger.queue[0]
        session.refused = _unwanted(record, ledger, head, wants)
        if session.refused:
            break
        ledger, signed = consensus.sign_next(ledger, head.proposal, context.signer)
        turn, signature = signed.turn, Signature(signed.signature)
        events.append(Countersigned(record.channel, turn, to_wire(head.proposal), head.signature, signature, head.ask))
    session.queue = ledger.queue
    if not events:
        return NOTHING
    return Step(tuple(events), (Send(record.peer, Agree(record.channel, turn, signature)),))


def _unasked(head: Queued, what: str) -> str:
    """Of what is this node's to ask for."""
    if not head.ask:
        return f"{what}, which this node did not request"
    return (
        f"{what}, as request {head.ask} of this node, which does not know it; if it was made before a restore, {AGAIN} "
        "and it is signed, else leave the ledger"
    )


def _unwanted(record: LedgerRecord, ledger: Ledger, head: Queued, wants: Sequence[Proposal]) -> str:
    """Why the follower does not sign the head of the queue now, or nothing."""
    requested = any(each.number == head.ask and each.proposal == head.proposal for each in record.requests)
    if requested or (not head.ask and head.proposal in wants):
        return ""
    if head.ask and not is_by(head.proposal, FOLLOWER):
        return f"an answer to request {head.ask}, which is not what this node asked for"
    match head.proposal:
        case Transfer(asset, amount, payer):
            return "" if payer == LEADER else _unasked(head, f"a payment of {money(amount, asset)} to the leader")
        case Expand(asset, amount, party):
            return "" if party == LEADER else _unasked(head, f"a deposit of {money(amount, asset)} by this node")
        case Retract(asset, party):
            return "" if party == LEADER else _unasked(head, f"the end of this node's deposit of {asset_unit(asset)}")
        case Merge(asset, party):
            there = is_deposited(_replace(record, ledger=ledger), asset, party)
            return "" if there else "an announced deposit that is not confirmed yet"
        case Add(target=target):
            return f"a guarantee for 0x{target.hex()} that this node does not want"
        case Remove(target=target):
            return f"the end of the guarantee for 0x{target.hex()}, which this node does not want"


def receive_agreed(record: LedgerRecord, message: Agree) -> Step:
    """The leader takes the follower's signature, which confirms all up to it. Raises PeerError."""
    ledger = record.ledger
    if not record.leads:
        raise PeerError("countersigns to the follower")
    if ledger is None or message.turn <= max(ledger.current.turn, record.floor):
        return NOTHING
    proposal = next((queued.proposal for queued in ledger.queue if queued.after.turn == message.turn), None)
    if proposal is None:
        raise PeerError(f"countersigned turn {message.turn}, which this node has not proposed")
    signed = SignedProposal(ledger.channel_id, proposal, message.turn, message.signature)
    consensus.receive_countersigned(ledger, signed)
    return Step((FollowerSigned(record.channel, message.turn, message.signature),))
