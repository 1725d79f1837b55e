"""What the parts of the Python client stand on: how a call is made. `client.Client` implements it."""

from __future__ import annotations

import urllib.parse
from abc import ABC, abstractmethod
from typing import Any, TypeVar

T = TypeVar("T")


class Calls(ABC):
    """Each raises ClientError."""

    @abstractmethod
    def _get(self, path: str, kind: type[T]) -> T: ...

    @abstractmethod
    def _post(self, path: str, kind: type[T], body: Any, wait_s: float = 0.0) -> T: ...

    @abstractmethod
    def _call(
        self, method: str, path: str, kind: type[T], body: bytes | None = None, media: str = "", wait_s: float = 0.0
    ) -> T: ...


def quoted(text: str) -> str:
    """As a part of a path."""
    return urllib.parse.quote(text, safe="")
