"""Mallory: a participant with a real key who says whatever she likes; `sim.py` has the honest nodes.

She takes over one node of a simulated network: from then on her node says nothing by itself, `heard` collects what
others tell her, and her own messages are delivered at once, so that a test sees what each of them changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from scapp.channels.channel.events import Refused, Signed
from scapp.channels.channel.messages import (
    Countersign,
    Message,
    Propose,
    Refuse,
    Supported,
    decode_message,
    encode_message,
)
from scapp.channels.channel.model import ChannelState
from scapp.channels.channel.setup import pack_amounts
from scapp.channels.entries import Kind, encode_entry, extend_log_root
from scapp.channels.signing import Signer
from scapp.channels.types import Address, Hash
from tests.support.checkers import plain_hash
from tests.support.fakes import SumAdmission
from tests.support.sim import Sim, SimNode


class Mallory:
    """Controls `node` in `channel`. `sim` may hold honest nodes at any other index."""

    def __init__(self, sim: Sim, node: SimNode, channel: bytes) -> None:
        self.sim, self.node, self.channel = sim, node, channel
        self.index = node.index
        self.signer: Signer = node.signer
        self.heard: list[tuple[Address, Message]] = []
        node.receive = self._hear  # type: ignore[method-assign]
        node.tick = lambda: None  # type: ignore[method-assign]

    def _hear(self, sender: Address, data: bytes) -> None:
        self.heard.append((sender, decode_message(data)))

    # Speaking

    def say(self, to: SimNode, message: Message | bytes, *, signer: Signer | None = None) -> str:
        """Deliver at once, then let the honest nodes talk. Returns every reason given for refusing it."""
        data = message if isinstance(message, bytes) else encode_message(message)
        refused, heard, told = len(to.refused), len(self.heard), len(to.told)
        to.receive((signer or self.signer).address, data)
        self.sim.run()
        reasons = to.refused[refused:]
        reasons += [f"{m.code}: {m.reason}" for _, m in self.heard[heard:] if isinstance(m, Refuse)]
        reasons += [tell.detail for tell in to.told[told:] if tell.kind == "refused"]
        return "; ".join(reasons)

    def heard_of(self, kind: type) -> list[Any]:
        """What she was told, of one type."""
        return [message for _, message in self.heard if isinstance(message, kind)]

    # Words that an honest participant could say, to be bent by the caller

    def entry(
        self, payload: bytes = b"m", *, author: int | None = None, counter: int = 0, time_ms: int = 0, kind: int = 1
    ) -> bytes:
        """One entry, by default her own next one at the network's time."""
        by = self.index if author is None else author
        next_counter = counter or self.view_any().included[by] + 1
        return encode_entry(kind, by, next_counter, time_ms or self.sim.now_ms, payload)

    def view_any(self) -> ChannelState:
        """The state of some honest node."""
        return next(n for n in self.sim.nodes if n is not self.node).engine(self.channel).state

    def state(self, victim: SimNode, entries: Sequence[bytes] = (), **changes: Any) -> Signed:
        """The state that follows `victim`'s head with these entries, as the app wants it; `changes` bend it."""
        known = victim.engine(self.channel).state
        root, amounts = victim.admission.bases[self.channel]
        for entry in entries:
            if len(entry) >= 18 and entry[0] <= 3:
                root, amounts = SumAdmission._apply((root, amounts), entry)
        made = Signed(
            turn=known.signed_turn + 1,
            is_final=bool(entries) and entries[0][:1] == bytes([Kind.CLOSE]),
            entries=tuple(entries),
            sequence=known.sequence + len(entries),
            log_root=extend_log_root(Hash(known.log_root), entries),
            state_root=root,
            amounts=pack_amounts(amounts),
            time_ms=self.sim.now_ms if entries else known.time_ms,
            signatures=(b"",) * known.setup.count,
            last=known.included,
        )
        return msgspec.structs.replace(made, **changes)

    def sign(self, state: Signed) -> bytes:
        """Her signature under any state of the channel."""
        return self.signer.sign(plain_hash(self.view_any().setup, state))

    def proposal(
        self, state: Signed, *, first: int | None = None, refused: tuple[Refused, ...] = (), signature: bytes = b""
    ) -> Propose:
        """A proposal of the state, signed by her unless a signature is given."""
        return Propose(
            self.channel,
            state.turn,
            state.is_final,
            state.sequence - len(state.entries) if first is None else first,
            state.entries,
            state.log_root,
            state.state_root,
            state.amounts,
            state.time_ms,
            refused,
            signature or self.sign(state),
        )

    def propose(self, to: SimNode, entries: Sequence[bytes], **changes: Any) -> str:
        """Propose to one victim; returns the reasons of its refusal, or an empty string."""
        return self.say(to, self.proposal(self.state(to, entries, **changes)))

    def countersign(self, of: SimNode, turn: int) -> Countersign:
        """A good signature under a candidate of an honest node."""
        candidate = of.engine(self.channel).state.candidate(turn)
        assert candidate is not None
        return Countersign(self.channel, turn, self.sign(candidate))

    def supported(self, state: Signed, signatures: Sequence[bytes]) -> Supported:
        """A full set, or what she passes off as one."""
        return Supported(
            self.channel,
            state.turn,
            state.is_final,
            state.sequence,
            state.log_root,
            state.state_root,
            state.amounts,
            state.time_ms,
            tuple(signatures),
        )


def stored(node: SimNode, channel: bytes) -> tuple[Any, ...]:
    """All that a node holds durably of a channel: its events, its outbox, and the state they fold to."""
    events = [event for page in node.log.read(channel) for event in page.events]
    return events, node.log.outbox(), node.engine(channel).state
