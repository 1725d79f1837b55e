"""Backups of a node's directory: whole or not at all, checked to the last event, marked as restored."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from scapp.channels.channel.events import ChannelCreated, Restored, decode_event, encode_event
from scapp.channels.errors import LocalError
from scapp.channels.log.port import NODE_STREAM, Append, LogCorrupt, StreamWrite
from scapp.channels.log.rocks import RocksLog
from scapp.channels.node_events import NodeRestored, decode_node_event
from scapp.runtime.backup import make_backup
from scapp.runtime.backup_format import MANIFEST, VERSION, Manifest, parse_manifest
from scapp.runtime.progress import Meter
from scapp.runtime.restore import restore_backup
from tests.unit.test_stored_forms import EVENTS

A, B = b"\x0a" * 32, b"\x0b" * 32
ADDRESS = "0x" + "11" * 20
MADE_MS, NOW_MS = 1_700_000_000_000, 1_700_000_500_000


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A node's directory with two channels, settings, a deployment, a key and things that no backup holds."""
    home = tmp_path / "home"
    (home / "deployments").mkdir(parents=True)
    (home / "deployments" / "app.json").write_text("{}")
    (home / "pg").mkdir()
    (home / "pg" / "table").write_text("derived")
    (home / "scapp.toml").write_text("[log]\n")
    for name in ("key", "chain-key", "api.token", "tokens.json"):
        (home / name).write_text(f"secret {name}")
        (home / name).chmod(0o600)
    with RocksLog(home / "log") as log:
        for stream in (A, B):
            log.append(Append((StreamWrite(stream, 0, (encode_event(EVENTS["created.1"]),)),), {b"k" + stream: b"row"}))
            for version in range(1, 5):
                log.append(Append((StreamWrite(stream, version, (encode_event(EVENTS["seen.1"]),)),)))
    return home


def back_up(home: Path, target: Path, *, keys: bool = False) -> Manifest:
    with RocksLog(home / "log") as log:
        return make_backup(
            home, log, target, address=ADDRESS, keys=keys, now_ms=MADE_MS, scapp="0.1.0", meter=Meter("backup")
        )


def put_back(source: Path, home: Path) -> dict[str, str]:
    return restore_backup(source, home, now_ms=NOW_MS, meter=Meter("restore")).unreadable


@pytest.mark.parametrize("name", ["backup", "backup.tar"])
def test_what_was_backed_up_is_there_after_a_restore(home: Path, tmp_path: Path, name: str) -> None:
    """Log, outbox, settings, deployments and channel ids; neither keys nor what is derived."""
    made = back_up(home, tmp_path / name)
    assert made.channels == ("0x" + A.hex(), "0x" + B.hex())
    assert put_back(tmp_path / name, tmp_path / "new") == {}
    new = tmp_path / "new"
    assert (new / "scapp.toml").read_text() == "[log]\n"
    assert (new / "deployments" / "app.json").read_text() == "{}"
    assert not [
        each for each in ("key", "chain-key", "api.token", "tokens.json", "pg", MANIFEST) if (new / each).exists()
    ]
    with RocksLog(new / "log") as log:
        for stream in (A, B):
            events = [decode_event(data) for page in log.read(stream) for data in page.events]
            assert isinstance(events[0], ChannelCreated)
            assert [type(event) for event in events].count(Restored) == 1
            assert isinstance(events[-1], Restored)
            assert (events[-1].at_ms, events[-1].backup_ms, len(events[-1].token)) == (NOW_MS, MADE_MS, 16)
        facts = [decode_node_event(data) for page in log.read(NODE_STREAM) for data in page.events]
        assert facts == [NodeRestored(NOW_MS, MADE_MS)]
        assert [value for _, value in log.outbox()] == [b"row", b"row"]


def test_keys_are_in_a_backup_only_on_request(home: Path, tmp_path: Path) -> None:
    """And private at every step."""
    made = back_up(home, tmp_path / "with", keys=True)
    assert made.has_keys
    put_back(tmp_path / "with", tmp_path / "new")
    for name in ("key", "chain-key", "api.token", "tokens.json"):
        assert (tmp_path / "new" / name).read_text() == f"secret {name}"
        assert (tmp_path / "new" / name).stat().st_mode & 0o077 == 0
    assert (tmp_path / "with").stat().st_mode & 0o077 == 0
    back_up(home, tmp_path / "with.tar", keys=True)
    assert (tmp_path / "with.tar").stat().st_mode & 0o077 == 0


def test_a_key_that_others_can_read_is_not_copied(home: Path, tmp_path: Path) -> None:
    (home / "key").chmod(0o644)
    with pytest.raises(LocalError, match="others can read it"):
        back_up(home, tmp_path / "b", keys=True)
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_a_backup_is_one_moment_while_the_log_grows(home: Path, tmp_path: Path) -> None:
    """What is appended after the checkpoint is not in it, and what was durable before is."""
    with RocksLog(home / "log") as log:
        log.append(Append((StreamWrite(A, 5, (encode_event(EVENTS["seen.1"]),)),)), durable=False)
        make_backup(
            home, log, tmp_path / "b", address=ADDRESS, keys=False, now_ms=MADE_MS, scapp="0.1.0", meter=Meter()
        )
        log.append(Append((StreamWrite(A, 6, (encode_event(EVENTS["seen.1"]),)),)))
    put_back(tmp_path / "b", tmp_path / "new")
    with RocksLog(tmp_path / "new" / "log") as log:
        assert log.version(A) == 7  # six events and the restore's fact


@pytest.mark.parametrize("name", ["b", "b.tar"])
def test_nothing_is_ever_written_over(home: Path, tmp_path: Path, name: str) -> None:
    back_up(home, tmp_path / name)
    with pytest.raises(LocalError, match="exists already"):
        back_up(home, tmp_path / name)
    with pytest.raises(LocalError, match="is no directory"):
        back_up(home, tmp_path / "missing" / name)
    with pytest.raises(LocalError, match="is not empty"):
        put_back(tmp_path / name, home)
    (tmp_path / "file").write_text("")
    with pytest.raises(LocalError, match="is not empty"):
        put_back(tmp_path / name, tmp_path / "file")
    assert (home / "key").exists()


def change_manifest(change: Callable[[dict], None]) -> Callable[[Path], None]:
    def apply(backup: Path) -> None:
        document = msgspec.json.decode((backup / MANIFEST).read_bytes())
        change(document)
        (backup / MANIFEST).write_bytes(msgspec.json.encode(document))

    return apply


def flip(backup: Path) -> None:
    path = next(path for path in sorted((backup / "log").iterdir()) if path.suffix == ".sst")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def escape(document: dict) -> None:
    document["files"]["home/../../outside"] = {"bytes": 0, "sha256": ""}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (flip, "is damaged: expected .* with SHA-256"),
        (lambda backup: (backup / "home" / "scapp.toml").unlink(), "is not whole: it lacks home/scapp.toml"),
        (lambda backup: (backup / "home" / "more").write_text(""), "has home/more, unknown to its manifest"),
        (lambda backup: (backup / MANIFEST).write_bytes(b"{"), "cannot be read"),
        (lambda backup: (backup / MANIFEST).write_bytes(b"[" * 100_000), "cannot be read"),
        (change_manifest(lambda d: d.update(version=VERSION + 1)), "install the newer scapp that wrote it"),
        (change_manifest(lambda d: d.update(format="photos")), "is no backup of scapp"),
        (change_manifest(lambda d: d.pop("files")), "cannot be read"),
        (change_manifest(escape), "which has no place in a backup"),
        (change_manifest(lambda d: d["channels"].append("0x" + "cc" * 32)), "the log lacks channel 0xcccc"),
    ],
)
def test_a_backup_that_is_not_whole_leaves_nothing_behind(
    home: Path, tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    back_up(home, tmp_path / "b")
    spoil(tmp_path / "b")
    with pytest.raises(LocalError, match=message):
        put_back(tmp_path / "b", tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "home"]


def test_a_file_that_is_no_backup_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.tar").write_text("hello")
    for source, message in ((tmp_path / "text.tar", "neither a directory nor a tar"), (tmp_path / "no", "not exist")):
        with pytest.raises(LocalError, match=message):
            put_back(source, tmp_path / "new")
    with tarfile.open(tmp_path / "other.tar", "w") as tar:
        tar.add(tmp_path / "text.tar", "log/file")
    with pytest.raises(LocalError, match=r"has no file manifest\.json"):
        put_back(tmp_path / "other.tar", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_channel_that_was_corrupt_before_stays_closed_and_is_named(home: Path, tmp_path: Path) -> None:
    """The others are restored: a backup of a damaged log is better than none."""
    with RocksLog(home / "log") as log:
        store = log._store
        from rocksdict import WriteBatch

        from scapp.channels.log.framing import page_key

        batch = WriteBatch(raw_mode=True)
        store.pages.put(batch, page_key(A, 2), b"damaged, and of no use at all")
        store.write(batch, sync=True)
    back_up(home, tmp_path / "b")
    unreadable = put_back(tmp_path / "b", tmp_path / "new")
    assert list(unreadable) == ["0x" + A.hex()]
    assert "version 2" in unreadable["0x" + A.hex()]
    with RocksLog(tmp_path / "new" / "log") as log:
        assert isinstance(decode_event(list(log.read(B))[-1].events[-1]), Restored)
        with pytest.raises(LogCorrupt):
            list(log.read(A))


def test_a_full_disk_leaves_no_half_backup(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        back_up(home, tmp_path / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_the_manifest_of_version_1_stays_readable() -> None:
    """Backups are kept for long."""
    text = (
        b'{"format":"scapp-backup","version":1,"made_ms":1,"scapp":"0.1.0","address":"0x11","has_keys":false,'
        b'"channels":["0x22"],"files":{"log/CURRENT":{"bytes":16,"sha256":"00"}},"later":"ignored"}'
    )
    manifest = parse_manifest(text, "old")
    assert (manifest.channels, manifest.size) == (("0x22",), 16)
