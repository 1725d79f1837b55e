"""`scapp dev` as people run it: real nodes, saves good and bad, messages from another terminal, everything stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from scapp.runtime.client import Client
from tests.support.cluster import environment

pytestmark = pytest.mark.slow
PATIENCE_S = 60.0


def eventually(what: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def app(tmp_path: Path) -> Path:
    pytest.importorskip("ziglang", reason="the Zig compiler is not installed: pip install 'scapp[zig]'")
    subprocess.run(
        [sys.executable, "-m", "scapp.runtime.cli.main", "new", "tally", "--dir", tmp_path / "tally"], check=True
    )
    return tmp_path / "tally"


def start(app: Path, *options: str) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "scapp.runtime.cli.main",
        "dev",
        str(app),
        "--dir",
        str(app.parent / "nodes"),
        *options,
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())


def edit(app: Path, old: str, new: str) -> None:
    source = app / "tally.zig"
    text = source.read_text()
    assert old in text
    source.write_text(text.replace(old, new))


def lines_of(process: subprocess.Popen[str], until: str) -> str:
    """Output up to the line with this."""
    assert process.stdout is not None
    found = []
    for line in process.stdout:
        found.append(line)
        if until in line:
            return "".join(found)
    raise AssertionError("".join(found) + process.communicate()[1])


def test_saves_are_shown_and_the_network_moves_along(app: Path) -> None:
    """A change, a mistake, and its mending; what somebody sent meanwhile goes along; Ctrl-C ends it all."""
    process = start(app)
    children: list[psutil.Process] = []
    try:
        assert "4 messages sent again" in lines_of(process, "runs this version")
        children = psutil.Process(process.pid).children(recursive=True)
        with Client.at_home(app.parent / "nodes" / "bob") as bob:
            (channel,) = bob.channels()
            (receipt,) = bob.send(channel.channel_id, {"add": {"who": "ben", "points": 5}})
            assert receipt.status == "accepted"
            assert f"entry {receipt.sequence} from bob" in lines_of(process, "from bob")
        edit(app, "before + points", "before + pints")
        assert "undeclared identifier 'pints'" in lines_of(process, "pints")
        edit(app, "before + pints", "before + 2 * points")
        told = lines_of(process, "runs this version")
        assert "saved and derived again in " in told
        assert "score (who ben): points 5 → 10" in told
        assert "score (who zoe): points 4 → 8" in told
        assert "5 messages sent again" in told
        with Client.at_home(app.parent / "nodes" / "alice") as alice:
            first, second = alice.channels()
            assert first.deployment_id != second.deployment_id
            newest = first if second.channel_id == channel.channel_id else second
            app_ = alice.deployment(newest.deployment_id)
            asked = f"select who, points from {app_.schema}.score where channel_id = $1::bytea order by who"
            rows: list[list[object]] = []

            def derived() -> bool:
                rows[:] = [list(row) for row in alice.query(asked, ["\\x" + newest.channel_id[2:]]).rows]
                return len(rows) == 2

            eventually(derived, process)
            assert rows == [["ben", 10], ["zoe", 8]]
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE_S)
        assert (process.returncode, err) == (0, ""), err
        assert "2 saves; save to derived again: median" in out
    finally:
        process.kill()
        process.communicate()
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    assert not (app.parent / "nodes").exists()


def test_a_source_that_does_not_build_ends_it_before_any_node_starts(app: Path) -> None:
    """So do a test with other participants than nodes, and a directory that is somebody's."""
    (app.parent / "nodes").mkdir()
    (app.parent / "nodes" / "mine").write_text("")
    out, err = start(app).communicate(timeout=PATIENCE_S)
    assert "is not empty and not of an earlier run" in err
    os.unlink(app.parent / "nodes" / "mine")
    _, err = start(app, "--nodes", "3").communicate(timeout=PATIENCE_S)
    assert "first.toml has 2 participants" in err
    edit(app, "before + points", "before + pints")
    process = start(app, "--json")
    out, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert "undeclared identifier 'pints'" in json.loads(out)["error"]["message"]
    assert not (app.parent / "nodes" / "alice" / "node.log").exists()
