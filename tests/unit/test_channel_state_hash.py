"""The prepared hasher of a channel's states against the general encoding, value by value."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scapp.channels.abi import InvalidValue, StateHasher
from scapp.channels.app_data import encode_app_data
from scapp.channels.channel.events import Signed
from scapp.channels.channel.state_hash import AppStateHasher
from scapp.channels.types import ChannelId

CHANNEL, DEPLOYMENT = ChannelId(b"\x01" * 32), b"\x02" * 32
SLOTS = [(bytes(20), b"\x03" * 32, 0), (b"\x04" * 20, b"\x05" * 32, 0)]
words = st.binary(min_size=32, max_size=32)
states = st.builds(
    Signed,
    turn=st.integers(0, 2**48 - 1),
    is_final=st.booleans(),
    entries=st.just(()),
    sequence=st.integers(0, 2**64 - 1),
    log_root=words,
    state_root=words,
    amounts=st.sampled_from((bytes(64), bytes(63) + b"\x01")) | st.binary(min_size=64, max_size=64),
    time_ms=st.integers(0, 2**64 - 1),
    signatures=st.just(()),
    last=st.just(()),
)
PLAIN = Signed(2, False, (), 3, b"\x06" * 32, b"\x07" * 32, bytes(64), 4, (), ())


def general(state: Signed) -> bytes:
    app_data = encode_app_data(DEPLOYMENT, state.sequence, state.log_root, state.state_root, state.time_ms)
    amounts = int.from_bytes(state.amounts[:32], "big"), int.from_bytes(state.amounts[32:], "big")
    return StateHasher(CHANNEL, SLOTS).hash(app_data, amounts, state.turn, state.is_final)


@given(st.lists(states, min_size=1, max_size=4))
def test_it_equals_the_general_encoding_whatever_came_before(several: list[Signed]) -> None:
    hasher = AppStateHasher(CHANNEL, DEPLOYMENT, SLOTS)
    for state in [*several, *reversed(several)]:
        assert hasher.hash(state) == general(state)


WRONG = {
    "turn": (-1, 2**48),
    "sequence": (-1, 2**64),
    "time_ms": (-1, 2**64),
    "log_root": (bytes(31), bytes(33)),
    "state_root": (b"", bytes(64)),
    "amounts": (b"", bytes(32), bytes(96)),
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in WRONG.items() for value in values])
def test_a_value_outside_its_field_is_refused_and_changes_nothing(field: str, value: object) -> None:
    hasher = AppStateHasher(CHANNEL, DEPLOYMENT, SLOTS)
    for prepared in (PLAIN, msgspec.structs.replace(PLAIN, amounts=b"\x01" * 64)):
        before = hasher.hash(prepared)
        with pytest.raises(InvalidValue, match=r"\d"):
            hasher.hash(msgspec.structs.replace(prepared, **{field: value}))
        assert hasher.hash(prepared) == before == general(prepared)
