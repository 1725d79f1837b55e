"""Acceptance of JSON text for `json` columns; its neighbour `row_types.py` holds the other types.

Written out as RFC 8259's grammar, because "whatever a library accepts" differs between libraries and versions (NaN,
huge numbers, nesting), and every participant must accept exactly the same texts. Refused beyond the grammar, since
PostgreSQL's JSON operators fail on them: `\\u0000` and unpaired surrogate escapes.
"""

from __future__ import annotations

import re

DEPTH_MAX = 64

_BLANK = re.compile(r"[ \t\n\r]*")
_SCALAR = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null")
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*"')
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|.)")


def json_problem(data: bytes) -> str | None:
    """None when `data` is acceptable JSON text, else what is wrong with it."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        return f"json is not UTF-8 at byte {error.start} of {len(data)}"
    try:
        end = _scan(text)
    except _Bad as bad:
        return f"json {bad.what} at character {bad.position}"
    return None if end == len(text) else f"json has more text after its value, at character {end}"


class _Bad(Exception):
    def __init__(self, what: str, position: int) -> None:
        self.what, self.position = what, position


def _scan(text: str) -> int:
    """Position after one value and the blanks around it. Iterative: the depth limit is ours, not the stack's."""
    open_: list[str] = []
    position = _blank(text, 0)
    while True:
        start = text[position : position + 1]
        if start in ("{", "["):
            if len(open_) == DEPTH_MAX:
                raise _Bad(f"is nested deeper than {DEPTH_MAX}", position)
            inner = _blank(text, position + 1)
            closing = "}" if start == "{" else "]"
            if text[inner : inner + 1] == closing:
                position = _blank(text, inner + 1)
            else:
                open_.append(closing)
                position = _member(text, inner) if start == "{" else inner
                continue
        elif start == '"':
            position = _blank(text, _string(text, position))
        else:
            match = _SCALAR.match(text, position)
            if match is None:
                raise _Bad("has no value where one is expected", position)
            position = _blank(text, match.end())
        position, done = _after_value(text, position, open_)
        if done:
            return position


def _after_value(text: str, position: int, open_: list[str]) -> tuple[int, bool]:
    """Close what ends here; stop at the next member's value, or when nothing is open any more."""
    while open_:
        mark = text[position : position + 1]
        if mark == ",":
            position = _blank(text, position + 1)
            return (_member(text, position) if open_[-1] == "}" else position), False
        if mark != open_[-1]:
            raise _Bad(f"has neither ',' nor {open_[-1]!r}", position)
        open_.pop()
        position = _blank(text, position + 1)
    return position, True


def _member(text: str, position: int) -> int:
    """Position of the value of the object member that starts here."""
    if text[position : position + 1] != '"':
        raise _Bad("has no member name where one is expected", position)
    position = _blank(text, _string(text, position))
    if text[position : position + 1] != ":":
        raise _Bad("has no ':' after a member name", position)
    return _blank(text, position + 1)


def _string(text: str, position: int) -> int:
    match = _STRING.match(text, position)
    if match is None:
        raise _Bad("has a malformed string", position)
    if "\\u" in match.group():
        _check_escapes(match.group(), position)
    return match.end()


def _check_escapes(string: str, position: int) -> None:
    high_end = -1  # where the low half of a surrogate pair has to start
    for escape in _ESCAPE.finditer(string):
        unit = int(escape.group(1) or "20", 16)
        pairs = escape.start() == high_end
        if unit == 0:
            raise _Bad("has the escape \\u0000", position + escape.start())
        if (high_end >= 0 and not pairs) or pairs != (0xDC00 <= unit < 0xE000):
            raise _Bad("has an unpaired surrogate escape", position + escape.start())
        high_end = escape.end() if 0xD800 <= unit < 0xDC00 else -1
    if high_end >= 0:
        raise _Bad("has an unpaired surrogate escape", position + high_end)


def _blank(text: str, position: int) -> int:
    match = _BLANK.match(text, position)
    assert match is not None
    return match.end()
