"""Bugs planted on purpose, at least one per safety rule: `test_planted_bugs.py` demands that lives find each.

A simulation that passes with any of these in place would prove nothing. Each is a patch of the product, undone by
pytest's monkeypatch; the pattern beside it is what the checkers must say, so that no accident of the planting counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from scapp.channels import admission_base
from scapp.channels.channel import (
    chain_rules,
    chain_view,
    checking,
    decided,
    engine,
    messages,
    model,
    opening,
    ordering,
    recovery,
    settling,
    signatures,
    signing_rules,
)
from scapp.channels.channel.events import ChainSeen, StateSigned, StateSupported
from scapp.channels.channel.messages import Status
from scapp.channels.channel.session import Step
from scapp.channels.channel.setup import Setup
from scapp.channels.channel_snapshots import Loaded, StateCodec
from scapp.channels.deliveries import Deliveries
from scapp.channels.driver import ChannelDriver, Do, Store
from scapp.channels.log import framing, rocks
from scapp.channels.signing import Verifier
from tests.support import sim
from tests.support.sim import SimNode

Plant = Callable[[pytest.MonkeyPatch], None]


def send_before_store(patch: pytest.MonkeyPatch) -> None:
    """The orders of a step are carried out before its facts are stored."""
    original = ChannelDriver.run

    def run(self: ChannelDriver, step: Step | None, now_ms: int) -> Iterator[Any]:
        waiting: Store | None = None
        inner = original(self, step, now_ms)
        answer: object = None
        while True:
            try:
                request = inner.send(answer)
            except StopIteration:
                if waiting is not None:
                    yield waiting
                return
            answer = None
            if isinstance(request, Store):
                if waiting is not None:
                    yield waiting
                waiting = request
            elif isinstance(request, Do) or waiting is None:
                answer = yield request
            else:
                yield waiting
                waiting = None
                answer = yield request

    patch.setattr(ChannelDriver, "run", run)


def signatures_without_sync(patch: pytest.MonkeyPatch) -> None:
    """A signed state is written, but not synced before it leaves."""
    original = SimNode._store

    def store(self: SimNode, driver: ChannelDriver, request: Store) -> None:
        original(self, driver, msgspec.structs.replace(request, durable=False))

    patch.setattr(SimNode, "_store", store)


def append_on_partial_signatures(patch: pytest.MonkeyPatch) -> None:
    """One missing signature is overlooked."""
    original = signatures.receive_countersign

    def receive(state: Any, session: Any, index: int, message: Any) -> Step:
        step = original(state, session, index, message)
        candidate = state.candidate(message.turn)
        if candidate is None or not step.events or isinstance(step.events[0], StateSupported):
            return step
        partial = (*candidate.signatures[:index], message.signature, *candidate.signatures[index + 1 :])
        filled = tuple(s or message.signature for s in partial)
        return signatures.support(state, session, candidate, filled)

    patch.setattr(signatures, "receive_countersign", receive)


def a_turn_is_used_again(patch: pytest.MonkeyPatch) -> None:
    """The sequencer replaces a proposal without a new turn, and neither its rules nor its fold object."""
    original = ordering.sign_state

    def sign(state: Any, session: Any, signer: Any, new: Any, state_hash: Any = None) -> Any:
        turn = state.candidates[-1].turn if state.candidates else new.turn
        return original(state, session, signer, msgspec.structs.replace(new, turn=turn), state_hash)

    patch.setattr(ordering, "sign_state", sign)
    patch.setattr(signing_rules, "check_may_sign", lambda state, new: None)
    keep = lambda state, event: msgspec.structs.replace(state, candidates=(*state.candidates, event.state))  # noqa: E731
    patch.setitem(model._FOLDS, StateSigned, keep)


def fork_appends_below_what_is_signed(patch: pytest.MonkeyPatch) -> None:
    """A completed proposal is appended although a higher one is signed."""

    original = model._FOLDS[StateSupported]

    def supported(state: Any, event: StateSupported) -> Any:
        below = tuple(c for c in state.candidates if c.turn <= event.turn)
        return original(msgspec.structs.replace(state, candidates=below), event)

    patch.setitem(model._FOLDS, StateSupported, supported)


def refusal_before_the_decision(patch: pytest.MonkeyPatch) -> None:
    """A submission of a signed proposal is told as refused as soon as it is replaced."""

    def left_out(state: Any, refused: Any) -> Any:
        return (decided.SubmissionsRefused(tuple(refused)),) if refused else ()

    for module in (ordering, checking, engine):
        patch.setattr(module, "left_out", left_out)


def log_root_skips_an_entry(patch: pytest.MonkeyPatch) -> None:
    """Only the first entry of a batch goes into the log root."""
    original = checking.extend_log_root
    for module in (ordering, checking, signatures):
        patch.setattr(module, "extend_log_root", lambda root, entries: original(root, tuple(entries)[:1]))


def counters_are_reused(patch: pytest.MonkeyPatch) -> None:
    """The sequencer forgets what is decided, so a repeated submission is ordered again; nobody checks counters."""
    original = ordering.receive_submit

    def receive(state: Any, session: Any, author: int, message: Any, now_ms: int) -> Step:
        session.queued[author] = message.first_counter - 1
        forgetful = msgspec.structs.replace(state, decided=(0,) * state.setup.count)
        return original(forgetful, session, author, message, now_ms)

    patch.setattr(ordering, "receive_submit", receive)
    patch.setattr(checking, "check_entries", lambda *_: None)


def outcome_is_not_kept(patch: pytest.MonkeyPatch) -> None:
    """A node forgets to bring its admission base to the supported state."""
    patch.setattr(SimNode, "_do", _without_commit(SimNode._do))


def _without_commit(original: Callable[..., None]) -> Callable[..., None]:
    def do(self: SimNode, driver: ChannelDriver, effect: Any) -> None:
        if type(effect).__name__ != "CommitBatch" or self.net.random.random() < 0.8:
            original(self, driver, effect)

    return do


def outbox_forgets(patch: pytest.MonkeyPatch) -> None:
    """A row of the outbox is done as soon as its message has been handed over."""
    original = Deliveries.begin

    def begin(self: Deliveries, channel: bytes, send: Any, count: int) -> bytes:
        key = original(self, channel, send, count)
        return original(self, channel, send, 0) if count else key

    patch.setattr(Deliveries, "begin", begin)


def snapshot_is_believed(patch: pytest.MonkeyPatch) -> None:
    """The base is saved together with a batch that nobody has signed yet, and nothing is compared when it is loaded."""
    patch.setattr(admission_base, "_compare", lambda base, signed: None)
    original = admission_base.AdmissionBase._replay

    def replay(self: Any, sequence: int, saved: Any = None, version: int = 0) -> None:
        if saved is not None:
            saved = msgspec.structs.replace(saved, data=_older(saved.data))
        original(self, sequence, saved, version)

    patch.setattr(admission_base.AdmissionBase, "_replay", replay)


def _older(data: bytes) -> bytes:
    root, amounts = msgspec.msgpack.decode(data)[:2]
    return msgspec.msgpack.encode((bytes([root[0] ^ 1]) + root[1:], amounts))


def damage_is_not_noticed(patch: pytest.MonkeyPatch) -> None:
    """Pages are read without their checksum and their chain."""

    def unframe(key: bytes, value: bytes) -> framing.StoredPage:
        _, previous = framing._PREFIX.unpack_from(value)[1:]
        _, chain = framing._SUFFIX.unpack_from(value, len(value) - framing._SUFFIX.size)
        events = framing._decode_events(value[framing._PREFIX.size : -framing._SUFFIX.size])
        return framing.StoredPage(framing.key_version(key), events, previous, chain)

    patch.setattr(framing, "unframe_page", unframe)
    patch.setattr(rocks, "_check_follows", lambda *_: None)


def signs_any_turn(patch: pytest.MonkeyPatch) -> None:
    """A countersigner signs below what it has signed, and its fold does not object."""
    for module in (checking, signing_rules):
        patch.setattr(module, "check_may_sign", lambda state, new: None)
    patch.setattr(model, "_refuse_turn", lambda state, new: None)


def final_is_not_final(patch: pytest.MonkeyPatch) -> None:
    """After a final state anything may be signed."""
    patch.setattr(model.ChannelState, "final_signed", property(lambda self: False))


def believes_any_root(patch: pytest.MonkeyPatch) -> None:
    """A countersigner's own run is not compared with what is proposed."""
    patch.setattr(checking, "compare", lambda state, proposed, result: None)


def believes_any_log_root(patch: pytest.MonkeyPatch) -> None:
    """Nobody checks that the log root follows from the entries, nor that the same content is proposed twice."""
    original = checking._find_fault

    def find(state: Any, proposed: Any, *rest: Any) -> Any:
        fault = original(state, proposed, *rest)
        return None if fault is not None and fault.code == "log" else fault

    patch.setattr(checking, "_find_fault", find)


def skips_own_entries(patch: pytest.MonkeyPatch) -> None:
    """A participant countersigns words that it never said."""
    original = checking.check_entries

    def check(state: Any, proposed: Any, refused: Any, last: list[int]) -> Any:
        fault = original(state, proposed, refused, last)
        return None if fault is not None and "what we submitted" in fault.reason else fault

    patch.setattr(checking, "check_entries", check)


def believes_any_signature(patch: pytest.MonkeyPatch) -> None:
    """Signatures of others are taken as they come."""
    for check in ("matches", "signed"):
        patch.setattr(Verifier, check, lambda self, state_hash, signature: True)


def full_sets_leave_as_stored(patch: pytest.MonkeyPatch) -> None:
    """A full set goes out with whatever v its signers chose."""
    patch.setattr(Setup, "completed", lambda self, state_hash, signatures: signatures)


def batch_before_postfund(patch: pytest.MonkeyPatch) -> None:
    """The sequencer orders as soon as the prefund state is supported, and the others go along."""
    original = ordering.next_batch

    def next_batch(state: Any, session: Any, now_ms: int) -> Any:
        return original(msgspec.structs.replace(state, turn=1) if state.turn == 0 else state, session, now_ms)

    def propose(state: Any, session: Any, signer: Any) -> Any:
        return next_batch(state, session, state.time_ms) if session.queue else postfund(state, session, signer)

    postfund = ordering.propose_postfund
    patch.setattr(ordering, "next_batch", next_batch)
    patch.setattr(ordering, "propose_postfund", propose)
    patch.setattr(checking, "is_ahead", lambda state, message: message.first_sequence > state.sequence)


def a_second_life(patch: pytest.MonkeyPatch) -> None:
    """A channel that was rejected is opened after all when it is proposed once more."""
    original = engine.Engine._proposal_again

    def again(self: engine.Engine, index: int, message: Any) -> Step:
        if self.state.rejected is not None and self.state.head is None and not self.state.candidates:
            self.state = msgspec.structs.replace(self.state, rejected=None)
            return self.accept()
        return original(self, index, message)

    patch.setattr(engine.Engine, "_proposal_again", again)


def malformed_bytes_pass(patch: pytest.MonkeyPatch) -> None:
    """What cannot be decoded raises what nobody expects."""
    patch.setattr(messages, "MalformedMessage", ValueError)


def acknowledged_too_early(patch: pytest.MonkeyPatch) -> None:
    """An author is told that its message counts when it has signed it, before everybody has."""
    original = SimNode._answer

    def answer(self: SimNode, driver: ChannelDriver, request: Any) -> object:
        found = original(self, driver, request)
        if isinstance(request, Do):
            for candidate in driver.engine.state.candidates:
                self._acknowledge(driver, candidate.entries)
        return found

    patch.setattr(SimNode, "_answer", answer)


def restored_as_if_nothing_happened(patch: pytest.MonkeyPatch) -> None:
    """A log that came from a backup is taken for the newest."""
    patch.setattr(sim, "mark_restored", lambda log, token, at_ms, backup_ms: {})


def recovery_hears_nobody(patch: pytest.MonkeyPatch) -> None:
    """A restored node goes on at once, above what it knows itself."""
    patch.setattr(recovery, "unheard", lambda state, session: [])
    original = recovery.conclude

    def conclude(state: Any, session: Any) -> Any:
        for index in state.setup.others:
            stale = Status(state.setup.channel_id, state.turn, state.signed_turn, state.sequence, bytes(32))
            session.heard.setdefault(index, stale)
        return original(state, session)

    patch.setattr(recovery, "conclude", conclude)


def state_snapshot_forgets(patch: pytest.MonkeyPatch) -> None:
    """A snapshot of a channel's state leaves out what is signed and not supported."""
    decode = StateCodec.decode

    def forgetful(self: StateCodec, data: bytes) -> Loaded:
        loaded = decode(self, data)
        if loaded.state is not None and loaded.state.head is not None:
            loaded.state = msgspec.structs.replace(loaded.state, candidates=())
        return loaded

    patch.setattr(StateCodec, "decode", forgetful)


def unconfirmed_deposits_count(patch: pytest.MonkeyPatch) -> None:
    """A deposit counts as soon as it is in a block, which a reorganisation may take back."""

    def is_funded(state: Any, seen: Any) -> bool:
        return chain_rules.holds(seen.latest.holdings, state.setup.shares.totals)

    patch.setattr(chain_rules, "is_funded", is_funded)


def deposit_taken_back_counts(patch: pytest.MonkeyPatch) -> None:
    """What was seen once is held for ever: a view that takes it back is passed over."""
    original = chain_view.on_chain

    def on_chain(state: Any, session: Any, view: Any, head_time_s: int) -> Step:
        known = state.chain
        if known is not None and sum(view.latest.holdings) < sum(chain_rules.amounts(known.latest.holdings)):
            return Step()
        return original(state, session, view, head_time_s)

    patch.setattr(chain_view, "on_chain", on_chain)


def stale_challenges_stand(patch: pytest.MonkeyPatch) -> None:
    """Nobody answers a challenge with an older state before its deadline."""
    patch.setattr(settling, "_answer", lambda state, seen, full: ())


def plays_on_under_a_challenge(patch: pytest.MonkeyPatch) -> None:
    """A challenge keeps nobody from ordering and countersigning."""
    patch.setattr(ChainSeen, "disputed", property(lambda self: False))


def _without_hindrance(*stages: str) -> Plant:
    """As if the ledgers had said "complete" wherever they say one of these."""
    original = chain_rules._backing_hindrance

    def hindrance(state: Any, backed: Any, *, is_final: bool) -> Any:
        if backed.stage in stages:
            backed = msgspec.structs.replace(backed, stage="complete")
        return original(state, backed, is_final=is_final)

    return lambda patch: patch.setattr(chain_rules, "_backing_hindrance", hindrance)


def gives_up_at_any_time(patch: pytest.MonkeyPatch) -> None:
    """A peer's word is enough to give a virtual channel up, whatever is signed in it."""
    patch.setattr(opening, "may_give_up", lambda state: True)


BUGS: dict[str, tuple[Plant, str]] = {
    "rule 1: send before store": (send_before_store, "^1: turn . left node . unrecorded"),
    "rule 1: no sync": (signatures_without_sync, "^1: turn . left node . unrecorded"),
    "rule 1: outbox": (outbox_forgets, "^1: a row of the outbox"),
    "rule 1: acknowledged too early": (acknowledged_too_early, "^1: .*acknowledged"),
    "rule 1: damage is not noticed": (damage_is_not_noticed, "^1: .* lost or altered what was durable"),
    "rule 2: a turn is used again": (a_turn_is_used_again, "^2: "),
    "rule 2: signs any turn": (signs_any_turn, "^2: "),
    "rule 3: base is stale": (outcome_is_not_kept, "refuses turn|differ after healing|6: "),
    "rule 3: any state root": (believes_any_root, "derives another root|does not derive"),
    "rule 3: own entries": (skips_own_entries, "^3: .* is not what this participant said"),
    "rule 4: a fork is appended": (fork_appends_below_what_is_signed, "^2: .* signed turn .* twice|^4: appended below"),
    "rule 4: refused before decided": (refusal_before_the_decision, "was refused and is in the log"),
    "rule 5: final is not final": (final_is_not_final, "^5: "),
    "rule 6: partial signatures": (append_on_partial_signatures, "^7: turn . is not signed by everybody"),
    "rule 6: log root": (log_root_skips_an_entry, "^6: the signed log root is another one"),
    "rule 6: any log root": (believes_any_log_root, "^6: the signed log root is another one"),
    "rule 6: counters reused": (counters_are_reused, "is in the log twice"),
    "rule 6: snapshot": (snapshot_is_believed, "refuses turn|differ after healing|halted|6: "),
    "rule 7: any signature": (believes_any_signature, "^7: turn .* is not signed by everybody|^1: |^7: "),
    "rule 7: any v": (full_sets_leave_as_stored, "^7: turn .* left in a form that the contracts refuse"),
    "rule 8: a batch before the postfund": (batch_before_postfund, "^8: "),
    "rule 9: a second life": (a_second_life, "^9: "),
    "rule 8: unconfirmed deposits count": (unconfirmed_deposits_count, "^8: .* before every deposit was confirmed"),
    "rule 8: plays on under a challenge": (plays_on_under_a_challenge, "^8: .* under a challenge"),
    "rule 8: a reorganisation is passed over": (deposit_taken_back_counts, "^7: |^8: "),
    "rule 8: no guarantee": (_without_hindrance("none"), "^8: turn 1 signed without a guarantee"),
    "rule 8: no hub": (_without_hindrance("guaranteed"), "^8: .* while the channel is guaranteed"),
    "rule 8: plays on in a dispute": (_without_hindrance("disputed"), "^8: .* while the channel is disputed"),
    "rule 8: given up too late": (gives_up_at_any_time, "^8: (given up|rejected) after"),
    "rule 7: deadline": (stale_challenges_stand, "^7: .* has gained"),
    "rule 10: no restore is noted": (restored_as_if_nothing_happened, "^2: "),
    "rule 10: nobody is heard": (recovery_hears_nobody, "^2: "),
    "rule 2: a state snapshot forgets": (state_snapshot_forgets, "^2: |CorruptionError|signed|follows"),
    "rule 11: malformed bytes": (malformed_bytes_pass, "cannot be read"),
}
