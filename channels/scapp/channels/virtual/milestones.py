"""Signatures under the milestone states: this node's, and others' as they become known (docs/reference/virtual.md)."""

from __future__ import annotations

from scapp.channels.abi import InvalidValue
from scapp.channels.books.step import Context
from scapp.channels.errors import LocalError, PeerError
from scapp.channels.ledger.consensus import verifier
from scapp.channels.virtual.agreement import ABORTED_MARK, FINAL_TURN, Amounts, pack_amounts
from scapp.channels.virtual.events import Milestone, Signed
from scapp.channels.virtual.record import VirtualRecord


def sign(record: VirtualRecord, milestone: Milestone, context: Context, amounts: Amounts | None = None) -> Signed:
    """This node's signature added to the milestone's: to the state that is known, or to the only one there can be, or
    to the final state of a payment channel with `amounts`. Raises LocalError for another's key."""
    me = record.agreement.participants[record.my_index]
    if context.signer.address != me:
        raise LocalError(f"the key of 0x{context.signer.address.hex()} does not sign for 0x{me.hex()}")
    known = record.milestone(milestone)
    if known is not None:
        turn, amounts, app_data, signatures = known.turn, known.amounts, known.app_data, known.signatures
    else:
        signatures = (b"",) * record.agreement.count
        if milestone == "aborted":
            turn, amounts, app_data = FINAL_TURN, record.agreement.start, ABORTED_MARK
        elif milestone == "final" and amounts is not None:
            turn, app_data = FINAL_TURN, b""
        else:
            raise LocalError(f"the {milestone} state of the channel is not known")
    signature = context.signer.sign(record.hash_of(milestone, turn, amounts, app_data))
    return _event(record, milestone, turn, amounts, app_data, _put(signatures, record.my_index, signature))


def merged(
    record: VirtualRecord,
    milestone: Milestone,
    turn: int,
    amounts: Amounts,
    app_data: bytes,
    given: tuple[bytes, ...],
) -> Signed | None:
    """What the given signatures add to what is known, None if nothing. This node's own count like others': it gets them
    back after a restore. Raises PeerError for a wrong signature, or a state other than the known one."""
    known = record.milestone(milestone)
    signatures = known.signatures if known is not None else (b"",) * record.agreement.count
    if known is not None and (known.turn, known.amounts, known.app_data) != (turn, amounts, app_data):
        raise PeerError(f"a second {milestone} state, of turn {turn}; known is one of turn {known.turn}")
    if not given or given == signatures:
        return None
    if len(given) != len(signatures):
        raise PeerError(f"{len(given)} signatures for {len(signatures)} participants")
    new = [index for index, signature in enumerate(given) if signature and not signatures[index]]
    if not new:
        return None
    try:
        state_hash = record.hash_of(milestone, turn, amounts, app_data)
    except InvalidValue as error:
        raise PeerError(f"{milestone} state: {error}") from None
    for index in new:
        if not verifier(record.agreement.participants[index]).matches(state_hash, given[index]):
            raise PeerError(f"wrong signature of participant {index} under the {milestone} state")
        signatures = _put(signatures, index, given[index])
    return _event(record, milestone, turn, amounts, app_data, signatures)


def _event(
    record: VirtualRecord,
    milestone: Milestone,
    turn: int,
    amounts: Amounts,
    app_data: bytes,
    signatures: tuple[bytes, ...],
) -> Signed:
    return Signed(record.channel_id, milestone, turn, pack_amounts(amounts), app_data, signatures)


def _put(signatures: tuple[bytes, ...], index: int, signature: bytes) -> tuple[bytes, ...]:
    return (*signatures[:index], signature, *signatures[index + 1 :])
