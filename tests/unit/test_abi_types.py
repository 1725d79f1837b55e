"""ABI by type: equal to eth_abi on everything it encodes, and safe on everything that comes from strangers."""

from __future__ import annotations

import eth_abi
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scapp.channels.abi import InvalidValue
from scapp.channels.abi_types import AbiType, decode, encode, parse, selector, topic
from scapp.channels.chain import contracts
from scapp.channels.chain.calls import FUNCTIONS, TransferTokens
from scapp.channels.chain.contract_events import DATA, TOPICS
from scapp.channels.crypto import keccak256
from tests.chain.interface import type_of

TYPES = ["uint8", "uint48", "uint256", "bool", "address", "bytes32", "bytes", "string"]


def values(kind: AbiType):
    """Values of a type."""
    match kind.kind:
        case "uint":
            return st.integers(0, 2**kind.bits - 1)
        case "bool":
            return st.booleans()
        case "address":
            return st.binary(min_size=20, max_size=20)
        case "bytes32":
            return st.binary(min_size=32, max_size=32)
        case "bytes" | "string":
            return st.binary(max_size=70)
        case "[]":
            return st.lists(values(kind.items[0]), max_size=3).map(tuple)
        case _:
            return st.tuples(*map(values, kind.items))


@st.composite
def typed(draw):
    """A tuple type, written out, with values."""
    types = st.recursive(
        st.sampled_from(TYPES),
        lambda inner: st.one_of(
            inner.map(lambda item: f"{item}[]"),
            st.lists(inner, min_size=1, max_size=3).map(lambda items: f"({','.join(items)})"),
        ),
        max_leaves=5,
    )
    text = f"({','.join(draw(st.lists(types, min_size=1, max_size=4)))})"
    return text, draw(values(parse(text)))


@given(typed())
def test_it_is_the_usual_encoding_and_comes_back(case):
    """Compared with eth_abi, strings apart, which are bytes here."""
    text, value = case
    encoded = encode(text, value)
    assert decode(text, encoded) == value
    if "string" not in text:
        assert encoded == eth_abi.encode([text], [value])[32 if parse(text).dynamic else 0 :]


@given(typed(), st.data())
def test_changed_bytes_are_refused_or_give_values(case, data):
    """Nothing but InvalidValue is raised, and no more is made than there are bytes."""
    text, value = case
    encoded = bytearray(encode(text, value))
    for _ in range(data.draw(st.integers(1, 4))):
        if encoded:
            at = data.draw(st.integers(0, len(encoded) - 1))
            encoded[at] = data.draw(st.sampled_from([0, 1, 2, 32, 64, 255]))
    try:
        decode(text, bytes(encoded[: data.draw(st.integers(0, len(encoded)))]))
    except InvalidValue:
        return


def test_bodies_that_overlap_do_not_multiply_the_work():
    """A list of lists that all are the same bytes: refused, not expanded."""
    count = 500
    inner = count.to_bytes(32, "big") + bytes(32 * count)
    heads = (32 * count).to_bytes(32, "big") * count
    with pytest.raises(InvalidValue, match="again and again"):
        decode("(uint256[][])", (32).to_bytes(32, "big") + count.to_bytes(32, "big") + heads + inner)


@pytest.mark.parametrize(
    ("types", "data"),
    [
        ("(uint8)", (256).to_bytes(32, "big")),
        ("(bool)", (2).to_bytes(32, "big")),
        ("(address)", b"\x01" + bytes(31)),
        ("(uint256)", bytes(31)),
        ("(bytes)", (32).to_bytes(32, "big") + (33).to_bytes(32, "big") + bytes(32)),
        ("(bytes)", b"\xff" * 32),
        ("(uint256[])", (32).to_bytes(32, "big") + b"\xff" * 32),
    ],
)
def test_what_no_values_encode_to_is_refused(types, data):
    """Fields outside their type, and lengths beyond the end."""
    with pytest.raises(InvalidValue):
        decode(types, data)


def test_values_outside_their_type_are_not_encoded():
    """Numbers, lengths, and tuples with too many or few values."""
    for types, value in (("(uint8)", 256), ("(uint8)", -1), ("(address)", b"\x01"), ("(bytes32)", b"")):
        with pytest.raises(InvalidValue):
            encode(types, (value,))
    with pytest.raises(InvalidValue, match="2 values for a tuple of 1"):
        encode("(uint8)", (1, 2))
    with pytest.raises(ValueError, match="no ABI type"):
        parse("uint")


def test_calls_and_events_are_those_of_the_compiled_contracts():
    """Every function and event known here is in the contracts' ABI, with these types."""
    items = [item for name in ("NitroAdjudicator", "Token", "HashLockPaymentApp") for item in contracts.load(name).abi]
    known = {(item["name"], f"({','.join(map(type_of, item['inputs']))})") for item in items if "name" in item}
    assert set(FUNCTIONS.values()) <= known
    assert {(kind.__name__, f"(bytes32,{types[1:]}") for kind, types in DATA.items()} <= known
    assert selector(*FUNCTIONS[TransferTokens]).hex() == "a9059cbb"
    assert TOPICS.keys() == DATA.keys()
    assert topic("Transfer", "(address,address,uint256)") == keccak256(b"Transfer(address,address,uint256)")
