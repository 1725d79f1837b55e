"""What must hold of nodes with ledgers, whoever else is hostile: looked at as facts are stored and messages leave.

The numbers are the safety rules of app-channel.md section 4, as far as they are about ledgers, virtual channels and
payments too. What is owed to whom is counted from facts: `Books` here is what a node has stored, over all its lives.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from scapp.channels.books.events import decode_event
from scapp.channels.books.messages import decode_message, prefix_of
from scapp.channels.books.state import BooksState
from scapp.channels.books.step import BOOKS_STREAM
from scapp.channels.channel.events import decode_event as decode_app_event
from scapp.channels.ledger.events import (
    Countersigned,
    FinalStateSigned,
    LedgerCreated,
    LedgerRecovered,
    ProposalSigned,
    StageSigned,
)
from scapp.channels.ledger.proposals import Merge, Transfer
from scapp.channels.ledger.record import LedgerRecord
from scapp.channels.ledger.signed import final_hash, newest_enforceable, stage_hash
from scapp.channels.ledger.wire import from_wire
from scapp.channels.log.port import NODE_STREAM, Append
from scapp.channels.payments.events import (
    PurseOpened,
    PurseRecovered,
    VoucherPaid,
    VoucherTaken,
    amount_of,
    decode_purse_event,
    is_purse_event,
)
from scapp.channels.payments.locked.events import LOCKS_STREAM
from scapp.channels.payments.locked.state import LocksState
from scapp.channels.reading import SignedState
from scapp.channels.types import Address, ChannelId
from scapp.channels.virtual.agreement import unpack_amounts
from scapp.channels.virtual.chain_view import milestone_state
from scapp.channels.virtual.events import Signed
from scapp.channels.virtual.record import VirtualRecord
from tests.simulation.hubs.locked import KeptLocks, worth
from tests.simulation.hubs.net import HubNet, HubNode
from tests.support.checkers import check_log, require

STATES_KEPT_MAX = 40


class Kept:
    """What is known of one node, over all its lives and restores."""

    def __init__(self) -> None:
        self.books = BooksState()
        self.signed: dict[tuple[bytes, int], bytes] = {}
        self.made: dict[tuple[bytes, int], tuple[bytes, int]] = {}  # virtual channels: signature, restores until then
        self.unstored: set[bytes] = set()  # signatures made that are on no disk yet
        self.purses: set[bytes] = set()  # streams of payment channels
        self.paid: dict[ChannelId, int] = {}  # largest total under this node's signature
        self.taken: dict[ChannelId, int] = {}  # largest total that this node has held durably
        self.given: dict[tuple[bytes, int], int] = {}  # by a transfer that it has signed: (ledger, turn)
        self.states: dict[ChannelId, list[SignedState]] = defaultdict(
            list
        )  # under everybody's signatures, oldest first
        self.locks = KeptLocks()
        self.virtuals: dict[ChannelId, VirtualRecord] = {}  # as they stood last, also those that were forgotten


class Checks:
    """`net.Watch` that raises `Broken` where a rule is broken, in whoever stored or said it; `broken` keeps the first,
    because a node may take an error for its own."""

    def __init__(self, net: HubNet) -> None:
        self.net = net
        self.of = {node.index: Kept() for node in net.nodes}
        self.broken: AssertionError | None = None
        self.hostile = -1
        self.lost: set[bytes] = set()  # signatures that reached nobody before a restore, and stand under no state now

    def signed(self, node: HubNode, signature: bytes) -> None:
        self.of[node.index].unstored.add(signature)

    def begun(self, node: HubNode) -> None:
        """The shadow begins where the disk does, with what a failed sync may have left there; what was signed and held
        before is not forgotten."""
        kept = self.of[node.index]
        kept.books, kept.purses, kept.locks.state = BooksState(), set(), LocksState()
        for stream in node.log.streams():
            for page in node.log.read(stream):
                self._events(node, stream, page.events)

    def stored(self, node: HubNode, append: Append) -> None:
        try:
            self._stored(node, append)
        except AssertionError as error:
            self.broken = self.broken or error
            raise

    def said(self, node: HubNode, peer: Address, message: bytes) -> None:
        if node.index == self.hostile or prefix_of(message) == b"r:":  # an announcement is signed and promises nothing
            return
        try:
            self._said(node, message)
        except AssertionError as error:
            self.broken = self.broken or error
            raise

    def _said(self, node: HubNode, message: bytes) -> None:
        for signature in self.of[node.index].unstored:
            require(signature not in message, f"1: {node.name} says a signature that is on no disk")

    def _stored(self, node: HubNode, append: Append) -> None:
        for write in append.writes:
            self._events(node, write.stream, write.events)

    def _events(self, node: HubNode, stream: bytes, events: Sequence[bytes]) -> None:
        kept = self.of[node.index]
        for data in events:
            kept.unstored -= {each for each in kept.unstored if each in data}
            if stream == BOOKS_STREAM:
                self._book(node, kept, data)
            elif stream == LOCKS_STREAM:
                kept.locks.stored(data, self.net.saw)
            elif stream != NODE_STREAM:
                self._purse(node, kept, stream, data)

    # Ledgers and virtual channels

    def _book(self, node: HubNode, kept: Kept, data: bytes) -> None:
        event = decode_event(data)
        if isinstance(event, ProposalSigned):
            self._sign(node, event.channel, event.turn, event.state_hash)
        if isinstance(event, LedgerRecovered):
            if event.by_operator:  # at the risk of signing a turn twice that neither node remembers (recovery.md)
                kept.signed = {key: digest for key, digest in kept.signed.items() if key[0] != event.channel}
            else:
                self.net.saw("hubs: a restored ledger recovered")
        kept.books.fold(event)
        channel = ChannelId(getattr(event, "channel", b""))
        ledger, virtual = kept.books.ledgers.get(channel), kept.books.virtuals.get(channel)
        if ledger is not None:
            self._ledger(node, kept, ledger, event)
        elif virtual is not None:
            self._virtual(node, kept, virtual, event)

    def _ledger(self, node: HubNode, kept: Kept, record: LedgerRecord, event: object) -> None:
        setup = record.setup
        mine = setup.my_index
        match event:
            case LedgerCreated() if mine == 0:
                self._sign(node, record.channel, 0, stage_hash(setup, 0))
            case StageSigned(turn=turn, index=index) if index == mine:
                self._sign(node, record.channel, turn, stage_hash(setup, turn))
            case Countersigned(turn=turn):
                assert record.ledger is not None
                self._sign(node, record.channel, turn, record.ledger.current.state_hash(record.channel))
            case FinalStateSigned(turn=turn, index=index) if index == mine:
                self._sign(node, record.channel, turn, final_hash(record, turn))
        if isinstance(event, ProposalSigned | Countersigned):
            change = from_wire(event.proposal)
            if isinstance(change, Merge):
                self.net.saw("hubs: a top-up was merged")
            if isinstance(change, Transfer):
                self.net.saw("hubs: a transfer was made")
                own = change.payer == mine and (event.ask or isinstance(event, ProposalSigned))  # nobody else may ask
                kept.given[record.channel, event.turn] = change.amount if own else 0
        newest = newest_enforceable(record)
        states = kept.states[record.channel]
        if newest is not None and (not states or states[-1].turn != newest.turn) and len(states) < STATES_KEPT_MAX:
            states.append(newest)

    def _virtual(self, node: HubNode, kept: Kept, record: VirtualRecord, event: object) -> None:
        kept.virtuals[record.channel_id] = record
        if not isinstance(event, Signed):
            return
        if event.signatures[record.my_index]:
            digest = record.hash_of(event.milestone, event.turn, unpack_amounts(event.amounts), event.app_data)
            if not record.is_app_party:  # there an app channel's engine signs, above all floors
                self._forget(node, event, digest, event.signatures[record.my_index])
            self._sign(node, event.channel, event.turn, digest)
        surfaced = not self.lost.isdisjoint(event.signatures)
        require(not surfaced, f"2: {node.name} holds a state whose signer has signed another of turn {event.turn}")
        told = node.index == self.hostile or node.restores  # a restored node may be told of what it had signed
        if event.milestone == "postfund" and event.signatures[record.my_index] and not told:
            held = all(record.held[at] for at, _ in record.sides) or _has_proposed(kept.books, record)
            require(held, f"8: {node.name} signs turn 1 without its guarantees")
        postfund = milestone_state(record, "postfund")
        if postfund is not None and all(postfund.signatures):
            kept.states[record.channel_id] = [postfund]

    def _forget(self, node: HubNode, event: Signed, digest: bytes, signature: bytes) -> None:
        """A virtual channel's milestones have fixed turns, so a restored node has no higher one to go on with. What it
        had signed and nobody has stored is gone with its disk: whoever passes it on has stored it, and links keep the
        order of what a node says over all its lives, so a neighbour that has answered the restore hears nothing from
        before it any more. That turn may be signed again (ADR 0015), as long as no other disk holds the first
        signature: now, or (`_virtual`) ever after."""
        kept, key = self.of[node.index], (event.channel, event.turn)
        before, restores = kept.made.get(key, (signature, node.restores))
        if kept.signed.get(key, digest) != digest and restores < node.restores and not self._held(before, node):
            self.lost.add(before)
            del kept.signed[key]
        self.lost.discard(signature)
        kept.made[key] = signature, node.restores

    def _held(self, signature: bytes, but: HubNode) -> bool:
        """Is it on the disk of another node?"""
        disks = [each.disk.truth.get(BOOKS_STREAM, ()) for each in self.net.nodes if each is not but]
        return any(signature in data for events in disks for data in events)

    def _sign(self, node: HubNode, channel: bytes, turn: int, digest: bytes) -> None:
        if node.index == self.hostile:
            return
        before = self.of[node.index].signed.setdefault((channel, turn), digest)
        require(before == digest, f"2: {node.name} signs two states of turn {turn} of 0x{channel.hex()[:8]}")

    # Payments

    def _purse(self, node: HubNode, kept: Kept, stream: bytes, data: bytes) -> None:
        if stream not in kept.purses:
            if not is_purse_event(data):
                return  # an app channel's
            kept.purses.add(stream)
        event, channel = decode_purse_event(data), ChannelId(stream)
        match event:
            case PurseRecovered(by_operator=False):
                self.net.saw("hubs: a restored purse recovered")
            case PurseOpened():
                kept.paid.setdefault(channel, 0)
                kept.taken.setdefault(channel, 0)
            case VoucherPaid(total=total):
                kept.paid[channel] = max(kept.paid.get(channel, 0), amount_of(total))
            case VoucherTaken(total=total):
                kept.taken[channel] = max(kept.taken.get(channel, 0), amount_of(total))

    # The end

    def owed(self, node: HubNode, lost: frozenset[ChannelId] = frozenset()) -> int:
        """The least that a node must have gained once everything is paid out: what it holds vouchers for, less what it
        has promised, the fees of channels that it has opened, and what it has given. Of the channels `lost` a restored
        payee may find less than it once held."""
        kept = self.of[node.index]
        total = -sum(kept.given.values())
        for channel, record in kept.virtuals.items():
            start = record.agreement.start[0]
            if record.left is None:
                total -= sum(record.agreement.fees)
            if record.agreement.kind == "app":  # the app may have moved all that a party brought
                total -= start[0] if record.left is None else start[1] if record.right is None else 0
            elif record.left is None:
                total -= kept.paid.get(channel, 0) + worth(self.net, kept.locks.promised[channel].values())
            elif record.right is None and channel not in lost:
                total += kept.taken.get(channel, 0) + worth(self.net, kept.locks.taken[channel].values())
        return total

    def lock_ends_s(self, now_s: int) -> int:
        """When the next lock ends that an honest node gives or takes; 0 without any."""
        honest = [kept for index, kept in self.of.items() if index != self.hostile]
        return min((end for kept in honest if (end := kept.locks.ends_s(now_s))), default=0)

    def logs(self, node: HubNode) -> None:
        """Its app channels, each by itself."""
        for stream in node.log.streams():
            if stream in (BOOKS_STREAM, NODE_STREAM, LOCKS_STREAM) or stream in self.of[node.index].purses:
                continue
            first = next((page.events[0] for page in node.log.read(stream)), None)
            if first is not None:
                decode_app_event(first)
                check_log(node.log, stream)


def kind_of(message: bytes) -> str:
    """What a message is, for transcripts and for Mallory."""
    try:
        return type(decode_message(message)).__name__
    except Exception:
        return prefix_of(message).decode("latin1")


def _has_proposed(books: BooksState, record: VirtualRecord) -> bool:
    """Is this node the payer, which has signed its guarantee as the ledger's leader? It is the only one to whom that is
    enough."""
    side = record.right
    if record.agreement.kind != "payment" or record.my_index or side is None:
        return False
    ledger = books.ledgers[ChannelId(side.ledger)].ledger
    return ledger is not None and any(each.find(record.channel_id) for each in ledger.proposed.assets)
