"""Why an address cannot be listened on, in words that help; for node and watchtower."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

from scapp.channels.errors import LocalError


@contextlib.contextmanager
def listening(setting: str, value: str, flag: str) -> Iterator[None]:
    """Turns the OSError of a bind into a LocalError."""
    try:
        yield
    except OSError as error:
        reason = "another program listens there" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
        raise LocalError(f"{setting} = {value!r} cannot be used: {reason}; choose another with {flag}") from None
