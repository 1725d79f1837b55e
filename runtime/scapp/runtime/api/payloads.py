"""JSON at the edge, the app's own encoding inside: message payloads, params and emitted data.

MessagePack has bytes and JSON has not: `{"$hex": "0x…"}` stands for bytes in both directions.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

import msgspec

from scapp.runtime.api.errors import ApiError
from scapp.runtime.documents import MessageItem

_HEX = "$hex"
_encoder = msgspec.msgpack.Encoder()


def from_json(value: Any) -> Any:
    """Replace every `{"$hex": …}` by bytes. Raises ApiError for hexadecimal that is none, and for what is nested deeper
    than it could be written again."""
    try:
        return _from_json(value)
    except RecursionError:
        raise ApiError("bad_payload", "this JSON is nested too deep") from None


def _from_json(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {_HEX}:
            return hex_bytes(value[_HEX], "$hex")
        return {key: _from_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_from_json(item) for item in value]
    return value


def to_json(value: Any) -> Any:
    """Inverse of `from_json`, for anything MessagePack decodes to. Map keys become text."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {_HEX: "0x" + bytes(value).hex()}
    if isinstance(value, dict):
        return {_key(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    if isinstance(value, msgspec.msgpack.Ext):
        return {"$ext": value.code, _HEX: "0x" + bytes(value.data).hex()}
    return value


def _key(key: Any) -> str:
    return "0x" + key.hex() if isinstance(key, bytes) else str(key)


def hex_bytes(text: Any, what: str) -> bytes:
    """Bytes of `0x…` text (the prefix may be missing)."""
    if not isinstance(text, str):
        raise ApiError("bad_payload", f"{what} is {text!r}; allowed is a string of hexadecimal digits")
    try:
        return bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        raise ApiError("bad_payload", f"{what} = {text[:80]!r} is not hexadecimal") from None


def encode_payload(value: Any, encoding: str) -> bytes:
    """JSON value to the bytes an app with this payload encoding expects. Raises ApiError."""
    if encoding == "msgpack":
        try:
            return _encoder.encode(from_json(value))
        except (OverflowError, msgspec.MsgspecError) as error:
            hint = 'MessagePack integers have 64 bits; write a larger number as {"$hex": "0x…"} or as text'
            raise ApiError("bad_payload", f"this JSON cannot be written as MessagePack: {error}", hint) from error
    if encoding == "json":
        return msgspec.json.encode(value)
    hint = 'send bytes as {"hex": "0x…"} or {"base64": "…"} (`scapp send --hex`)'
    raise ApiError("bad_payload", f"this app's payload encoding is {encoding!r}, which has no JSON form", hint)


def decode_payload(payload: bytes, encoding: str) -> Any:
    """The JSON form of a payload, or None when its bytes do not follow the encoding."""
    try:
        if encoding == "msgpack":
            return to_json(msgspec.msgpack.decode(payload))
        if encoding == "json":
            return msgspec.json.decode(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return None


def payload_of(item: MessageItem, encoding: str, index: int) -> bytes:
    """The payload bytes one item of a request stands for. Raises ApiError."""
    given = [name for name in ("json", "base64", "hex") if getattr(item, name) is not msgspec.UNSET]
    if len(given) != 1:
        found = " and ".join(given) or "none"
        raise ApiError("bad_request", f"message {index} has {found} of json, base64 and hex; allowed is exactly one")
    if given == ["json"]:
        return encode_payload(item.json, encoding)
    if given == ["hex"]:
        return hex_bytes(item.hex, f"message {index}: hex")
    assert isinstance(item.base64, str)
    try:
        return base64.b64decode(item.base64, validate=True)
    except binascii.Error as error:
        raise ApiError("bad_payload", f"message {index}: base64 is malformed: {error}") from None
