"""go-nitro's JSON: round trips, and a clear refusal of everything that is not one."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scapp.channels.abi import InvalidValue
from scapp.channels.nitro_json import (
    SignedState,
    Voucher,
    read_outcome,
    read_signed_state,
    read_voucher,
    write_outcome,
    write_signed_state,
    write_voucher,
)
from scapp.channels.outcome import Allocation, AssetMetadata, SingleAssetExit
from scapp.channels.state import FixedPart, VariablePart

words = st.binary(min_size=32, max_size=32)
addresses = st.binary(min_size=20, max_size=20)
u256 = st.integers(0, 2**256 - 1)
blobs = st.binary(max_size=40)
allocations = st.builds(Allocation, words, u256, st.integers(0, 255), blobs)
exits = st.builds(
    SingleAssetExit,
    addresses,
    st.lists(allocations, max_size=3).map(tuple),
    st.builds(AssetMetadata, st.integers(0, 255), blobs),
)
outcomes = st.lists(exits, max_size=3).map(tuple)
signatures = st.one_of(st.just(b""), st.binary(min_size=65, max_size=65).filter(any))


@st.composite
def signed_states(draw):
    """States with some of their participants' signatures."""
    participants = tuple(draw(st.lists(addresses, min_size=1, max_size=12)))
    fixed = FixedPart(participants, draw(st.integers(0, 2**64 - 1)), draw(addresses), draw(st.integers(0, 2**32 - 1)))
    variable = VariablePart(draw(outcomes), draw(blobs), draw(st.integers(0, 2**48 - 1)), draw(st.booleans()))
    indices = st.integers(0, len(participants) - 1)
    return SignedState(fixed, variable, draw(st.dictionaries(indices, signatures, max_size=12)))


@given(signed_states())
def test_signed_states_read_back(signed):
    """All fields, numbers of any size, signatures in Go's order of keys."""
    text = write_signed_state(signed)
    assert read_signed_state(text) == signed
    keys = list(json.loads(text)["Sigs"])
    assert keys == sorted(keys)


@given(outcomes)
def test_outcomes_read_back(outcome):
    """An outcome alone is go-nitro's Exit."""
    assert read_outcome(write_outcome(outcome)) == outcome


@given(words, u256, signatures)
def test_vouchers_read_back(channel, amount, signature):
    """An empty signature is written as 0x00."""
    voucher = Voucher(channel, amount, signature)
    assert read_voucher(write_voucher(voucher)) == voucher


def test_null_and_empty_both_read_as_empty():
    """Go writes nil slices as null."""
    assert read_outcome("null") == ()
    exit_ = '[{"Asset":"0x%s","AssetMetadata":{"AssetType":0,"Metadata":null},"Allocations":null}]' % ("00" * 20)
    assert read_outcome(exit_) == (SingleAssetExit(bytes(20), ()),)


STATE = json.loads(
    write_signed_state(
        SignedState(
            FixedPart((b"\xaa" * 20, b"\xbb" * 20), 1, bytes(20), 60),
            VariablePart((SingleAssetExit(bytes(20), (Allocation(bytes(32), 5),)),), b"data", 2, False),
            {0: b"\x01" * 65},
        )
    )
)


def changed(path: str, value: object) -> str:
    """The state above with one value replaced, or removed with `...`."""
    document = json.loads(json.dumps(STATE))
    *parents, last = path.split(".")
    place = document
    for name in parents:
        place = place[int(name)] if isinstance(place, list) else place[name]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return json.dumps(document)


ALLOCATION = "State.Outcome.0.Allocations.0."
BAD = [
    ("State", ...), ("State", []), ("State", "x"), ("Sigs", ...), ("Sigs", []), ("State.Participants", 5),
    ("State.Participants", ["0xaa"]), ("State.Participants", [5]), ("State.Participants", ["aa" * 20]),
    ("State.AppDefinition", "0x" + "aa " * 20), ("State.AppDefinition", "0x" + "gg" * 20),
    ("State.ChannelNonce", -1), ("State.ChannelNonce", 2**64), ("State.ChannelNonce", "1"),
    ("State.ChannelNonce", 1.0), ("State.ChannelNonce", True), ("State.ChallengeDuration", 2**32),
    ("State.TurnNum", 2**48), ("State.TurnNum", None), ("State.IsFinal", 0), ("State.IsFinal", ...),
    ("State.AppData", 5), ("State.AppData", "*"), ("State.AppData", "YQ"), ("State.Outcome", {}),
    ("State.Outcome", [5]), (ALLOCATION + "Amount", -50), (ALLOCATION + "Amount", 2**256),
    (ALLOCATION + "Amount", 5.5), (ALLOCATION + "Destination", "0x" + "00" * 20),
    (ALLOCATION + "AllocationType", 256), (ALLOCATION + "Metadata", ...),
    ("Sigs.0", "0x0102"), ("Sigs.0", 5), ("Sigs.2", "0x" + "01" * 65), ("Sigs.-1", "0x" + "01" * 65),
    ("Sigs.00", "0x" + "01" * 65), ("Sigs.x", "0x" + "01" * 65),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value"), BAD)
def test_a_wrong_field_is_refused(path, value):
    """Negative amounts above all (defect 5 of section 23)."""
    with pytest.raises(InvalidValue):
        read_signed_state(changed(path, value))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "5", b"\xff\xfe\x01", "[" * 100_000, '{"State":NaN,"Sigs":{}}']
)
def test_what_is_no_signed_state_is_refused(text):
    """Nothing but InvalidValue comes out, whatever goes in."""
    for read in (read_signed_state, read_voucher):
        with pytest.raises(InvalidValue):
            read(text)


def test_unknown_fields_are_ignored():
    """As Go's decoder does."""
    assert read_signed_state(changed("State.New", [1])) == read_signed_state(json.dumps(STATE))
