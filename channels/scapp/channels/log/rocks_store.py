"""RocksDB as `rocks.py` needs it: column families to read and write, errors in our terms; `rocks_open.py` opens it.

rocksdict raises bare `Exception` with RocksDB's text; the text's first words are what tells the kinds apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rocksdict import Checkpoint, ColumnFamily, DbClosedError, Rdict, ReadOptions, WriteBatch, WriteOptions

from scapp.channels.errors import LocalError
from scapp.channels.log.framing import STREAM_BYTES, key_version
from scapp.channels.log.port import LogClosed, LogCorrupt, LogReadFailed, LogWriteFailed, SnapshotKind
from scapp.channels.log.rocks_open import open_database

Row = tuple[bytes, bytes]


class CheckpointFailed(LocalError):
    """A copy could not be made; the log itself is as it was."""


class Family:
    """One column family. Its reads leave no iterator behind: a live one would keep the lock."""

    def __init__(self, path: Path, db: Rdict, handle: ColumnFamily) -> None:
        self._path = path
        self._db: Rdict | None = db
        self.handle: ColumnFamily | None = handle  # where a WriteBatch puts rows of this family

    def get(self, key: bytes) -> bytes | None:
        with _reading(self._path, key):
            value: bytes | None = self._open().get(key)
            return value

    def rows(self, start: bytes = b"", end: bytes | None = None, limit: int | None = None) -> list[Row]:
        """Rows with start <= key < end in key order, at most `limit`."""
        options = ReadOptions()
        if end is not None:
            # Never `set_iterate_lower_bound`: in rocksdict 0.3.29 it sets the upper bound.
            options.set_iterate_upper_bound(end)
        found: list[Row] = []
        with _reading(self._path, start):
            # `items()` would be faster, but ends without a word at a block that cannot be read; `status` tells.
            cursor = self._open().iter(options)
            try:
                cursor.seek(start)
                while cursor.valid() and len(found) != limit:
                    found.append((cursor.key(), cursor.value()))
                    cursor.next()
                cursor.status()
            finally:
                del cursor  # an error's traceback would keep it alive
        return found

    def keys(self) -> list[bytes]:
        """All keys, in order."""
        found: list[bytes] = []
        with _reading(self._path, b""):
            cursor = self._open().iter(ReadOptions())
            try:
                cursor.seek(b"")
                while cursor.valid():
                    found.append(cursor.key())
                    cursor.next()
                cursor.status()
            finally:
                del cursor
        return found

    def row_at_or_before(self, key: bytes) -> Row | None:
        """The last row whose key is at most `key`."""
        return self.rows_at_or_before((key,))[0]

    def rows_at_or_before(self, keys: Sequence[bytes]) -> list[Row | None]:
        """The same for each of several keys, one at least: to make a cursor costs as much as three looks with it."""
        found: list[Row | None] = []
        with _reading(self._path, keys[0]):
            cursor = self._open().iter(ReadOptions())
            try:
                for key in keys:
                    cursor.seek_for_prev(key)
                    found.append((cursor.key(), cursor.value()) if cursor.valid() else None)
                    cursor.status()
            finally:
                del cursor
        return found

    def put(self, batch: WriteBatch, key: bytes, value: bytes) -> None:
        batch.put(key, value, self.handle)

    def delete(self, batch: WriteBatch, key: bytes) -> None:
        batch.delete(key, self.handle)

    def release(self) -> Exception | None:
        """Let go of the database in any case; returns what closing it raised."""
        db, self._db, self.handle = self._db, None, None
        try:
            if db is not None:
                db.close()
        except Exception as error:  # rocksdict raises nothing narrower
            return error
        return None

    def _open(self) -> Rdict:
        if self._db is None:
            raise LogClosed(f"{self._path} is closed")
        return self._db


class Store:
    """An open database. Only the owner writes to it, under the owner's lock; reads are free-threaded."""

    def __init__(self, path: Path) -> None:
        self.path = path
        db = open_database(path)
        self._db: Rdict | None = db
        self.is_open = True
        self.pages = Family(path, db, db.get_column_family_handle("default"))
        self.heads, self.outbox, self.snapshots, self.states = (
            Family(path, db.get_column_family(name), db.get_column_family_handle(name))
            for name in ("heads", "outbox", "snapshots", "states")
        )
        self.snapshots_of: dict[SnapshotKind, Family] = {"admission": self.snapshots, "channel": self.states}
        self._synced = WriteOptions()
        self._synced.sync = True
        self._unsynced = WriteOptions()

    def check_open(self) -> None:
        """Raises LogClosed."""
        self._open()

    def batch(self) -> WriteBatch:
        """An empty batch for `write`."""
        return WriteBatch(raw_mode=True)

    def write(self, batch: WriteBatch, sync: bool) -> None:
        """Raises LogWriteFailed; whether the batch will be found after reopening is then unknown."""
        db = self._db or self._open()
        try:
            db.write(batch, self._synced if sync else self._unsynced)
        except Exception as error:  # rocksdict raises nothing narrower
            raise self._write_error(error) from error

    def put_page(self, key: bytes, value: bytes, sync: bool) -> None:
        """One row among the pages, as `write` would: a batch object for a single row costs as much as the row."""
        db = self._db or self._open()
        try:
            db.put(key, value, self._synced if sync else self._unsynced)
        except Exception as error:  # rocksdict raises nothing narrower
            raise self._write_error(error) from error

    def sync(self) -> None:
        """Bring everything written before onto the disk; raises LogWriteFailed."""
        db = self._open()
        try:
            db.flush_wal(True)
        except Exception as error:  # rocksdict raises nothing narrower
            raise self._write_error(error) from error

    def checkpoint(self, path: Path) -> None:
        """See `rocks.RocksLog.checkpoint`; `path` must not exist."""
        try:
            Checkpoint(self._open()).create_checkpoint(str(path))
        except LogClosed:
            raise
        except Exception as error:  # rocksdict raises nothing narrower
            raise CheckpointFailed(f"no copy of {self.path} could be made in {path}: {error}") from error

    def statistics(self) -> str:
        """RocksDB's own account, for diagnosis."""
        return self._open().property_value("rocksdb.stats") or ""

    def close(self) -> None:
        """Release the lock; RocksDB keeps it as long as any handle lives, so all are dropped here.

        Raises LogWriteFailed, with everything released, when the disk refused the last bytes."""
        self._db = None
        self.is_open = False
        families = (self.outbox, self.snapshots, self.states, self.heads, self.pages)
        errors = [error for error in [family.release() for family in families] if error is not None]
        if errors:
            raise LogWriteFailed(f"{self.path}: closing failed: {errors[0]}") from errors[0]

    def _open(self) -> Rdict:
        if self._db is None:
            raise LogClosed(f"{self.path} is closed")
        return self._db

    def _write_error(self, error: Exception) -> LogClosed:
        if isinstance(error, DbClosedError):
            return LogClosed(f"{self.path} is closed")
        return LogWriteFailed(f"{self.path}: the disk refused a write, the log takes no more: {error}")


@contextmanager
def _reading(path: Path, key: bytes) -> Iterator[None]:
    try:
        yield
    except DbClosedError as error:
        raise LogClosed(f"{path} is closed") from error
    except LogClosed:
        raise
    except Exception as error:  # rocksdict raises nothing narrower
        text = f"{path}: reading at {_key_text(key)}: {error}"
        raise (LogCorrupt(text) if "Corruption" in str(error) else LogReadFailed(text)) from error


def _key_text(key: bytes) -> str:
    if len(key) == STREAM_BYTES:
        return f"stream {key.hex()}"
    if len(key) == STREAM_BYTES + 8:
        return f"stream {key[:STREAM_BYTES].hex()} version {key_version(key)}"
    return f"key 0x{key.hex()}"
