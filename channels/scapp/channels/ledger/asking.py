"""What the operator of one party wants of a running ledger: to pay the other, to deposit more or not after all (0059).

The leader proposes its own requests at once. The follower numbers them and asks the leader for all that are open; the
leader decides each number once and for all, so that an old question that comes again can never be proposed twice.
"""

from __future__ import annotations

from scapp.channels.books.step import NOTHING, Context, Note, Send, Step
from scapp.channels.errors import LocalError, PeerError
from scapp.channels.ledger import consensus
from scapp.channels.ledger.consensus import FOLLOWER, QUEUE_MAX, Ledger, Queued
from scapp.channels.ledger.events import AskDeclined, RequestDropped, Requested
from scapp.channels.ledger.messages import ASKS_MAX, Ask, Decline
from scapp.channels.ledger.proposals import Proposal, ProposalRefused, apply, is_by
from scapp.channels.ledger.record import LedgerRecord, Request
from scapp.channels.ledger.session import LedgerSession
from scapp.channels.ledger.updating import followed, proposed, with_ask
from scapp.channels.ledger.wire import from_wire, to_wire


def request(record: LedgerRecord, session: LedgerSession, proposal: Proposal, context: Context) -> Step:
    """A payment to the other party, a deposit by this one, or that it is not made. Where a restore has made a follower
    forget just this request, it is the one that the leader proposes. Raises LocalError."""
    ledger = record.ledger
    known = forgotten(record, session)
    if known is not None and known.proposal == proposal:
        return Step((Requested(record.channel, known.ask, to_wire(proposal)),))
    if ledger is None or not record.usable:
        raise LocalError(f"ledger is {record.phase}, it takes no changes")
    if not is_by(proposal, record.setup.my_index):
        raise LocalError("a node requests its own payments and its own deposits")
    if record.leads:
        try:
            after, _ = consensus.propose(ledger, proposal, context.signer)
        except LocalError as error:
            raise LocalError(_reason(error)) from error
        return proposed(record, ledger, after)
    if len(record.requests) >= ASKS_MAX:
        raise LocalError(f"{ASKS_MAX} requests wait for the leader")
    try:
        apply(ledger.proposed, proposal)
    except ProposalRefused as error:
        raise LocalError(str(error)) from error
    number = max(record.asked, *(each.number for each in record.requests), 0) + 1
    asks = ask_message(record, (*record.requests, Request(number, proposal)))
    return Step((Requested(record.channel, number, to_wire(proposal)),), (Send(record.peer, asks),))


def _reason(error: LocalError) -> str:
    """The ledger's own words without go-nitro's around them."""
    return str(error.__cause__ or error)[:1024]


def forgotten(record: LedgerRecord, session: LedgerSession) -> Queued | None:
    """What the leader proposes as a request of this node, a follower, which does not know it (a restore); None
    where that is not what waits at the head of the queue. It is signed when the operator requests the same."""
    if record.leads or record.ledger is None or record.phase not in ("running", "closing"):
        return None  # one may close before it runs
    queue = followed(record, session).queue
    if not queue or not queue[0].ask or not is_by(queue[0].proposal, FOLLOWER):
        return None
    return None if any(each.number == queue[0].ask for each in record.requests) else queue[0]


def ask_message(record: LedgerRecord, requests: tuple[Request, ...]) -> Ask:
    """The follower's requests that are not decided."""
    ascending = sorted(requests, key=lambda each: each.number)
    return Ask(record.channel, tuple((each.number, to_wire(each.proposal)) for each in ascending))


def receive_ask(record: LedgerRecord, message: Ask, context: Context) -> Step:
    """The leader proposes what the follower asks for, or declines it. Raises PeerError for what is not the follower's
    to ask."""
    if not record.leads:
        raise PeerError("asks the follower to propose")
    asks = tuple((number, from_wire(wire)) for number, wire in message.asks)
    if not all(is_by(proposal, FOLLOWER) for _, proposal in asks):
        raise PeerError("asks for something else than its own payments and deposits")
    ledger = record.ledger
    if ledger is None or not record.usable:
        return NOTHING
    step, decided = NOTHING, record.asked
    for number, proposal in asks:
        if number <= decided:
            reasons = [reason for known, reason in record.declined if known == number]
            step += Step(sends=tuple(Send(record.peer, Decline(record.channel, number, each)) for each in reasons))
            continue
        if len(ledger.queue) >= QUEUE_MAX:
            break
        ledger, done = _decide(record, ledger, number, proposal, context)
        step, decided = step + done, number
    return step


def _decide(
    record: LedgerRecord, ledger: Ledger, number: int, proposal: Proposal, context: Context
) -> tuple[Ledger, Step]:
    before = ledger
    try:
        ledger, _ = consensus.propose(ledger, proposal, context.signer)
    except LocalError as error:
        reason = _reason(error)
        declined = Send(record.peer, Decline(record.channel, number, reason))
        return before, Step((AskDeclined(record.channel, number, reason),), (declined,))
    ledger = with_ask(ledger, number)
    return ledger, proposed(record, before, ledger)


def receive_declined(record: LedgerRecord, message: Decline) -> Step:
    """The leader will not propose a request of the follower's."""
    if record.leads:
        raise PeerError("declines what the leader has not asked for")
    if all(each.number != message.number for each in record.requests):
        return NOTHING
    note = Note(record.channel, "declined", message.reason)
    return Step((RequestDropped(record.channel, message.number, message.reason),), notes=(note,))
