"""How two parties agree on a ledger's changes: participant 0 leads, participant 1 follows (docs/reference/nitro.md, 9).

The leader signs the state after each proposal and sends its whole queue each time; the follower signs what its own
objectives expect, in the queue's order, and one countersignature confirms everything before it. A `Ledger` is a value:
each function gives the next one, and nothing here sends or stores. What is signed here must be durable before it leaves
(safety rule 1), and a turn is signed once (rule 2): both follow from storing the returned `SignedProposal` first.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

import msgspec

from scapp.channels.errors import LocalError, PeerError
from scapp.channels.ledger.balances import Balances, next_hash
from scapp.channels.ledger.proposals import Proposal, ProposalRefused, apply_new
from scapp.channels.signing import Verifier
from scapp.channels.state import FixedPart, check_fixed_part
from scapp.channels.types import Address, ChannelId, Hash, Signature

LEADER, FOLLOWER = 0, 1
QUEUE_MAX = 256


class StateSigner(Protocol):
    """`scapp.channels.signing.Signer`, as far as it is needed here."""

    def sign(self, state_hash: Hash, /) -> Signature: ...


class SignedProposal(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A proposal and one party's signature under the state that it leads to, which has turn number `turn`."""

    ledger: ChannelId
    proposal: Proposal
    turn: int
    signature: bytes


class LedgerRefused(PeerError):
    """The other party's message fits this ledger nowhere; nothing changed. `stale`: it was right once, or is early."""

    def __init__(self, text: str, *, stale: bool = False) -> None:
        super().__init__(text)
        self.stale = stale


class Queued(msgspec.Struct, frozen=True, gc=False):
    """A proposal that the leader has signed and the follower has not; `after` is the ledger once it holds. `ask` is the
    number of the follower's request that it answers, 0 for none."""

    proposal: Proposal
    after: Balances
    state_hash: Hash
    signature: bytes  # the leader's
    ask: int = 0


class Ledger(msgspec.Struct, frozen=True, gc=False):
    """One party's view. `current` carries both signatures; the queue's turns follow it without a gap, unless a restore
    has left turns up to `floor` unused."""

    fixed: FixedPart
    channel_id: ChannelId
    my_index: int
    current: Balances
    signatures: tuple[bytes, bytes]
    queue: tuple[Queued, ...] = ()
    floor: int = 0

    @property
    def proposed(self) -> Balances:
        """The ledger once everything in the queue holds; the next change's turn follows this one's."""
        if self.queue:
            return self.queue[-1].after
        return self.current if self.floor <= self.current.turn else _replace(self.current, turn=self.floor)


def begin(fixed: FixedPart, my_index: int, current: Balances, signatures: tuple[bytes, bytes]) -> Ledger:
    """A ledger from a state that both have signed, its postfund at first. Raises PeerError, or LocalError for
    parameters that are no ledger's."""
    if len(fixed.participants) != 2 or my_index not in (LEADER, FOLLOWER):
        raise LocalError("a ledger channel has two participants")
    channel = check_fixed_part(fixed)
    state_hash = current.state_hash(channel)
    for participant, signature in zip(fixed.participants, signatures, strict=True):
        if not verifier(participant).matches(state_hash, signature):
            raise PeerError(f"turn {current.turn} of the ledger is not signed by 0x{participant.hex()}")
    return Ledger(fixed, channel, my_index, current, signatures)


def propose(ledger: Ledger, proposal: Proposal, signer: StateSigner) -> tuple[Ledger, SignedProposal]:
    """The leader adds a change. Raises LocalError when it may not or the change is not allowed."""
    _only(ledger, LEADER, "leader")
    if len(ledger.queue) >= QUEUE_MAX:
        raise LocalError(f"{QUEUE_MAX} proposals wait for the follower's signature")
    try:
        after = apply_new(ledger.proposed, proposal)
    except ProposalRefused as error:
        raise LocalError(f"propose could not add new state vars: {error}") from error
    state_hash = next_hash(after, ledger.channel_id)
    queued = Queued(proposal, after, state_hash, signer.sign(state_hash))
    return _replace(ledger, queue=(*ledger.queue, queued)), _signed(ledger, queued, queued.signature)


def redundant_queue(ledger: Ledger) -> tuple[SignedProposal, ...]:
    """What the leader sends with every message: all that waits for a countersignature, in its order."""
    return tuple(_signed(ledger, queued, queued.signature) for queued in ledger.queue)


def receive_proposal(ledger: Ledger, message: SignedProposal) -> Ledger:
    """The follower queues a change that the leader has signed. Raises LedgerRefused."""
    _only(ledger, FOLLOWER, "follower")
    _same_ledger(ledger, message)
    before = ledger.proposed
    if message.turn != before.turn + 1:
        raise LedgerRefused("the proposal turn number is not the next turn number", stale=True)
    if len(ledger.queue) >= QUEUE_MAX:
        raise LedgerRefused(f"{QUEUE_MAX} proposals wait for this node's signature")
    try:
        after = apply_new(before, message.proposal)
    except ProposalRefused as error:
        raise LedgerRefused(f"receive could not add new state vars: {error}") from error
    state_hash = next_hash(after, ledger.channel_id)
    if not _verifies(ledger, LEADER, state_hash, message.signature):
        raise LedgerRefused("invalid signature for proposal")
    queued = Queued(message.proposal, after, state_hash, message.signature)
    return _replace(ledger, queue=(*ledger.queue, queued))


def sign_next(ledger: Ledger, expected: Proposal, signer: StateSigner) -> tuple[Ledger, SignedProposal]:
    """The follower countersigns the first change in the queue, if it is the expected one. Raises LocalError."""
    _only(ledger, FOLLOWER, "follower")
    if not ledger.queue:
        raise LocalError("no proposals in the queue")
    first = ledger.queue[0]
    if first.proposal != expected:
        raise LocalError("expected proposal does not match first proposal in the queue")
    signature = signer.sign(first.state_hash)
    after = _replace(ledger, current=first.after, signatures=(first.signature, signature), queue=ledger.queue[1:])
    return after, _signed(ledger, first, signature)


def receive_countersigned(ledger: Ledger, message: SignedProposal) -> Ledger:
    """The leader takes the follower's signature, which confirms every change up to it. Raises LedgerRefused; a turn
    that is confirmed already changes nothing."""
    _only(ledger, LEADER, "leader")
    _same_ledger(ledger, message)
    if message.turn <= ledger.current.turn:
        return ledger
    for index, queued in enumerate(ledger.queue):
        if queued.after.turn != message.turn:
            continue
        if queued.proposal != message.proposal:
            raise LedgerRefused(f"turn {message.turn} was proposed with another change")
        if not _verifies(ledger, FOLLOWER, queued.state_hash, message.signature):
            raise LedgerRefused("proposal incorrectly signed")
        return _replace(
            ledger,
            current=queued.after,
            signatures=(queued.signature, message.signature),
            queue=ledger.queue[index + 1 :],
        )
    raise LedgerRefused("proposal queue exhausted")


_replace = msgspec.structs.replace


@lru_cache(maxsize=1_024)
def verifier(address: Address) -> Verifier:
    """The address's verifier, which remembers the public key once it has seen it."""
    return Verifier(address)


def _signed(ledger: Ledger, queued: Queued, signature: bytes) -> SignedProposal:
    return SignedProposal(ledger.channel_id, queued.proposal, queued.after.turn, signature)


def _only(ledger: Ledger, index: int, name: str) -> None:
    if ledger.my_index != index:
        raise LocalError(f"method may only be called by the channel {name}")


def _same_ledger(ledger: Ledger, message: SignedProposal) -> None:
    if message.ledger != ledger.channel_id:
        raise LedgerRefused("proposal ID and channel ID do not match")


def _verifies(ledger: Ledger, index: int, state_hash: Hash, signature: bytes) -> bool:
    return verifier(ledger.fixed.participants[index]).matches(state_hash, signature)
