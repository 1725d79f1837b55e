"""RocksDB as `rocks.py` needs it: opening with lock and format marker, five column families, errors in our terms.

    default     pages      stream 32 | first version u64 big-endian
    heads                  stream 32
    outbox                 the caller's key
    snapshots              stream 32 | version u64 big-endian
    meta                   "format": [name, version]

rocksdict raises bare `Exception` with RocksDB's text; the text's first words are what tells the kinds apart.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
from rocksdict import (
    BlockBasedOptions,
    ColumnFamily,
    DbClosedError,
    DBCompressionType,
    DBRecoveryMode,
    Options,
    Rdict,
    ReadOptions,
    WriteBatch,
    WriteOptions,
)

from scapp.channels.log.framing import STREAM_BYTES, key_version
from scapp.channels.log.port import LogClosed, LogCorrupt, LogLocked, LogReadFailed, LogUnusable, LogWriteFailed

FORMAT_NAME = "scapp-event-log"
FORMAT_VERSION = 1
_FORMAT_KEY = b"format"
_FAMILIES = ("heads", "outbox", "snapshots", "meta")
_BLOCK_BYTES = 64 * 1024
_WAL_BYTES_MAX = 64 * 1024 * 1024  # bounds the replay at open: about 0.2 s
_OPEN_FILES_MAX = 512

Row = tuple[bytes, bytes]


class Family:
    """One column family. Its reads leave no iterator behind: a live one would keep the lock."""

    def __init__(self, path: Path, db: Rdict, handle: ColumnFamily) -> None:
        self._path = path
        self._db: Rdict | None = db
        self._handle: ColumnFamily | None = handle

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

    def row_at_or_before(self, key: bytes) -> Row | None:
        """The last row whose key is at most `key`."""
        with _reading(self._path, key):
            cursor = self._open().iter(ReadOptions())
            try:
                cursor.seek_for_prev(key)
                row = (cursor.key(), cursor.value()) if cursor.valid() else None
                cursor.status()
            finally:
                del cursor
            return row

    def put(self, batch: WriteBatch, key: bytes, value: bytes) -> None:
        batch.put(key, value, self._handle)

    def delete(self, batch: WriteBatch, key: bytes) -> None:
        batch.delete(key, self._handle)

    def release(self) -> Exception | None:
        """Let go of the database in any case; returns what closing it raised."""
        db, self._db, self._handle = self._db, None, None
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
        is_new = _prepare_directory(path)
        db = _open(path)
        try:
            # A crash may come between creation and marker; then the database has no row at all.
            self._mark_or_check(db, is_new or db.latest_sequence_number() == 0)
        except LogUnusable:
            db.close()
            raise
        except Exception as error:  # rocksdict raises nothing narrower
            with suppress(
                Exception
            ):  # what refused the marker may refuse the close; the first error is the one to tell
                db.close()
            raise _opening_error(path, error) from error
        self._db: Rdict | None = db
        self.pages = Family(path, db, db.get_column_family_handle("default"))
        self.heads, self.outbox, self.snapshots = (
            Family(path, db.get_column_family(name), db.get_column_family_handle(name)) for name in _FAMILIES[:3]
        )
        self._synced = WriteOptions()
        self._synced.sync = True
        self._unsynced = WriteOptions()

    @property
    def is_open(self) -> bool:
        return self._db is not None

    def check_open(self) -> None:
        """Raises LogClosed."""
        if self._db is None:
            raise LogClosed(f"{self.path} is closed")

    def write(self, batch: WriteBatch, *, sync: bool) -> None:
        """Raises LogWriteFailed; whether the batch will be found after reopening is then unknown."""
        with self._writing() as db:
            db.write(batch, self._synced if sync else self._unsynced)

    def sync(self) -> None:
        """Bring everything written before onto the disk; raises LogWriteFailed."""
        with self._writing() as db:
            db.flush_wal(True)

    def statistics(self) -> str:
        """RocksDB's own account, for diagnosis."""
        self.check_open()
        assert self._db is not None
        return self._db.property_value("rocksdb.stats") or ""

    def close(self) -> None:
        """Release the lock; RocksDB keeps it as long as any handle lives, so all are dropped here.

        Raises LogWriteFailed, with everything released, when the disk refused the last bytes."""
        self._db = None
        families = (self.outbox, self.snapshots, self.heads, self.pages)
        errors = [error for error in [family.release() for family in families] if error is not None]
        if errors:
            raise LogWriteFailed(f"{self.path}: closing failed: {errors[0]}") from errors[0]

    @contextmanager
    def _writing(self) -> Iterator[Rdict]:
        self.check_open()
        assert self._db is not None
        try:
            yield self._db
        except DbClosedError as error:
            raise LogClosed(f"{self.path} is closed") from error
        except Exception as error:  # rocksdict raises nothing narrower
            raise LogWriteFailed(f"{self.path}: the disk refused a write, the log takes no more: {error}") from error

    def _mark_or_check(self, db: Rdict, is_new: bool) -> None:
        meta = db.get_column_family("meta")
        try:
            if is_new:
                synced = WriteOptions()
                synced.sync = True
                meta.put(_FORMAT_KEY, msgspec.msgpack.encode((FORMAT_NAME, FORMAT_VERSION)), write_opt=synced)
                return
            found = meta.get(_FORMAT_KEY)
        finally:
            meta.close()
        if found is None:
            raise LogUnusable(f"{self.path} is a RocksDB database without a format marker: not an event log of scapp")
        if found != msgspec.msgpack.encode((FORMAT_NAME, FORMAT_VERSION)):
            raise LogUnusable(
                f"{self.path} has log format {_format_text(found)}; "
                f"this version reads {FORMAT_NAME} {FORMAT_VERSION} only: use the version that wrote it, or migrate it"
            )


def _format_text(found: bytes) -> str:
    try:
        name, version = msgspec.msgpack.decode(found, type=tuple[str, int])
    except msgspec.DecodeError:
        return f"0x{found.hex()}"
    return f"{name} {version}"


def _prepare_directory(path: Path) -> bool:
    """Make the directory, durably; tell whether a new database will be created in it."""
    try:
        if not path.exists():
            path.mkdir(parents=True)
            _sync_directory(path.parent)
        entries = {entry.name for entry in path.iterdir()}
    except OSError as error:
        raise LogUnusable(f"cannot use {path} as the log's directory: {error}") from error
    if "CURRENT" not in entries:
        return True
    try:
        families = set(Rdict.list_cf(str(path), _options()))
    except Exception as error:
        raise _opening_error(path, error) from error
    unknown = families - {"default", *_FAMILIES}
    if unknown:
        raise LogUnusable(f"{path} is a database with the unknown column families {', '.join(sorted(unknown))}")
    return False


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _open(path: Path) -> Rdict:
    try:
        return Rdict(str(path), _options(), column_families={name: _options() for name in _FAMILIES})
    except Exception as error:  # rocksdict raises nothing narrower
        raise _opening_error(path, error) from error


def _options() -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.create_missing_column_families(True)
    table = BlockBasedOptions()
    table.set_block_size(_BLOCK_BYTES)
    options.set_block_based_table_factory(table)
    # Signatures and hashes do not compress, and reading back is a fifth faster without.
    options.set_compression_type(DBCompressionType.none())
    options.set_max_total_wal_size(_WAL_BYTES_MAX)
    options.set_max_open_files(_OPEN_FILES_MAX)
    options.set_keep_log_file_num(4)
    # The default would silently drop everything after a damaged record in the middle of the write-ahead log, signed
    # states among it. This mode accepts an incomplete last record (a crash while writing) and refuses damage.
    options.set_wal_recovery_mode(DBRecoveryMode.tolerate_corrupted_tail_records())
    return options


def _opening_error(path: Path, error: Exception) -> LogLocked | LogCorrupt | LogUnusable:
    text = str(error)
    if "/LOCK:" in text:
        return LogLocked(f"{path} is open in another process or log object; close that first ({text})")
    if "Corruption" in text:
        return LogCorrupt(f"{path} cannot be opened: {text}")
    return LogUnusable(f"{path} cannot be opened: {text}")


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
