"""Ledgers and virtual channels that others propose: looked at, stored, and decided by the node's policy. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import msgspec

from scapp.channels.books.engine import Books
from scapp.channels.books.policy import BooksPolicy, Decision, LedgerOffer
from scapp.channels.books.step import NOTHING, Send, Step
from scapp.channels.books.volumes import begins_something
from scapp.channels.errors import PeerError
from scapp.channels.ledger import opening as ledger_opening
from scapp.channels.ledger import receiving as ledger_receiving
from scapp.channels.ledger import record as ledger_record
from scapp.channels.ledger.events import LedgerCreated
from scapp.channels.ledger.messages import AskStanding, LedgerMessage, OpenLedger, RejectLedger
from scapp.channels.ledger.opening import LedgerRules
from scapp.channels.ledger.proposals import room_fault
from scapp.channels.ledger.record import LedgerRecord
from scapp.channels.ledger.updating import followed
from scapp.channels.onchain import Protection
from scapp.channels.types import Address, ChannelId, money
from scapp.channels.virtual import opening as virtual_opening
from scapp.channels.virtual import receiving as virtual_receiving
from scapp.channels.virtual.agreement import opened_ms
from scapp.channels.virtual.events import Side
from scapp.channels.virtual.messages import Proposed, Refused, Said, VirtualMessage
from scapp.channels.virtual.opening import CLOCKS_APART_MS, Apps
from scapp.channels.virtual.pending import REASON_MAX
from scapp.channels.virtual.record import VirtualRecord

PROPOSALS_MAX = 256  # ledgers that wait for the operator
LEFT_MAX = 64  # ledgers of others that were left, and are watched for a deposit of this node's own; never forgotten
UNKNOWN = "opened after the backup that was restored here, or over and forgotten"
OPENING_MAX = 1_024  # channels over one ledger that are not funded yet: each is looked at whenever time passes


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for all ledgers and virtual channels of a node. `protection`: what its chain's contracts are worth,
    None until the chain has answered; `unprotected`: the operator guarantees channels whatever they are worth."""

    ledgers: LedgerRules
    apps: Apps
    policy: BooksPolicy
    protection: Callable[[], Protection | None] = Protection
    unprotected: bool = False

    def guarantee_fault(self, kind: Literal["payment", "app", "locks"]) -> str:
        """Why no ledger of this node guarantees a virtual channel of that kind, or an empty string."""
        if self.unprotected:
            return ""
        found = self.protection()
        if found is None:
            return "this node's chain has not answered yet, so its contracts are not known"
        fault = found.of(kind)
        return f"{fault} (ledgers.unprotected_guarantees would allow it)" if fault else ""


def receive(
    books: Books, peer: Address, message: LedgerMessage | VirtualMessage, rules: Rules, limited: str = ""
) -> Step:
    """What follows from a peer's message. `limited`: why nothing new is begun with this peer now; what this node has
    signed is not new. Raises PeerError; then nothing has changed."""
    if isinstance(message, VirtualMessage):
        return _receive_virtual(books, peer, message, rules, limited)
    record = books.state.ledgers.get(ChannelId(message.channel))
    if limited and begins_something(message):
        raise PeerError(limited)
    if isinstance(message, OpenLedger):
        return _proposed_ledger(books, peer, message, record, rules)
    if record is None and isinstance(message, AskStanding):  # by a restored node, which signs nothing until it is told
        return Step(sends=(Send(peer, RejectLedger(message.channel, UNKNOWN)),))
    if record is None:
        raise PeerError(f"{type(message).__name__} of unknown ledger 0x{message.channel.hex()}")
    if peer != record.peer:
        raise PeerError(f"0x{peer.hex()} is no party of ledger 0x{record.channel.hex()}")
    books.mark((record.channel,))  # a follower's queue is no part of its record
    return ledger_receiving.receive(record, books.session(record.channel), message, books.context)


def _proposed_ledger(
    books: Books, peer: Address, message: OpenLedger, record: LedgerRecord | None, rules: Rules
) -> Step:
    if record is None and message.channel in books.state.virtuals:
        raise PeerError(f"proposes a ledger with the id of a virtual channel, 0x{message.channel.hex()}")
    restored_ms = books.state.restored_ms
    if record is None and restored_ms and opened_ms(message.nonce) <= restored_ms:
        # It may have lived here before, after the backup; its first states must not be signed again (rule 9).
        reason = f"proposed before this node was restored, at {restored_ms} ms"
        return Step(sends=(Send(peer, RejectLedger(message.channel, reason)),))
    if record is None and (reason := age_fault(books, message.nonce)):
        return Step(sends=(Send(peer, RejectLedger(message.channel, reason)),))
    known = books.ledgers_with(peer) + ([record] if record is not None else [])
    step = ledger_opening.receive_open(message, peer, known, rules.ledgers, books.context)
    created = next((event for event in step.events if isinstance(event, LedgerCreated)), None)
    if created is None:
        return step
    proposed = ledger_record.create(created)
    if proposed.deposits_first and len(books.index.left) >= LEFT_MAX:
        reason = f"{LEFT_MAX} ledgers were left while this node's deposit could still arrive; deposit first in this one"
        return Step(sends=(Send(peer, RejectLedger(message.channel, reason)),))
    decision, reason = rules.policy.ledger(_offer(proposed))
    if decision == "reject":  # nothing was signed, so nothing is stored: whoever has a key may propose
        return Step(sends=(Send(peer, RejectLedger(message.channel, reason[:REASON_MAX])),))
    if decision == "ask" and len(books.index.proposed) >= PROPOSALS_MAX:
        raise PeerError(f"{PROPOSALS_MAX} proposed ledgers wait for the operator already")
    return step


def age_fault(books: Books, nonce: int) -> str:
    """Why nothing with that nonce is begun, or an empty string: it may have been here before and was forgotten (rule
    9), or will seem older than it is when it is forgotten itself."""
    opened, now_ms = opened_ms(nonce), books.context.now_ms
    if books.state.forgotten_ms and opened <= books.state.forgotten_ms:
        return f"opened at {opened} ms by its nonce, and what ended of that time is forgotten here: propose a new one"
    if opened > now_ms + CLOCKS_APART_MS:
        return f"opened at {opened} ms by its nonce (`nonce_at`), this node's clock says {now_ms}"
    return ""


def _receive_virtual(books: Books, peer: Address, message: VirtualMessage, rules: Rules, limited: str) -> Step:
    channel = ChannelId(message.channel)
    record = books.state.virtuals.get(channel)
    if record is not None:
        if record.recovering and isinstance(message, Said) and message.token:
            _note_restored(books, record, peer)
        return virtual_receiving.receive(record, peer, message)
    if isinstance(message, Refused):
        return NOTHING  # passed on to everybody on the path, also to those who never heard of the channel
    restored_ms = books.state.restored_ms
    if not isinstance(message, Proposed):
        return virtual_opening.unknown(peer, message, restored_ms)
    if channel in books.state.ledgers:
        raise PeerError(f"proposes a virtual channel with the id of a ledger, 0x{channel.hex()}")
    me = books.context.signer.address
    left, right = virtual_opening.neighbours_of(message, me)
    index = message.participants.index(me)
    signed = len(message.prefund) > index and message.prefund[index] != b""
    if reason := ("" if signed else limited) or age_fault(books, message.nonce):
        return virtual_opening.refuse(channel, index, peer, reason)
    left_side, right_side, unusable = sides_of(books, (left, right), signed=signed)
    if (left is not None and left_side is None) or (right is not None and right_side is None):
        return virtual_opening.refuse(channel, index, peer, unusable)
    for side in (left_side, right_side):
        if side is not None and len(books.index.unfunded[ChannelId(side.ledger)]) >= OPENING_MAX:
            unusable = unusable or f"{OPENING_MAX} channels are being opened over one ledger already"
            if not signed:
                return virtual_opening.refuse(channel, index, peer, unusable)
    step = virtual_opening.receive_proposal(
        peer, message, left_side, right_side, rules.apps, books.context, restored_ms, restore_token(restored_ms)
    )
    proposed = virtual_opening.begun_by(step)
    if proposed.recovering:
        return step
    faults = (full_fault(books, side, len(proposed.agreement.assets)) for _, side in proposed.sides)
    fault = unusable or next(filter(None, faults), "")
    if fault and proposed.is_app_party and proposed.accepted:
        return virtual_opening.give_up(step, fault)
    decision, reason = ("reject", fault) if fault else _decided(books, proposed, rules)
    if decision == "reject":  # nothing is stored for it, for nothing was signed
        return virtual_opening.refuse(channel, index, peer, reason)
    return step


def _note_restored(books: Books, record: VirtualRecord, peer: Address) -> None:
    """A neighbour recovers while this node does."""
    for _, side in record.sides:
        if side.peer == peer:
            books.session(ChannelId(side.ledger)).peer_recovers = True


def restore_token(restored_ms: int) -> bytes:
    """Of a channel, or a purse, that the last restore has forgotten altogether: what the others repeat to have told
    all."""
    return restored_ms.to_bytes(16, "big") if restored_ms else b""


def side_with(books: Books, neighbour: Address) -> Side | None:
    """The running ledger with a neighbour, as a virtual channel names it; None where there is none."""
    return next((_side(record) for record in books.ledgers_with(neighbour) if record.usable), None)


def sides_of(
    books: Books, neighbours: tuple[Address | None, Address | None], *, signed: bool
) -> tuple[Side | None, Side | None, str]:
    """The ledgers of a virtual channel with this node's neighbours left and right, None where there is no neighbour or
    no ledger; and why the channel can get no guarantee in them, an empty string otherwise.

    `signed`: this node has signed the prefund state, as an app party does before its ledgers are asked, and a restored
    node may have. Then one will do that ends, so that the channel can be ended with the others (ADR 0015)."""
    found: list[Side | None] = []
    fault = ""
    for neighbour in neighbours:
        side = side_with(books, neighbour) if neighbour is not None else None
        if neighbour is not None and side is None:
            fault = (
                f"there is no ledger that runs between 0x{books.context.signer.address.hex()} and 0x{neighbour.hex()}"
            )
            begun = (each for each in books.ledgers_with(neighbour) if each.phase not in ("proposed", "opening"))
            side = next((_side(each) for each in begun if signed), None)
        found.append(side)
    return found[0], found[1], fault


def _side(record: LedgerRecord) -> Side:
    setup = record.setup
    parties = setup.opening.parties
    mine, theirs = parties.of(setup.my_index), parties.of(1 - setup.my_index)
    return Side(record.peer, record.channel, mine, theirs, record.leads)


def full_fault(books: Books, side: Side, assets: int) -> str:
    """Why one more channel in so many assets must not count on that ledger, or an empty string: what all channels over
    it have and may still get has to fit the chain, as a ledger that does not is no guarantee of anything."""
    ledger = books.state.ledgers[ChannelId(side.ledger)].ledger
    if ledger is None:
        return ""
    standing = sum(len(each.guarantees) for each in ledger.proposed.assets)
    coming = max(0, books.index.promised[ledger.channel_id] - standing)
    fault = room_fault(ledger.proposed, coming + assets)
    return f"with 0x{side.peer.hex()}: {fault}" if fault else ""


def poor_fault(books: Books, side: Side, needed: Mapping[Address, int]) -> str:
    """Why this node's part of that ledger cannot pay so much, by asset, or an empty string: said before anything is
    signed for a channel that would have to be given up again."""
    record = books.state.ledgers[ChannelId(side.ledger)]
    if record.ledger is None:
        return ""
    ledger = record.ledger if record.leads else followed(record, books.session(record.channel))
    free = {each.asset: each.leader if record.leads else each.follower for each in ledger.proposed.assets}
    for asset, amount in needed.items():
        has = free.get(asset, 0)
        if has < amount:
            rest = f"{money(has, asset)} free with 0x{side.peer.hex()}"
            return f"{money(amount, asset)} are needed, fees included; this node has {rest}"
    return ""


def judge(books: Books, channel: ChannelId, rules: Rules) -> Step:
    """Have the policy decide on what was proposed; an input of its own right behind the proposal."""
    ledger = books.state.ledgers.get(channel)
    if ledger is not None:
        return _judge_ledger(books, ledger, rules)
    virtual = books.state.virtuals[channel]
    decision, reason = _decided(books, virtual, rules)
    if decision == "reject" and not rules.unprotected and rules.protection() is None:
        books.judge_later(channel)  # just started: the chain answers in a moment, or the funding times out
        return NOTHING
    if decision == "accept":
        return virtual_opening.approve(virtual, books.context)
    return virtual_opening.reject(virtual, reason) if decision == "reject" else NOTHING


def _decided(books: Books, record: VirtualRecord, rules: Rules) -> Decision:
    """What the policy says of a virtual channel. An app party's app channel has a policy of its own, and has agreed by
    its signature; what comes back after a restore was accepted before."""
    request = virtual_opening.request_of(record)
    if record.accepted or record.recovering:
        return "ask", ""
    if request.role == "party":
        return "reject", "no app channel of this node has signed it"
    if fault := rules.guarantee_fault("locks" if rules.apps.takes_locks(record.agreement) else record.agreement.kind):
        return "reject", fault
    least, most = rules.ledgers.challenge_duration_min_s, rules.ledgers.challenge_duration_max_s
    if not least <= request.challenge_duration_s <= most:
        return "reject", f"challenge duration {request.challenge_duration_s} s; this node takes {least} to {most} s"
    return rules.policy.virtual(request, len(books.index.forwarded) - (record.channel_id in books.index.forwarded))


def _judge_ledger(books: Books, record: LedgerRecord, rules: Rules) -> Step:
    decision, reason = rules.policy.ledger(_offer(record))
    if decision == "accept":
        return ledger_opening.accept(record, books.context)
    return ledger_opening.reject(record, reason) if decision == "reject" else NOTHING


def _offer(record: LedgerRecord) -> LedgerOffer:
    setup = record.setup
    return LedgerOffer(
        record.peer,
        tuple((each.asset, each.leader, each.follower) for each in setup.opening.assets),
        setup.opening.parties.of(setup.my_index),
        setup.fixed.challenge_duration,
    )
