"""What nodes write is understood, whoever wrote the node."""

from __future__ import annotations

import pytest

from scapp.channels.abi_types import encode
from scapp.channels.chain.client import Unavailable
from scapp.channels.chain.rpc_answers import block_of, hexed, log_of, logs_of, number_of, receipt_of, refused_of, unhex

HASH = "0x" + "11" * 32
BLOCK = {
    "number": "0x10", "hash": HASH, "parentHash": HASH, "timestamp": "0x5", "logsBloom": "0x" + "00" * 256,
    "extraData": "0x" + "00" * 97, "baseFeePerGas": "0x7",
}  # fmt: skip
LOG = {
    "address": "0x" + "22" * 20, "topics": [HASH], "data": "0x", "blockNumber": "0x1", "blockHash": HASH,
    "transactionHash": HASH, "logIndex": "0x0", "removed": True,
}  # fmt: skip
RECEIPT = {"transactionHash": HASH, "blockNumber": "0x1", "blockHash": HASH, "status": "0x1", "gasUsed": "0x5208"}


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("execution reverted: held != expectedHeld", "reverted"),
        ("VM Exception while processing transaction: revert Channel finalized.", "reverted"),
        ("nonce too low: next nonce 5, tx nonce 4", "nonce-too-low"),
        ("OldNonce", "nonce-too-low"),
        ("already known", "known"),
        ("transaction already imported", "known"),
        ("replacement transaction underpriced", "underpriced"),
        ("insufficient funds for gas * price + value: balance 0", "funds"),
        ("query returned more than 10000 results", "too-much"),
        ("block range is too wide", "too-much"),
        ("header not found", "missing"),
        ("missing trie node 1234", "missing"),
        ("hash 1234 is not currently canonical", "missing"),
        ("execution aborted (timeout = 5s)", "reverted"),
        ("method handler crashed", "other"),
    ],
)
def test_errors_have_a_kind(message, kind):
    """By the words of geth, Nethermind, Erigon, reth, anvil and providers."""
    assert refused_of({"code": -32000, "message": message}).kind == kind


@pytest.mark.parametrize("message", ["rate limit exceeded", "Too Many Requests", "request timed out", "Internal error"])
def test_an_endpoint_in_trouble_is_not_an_answer_of_the_chain(message):
    """The next endpoint may do better."""
    with pytest.raises(Unavailable):
        refused_of({"code": -32005, "message": message})


def test_the_reason_of_a_revert_is_that_of_the_contract():
    """From the data where there is any, wherever the node puts it; else what the node says."""
    data = hexed(bytes.fromhex("08c379a0") + encode("(string)", (b"!unanimous",)))
    for given in (data, {"data": data}):
        assert str(refused_of({"code": 3, "message": "execution reverted", "data": given})) == "!unanimous"
    for given in (None, "0x", "0x08c379a0ff", 7):
        assert str(refused_of({"code": 3, "message": "execution reverted", "data": given})) == "execution reverted"
    assert refused_of("plain text").kind == "other"


def test_answers_are_read():
    """Extra fields are passed over; a chain without base fee has none; a log says when it is removed."""
    assert (block_of(BLOCK).number, block_of(BLOCK).base_fee) == (16, 7)
    assert block_of({key: value for key, value in BLOCK.items() if key != "baseFeePerGas"}).base_fee is None
    assert log_of(LOG).removed
    assert receipt_of(RECEIPT).ok
    assert receipt_of(RECEIPT | {"contractAddress": "0x" + "33" * 20}).created == b"\x33" * 20


@pytest.mark.parametrize("read", [block_of, log_of, receipt_of])
def test_what_is_no_answer_raises_value_error(read):
    """Missing fields, fields of another kind, and no object at all."""
    whole = {block_of: BLOCK, log_of: LOG, receipt_of: RECEIPT}[read]
    needed = [key for key in whole if key not in ("extraData", "baseFeePerGas", "removed")]
    for key in needed:
        for wrong in ({k: v for k, v in whole.items() if k != key}, whole | {key: None}, whole | {key: "zz"}):
            with pytest.raises(ValueError, match=r"."):
                read(wrong)
    for nothing in (None, [], "0x", 3):
        with pytest.raises(ValueError, match=r"."):
            read(nothing)
    for wrong in ({}, None):
        with pytest.raises(ValueError, match="no logs"):
            logs_of(wrong)
    for wrong in (None, 5, "5", "0x"):
        with pytest.raises(ValueError, match=r"."):
            number_of(wrong)
    with pytest.raises(ValueError, match="hexadecimal"):
        unhex("zz")


@pytest.mark.parametrize("text", ["0x", "0x-5", "-0x5", "0x" + "f" * 65, 5, None, "0xg"])
def test_what_is_no_quantity_is_refused(text):
    with pytest.raises(ValueError, match=r"quantity|invalid literal"):
        number_of(text)


@pytest.mark.parametrize("name", ["number", "timestamp"])
def test_a_block_of_no_possible_time_is_none(name):
    """Its number and time are stored with every view: one that does not fit there would stop all channels."""
    with pytest.raises(ValueError, match="48 bits"):
        block_of(BLOCK | {name: hex(2**64)})
    assert block_of(BLOCK | {name: hex(2**48 - 1)})
