"""Bearer tokens and what they permit; `server.py` asks for every request, `scapp keys token` adds tokens.

Only the SHA-256 of a token is stored (`HOME/tokens.json`, mode 0600). The first start also creates the operator's
own token, in clear in `HOME/api.token` (mode 0600), which local clients read.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from pathlib import Path

import msgspec

from scapp.channels.errors import LocalError
from scapp.runtime.documents import Permission
from scapp.runtime.keys_file import check_private, write_private

TOKENS_FILE = "tokens.json"
OPERATOR_FILE = "api.token"
OPERATOR = "operator"
PERMISSIONS: tuple[Permission, ...] = ("read", "send", "channels", "funds", "admin")
_PREFIX = "scapp_"


class TokenRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One token; `hash` is the hexadecimal SHA-256 of its text. `admin` permits everything."""

    name: str
    hash: str
    permissions: tuple[Permission, ...]
    created_ms: int

    def permits(self, permission: Permission) -> bool:
        return permission in self.permissions or "admin" in self.permissions


class TokenStore:
    """The tokens of one node directory; a change of the file by another process is seen at the next request."""

    def __init__(self, home: Path) -> None:
        self._path = home / TOKENS_FILE
        self._operator = home / OPERATOR_FILE
        self._seen: tuple[int, int] | None = None
        self._by_hash: dict[str, TokenRecord] = {}

    def ensure_operator(self) -> str:
        """The operator's token, made (with permission admin) when it is missing or no longer known."""
        if self._operator.exists():
            check_private(self._operator)
            token = self._operator.read_text("ascii").strip()
            if self.find(token) is not None:
                return token
        records = [record for record in self.records() if record.name != OPERATOR]
        token, record = _make(OPERATOR, ("admin",))
        self._save([*records, record])
        write_private(self._operator, token + "\n", replace=True)
        return token

    def add(self, name: str, permissions: tuple[Permission, ...]) -> str:
        """Make a token and return it; this is the only time its text is known. Raises LocalError."""
        records = self.records()
        if any(record.name == name for record in records):
            raise LocalError(f"there is a token named {name!r} already; revoke it first or choose another name")
        if not permissions:
            raise LocalError(f"a token needs at least one permission of {', '.join(PERMISSIONS)}")
        token, record = _make(name, permissions)
        self._save([*records, record])
        return token

    def revoke(self, name: str) -> None:
        """Forget a token; it stops working at once. Raises LocalError when there is none of this name."""
        records = self.records()
        kept = [record for record in records if record.name != name]
        if len(kept) == len(records):
            raise LocalError(f"no token is named {name!r}; there are {', '.join(r.name for r in records) or 'none'}")
        self._save(kept)

    def find(self, token: str) -> TokenRecord | None:
        """The record of this token, or None for an unknown one."""
        self._load()
        return self._by_hash.get(_hash(token))

    def records(self) -> list[TokenRecord]:
        self._load()
        return list(self._by_hash.values())

    def _load(self) -> None:
        try:
            stat = self._path.stat()
        except FileNotFoundError:
            self._seen, self._by_hash = None, {}
            return
        seen = (stat.st_mtime_ns, stat.st_ino)
        if seen != self._seen:
            check_private(self._path)
            records = msgspec.json.decode(self._path.read_bytes(), type=list[TokenRecord])
            self._seen, self._by_hash = seen, {record.hash: record for record in records}

    def _save(self, records: list[TokenRecord]) -> None:
        text = msgspec.json.format(msgspec.json.encode(records), indent=2).decode()
        write_private(self._path, text + "\n", replace=True)
        self._seen = None


def _make(name: str, permissions: tuple[Permission, ...]) -> tuple[str, TokenRecord]:
    token = _PREFIX + secrets.token_urlsafe(32)
    record = TokenRecord(name=name, hash=_hash(token), permissions=permissions, created_ms=time.time_ns() // 1_000_000)
    return token, record


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
