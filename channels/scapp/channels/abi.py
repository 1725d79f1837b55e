"""Ethereum ABI encoding, specialised to what Nitro hashes; `outcome.py` and `state.py` use it for their structures.

About fifty times faster than a general encoder, because every structure's layout is written out: constant words
are literals, and an encoding is one `b"".join`. Everything is checked on the way: a number outside its field or an
address of the wrong length raises `InvalidValue` and never yields bytes that hash to something unintended.

`StateHasher` is the fast way to the state hashes of one app channel; `state.state_hash` is the general one.

Two words recur below. A *head* is the fixed part of a tuple, one 32-byte word per field; a dynamic field's word
there is the *offset* of its *body* (length and contents), counted in bytes from the start of the tuple.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NoReturn

from scapp.channels.crypto import keccak256
from scapp.channels.errors import ScappError
from scapp.channels.types import ChannelId, Hash

WORD = 32


class InvalidValue(ScappError, ValueError):
    """A value does not fit its field or breaks a rule of the protocol; the caller knows who is to blame."""


def word(number: int) -> bytes:
    """A small constant as 32 bytes; for the layouts below, where no check is needed."""
    return number.to_bytes(WORD, "big")


FALSE, TRUE = word(0), word(1)
OFFSET_OF_ONLY_ARGUMENT = word(WORD)

TURN_BITS = 48
STATE_HEAD_BYTES = 5 * WORD
STATE_APP_DATA_OFFSET = word(STATE_HEAD_BYTES)
# An allocation without metadata, from its third word on: type 0, offset of the metadata, no bytes.
SIMPLE_ALLOCATION_TAIL = word(0) + word(4 * WORD) + word(0)
SIMPLE_ALLOCATION_BYTES = 2 * WORD + len(SIMPLE_ALLOCATION_TAIL)
# What follows the asset in an exit without asset metadata: both offsets, then type 0 and no bytes.
_NO_METADATA = word(0) + word(2 * WORD) + word(0)
PLAIN_EXIT_TAIL = word(3 * WORD) + word(3 * WORD + len(_NO_METADATA)) + _NO_METADATA

OutcomeSlot = tuple[bytes, bytes, int]
"""(asset, destination, amount): one slot of an app channel's outcome; slots of one asset stand together."""


def uint(number: int, bits: int, field: str) -> bytes:
    """An unsigned integer of at most `bits` bits as one word; raises `InvalidValue` naming `field`."""
    # Shifting a negative number leaves -1, so one test covers both ends.
    if number >> bits:
        raise InvalidValue(f"{field} is {number}; allowed are 0 to 2**{bits} - 1")
    return number.to_bytes(WORD, "big")


def address(value: bytes, field: str) -> bytes:
    """An address of 20 bytes as one word."""
    if len(value) != 20:
        wrong_length(value, 20, field)
    return b"\0\0\0\0\0\0\0\0\0\0\0\0" + value


def bytes32(value: bytes, field: str) -> bytes:
    """32 bytes as they are, checked for length."""
    if len(value) != WORD:
        wrong_length(value, WORD, field)
    return value


def wrong_length(value: bytes, allowed: int, field: str) -> NoReturn:
    """Raise `InvalidValue` for bytes of another length than `allowed`."""
    shown = value[:40].hex() + ("…" if len(value) > 40 else "")
    raise InvalidValue(f"{field} has {len(value)} bytes (0x{shown}); it must have {allowed}")


def dynamic_bytes(value: bytes) -> bytes:
    """Body of a `bytes` or `string`: its length, itself, and zeros up to a whole word."""
    length = len(value)
    return length.to_bytes(32, "big") + value + bytes(-length % WORD)


def dynamic_array(bodies: Sequence[bytes]) -> bytes:
    """Body of an array whose items are dynamic: count, offsets counted from after the count, bodies."""
    count = len(bodies)
    if count == 1:
        return b"".join((TRUE, OFFSET_OF_ONLY_ARGUMENT, bodies[0]))  # the words 1 and 0x20
    offset = WORD * count
    parts = [count.to_bytes(32, "big")]
    for body in bodies:
        parts.append(offset.to_bytes(32, "big"))
        offset += len(body)
    parts += bodies
    return b"".join(parts)


@lru_cache(maxsize=512)
def equal_array_head(count: int, item_size: int) -> bytes:
    """Count and offsets of an array of `count` dynamic items that all encode to `item_size` bytes."""
    first = WORD * count
    return b"".join([word(count), *(word(first + item_size * index) for index in range(count))])


def group_slots(slots: Sequence[OutcomeSlot]) -> list[tuple[bytes, list[OutcomeSlot]]]:
    """Slots by asset, in their order; raises `InvalidValue` when the slots of one asset do not stand together."""
    groups: list[tuple[bytes, list[OutcomeSlot]]] = []
    for slot in slots:
        if not groups or groups[-1][0] != slot[0]:
            if any(asset == slot[0] for asset, _ in groups):
                raise InvalidValue(f"outcome slots of asset 0x{slot[0].hex()} do not stand together")
            groups.append((slot[0], []))
        groups[-1][1].append(slot)
    return groups


def _slot_segments(slots: Sequence[OutcomeSlot]) -> tuple[bytes, ...]:
    """The outcome's encoding cut at its amounts: one piece more than there are slots."""
    groups = group_slots(slots)
    heads = [
        address(asset, "asset") + PLAIN_EXIT_TAIL + equal_array_head(len(group), SIMPLE_ALLOCATION_BYTES)
        for asset, group in groups
    ]
    offset = WORD * len(groups)
    current = [word(len(groups))]
    for head, (_, group) in zip(heads, groups, strict=True):
        current.append(word(offset))
        offset += len(head) + SIMPLE_ALLOCATION_BYTES * len(group)
    segments = []
    for head, (_, group) in zip(heads, groups, strict=True):
        current.append(head)
        for _, destination, _ in group:
            segments.append(b"".join((*current, bytes32(destination, "destination"))))
            current = [SIMPLE_ALLOCATION_TAIL]
    return (*segments, b"".join(current))


class StateHasher:
    """`slots` are (asset, destination, amount), those of one asset together; the amounts given here are not used.

    One object may be shared by threads. Raises `InvalidValue` for a slot or channel id of the wrong shape."""

    __slots__ = ("_cached", "_channel", "_head", "_segments")

    def __init__(self, channel: ChannelId, slots: Sequence[OutcomeSlot]) -> None:
        self._channel = bytes32(channel, "channel id")
        self._segments = _slot_segments(slots)
        zeros = (0,) * len(slots)
        # Pairs replaced as a whole, so that a thread never sees one half of a new pair and one of an old.
        self._cached: tuple[tuple[int, ...], bytes] = (zeros, self._outcome_body(zeros))
        self._head: tuple[int, bytes, bytes, bytes] = self._head_for(0)

    def encode(self, app_data: bytes, amounts: Sequence[int], turn: int, is_final: bool) -> bytes:
        """The same bytes as `state.encode_state` for the outcome of the slots with `amounts`, one per slot."""
        if turn >> TURN_BITS:
            uint(turn, TURN_BITS, "turn")
        cached_amounts, body = self._cached
        if amounts is not cached_amounts:
            wanted = tuple(amounts)
            if wanted != cached_amounts:
                body = self._outcome_body(wanted)
            self._cached = (wanted, body)
        length, head, length_word, padding = self._head
        if length != len(app_data):
            self._head = length, head, length_word, padding = self._head_for(len(app_data))
        final = TRUE if is_final else FALSE
        return b"".join((head, turn.to_bytes(32, "big"), final, length_word, app_data, padding, body))

    def hash(self, app_data: bytes, amounts: Sequence[int], turn: int, is_final: bool) -> Hash:
        """The state hash to sign; raises `InvalidValue` for a number outside its field or a wrong count of amounts."""
        return keccak256(self.encode(app_data, amounts, turn, is_final))

    def _head_for(self, length: int) -> tuple[int, bytes, bytes, bytes]:
        padding = bytes(-length % WORD)
        outcome_offset = word(STATE_HEAD_BYTES + WORD + length + len(padding))
        return length, self._channel + STATE_APP_DATA_OFFSET + outcome_offset, word(length), padding

    def _outcome_body(self, amounts: tuple[int, ...]) -> bytes:
        segments = self._segments
        if len(amounts) != len(segments) - 1:
            raise InvalidValue(f"{len(amounts)} amounts for {len(segments) - 1} outcome slots")
        parts = [segments[0]]
        for index, amount in enumerate(amounts, 1):
            if amount >> 256:
                uint(amount, 256, "amount")
            parts += (amount.to_bytes(32, "big"), segments[index])
        return b"".join(parts)
