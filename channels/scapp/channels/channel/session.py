"""What one running channel holds besides its durable state: all of it may be lost at any moment.

A restart begins with an empty session; status messages bring back whatever mattered.
"""

from __future__ import annotations

from collections import deque
from typing import final

import msgspec

from scapp.channels.channel.effects import Effect, TryBatch
from scapp.channels.channel.events import Event, Refused, Signed
from scapp.channels.channel.messages import Propose, Status
from scapp.channels.channel.model import ChannelState
from scapp.channels.channel.terms import ChainTerms
from scapp.channels.outcome import Outcome
from scapp.channels.types import Address, ChannelId, Hash


class Queued(msgspec.Struct, frozen=True, gc=False):
    """A submission waiting at the sequencer."""

    author: int
    counter: int
    kind: int
    payload: bytes


class Opening(TryBatch, frozen=True, gc=False):
    """Admission is looking at entry 0 of a channel proposed to us."""


@final
class Ordering(TryBatch, frozen=True, gc=False):
    """Admission is looking at a batch that we, the sequencer, may propose: of `items`."""

    items: tuple[Queued, ...]
    time_ms: int
    dropped: tuple[Refused, ...]


@final
class Checking(TryBatch, frozen=True, gc=False):
    """Admission is looking at the sequencer's proposal; `state` carries the sequencer's signature. It was found
    that this node may sign it over `base`; None while nobody has looked."""

    state: Signed
    refused: tuple[Refused, ...]
    state_hash: Hash
    base: ChannelState | None


class Adopting(TryBatch, frozen=True, gc=False):
    """Admission is looking at entries of a fully signed state that our log lacks."""

    state: Signed


class Rebasing(TryBatch, frozen=True, gc=False):
    """Admission runs a batch again that became supported after its layer was replaced or lost."""

    state: Signed


Work = Opening | Ordering | Checking | Adopting | Rebasing
"""What admission is asked, and kept until it answers."""


class Step(msgspec.Struct, frozen=True, gc=False):
    """A decision: facts to store, then orders to carry out, and what to ask admission at the end. With `durable` the
    orders wait for the disk.

    With `joins` nothing leaves the node because of it and a peer would bring it back if it were lost: its events may
    be folded and its effects carried out at once, and the events stored with those of what follows from it."""

    events: tuple[Event, ...] = ()
    effects: tuple[Effect, ...] = ()
    ask: Work | None = None
    durable: bool = True
    joins: bool = False


NOTHING = Step()


OWN_ACCEPTANCE = "this node's acceptance"


class Successor(msgspec.Struct, frozen=True, gc=False):
    """A channel that is to take over what this one holds under its state of turn `base_turn`: how much of each slot,
    and what it waits for before it can, in words; empty when it is ready."""

    channel: ChannelId
    base_turn: int
    moved: tuple[int, ...]
    waits: str


class Session:
    """Mutable and volatile. Belongs to one `engine.Engine`."""

    # More attributes than CPython keeps outside a dictionary (30): without slots each access would look into one.
    __slots__ = (
        "asked",
        "checkpoint_turn",
        "conclude_now",
        "early",
        "excused",
        "failure",
        "fetched",
        "full",
        "hashed",
        "head_time_s",
        "heard",
        "held",
        "layer",
        "news",
        "next_status_ms",
        "payout",
        "peer_turns",
        "queue",
        "queued",
        "recalled",
        "recovers",
        "refusal_times",
        "refusals",
        "resizing",
        "retimed",
        "seen_at_s",
        "singly",
        "status_wait_ms",
        "successor",
        "terms",
        "unsettled_since_s",
        "wanted",
        "wire",
        "wished_turn",
        "wishes",
        "work",
    )

    def __init__(self, count: int, terms: ChainTerms | None = None) -> None:
        self.terms = terms or ChainTerms()
        self.head_time_s = 0  # timestamp of the chain's newest block, 0 until it is known
        self.seen_at_s = 0  # head time at which the chain's view was current last
        self.news: tuple[str, ...] | None = None  # what listeners were told of the chain (`chain_view.news`)
        self.payout: tuple[object, tuple[Hash, Outcome] | None] | None = None  # `finalized.payout`: for what, and what
        self.conclude_now = False  # the operator will not wait for the participants before us
        self.checkpoint_turn = 0  # the operator wants this turn recorded on chain
        self.unsettled_since_s = 0  # head time since which a running channel waits for others, 0 while it does not
        self.excused = False  # meanwhile others have waited for our operator's decision about a successor
        self.queue: deque[Queued] = deque()
        self.queued = [0] * count  # highest counter queued per author
        self.work: Work | None = None
        self.layer: int | None = None  # turn whose batch lies on the admission base
        self.hashed: tuple[int, Hash] | None = None  # turn of the state that was signed here last: its state hash
        self.wire: tuple[int, bytes] | None = None  # turn of the proposal that we sent last: the encoded Propose
        self.full: tuple[int, bytes] | None = None  # turn of the full set asked for last: the encoded Supported
        self.early: dict[tuple[int, int], bytes] = {}  # (turn, index): signature of a state we have not signed yet
        self.held: Propose | None = None  # a proposal over a state we do not yet know to be supported
        self.wanted: Signed | None = None  # a fully signed state whose entries we fetch
        self.fetched: list[bytes] = []
        self.peer_turns = [-1] * count  # latest supported turn each participant has reported
        self.refusals: dict[int, tuple[int, str]] = {}  # index: (turn, reason) of its last Refuse
        self.heard: dict[int, Status] = {}  # recovering: what each has answered
        self.recovers: set[int] = set()  # recovering: others that were restored as well, and cannot answer
        self.recalled: dict[int, Signed] = {}  # recovering: turn of a state of ours that others gave back
        self.asked = ""  # why a proposal was left to the operator
        self.successor: Successor | None = None  # what is known of a channel that renews this one
        self.resizing = False  # one is being made
        self.wishes: dict[int, dict[Address, int]] = {}  # index: what that participant wants to take out, by asset
        self.wished_turn = -1  # the newest turn that was signed here when our operator wanted something out
        self.singly = 0  # so many of the queue's first go into a batch of their own
        self.retimed = 0  # times in a row that a proposal was replaced because of its clock
        self.refusal_times: list[deque[int]] = [deque() for _ in range(count)]
        self.next_status_ms = 0
        self.status_wait_ms = 0
        self.failure = ""  # why this channel stands still here

    def settle(self, turn: int) -> None:
        """Forget what concerns turns up to `turn`."""
        self.hashed = self.wire = None
        if self.early or self.refusals or self.wanted is not None:
            self._forget(turn)
        self.retimed = self.unsettled_since_s = self.status_wait_ms = 0
        self.excused = False

    def _forget(self, turn: int) -> None:
        """The same of what is there less often."""
        for key in [k for k in self.early if k[0] <= turn]:
            del self.early[key]
        self.refusals = {i: r for i, r in self.refusals.items() if r[0] > turn}
        if self.wanted is not None and self.wanted.turn <= turn:
            self.wanted = None
            self.fetched = []
