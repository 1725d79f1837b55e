"""The specialised ABI encoder: byte-equal to eth_abi on everything allowed, an error on everything else."""

from __future__ import annotations

from typing import Any

import eth_abi
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scapp.channels import abi
from scapp.channels.abi import InvalidValue, StateHasher
from scapp.channels.adjudicator_status import encode_fingerprint
from scapp.channels.app_data import AppData, decode_app_data, encode_app_data
from scapp.channels.outcome import (
    Allocation,
    AssetMetadata,
    Outcome,
    SingleAssetExit,
    encode_outcome,
    guarantee_metadata,
    outcome_of_slots,
)
from scapp.channels.state import (
    FixedPart,
    VariablePart,
    encode_challenge_message,
    encode_fixed_part,
    encode_redemption,
    encode_state,
    encode_voucher,
    state_hash,
)

EXIT = "(address,(uint8,bytes),(bytes32,uint256,uint8,bytes)[])[]"

addresses = st.binary(min_size=20, max_size=20)
words = st.binary(min_size=32, max_size=32)
u256 = st.one_of(st.integers(0, 2**256 - 1), st.sampled_from([0, 1, 2**255, 2**256 - 1]))
u64 = st.integers(0, 2**64 - 1)
u48 = st.integers(0, 2**48 - 1)
u8 = st.integers(0, 255)
blobs = st.binary(max_size=100)
simple = st.builds(Allocation, words, u256)
allocations = st.one_of(
    st.lists(simple, max_size=5), st.lists(st.builds(Allocation, words, u256, u8, blobs), max_size=5)
).map(tuple)
metadata = st.one_of(st.just(AssetMetadata()), st.builds(AssetMetadata, u8, blobs))
outcomes = st.lists(st.builds(SingleAssetExit, addresses, allocations, metadata), max_size=4).map(tuple)


def plain(outcome: Outcome) -> list[Any]:
    """An outcome as eth_abi wants it."""
    return [
        (
            exit_.asset,
            (exit_.metadata.asset_type, exit_.metadata.metadata),
            [(a.destination, a.amount, a.allocation_type, a.metadata) for a in exit_.allocations],
        )
        for exit_ in outcome
    ]


@given(outcomes)
def test_outcomes_encode_as_by_eth_abi(outcome):
    """`abi.encode(Exit[])`, with and without metadata, guarantees and empty lists."""
    assert encode_outcome(outcome) == eth_abi.encode([EXIT], [plain(outcome)])


@given(words, outcomes, blobs, u48, st.booleans())
def test_states_encode_as_by_eth_abi(channel, outcome, app_data, turn, is_final):
    """The preimage of the state hash: app data before the outcome."""
    expected = eth_abi.encode(
        ["bytes32", "bytes", EXIT, "uint48", "bool"], [channel, app_data, plain(outcome), turn, is_final]
    )
    assert encode_state(channel, VariablePart(outcome, app_data, turn, is_final)) == expected


@given(st.lists(addresses, max_size=6), u64, addresses, u48)
def test_fixed_parts_encode_as_by_eth_abi(participants, nonce, app, duration):
    """The preimage of the channel id."""
    expected = eth_abi.encode(["address[]", "uint64", "address", "uint48"], [participants, nonce, app, duration])
    assert encode_fixed_part(FixedPart(tuple(participants), nonce, app, duration)) == expected


@given(words, words, u256, st.sampled_from([27, 28]))
def test_small_tuples_encode_as_by_eth_abi(first, second, amount, v):
    """Voucher, redemption, challenge message, fingerprint and guarantee metadata."""
    assert encode_voucher(first, amount) == eth_abi.encode(["bytes32", "uint256"], [first, amount])
    redemption = eth_abi.encode(["uint256", "(uint8,bytes32,bytes32)"], [amount, (v, first, second)])
    assert encode_redemption(amount, first + second + bytes([v])) == redemption
    assert encode_challenge_message(first) == eth_abi.encode(["bytes32", "string"], [first, "forceMove"])
    assert encode_fingerprint(first, second) == eth_abi.encode(["bytes32", "bytes32"], [first, second])
    assert guarantee_metadata(first, second) == eth_abi.encode(["(bytes32,bytes32)"], [(first, second)])


@given(words, u64, words, words, u64)
def test_app_data_encodes_as_by_eth_abi_and_reads_back(deployment, sequence, log_root, state_root, time_ms):
    """The commitments of an app channel."""
    types = ["uint8", "bytes32", "uint64", "bytes32", "bytes32", "uint64"]
    encoded = encode_app_data(deployment, sequence, log_root, state_root, time_ms)
    assert encoded == eth_abi.encode(types, [1, deployment, sequence, log_root, state_root, time_ms])
    assert decode_app_data(encoded) == AppData(deployment, sequence, log_root, state_root, time_ms)


@given(st.binary(max_size=250))
def test_app_data_reads_nothing_else(data):
    """Whatever the decoder accepts, the encoder writes exactly so."""
    try:
        decoded = decode_app_data(data)
    except InvalidValue:
        return
    assert encode_app_data(*(getattr(decoded, name) for name in AppData.__struct_fields__)) == data


@pytest.mark.parametrize("position", [0, 30, 64, 87, 160, 183])
def test_app_data_with_bits_above_its_fields_is_refused(position):
    """Another version, or a number above 64 bits, is not app data of this node."""
    data = bytearray(encode_app_data(bytes(32), 1, bytes(32), bytes(32), 2))
    data[position] |= 0x80
    with pytest.raises(InvalidValue, match=r"version|above"):
        decode_app_data(bytes(data))


WORD = bytes(32)
ONE = Allocation(WORD, 1)


def exit_with(**changes: Any) -> Outcome:
    """An outcome of one asset and one allocation with some field changed."""
    asset = changes.pop("asset", bytes(20))
    asset_metadata = AssetMetadata(changes.pop("asset_type", 0))
    fields = {"destination": WORD, "amount": 1, "allocation_type": 0, "metadata": b"", **changes}
    return (SingleAssetExit(asset, (Allocation(**fields),), asset_metadata),)


OUT_OF_RANGE = {
    "amount below zero": lambda: encode_outcome(exit_with(amount=-1)),
    "amount of 257 bits": lambda: encode_outcome(exit_with(amount=2**256)),
    "amount below zero, with metadata": lambda: encode_outcome(exit_with(amount=-1, metadata=b"m")),
    "amount of 257 bits, with metadata": lambda: encode_outcome(exit_with(amount=2**256, metadata=b"m")),
    "allocation type 256": lambda: encode_outcome(exit_with(allocation_type=256)),
    "allocation type -1": lambda: encode_outcome(exit_with(allocation_type=-1)),
    "asset type 256": lambda: encode_outcome(exit_with(asset_type=256)),
    "asset of 19 bytes": lambda: encode_outcome(exit_with(asset=bytes(19))),
    "asset of 32 bytes": lambda: encode_outcome(exit_with(asset=WORD)),
    "destination of 20 bytes": lambda: encode_outcome(exit_with(destination=bytes(20))),
    "destination of 33 bytes, with metadata": lambda: encode_outcome(exit_with(destination=bytes(33), metadata=b"m")),
    "turn below zero": lambda: encode_state(WORD, VariablePart((), b"", -1, False)),
    "turn of 49 bits": lambda: encode_state(WORD, VariablePart((), b"", 2**48, False)),
    "channel id of 31 bytes": lambda: encode_state(bytes(31), VariablePart((), b"", 0, False)),
    "nonce of 65 bits": lambda: encode_fixed_part(FixedPart((), 2**64, bytes(20), 0)),
    "nonce below zero": lambda: encode_fixed_part(FixedPart((), -1, bytes(20), 0)),
    "duration of 49 bits": lambda: encode_fixed_part(FixedPart((), 0, bytes(20), 2**48)),
    "app of 21 bytes": lambda: encode_fixed_part(FixedPart((), 0, bytes(21), 0)),
    "participant of 32 bytes": lambda: encode_fixed_part(FixedPart((WORD,), 0, bytes(20), 0)),
    "voucher below zero": lambda: encode_voucher(WORD, -1),
    "voucher of 257 bits": lambda: encode_voucher(WORD, 2**256),
    "voucher for 20 bytes": lambda: encode_voucher(bytes(20), 1),
    "redemption with 64 bytes of signature": lambda: encode_redemption(1, bytes(64)),
    "state hash of 33 bytes": lambda: encode_challenge_message(bytes(33)),
    "outcome hash of 31 bytes": lambda: encode_fingerprint(WORD, bytes(31)),
    "left of 31 bytes": lambda: guarantee_metadata(bytes(31), WORD),
    "deployment of 31 bytes": lambda: encode_app_data(bytes(31), 0, WORD, WORD, 0),
    "log root of 33 bytes": lambda: encode_app_data(WORD, 0, bytes(33), WORD, 0),
    "state root of 0 bytes": lambda: encode_app_data(WORD, 0, WORD, b"", 0),
    "sequence of 65 bits": lambda: encode_app_data(WORD, 2**64, WORD, WORD, 0),
    "sequence below zero": lambda: encode_app_data(WORD, -1, WORD, WORD, 0),
    "time of 65 bits": lambda: encode_app_data(WORD, 0, WORD, WORD, 2**64),
    "app data of 191 bytes": lambda: decode_app_data(bytes(191)),
}


@pytest.mark.parametrize("case", OUT_OF_RANGE)
def test_what_does_not_fit_its_field_is_refused(case):
    """No encoding, and so no hash, of a value that the contract would read as another."""
    with pytest.raises(InvalidValue, match=r"\d"):
        OUT_OF_RANGE[case]()


# --- the prepared encoder of an app channel --------------------------------------------------------------------------


@st.composite
def slotted(draw):
    """Slots of up to three assets and, for them, amounts of some states."""
    assets = draw(st.lists(addresses, unique=True, max_size=3))
    slots = [(asset, draw(words), 0) for asset in assets for _ in range(draw(st.integers(1, 3)))]
    states = st.tuples(st.binary(max_size=200), st.tuples(*[u256] * len(slots)), u48, st.booleans())
    return slots, draw(st.lists(states, min_size=1, max_size=4))


@given(words, slotted())
def test_the_prepared_encoder_equals_the_general_one(channel, case):
    """Whatever came before: caches of amounts and of the app data's length never show."""
    slots, states = case
    hasher = StateHasher(channel, slots)
    for app_data, amounts, turn, is_final in [*states, *reversed(states)]:
        variable = VariablePart(outcome_of_slots(slots, amounts), app_data, turn, is_final)
        assert hasher.encode(app_data, amounts, turn, is_final) == encode_state(channel, variable)
        assert hasher.hash(app_data, list(amounts), turn, is_final) == state_hash(channel, variable)


def test_a_list_of_amounts_changed_in_place_is_seen():
    """The cache compares values where the caller could change them."""
    slots, amounts = [(bytes(20), WORD, 0), (bytes(20), WORD, 0)], [1, 2]
    hasher = StateHasher(WORD, slots)
    first = hasher.hash(b"", amounts, 2, False)
    amounts[0], amounts[1] = 2, 1
    assert hasher.hash(b"", amounts, 2, False) != first
    assert hasher.hash(b"", (1, 2), 2, False) == first


SLOTS = [(bytes(20), WORD, 0)]
HASHER = {
    "amount below zero": lambda: StateHasher(WORD, SLOTS).hash(b"", (-1,), 0, False),
    "amount of 257 bits": lambda: StateHasher(WORD, SLOTS).hash(b"", (2**256,), 0, False),
    "too many amounts": lambda: StateHasher(WORD, SLOTS).hash(b"", (1, 1), 0, False),
    "too few amounts": lambda: StateHasher(WORD, SLOTS).hash(b"", (), 0, False),
    "turn of 49 bits": lambda: StateHasher(WORD, SLOTS).hash(b"", (1,), 2**48, False),
    "turn below zero": lambda: StateHasher(WORD, SLOTS).hash(b"", (1,), -1, False),
    "channel id of 20 bytes": lambda: StateHasher(bytes(20), SLOTS),
    "asset of 21 bytes": lambda: StateHasher(WORD, [(bytes(21), WORD, 0)]),
    "destination of 20 bytes": lambda: StateHasher(WORD, [(bytes(20), bytes(20), 0)]),
    "an asset's slots apart": lambda: StateHasher(WORD, [(bytes([a] * 20), WORD, 0) for a in (0, 1, 0)]),
    "the same for the general way": lambda: outcome_of_slots([(bytes([a] * 20), WORD, 0) for a in (0, 1, 0)], (1,) * 3),
    "a count for the general way": lambda: outcome_of_slots(SLOTS, ()),
}


@pytest.mark.parametrize("case", HASHER)
def test_the_prepared_encoder_checks_ranges_too(case):
    """The fast way is no way around the checks."""
    with pytest.raises(InvalidValue, match=r"\d"):
        HASHER[case]()


def test_a_refused_state_leaves_the_prepared_encoder_as_it_was():
    """An error in between does not poison the caches."""
    hasher = StateHasher(WORD, SLOTS)
    before = hasher.hash(b"abc", (5,), 1, False)
    with pytest.raises(InvalidValue):
        hasher.hash(b"abcd", (2**256,), 1, False)
    assert hasher.hash(b"abc", (5,), 1, False) == before


def test_errors_show_the_value_and_what_was_allowed():
    """A long value is cut."""
    with pytest.raises(InvalidValue, match=r"turn is 281474976710656; allowed are 0 to 2\*\*48 - 1"):
        abi.uint(2**48, 48, "turn")
    with pytest.raises(InvalidValue, match=r"asset has 100 bytes \(0x(00){40}…\); it must have 20"):
        abi.address(bytes(100), "asset")
