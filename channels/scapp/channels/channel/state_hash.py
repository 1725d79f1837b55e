"""State hashes of one app channel, as often as it signs and checks; `setup.py` owns one `AppStateHasher`.

What never changes in a channel is encoded once. `abi.StateHasher` and `app_data.encode_app_data` say what the bytes
are; they are asked for everything that is not known here, refusals included.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Protocol

from scapp.channels.abi import STATE_HEAD_BYTES, TURN_BITS, WORD, OutcomeSlot, StateHasher
from scapp.channels.app_data import APP_DATA_BYTES, encode_app_data
from scapp.channels.channel.redirect import outcome_with, redirect_of
from scapp.channels.crypto import keccak256
from scapp.channels.outcome import encode_outcome
from scapp.channels.state import encode_state_of_outcome
from scapp.channels.types import ChannelId, Hash

_BEFORE_TURN = STATE_HEAD_BYTES - 2 * WORD
_APP_DATA = STATE_HEAD_BYTES + WORD  # after its length
_SEQUENCE = _APP_DATA + 2 * WORD
_OUTCOME = _APP_DATA + APP_DATA_BYTES


class Placed(Protocol):
    """What a state's hash depends on, besides its channel: `events.Signed` and `model.Head` have it."""

    @property
    def turn(self) -> int: ...

    @property
    def is_final(self) -> bool: ...

    @property
    def log_root(self) -> bytes: ...

    @property
    def state_root(self) -> bytes: ...

    @property
    def amounts(self) -> bytes: ...

    @property
    def time_ms(self) -> int: ...

    @property
    def sequence(self) -> int: ...


class AppStateHasher:
    """`deployment` is the deployment's id. One object may be shared by threads."""

    def __init__(self, channel: ChannelId, deployment: bytes, slots: Sequence[OutcomeSlot]) -> None:
        self._hasher = StateHasher(channel, slots)
        self._channel, self._slots = channel, slots
        self._deployment = deployment
        amounts = (0,) * len(slots)
        encoded = self._hasher.encode(encode_app_data(deployment, 0, bytes(WORD), bytes(WORD), 0), amounts, 0, False)
        self._head = encoded[:_BEFORE_TURN]
        self._app_head = encoded[STATE_HEAD_BYTES:_SEQUENCE]  # length, version, deployment
        # head, turn, final; app head, sequence, log root, state root, time: each number in the low bytes of its word;
        # and the outcome, whose length is that of the slots
        before, app_before, outcome = len(self._head), len(self._app_head), len(encoded) - _OUTCOME
        self._pack = struct.Struct(f">{before}s24xQ31x?{app_before}s24xQ32s32s24xQ{outcome}s").pack
        # The outcome asked for last: a pair replaced as a whole, so that no thread sees half of it.
        self._outcome = bytes(WORD * len(slots)), encoded[_OUTCOME:]

    def hash(self, state: Placed) -> Hash:
        """State hash of Nitro's variable part that `state` stands for; raises `InvalidValue` for a value outside its
        field."""
        return self.hash_of(
            state.turn, state.is_final, state.sequence, state.log_root, state.state_root, state.amounts, state.time_ms
        )

    def hash_of(
        self,
        turn: int,
        is_final: bool,
        sequence: int,
        log_root: bytes,
        state_root: bytes,
        amounts: bytes,
        time_ms: int,
    ) -> Hash:
        """The same of the values that a state consists of: to read them from structs of several types would cost more
        than to hash them."""
        known, outcome = self._outcome
        pack = self._pack
        if amounts != known or turn >> TURN_BITS or len(log_root) != 32 or len(state_root) != 32:
            return self._general(turn, is_final, sequence, log_root, state_root, amounts, time_ms)
        try:
            return keccak256(
                pack(self._head, turn, is_final, self._app_head, sequence, log_root, state_root, time_ms, outcome)
            )
        except struct.error:  # a number that does not fit its field
            return self._general(turn, is_final, sequence, log_root, state_root, amounts, time_ms)

    def _general(
        self, turn: int, is_final: bool, sequence: int, log_root: bytes, state_root: bytes, blob: bytes, time_ms: int
    ) -> Hash:
        app_data = encode_app_data(self._deployment, sequence, log_root, state_root, time_ms)
        amounts = tuple(int.from_bytes(blob[i : i + WORD], "big") for i in range(0, len(blob), WORD))
        redirect = redirect_of(blob, len(self._slots))
        if redirect is not None:  # once in a channel's life
            outcome = encode_outcome(outcome_with(self._slots, amounts[: len(self._slots)], redirect))
            return keccak256(encode_state_of_outcome(self._channel, app_data, outcome, turn, is_final=is_final))
        encoded = self._hasher.encode(app_data, amounts, turn, is_final)
        if len(blob) == WORD * len(amounts):
            self._outcome = blob, encoded[_OUTCOME:]
        return keccak256(encoded)
