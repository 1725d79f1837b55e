"""S10: from nothing to the end of `docs/tutorial/first-reducer.md`: seconds on the wall, downloads included.

A clone of this repository, `make setup` with empty caches, and all blocks of the page in one shell, as they stand. It
needs a package index, and the ports that the page names.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks.runner import Measure, Result, Unmeasured
from benchmarks.timing import processor_s

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = Path("docs") / "tutorial" / "first-reducer.md"
STARTED_HERE = ("VIRTUAL_ENV", "PYTHONPATH", "VENV", "MAKEFLAGS", "MAKELEVEL")


def _run(step: str, command: list[str], folder: Path, environment: dict[str, str]) -> float:
    begin = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Unmeasured(f"{step} failed: {(done.stderr or done.stdout).strip()[-800:]}")
    return time.perf_counter() - begin


def run() -> Result:
    from tests.support.snippets import blocks

    with tempfile.TemporaryDirectory(prefix="scapp-s10-") as name:
        root = Path(name)
        root.chmod(0o755)  # as root, PostgreSQL runs under another user
        caches = {
            "XDG_CACHE_HOME": "",
            "PIP_CACHE_DIR": "pip",
            "ZIG_GLOBAL_CACHE_DIR": "zig",
            "npm_config_cache": "npm",
        }
        environment = {key: value for key, value in os.environ.items() if key not in STARTED_HERE}
        begin = processor_s()
        environment |= {key: str(root / "cache" / sub) for key, sub in caches.items()}
        cloned = _run("git clone", ["git", "clone", "-q", str(REPOSITORY), "clone"], root, environment)
        installed = _run("make setup", ["make", "setup"], root / "clone", environment)
        page = root / "clone" / PAGE
        app = root / "app"
        app.mkdir(mode=0o755)
        (app / "tally.zig").write_text("\n".join(blocks(page, "zig")))
        script = f". {root / 'clone' / '.venv' / 'bin' / 'activate'}\nset -e\n" + "\n".join(blocks(page, "sh"))
        followed = _run("the tutorial", ["bash", "-c", script], app, environment)
        spent = f"processor time {processor_s() - begin:.0f} s, which a busy machine stretches"
    notes = (f"clone {cloned:.0f} s, make setup {installed:.0f} s, the page's commands {followed:.0f} s", spent)
    return Result(cloned + installed + followed, "s", notes=notes)


MEASURES = [Measure("S10", "fresh clone to the end of the tutorial", goal=600, run=run, lower_is_better=True)]
