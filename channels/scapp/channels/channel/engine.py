"""One channel's engine: inputs in, decisions out. The shell (`scapp.channels.node`, or a simulation) drives it so:

1. call one input method (`receive`, `submit`, `admitted`, …) and get a `Step`;
2. store `step.events` in the channel's stream together with the outbox rows of its stored sends, durably when
   `step.durable`;
3. `apply` each of `step.events`;
4. carry out `step.effects` in order, then ask admission `step.ask`, if anything; the answer is the next input;
5. call `follow_up` until it returns None.

A step that `joins` may be folded and carried out before it is stored, as long as its events stand in the next append
and that comes before anything else leaves the node.

One input at a time. An input method raises PeerError or LocalError when it changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from scapp.channels.admission import Admitted
from scapp.channels.backing import Backing
from scapp.channels.channel import (
    backed,
    catchup,
    chain_view,
    checking,
    leaving,
    opening,
    ordering,
    recovery,
    settling,
    signatures,
    standing,
    succession,
    top_ups,
    wishes,
)
from scapp.channels.channel.chain_rules import hindrance
from scapp.channels.channel.decided import left_out
from scapp.channels.channel.effects import PendingSend, RollbackBatch, Send, SendCountersign, SendNow, SendSubmit, Tell
from scapp.channels.channel.events import ChannelCreated, Event, Signed, StateSupported, Submitted
from scapp.channels.channel.messages import (
    Countersign,
    Decisions,
    Entries,
    EntriesWanted,
    Message,
    Proposal,
    Propose,
    Recall,
    Refuse,
    Rejected,
    ResizeAsked,
    Status,
    Submit,
    Supported,
)
from scapp.channels.channel.model import ChannelState, create, evolve
from scapp.channels.channel.session import (
    NOTHING,
    Adopting,
    Checking,
    Opening,
    Ordering,
    Rebasing,
    Session,
    Step,
    Successor,
)
from scapp.channels.channel.signing_rules import StateSigner
from scapp.channels.channel.terms import ChainTerms
from scapp.channels.entries import Kind
from scapp.channels.errors import LocalError, PeerError
from scapp.channels.onchain import ChainView, Transaction
from scapp.channels.reading import SignedState
from scapp.channels.types import Address

OWN_OUTSTANDING_MAX = 10_000
NOT_TAKING = frozenset(("proposed", "closing", "closed", "rejected", "halted", "settled", "recovering"))


class Engine:
    """`state` is the fold of the stream so far; the rest is volatile."""

    def __init__(self, state: ChannelState, signer: StateSigner, terms: ChainTerms | None = None) -> None:
        """`terms` matter to funded channels only."""
        self.state = state
        self.session = Session(state.setup.count, terms)
        self.signer = signer
        self.is_sequencer = state.setup.my_index == 0
        if self.is_sequencer:
            ordering.count_in_flight(state, self.session)

    @classmethod
    def created(cls, event: ChannelCreated, signer: StateSigner, terms: ChainTerms | None = None) -> Engine:
        """An engine for a new channel whose only event is `event`."""
        return cls(create(event), signer, terms)

    @property
    def phase(self) -> str:
        """As in `service.ChannelInfo`."""
        return "halted" if self.session.failure else self.state.phase

    def apply(self, event: Event) -> Signed | None:
        """Fold one stored event; returns the state that became the head by it, if one did."""
        before = self.state
        self.state = state = evolve(before, event)
        if state.head is before.head:
            return None
        self.session.settle(state.turn)
        return before.candidates[-1] if type(event) is StateSupported else event.state  # type: ignore[union-attr]

    # Inputs: the operator and the local user

    def opened(self) -> Step:
        """First input of a channel this node opens; its `created` event is stored already."""
        return opening.opened(self.state, self.session)

    def accept(self) -> Step:
        return opening.accept(self.state, self.session)

    def reject(self, reason: str) -> Step:
        return opening.reject(self.state, reason)

    def recover(self) -> Step:
        """The operator goes on without the others' answers after a restore. Raises LocalError."""
        return recovery.override(self.state, self.session)

    def submit(self, payloads: Sequence[bytes], kind: Kind) -> tuple[int, Step]:
        """Own submissions: the first counter they get, and the step. Raises LocalError when they can never be ordered.

        The sequencer's own, a wish to close included, go straight into its queue: its signed proposal is the record."""
        state, session = self.state, self.session
        phase = "halted" if session.failure else state.phase
        if phase in NOT_TAKING:
            raise LocalError(f"the channel is {phase}" + (f": {session.failure}" if session.failure else ""))
        if state.exit_reason and kind != Kind.CLOSE:
            raise LocalError(f"this node leaves the channel: {state.exit_reason}")
        fault = ordering.payloads_fault(kind, payloads, state.setup.limits.payload_bytes_max)
        if fault:
            raise LocalError(fault)
        waiting = len(session.queue) + len(state.outstanding)
        if waiting + len(payloads) > OWN_OUTSTANDING_MAX:
            raise LocalError(f"{waiting} submissions are waiting, at most {OWN_OUTSTANDING_MAX} may; try again later")
        first = self._next_counter()
        if not self.is_sequencer:
            event = Submitted(first, int(kind), tuple(payloads))
            return first, Step((event,), (SendSubmit(0, first),))
        ordering.enqueue_own(session, first, int(kind), payloads)
        return first, NOTHING

    def _next_counter(self) -> int:
        """The counter of the next own submission."""
        known = self.state.next_counter
        if not self.is_sequencer:
            return known
        # Queued ones are taken as well. What was adopted or recalled after a restore may hold counters of ours beyond.
        queued = self.session.queued[0]
        return queued + 1 if queued >= known else known

    # Inputs: other participants

    def receive(self, index: int, message: Message, now_ms: int) -> Step:
        """A message of participant `index` (proved by the transport). Raises PeerError when it changes nothing."""
        state, session = self.state, self.session
        # These two are every batch. To compare types is several times faster than `isinstance` of a msgspec struct.
        if type(message) is Propose:
            if index:
                self._only(index, 0, "propose")
            return checking.receive_propose(state, session, message, now_ms)
        if type(message) is Countersign:
            return signatures.receive_countersign(state, session, index, message)
        match message:
            case Submit():
                self._only(state.setup.my_index, 0, "be asked to order")
                return ordering.receive_submit(state, session, index, message, now_ms)
            case Decisions():
                self._only(index, 0, "decide")
                return self._decisions(message)
            case Refuse():
                self._only(state.setup.my_index, 0, "be refused")
                if state.recovering:
                    return NOTHING
                return ordering.receive_refuse(state, session, index, message, now_ms)
            case Status():
                return catchup.receive_status(state, session, index, message)
            case Supported():
                return signatures.receive_supported(state, session, index, message)
            case EntriesWanted():
                return catchup.receive_entries_wanted(state, index, message)
            case Entries():
                return signatures.receive_entries(state, session, index, message)
            case ResizeAsked():
                self._only(state.setup.my_index, 0, "be asked for a successor")
                return wishes.receive(state, session, index, message)
            case Recall():
                return recovery.receive_recall(state, session, index, message)
            case Rejected():
                return opening.receive_rejected(state, index, message.reason)
            case Proposal():
                return self._proposal_again(index, message)

    def _only(self, index: int, wanted: int, verb: str) -> None:
        if index != wanted:
            raise PeerError(f"participant {index} cannot {verb}: participant {wanted} does")

    def _proposal_again(self, index: int, message: Proposal) -> Step:
        self._only(index, 0, "propose a channel")
        if self.state.rejected is not None:
            return Step(effects=tuple(SendNow(0, m) for m in catchup.lacking(self.state, self.session, 0, -1)))
        if message.signature != self.state.prefund.signatures[0]:
            raise PeerError("a second proposal of this channel, unlike the first")
        if self.state.candidate(0) is not None:
            return Step(effects=(SendCountersign(0, 0),))
        return NOTHING

    def _decisions(self, message: Decisions) -> Step:
        mine = checking.own_refusals(self.state, message.refused)
        events = left_out(self.state, mine) if mine else ()
        return Step(events) if events else NOTHING

    def link_up(self, index: int) -> Step:
        """A participant is reachable (again): compare notes."""
        if self.state.phase == "proposed":
            return NOTHING
        state, session = self.state, self.session
        return Step(effects=(*catchup.greet(state, session, index), *wishes.again(state, session, index)))

    def tick(self, now_ms: int, head_time_s: int = 0) -> Step:
        """Time has passed, here and on the chain: `head_time_s` is its newest block's timestamp, 0 if unknown."""
        step = catchup.tick(self.state, self.session, now_ms)
        if not self.state.setup.funded:
            return step
        if self.state.backed is None:
            told = chain_view.tick(self.state, self.session, head_time_s)
            due = leaving.exit_due(self.state, self.session)
        else:  # the chain is not asked about it: by this node's own clock
            told = ()
            due = leaving.silence_due(self.state, self.session, now_ms // 1_000)
        started = self.leave(due) if due else NOTHING
        return Step(started.events, (*told, *step.effects, *started.effects))

    # Inputs: the ledgers behind a virtual channel

    def on_backing(self, backing: Backing) -> Step:
        """What the ledgers say of the channel. Raises LocalError for what cannot be."""
        return backed.on_backing(self.state, self.session, backing)

    def on_shown(self, candidate: SignedState) -> Step:
        """The chain shows a state of this virtual channel, from whomever."""
        return backed.shown(self.state, self.session, candidate)

    def offered(self) -> tuple[SignedState, ...]:
        """The states of a virtual channel that its ledgers should know: turns 0 and 1 and the final one, as soon as
        both app parties have signed."""
        return backed.offered(self.state)

    def enforceable_stack(self) -> tuple[SignedState, tuple[SignedState, ...]] | None:
        """A virtual channel's newest state that the chain takes, and its proof; None while there is none."""
        return backed.enforceable_stack(self.state)

    # Inputs: a channel's successor, and the channel that a successor renews

    def on_successor(self, successor: Successor | None) -> Step:
        """A channel that renews this one stands so now; None when it is given up."""
        self.session.successor = successor
        self.session.wishes.clear()  # it grants them, or its end makes them old
        return NOTHING

    def stand_still(self, *, resizing: bool) -> Step:
        """Order nothing more while a successor is being made."""
        self.session.resizing = resizing
        return NOTHING

    def on_renewed(self, over: str) -> Step:
        """The channel that this one renews: why it will never pass anything on, or an empty string."""
        return opening.given_up_by(self.state, over) if over else NOTHING

    # Inputs: the chain

    def on_chain(self, view: ChainView, head_time_s: int) -> Step:
        """The chain shows the channel so; `head_time_s` is the timestamp of its newest block."""
        return chain_view.on_chain(self.state, self.session, view, head_time_s)

    def top_up(self, asset: Address, amount: int) -> Step:
        """The operator deposits more of the asset when the app has everybody sign for it. Raises LocalError."""
        return top_ups.approve(self.state, asset, amount)

    def leave(self, reason: str) -> Step:
        """Leave by a challenge. Raises LocalError when there is nothing to leave."""
        step = leaving.leave(self.state, reason)
        return Step(step.events, (Tell("leaving", reason),)) if step.events else step

    def conclude_now(self) -> Step:
        """Take the final state to the chain without waiting for the participants before us. Raises LocalError."""
        return settling.conclude_now(self.state, self.session)

    def checkpoint_now(self) -> Step:
        """Have the newest supported state recorded on chain, though no challenge stands. Raises LocalError."""
        return settling.checkpoint_now(self.state, self.session)

    def wanted(self, head_time_s: int, now_ms: int) -> tuple[Transaction, ...]:
        """What this channel wants done on chain now: computed, never stored."""
        return settling.wanted(self.state, self.session, head_time_s, now_ms)

    # Inputs: admission

    def admitted(self, result: Admitted, now_ms: int) -> Step:
        """Admission's answer to the last `TryBatch`."""
        state, session = self.state, self.session
        work = session.work
        session.work = session.layer = None  # an earlier layer is gone; the decision says whose this one is
        if type(work) is Checking:  # these two are every batch
            return checking.checked(state, session, self.signer, work, result)
        if type(work) is Ordering:
            return ordering.ordered(state, session, self.signer, work, result, now_ms)
        match work:
            case Opening():
                return opening.accepted(state, session, self.signer, result)
            case Adopting():
                return signatures.adopted(state, session, work, result)
            case Rebasing():
                return signatures.rebased(state, session, work, result)
            case None:
                raise AssertionError("admission answered without being asked")

    def admission_failed(self, reason: str) -> Step:
        """Admission could not answer: this channel stands still here, nothing is signed."""
        work, self.session.work = self.session.work, None
        if isinstance(work, Opening):
            step = opening.reject(self.state, reason)
            return Step(step.events, (RollbackBatch(), *step.effects))
        self.session.failure = reason
        return Step(effects=(Tell("halted", reason),))

    # After every step

    def follow_up(self, now_ms: int) -> Step | None:
        """What can be done now without a new input; None when there is nothing."""
        state, session = self.state, self.session
        if state.recovery.token:
            return recovery.conclude(state, session) if state.phase == "recovering" else None
        funded = state.setup.funded
        if funded:
            step = chain_view.finalized_below(state, session) if state.candidates else None
            if step is not None:
                return step
            if state.backed is not None and state.backed.stage == "failed":
                return backed.follow_failure(state)
        if not self.is_sequencer:
            return self._held(session.held, now_ms) if session.held is not None else None
        candidates = state.candidates
        if len(candidates) == 1 and not funded:
            return None  # it is in flight, and nothing but the chain takes its place
        if session.work is not None or session.failure or state.rejected is not None:
            return None
        if funded and hindrance(state, session, is_final=False) is not None:
            return ordering.hindered_batch(state, session, now_ms)
        if candidates:  # one is in flight, and waited for; a fork takes two
            return ordering.propose_over_fork(state, session, self.signer) if len(candidates) > 1 else None
        if state.turn == 0:
            return ordering.propose_postfund(state, session, self.signer)
        if (session.resizing or session.successor is not None) and succession.stands_still(state, session):
            return self._stands_still(now_ms)
        return ordering.next_batch(state, session, now_ms) if session.queue else None

    def _stands_still(self, now_ms: int) -> Step | None:
        """A successor is under way: once it is ready, the final state that passes everything on to it. A close that
        somebody has asked for goes first, and is the end of both."""
        state, session = self.state, self.session
        if succession.tail(state, session) and not any(queued.kind == Kind.CLOSE for queued in session.queue):
            ordering.enqueue_own(session, self._next_counter(), int(Kind.CLOSE), (b"",))
        return ordering.final_batch(state, session, now_ms)

    def _held(self, held: Propose, now_ms: int) -> Step | None:
        session = self.session
        if session.work is not None or session.wanted is not None or session.failure or self.state.rejected is not None:
            return None
        if checking.is_ahead(self.state, held) or checking.must_wait(self.state, session, held):
            return None
        self.session.held = None
        try:
            return checking.receive_propose(self.state, self.session, held, now_ms)
        except PeerError:
            return None  # it was valid for a state that we do not share; the sequencer sends it again

    def pending(self) -> list[PendingSend]:
        """What the state says we still have to say; goes out again after a restart."""
        return [send for peer in self.state.setup.others for send in catchup.pending(self.state, peer)]

    def materialize(self, send: Send) -> list[bytes]:
        """What a send says now; empty when it no longer matters."""
        return catchup.materialize(self.state, self.session, send)

    @property
    def waiting_for(self) -> str:
        """In words, what this channel waits for; computed, never stored."""
        return standing.describe(self.state, self.session)
