"""Bugs planted on purpose, one per safety rule: the checkers must find each within a bounded number of lives.

A simulation that passes with any of these in place would prove nothing. Bugs that only a liar can exploit are planted
in front of Mallory instead, where the sentence they break is asked for directly.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from scapp.channels.channel import checking, decided, engine, model, ordering, signatures, signing_rules
from scapp.channels.channel.events import Refused, StateSigned, StateSupported
from scapp.channels.channel.messages import Status, Supported
from scapp.channels.channel.session import Step
from scapp.channels.driver import ChannelDriver, Do, Store
from scapp.channels.entries import Kind
from scapp.channels.signing import InvalidSignature
from tests.simulation.life import play
from tests.support.checkers import Broken, Watch, check_log, with_other_v
from tests.support.mallory import Mallory
from tests.support.sim import Sim, SimNode

LIVES_MAX = 150
Plant = Callable[[pytest.MonkeyPatch], None]


def found_by_lives() -> str:
    """Play until a life fails; the failure's text, or an empty string."""
    for seed in range(LIVES_MAX):
        try:
            play(seed)
        except AssertionError as error:
            return str(error) or "assertion"
        except Exception as error:
            return repr(error)
    return ""


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


HONEST_BUGS: dict[str, tuple[Plant, str]] = {
    "rule 1: send before store": (send_before_store, "1: turn 0 left node 0 unrecorded"),
    "rule 1: no sync": (signatures_without_sync, "1: turn 0 left node 0 unrecorded"),
    "rule 2: a turn is used again": (a_turn_is_used_again, "signed turn . twice|2: "),
    "rule 4: a fork is appended": (fork_appends_below_what_is_signed, "signed turn 3 twice|4: appended below"),
    "rule 4: refused before decided": (refusal_before_the_decision, "was refused and is in the log"),
    "rule 6: partial signatures": (append_on_partial_signatures, "7: turn 0 is not signed by everybody"),
    "rule 6: log root": (log_root_skips_an_entry, "6: the signed log root is another one"),
    "rule 6: counters reused": (counters_are_reused, "is in the log twice"),
    "rule 3: base is stale": (outcome_is_not_kept, "refuses turn"),
}


@pytest.mark.parametrize("name", HONEST_BUGS)
def test_the_simulation_finds_a_planted_bug(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the rule it breaks, and not by an accident of the planting."""
    plant, text = HONEST_BUGS[name]
    plant(monkeypatch)
    assert re.search(text, found_by_lives())


# Bugs that nobody honest meets


def table() -> tuple[Sim, Mallory, SimNode, bytes]:
    sim = Sim(2)
    channel = sim.nodes[0].open(sim.nodes[1:], slots=(10, 5))
    sim.run()
    sim.nodes[1].submit(channel, b"bob 1")
    sim.run()
    mallory = Mallory(sim, sim.nodes[0], channel)
    Watch(sim, {1})
    return sim, mallory, sim.nodes[1], channel


def signs_anything(patch: pytest.MonkeyPatch) -> None:
    for module in (checking, signing_rules):
        patch.setattr(module, "check_may_sign", lambda state, new: None)


def believes_any_root(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(checking, "compare", lambda state, proposed, result: None)


def believes_any_log_root(patch: pytest.MonkeyPatch) -> None:
    original = checking._find_fault

    def find(state: Any, proposed: Any, *rest: Any) -> Any:
        fault = original(state, proposed, *rest)
        return None if fault is not None and fault.code == "log" else fault

    patch.setattr(checking, "_find_fault", find)


def skips_own_entries(patch: pytest.MonkeyPatch) -> None:
    original = checking.check_entries

    def check(state: Any, proposed: Any, refused: tuple[Refused, ...], last: list[int]) -> Any:
        fault = original(state, proposed, refused, last)
        return None if fault is not None and "what we submitted" in fault.reason else fault

    patch.setattr(checking, "check_entries", check)


def believes_any_signature(patch: pytest.MonkeyPatch) -> None:
    from scapp.channels.channel.setup import Setup

    for check in ("verify", "signed"):
        patch.setattr(Setup, check, lambda self, index, state_hash, signature: True)


def full_sets_leave_as_stored(patch: pytest.MonkeyPatch) -> None:
    from scapp.channels.channel.setup import Setup

    patch.setattr(Setup, "completed", lambda self, state_hash, signatures: signatures)


def final_twice(m: Mallory, bob: SimNode) -> None:
    """Rule 5: a final state, then a running one, both signed by Bob because a third never signs."""
    sim = Sim(3)
    channel = sim.nodes[0].open(sim.nodes[1:], slots=(10, 5))
    sim.run()
    mallory, victim = Mallory(sim, sim.nodes[0], channel), sim.nodes[1]
    mallory.propose(victim, [mallory.entry(b"", kind=Kind.CLOSE, counter=1)])
    mallory.propose(victim, [mallory.entry(counter=1)])
    check_log(victim.log, channel)


def wrong_root(m: Mallory, bob: SimNode) -> None:
    before = bob.engine(m.channel).state.turn
    m.propose(bob, [m.entry()], state_root=b"\x66" * 32)
    _unmoved(bob, m.channel, before)


def wrong_log_root(m: Mallory, bob: SimNode) -> None:
    m.propose(bob, [m.entry()], log_root=b"\x66" * 32)
    check_log(bob.log, m.channel)


def bobs_words(m: Mallory, bob: SimNode) -> None:
    m.propose(bob, [m.entry(b"I resign", author=1)])
    check_log(bob.log, m.channel)


def nobodys_signature(m: Mallory, bob: SimNode) -> None:
    state = m.state(bob, [m.entry()])
    m.say(bob, m.proposal(state, signature=b"\x01" * 65))
    check_log(bob.log, m.channel)


def wrong_v(m: Mallory, bob: SimNode) -> None:
    """Mallory's own signature with the other v, and then she asks for the full set with it."""
    state = m.state(bob, [m.entry()])
    m.say(bob, m.proposal(state, signature=with_other_v(m.sign(state))))
    m.say(bob, Status(m.channel, 1, 1, 1, bytes(32), True))
    assert m.heard_of(Supported)[-1].turn == state.turn


def _unmoved(bob: SimNode, channel: bytes, turn: int) -> None:
    if bob.engine(channel).state.signed_turn != turn:
        raise Broken("3: a wrong root was signed")


LIARS_BUGS: dict[str, tuple[Plant, Callable[[Mallory, SimNode], None]]] = {
    "rule 2 and 5: signs anything": (signs_anything, final_twice),
    "rule 3: any state root": (believes_any_root, wrong_root),
    "rule 6: any log root": (believes_any_log_root, wrong_log_root),
    "rule 3: own entries": (skips_own_entries, bobs_words),
    "rule 7: any signature": (believes_any_signature, nobodys_signature),
    "rule 7: any v": (full_sets_leave_as_stored, wrong_v),
}


@pytest.mark.parametrize("name", LIARS_BUGS)
def test_a_check_finds_the_planted_bug_and_nothing_without_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same attack with and without the bug."""
    plant, attack = LIARS_BUGS[name]
    _sim, mallory, bob, _ = table()
    attack(mallory, bob)
    _sim, mallory, bob, _ = table()
    plant(monkeypatch)
    with pytest.raises((Broken, InvalidSignature)):
        attack(mallory, bob)
