"""Asking a way before anything is locked on it: a lock that was signed cannot be taken back, a question can.

Each node judges, and asks the next one; the answer comes back the same way. Nothing of it survives a restart, and
nothing has to: whoever asked gives up and asks anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from scapp.channels.errors import PeerError
from scapp.channels.payments.events import amount_bytes, amount_of
from scapp.channels.payments.locked.book import LockBook
from scapp.channels.payments.locked.messages import Answer, Ask, LockMessage
from scapp.channels.payments.locked.paying import REASON_MAX
from scapp.channels.payments.locked.records import Hop
from scapp.channels.payments.locked.state import wire_hops
from scapp.channels.payments.locked.taking import Verdict, judge_ask
from scapp.channels.types import Address

ASKS_MAX = 1_024
ASKS_PER_PEER_MAX = 64
SECONDS = 8.0
"""A hub waits less than that for the next one, so that its own answer still counts."""


class Reply(msgspec.Struct, frozen=True, gc=False):
    """What the way says: `fault` is empty when all would do it, else `by` would not, and asks `fee` if that is why."""

    fault: str
    by: Address
    fee: int = 0


class _Asked(msgspec.Struct, frozen=True, gc=False):
    """Who waits for the answer: a peer that has asked under a `number`, or (None) a caller of this node."""

    origin: Address | None
    number: int
    future: asyncio.Future[Reply] | None
    due_ms: int


class Asks:
    """Belongs to the node's event loop. `tell` says something to a peer, and whether it could; `linked` are peers that
    are connected."""

    def __init__(
        self, book: LockBook, tell: Callable[[Address, LockMessage], bool], clock_ms: Callable[[], int]
    ) -> None:
        self._book = book
        self._tell = tell
        self._clock_ms = clock_ms
        self.linked: set[Address] = set()
        self._number = clock_ms()  # of this node's last question; none is used again after a restart
        self._asked: dict[tuple[bytes, Address, int], _Asked] = {}

    async def ask(self, name: bytes, asset: Address, hops: tuple[Hop, ...]) -> Reply:
        """Would everybody on the way do their part?"""
        first = hops[0]
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        number = self._next()
        question = Ask(name, asset, amount_bytes(first.amount), first.expiry_s, wire_hops(hops[1:]), number)
        if not self._put(first.peer, question, _Asked(None, 0, future, self._clock_ms() + int(SECONDS * 1_000))):
            return Reply("it is not connected, or too much is being asked", first.peer)
        try:
            async with asyncio.timeout(SECONDS):
                return await future
        except TimeoutError:
            return Reply(f"no answer within {SECONDS:g} s", first.peer)
        finally:
            self._asked.pop((name, first.peer, number), None)

    def on_ask(self, peer: Address, ask: Ask, limited: str = "") -> None:
        """Judge, then answer or ask the next one. `limited`: why it is refused without a look."""
        verdict = judge_ask(self._book, peer, ask) if not limited else Verdict(limited)
        if verdict.fault or verdict.lane is None:
            self._answer(peer, ask.hash, ask.number, Reply(verdict.fault, self._book.me, verdict.fee))
            return
        (to, amount, expiry_s), *rest = ask.hops
        left_ms = int(SECONDS * 1_000) * len(ask.hops) // (len(ask.hops) + 1)
        passed = Ask(ask.hash, ask.asset, amount, expiry_s, tuple(rest), self._next())
        if not self._put(Address(to), passed, _Asked(peer, ask.number, None, self._clock_ms() + left_ms)):
            reply = Reply(f"0x{to.hex()} is not connected, or too much is asked", self._book.me)
            self._answer(peer, ask.hash, ask.number, reply)

    def on_answer(self, peer: Address, answer: Answer) -> None:
        """Raises PeerError for one that nobody waits for."""
        asked = self._asked.pop((answer.hash, peer, answer.number), None)
        if asked is None:
            raise PeerError("answers what nobody has asked")
        self._end(asked, answer.hash, Reply(answer.reason[:REASON_MAX], Address(answer.by), amount_of(answer.fee)))

    def tick(self) -> None:
        """Give up what was not answered in time."""
        now_ms = self._clock_ms()
        for key, asked in list(self._asked.items()):
            if asked.due_ms <= now_ms and asked.origin is not None:
                del self._asked[key]
                name, peer, _ = key
                self._end(asked, name, Reply(f"0x{peer.hex()} does not answer", self._book.me))

    def stop(self) -> None:
        """Nobody waits any more."""
        for (name, _, _), asked in list(self._asked.items()):
            self._end(asked, name, Reply("the node stops", self._book.me))
        self._asked.clear()

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _put(self, peer: Address, question: Ask, asked: _Asked) -> bool:
        key = question.hash, peer, question.number
        from_origin = sum(each.origin == asked.origin for each in self._asked.values())
        if peer not in self.linked or len(self._asked) >= ASKS_MAX or from_origin >= ASKS_PER_PEER_MAX:
            return False
        self._asked[key] = asked
        if not self._tell(peer, question):
            del self._asked[key]
            return False
        return True

    def _end(self, asked: _Asked, name: bytes, reply: Reply) -> None:
        if asked.origin is not None:
            self._answer(asked.origin, name, asked.number, reply)
        elif asked.future is not None and not asked.future.done():
            asked.future.set_result(reply)

    def _answer(self, peer: Address, name: bytes, number: int, reply: Reply) -> None:
        self._tell(peer, Answer(name, reply.by, reply.fault[:REASON_MAX], amount_bytes(reply.fee), number))
