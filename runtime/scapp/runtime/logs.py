"""Structured logging of one process: JSON lines or human lines on stderr; `compose.py` switches it on.

Fields travel as `extra={...}` of the standard `logging` calls. Bytes become hexadecimal. Secrets registered with
`hide` never appear in a line, whatever logs them, and fields with a secret's name are blanked.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Mapping
from typing import IO, Any

HIDDEN = "[hidden]"
_STANDARD = frozenset(logging.LogRecord("", 0, "", 0, "", (), None).__dict__) | {"message", "asctime", "taskName"}
_SECRET_FIELDS = frozenset({"key", "secret", "private_key", "token", "password", "authorization"})
_COLOURS = {"ERROR": "31", "WARNING": "33", "INFO": "32", "DEBUG": "2", "CRITICAL": "31;1"}
_secrets: set[str] = set()


def hide(*secrets: str | bytes) -> None:
    """Never let these values (bytes: their hexadecimal text) reach a log line of this process."""
    for secret in secrets:
        text = secret.hex() if isinstance(secret, bytes) else secret
        if len(text) >= 8:  # shorter ones would blank ordinary words
            _secrets.add(text)


def _scrub(text: str) -> str:
    for secret in _secrets:
        text = text.replace(secret, HIDDEN)
    return text


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """What was passed as `extra`, in JSON-ready form."""
    return {name: _plain(name, value) for name, value in record.__dict__.items() if name not in _STANDARD}


def _plain(name: str, value: Any) -> Any:
    if name in _SECRET_FIELDS:
        return HIDDEN
    if isinstance(value, (bytes, bytearray, memoryview)):
        return "0x" + bytes(value).hex()
    if isinstance(value, Mapping):
        return {str(k): _plain(str(k), v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain("", v) for v in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


class Trickle(logging.Filter):
    """Lets through a burst of warnings of one kind, by logger and text without its values, then a steady trickle that
    says how many were left out before: peers choose how often they send what is refused, and lines fill a disk. Other
    levels pass."""

    BURST = 100
    LINES_PER_S = 10
    KINDS_MAX = 1_000  # libraries may put values into their texts

    def __init__(self) -> None:
        super().__init__()
        self._kinds: dict[tuple[str, str], tuple[float, float, int]] = {}  # lines left, since when, left out
        self._lock = threading.Lock()  # handlers ask their filters before they take a lock of their own

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno != logging.WARNING:
            return True
        with self._lock:
            return self._lets_through(record)

    def _lets_through(self, record: logging.LogRecord) -> bool:
        kind, now_s = (record.name, str(record.msg)), record.created
        lines, since_s, left_out = self._kinds.pop(kind, (float(self.BURST), now_s, 0))
        if len(self._kinds) >= self.KINDS_MAX:
            del self._kinds[next(iter(self._kinds))]
        lines = min(self.BURST, lines + max(0.0, now_s - since_s) * self.LINES_PER_S)
        if lines < 1:
            self._kinds[kind] = lines, now_s, left_out + 1
            return False
        if left_out:
            record.left_out = left_out
        self._kinds[kind] = lines - 1, now_s, 0
        return True


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time (UTC), level, logger, message, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _utc(record.created, record.msecs),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **fields_of(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _scrub(json.dumps(line, ensure_ascii=False, default=str))


class HumanFormatter(logging.Formatter):
    """`HH:MM:SS.mmm level logger: message name=value …`, in colour on a terminal; fields that the message has said
    already are left out."""

    def __init__(self, *, colour: bool) -> None:
        super().__init__()
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        level = f"{record.levelname.lower():<7}"
        if self._colour:
            level = f"\x1b[{_COLOURS.get(record.levelname, '0')}m{level}\x1b[0m"
        moment = time.strftime("%H:%M:%S", time.localtime(record.created))
        message = record.getMessage()
        more = ((name, str(value)) for name, value in fields_of(record).items())
        extra = "".join(f" {name}={value}" for name, value in more if len(value) < 4 or value not in message)
        text = f"{moment}.{int(record.msecs):03d} {level} {record.name}: {_visible(message + extra)}"
        if record.exc_info:
            text += "\n" + "\n".join(map(_visible, self.formatException(record.exc_info).split("\n")))
        return _scrub(text)


def _visible(text: str) -> str:
    """One line without what a terminal obeys: reasons come from peers and reducers."""
    return text if text.isprintable() else "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def _utc(seconds: float, milliseconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(milliseconds):03d}Z"


def configure(
    level: str = "info",
    style: str = "auto",
    levels: Mapping[str, str] | None = None,
    *,
    stream: IO[str] | None = None,
    colour: bool | None = None,
) -> logging.Handler:
    """Send the records of all loggers to `stream` (stderr); `style` "auto" is human on a terminal, else JSON.

    Replaces an earlier configuration of this function and returns the handler."""
    stream = sys.stderr if stream is None else stream
    terminal = stream is not None and stream.isatty()
    human = style == "human" or (style == "auto" and terminal)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(HumanFormatter(colour=terminal if colour is None else colour) if human else JsonFormatter())
    handler.set_name("scapp")
    handler.addFilter(Trickle())
    root = logging.getLogger()
    for old in [h for h in root.handlers if h.get_name() == "scapp"]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    # A request line per call drowns everything else; it is there at debug.
    logging.getLogger("aiohttp.access").setLevel("DEBUG" if level == "debug" else "WARNING")
    for name, wanted in (levels or {}).items():
        logging.getLogger(name).setLevel(wanted.upper())
    return handler
