"""A checkpointed state is found in calldata, and only when all its participants signed it."""

from __future__ import annotations

import random

import msgspec
import pytest

from scapp.channels.chain.calls import Checkpoint, Conclude, encode_call, selector_of
from scapp.channels.chain.hints import ATTEMPTS_MAX, CALLDATA_BYTES_MAX, checkpointed_in
from scapp.channels.chain.judging import state_hash_of
from scapp.channels.curve import ORDER
from scapp.channels.signing import Signer
from tests.support import chain_stories as story

STATE = story.state(7, story.outcome(3, 2))
DIRECT = encode_call(Checkpoint((), STATE))


def high_s(signature: bytes) -> bytes:
    s = ORDER - int.from_bytes(signature[32:64], "big")
    return signature[:32] + s.to_bytes(32, "big") + bytes((55 - signature[64],))


def look(calldata: bytes):
    found = checkpointed_in(calldata, story.channel(), 7, {})
    return found[0] if found is not None else None


def call_with(**changes: object) -> bytes:
    return encode_call(Checkpoint((), msgspec.structs.replace(STATE, **changes)))


@pytest.mark.parametrize("before", [b"", b"\x01\x02\x03", selector_of(Checkpoint) * 3, b"\xff" * 1001])
@pytest.mark.parametrize("after", [b"", b"\x00" * 28, b"\xff" * 1001])
def test_a_call_is_found_wherever_it_stands(before, after):
    """Direct, and at any byte of the calldata of a call around it."""
    assert look(before + DIRECT + after) == STATE


def test_signatures_count_in_any_form_that_the_contract_takes():
    """Another order, a high s, a stranger's among them."""
    first, second = STATE.signatures
    stranger = Signer(b"\x0d" * 32).sign(state_hash_of(STATE))
    for signatures in ((second, first), (high_s(first), second), (stranger, first, second)):
        assert look(call_with(signatures=signatures)) is not None


@pytest.mark.parametrize(
    "false",
    [
        call_with(signatures=STATE.signatures[:1]),
        call_with(signatures=STATE.signatures[:1] * 2),
        call_with(signatures=(STATE.signatures[0], b"\x00" * 64 + b"\x1b")),
        call_with(app_data=b"other"),
        call_with(nonce=2),
        call_with(participants=()),
        encode_call(Checkpoint((), story.state(8, story.outcome(3, 2)))),
        encode_call(Checkpoint((), story.state(7, story.outcome(3, 2), nonce=2))),
        encode_call(Conclude(STATE)),
        DIRECT[:-1],
        b"",
    ],
)
def test_what_proves_nothing_is_no_hint(false):
    """Alone, and in front of the true one, which is found all the same."""
    assert look(false) is None
    assert look(false + DIRECT) == STATE


def test_the_work_is_bounded():
    """Beyond so many places and so many bytes nothing is looked for."""
    assert look(selector_of(Checkpoint) * ATTEMPTS_MAX + DIRECT) is None
    assert look(b"\x00" * CALLDATA_BYTES_MAX + DIRECT) is None


def test_any_bytes_are_survived(seed):
    """Cut, changed and repeated calldata of a checkpoint."""
    draw = random.Random(seed)
    for _ in range(500):
        data = bytearray(DIRECT)
        for _ in range(draw.randrange(1, 6)):
            data[draw.randrange(4, len(data))] = draw.choice((0, 1, 0x20, 0x7F, 0xFF, draw.randrange(256)))
        found = look(bytes(data[: draw.choice((len(data), draw.randrange(len(data))))]))
        assert found is None or (found.turn, found.outcome) == (7, STATE.outcome)
