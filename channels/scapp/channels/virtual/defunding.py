"""VirtualDefund: the final state, its checks, and the guarantees' removal (docs/reference/virtual.md)."""

from __future__ import annotations

from scapp.channels.abi import InvalidValue
from scapp.channels.books.step import NOTHING, Context, Step
from scapp.channels.books.wire import to_wire_amount
from scapp.channels.errors import LocalError, PeerError
from scapp.channels.ledger.proposals import Part, Remove
from scapp.channels.outcome import AllocationType
from scapp.channels.state import VariablePart
from scapp.channels.types import U48_MAX
from scapp.channels.virtual.agreement import ABORTED_MARK, FINAL_TURN, Amounts, pack_amounts
from scapp.channels.virtual.events import (
    EndWanted,
    GuaranteeGone,
    Milestone,
    SettledOnChain,
    Side,
    TotalKnown,
    VirtualEvent,
)
from scapp.channels.virtual.funding import ledger_index
from scapp.channels.virtual.messages import APP_DATA_MAX
from scapp.channels.virtual.milestones import merged, sign
from scapp.channels.virtual.pending import news
from scapp.channels.virtual.record import LEFT, RIGHT, VirtualRecord, evolve


def end(record: VirtualRecord, reason: str) -> Step:
    """This node's owner wants the channel to end: by its final state when it is funded, else by not funding it. Raises
    LocalError. A funded app channel is ended by its two parties, through their app: a hub's wish only tells them."""
    if record.over or record.ended is not None:
        raise LocalError("the channel has ended, or is just being released")
    if record.is_app_party and record.funded:
        raise LocalError("an app channel that is funded is closed through its app")
    if record.end_wanted:
        return NOTHING
    return _stored(record, EndWanted(record.channel_id, reason or "its owner wants it to end"))


def wants_total(record: VirtualRecord) -> bool:
    """Must the payment book end the payments of this channel and say, by `total_known`, what they come to? The payer
    is asked before it signs the final state, the payee before it countersigns."""
    if record.agreement.kind != "payment" or record.total is not None or not record.funded or record.is_hub:
        return False
    if record.my_index == 0:
        return record.end_wanted and record.final is None and not record.recovering
    return record.final is not None and not record.signed(record.final)


def total_known(record: VirtualRecord, total: int) -> Step:
    """The payments have ended at `total`: the payer's largest voucher, or the payee's. Raises LocalError."""
    start = record.agreement.assets[0].first
    if record.agreement.kind != "payment" or record.is_hub:
        raise LocalError("only the two ends of a payment channel count its vouchers")
    if not 0 <= total <= start:
        raise LocalError(f"vouchers for {total} in a channel of {start}")
    if record.total is not None:
        raise LocalError(f"the payments of this channel have ended already, at {record.total}")
    return Step((TotalKnown(record.channel_id, to_wire_amount(total)),))


def decide(record: VirtualRecord, context: Context) -> VirtualEvent | None:
    """This node's signature under the final state, once it may be given: the payer makes it from its vouchers, the
    payee wants at least what it holds, hubs want whoever decides on it to have signed. Everybody has signed the
    postfund state before, so both ledgers of a hub have held the guarantee."""
    if record.is_app_party or record.aborting or record.signed(record.final) or not record.signed(record.postfund):
        return None
    if record.agreement.kind == "payment" and record.my_index == 0:
        if record.final is not None or not record.funded or not record.end_wanted or record.total is None:
            return None
        first = record.agreement.assets[0].first
        return sign(record, "final", context, ((first - record.total, record.total),))
    if record.final is None:
        return None
    # A payee counts its vouchers first, and takes them from when it hears that the channel is funded.
    if not record.is_hub and (not record.funded or record.total is None or record.final.amounts[0][1] < record.total):
        return None
    return sign(record, "final", context)


def offer(record: VirtualRecord, state: VariablePart, signatures: tuple[bytes, ...]) -> Step:
    """An app channel's own engine gives a state of turn 0 or 1, or a final one, with the signatures it has (one item
    per participant, hubs' empty). What is known already changes nothing. Raises LocalError."""
    if not record.is_app_party:
        raise LocalError("only an app channel's two parties offer its states")
    milestone: Milestone = "final" if state.is_final else "prefund" if state.turn == 0 else "postfund"
    if milestone != "final" and (state.turn > 1 or state.outcome != record.agreement.outcome(record.agreement.start)):
        raise LocalError(f"turn {state.turn} is not the agreed prefund or postfund state")
    if len(signatures) != record.agreement.count or not (signatures[0] and signatures[-1]):
        raise LocalError("a state is offered with the signatures of both app parties, one item per participant")
    amounts = record.agreement.start
    if milestone == "final":
        fault = final_fault(record, state) or ("" if record.funded else "the channel is not funded")
        if fault:
            raise LocalError(f"final state: {fault}")
        amounts = amounts_of(state)
    if milestone == "postfund" and record.aborting:
        return NOTHING  # signed when the guarantee stood, before this node heard that the channel is given up
    try:
        event = merged(record, milestone, state.turn, amounts, state.app_data, signatures)
    except PeerError as error:
        raise LocalError(str(error)) from error
    return _stored(record, event) if event is not None else NOTHING


def final_fault(record: VirtualRecord, state: VariablePart) -> str:
    """Why the state is no final state of this channel, or an empty string (docs/reference/nitro.md section 12)."""
    agreement = record.agreement
    if not state.is_final:
        return "it is not final"
    if agreement.kind == "payment" and (state.turn != FINAL_TURN or state.app_data):
        return f"a payment channel ends with turn {FINAL_TURN} and without app data, not with turn {state.turn}"
    if not FINAL_TURN <= state.turn <= U48_MAX or len(state.app_data) > APP_DATA_MAX:
        return f"turn {state.turn} with {len(state.app_data)} bytes of app data"
    if state.app_data == ABORTED_MARK:
        return "its app data says that the channel was not funded"
    if len(state.outcome) != len(agreement.assets):
        return f"{len(state.outcome)} assets; agreed are {len(agreement.assets)}"
    for exit_, agreed in zip(state.outcome, agreement.assets, strict=True):
        if exit_.asset != agreed.asset or exit_.metadata.asset_type or exit_.metadata.metadata:
            return f"asset 0x{exit_.asset.hex()}; agreed is 0x{agreed.asset.hex()}"
        if tuple(each.destination for each in exit_.allocations) != agreement.destinations:
            return "it pays others than the two that were agreed, in their order"
        if any(each.allocation_type != AllocationType.SIMPLE or each.metadata for each in exit_.allocations):
            return "it has an allocation that is not simple"
        first, last = (each.amount for each in exit_.allocations)
        if first < 0 or last < 0 or first + last != agreed.total:
            return f"{first} and {last} of asset 0x{exit_.asset.hex()}; the channel has {agreed.total}"
    return ""


def amounts_of(state: VariablePart) -> Amounts:
    """The amounts of a state with two allocations per asset. Raises InvalidValue for another."""
    if any(len(exit_.allocations) != 2 for exit_ in state.outcome):
        raise InvalidValue("an asset has other than two allocations")
    return tuple((exit_.allocations[0].amount, exit_.allocations[1].amount) for exit_ in state.outcome)


def removals(record: VirtualRecord, at: int, side: Side) -> tuple[Remove, ...]:
    """The change that takes the guarantee out of that ledger, once it may; a follower may take either of two, because
    its leader may know less.

    What the chain says goes without a refund, and before the final state; but who was paid a fee that it did not pass
    on returns it whenever the channel was aborted. A hub whose channel is disputed waits for what the chain says: were
    it to follow a final state in one ledger, and the chain another in the other one, it would pay for both."""
    if not record.held[at] or record.gone[at]:
        return ()
    if record.is_hub and record.disputed and record.on_chain is None:
        return ()
    found: list[Remove] = []
    aborted = record.aborted
    if aborted is not None and aborted.complete and record.on_chain in (None, aborted.amounts):
        if _may_refund(record, at, side):
            refund = record.agreement.fee_in(ledger_index(record, at))
            found.append(_remove(record, aborted.amounts, refund))
    elif record.final is not None and record.final.complete and record.on_chain is None:
        found.append(_remove(record, record.final.amounts, 0))
    if record.on_chain is not None and not (side.leads and found):
        found.append(_remove(record, record.on_chain, 0))
    return tuple(dict.fromkeys(found))


def _may_refund(record: VirtualRecord, at: int, side: Side) -> bool:
    """Fees go back from right to left: a hub returns what it was paid when it got back what it had passed on. Its
    ledger's leader asks for it only then, so that the queue does not wait for that."""
    if not record.agreement.fee_in(ledger_index(record, at) + 1):
        return True
    if at == LEFT:
        return record.gone[RIGHT] and not record.unrefunded[RIGHT]
    return not side.leads or record.right_cleared


def _remove(record: VirtualRecord, amounts: Amounts, refund: int) -> Remove:
    parts = tuple(
        Part(each.asset, each.total, first) for each, (first, _) in zip(record.agreement.assets, amounts, strict=True)
    )
    return Remove(record.channel_id, parts, refund=refund)


def settled_on_chain(record: VirtualRecord, state: VariablePart) -> Step:
    """The channel is finalized on chain, for good, with the outcome of this state: from here on the guarantees that
    still stand are worth that. Raises InvalidValue for an outcome that is not this channel's."""
    amounts = amounts_of(state)
    record.agreement.outcome(amounts)
    return (
        NOTHING
        if record.on_chain == amounts
        else _stored(record, SettledOnChain(record.channel_id, pack_amounts(amounts)))
    )


def ledger_settled(record: VirtualRecord, at: int) -> Step:
    """The ledger on that side was settled on chain, the guarantee with it."""
    return NOTHING if record.gone[at] else _stored(record, GuaranteeGone(record.channel_id, at, True))


def _stored(record: VirtualRecord, event: VirtualEvent) -> Step:
    return Step((event,), news(record, evolve(record, event)))
