"""What a node wants done on chain with a virtual channel: read from top to bottom like a flowchart, never stored.

A virtual channel holds nothing there. It is brought to the chain for its outcome, by which every ledger that
guarantees it reclaims, or which the ledgers' parties follow off chain (ADR 0056). The worst that can happen to the two
ends is that an older state is finalized, so they answer one; whoever stands between two ledgers has the same in the end
whatever the outcome is, as long as there is one.
"""

from __future__ import annotations

from scapp.channels.adjudicator_status import Mode
from scapp.channels.books.step import Context, Signer
from scapp.channels.errors import LocalError
from scapp.channels.ledger.chain_facts import Enforceable
from scapp.channels.onchain import Challenge, Checkpoint, Conclude, Transaction
from scapp.channels.outcome import encode_outcome
from scapp.channels.payments.locks import LockedVoucher, redemption_of_locks
from scapp.channels.payments.vouchers import Voucher, redemption_app_data
from scapp.channels.reading import SignedState
from scapp.channels.signing import InvalidSignature, Verifier
from scapp.channels.state import VariablePart, state_hash
from scapp.channels.types import Signature
from scapp.channels.virtual.agreement import FINAL_TURN
from scapp.channels.virtual.chain_view import is_enforceable, milestone_state
from scapp.channels.virtual.record import VirtualRecord


def wanted(
    record: VirtualRecord, enforceable: Enforceable | None, needed_since_s: int | None, context: Context
) -> tuple[Transaction, ...]:
    """The transactions that this node wants for the channel in the chain's next blocks.

    `enforceable` is the newest state above turn 1 that this node can show: of a payment channel the payee's redemption
    (`redemption`), of an app channel what both parties have signed, with the postfund state as proof; None if there is
    none. `needed_since_s`: since when a ledger of this node needs the outcome on chain (`ledger.settling.needs`), in
    the chain's seconds; None if none does. Nothing before the chain has been seen."""
    seen = record.chain.seen if record.chain is not None else None
    if seen is None or not context.head_time_s or record.rejected:
        return ()
    status = seen.latest.status
    mode = status.mode(context.head_time_s)
    if mode is Mode.FINALIZED:
        return ()
    wants = bool(record.exit_reason) or needed_since_s is not None
    final = end_state(record)
    if final is not None and (wants or mode is Mode.CHALLENGE):
        return (Conclude(final, pays=False),)  # whatever is registered: a conclusion asks for no turn number
    if mode is Mode.CHALLENGE:
        return _answer(record, enforceable, context)
    newest = newest_of(record, enforceable)
    if not wants or record.recovering or newest is None or newest.turn < status.turn_record:
        return ()
    if not record.exit_reason and not _is_turn(record, enforceable, needed_since_s or 0, context):
        return ()
    return (Challenge(newest.candidate, newest.proof),)


def _answer(record: VirtualRecord, enforceable: Enforceable | None, context: Context) -> tuple[Transaction, ...]:
    """A challenge stands: the two ends answer an older state at once, with a challenge of their own.

    A checkpoint would leave the channel open. There anybody could challenge with the payee's redemption again after a
    larger voucher, and none of the same turn number could answer it; and a hub that needs the outcome could not go on
    with the states that it has. So a dispute ends a virtual channel. Only who was restored makes a checkpoint."""
    assert record.chain is not None
    status = record.chain.seen.latest.status
    newest = newest_of(record, enforceable)
    if record.is_hub or newest is None or newest.turn < FINAL_TURN or newest.turn <= status.turn_record:
        return ()  # prefund and postfund state pay the same
    if record.recovering and not is_urgent(record, context):  # what is known may be old, and a payee has one answer
        return ()
    if record.recovering and record.agreement.kind == "app":
        return (Checkpoint(newest.candidate, newest.proof),)
    return (Challenge(newest.candidate, newest.proof),)


def is_urgent(record: VirtualRecord, context: Context) -> bool:
    """Does a challenge stand, with so little time left that a restored node answers with what it has?"""
    if record.chain is None:
        return False
    status = record.chain.seen.latest.status
    margin_s = record.agreement.fixed.challenge_duration // 2
    return status.mode(context.head_time_s) is Mode.CHALLENGE and context.head_time_s >= status.finalizes_at - margin_s


def end_state(record: VirtualRecord) -> SignedState | None:
    """The final or the aborted state once everybody has signed it."""
    if record.ended is None:
        return None
    return milestone_state(record, "aborted" if record.ended is record.aborted else "final")


def newest_of(record: VirtualRecord, enforceable: Enforceable | None) -> Enforceable | None:
    """The newest state that this node can show: its own, what others have shown, or postfund and prefund state."""
    shown = record.chain.newest if record.chain is not None else None
    milestones = (milestone_state(record, "postfund"), milestone_state(record, "prefund"))
    opening = (Enforceable(state) for state in milestones if state is not None and all(state.signatures))
    known = [each for each in (enforceable, shown, *opening) if each is not None]
    return max(known, key=lambda each: each.turn, default=None)


def _is_turn(record: VirtualRecord, enforceable: Enforceable | None, since_s: int, context: Context) -> bool:
    """Whoever has the newest state shows it at once. Others wait for that one, a while each, so that usually one
    challenge is enough: the payee first, then to the left; of an app channel both ends, then the hubs."""
    if enforceable is not None:
        return True
    ahead = record.agreement.count - 1 - record.my_index
    if record.agreement.kind == "app":
        ahead = min(ahead, record.my_index)
    return context.head_time_s >= since_s + ahead * context.terms.conclude_delay_s


def redemption(
    record: VirtualRecord,
    voucher: Voucher | LockedVoucher,
    signer: Signer,
    opened: frozenset[bytes] = frozenset(),
) -> Enforceable:
    """The payee's state that takes a voucher, signed by it, with the postfund state as proof. Raises LocalError.

    `opened` are the hashes whose preimages the chain knows in time: with each lock more, the state has a higher turn.

    To be called once the payments have ended here, durably (`closes_payments`): the first redemption that is shown to
    the chain counts, and a larger voucher later is worth nothing."""
    agreement = record.agreement
    if agreement.kind != "payment" or signer.address != agreement.participants[-1]:
        raise LocalError("only the payee of a payment channel redeems a voucher")
    postfund = milestone_state(record, "postfund")
    if postfund is None or not all(postfund.signatures):
        raise LocalError("the postfund state, which proves a voucher, is not signed by everybody")
    (asset,) = agreement.assets
    paid = voucher.worth(opened) if isinstance(voucher, LockedVoucher) else voucher.amount
    if voucher.channel != record.channel_id or not 0 <= paid <= asset.first:
        raise LocalError(f"a voucher for {paid} of channel 0x{voucher.channel.hex()}")
    payer, turn = Verifier(agreement.participants[0]), FINAL_TURN
    try:
        if isinstance(voucher, LockedVoucher):
            app_data = redemption_of_locks(voucher, payer)
            turn += sum(lock.hash in opened for lock in voucher.locks)
        else:
            app_data = redemption_app_data(voucher, payer)
    except InvalidSignature as error:
        raise LocalError(f"the voucher for {voucher.amount} is not signed by the payer") from error
    outcome = agreement.outcome(((asset.first - paid, asset.last + paid),))
    variable = VariablePart(outcome, app_data, turn, False)
    signature = signer.sign(state_hash(record.channel_id, variable))
    signatures = (*(Signature(b"") for _ in agreement.participants[1:]), signature)
    fixed = agreement.fixed
    candidate = SignedState(
        fixed.participants, fixed.nonce, fixed.app_definition, fixed.challenge_duration, variable.app_data,
        encode_outcome(outcome), turn, False, signatures,
    )  # fmt: skip
    found = Enforceable(candidate, (postfund,))
    if not is_enforceable(record, found):
        raise LocalError(f"the contract would not take the redemption of the voucher for {paid}")
    return found


def is_redeemed(record: VirtualRecord) -> bool:
    """Has the chain seen a redemption of this payment channel, be it that no challenge stands? The payee's watchtower
    has shown it; anybody can show it again, and no larger voucher could answer that."""
    if record.chain is None or record.agreement.kind != "payment":
        return False
    newest, seen = record.chain.newest, record.chain.seen
    turns = [seen.latest.status.turn_record, seen.confirmed.status.turn_record, newest.turn if newest else 0]
    return max(turns) >= FINAL_TURN


def closes_payments(record: VirtualRecord, needed_since_s: int | None) -> bool:
    """Must the payment book end the payments of this channel now? From the first sign of a dispute on: a redemption is
    made once, so no voucher may be taken after it."""
    return is_redeemed(record) or record.disputed or bool(record.exit_reason) or needed_since_s is not None
