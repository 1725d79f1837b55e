"""The first steps of a ledger: proposal, acceptance, prefund and postfund (docs/reference/ledgers.md, Opening).

Two keys have one open ledger at most, whoever leads it. When both propose at once, the one whose leader has the smaller
address stands.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from scapp.channels.books.step import NOTHING, Context, Note, Send, Step
from scapp.channels.books.wire import is_amount, to_wire_amount
from scapp.channels.errors import LocalError, PeerError
from scapp.channels.ledger.consensus import FOLLOWER, LEADER
from scapp.channels.ledger.events import LedgerCreated, LedgerRejected, StageSigned
from scapp.channels.ledger.messages import FUNDS_MAX, OpenLedger, RejectLedger, SignStage
from scapp.channels.ledger.record import LedgerRecord
from scapp.channels.ledger.session import LedgerSession
from scapp.channels.ledger.setup import POSTFUND, PREFUND, LedgerNotAllowed, setup_of
from scapp.channels.ledger.signed import check_signature, stage_hash
from scapp.channels.types import Address, Destination

_replace = msgspec.structs.replace


class LedgerOrder(msgspec.Struct, frozen=True, kw_only=True):
    """A ledger that this node proposes to `peer`, and leads. `funds` are (asset, own amount, the peer's), in the
    assets' smallest units; `nonce` must be new for this pair of keys on all chains."""

    peer: Address
    nonce: int
    challenge_duration_s: int
    funds: tuple[tuple[Address, int, int], ...]
    pays_to: tuple[Destination, Destination]  # this node's destination, the peer's


class LedgerRules(msgspec.Struct, frozen=True, kw_only=True):
    """What every ledger of this node has in common: ConsensusApp on its chain, and how long a challenge may take."""

    app_definition: Address
    challenge_duration_min_s: int = 3_600
    challenge_duration_max_s: int = 2_592_000


def propose(order: LedgerOrder, known: Iterable[LedgerRecord], rules: LedgerRules, context: Context) -> Step:
    """A new ledger, signed and proposed; `known` are this node's ledgers with the peer. Raises LocalError."""
    me = context.signer.address
    for record in known:
        if record.peer == order.peer and record.is_open:
            raise LocalError(f"ledger 0x{record.channel.hex()} with that peer is {record.phase}; one is enough")
    if not 1 <= len(order.funds) <= FUNDS_MAX:
        raise LocalError(f"{len(order.funds)} assets; allowed are 1 to {FUNDS_MAX}")
    if not all(is_amount(mine) and is_amount(theirs) for _, mine, theirs in order.funds):
        raise LocalError("amounts lie between 0 and 2^256-1")
    created = LedgerCreated(
        channel=b"",
        my_index=LEADER,
        participants=(me, order.peer),
        nonce=order.nonce,
        app_definition=rules.app_definition,
        challenge_duration=order.challenge_duration_s,
        destinations=order.pays_to,
        funds=tuple((asset, to_wire_amount(mine), to_wire_amount(theirs)) for asset, mine, theirs in order.funds),
        time_ms=context.now_ms,
        signature=b"",
    )
    setup = setup_of(created)
    _check_duration(order.challenge_duration_s, rules, LocalError)
    signature = context.signer.sign(stage_hash(setup, PREFUND))
    created = _replace(created, channel=setup.channel_id, signature=signature)
    return Step((created,), (Send(order.peer, open_message(created)),))


def _check_duration(seconds: int, rules: LedgerRules, error: type[LocalError | PeerError]) -> None:
    low, high = rules.challenge_duration_min_s, rules.challenge_duration_max_s
    if not low <= seconds <= high:
        raise error(f"challenge duration {seconds} s; allowed are {low} to {high}")


def open_message(created: LedgerCreated) -> OpenLedger:
    """The proposal of a ledger that this node leads."""
    return OpenLedger(
        created.channel,
        created.participants,
        created.nonce,
        created.app_definition,
        created.challenge_duration,
        created.destinations,
        created.funds,
        created.signature,
    )


def open_again(record: LedgerRecord) -> OpenLedger:
    """The same, from the record."""
    setup = record.setup
    fixed, opening = setup.fixed, setup.opening
    leader, follower = fixed.participants
    return OpenLedger(
        setup.channel_id,
        (leader, follower),
        fixed.nonce,
        fixed.app_definition,
        fixed.challenge_duration,
        (opening.parties.leader, opening.parties.follower),
        tuple((each.asset, to_wire_amount(each.leader), to_wire_amount(each.follower)) for each in opening.assets),
        record.prefund[LEADER],
    )


def receive_open(
    message: OpenLedger, peer: Address, known: Iterable[LedgerRecord], rules: LedgerRules, context: Context
) -> Step:
    """A proposed ledger: stored for the operator or a policy to decide. Raises PeerError for one that cannot be."""
    withdrawn = NOTHING
    for record in known:
        if record.channel == message.channel:
            return _again(record, peer)
    if message.participants != (peer, context.signer.address):
        raise PeerError("proposed a ledger that is not between its leader, who sends it, and this node")
    if message.app_definition != rules.app_definition:
        raise PeerError(f"proposed a ledger of app 0x{message.app_definition.hex()}, which is not ConsensusApp here")
    _check_duration(message.challenge_duration, rules, PeerError)
    created = LedgerCreated(
        message.channel,
        FOLLOWER,
        message.participants,
        message.nonce,
        message.app_definition,
        message.challenge_duration,
        message.destinations,
        message.funds,
        context.now_ms,
        message.signature,
    )
    try:
        setup = setup_of(created)
    except LedgerNotAllowed as error:
        raise PeerError(f"proposed ledger is not allowed: {error}") from error
    if setup.channel_id != message.channel:
        ids = f"0x{message.channel.hex()}", f"0x{setup.channel_id.hex()}"
        raise PeerError(f"ledger id {ids[0]} does not follow from the proposal, which gives {ids[1]}")
    check_signature(setup, LEADER, stage_hash(setup, PREFUND), message.signature, "the proposed ledger")
    for record in known:
        if record.peer != peer or not record.is_open:
            continue
        if not (_is_only_proposed(record) and peer < context.signer.address):
            reason = f"ledger 0x{record.channel.hex()} of these two parties is {record.phase}"
            return Step(sends=(Send(peer, RejectLedger(message.channel, reason)),))
        withdrawn += reject(record, "the other party's proposal stands: its address is smaller")
    return withdrawn + Step((created,), notes=(Note(setup.channel_id, "proposed"),))


def _is_only_proposed(record: LedgerRecord) -> bool:
    return record.leads and record.phase == "opening"


def _again(record: LedgerRecord, peer: Address) -> Step:
    """The proposal of a ledger that is known: its answer was lost."""
    if record.leads or peer != record.peer:
        raise PeerError("proposed a ledger that is another's")
    if record.rejected_by is not None:
        return Step(sends=(Send(peer, RejectLedger(record.channel, record.reject_reason)),))
    own = record.prefund[FOLLOWER]
    if record.recovering or not own:
        return NOTHING
    return Step(sends=(Send(peer, SignStage(record.channel, PREFUND, own)),))


def accept(record: LedgerRecord, context: Context) -> Step:
    """The operator or a policy agrees: the prefund state is signed. Raises LocalError when there is nothing to
    accept."""
    if record.phase != "proposed":
        raise LocalError(f"ledger is {record.phase}, there is nothing to accept")
    return sign_stage(record, PREFUND, context)


def reject(record: LedgerRecord, reason: str) -> Step:
    """The follower does not join, or the leader withdraws what is not accepted. Raises LocalError later than that."""
    if not _is_only_proposed(record) and record.phase != "proposed":
        raise LocalError(f"ledger is {record.phase}, it can no longer be rejected")
    reason = reason[:1024]
    return Step(
        (LedgerRejected(record.channel, record.setup.my_index, reason),),
        (Send(record.peer, RejectLedger(record.channel, reason)),),
        (Note(record.channel, "rejected", reason),),
    )


def receive_rejected(record: LedgerRecord, session: LedgerSession, message: RejectLedger) -> Step:
    """The other party does not join, or does not know the ledger. Raises PeerError once this node may have deposited in
    good faith. One that recovers may have forgotten that, so its operator decides."""
    if record.rejected_by is not None:
        return NOTHING
    if record.recovering:
        session.denied = message.reason or "no reason given"
        return NOTHING
    if record.phase not in ("proposed", "opening") and not _may_be_left(record):
        raise PeerError(f"rejected a ledger that is {record.phase}")
    rejected = LedgerRejected(record.channel, 1 - record.setup.my_index, message.reason)
    return Step((rejected,), notes=(Note(record.channel, "rejected", message.reason),))


def _may_be_left(record: LedgerRecord) -> bool:
    """Has the follower signed, and nobody deposited? The leader comes first, so this node has not either, unless
    nothing was to come before its deposit."""
    if record.leads or record.phase != "funding":
        return False
    seen = record.chain
    held = seen is not None and any(map(any, (*seen.latest.holdings, *seen.confirmed.holdings)))
    return not held and not record.deposits_first


def sign_stage(record: LedgerRecord, turn: int, context: Context) -> Step:
    """This node's signature under the prefund or postfund state, to be stored and told."""
    index = record.setup.my_index
    signature = context.signer.sign(stage_hash(record.setup, turn))
    known = record.prefund if turn == PREFUND else record.postfund
    message = SignStage(record.channel, turn, signature, answer=turn == POSTFUND and not known[1 - index])
    return Step((StageSigned(record.channel, turn, index, signature),), (Send(record.peer, message),))


def receive_stage(record: LedgerRecord, message: SignStage) -> Step:
    """The other party's signature under the prefund or postfund state. Raises PeerError for a wrong one."""
    if record.rejected_by is not None:
        return Step(sends=(Send(record.peer, RejectLedger(record.channel, record.reject_reason)),))
    known = record.prefund if message.turn == PREFUND else record.postfund
    index = record.setup.my_index
    answer: tuple[Send, ...] = ()
    if message.answer and known[index]:
        answer = (Send(record.peer, SignStage(record.channel, message.turn, known[index])),)
    if known[1 - index] == message.signature:
        return Step(sends=answer)
    what = f"turn {message.turn}"
    check_signature(record.setup, 1 - index, stage_hash(record.setup, message.turn), message.signature, what)
    if known[1 - index]:
        return Step(sends=answer)  # another valid signature: the one that is known will do
    event = StageSigned(record.channel, message.turn, 1 - index, message.signature)
    return Step((event,), answer)
