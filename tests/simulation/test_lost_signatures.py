"""A payer's final state that reached nobody before its restore is in no hands, and it may sign another one (ADR 0015);
the judge of lives objects as soon as anybody holds the first one.

`kept/hubs` has the life in which nobody does, played by `test_seeds.py`. Here it is bent until somebody does.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from scapp.channels.books.messages import decode_message, encode_message, prefix_of
from scapp.channels.virtual.messages import Said
from tests.simulation.hubs.life import HubLife
from tests.simulation.hubs.net import HubNet
from tests.simulation.hubs.plan import HubPlan
from tests.simulation.plan import Act
from tests.simulation.run import KEPT_HUBS
from tests.support.checkers import Broken

BOB, CAROL = 1, 2
PLAN = KEPT_HUBS / "final-state-that-reached-nobody.json"


def life(*, bob_is_there: bool, bent: Callable[[HubNet], None] = lambda net: None) -> HubLife:
    """Carol opens a payment channel with Bob, pays, ends it, is restored from before that, and pays more."""
    plan = msgspec.json.decode(PLAN.read_bytes(), type=HubPlan)
    acts = [each for each in plan.acts if not (bob_is_there and each.kind == "crash soon")]
    acts += [Act("wait", BOB, 3, 0), Act("pay", CAROL, 4, 5)]
    played = HubLife(msgspec.structs.replace(plan, acts=tuple(acts)))
    played.begun = bent
    return played


def with_final(message: bytes) -> Said | None:
    """What is said, if a final state is part of it."""
    said = decode_message(message) if prefix_of(message) == b"v:" else None
    return said if isinstance(said, Said) and said.final is not None else None


def test_a_signature_that_reached_nobody_is_forgotten() -> None:
    played = life(bob_is_there=False)
    played.play()
    assert len(played.checks.lost) == 1


def test_one_that_a_neighbour_holds_is_not() -> None:
    """Bob has it and keeps it back when Carol asks."""

    def keeps_it_back(net: HubNet) -> None:
        net.nodes[BOB].tap = lambda _, message: (
            message
            if (said := with_final(message)) is None
            else encode_message(msgspec.structs.replace(said, final=None, end="")),
        )

    played = life(bob_is_there=True, bent=keeps_it_back)
    with pytest.raises(Broken, match=r"^2: carol signs two states of turn 2 of "):
        played.play()


def test_nor_one_that_a_neighbour_hears_of_later() -> None:
    """A message from before the restore overtakes what was said since, which no link does."""

    def comes_late(net: HubNet) -> None:
        bob, carol = net.nodes[BOB], net.nodes[CAROL]
        late: list[bytes] = []

        def tap(_: bytes, message: bytes) -> tuple[bytes, ...]:
            if with_final(message) is None:
                return (message,)
            if not carol.restores:
                late.append(message)
                return ()
            if late:
                net.spawn(bob.transport.handle(carol.address, late.pop()))
            return (message,)

        carol.tap = tap

    played = life(bob_is_there=False, bent=comes_late)
    with pytest.raises(Broken, match=r"^2: bob holds a state whose signer has signed another of turn 2"):
        played.play()
