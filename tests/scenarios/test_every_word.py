"""Every kind of message about ledgers, virtual channels, payments and routes, and every kind of transaction: its sender
dies just before it leaves or just behind it, after its facts were stored; or it leaves twice (ADR 0007).

Nothing of this has an outbox: what is to be said or done follows from what is stored. So a simulated life in which it
is said plays on with that fault, and must end as all lives do: everybody agrees and has what it is owed. Kinds are read
from the code: a new one that no life says fails. App channels have `test_every_effect.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import get_args

import pytest

from scapp.channels.books.messages import BooksMessage, decode_message, prefix_of
from scapp.channels.channel.messages import MalformedMessage
from scapp.channels.onchain import Reveal, Transaction, Transfer
from scapp.channels.payments.messages import PaymentMessage, decode_payment_message
from scapp.channels.routing.messages import Message as RouteMessage
from scapp.channels.routing.messages import decode_message as decode_route_message
from scapp.channels.types import Address
from tests.simulation.hubs.life import HubLife
from tests.simulation.hubs.net import HubNet, HubNode
from tests.simulation.hubs.plan import draw_hub_plan

WORDS: tuple[type, ...] = (*get_args(BooksMessage), *get_args(PaymentMessage), *get_args(RouteMessage))
ELSEWHERE = {Transfer, Reveal}
"""A payout of a part while a guarantee waits for its channel: `tests/unit/test_ledger_settling.py`; lives seldom are
so unlucky. Payments under locks, their words and reveals: `test_locked_payments.py` and `test_node_locks.py` there."""
DEEDS: tuple[type, ...] = tuple(kind for kind in get_args(Transaction) if kind not in ELSEWHERE)
SEEDS = range(240)
FIRST = {
    "Agree": 9,
    "Ask": 41,
    "AskClose": 9,
    "AskStanding": 20,
    "Challenge": 52,
    "Checkpoint": 36,
    "Conclude": 9,
    "Decline": 84,
    "Deposit": 9,
    "Known": 9,
    "OpenLedger": 9,
    "Proposed": 9,
    "Reclaim": 181,
    "Refused": 20,
    "RejectLedger": 64,
    "Said": 9,
    "SignFinal": 9,
    "SignStage": 9,
    "Statements": 9,
    "TellStanding": 20,
    "TransferAll": 17,
    "Unknown": 14,
    "Updates": 9,
    "VoucherHeld": 39,
    "VoucherRefusal": 4,
    "VoucherWanted": 39,
    "Vouchers": 9,
    "VouchersSeen": 9,
}
"""A seed whose life comes to it, so that nothing has to be searched."""
DECODERS: dict[bytes, Callable[[bytes], object]] = {
    b"l:": decode_message,
    b"v:": decode_message,
    b"p:": decode_payment_message,
    b"r:": decode_route_message,
}


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
        self.reached[kind.__name__] += 1
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


def play(seed: int, fault: Fault) -> bool:
    """Did it strike? The life itself must end well, whatever was struck."""
    plan = draw_hub_plan(seed)
    life = HubLife(plan)
    life.begun = lambda net: fault.watch(net, plan.hostile)
    life.play()
    return fault.struck


def strike(kind: type, mode: str) -> None:
    first = FIRST.get(kind.__name__)
    for seed in ([first] if first is not None else []) + list(SEEDS):
        if play(seed, Fault(kind, mode)):
            return
    raise AssertionError(f"no life comes to {kind.__name__}")


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["before", "after", "twice"])
@pytest.mark.parametrize("kind", [*WORDS, *DEEDS], ids=lambda kind: kind.__name__)
def test_what_is_said_or_done_survives_its_sender_and_may_be_said_twice(kind: type, mode: str) -> None:
    strike(kind, mode)


@pytest.mark.parametrize("mode", ["before", "after", "twice"])
def test_a_sample_that_is_quick(mode: str) -> None:
    """The kind that most lives turn on."""
    strike(next(kind for kind in WORDS if kind.__name__ == "Updates"), mode)


def test_every_kind_has_a_life_that_comes_to_it() -> None:
    """A new kind of message or transaction brings a seed; what has none would be looked for and perhaps not found."""
    assert set(FIRST) == {kind.__name__ for kind in (*WORDS, *DEEDS)}
