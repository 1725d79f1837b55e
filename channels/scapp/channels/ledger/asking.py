"""What the operator of one party wants of a running ledger: to pay the other, to deposit more or not after all (0059).

The leader proposes its own requests at once. The follower numbers them and asks the leader for all that are open; the
leader decides each number once and for all, so that an old question that comes again can never be proposed twice.
"""

from __future__ import annotations

from scapp.channels.books.step import NOTHING, Context, Note, Send, Step
from scapp.channels.errors import LocalError, PeerError
from scapp.channels.ledger import consensus
from scapp.channels.ledger.consensus import FOLLOWER, QUEUE_MAX, Ledger
from scapp.channels.ledger.events import AskDeclined, RequestDropped, Requested
from scapp.channels.ledger.messages import ASKS_MAX, Ask, Decline
from scapp.channels.ledger.proposals import Expand, Proposal, ProposalRefused, Retract, Transfer, apply
from scapp.channels.ledger.record import LedgerRecord, Request
from scapp.channels.ledger.session import LedgerSession
from scapp.channels.ledger.updating import followed, proposed, with_ask
from scapp.channels.ledger.wire import from_wire, to_wire


def request(record: LedgerRecord, proposal: Proposal, context: Context) -> Step:
    """A payment to the other party, a deposit by this one, or that it is not made. Raises LocalError."""
    ledger = record.ledger
    if ledger is None or not record.usable:
        raise LocalError(f"ledger is {record.phase}, it takes no changes")
    if not _is_by(proposal, record.setup.my_index):
        raise LocalError("a node requests its own payments and its own deposits")
    if record.leads:
        after, _ = consensus.propose(ledger, proposal, context.signer)
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


def confirm(record: LedgerRecord, session: LedgerSession, proposal: Proposal) -> Step:
    """The operator stands by a request that this node, the follower, has forgotten by a restore and that the leader
    proposes: it is signed after all. Raises LocalError unless just this change waits so at the head of the queue."""
    queue = followed(record, session).queue if record.usable and not record.leads else ()
    if not queue or not queue[0].ask or queue[0].proposal != proposal or not _is_by(proposal, FOLLOWER):
        raise LocalError("the leader proposes no such request of this node")
    if any(each.number == queue[0].ask for each in record.requests):
        raise LocalError("the request is known")
    return Step((Requested(record.channel, queue[0].ask, to_wire(proposal)),))


def _is_by(proposal: Proposal, party: int) -> bool:
    match proposal:
        case Transfer(payer=payer):
            return payer == party
        case Expand(party=depositor) | Retract(party=depositor):
            return depositor == party
        case _:
            return False


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
    if not all(_is_by(proposal, FOLLOWER) for _, proposal in asks):
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
        reason = str(error.__cause__ or error)[:1024]  # the ledger's own words without go-nitro's around them
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
