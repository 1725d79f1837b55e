"""Stored facts of ledgers, in the past tense; `record.evolve` folds them. Each names its ledger first.

Tags carry their version and never change meaning. A signature of this node is stored before it leaves.
"""

from __future__ import annotations

import msgspec

from scapp.channels.ledger.chain_facts import LedgerExitStarted, LedgerSeen
from scapp.channels.ledger.wire import WireBalances, WireProposal


class LedgerCreated(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="l:created.1"):
    """A ledger came to be here: proposed by this node (index 0), or to it. `signature` is the leader's under the
    prefund state, `funds` are (asset, leader's amount, follower's), `destinations` where the two are paid."""

    channel: bytes
    my_index: int
    participants: tuple[bytes, bytes]
    nonce: int
    app_definition: bytes
    challenge_duration: int
    destinations: tuple[bytes, bytes]
    funds: tuple[tuple[bytes, bytes, bytes], ...]
    time_ms: int
    signature: bytes


class LedgerRejected(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="l:rejected.1"):
    """Party `by` does not join, or no longer offers it; the ledger never runs."""

    channel: bytes
    by: int
    reason: str


class StageSigned(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="l:stage.1"):
    """Party `index` has signed the prefund (turn 0) or the postfund state (turn 1)."""

    channel: bytes
    turn: int
    index: int
    signature: bytes


class ProposalSigned(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="l:proposed.1"):
    """The leader, this node, has signed the state after a change. `ask` is the number of the follower's request that
    it answers, 0 for none. `state_hash` is what is signed, kept so that a fold hashes nothing."""

    channel: bytes
    turn: int
    proposal: WireProposal
    state_hash: bytes
    signature: bytes
    ask: int = 0


class FollowerSigned(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="l:agreed.1"):
    """At the leader: the follower's signature of that turn is here, which confirms all changes up to it."""

    channel: bytes
    turn: int
    signature: bytes


class Countersigned(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="l:countersigned.1"):
    """The follower, this node, has signed the state after the leader's change. `ask` is the number of its request
    that is done so, 0 for none."""

    channel: bytes
    turn: int
    proposal: WireProposal
    leader_signature: bytes
    signature: bytes
    ask: int = 0


class Requested(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="l:requested.1"):
    """The follower, this node, wants this change from the leader; `number` counts its requests from 1."""

    channel: bytes
    number: int
    proposal: WireProposal


class RequestDropped(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="l:dropped.1"):
    """At the follower: the leader will not propose the request of that number."""

    channel: bytes
    number: int
    reason: str


class AskDeclined(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="l:declined.1"):
    """At the leader: the follower's request of that number will not be proposed, now or later."""

    channel: bytes
    number: int
    reason: str


class CloseRequested(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="l:close.1"):
    """Party `by` wants the ledger to end: from here on it takes no new guarantee."""

    channel: bytes
    by: int


class FinalStateSigned(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="l:final.1"):
    """Party `index` has signed the final state: the money of the newest turn, under turn number `turn`."""

    channel: bytes
    turn: int
    index: int
    signature: bytes
    time_ms: int


class LedgerRestored(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="l:restored.1"):
    """This record came from a backup made at `backup_ms` and put in place at `at_ms`, and may be older than what this
    node has signed. `token` (16 random bytes) tells answers to this restore from older ones."""

    channel: bytes
    token: bytes
    at_ms: int
    backup_ms: int


class PeerRestoreSeen(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="l:restore-seen.1"):
    """The other party was restored and was told that updates go on above turn `floor`, and requests above number
    `asked`; stored before it is told."""

    channel: bytes
    token: bytes
    floor: int
    asked: int


class LedgerRecovered(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="l:recovered.1"):
    """The other party has told where the ledger stands (or the operator goes on without): updates go on above turn
    `floor`. `balances` with `signatures` are the newest state of both, None if it is not newer than what was known.
    `asked`: no request of the follower up to that number is to be decided, or made, any more; `kept` are those of its
    requests that the leader has proposed."""

    channel: bytes
    floor: int
    by_operator: bool
    asked: int
    kept: tuple[int, ...]
    balances: WireBalances | None = None
    signatures: tuple[bytes, bytes] = (b"", b"")


LedgerEvent = (
    LedgerCreated
    | LedgerRejected
    | StageSigned
    | ProposalSigned
    | FollowerSigned
    | Countersigned
    | Requested
    | RequestDropped
    | AskDeclined
    | CloseRequested
    | FinalStateSigned
    | LedgerRestored
    | PeerRestoreSeen
    | LedgerRecovered
    | LedgerSeen
    | LedgerExitStarted
)
