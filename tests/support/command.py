"""The `scapp` command as a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from tests.support.cluster import environment


def run(*arguments: str, timeout_s: float = 240) -> subprocess.CompletedProcess[str]:
    """With `--json`."""
    command = [sys.executable, "-m", "scapp.runtime.cli.main", "--json", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, env=environment())


def document(*arguments: str) -> dict[str, Any]:
    """What it prints."""
    done = run(*arguments)
    assert done.returncode == 0, f"{arguments} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    found: dict[str, Any] = json.loads(done.stdout)
    return found
