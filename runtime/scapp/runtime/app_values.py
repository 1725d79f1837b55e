"""Values in a test's file, as they are sent and shown: participants by name, bytes as text, moves by what they hide."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import msgspec

from scapp.channels.crypto import commitment
from scapp.runtime.app_document import BadTest, Slot

COMMITMENT = "$commitment"


class Commitment(msgspec.Struct, forbid_unknown_fields=True):
    """`value` is bytes as text, or an amount, which stands for its 32 bytes."""

    by: str
    salt: str
    value: str | Annotated[int, msgspec.Meta(ge=0)]
    round: int = 0


class Cast:
    """Who the names of a test are, in one channel. Methods raise BadTest."""

    def __init__(self, names: Mapping[str, bytes], channel_id: bytes) -> None:
        self._names = names
        self._channel_id = channel_id

    def slot(self, slot: Slot) -> tuple[bytes, bytes, int]:
        """Asset, destination of 32 bytes, amount."""
        to = self.bytes_of(slot.to)
        return self.bytes_of(slot.asset), to.rjust(32, b"\0"), int(slot.amount)

    def bytes_of(self, text: str) -> bytes:
        """Of `@name` or hexadecimal digits."""
        given = self.given(text)
        try:
            return given if isinstance(given, bytes) else bytes.fromhex(text.removeprefix("0x"))
        except ValueError:
            raise BadTest(f"{text!r} is neither @ and a participant nor 0x and hexadecimal digits") from None

    def given(self, value: Any) -> Any:
        """A value of the test as it is sent: `@name` becomes the participant's address."""
        if isinstance(value, str) and value.startswith("@"):
            if value[1:] not in self._names:
                raise BadTest(f"{value!r}; participants are {', '.join('@' + name for name in self._names)}")
            return self._names[value[1:]]
        if isinstance(value, dict) and set(value) == {COMMITMENT}:
            return self._commitment(value[COMMITMENT])
        return _walked(value, self.given)

    def _commitment(self, given: Any) -> bytes:
        """What hides a value of this channel (docs/explanation/commit-reveal.md)."""
        try:
            hidden = msgspec.convert(given, Commitment)
        except msgspec.ValidationError as error:
            raise BadTest(f"{COMMITMENT} {shown(given)}: {error}") from None
        if hidden.by not in self._names:
            raise BadTest(f"{COMMITMENT} by {hidden.by!r}; participants are {', '.join(self._names)}")
        value = self.bytes_of(hidden.value) if isinstance(hidden.value, str) else hidden.value.to_bytes(32, "big")
        try:
            return commitment(self.bytes_of(hidden.salt), self._channel_id, self._names[hidden.by], hidden.round, value)
        except (ValueError, OverflowError) as error:
            raise BadTest(f"{COMMITMENT} {shown(given)}: {error}") from None

    def taken(self, value: Any) -> Any:
        """A value of the app as a test writes it: addresses of participants by name, other bytes as 0x text."""
        if isinstance(value, bytes):
            return next((f"@{name}" for name, address in self._names.items() if address == value), "0x" + value.hex())
        return _walked(value, self.taken)


def packed(value: Any) -> bytes:
    """MessagePack of a value of `Cast.given`. Raises BadTest."""
    try:
        return msgspec.msgpack.encode(value)
    except OverflowError:
        raise BadTest(f"{shown(value)} holds a number above 64 bits; write it as text") from None


def shown(value: Any) -> str:
    """On one line."""
    return json.dumps(value, ensure_ascii=False, default=str)


def _walked(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, dict):
        return {key: change(item) for key, item in value.items()}
    return [change(item) for item in value] if isinstance(value, list) else value
