"""The books: what a node decides about its ledgers and virtual channels, by turning the crank of whatever has changed.

An input is decided by a function of `ledger` or `virtual`: its whole step is folded, or none of it. Then every record
that this touched is cranked, and whatever that touches, until nothing is left to do. What an input costs depends on the
records it touches, not on how many there are. Nothing here sends or stores: `runner.py` takes the step and does both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from scapp.channels.books import forgetting
from scapp.channels.books.disputes import Disputes
from scapp.channels.books.events import BooksEvent
from scapp.channels.books.index import Index
from scapp.channels.books.retries import Retries
from scapp.channels.books.state import BooksState
from scapp.channels.books.step import NOTHING, BooksTerms, Context, Note, Send, Signer, Step
from scapp.channels.ledger import crank as ledger_crank
from scapp.channels.ledger import resending as ledger_resending
from scapp.channels.ledger import updating
from scapp.channels.ledger.chain_facts import Enforceable
from scapp.channels.ledger.consensus import Ledger
from scapp.channels.ledger.events import Countersigned, FollowerSigned, ProposalSigned
from scapp.channels.ledger.proposals import Proposal, Remove
from scapp.channels.ledger.record import LedgerRecord
from scapp.channels.ledger.session import LedgerSession
from scapp.channels.types import Address, ChannelId
from scapp.channels.virtual import crank as virtual_crank
from scapp.channels.virtual import pending as virtual_pending
from scapp.channels.virtual.events import Side
from scapp.channels.virtual.messages import Unknown
from scapp.channels.virtual.record import LEFT, RIGHT, VirtualRecord
from scapp.channels.virtual.standing import phase

T = TypeVar("T")
Input = Callable[["Books"], Step]
"""Decides one step; may read everything of the books."""

TURNS_MAX = 512
"""Of one record's crank within one batch; more is a bug, and the record stands still until its next input."""


class Books:
    """Mutable; belongs to one thread. `judge` decides on what others propose (`proposals.judge`); `faults` are
    cranks that broke off since they were read last, and of which record."""

    def __init__(
        self,
        state: BooksState,
        signer: Signer,
        terms: BooksTerms,
        judge: Callable[[Books, ChannelId], Step] = lambda books, channel: NOTHING,
        app_state: Callable[[ChannelId], Enforceable | None] = lambda channel: None,
    ) -> None:
        self.state = state
        self.context = Context(signer, 0, 0, terms)
        self.index = Index(state)
        self.disputes = Disputes(state, app_state)
        self.faults: list[tuple[ChannelId, Exception]] = []
        self._judge = judge
        self._proposed: dict[ChannelId, None] = {}
        self._undecided: dict[ChannelId, None] = {}  # proposed, to be judged when time has passed
        self._sessions: dict[ChannelId, LedgerSession] = {}
        self._phases: dict[ChannelId, str] = {}  # of records that have changed since the start
        self._retries = Retries()
        self._dirty: dict[ChannelId, None] = {}
        self._impossible: dict[ChannelId, str] = {}
        self._events: list[BooksEvent] = []
        self._sends: list[Send] = []
        self._notes: list[Note] = []
        self._touched: dict[ChannelId, None] = {}  # in their order, for a simulation must repeat
        self._forget_at = 0  # how many records there are when it is time to look for what may be forgotten
        self._unseen: set[ChannelId] = set()  # of a hub, that the chain may have ended while this node was away
        self._followed_ms: int | None = None
        self._withheld: dict[ChannelId, None] = {}  # ledgers in which a newer view of the chain would let a hub do more

    # Reading

    def session(self, ledger: ChannelId) -> LedgerSession:
        """What a ledger holds besides its record."""
        session = self._sessions.get(ledger)
        if session is None:
            session = self._sessions[ledger] = LedgerSession()
        return session

    def ledgers_with(self, peer: Address) -> list[LedgerRecord]:
        """Those with a peer that are not over."""
        return [self.state.ledgers[channel] for channel in self.index.ledgers_with.get(peer, ())]

    # Inputs

    def at(self, now_ms: int, head_time_s: int) -> None:
        """The time of the inputs that follow."""
        self.context = Context(self.context.signer, now_ms, head_time_s, self.context.terms)

    def decide(self, decide: Input) -> None:
        """One input. Raises what its decider raises, and then nothing has changed."""
        self._fold(decide(self))

    def start(self) -> Step:
        """Input: the node has started and looks at everything again."""
        self.mark(channel for channel, ledger in self.state.ledgers.items() if ledger.is_open or ledger.left_unfunded)
        self.mark(channel for channel, virtual in self.state.virtuals.items() if not virtual.over)
        self._unseen.update(
            channel for channel in self.index.forwarded if self.state.virtuals[channel].prefund.complete
        )
        self._touched.update(self._dirty)  # the chain, purses and app channels hear of all that is not over
        # A deposit that was sent before its ledger ended may still arrive: the chain is asked whether one is under way.
        self._touched.update((channel, None) for channel, each in self.state.ledgers.items() if not each.is_open)
        for channel in self._dirty:
            if self._phase(channel) == "proposed":
                self._proposed[channel] = None
            self._retries.begin(channel, self.context.now_ms)
        return NOTHING

    def tick(self) -> Step:
        """Input: time has passed."""
        self.mark(self.index.restless)
        self._touched.update(self.index.restless)
        for channel in list(self.index.restless):
            if self._phase(channel) == "disputed":  # what its channels want on chain depends on how long it has been so
                self._touched.update(self.index.users[channel])
            self._try(channel, self._leave_silent)
        for channel in self._retries.due(self.context.now_ms):
            self._say_again(channel)
        self._proposed.update((each, None) for each in self._undecided if self._phase(each) == "proposed")
        self._undecided.clear()
        self._forget()
        return NOTHING

    def judge_later(self, channel: ChannelId) -> None:
        """Nobody can decide on that proposal yet."""
        self._undecided[channel] = None

    def _forget(self) -> None:
        state = self.state
        if len(state.ledgers) + len(state.virtuals) < self._forget_at:
            return
        fact = forgetting.forgettable(state, self.context.now_ms)
        if fact is not None:
            state.fold(fact)
            self._events.append(fact)
            gone = [ChannelId(channel) for channel in fact.channels]
            self.index.forget(gone)
            for channel in gone:
                for known in (self._sessions, self._impossible, self._dirty, self._proposed, self._undecided):
                    known.pop(channel, None)
                for other in (self._phases, self._touched):
                    other.pop(channel, None)
                self._retries.end(channel)
                self.disputes.forget(channel)
        self._forget_at = len(state.ledgers) + len(state.virtuals) + forgetting.KEPT_MAX // 2

    def _leave_silent(self, channel: ChannelId) -> None:
        virtual = self.state.virtuals.get(channel)
        if virtual is not None and self.is_blind(virtual):
            self.disputes.excuse(virtual)  # it is this node that holds it up
        elif virtual is not None:
            self._fold(self.disputes.leave_silent_channel(virtual, self.context))
        else:
            self._fold(self.disputes.leave_silent_ledger(self.state.ledgers[channel], self.context))

    def link_up(self, peer: Address) -> Step:
        """Input: a peer is there again, and may lack anything."""
        for ledger in self.index.ledgers_with.get(peer, ()):
            for channel in (ledger, *self.index.users[ledger]):
                self._sends += self._pending(channel, peer)
        return NOTHING

    def seen_on_chain(self, channel: ChannelId) -> None:
        """A view of the channel was taken. Before the first one after a start a hub takes it out of no ledger: its
        neighbours might both sign an end off chain that the chain contradicts."""
        if channel in self._unseen:
            self._unseen.discard(channel)
            self._resume()

    def followed(self, began_ms: int | None) -> None:
        """All that a look at the chain has shown, which began then, was taken. None: there was none since the start."""
        self._followed_ms = began_ms
        self._resume()

    def _resume(self) -> None:
        """Look again at what was withheld."""
        self.mark(self._withheld)
        self._withheld.clear()

    def is_blind(self, record: VirtualRecord) -> bool:
        """May the chain have ended this channel, or be about to, without this hub knowing? Its neighbours could then
        sign another end off chain, and the hub would pay for both. Measured by when the chain has answered, not by its
        newest block's age: a chain may have nothing to say. Half of a challenge's duration is left to see it."""
        if not record.is_hub:
            return False
        if record.channel_id in self._unseen or self._followed_ms is None:
            return True
        age_ms = self.context.now_ms - self._followed_ms  # negative: the clock was set back, and nobody knows
        return not 0 <= age_ms <= record.agreement.fixed.challenge_duration * 1_000 // 2

    def touch(self, channel: ChannelId) -> None:
        """Count this record among those that the batch at hand has changed."""
        self._touched[channel] = None

    def mark(self, channels: Iterable[ChannelId]) -> None:
        """Crank these records with the input at hand."""
        self._dirty.update(dict.fromkeys(channels))

    # Following up

    def crank(self) -> None:
        """Do all that follows from what has changed, until nothing does."""
        turns: dict[ChannelId, int] = {}
        while self._proposed or self._dirty:
            if self._proposed:
                channel = next(iter(self._proposed))
                del self._proposed[channel]
                self._try(channel, lambda channel: self._fold(self._judge(self, channel)))
                continue
            channel = next(iter(self._dirty))
            del self._dirty[channel]
            turns[channel] = turns.get(channel, 0) + 1
            if turns[channel] > TURNS_MAX:
                self.faults.append((channel, RuntimeError("its crank comes to no end")))
                continue
            self._try(channel, self._crank)

    def _try(self, channel: ChannelId, step: Callable[[ChannelId], None]) -> None:
        """One record must not hold up the others; it is tried again with its next input."""
        try:
            step(channel)
        except Exception as error:
            self.faults.append((channel, error))

    def take(self) -> tuple[Step, tuple[ChannelId, ...]]:
        """What was decided since the last time, to be stored and then said, and which records it touched."""
        step = Step(tuple(self._events), virtual_pending.coalesced(self._sends), tuple(self._notes))
        touched = tuple(self._touched)
        self._events, self._sends, self._notes = [], [], []
        self._touched.clear()
        return step, touched

    def _crank(self, channel: ChannelId) -> None:
        virtual = self.state.virtuals.get(channel)
        if virtual is not None:
            self._crank_virtual(virtual)
            return
        ledger = self.state.ledgers[channel]
        session = self.session(channel)
        self._fold(ledger_crank.crank(ledger, self.context))
        wants = self.index.wanted_of(channel)
        allowed = self.allowed(wants)
        if allowed != wants:
            self._withheld[channel] = None
        pursuit = updating.pursue(self.state.ledgers[channel], session, allowed, self.context)
        self._fold(pursuit.step)
        for each in pursuit.impossible:
            target = getattr(each.want, "target", None)
            if target is not None and self._impossible.get(target) != each.reason:
                self._impossible[target] = each.reason
                self.mark((target,))

    def allowed(self, wants: tuple[Proposal, ...]) -> tuple[Proposal, ...]:
        """Those of a ledger's wants that may be followed now: a hub that is blind lets no guarantee go. Nor does it
        put one in that it would take out at once."""
        removed = {ChannelId(want.target) for want in wants if isinstance(want, Remove)}
        kept = {
            target for target in removed if target in self.state.virtuals and self.is_blind(self.state.virtuals[target])
        }
        return tuple(want for want in wants if getattr(want, "target", None) not in kept) if kept else wants

    def _crank_virtual(self, record: VirtualRecord) -> None:
        followed = self.disputes.follow(record, self.context)
        self._fold(followed)
        record = self.state.virtuals[record.channel_id]
        self._fold(virtual_crank.crank(record, self._funding(record), self.context))
        record = self.state.virtuals[record.channel_id]
        if not followed.events and record.chain is None:
            self._dirty.pop(record.channel_id, None)  # that crank has come to its end, and nothing else has changed
        self.mark(self.index.put_wants(record, virtual_crank.ledger_wants(record)))
        if record.over:
            self._impossible.pop(record.channel_id, None)

    def _funding(self, record: VirtualRecord) -> virtual_crank.Funding:
        left = virtual_crank.place_of(record, LEFT, self._ledger_of(record.left))
        right = virtual_crank.place_of(record, RIGHT, self._ledger_of(record.right))
        return virtual_crank.Funding(left, right, self._impossible.get(record.channel_id, ""))

    def _ledger_of(self, side: Side | None) -> Ledger | None:
        record = self.state.ledgers[ChannelId(side.ledger)] if side is not None else None
        return record.ledger if record is not None and not record.recovering else None

    # Folding

    def _fold(self, step: Step) -> None:
        """Fold a step's events, all or none of them; what it says waits until they are stored."""
        if step is NOTHING:
            return
        if not step.events:
            self._sends += step.sends
            self._notes += step.notes
            return
        state = self.state
        before: dict[ChannelId, tuple[LedgerRecord | None, VirtualRecord | None]] = {}
        version = state.version
        try:
            for event in step.events:
                channel = ChannelId(event.channel)
                if channel not in before:
                    before[channel] = state.ledgers.get(channel), state.virtuals.get(channel)
                state.fold(event)
        except BaseException:
            for channel, records in before.items():
                _put_back(state.ledgers, channel, records[0])
                _put_back(state.virtuals, channel, records[1])
            state.version = version
            raise
        for event in step.events:
            self._confirm(event, before)
        self._events += step.events
        self._sends += step.sends
        self._notes += step.notes
        for channel, (ledger, virtual) in before.items():
            was = self._phases.get(channel)
            if was is None:
                was = ledger.phase if ledger is not None else phase(virtual) if virtual is not None else ""
            self._changed(channel, was)

    def _changed(self, channel: ChannelId, was: str) -> None:
        """A record has changed, and was in that phase before; an empty one for a new record."""
        self._touched[channel] = None
        self.mark((channel,))
        self._retries.begin(channel, self.context.now_ms)
        virtual = self.state.virtuals.get(channel)
        if virtual is not None:
            self.index.put_virtual(virtual)
        else:
            self.index.put_ledger(self.state.ledgers[channel])
        now = self._phases[channel] = phase(virtual) if virtual is not None else self.state.ledgers[channel].phase
        if now == was:
            return
        if virtual is None:
            self.mark(self.index.users[channel])
            self._touched.update(self.index.users[channel])
        if now == "proposed":
            self._proposed[channel] = None
        if not any(note.channel == channel and note.kind == now for note in self._notes):
            self._notes.append(Note(channel, now, virtual.reason if virtual is not None else ""))

    def _confirm(
        self, event: BooksEvent, before: dict[ChannelId, tuple[LedgerRecord | None, VirtualRecord | None]]
    ) -> None:
        """Crank the virtual channels of which a guarantee was proposed here, or has come or gone by both signatures."""
        if isinstance(event, Countersigned | ProposalSigned):
            targets: list[bytes] = [getattr(event.proposal, "target", b"")]
        elif isinstance(event, FollowerSigned):
            ledger = before[ChannelId(event.channel)][0]
            queue = ledger.ledger.queue if ledger is not None and ledger.ledger is not None else ()
            confirmed = (queued.proposal for queued in queue if queued.after.turn <= event.turn)
            targets = [getattr(proposal, "target", b"") for proposal in confirmed]
        else:
            return
        self.mark(ChannelId(target) for target in targets if target in self.state.virtuals)

    def _phase(self, channel: ChannelId) -> str:
        ledger = self.state.ledgers.get(channel)
        return ledger.phase if ledger is not None else phase(self.state.virtuals[channel])

    # Saying again

    def _say_again(self, channel: ChannelId) -> None:
        """What the others have not answered; a record that waits for nobody is left in peace until it changes."""
        ledger = self.state.ledgers.get(channel)
        if ledger is not None:
            waits = ledger_resending.waits_for_peer(ledger, self.ledgers_with(ledger.peer))
            found = self._pending(channel, ledger.peer) if waits else self._asks(ledger)
        else:
            found = [send for peer in self.state.virtuals[channel].peers for send in self._pending(channel, peer)]
        self._sends += found
        if not found:
            self._retries.end(channel)

    def _pending(self, channel: ChannelId, peer: Address) -> list[Send]:
        """All that this one may lack of a record."""
        ledger = self.state.ledgers.get(channel)
        if ledger is not None:
            said = [Send(peer, message) for message in ledger_resending.pending(ledger)]
            return said + self._asks(ledger)
        return [Send(peer, message) for message in virtual_pending.pending(self.state.virtuals[channel], peer)]

    def _asks(self, ledger: LedgerRecord) -> list[Send]:
        """For the channels that this node has lost: nobody else may ever speak of one that runs."""
        return [Send(ledger.peer, Unknown(channel)) for channel in self.state.lost(ledger)]


def _put_back(records: dict[ChannelId, T], channel: ChannelId, record: T | None) -> None:
    if record is None:
        records.pop(channel, None)
    else:
        records[channel] = record
