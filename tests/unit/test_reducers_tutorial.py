"""docs/tutorial/first-reducer.md, run as it stands: its reducer compiled, its commands in one shell."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from scapp.runtime.cli.processes import free_ports
from tests.support.snippets import blocks
from tests.support.tree import ROOT

pytest.importorskip("ziglang", reason="the Zig compiler is not installed: pip install 'scapp[zig]'")

TUTORIAL = ROOT / "docs" / "tutorial" / "first-reducer.md"


def test_the_tutorial_works_as_written(tmp_path: Path) -> None:
    """Only the four ports are replaced by free ones."""
    (source,) = blocks(TUTORIAL, "zig")
    (tmp_path / "tally.zig").write_text(source)
    script = "set -e\ntrap 'kill $ALICE_NODE $BOB_NODE 2>/dev/null || true' EXIT\n" + "\n".join(blocks(TUTORIAL, "sh"))
    for port, free in zip(("7701", "7702", "7801", "7802"), free_ports(4), strict=True):
        script = script.replace(f":{port}", f":{free}")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PATH": path, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    logs = "".join(f"\n{log.name}:\n{log.read_text()[-2000:]}" for log in tmp_path.glob("*.log"))
    assert done.returncode == 0, done.stdout + done.stderr + logs
    assert "points is 9: allowed are 1 to 5" in done.stdout + done.stderr
    assert "refused, as it should be" in done.stdout
    assert re.search(r"^zoe +4$", done.stdout, re.MULTILINE)
    assert done.stdout.count("equal") == 2
