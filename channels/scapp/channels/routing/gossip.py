"""Who is told what: statements go along ledgers, each once per link; what was missed is asked for.

Only peers with whom this node has a usable ledger are told and listened to. Keys cost nothing, ledgers do: nobody fills
tables for free, and statements still reach all whom their ledgers could serve.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator

from scapp.channels.books.step import Send
from scapp.channels.errors import PeerError
from scapp.channels.routing.allowance import Allowance
from scapp.channels.routing.messages import KNOWN_MAX, STATEMENTS_MAX, Known, Message, Statements
from scapp.channels.routing.own import OwnAnnouncement
from scapp.channels.routing.statements import Signed, check_signature, read_statement
from scapp.channels.routing.table import Table
from scapp.channels.types import Address, Hash

MESSAGE_BYTES_MAX = 57_344  # of statements, so that a message fits into the smallest frame that may be configured
TICK_STATEMENTS_MAX = 256  # per peer
ANSWER_MAX = 1_024
ASK_MS = 600_000
ASK_AGAIN_MS = 10_000
PAGE_MS = 1_000
EXPIRE_MS = 30_000
_FIRST, _LAST = Address(bytes(20)), Address(b"\xff" * 20)


class PeerTooBusy(PeerError):
    """A peer sends more than it may; what was dropped is asked for later."""


class _Peer:
    """A link: how far this peer has been told, what it is owed, what it may still send."""

    def __init__(self, serial: int) -> None:
        self.told = serial  # of the table
        self.owed: deque[Address] = deque()  # origins of an answer
        self.owed_more = False
        self.ask_ms = 0
        self.page = _FIRST  # where our next question begins
        self.checks = Allowance(2_048, 10)  # signatures that we check for it
        self.questions = Allowance(32, PAGE_MS)


class Gossip:
    """Tells peers and listens to them; `own` makes this node's statements."""

    def __init__(self, me: Address, network: Hash, table: Table, own: OwnAnnouncement) -> None:
        self._me = me
        self._network = network
        self._table = table
        self._own = own
        self._peers: dict[Address, _Peer] = {}
        self._neighbours: frozenset[Address] = frozenset()
        self._expire_ms = 0

    def link(self, peer: Address, connected: bool) -> None:
        if connected:
            self._peers[peer] = _Peer(self._table.serial)
        else:
            self._peers.pop(peer, None)

    def neighbours(self, peers: Collection[Address]) -> None:
        """With whom this node has a usable ledger."""
        for peer in frozenset(peers) - self._neighbours:
            if peer in self._peers:
                self._peers[peer].ask_ms = 0
        self._neighbours = frozenset(peers)

    def receive(self, peer: Address, message: Message, now_ms: int) -> None:
        """Raises the first PeerError, after everything else of the message has been taken."""
        state = self._peers.get(peer)
        if state is None or peer not in self._neighbours:
            raise PeerError("routing message of a peer with which this node has no usable ledger, or no link")
        if isinstance(message, Known):
            self._asked(state, peer, message, now_ms)
            return
        fault: PeerError | None = None
        for signed in message.statements:
            try:
                self._hear(state, peer, signed, now_ms)
            except PeerError as error:
                fault = fault or error
        if message.more:
            state.ask_ms = min(state.ask_ms, now_ms + ASK_AGAIN_MS)
        if fault is not None:
            raise fault

    def _hear(self, state: _Peer, peer: Address, signed: Signed, now_ms: int) -> None:
        statement = read_statement(signed.body)
        origin = Address(statement.origin)
        known = self._table.get(origin)
        if known is not None and statement.sequence <= known.sequence:
            return
        if not state.checks.take(now_ms):
            raise PeerTooBusy("announces more than this node checks")
        if origin == self._me:
            check_signature(signed, statement, self._network)
            self._own.heard(statement, now_ms)
        else:
            self._table.hear(peer, signed, statement, now_ms)

    def _asked(self, state: _Peer, peer: Address, message: Known, now_ms: int) -> None:
        if not state.questions.take(now_ms):
            raise PeerTooBusy("asks for announcements too often")
        first, last = Address(message.first), Address(message.last)
        owed = frozenset(state.owed)
        for entry in self._table.lacking(dict(message.known), first, last):
            if entry.origin == peer or entry.origin in owed:
                continue
            if len(state.owed) >= ANSWER_MAX:
                state.owed_more = True
                break
            state.owed.append(entry.origin)

    def tick(self, now_ms: int) -> Iterator[Send]:
        """What is to be said now."""
        if not 0 <= self._expire_ms - now_ms <= EXPIRE_MS:
            self._table.expire(now_ms)
            self._expire_ms = now_ms + EXPIRE_MS
        made = self._own.due(now_ms)
        if made is not None:
            self._table.put(self._me, made[1], made[0], now_ms)
        for peer, state in self._peers.items():
            yield from (Send(peer, message) for message in self._to_say(peer, state, now_ms))

    def _to_say(self, peer: Address, state: _Peer, now_ms: int) -> Iterator[Message]:
        if peer not in self._neighbours:
            return
        news = []
        for entry in self._table.since(state.told)[:TICK_STATEMENTS_MAX]:
            state.told = entry.serial
            if entry.origin != peer != entry.via:
                news.append(entry.signed)
        yield from _packed(news)
        yield from self._answer(state)
        if now_ms >= state.ask_ms:
            yield self._question(peer, state, now_ms)

    def _answer(self, state: _Peer) -> Iterator[Statements]:
        if not state.owed:
            return
        answer = []
        for _ in range(min(len(state.owed), TICK_STATEMENTS_MAX)):
            entry = self._table.get(state.owed.popleft())
            if entry is not None:
                answer.append(entry.signed)
        more = state.owed_more and not state.owed
        if more:
            state.owed_more = False
        yield from _packed(answer, more=more)

    def _question(self, peer: Address, state: _Peer, now_ms: int) -> Known:
        """The next page of what this node knows."""
        first = state.page
        entries = self._table.known(first, KNOWN_MAX + 1)
        state.page, last = _FIRST, _LAST
        # Links do not all ask at the same time: the peer's address says how much later this one does.
        state.ask_ms = now_ms + ASK_MS + peer[-1] * 1_000
        if len(entries) > KNOWN_MAX:
            state.page, last = entries[KNOWN_MAX].origin, entries[KNOWN_MAX - 1].origin
            state.ask_ms = now_ms + PAGE_MS
        return Known(first, last, tuple((entry.origin, entry.sequence) for entry in entries[:KNOWN_MAX]))


def _packed(statements: Iterable[Signed], *, more: bool = False) -> Iterator[Statements]:
    """In messages that fit into frames."""
    packet: list[Signed] = []
    size = 0
    for signed in statements:
        if packet and (size + len(signed.body) > MESSAGE_BYTES_MAX or len(packet) == STATEMENTS_MAX):
            yield Statements(tuple(packet))
            packet, size = [], 0
        packet.append(signed)
        size += len(signed.body) + 80
    if packet or more:
        yield Statements(tuple(packet), more)
