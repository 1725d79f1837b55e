"""Opening RocksDB for `rocks_store.py`: directory, lock, options, format marker; what goes wrong, in our terms.

default     pages      stream 32 | first version u64 big-endian
heads                  stream 32
outbox                 the caller's key
snapshots, states      stream 32 | version u64 big-endian
meta                   "format": [name, version]
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import msgspec
from rocksdict import BlockBasedOptions, DBCompressionType, DBRecoveryMode, Options, Rdict, WriteOptions

from scapp.channels.log.port import LogCorrupt, LogLocked, LogUnusable

FORMAT_NAME = "scapp-event-log"
FORMAT_VERSION = 3
# Older formats that are valid ones of this version: in 1 every append wrote its streams' heads, 2 had no `states`.
_UPGRADED = (1, 2)
FAMILIES = ("heads", "outbox", "snapshots", "states", "meta")
_FORMAT_KEY = b"format"
_BLOCK_BYTES = 64 * 1024
_WAL_BYTES_MAX = 64 * 1024 * 1024  # bounds the replay at open: about 0.2 s
_OPEN_FILES_MAX = 512
_OWN_LOGS_MAX, _OWN_LOG_BYTES_MAX = 4, 4 * 1024 * 1024
"""Of the files in which RocksDB notes what it does (`LOG`): some 4 MB a day, all in one if nothing bounds it."""


def open_database(path: Path) -> Rdict:
    """The locked database in `path`, created when missing. Raises LogLocked, LogCorrupt, LogUnusable."""
    is_new = _prepare_directory(path)
    db = _open(path)
    try:
        # A crash may come between creation and marker; then the database has no row at all.
        _mark_or_check(path, db, is_new or db.latest_sequence_number() == 0)
    except LogUnusable:
        db.close()
        raise
    except Exception as error:  # rocksdict raises nothing narrower
        with suppress(Exception):  # the close may fail for the same reason; the first error is the one to tell
            db.close()
        raise _opening_error(path, error) from error
    return db


def _mark_or_check(path: Path, db: Rdict, is_new: bool) -> None:
    meta = db.get_column_family("meta")
    try:
        if is_new:
            _mark(meta)
            return
        found = meta.get(_FORMAT_KEY)
        if found in [msgspec.msgpack.encode((FORMAT_NAME, version)) for version in _UPGRADED]:
            _mark(meta)
            return
    finally:
        meta.close()
    if found is None:
        raise LogUnusable(f"{path} is a RocksDB database without a format marker: not an event log of scapp")
    if found != msgspec.msgpack.encode((FORMAT_NAME, FORMAT_VERSION)):
        raise LogUnusable(
            f"{path} has log format {_format_text(found)}; this version reads {FORMAT_NAME} up to {FORMAT_VERSION}: "
            "install the newer scapp that wrote it; nothing was changed"
        )


def _mark(meta: Rdict) -> None:
    synced = WriteOptions()
    synced.sync = True
    meta.put(_FORMAT_KEY, msgspec.msgpack.encode((FORMAT_NAME, FORMAT_VERSION)), write_opt=synced)


def _format_text(found: bytes) -> str:
    try:
        name, version = msgspec.msgpack.decode(found, type=tuple[str, int])
    except (ValueError, RecursionError):  # msgspec's own errors and UnicodeDecodeError are ValueErrors
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
        # Without that file RocksDB would begin anew and remove the tables of the old database.
        tables = sorted(name for name in entries if name.endswith((".sst", ".log")))
        if tables:
            raise LogCorrupt(f"{path} has {', '.join(tables[:3])} but no file CURRENT: part of the log is missing")
        return True
    try:
        families = set(Rdict.list_cf(str(path), _options()))
    except Exception as error:
        raise _opening_error(path, error) from error
    unknown = families - {"default", *FAMILIES}
    if unknown:
        raise LogUnusable(
            f"{path} is a database with the unknown column families {', '.join(sorted(unknown))}: no log of scapp, or "
            "one that a newer version wrote; install that one, nothing was changed"
        )
    return False


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _open(path: Path) -> Rdict:
    try:
        return Rdict(str(path), _options(), column_families={name: _options() for name in FAMILIES})
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
    # Sixteen for each of five families by default, which takes longer than opening the few files that an open opens.
    options.set_max_file_opening_threads(1)
    options.set_keep_log_file_num(_OWN_LOGS_MAX)
    options.set_max_log_file_size(_OWN_LOG_BYTES_MAX)
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
