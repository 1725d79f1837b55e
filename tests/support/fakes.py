"""A small deterministic admission for tests of ordering and signing: no reducer, real undo.

A payload of `bad…` is refused, `move:i:j:n` moves n from slot i to slot j of the outcome, anything else is appended
to the state, whose root is a hash chain.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import msgspec

from scapp.channels.admission import AdmissionError, Admitted, BaseSnapshot, ChannelContext, Refusal
from scapp.channels.crypto import keccak256
from scapp.channels.entries import Kind, decode_entry
from scapp.channels.types import ChannelId

State = tuple[bytes, tuple[int, ...]]


_MOVE = re.compile(rb"move:([0-9]):([0-9]):[0-9]{1,30}")


def _moves(payload: bytes, amounts: tuple[int, ...]) -> bool:
    """Is it a move between slots that are there? Without any, slots 0 and 1 stand for nothing."""
    found = _MOVE.fullmatch(payload)
    return found is not None and max(map(int, found.groups()[:2])) < max(2, len(amounts))


class SumAdmission:
    """Implements `scapp.channels.admission.Admission`."""

    def __init__(self, *, wrong_root: bool = False, refuse: bytes = b"bad") -> None:
        self.bases: dict[bytes, State] = {}
        self.layers: dict[bytes, State] = {}
        self.sequences: dict[bytes, tuple[int, int]] = {}  # entries in the base, and in the layer
        self.wrong_root = wrong_root
        self.refuse = refuse
        self.calls = 0

    def load(
        self, context: ChannelContext, batches: Iterable[Sequence[bytes]], snapshot: BaseSnapshot | None = None
    ) -> Admitted:
        state: State = (bytes(32), tuple(amount for _, _, amount in context.slots))
        sequence = 0
        if snapshot is not None:
            try:
                root, amounts = msgspec.msgpack.decode(snapshot.data, type=tuple[bytes, list[bytes]])
            except msgspec.MsgspecError as error:
                raise AdmissionError(f"the snapshot cannot be used: {error}") from None
            state = (root, tuple(int.from_bytes(amount, "big") for amount in amounts))
            sequence = snapshot.sequence
        for entries in batches:
            for entry in entries:
                state = self._apply(state, entry)
            sequence += len(entries)
        self.bases[context.channel_id] = state
        self.sequences[context.channel_id] = (sequence, 0)
        self.layers.pop(context.channel_id, None)
        return Admitted((), (), *state)

    def snapshot(self, channel_id: ChannelId) -> BaseSnapshot | None:
        root, amounts = self.bases[channel_id]
        data = msgspec.msgpack.encode((root, [amount.to_bytes(32, "big") for amount in amounts]))
        return BaseSnapshot(self.sequences[channel_id][0], root, data)

    def try_batch(
        self, channel_id: ChannelId, first_sequence: int, candidates: Sequence[bytes], *, strict: bool
    ) -> Admitted:
        self.calls += 1
        if channel_id not in self.bases:
            raise AdmissionError("channel is not loaded")
        state = self.bases[channel_id]
        accepted, refusals = [], []
        for index, entry in enumerate(candidates):
            payload = decode_entry(entry).payload
            if payload.startswith(self.refuse) or (payload.startswith(b"move:") and not _moves(payload, state[1])):
                refusals.append(Refusal(index, "rejected", "the payload is bad"))
                continue
            state = self._apply(state, entry)
            accepted.append(index)
        self.layers[channel_id] = state
        self.sequences[channel_id] = (first_sequence, len(accepted))
        root = bytes(31) + b"x" if self.wrong_root else state[0]
        return Admitted(tuple(accepted), tuple(refusals), root, state[1])

    @staticmethod
    def _apply(state: State, entry: bytes) -> State:
        decoded = decode_entry(entry)
        amounts = state[1]
        if amounts and decoded.kind == Kind.MESSAGE and decoded.payload.startswith(b"move:"):
            i, j, n = (int(x) for x in decoded.payload.split(b":")[1:])
            moved = list(amounts)
            n = min(n, moved[i])
            moved[i] -= n
            moved[j] += n
            amounts = tuple(moved)
        if decoded.kind == Kind.CLOSE:
            return state
        return keccak256(state[0] + entry), amounts

    def commit(self, channel_id: ChannelId) -> None:
        self.bases[channel_id] = self.layers.pop(channel_id)
        self.sequences[channel_id] = (sum(self.sequences[channel_id]), 0)

    def rollback(self, channel_id: ChannelId) -> None:
        self.layers.pop(channel_id, None)

    def memory_bytes(self, channel_id: ChannelId) -> int:
        assert channel_id in self.bases, "only what is loaded takes memory"
        return 1_000

    def unload(self, channel_id: ChannelId) -> None:
        self.bases.pop(channel_id, None)
        self.layers.pop(channel_id, None)
