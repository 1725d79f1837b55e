"""A ledger after its node was restored from a backup (safety rule 10): it signs nothing until the other party has told
where the ledger stands.

A follower signs nothing but what the leader has signed, once for each turn, so it goes on where the leader stands. A
leader may have signed changes that it does not know any more, at most QUEUE_MAX above what the follower has signed: it
goes on above those, and the follower signs none of them from then on. What this cannot find is a state that the other
party hides.
"""

from __future__ import annotations

import contextlib

from scapp.channels.abi import InvalidValue
from scapp.channels.books.step import NOTHING, Context, Note, Send, Step
from scapp.channels.errors import LocalError, PeerError
from scapp.channels.ledger.closing import receive_final
from scapp.channels.ledger.consensus import FOLLOWER, LEADER, QUEUE_MAX
from scapp.channels.ledger.events import (
    FinalStateSigned,
    LedgerEvent,
    LedgerRecovered,
    PeerRestoreSeen,
    StageSigned,
)
from scapp.channels.ledger.messages import ASKS_MAX, AskStanding, RejectLedger, SignFinal, TellStanding
from scapp.channels.ledger.record import UNSIGNED, LedgerRecord, evolve
from scapp.channels.ledger.resending import pending
from scapp.channels.ledger.session import LedgerSession
from scapp.channels.ledger.setup import PREFUND
from scapp.channels.ledger.signed import TURN_LEAD_MAX, check_signature, final_hash, last_turn, stage_hash
from scapp.channels.ledger.wire import WireBalances, balances_from_wire, balances_to_wire

RESTORES_MAX = 1_024  # of one party; each is remembered


def receive_ask_standing(record: LedgerRecord, session: LedgerSession, message: AskStanding) -> Step:
    """The other party was restored: tell it what this node knows, with its token. Raises PeerError when a leader was
    restored so often that no turn is left before the next change."""
    if record.recovering:
        session.peer_recovers = True
        return NOTHING  # this node does not know either
    if record.rejected_by is not None:
        return Step(sends=(Send(record.peer, RejectLedger(record.channel, record.reject_reason)),))
    events = _leave_out(record, message.token)
    for event in events:
        record = evolve(record, event)
    session.queue = ()
    told = (_standing(record, message.token), *pending(record))
    return Step(tuple(events), tuple(Send(record.peer, each) for each in told))


def _leave_out(record: LedgerRecord, token: bytes) -> list[PeerRestoreSeen]:
    """A restored leader goes on above all that it may have signed, a restored follower above all that it may have
    asked for; the same restore is told the same."""
    if any(known == token for known, _ in record.peer_restores):
        return []
    if len(record.peer_restores) >= RESTORES_MAX:
        raise PeerError(f"was restored {RESTORES_MAX} times")
    if record.leads:
        return [PeerRestoreSeen(record.channel, token, record.floor, record.asked + ASKS_MAX)]
    floor = last_turn(record) + QUEUE_MAX
    turn = record.balances.turn
    if floor > turn + TURN_LEAD_MAX // 2:
        raise PeerError(f"was restored too often since turn {turn}")
    return [PeerRestoreSeen(record.channel, token, floor, record.asked)]


def _standing(record: LedgerRecord, token: bytes) -> TellStanding:
    ledger, final = record.ledger, record.final
    return TellStanding(
        record.channel,
        token,
        balances_to_wire(ledger.current) if ledger is not None else None,
        ledger.signatures if ledger is not None else UNSIGNED,
        record.prefund,
        final.balances.turn if final is not None else 0,
        final.signatures if final is not None else UNSIGNED,
        record.floor,
        record.asked if record.leads else record.asks_done,
        tuple(queued.ask for queued in ledger.queue if queued.ask) if ledger is not None else (),
    )


def receive_standing(record: LedgerRecord, session: LedgerSession, message: TellStanding, context: Context) -> Step:
    """The answer: what is newer is taken over, and the ledger goes on. Raises PeerError for what nobody has signed."""
    if not record.recovering or message.token != record.token:
        return NOTHING
    known: list[LedgerEvent] = [*_prefunds(record, message), _recovered(record, message)]
    for event in known:
        record = evolve(record, event)
    finals = _finals(record, message, context) or _leaders_final(record, message, context)
    for event in finals:
        record = evolve(record, event)
    session.queue, session.denied = (), ""
    sends = tuple(Send(record.peer, each) for each in pending(record))
    note = Note(record.channel, "recovered", f"the other party was heard; changes go on above turn {last_turn(record)}")
    return Step((*known, *finals), sends, (note,))


def _prefunds(record: LedgerRecord, message: TellStanding) -> list[StageSigned]:
    """Signatures under the prefund state that this record does not hold."""
    found = []
    for index, signature in enumerate(message.prefund):
        if signature and not record.prefund[index]:
            state_hash = stage_hash(record.setup, PREFUND)
            check_signature(record.setup, index, state_hash, signature, "the prefund state")
            found.append(StageSigned(record.channel, PREFUND, index, signature))
    return found


def _recovered(record: LedgerRecord, message: TellStanding) -> LedgerRecovered:
    balances, signatures = _newer(record, message)
    turn = max(last_turn(record), balances.turn if balances is not None else 0)
    if message.floor > turn + TURN_LEAD_MAX:
        raise PeerError(f"wants changes to go on above turn {message.floor}; the ledger stands at {turn}")
    floor = max(message.floor, turn + QUEUE_MAX) if record.leads else message.floor
    asked = message.asked if record.leads else max(message.asked, record.asked)
    return LedgerRecovered(record.channel, floor, False, asked, message.kept, balances, signatures)


def _newer(record: LedgerRecord, message: TellStanding) -> tuple[WireBalances | None, tuple[bytes, bytes]]:
    """What the other party holds under both signatures, if this record does not."""
    wire, setup = message.balances, record.setup
    if wire is None or (record.ledger is not None and wire.turn <= record.ledger.current.turn):
        return None, UNSIGNED
    if tuple(each.asset for each in wire.assets) != tuple(each.asset for each in setup.opening.assets):
        raise PeerError("tells of a ledger with other assets")
    try:
        state_hash = balances_from_wire(wire, setup.opening.parties).state_hash(record.channel)
    except InvalidValue as error:
        raise PeerError(f"tells of a state that cannot be: {error}") from error
    for index in (LEADER, FOLLOWER):
        check_signature(setup, index, state_hash, message.signatures[index], f"the told turn {wire.turn}")
    return wire, message.signatures


def _finals(record: LedgerRecord, message: TellStanding, context: Context) -> list[FinalStateSigned]:
    """Signatures under a final state that this node has signed, as far as it has forgotten them. They stand under the
    newest balances."""
    if not message.final[record.setup.my_index]:
        return []
    turn, known, found = message.final_turn, record.final, []
    before = known.signatures if known is not None and known.balances.turn == turn else UNSIGNED
    for index, signature in enumerate(message.final):
        if signature and not before[index]:
            check_signature(record.setup, index, final_hash(record, turn), signature, f"the final state of turn {turn}")
            found.append(FinalStateSigned(record.channel, turn, index, signature, context.now_ms))
    return found


def _leaders_final(record: LedgerRecord, message: TellStanding, context: Context) -> tuple[LedgerEvent, ...]:
    """A final state that the leader tells of with its own signature alone is signed at once. This follower may have
    signed and even concluded it before the restore; the leader was paid out then and does not say it again. One that
    does not fit is left alone: the rest of the answer counts all the same."""
    if record.leads or record.final is not None or not message.final[LEADER]:
        return ()
    signed = SignFinal(record.channel, message.final_turn, message.final[LEADER])
    with contextlib.suppress(PeerError):
        return receive_final(record, signed, context).events
    return ()


def override(record: LedgerRecord) -> Step:
    """The operator takes the risk of having signed something that the other party does not tell. Raises LocalError."""
    if not record.recovering:
        raise LocalError(f"ledger is {record.phase}, there is nothing to recover from")
    floor, asked = record.floor, record.asked + ASKS_MAX
    if record.leads:
        floor, asked = last_turn(record) + QUEUE_MAX, record.asks_done
    kept = tuple(each.number for each in record.requests)
    note = Note(record.channel, "recovered", f"by the operator; changes go on above turn {floor}")
    return Step((LedgerRecovered(record.channel, floor, True, asked, kept),), notes=(note,))
