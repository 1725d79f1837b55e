"""The database: one port (`port.py`), three backends behind it, and the statements that go through it."""

from scapp.runtime.database.open import open_backend
from scapp.runtime.database.port import Backend, Capability, DatabaseError

__all__ = ["Backend", "Capability", "DatabaseError", "open_backend"]
