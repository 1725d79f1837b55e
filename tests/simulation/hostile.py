"""Mallory in a seeded life: a participant whose node runs the real engine, and who bends what it says, or makes it up.

Everything she signs, she may sign: nobody can keep her from it. What the others do with it is what is checked.
`tests/support/mallory.py` is her in scenarios that are written down.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgspec

from scapp.channels.channel.events import Signed, with_signature
from scapp.channels.channel.messages import (
    Countersign,
    Propose,
    Refuse,
    Rejected,
    Supported,
    decode_message,
    encode_message,
)
from scapp.channels.channel.setup import Setup, pack_amounts
from scapp.channels.entries import Kind, decode_entry, encode_entry, extend_log_root
from scapp.channels.errors import ScappError
from scapp.channels.types import Address, Hash
from tests.simulation.apps import App
from tests.simulation.onchain import LifeOnChain
from tests.simulation.plan import Act
from tests.support.checkers import plain_hash, with_other_v
from tests.support.sim import Sim, SimNode

PAST_MAX = 400
BENT = (
    "wrong root",
    "wrong log root",
    "double signing",
    "withheld signature",
    "one peer only",
    "forged entry",
    "wrong signature",
)
_replace = msgspec.structs.replace


class Hostile:
    """Sits in the network's tap; `act` lets her do something."""

    def __init__(self, sim: Sim, node: SimNode, app: App, chain: LifeOnChain | None) -> None:
        self.sim, self.node, self.app, self.chain = sim, node, app, chain
        self.channel = b""  # set once it is open
        self.others = [n for n in sim.nodes if n is not node]
        self._past: list[tuple[Address, bytes]] = []
        self._first = b""  # the channel's proposal
        self._left: dict[str, int] = {}  # kind: how many more messages it bends
        self._silent_until_ms = 0
        sim.tap = self._tap

    def repent(self) -> None:
        """From here on she says what her engine says."""
        self._left.clear()
        self._silent_until_ms = 0

    # What her engine says, bent

    def _tap(self, sender: int, to: Address, data: bytes) -> bytes | None:
        self._past = [*self._past[1 - PAST_MAX :], (to, data)]
        self._first = self._first or data
        if sender != self.node.index:
            return data
        if self.sim.now_ms < self._silent_until_ms:
            self._did("silence")
            return None
        return self._bent(to, data) if self._left else data

    def _did(self, kind: str) -> None:
        self.sim.saw(f"Mallory: {kind}")

    def _use(self, kind: str) -> bool:
        left = self._left.get(kind, 0)
        if left > 1:
            self._left[kind] = left - 1
        else:
            self._left.pop(kind, None)
        if left:
            self._did(kind)
        return left > 0

    def _bent(self, to: Address, data: bytes) -> bytes | None:
        message = decode_message(data)
        match message:
            case Propose():
                return self._bent_proposal(to, message, data)
            case Countersign():
                if self._use("withheld signature"):
                    self._withheld(message.turn)
                    return None
                if to != self.others[0].signer.address and self._use("one peer only"):
                    return None
                if self._use("wrong signature"):
                    return encode_message(_replace(message, signature=self.node.signer.sign(Hash(bytes(32)))))
            case Supported():
                if self._left.get("withheld full set"):
                    return None
                if to != self.others[-1].signer.address and self._use("one peer only"):
                    return None
        return data

    def _withheld(self, turn: int) -> None:
        state = self.node.engine(self.channel).state
        final = any(s is not None and s.is_final and s.turn == turn for s in (state.head, *state.candidates))
        if self.chain is not None and final:
            self.chain.kept_back = True

    def _keep_the_final_state(self) -> None:
        """Somebody closes; she signs, and tells nobody."""
        self._left["withheld signature"] = self._left["withheld full set"] = 100
        for node in self.others:
            if node.up and self.channel in node.drivers and node.engine(self.channel).phase == "running":
                node.submit(self.channel, b"", kind=Kind.CLOSE)
                return

    def _bent_proposal(self, to: Address, message: Propose, data: bytes) -> bytes | None:
        if self._use("wrong root"):
            return self._signed(_replace(message, state_root=_other(message.state_root)))
        if self._use("wrong log root"):
            return self._signed(_replace(message, log_root=_other(message.log_root)))
        if message.entries and to == self.others[-1].signer.address and self._use("double signing"):
            return self._signed(_replace(message, time_ms=message.time_ms + 1))
        if message.entries and self._use("forged entry"):
            return self._forged(to, message) or data
        if self._use("wrong signature"):
            return encode_message(_replace(message, signature=with_other_v(message.signature)))
        return data

    def _forged(self, to: Address, message: Propose) -> bytes | None:
        """The receiver's own words are put into its mouth, and everything else is right."""
        victim = self._setup.participants.index(to)
        entries = list(message.entries)
        for position, data in enumerate(entries):
            entry = decode_entry(data)
            if entry.author == victim and entry.kind == Kind.MESSAGE:
                entries[position] = encode_entry(Kind.MESSAGE, victim, entry.counter, entry.time_ms, b"I resign")
                return self._proposal(entries, message.turn, message.time_ms)
        counter = self.node.engine(self.channel).state.included[victim] + 1
        last = encode_entry(Kind.MESSAGE, victim, counter, message.time_ms, b"I resign")
        return self._proposal([last], message.turn, message.time_ms)

    # Words of her own

    @property
    def _setup(self) -> Setup:
        return self.node.engine(self.channel).state.setup

    def act(self, act: Act) -> None:
        """One thing that she does, if her node is up and has signed something."""
        if act.text == "silence":
            self._silent_until_ms = self.sim.now_ms + act.number * 1_000
        elif act.text in BENT:
            self._left[act.text] = act.number
        elif not self.node.up or self.channel not in self.node.drivers:
            return
        elif act.text == "challenge":
            assert self.chain is not None
            if self.chain.challenge(self.node):
                self._did("challenge")
        elif act.text == "final state kept back":
            self._keep_the_final_state()
        else:
            makes: dict[str, Callable[[random.Random], bytes | None]] = {
                "replay": self._replayed,
                "malformed bytes": self._malformed,
                "odd proposal": self._odd_proposal,
                "forged full set": self._forged_full_set,
                "refusal": self._refusal,
                "rejection": lambda draw: encode_message(Rejected(self.channel, "no more")),
            }
            for _ in range(act.number):
                data = makes[act.text](self.sim.random)
                if data is not None:
                    self._did(act.text)
                    self.sim.put(self.node.index, self.sim.random.choice(self.others).signer.address, data)

    def _replayed(self, draw: random.Random) -> bytes | None:
        if not self._past:
            return None
        return self._first if draw.random() < 0.3 else draw.choice(self._past)[1]

    def _malformed(self, draw: random.Random) -> bytes:
        if not self._past or draw.random() < 0.2:
            return draw.randbytes(draw.randrange(60))
        data = draw.choice(self._past)[1]
        if draw.random() < 0.3:
            return data[: draw.randrange(len(data))]
        at = draw.randrange(len(data))
        return data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :]

    def _refusal(self, draw: random.Random) -> bytes:
        turn = max(0, self.node.engine(self.channel).state.signed_turn)
        code = draw.choice(["mine", "time", "root", "fork"])
        return encode_message(Refuse(self.channel, turn, code, "no", draw.randrange(-1, 2)))

    def _odd_proposal(self, draw: random.Random) -> bytes | None:
        """Any turn, any entries, final or not; roots as they ought to be, mostly."""
        state = self.node.engine(self.channel).state
        if state.head is None:
            return None
        author = draw.randrange(state.setup.count)
        counter = state.included[author] + draw.choice([0, 1, 1, 2])
        kind = draw.choice([Kind.MESSAGE, Kind.MESSAGE, Kind.CLOSE])
        payload = b"" if kind == Kind.CLOSE else b"odd words"
        time_ms = max(state.time_ms, self.node.now())
        entries = [encode_entry(kind, author, counter, time_ms, payload)][: draw.choice([0, 1, 1, 1, 1])]
        turn = max(0, state.signed_turn + draw.choice([-1, 0, 1, 1, 2, 3, 3, 70_000]))
        return self._proposal(entries, turn, time_ms, bend=draw.random() < 0.2)

    def _forged_full_set(self, draw: random.Random) -> bytes | None:
        state = self.node.engine(self.channel).state
        head = state.head
        if head is None:
            return None
        bent = _replace(head, turn=head.turn + 1)
        mine = self._sign_state(bent)
        signatures = with_signature(head.signatures, self.node.index, mine)
        if draw.random() < 0.3:
            signatures = (mine,) * len(signatures)
        return encode_message(
            Supported(
                self.channel,
                bent.turn,
                bent.is_final,
                bent.sequence,
                bent.log_root,
                bent.state_root,
                bent.amounts,
                bent.time_ms,
                signatures,
            )
        )

    def _proposal(self, entries: list[bytes], turn: int, time_ms: int, *, bend: bool = False) -> bytes | None:
        """A proposal over her supported log, signed; None when her app has nothing to say about it."""
        state = self.node.engine(self.channel).state
        assert state.head is not None
        admission = self.app.admission()
        try:
            admission.load(
                state.setup.context, [s.entries for s in self.node.source.batches(self.channel) if s.entries]
            )
            result = admission.try_batch(state.setup.channel_id, state.sequence, tuple(entries), strict=False)
        except ScappError:
            return None
        finally:
            admission.unload(state.setup.channel_id)
        final = bool(entries) and entries[0][0] == Kind.CLOSE
        root = bytes(32) if bend else result.state_root
        return self._signed(
            Propose(
                self.channel,
                turn,
                final or state.head.is_final,
                state.sequence,
                tuple(entries),
                extend_log_root(Hash(state.log_root), entries),
                root,
                pack_amounts(result.amounts),
                time_ms if entries else state.time_ms,
                (),
                bytes(65),
            )
        )

    def _signed(self, message: Propose) -> bytes:
        return encode_message(_replace(message, signature=self._sign_state(message, message.first_sequence)))

    def _sign_state(self, said: Any, first: int | None = None) -> bytes:
        """Her signature under what a message or a head says."""
        state = Signed(
            said.turn,
            said.is_final,
            (),
            said.sequence if first is None else first + len(said.entries),
            said.log_root,
            said.state_root,
            said.amounts,
            said.time_ms,
            (),
            (),
        )
        return self.node.signer.sign(plain_hash(self._setup, state))


def _other(root: bytes) -> bytes:
    return bytes([root[0] ^ 1]) + root[1:]
