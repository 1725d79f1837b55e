"""Every kind of message about ledgers, virtual channels, payments and routes, and every kind of transaction: its sender
dies just before it leaves or just behind it, after its facts were stored; or it leaves twice (ADR 0007).

Nothing of this has an outbox: what is to be said or done follows from what is stored. So a simulated life in which it
is said plays on with that fault, and must end as all lives do: everybody agrees and has what it is owed. Kinds are read
from the code: a new one that no life says fails, and so does a family of them that is not listed here. App channels
have `test_every_effect.py`.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections import Counter
from collections.abc import Callable, Sequence
from typing import get_args

import msgspec
import pytest

import scapp.channels
from scapp.channels.books.messages import BooksMessage, decode_message, prefix_of
from scapp.channels.channel.messages import MalformedMessage
from scapp.channels.ledger.messages import Updates
from scapp.channels.onchain import Transaction, Transfer
from scapp.channels.payments.locked.messages import LockMessage, decode_lock_message
from scapp.channels.payments.messages import PaymentMessage, decode_payment_message
from scapp.channels.routing.messages import Message as RouteMessage
from scapp.channels.routing.messages import decode_message as decode_route_message
from scapp.channels.types import Address
from tests.simulation.hubs.life import HubLife
from tests.simulation.hubs.net import HubNet, HubNode
from tests.simulation.hubs.plan import HubPlan, draw_hub_plan
from tests.simulation.plan import Act

WORDS: tuple[type, ...] = tuple(
    kind for family in (BooksMessage, PaymentMessage, LockMessage, RouteMessage) for kind in get_args(family)
)
ELSEWHERE = {Transfer}
"""A payout of a part while a guarantee waits for its channel: `tests/unit/test_ledger_settling.py`; lives seldom are
so unlucky."""
DEEDS: tuple[type, ...] = tuple(kind for kind in get_args(Transaction) if kind not in ELSEWHERE)
SEEDS = range(240)
BOTH = Act("transfer", 0, 600, 5, "")
"""More than half of what the follower has in its ledger."""
BETWEEN_THEM = HubPlan(
    seed=1,
    count=2,
    drops=0,
    duplicate=0,
    delay_ms=300,
    hostile=-1,
    restored=(),
    bad_disks=False,
    skew_ms=0,
    calm=True,
    leads=(False,),
    acts=(BOTH, BOTH),
)
"""A follower asks for two payments before it hears of the first, and cannot have both. What a follower can tell by
itself it does not ask for, so that drawn lives hardly come to a leader that declines."""
FIRST: dict[str, int | HubPlan] = {
    "k:answer": 1,
    "k:ask": 1,
    "k:failed": 25,
    "k:held": 25,
    "k:locked": 1,
    "k:refused": 7,
    "k:secret": 1,
    "k:seen": 1,
    "k:want": 25,
    "l:agree": 9,
    "l:ask": 41,
    "l:close": 9,
    "l:decline": BETWEEN_THEM,
    "l:final": 9,
    "l:open": 9,
    "l:reject": 64,
    "l:restored": 20,
    "l:stage": 9,
    "l:standing": 20,
    "l:update": 9,
    "p:held": 39,
    "p:refused": 4,
    "p:seen": 9,
    "p:vouchers": 9,
    "p:want": 39,
    "r:k": 9,
    "r:s": 9,
    "v:open": 9,
    "v:refuse": 20,
    "v:say": 9,
    "v:unknown": 14,
    "Challenge": 52,
    "Checkpoint": 36,
    "Conclude": 9,
    "Deposit": 9,
    "Reclaim": 181,
    "Reveal": 7,
    "TransferAll": 17,
}
"""A seed whose life comes to it, so that nothing has to be searched; or a plan made for it."""
DECODERS: dict[bytes, Callable[[bytes], object]] = {
    b"l:": decode_message,
    b"v:": decode_message,
    b"p:": decode_payment_message,
    b"k:": decode_lock_message,
    b"r:": decode_route_message,
}


def name_of(kind: type) -> str:
    """A message's tag, which no other kind has; a transaction's class."""
    tag = kind.__struct_config__.tag if issubclass(kind, msgspec.Struct) else None
    return tag if isinstance(tag, str) and ":" in tag else kind.__name__


class Fault:
    """Strikes honest nodes at the `at`-th time that one says or does something of the kind."""

    def __init__(self, kind: type | None, mode: str, at: int = 1) -> None:
        self.kind, self.mode, self.left = kind, mode, at
        self.struck = False
        self.reached: Counter[str] = Counter()

    def watch(self, net: HubNet, hostile: int) -> None:
        for node in net.nodes:
            if node.index != hostile:
                node.tap = lambda peer, message, node=node: self._say(node, peer, message)  # type: ignore[misc]
                node.act = lambda wanted, node=node: self._times(node, type(wanted))  # type: ignore[misc]

    def _say(self, node: HubNode, peer: Address, message: bytes) -> Sequence[bytes]:
        decode = DECODERS.get(prefix_of(message))
        try:
            return (message,) * (self._times(node, type(decode(message))) if decode is not None else 1)
        except MalformedMessage:
            return (message,)

    def _times(self, node: HubNode, kind: type) -> int:
        self.reached[name_of(kind)] += 1
        if kind is not self.kind:
            return 1
        if self.mode == "twice":
            self.struck = True
            return 2
        self.left -= 1
        if self.left:
            return 1
        self.struck = True
        if self.mode == "before":
            node.crash()
            return 0
        node.net.loop.call_later(0.01, node.crash)
        return 1


def play(life_of: int | HubPlan, fault: Fault) -> bool:
    """Did it strike? The life itself must end well, whatever was struck."""
    plan = life_of if isinstance(life_of, HubPlan) else draw_hub_plan(life_of)
    life = HubLife(plan)
    life.begun = lambda net: fault.watch(net, plan.hostile)
    life.play()
    return fault.struck


def strike(kind: type, mode: str) -> None:
    first = FIRST.get(name_of(kind))
    for each in ([first] if first is not None else []) + list(SEEDS):
        if play(each, Fault(kind, mode)):
            return
    raise AssertionError(f"no life comes to {name_of(kind)}")


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["before", "after", "twice"])
@pytest.mark.parametrize("kind", [*WORDS, *DEEDS], ids=name_of)
def test_what_is_said_or_done_survives_its_sender_and_may_be_said_twice(kind: type, mode: str) -> None:
    strike(kind, mode)


@pytest.mark.parametrize("mode", ["before", "after", "twice"])
def test_a_sample_that_is_quick(mode: str) -> None:
    """The kind that most lives turn on."""
    strike(Updates, mode)


def test_every_kind_has_a_life_that_comes_to_it() -> None:
    """A new kind of message or transaction brings a seed; what has none would be looked for and perhaps not found."""
    assert set(FIRST) == {name_of(kind) for kind in (*WORDS, *DEEDS)}


def test_no_family_of_messages_is_left_out() -> None:
    """Whatever is defined in any module of messages is listed here; app channels' tags have no colon."""
    modules = pkgutil.walk_packages(scapp.channels.__path__, "scapp.channels.")
    found = [importlib.import_module(each.name) for each in modules if each.name.endswith(".messages")]
    kinds = {kind for module in found for _, kind in inspect.getmembers(module, inspect.isclass)}
    assert {kind for kind in kinds if ":" in name_of(kind)} == set(WORDS)
    assert {name_of(kind)[:2].encode() for kind in WORDS} == set(DECODERS)
