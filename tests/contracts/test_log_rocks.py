"""The log on disk under the contract; locking, format marker, disk failures, syncs, and bytes others can read."""

from __future__ import annotations

import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgpack
import msgspec
import pytest
from rocksdict import Options, Rdict

from scapp.channels.log.framing import unframe_head
from scapp.channels.log.port import (
    Append,
    EventLog,
    LogClosed,
    LogCorrupt,
    LogLocked,
    LogUnusable,
    LogWriteFailed,
    Snapshot,
    StreamWrite,
)
from scapp.channels.log.rocks import HEAD_STRIDE, RocksLog
from tests.contracts.log_contract import A, B, LogContract, contents, events_of, write


class RocksHarness:
    """A crash is a copy of the files as they are under the open log: what the system holds when a process dies."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._copies = 0

    def open(self) -> EventLog:
        return RocksLog(self._root / "log")

    def reopen(self, log: EventLog) -> EventLog:
        log.close()
        return self.open()

    def crash(self, log: EventLog) -> EventLog:
        self._copies += 1
        copy = self._root / f"copy{self._copies}"
        shutil.copytree(self._root / "log", copy)
        return RocksLog(copy)


class TestRocksLog(LogContract):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> RocksHarness:
        return RocksHarness(tmp_path)


def run_python(program: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# -- opening ---------------------------------------------------------------------------------------------------


def test_a_second_process_is_told_that_the_log_is_open(tmp_path: Path) -> None:
    """A second process is told that the log is open."""
    program = (
        "import sys, pathlib\n"
        "from scapp.channels.log.port import LogLocked\n"
        "from scapp.channels.log.rocks import RocksLog\n"
        "try: RocksLog(pathlib.Path(sys.argv[1]))\n"
        "except LogLocked as error: print('locked:', error)\n"
    )
    path = tmp_path / "log"
    with RocksLog(path) as log:
        log.append(write(A, 0, b"0"))
        told = run_python(program, str(path))
        assert told.startswith(f"locked: {path} is open in another process")
        log.append(write(A, 1, b"1"))
    assert run_python(program, str(path)) == ""


def test_a_second_log_object_is_refused_and_an_unfinished_read_does_not_keep_the_lock(tmp_path: Path) -> None:
    """A second log object is refused and an unfinished read does not keep the lock."""
    log = RocksLog(tmp_path / "log")
    log.append(write(A, 0, b"0"))
    log.append(write(A, 1, b"1"))
    with pytest.raises(LogLocked):
        RocksLog(tmp_path / "log")
    reading = log.read(A)
    next(reading)
    log.close()
    with RocksLog(tmp_path / "log") as again:
        assert events_of(again, A) == [b"0", b"1"]
    with pytest.raises(LogClosed):
        next(reading)


def test_missing_parent_directories_are_made(tmp_path: Path) -> None:
    """Missing parent directories are made."""
    with RocksLog(tmp_path / "a" / "b" / "log") as log:
        log.append(write(A, 0, b"0"))


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    """A file in the way is named."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(LogUnusable, match=re.escape(str(blocked))):
        RocksLog(blocked)


def set_marker(path: Path, value: bytes | None) -> None:
    db = Rdict(str(path), Options(raw_mode=True))
    meta = db.get_column_family("meta")
    if value is None:
        meta.delete(b"format")
    else:
        meta.put(b"format", value)
    meta.close()
    db.close()


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        (
            msgspec.msgpack.encode(("scapp-event-log", 4)),
            "has log format scapp-event-log 4; this version reads .* up to 3: install the newer scapp that wrote it",
        ),
        (msgspec.msgpack.encode(("other", 1)), "has log format other 1"),
        (b"\xc1", "has log format 0xc1"),
        (None, "without a format marker"),
    ],
)
def test_an_unknown_format_is_refused_and_left_alone(tmp_path: Path, marker: bytes | None, message: str) -> None:
    """An unknown format is refused and left alone."""
    path = tmp_path / "log"
    with RocksLog(path) as log:
        log.append(write(A, 0, b"0"))
    set_marker(path, marker)
    with pytest.raises(LogUnusable, match=message):
        RocksLog(path)
    set_marker(path, msgspec.msgpack.encode(("scapp-event-log", 1)))
    with RocksLog(path) as log:
        assert events_of(log, A) == [b"0"]


def test_a_foreign_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    """A foreign database is refused and left alone."""
    path = tmp_path / "foreign"
    db = Rdict(str(path), Options(raw_mode=True))
    db.create_column_family("theirs", Options(raw_mode=True)).close()
    db.put(b"k", b"v")
    db.close()
    with pytest.raises(LogUnusable, match="unknown column families theirs"):
        RocksLog(path)
    assert sorted(Rdict.list_cf(str(path), Options(raw_mode=True))) == ["default", "theirs"]


def test_a_lost_current_file_is_not_taken_for_a_new_log(tmp_path: Path) -> None:
    """RocksDB alone would begin anew and remove the old tables."""
    path = tmp_path / "log"
    with RocksLog(path) as log:
        log.append(write(A, 0, b"0"))
    current = (path / "CURRENT").read_bytes()
    (path / "CURRENT").unlink()
    with pytest.raises(LogCorrupt, match="but no file CURRENT"):
        RocksLog(path)
    (path / "CURRENT").write_bytes(current)
    with RocksLog(path) as log:
        assert events_of(log, A) == [b"0"]


def test_a_crash_between_creation_and_marker_leaves_a_usable_directory(tmp_path: Path) -> None:
    """A database without any row becomes a log."""
    path = tmp_path / "log"
    Rdict(str(path), Options(raw_mode=True)).close()
    with RocksLog(path) as log:
        log.append(write(A, 0, b"0"))
    with RocksLog(path) as log:
        assert events_of(log, A) == [b"0"]


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let the system refuse to make any file larger than `size` bytes, as a full disk would."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limit[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("size", [0, 10, 300])
def test_a_disk_full_at_creation_is_told_and_can_be_mended(tmp_path: Path, size: int) -> None:
    """Opening fails with a clear error, and works once there is room."""
    path = tmp_path / "log"
    with files_of_at_most(size), pytest.raises(LogUnusable, match=r"cannot be opened|cannot use"):
        RocksLog(path)
    with RocksLog(path) as log:
        log.append(write(A, 0, b"0"))


# -- durability ------------------------------------------------------------------------------------------------


def syncs(log: RocksLog) -> int:
    """Syncs of the write-ahead log so far, by RocksDB's own count (its explicit flushes are not in it)."""
    found = re.search(r"Cumulative WAL: \d+ writes, (\d+) syncs", log._store.statistics())
    assert found is not None
    return int(found[1])


def test_a_durable_append_syncs_once_and_so_does_a_whole_group(tmp_path: Path) -> None:
    """A durable append syncs once and so does a whole group."""
    with RocksLog(tmp_path / "log") as log:
        start = syncs(log)
        log.append(write(A, 0, b"0"), durable=False)
        assert syncs(log) == start
        log.append(write(A, 1, b"1"))
        assert syncs(log) == start + 1
        log.append_group([write(A, 2 + number, b"x") for number in range(50)])
        assert syncs(log) == start + 2
        log.append_group([write(A, 0, b"conflict")])
        assert syncs(log) == start + 2


FULL_DISK = """
import pathlib, resource, signal, sys
from scapp.channels.log.port import Append, LogClosed, LogWriteFailed, StreamWrite
from scapp.channels.log.rocks import RocksLog
log = RocksLog(pathlib.Path(sys.argv[1]))
stream = b"a" * 32
log.append(Append((StreamWrite(stream, 0, (b"kept",)),)))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
try:
    for version in range(1, 100):
        log.append(Append((StreamWrite(stream, version, (bytes(10_000),)),)))
except LogWriteFailed as error:
    print("failed at", version, error)
for attempt in (lambda: log.append(Append(())), log.flush):
    try:
        attempt()
    except LogClosed as error:
        print("closed:", error)
assert log.version(stream) == version
assert sum(len(page.events) for page in log.read(stream)) == version
log.close()
"""


def test_a_full_disk_fails_the_append_and_closes_the_log_for_writing_only(tmp_path: Path) -> None:
    """A file size limit stands for the full disk: the system refuses the same write in the same place."""
    path = tmp_path / "log"
    output = run_python(FULL_DISK, str(path))
    failed = re.match(r"failed at (\d+) .*the disk refused a write", output)
    assert failed is not None, output
    assert output.count("closed: ") == 2, output
    assert "takes no more writes" in output
    with RocksLog(path) as log:
        acknowledged = int(failed[1])
        assert acknowledged <= log.version(b"a" * 32) <= acknowledged + 1
        assert events_of(log, b"a" * 32)[0] == b"kept"


def test_a_failed_write_leaves_the_log_readable_and_unchanged(tmp_path: Path) -> None:
    """A failed write leaves the log readable and unchanged."""
    with RocksLog(tmp_path / "log") as log:
        log.append(write(A, 0, b"0"))
        with files_of_at_most(1000), pytest.raises(LogWriteFailed, match="disk refused"):
            log.append(write(A, 1, bytes(100_000)))
        with pytest.raises(LogClosed, match="takes no more writes since a disk failure"):
            log.append(write(A, 1, b"small"))
        assert contents(log) == ({A: [b"0"]}, [])


def test_damage_in_the_middle_of_the_write_ahead_log_is_refused_at_open(tmp_path: Path) -> None:
    """RocksDB's default would drop everything behind the damage without a word."""
    log = RocksLog(tmp_path / "log")
    for number in range(10):
        log.append(write(A, number, b"%d" % number * 1000))
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path / "log", copy)
    log.close()
    (ahead,) = [file for file in copy.glob("*.log") if file.stat().st_size]
    data = bytearray(ahead.read_bytes())
    data[len(data) // 2] ^= 1
    ahead.write_bytes(data)
    with pytest.raises(LogCorrupt, match="cannot be opened"):
        RocksLog(copy)


def test_a_record_cut_off_by_a_crash_is_dropped_whole(tmp_path: Path) -> None:
    """A record cut off by a crash is dropped whole."""
    log = RocksLog(tmp_path / "log")
    log.append(write(A, 0, b"0" * 1000))
    log.append(Append((StreamWrite(A, 1, (b"1" * 1000,)), StreamWrite(B, 0, (b"0",))), {b"k": b"v"}))
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path / "log", copy)
    log.close()
    (ahead,) = [file for file in copy.glob("*.log") if file.stat().st_size]
    ahead.write_bytes(ahead.read_bytes()[:-20])
    with RocksLog(copy) as after:
        assert contents(after) == ({A: [b"0" * 1000]}, [])
        after.append(write(A, 1, b"again"))


@pytest.mark.parametrize("version", [1, 2])
def test_a_log_of_an_older_format_is_read_and_marked_anew(tmp_path: Path, version: int) -> None:
    """In 1 the heads are all current, which is one way for them to be; in 2 channels had no snapshots of their own. An
    older version must not read what follows."""
    path = tmp_path / "log"
    with RocksLog(path) as log:
        log.append(write(A, 0, b"0"))
        log.append(write(A, 1, b"1"))
    set_marker(path, msgspec.msgpack.encode(("scapp-event-log", version)))
    with RocksLog(path) as log:
        assert contents(log) == ({A: [b"0", b"1"]}, [])
    meta = Rdict(str(path), Options(raw_mode=True)).get_column_family("meta")
    assert meta.get(b"format") == msgspec.msgpack.encode(("scapp-event-log", 3))
    meta.close()


def head_versions(log: RocksLog) -> dict[bytes, int]:
    return {key: unframe_head(key, value).version for key, value in log._store.heads.rows()}


def test_heads_are_written_with_the_first_page_in_strides_and_at_close(tmp_path: Path) -> None:
    """Between them an append of one page is one row; in a batch with others, too."""
    with RocksLog(tmp_path / "log") as log:
        for version in range(HEAD_STRIDE + 3):
            log.append(write(A, version, b"x"), durable=False)
            assert head_versions(log)[A] == (1 if version + 1 < HEAD_STRIDE else HEAD_STRIDE)
        log.append_group([write(A, HEAD_STRIDE + 3, b"x"), write(B, 0, b"y")])
        log.append(Append((StreamWrite(A, HEAD_STRIDE + 4, (b"x",)),), {b"k": b"v"}))
        assert head_versions(log) == {A: HEAD_STRIDE, B: 1}
        log.append(write(A, HEAD_STRIDE + 5, *[b"x"] * 2 * HEAD_STRIDE))
        assert head_versions(log) == {A: 3 * HEAD_STRIDE + 5, B: 1}
        log.append(write(B, 1, b"y"))
    with RocksLog(tmp_path / "log") as log:
        assert head_versions(log) == {A: 3 * HEAD_STRIDE + 5, B: 2}


def test_a_log_that_was_not_closed_is_found_whole(tmp_path: Path) -> None:
    """Its head lags behind; the pages since lead to the end, and the next close brings the head there."""
    harness = RocksHarness(tmp_path)
    log = harness.open()
    for version in range(5):
        log.append(write(A, version, b"%d" % version))
    after = harness.crash(log)
    assert isinstance(after, RocksLog)
    assert head_versions(after) == {A: 1}
    assert after.version(A) == 5
    assert events_of(after, A) == [b"%d" % version for version in range(5)]
    after.append(write(A, 5, b"5"))
    after.close()
    log.close()
    with RocksLog(tmp_path / "copy1") as again:
        assert head_versions(again) == {A: 6}


# -- stored bytes ----------------------------------------------------------------------------------------------


def test_an_independent_decoder_reads_every_stored_value(tmp_path: Path) -> None:
    """An independent decoder reads every stored value."""
    with RocksLog(tmp_path / "log") as log:
        log.append(Append((StreamWrite(A, 0, (b"", b"one", b"x" * 70_000)), StreamWrite(B, 0, (b"b",))), {b"k": b"v"}))
        log.append(write(A, 3, b"three"))
        log.save_snapshot(A, Snapshot(3, b"snap"))
        store = log._store
        pages = [(key, msgpack.unpackb(value)) for key, value in store.pages.rows()]
        heads = [(key, msgpack.unpackb(value)) for key, value in store.heads.rows()]
        outbox = [(key, msgpack.unpackb(value)) for key, value in store.outbox.rows()]
        ((snapshot_key, snapshot),) = [(key, msgpack.unpackb(value)) for key, value in store.snapshots.rows()]
    assert [key for key, _ in pages] == [A + bytes(8), A + bytes(7) + b"\x03", B + bytes(8)]
    assert [page[1] for _, page in pages] == [[b"", b"one", b"x" * 70_000], [b"three"], [b"b"]]
    assert [page[0] for _, page in pages] == [0, pages[0][1][2], 0]
    # A's second page has not moved its head: that follows at close.
    assert [(key, head[:2]) for key, head in heads] == [(A, [3, pages[0][1][2]]), (B, [1, pages[2][1][2]])]
    with RocksLog(tmp_path / "log") as log:
        rows = log._store.heads.rows()
    assert [msgpack.unpackb(value)[:2] for _, value in rows] == [[4, pages[1][1][2]], [1, pages[2][1][2]]]
    assert [(key, row[0]) for key, row in outbox] == [(b"k", b"v")]
    assert (snapshot_key, snapshot[:2]) == (A + bytes(7) + b"\x03", [b"snap", pages[0][1][2]])


def test_rocksdbs_own_notes_stay_small(tmp_path: Path) -> None:
    """Whatever it notes in all the years of a process: the oldest files go."""
    with RocksLog(tmp_path / "log"):
        options = next((tmp_path / "log").glob("OPTIONS-*")).read_text()
    values = dict(re.findall(r"^\s*(keep_log_file_num|max_log_file_size)=(\d+)", options, re.M))
    assert int(values["keep_log_file_num"]) * int(values["max_log_file_size"]) == 16 * 1024 * 1024
