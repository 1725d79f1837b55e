"""The files of tests: who takes part, what is sent, what is expected (docs/howto/test-a-reducer.md); `app_test.py` runs
them, `app_values.py` reads the values in them.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import msgspec

ANYTHING = "…"  # in a test, stands for any value


class BadTest(Exception):
    """The test file itself is wrong; the text says where and what is allowed."""


class Slot(msgspec.Struct, forbid_unknown_fields=True):
    """`to` is `@name` or `0x` and 20 or 32 bytes."""

    to: str
    amount: int | str
    asset: str = "0x" + "00" * 20


class Event(msgspec.Struct, forbid_unknown_fields=True):
    topic: str
    data: Any = ANYTHING


class Step(msgspec.Struct, forbid_unknown_fields=True):
    """One entry and what becomes of it. Exactly one of `send` and `tick`; `rejected` is part of the reason."""

    from_: str = msgspec.field(name="from")
    send: Any = None
    tick: bool = False
    after_ms: int = 0
    rejected: str | None = None
    events: list[Event] | None = None
    outcome: list[int | str] | None = None


class Document(msgspec.Struct, forbid_unknown_fields=True):
    participants: list[str]
    params: Any = None
    slots: list[Slot] = []
    rejected: str | None = None  # the opening itself
    step: list[Step] = []
    tables: dict[str, list[dict[str, Any]]] = {}
    outcome: list[int | str] | None = None


def load_test(path: Path) -> Document:
    """Raises BadTest."""
    try:
        document = msgspec.convert(tomllib.loads(path.read_text()), Document)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise BadTest(f"{path.name}: {error}") from None
    for number, step in enumerate(document.step, 1):
        if step.from_ not in document.participants:
            names = ", ".join(document.participants)
            raise BadTest(f"{path.name}: step {number} is from {step.from_!r}; participants are {names}")
        if (step.send is None) != step.tick:
            raise BadTest(f"{path.name}: step {number} needs exactly one of send = … and tick = true")
    return document
