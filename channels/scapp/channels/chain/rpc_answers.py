"""JSON-RPC's hexadecimal texts into values, and nodes' errors into kinds. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from scapp.channels.abi import InvalidValue
from scapp.channels.abi_types import decode
from scapp.channels.chain.client import Block, Log, Receipt, Refused, Unavailable
from scapp.channels.types import Address, Hash

Answer = dict[str, Any]
T = TypeVar("T")

# What nodes write; every kind is told by the text alone, because codes differ.
_KINDS = (
    ("reverted", ("execution reverted", "revert", "execution aborted")),  # the latter: the contract takes too long
    ("nonce-too-low", ("nonce too low", "nonce is too low", "oldnonce")),
    ("known", ("already known", "known transaction", "already imported", "alreadyknown")),
    ("underpriced", ("underpriced", "fee too low", "gas price too low")),
    ("funds", ("insufficient funds", "insufficient balance")),
    ("too-much", ("query returned more", "too many", "block range", "range too", "response size", "limit exceeded")),
    ("missing", ("header not found", "unknown block", "block not found", "missing trie", "resource not found",
                 "not canonical", "not currently canonical", "hash not found", "outofrange", "out of range",
                 "historical state", "could not find block")),
)  # fmt: skip
_BUSY = ("rate limit", "too many requests", "timeout", "timed out", "internal error", "overloaded", "capacity")
SMALL_BITS = 48  # as the contract's times have
_ERROR = bytes.fromhex("08c379a0")  # selector of Error(string)


def hexed(data: bytes) -> str:
    return "0x" + data.hex()


def quantity(number: int) -> str:
    return hex(number)


def unhex(text: Any) -> bytes:
    """Raises ValueError for anything but hexadecimal text with 0x."""
    if not isinstance(text, str) or not text.startswith("0x"):
        raise ValueError(f"{str(text)[:80]!r} is no hexadecimal text")
    return bytes.fromhex(text[2:])


def number_of(text: Any) -> int:
    """Raises ValueError for anything but an unsigned number of up to 256 bits."""
    if not isinstance(text, str) or not text.startswith("0x") or not 2 < len(text) <= 66:
        raise ValueError(f"{str(text)[:80]!r} is no quantity")
    number = int(text, 16)
    if number < 0:
        raise ValueError(f"{text!r} is no quantity")
    return number


def small_of(text: Any) -> int:
    """A quantity that fits what is stored of it: a number or time of a block, gas, a nonce."""
    number = number_of(text)
    if number >> SMALL_BITS:
        raise ValueError(f"{text[:80]!r} has more than {SMALL_BITS} bits")
    return number


def block_of(answer: Answer) -> Block:
    """Raises ValueError for an answer that is no block, as the others do."""
    try:
        return Block(
            small_of(answer["number"]),
            _hash(answer["hash"]),
            _hash(answer["parentHash"]),
            small_of(answer["timestamp"]),
            optional(number_of)(answer.get("baseFeePerGas")),
            unhex(answer["logsBloom"]),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no block: {error!r}") from None


def log_of(answer: Answer) -> Log:
    try:
        return Log(
            Address(unhex(answer["address"])),
            tuple(map(unhex, answer["topics"])),
            unhex(answer["data"]),
            small_of(answer["blockNumber"]),
            _hash(answer["blockHash"]),
            _hash(answer["transactionHash"]),
            number_of(answer["logIndex"]),
            bool(answer.get("removed", False)),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no log: {error!r}") from None


def logs_of(answer: Any) -> list[Log]:
    if not isinstance(answer, list):
        raise ValueError(f"no logs: {str(answer)[:80]}")
    return [log_of(item) for item in answer]


def optional(read: Callable[[Any], T]) -> Callable[[Any], T | None]:
    """For what may not be there: null."""
    return lambda answer: None if answer is None else read(answer)


def receipt_of(answer: Answer) -> Receipt:
    try:
        created = answer.get("contractAddress")
        return Receipt(
            _hash(answer["transactionHash"]),
            small_of(answer["blockNumber"]),
            _hash(answer["blockHash"]),
            number_of(answer["status"]) == 1,
            small_of(answer["gasUsed"]),
            None if created is None else Address(unhex(created)),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no receipt: {error!r}") from None


def calldata_of(answer: Answer) -> bytes:
    """Of a transaction. Raises ValueError for an answer that is none."""
    try:
        return unhex(answer["input"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"no transaction: {error!r}") from None


def _hash(text: Any) -> Hash:
    found = unhex(text)
    if len(found) != 32:
        raise ValueError(f"a hash has 32 bytes, {text} has {len(found)}")
    return Hash(found)


def refused_of(error: Any) -> Refused:
    """What the node says, with its kind. Raises Unavailable for an endpoint that is busy or broken itself."""
    text = str(error.get("message", error)) if isinstance(error, dict) else str(error)
    low = text.lower()
    kind = next((kind for kind, signs in _KINDS if any(sign in low for sign in signs)), "other")
    if kind in ("other", "too-much") and any(sign in low for sign in _BUSY):
        raise Unavailable(text[:200])
    if kind == "reverted":
        text = _reason(error.get("data") if isinstance(error, dict) else None) or text
    return Refused(kind, text[:500])


def _reason(data: Any) -> str:
    """The text in the data of a revert, which all nodes give; the message differs among them."""
    if isinstance(data, dict):
        data = data.get("data")
    try:
        raw = unhex(data)
        return decode("(string)", raw[4:])[0].decode(errors="replace") if raw[:4] == _ERROR else ""
    except (ValueError, InvalidValue):
        return ""
