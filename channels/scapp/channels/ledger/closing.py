"""The end of a ledger that both parties want: the final state, which pays what the newest turn says.

Only the leader begins it, with nothing in its queue: a final state can be concluded on chain whatever its turn number,
so there must be no signed change that it leaves out. The follower asks for it.
"""

from __future__ import annotations

from scapp.channels.books.step import NOTHING, Context, Note, Send, Step
from scapp.channels.errors import LocalError, PeerError
from scapp.channels.ledger.consensus import FOLLOWER, LEADER, QUEUE_MAX
from scapp.channels.ledger.events import CloseRequested, FinalStateSigned
from scapp.channels.ledger.messages import AskClose, SignFinal
from scapp.channels.ledger.record import Final, LedgerRecord
from scapp.channels.ledger.signed import TURN_LEAD_MAX, check_signature, final_hash, last_turn

_GOES_ON = ("running", "funding", "disputed")


def close(record: LedgerRecord) -> Step:
    """The operator wants the ledger to end. Raises LocalError while guarantees stand, or when there is nothing to
    end."""
    if record.closing_by is not None or record.final is not None:
        return NOTHING
    if not _may_end(record):
        raise LocalError(f"ledger is {record.phase}, it cannot be closed")
    if record.has_guarantees:
        raise LocalError("guarantees for virtual channels stand in the ledger; close those first: `scapp ledger show`")
    step = Step((CloseRequested(record.channel, record.setup.my_index),), notes=(Note(record.channel, "closing"),))
    if record.leads:
        return step  # `crank` signs once the queue is empty
    return step + Step(sends=(Send(record.peer, AskClose(record.channel)),))


def _may_end(record: LedgerRecord) -> bool:
    return record.left_unfunded or record.phase in _GOES_ON


def receive_ask_close(record: LedgerRecord) -> Step:
    """The follower wants the ledger to end: nothing new begins, and once the last guarantee is gone it ends. Where all
    was paid out already, the leader says nothing by itself: a follower that asks has forgotten by what."""
    if not record.leads:
        raise PeerError("asks the follower for a final state")
    if record.final is not None:
        return Step(sends=tuple(Send(record.peer, each) for each in final_again(record)))
    if record.closing_by is not None or not _may_end(record):
        return NOTHING
    return Step((CloseRequested(record.channel, FOLLOWER),), notes=(Note(record.channel, "closing"),))


def finish(record: LedgerRecord, context: Context) -> Step:
    """The leader signs the final state as soon as it may; and once more, of the same money, when a restore has put the
    floor above one that the follower has not signed, and will not sign any more."""
    ledger, final = record.ledger, record.final
    if not record.leads or record.closing_by is None:
        return NOTHING
    if final is not None and (final.complete or final.balances.turn > record.floor):
        return NOTHING
    if not (record.left_unfunded or record.phase in ("closing", "disputed")):
        return NOTHING
    if record.has_guarantees or (ledger is not None and ledger.queue):
        return NOTHING
    turn = last_turn(record) + 1
    signature = context.signer.sign(final_hash(record, turn))
    return Step(
        (FinalStateSigned(record.channel, turn, LEADER, signature, context.now_ms),),
        (Send(record.peer, SignFinal(record.channel, turn, signature, answer=True)),),
    )


def receive_final(record: LedgerRecord, message: SignFinal, context: Context) -> Step:
    """The other party's signature under the final state. Raises PeerError."""
    if record.recovering or record.rejected_by is not None:
        return NOTHING
    peer = 1 - record.setup.my_index
    known = record.final
    if known is not None and known.signatures[peer] and not _signs_anew(record, known, message.turn):
        return _again(record, message)
    if record.leads and (known is None or known.balances.turn != message.turn):
        raise PeerError(f"signed a final state of turn {message.turn}, which this node has not")
    if not record.leads:
        _check_final(record, message.turn)
    what = f"the final state of turn {message.turn}"
    check_signature(record.setup, peer, final_hash(record, message.turn), message.signature, what)
    theirs = FinalStateSigned(record.channel, message.turn, peer, message.signature, context.now_ms)
    note = (Note(record.channel, "closed"),)
    if record.leads:
        return Step((theirs,), notes=note)
    signature = context.signer.sign(final_hash(record, message.turn))
    mine = FinalStateSigned(record.channel, message.turn, FOLLOWER, signature, context.now_ms)
    return Step((theirs, mine), (Send(record.peer, SignFinal(record.channel, message.turn, signature)),), note)


def _signs_anew(record: LedgerRecord, known: Final, turn: int) -> bool:
    """Is that the turn of another end of the same money, by a leader that was restored and left turns out (`recovery`)?
    A follower that has signed one signs this one, too, so that the leader has an end."""
    return not record.leads and turn >= known.balances.turn + QUEUE_MAX


def _check_final(record: LedgerRecord, turn: int) -> None:
    """May the follower sign a final state of that turn? It pays what the follower knows, so it harms nobody unless
    something is still promised to others."""
    if b"" in record.prefund and record.ledger is None:
        raise PeerError(f"ends a ledger that is {record.phase}")
    if record.has_guarantees:
        raise PeerError("ends a ledger in which guarantees stand")
    last = last_turn(record)
    if not last < turn <= last + TURN_LEAD_MAX:
        raise PeerError(f"ends the ledger at turn {turn}; it stands at {last}")


def final_again(record: LedgerRecord) -> tuple[SignFinal, ...]:
    """This node's signature under the final state, if it has signed one."""
    final = record.final
    own = final.signatures[record.setup.my_index] if final is not None else b""
    if final is None or not own:
        return ()
    return (SignFinal(record.channel, final.balances.turn, own, answer=not final.complete),)


def _again(record: LedgerRecord, message: SignFinal) -> Step:
    """Known already. Whoever still waits for this node's signature gets it once more."""
    final = record.final
    assert final is not None
    own = final.signatures[record.setup.my_index]
    if not message.answer or message.turn != final.balances.turn or not own:
        return NOTHING
    return Step(sends=(Send(record.peer, SignFinal(record.channel, message.turn, own)),))
