"""Channel ids, the rules of a fixed part, the status word, and signer masks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scapp.channels import state
from scapp.channels.abi import InvalidValue
from scapp.channels.addresses import checksum_address, parse_address, peer_id
from scapp.channels.adjudicator_status import (
    NO_STATE_FINGERPRINT,
    Mode,
    Status,
    pack_status,
    unpack_status,
)
from scapp.channels.errors import ScappError
from scapp.channels.state import FixedPart, channel_id, check_fixed_part, signer_count, signer_indices

ALICE, BOB, APP = b"\xaa" * 20, b"\xbb" * 20, b"\x5e" * 20
GOOD = FixedPart((ALICE, BOB), 7, APP, 60)


def many(count: int) -> tuple[bytes, ...]:
    """Distinct participants."""
    return tuple(index.to_bytes(20, "big") for index in range(1, count + 1))


def test_a_good_fixed_part_has_its_id():
    """255 participants and the greatest numbers included."""
    assert check_fixed_part(GOOD) == channel_id(GOOD)
    check_fixed_part(FixedPart(many(255), 2**64 - 1, bytes(20), 2**32 - 1))


BAD = {
    "nobody": (FixedPart((), 0, APP, 60), "0 participants"),
    "256 participants": (FixedPart(many(256), 0, APP, 60), "256 participants; allowed are 1 to 255"),
    "Alice twice": (FixedPart((ALICE, BOB, ALICE), 0, APP, 60), f"0x{ALICE.hex()} appears more than once"),
    "33 bits of duration": (FixedPart((ALICE, BOB), 0, APP, 2**32), "challenge duration is 4294967296"),
    "negative duration": (FixedPart((ALICE, BOB), 0, APP, -1), "challenge duration is -1"),
    "65 bits of nonce": (FixedPart((ALICE, BOB), 2**64, APP, 60), "channel nonce"),
    "short participant": (FixedPart((ALICE, b"\x01"), 0, APP, 60), "participant has 1 bytes"),
    "long app": (FixedPart((ALICE, BOB), 0, bytes(32), 60), "app definition has 32 bytes"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_channel_that_cannot_work_is_refused(case):
    """With the value found and the value allowed; an expected error, and a ValueError for decoders."""
    fixed, reason = BAD[case]
    with pytest.raises(InvalidValue, match=reason) as caught:
        check_fixed_part(fixed)
    assert isinstance(caught.value, ScappError)
    assert isinstance(caught.value, ValueError)


def test_an_id_that_looks_like_an_address_is_refused(monkeypatch):
    """Nobody can find one, so keccak256 is replaced; the bytes before the last twenty decide."""
    monkeypatch.setattr(state, "keccak256", lambda _: bytes(12) + b"\x01" * 20)
    with pytest.raises(InvalidValue, match="twelve zero bytes"):
        channel_id(GOOD)
    monkeypatch.setattr(state, "keccak256", lambda _: bytes(11) + b"\x01" * 21)
    assert channel_id(GOOD) == bytes(11) + b"\x01" * 21


@given(st.integers(0, 2**48 - 1), st.integers(0, 2**48 - 1), st.binary(min_size=20, max_size=20))
def test_status_words_unpack_to_what_was_packed(turn, finalizes_at, fingerprint):
    """48, 48 and 160 bits."""
    status = Status(turn, finalizes_at, fingerprint)
    word = pack_status(status)
    assert int.from_bytes(word, "big") == turn << 208 | finalizes_at << 160 | int.from_bytes(fingerprint, "big")
    assert unpack_status(word) == status


@pytest.mark.parametrize("status", [Status(2**48, 0, bytes(20)), Status(0, -1, bytes(20)), Status(0, 0, bytes(32))])
def test_what_does_not_fit_a_status_word_is_refused(status):
    """Nothing spills into a neighbouring field."""
    with pytest.raises(InvalidValue):
        pack_status(status)


def test_a_status_word_has_32_bytes():
    """Not 31."""
    with pytest.raises(InvalidValue, match="31"):
        unpack_status(bytes(31))


def test_modes_follow_the_block_timestamp():
    """Finalized from the very second on; an untouched channel is open."""
    assert unpack_status(bytes(32)).mode(10**9) is Mode.OPEN
    challenged = Status(3, 100, bytes(20))
    assert [challenged.mode(now) for now in (99, 100, 101)] == [Mode.CHALLENGE, Mode.FINALIZED, Mode.FINALIZED]


def test_the_fingerprint_after_a_checkpoint():
    """The constant of section 4.2."""
    assert NO_STATE_FINGERPRINT.hex() == "3f17f1962b36e491b30a40b2405849e597ba5fb5"


@given(st.sets(st.integers(0, 254)))
def test_signer_masks_list_their_bits(indices):
    """Bit i is participant i."""
    mask = sum(1 << index for index in indices)
    assert signer_indices(mask) == tuple(sorted(indices))
    assert signer_count(mask) == len(indices)


def test_a_negative_mask_is_refused():
    """It would have endless bits."""
    with pytest.raises(InvalidValue, match="-1"):
        signer_indices(-1)


@given(st.binary(min_size=20, max_size=20))
def test_addresses_read_back_from_any_case(address):
    """Checksummed, lower and upper case."""
    text = checksum_address(address)
    assert parse_address(text) == parse_address(text.lower()) == parse_address("0x" + text[2:].upper()) == address


CHECKSUMMED = "0xAAA6628Ec44A8a742987EF3A114dDFE2D4F7aDCE"
NO_ADDRESSES = ["", "0x", CHECKSUMMED[2:], CHECKSUMMED[:-1], CHECKSUMMED + "0", "0X" + CHECKSUMMED[2:],
                CHECKSUMMED[:-1] + "g", CHECKSUMMED[:-2] + " e", CHECKSUMMED.replace("c", "C")]  # fmt: skip


@pytest.mark.parametrize("text", NO_ADDRESSES)
def test_texts_that_are_no_addresses_are_refused(text):
    """Wrong length, digits or checksum."""
    with pytest.raises(InvalidValue, match=r"address|checksum"):
        parse_address(text)


def test_texts_of_other_lengths_have_no_address():
    """Neither way round."""
    with pytest.raises(InvalidValue, match="21"):
        checksum_address(bytes(21))
    with pytest.raises(InvalidValue, match="65"):
        peer_id(bytes(65))
