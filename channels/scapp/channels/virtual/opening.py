"""The first steps of a virtual channel: proposal, its checks, approval (docs/reference/virtual.md)."""

from __future__ import annotations

from typing import Literal

import msgspec

from scapp.channels.abi import InvalidValue
from scapp.channels.books.step import NOTHING, Context, Send, Step
from scapp.channels.errors import LocalError, PeerError
from scapp.channels.types import ZERO_ADDRESS, Address, ChannelId
from scapp.channels.virtual.agreement import Agreement, check_agreement, from_message, opened_ms, to_event
from scapp.channels.virtual.events import Rejected, Side, VirtualCreated, VirtualEvent, VirtualRestored
from scapp.channels.virtual.messages import Proposed, Refused, Said, Unknown, VirtualMessage
from scapp.channels.virtual.milestones import merged, sign
from scapp.channels.virtual.pending import REASON_MAX, news
from scapp.channels.virtual.record import VirtualRecord, create, evolve

CLOCKS_APART_MS = 600_000  # how far in the future a channel may say that it was opened


class HubRequest(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a policy is asked before this node signs the prefund state of a channel that somebody proposes.

    `role`: "hub", "payee" of a payment channel, or "party" of an app channel. `proposer` and `last` are its ends,
    `left` and `right` this node's neighbours. `amounts`: per asset the first participant's and the last one's.
    `locks`: per asset what this node binds until the channel has ended, over both its ledgers. `fee` is for this node,
    in `fee_asset`. `opened_ms`: when it was proposed, by the proposer's clock."""

    channel: ChannelId
    kind: Literal["payment", "app"]
    role: Literal["hub", "payee", "party"]
    proposer: Address
    last: Address
    left: Address | None
    right: Address | None
    hubs: int
    amounts: tuple[tuple[Address, int, int], ...]
    locks: tuple[tuple[Address, int], ...]
    fee: int
    fee_asset: Address
    challenge_duration_s: int
    opened_ms: int


class Apps(msgspec.Struct, frozen=True, gc=False):
    """The contracts behind the two kinds on the chain of this node's ledgers. `locks` is that of payment channels which
    take hash locks as well."""

    payment: Address
    app: Address
    locks: Address = ZERO_ADDRESS

    def of(self, agreement: Agreement) -> Address:
        """The one that an agreement of its kind has to name."""
        if agreement.kind == "app":
            return self.app
        return self.locks if self.takes_locks(agreement) else self.payment

    def takes_locks(self, agreement: Agreement) -> bool:
        """Is it a payment channel that takes hash locks?"""
        return agreement.kind == "payment" and agreement.fixed.app_definition == self.locks != ZERO_ADDRESS


def propose(
    agreement: Agreement,
    left: Side | None,
    right: Side | None,
    apps: Apps,
    context: Context,
    prefund: tuple[bytes, ...] = (),
) -> Step:
    """Begin a channel of which this node is the first or the last participant.

    A payment channel is proposed by its payer. Of an app channel both parties may begin with the same, each for itself,
    with `prefund`, its two signatures. Raises LocalError."""
    me = context.signer.address
    ends = (agreement.participants[0], agreement.participants[-1])
    if me not in (ends if agreement.kind == "app" else ends[:1]):
        raise LocalError("a payment channel is proposed by its payer, an app channel by one of its two parties")
    if agreement.kind == "app" and not (len(prefund) == agreement.count and prefund[0] and prefund[-1]):
        raise LocalError("an app channel is proposed with the prefund signatures of both its parties")
    try:
        created = _created(agreement, me, left, right, apps, context)
        record = create(created)
        first = merged(record, "prefund", 0, agreement.start, agreement.app_data, prefund)
    except (InvalidValue, PeerError) as error:
        raise LocalError(str(error)) from error
    return _begun(record, created, first or sign(record, "prefund", context))


def receive_proposal(
    peer: Address,
    message: Proposed,
    left: Side | None,
    right: Side | None,
    apps: Apps,
    context: Context,
    not_before_ms: int = 0,
    token: bytes = b"",
) -> Step:
    """A channel that a neighbour proposes and that is not here yet: its creation, or PeerError. Nothing is signed;
    `request_of` its record asks the policy.

    `not_before_ms`: when this node was restored, 0 for never; no older channel is begun. One that this node had begun
    before comes back when its signature is under the proposal: it recovers, with the restore's `token`."""
    neighbours_of(message, context.signer.address)
    agreement = from_message(message)
    try:
        created = _created(agreement, context.signer.address, left, right, apps, context)
    except (InvalidValue, LocalError) as error:
        raise PeerError(f"proposed channel is not allowed: {error}") from error
    if created.channel != message.channel:
        raise PeerError(f"channel id 0x{message.channel.hex()} does not follow from the proposal")
    record = create(created)
    signed = merged(record, "prefund", 0, agreement.start, agreement.app_data, message.prefund)
    people = agreement.participants
    if peer not in record.peers:
        raise PeerError(f"proposed by 0x{peer.hex()}, who is no neighbour on its path")
    if signed is None or not (signed.signatures[0] and signed.signatures[people.index(peer)]):
        raise PeerError("proposed without the prefund signatures of its proposer and of who sends it")
    if token and signed.signatures[record.my_index]:
        restored = VirtualRestored(record.channel_id, token)
        return Step((created, signed, restored), news(None, evolve(evolve(record, signed), restored)))
    _check_time(opened_ms(agreement.fixed.nonce), context.now_ms, not_before_ms)
    return Step((created, signed))


def unknown(peer: Address, message: VirtualMessage, not_before_ms: int = 0) -> Step:
    """A message about a channel that is not here: whoever speaks of one is asked for its proposal, and who asks for it
    gets none. `not_before_ms`: when this node was restored, 0 for never; it may have forgotten the channel."""
    if isinstance(message, Unknown):
        return NOTHING
    if not isinstance(message, Said):
        raise PeerError(f"{type(message).__name__} of unknown channel 0x{message.channel.hex()}")
    return Step(sends=(Send(peer, Unknown(message.channel, b"" if not_before_ms else message.token)),))


def neighbours_of(message: Proposed, me: Address) -> tuple[Address | None, Address | None]:
    """Left and right neighbour of this node on the path, so that the caller finds their ledgers. Raises PeerError."""
    people = message.participants
    if people.count(me) != 1:
        raise PeerError(f"proposed a channel in which 0x{me.hex()}, this node, stands {people.count(me)} times")
    index = people.index(me)
    left = Address(people[index - 1]) if index else None
    right = Address(people[index + 1]) if index + 1 < len(people) else None
    return left, right


def request_of(record: VirtualRecord) -> HubRequest:
    """What the policy has to decide on."""
    agreement = record.agreement
    last = agreement.count - 1
    payee: Literal["payee", "party"] = "payee" if agreement.kind == "payment" else "party"
    locks = tuple(
        (
            each.asset,
            (each.last if record.left is not None else 0) + (each.first if record.right is not None else 0),
        )
        for each in agreement.assets
    )
    return HubRequest(
        channel=record.channel_id,
        kind=agreement.kind,
        role="hub" if record.is_hub else payee,
        proposer=agreement.participants[0],
        last=agreement.participants[last],
        left=Address(record.left.peer) if record.left is not None else None,
        right=Address(record.right.peer) if record.right is not None else None,
        hubs=last - 1,
        amounts=tuple((each.asset, each.first, each.last) for each in agreement.assets),
        locks=locks,
        fee=agreement.fees[record.my_index - 1] if record.is_hub else 0,
        fee_asset=agreement.assets[0].asset,
        challenge_duration_s=agreement.fixed.challenge_duration,
        opened_ms=opened_ms(agreement.fixed.nonce),
    )


def approve(record: VirtualRecord, context: Context) -> Step:
    """Policy or operator agree: sign the prefund state. Raises LocalError, for an app party always: it agrees through
    its app channel, whose signatures come by `defunding.offer`."""
    if record.is_app_party:
        raise LocalError("an app channel is accepted by its app's policy, not for its backing alone")
    if record.accepted or record.rejected_by >= 0 or record.recovering or record.end_wanted:
        raise LocalError("there is nothing to accept")
    event = sign(record, "prefund", context)
    return Step((event,), news(record, evolve(record, event)))


def reject(record: VirtualRecord, reason: str) -> Step:
    """Do not join. Raises LocalError once the prefund state is signed here."""
    if record.accepted or record.rejected_by >= 0 or record.recovering:
        raise LocalError("there is nothing to reject")
    event = Rejected(record.channel_id, record.my_index, reason)
    return Step((event,), news(record, evolve(record, event)))


def refuse(channel: ChannelId, my_index: int, peer: Address, reason: str) -> Step:
    """The same for a proposal that is not to be stored."""
    return Step(sends=(Send(peer, Refused(channel, my_index, reason[:REASON_MAX])),))


def give_up(step: Step, reason: str) -> Step:
    """What begins a channel that cannot be put into this node's ledgers, though it has signed the prefund state: it is
    given up at once. So the node signs the aborted state, should everybody else have signed the prefund state too."""
    record = begun_by(step)
    event = Rejected(record.channel_id, record.my_index, reason)
    return Step((*step.events, event), news(None, evolve(record, event)))


def begun_by(step: Step) -> VirtualRecord:
    """The record to which the facts of a new channel come."""
    created, *others = step.events
    record = create(created)
    for event in others:
        record = evolve(record, event)
    return record


def _begun(record: VirtualRecord, created: VirtualCreated, first: VirtualEvent) -> Step:
    return Step((created, first), news(None, evolve(record, first)))


def _created(
    agreement: Agreement, me: Address, left: Side | None, right: Side | None, apps: Apps, context: Context
) -> VirtualCreated:
    """Raises InvalidValue for an agreement that cannot work, LocalError for ledgers that do not fit it."""
    channel = check_agreement(agreement, apps.of(agreement))
    people = agreement.participants
    index = people.index(me)
    for side, at in ((left, index - 1), (right, index + 1)):
        if (side is not None) != (0 <= at < len(people)):
            raise LocalError("a ledger is needed with each neighbour on the path, and no other")
        if side is not None and side.peer != people[at]:
            raise LocalError(f"the ledger with 0x{side.peer.hex()} is not that with participant {at}")
    return VirtualCreated(channel, index, to_event(agreement), left, right, context.now_ms)


def _check_time(opened: int, now_ms: int, not_before_ms: int) -> None:
    if opened > now_ms + CLOCKS_APART_MS:
        raise PeerError(f"opened at {opened} ms by its nonce (`nonce_at`), this node's clock says {now_ms}")
    if opened <= not_before_ms:
        # It may have lived here before, and this node signed states of it that the backup does not know (rule 9).
        raise PeerError(f"opened at {opened} ms, before this node was restored, at {not_before_ms} ms")
