"""Every kind of effect: lost between store and act, it comes again; done twice, it changes nothing (ADR 0007).

One script reaches all kinds. A new kind without an entry in `PROOFS` fails the last test; an entry that the script does
not reach fails its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from types import UnionType
from typing import Any, get_args

import pytest

from scapp.channels.channel import effects as kinds
from scapp.channels.channel.messages import Supported, decode_message
from scapp.channels.entries import Kind, decode_entry
from scapp.channels.errors import LocalError
from tests.support.checkers import Watch, check_log
from tests.support.sim import Crash, Sim, SimNode


@dataclass(frozen=True)
class Proof:
    """`is_it`: whether an order is one of this kind. `twice`: whether it can be done twice in a row; what cannot is
    done again only by a restart, on what the restart has rebuilt."""

    is_it: Callable[[Any], bool]
    twice: bool = True


def of(kind: type) -> Callable[[Any], bool]:
    return lambda effect: type(effect) is kind


PROOFS: dict[type, Proof] = {
    kinds.SendProposal: Proof(of(kinds.SendProposal)),
    kinds.SendRejected: Proof(of(kinds.SendRejected)),
    kinds.SendPropose: Proof(of(kinds.SendPropose)),
    kinds.SendCountersign: Proof(of(kinds.SendCountersign)),
    kinds.SendSubmit: Proof(of(kinds.SendSubmit)),
    kinds.SendDecisions: Proof(of(kinds.SendDecisions)),
    # Always an answer to a status, so it leaves as a message that is not kept.
    kinds.SendSupported: Proof(lambda e: type(e) is kinds.SendNow and isinstance(decode_message(e.message), Supported)),
    kinds.SendNow: Proof(of(kinds.SendNow)),
    kinds.LoadAdmission: Proof(of(kinds.LoadAdmission)),
    kinds.TryBatch: Proof(lambda e: isinstance(e, kinds.TryBatch)),  # its kinds say what for
    kinds.CommitBatch: Proof(of(kinds.CommitBatch), twice=False),
    kinds.RollbackBatch: Proof(of(kinds.RollbackBatch)),
    kinds.Fetch: Proof(of(kinds.Fetch)),
    kinds.Tell: Proof(of(kinds.Tell)),
}


class Hook:
    """Stands in front of one node's orders: `before` and `after` cut its power around the one number `at` of the kind,
    `twice` has each of them done twice."""

    def __init__(self, node: SimNode, proof: Proof, mode: str, at: int) -> None:
        self.proof, self.mode, self.left = proof, mode, at
        self.seen = 0
        self.blown = False
        self._do, self._answer = node._do, node._answer
        node._do = self._hooked_do  # type: ignore[method-assign]
        node._answer = self._hooked_answer  # type: ignore[method-assign]

    def _hooked_do(self, driver: Any, effect: Any) -> None:
        self._around(effect, lambda: self._do(driver, effect))

    def _hooked_answer(self, driver: Any, request: Any) -> object:
        if isinstance(request, kinds.TryBatch):
            return self._around(request, lambda: self._answer(driver, request))
        return self._answer(driver, request)

    def _around(self, effect: Any, act: Callable[[], object]) -> object:
        if not self.proof.is_it(effect):
            return act()
        self.seen += 1
        if self.mode == "twice":
            act()
            return act()
        self.left -= 1
        if self.left:
            return act()
        self.blown = True
        if self.mode == "after":
            act()
        raise Crash


def wake(sim: Sim) -> None:
    """Deliver; whoever is down starts again."""
    for _ in range(4):
        sim.run()
        for node in sim.nodes:
            if not node.up:
                node.start()
        sim.tick(31_000)
    sim.run()


def say(node: SimNode, channel: bytes, payload: bytes, said: Counter[tuple[int, bytes]]) -> None:
    """What a countersigner has said is durable; the sequencer's own waits in memory, and a crash may lose it."""
    if node.up:
        try:
            node.submit(channel, payload)
        except LocalError:
            return
        if node.index != 0 and not payload.startswith(b"bad"):
            said[node.index, payload] += 1


def script(victim: int, proof: Proof, mode: str, at: int) -> Hook:
    """A channel that is turned down, and one that opens, refuses, loses a disk and closes."""
    sim = Sim(3, seed=1)
    Watch(sim)
    alice, bob, carol = sim.nodes
    hook = Hook(sim.nodes[victim], proof, mode, at)
    said: Counter[tuple[int, bytes]] = Counter()
    bob.accept = False
    turned_down = alice.open([bob, carol])
    wake(sim)
    bob.input(turned_down, lambda engine, _: engine.reject("not this one"))
    wake(sim)
    bob.accept = True
    channel = alice.open([bob, carol], slots=(10, 5))
    wake(sim)
    for node in sim.nodes:
        for payload in (b"first", b"bad", b"move:0:1:1"):
            say(node, channel, payload, said)
            wake(sim)
    backup = carol.log.durable_copy()
    say(bob, channel, b"before the disk is lost", said)
    wake(sim)
    carol.restore(backup)
    wake(sim)
    for node in sim.nodes:
        say(node, channel, b"last", said)
    wake(sim)
    for _ in range(2):  # the sequencer's own wish may be lost
        if alice.engine(channel).phase == "running":
            alice.submit(channel, b"", kind=Kind.CLOSE)
        wake(sim)
    sim.settle(rounds=4)
    verify(sim, turned_down, channel, said)
    return hook


def verify(sim: Sim, turned_down: bytes, channel: bytes, said: Counter[tuple[int, bytes]]) -> None:
    """Whatever was lost or doubled on the way: everybody stands where they would stand without."""
    for node in sim.nodes:
        assert node.engine(turned_down).phase == "rejected", node.name
        assert node.engine(channel).phase == "closed", node.name
        assert node.engine(channel).state.outstanding == ()
        check_log(node.log, channel)
    logs = [node.supported(channel) for node in sim.nodes]
    assert logs[0] == logs[1] == logs[2]
    found = Counter((e.author, e.payload) for e in map(decode_entry, logs[0]) if e.kind == Kind.MESSAGE and e.author)
    assert found == said
    assert not any(payload.startswith(b"bad") for _, payload in found)


@pytest.mark.parametrize("mode", ["before", "after"])
@pytest.mark.parametrize("kind", PROOFS, ids=lambda kind: kind.__name__)
def test_an_effect_survives_a_crash_just_before_and_just_after_it(kind: type, mode: str) -> None:
    """The first, second and fifth of its kind, at whichever node; what was done is done again after a restart."""
    reached = 0
    for victim in range(3):
        for at in (1, 2, 5):
            reached += script(victim, PROOFS[kind], mode, at).blown
    assert reached, f"the script never comes to {kind.__name__}"


@pytest.mark.parametrize(
    "kind", [kind for kind, proof in PROOFS.items() if proof.twice], ids=lambda kind: kind.__name__
)
def test_an_effect_that_is_done_twice_changes_nothing_more(kind: type) -> None:
    """Each of its kind, at every node in turn."""
    assert sum(script(victim, PROOFS[kind], "twice", 0).seen for victim in range(3))


def test_no_kind_of_effect_is_without_its_proof() -> None:
    """A new kind brings its entry."""

    def flat(found: Any) -> set[type]:
        return set().union(*(flat(arm) for arm in get_args(found))) if isinstance(found, UnionType) else {found}

    assert flat(kinds.Effect) == set(PROOFS)
