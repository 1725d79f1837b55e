"""Values in go-nitro's JSON (docs/reference/nitro.md section 14): what `nitro_json` and `ledger.nitro_json` share.

Everything that reads raises `InvalidValue` for what it does not expect.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from typing import Any

from scapp.channels.abi import InvalidValue

DEPTH_MAX = 64
_BRACKET = re.compile(r"[\[\]{}]")
_HEX = re.compile(r"0x(?:[0-9a-fA-F]{2})*")


def compact(value: Any) -> str:
    """JSON without spaces."""
    return json.dumps(value, separators=(",", ":"))


def hexed(value: bytes) -> str:
    """`0x` and lower-case hexadecimal."""
    return "0x" + value.hex()


def base64_text(value: bytes) -> str:
    """Padded base64."""
    return base64.b64encode(value).decode()


def signature_text(signature: bytes) -> str:
    """go-nitro's text of a signature, `0x00` for none."""
    return hexed(signature) if signature else "0x00"


def parse(text: str | bytes) -> Any:
    """A JSON document of bounded depth. Raises InvalidValue."""
    try:
        whole = text if isinstance(text, str) else text.decode()
        _check_depth(whole)
        return json.loads(whole)
    except ValueError as error:
        raise error if isinstance(error, InvalidValue) else InvalidValue(f"no JSON: {error}") from error


def _check_depth(text: str) -> None:
    # Python's parser descends once per bracket, and a raised recursion limit lets it run out of stack.
    depth = 0
    for bracket in _BRACKET.findall(text):
        depth += 1 if bracket in "[{" else -1
        if depth > DEPTH_MAX:
            raise InvalidValue(f"JSON nested deeper than {DEPTH_MAX}")


def short(value: Any) -> str:
    """A value for a message."""
    text = repr(value)
    return text if len(text) <= 80 else text[:80] + "…"


def get(value: Any, field: str) -> Any:
    """A field of an object."""
    if not isinstance(value, dict):
        raise InvalidValue(f"expected an object with {field}, found {short(value)}")
    if field not in value:
        raise InvalidValue(f"{field} is missing in {short(value)}")
    return value[field]


def object_in(value: Any, field: str) -> Mapping[str, Any]:
    """A field that is an object."""
    found = get(value, field)
    if not isinstance(found, dict):
        raise InvalidValue(f"{field} is {short(found)}, not an object")
    return found


def list_in(value: Any, field: str) -> list[Any]:
    """A field that is a list, or null."""
    return items(get(value, field), field)


def items(found: Any, field: str) -> list[Any]:
    """A list; `null` is Go's nil slice."""
    if found is None:
        return []
    if not isinstance(found, list):
        raise InvalidValue(f"{field} is {short(found)}, not a list")
    return found


def number(value: Any, field: str, maximum: int) -> int:
    """A field that is an integer from 0 to `maximum`."""
    found = get(value, field)
    # True and False are integers in Python, floats have lost digits, and negative amounts would move other's money.
    if type(found) is not int or not 0 <= found <= maximum:
        raise InvalidValue(f"{field} is {short(found)}; allowed are integers from 0 to {maximum}")
    return found


def fixed_bytes(found: Any, length: int, field: str) -> bytes:
    """Bytes of exactly this length."""
    data = _from_hex(found, field)
    if len(data) != length:
        raise InvalidValue(f"{field} has {len(data)} bytes; it must have {length}")
    return data


def _from_hex(found: Any, field: str) -> bytes:
    if not isinstance(found, str) or not _HEX.fullmatch(found):
        raise InvalidValue(f"{field} is {short(found)}, not 0x and pairs of hexadecimal digits")
    return bytes.fromhex(found[2:])


def signature(found: Any) -> bytes:
    """65 bytes, or none for go-nitro's text of an empty signature."""
    data = _from_hex(found, "signature")
    if not any(data):
        return b""
    if len(data) != 65:
        raise InvalidValue(f"a signature has 65 bytes, this one {len(data)}")
    return data


def from_base64(value: Any, field: str) -> bytes:
    """A field that is base64 text, or null."""
    found = get(value, field)
    if found is None:
        return b""
    if not isinstance(found, str):
        raise InvalidValue(f"{field} is {short(found)}, not base64 text")
    try:
        return base64.b64decode(found, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidValue(f"{field} is {short(found)}, not base64 text: {error}") from error
