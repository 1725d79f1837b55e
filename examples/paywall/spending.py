"""What was spent, on disk: a restart neither charges twice nor gives away what was bought already.

SQLite in WAL mode without a sync per write: a crash of the process loses nothing, one of the machine at most the last
moments of spending, which is the seller's loss and never the buyer's.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from examples.paywall.credit import Account, Visit
from scapp.channels.types import ChannelId

VISITS_KEPT_MS = 24 * 3_600_000
_SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS account (channel BLOB PRIMARY KEY, spent TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS visit (
  channel BLOB NOT NULL, key TEXT NOT NULL, what TEXT NOT NULL, charged INTEGER NOT NULL,
  low INTEGER NOT NULL, high INTEGER NOT NULL, attempts INTEGER NOT NULL, at_ms INTEGER NOT NULL,
  PRIMARY KEY (channel, key)
) WITHOUT ROWID;
"""


class Spending:
    """Belongs to the event loop. Raises sqlite3.Error when the file cannot be used."""

    def __init__(self, path: Path | str) -> None:
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.executescript(_SCHEMA)

    def close(self) -> None:
        self._database.close()

    def spent(self, channel: ChannelId) -> int:
        row = self._database.execute("SELECT spent FROM account WHERE channel = ?", (channel,)).fetchone()
        return int(row[0]) if row else 0

    def visit(self, channel: ChannelId, key: str) -> Visit | None:
        row = self._database.execute(
            "SELECT what, charged, low, high, attempts FROM visit WHERE channel = ? AND key = ?", (channel, key)
        ).fetchone()
        return Visit(row[0], bool(row[1]), *row[2:]) if row else None

    def save(self, account: Account, key: str, visit: Visit, now_ms: int) -> None:
        """Both together, before what they account for is sent."""
        with self._database:
            self._database.execute("BEGIN")
            self._database.execute(
                "INSERT INTO account VALUES (?, ?) ON CONFLICT DO UPDATE SET spent = excluded.spent",
                (account.channel, str(account.spent)),
            )
            if key:
                self._database.execute(
                    "INSERT OR REPLACE INTO visit VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (account.channel, key, visit.what, visit.charged, visit.low, visit.high, visit.attempts, now_ms),
                )

    def forget(self, now_ms: int) -> None:
        """Visits that nobody repeats any more."""
        self._database.execute("DELETE FROM visit WHERE at_ms < ?", (now_ms - VISITS_KEPT_MS,))
