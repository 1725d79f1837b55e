"""A log on a disk that is mounted read-only: said in words, nothing changed, and found whole once it can be written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.tree import ROOT

PROGRAM = """
import subprocess, sys
from pathlib import Path
from scapp.channels.log.port import Append, LogUnusable, LogWriteFailed, StreamWrite
from scapp.channels.log.rocks import RocksLog

disk = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "none", str(disk)], check=True)

def remount(how):
    subprocess.run(["mount", "-o", "remount," + how, str(disk)], check=True)

stream = bytes([10]) * 32
with RocksLog(disk / "log") as log:
    log.append(Append((StreamWrite(stream, 0, (b"kept",)),)))
remount("ro")
for path in (disk / "log", disk / "new"):
    try:
        RocksLog(path)
        print("opened", path)
    except LogUnusable as error:
        print("refused:", error)
remount("rw")
with RocksLog(disk / "log") as log:
    print("found", [event for page in log.read(stream) for event in page.events])
"""


def test_a_read_only_disk_is_refused_in_words_and_nothing_is_lost(tmp_path: Path) -> None:
    """In a mount namespace of its own, where the kernel permits one."""
    permitted = subprocess.run(
        ["unshare", "--mount", "mount", "-t", "tmpfs", "none", str(tmp_path)], capture_output=True, text=True
    )
    if permitted.returncode:
        pytest.skip(f"mount namespaces are not permitted here: {permitted.stderr.strip()}")
    command = ["unshare", "--mount", sys.executable, "-c", PROGRAM, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    old, new, found = done.stdout.splitlines()
    assert old.startswith("refused:")
    assert "Read-only file system" in old
    assert "cannot be opened" in old
    assert new.startswith("refused:")
    assert "cannot use" in new
    assert found == "found [b'kept']"
