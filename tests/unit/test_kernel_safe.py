"""The kernel built with checks of overflow and bounds goes through the oracle: a check that fails is a bug."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILD = """
import runpy, sys
from pathlib import Path
runpy.run_path("runtime/kernel/build.py")["build"](Path(sys.argv[1]), safe=True)
"""
RUN = """
import sys
from pathlib import Path
import pytest
from scapp.runtime.native import modules
checked = Path(sys.argv[1]).read_bytes()
modules.kernel_bytes = lambda: checked
# Frames of a checked build are longer, so the stack's end comes too soon there.
sys.exit(pytest.main([
    "tests/unit/test_kernel_oracle.py", "tests/unit/test_kernel_traps.py", "tests/unit/test_kernel_long.py", "-q", "-x",
    "-m", "not slow", "-p", "no:cacheprovider", "-k", "not test_the_stack_may_end",
]))
"""


def _python(code: str, argument: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, str(argument)]
    environment = {**os.environ, "SCAPP_ORACLE_EXAMPLES": "300"}
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_no_check_of_overflow_or_bounds_fails(tmp_path: Path) -> None:
    artifact = tmp_path / "kernel.wasm"
    built = _python(BUILD, artifact)
    assert built.returncode == 0, built.stderr
    done = _python(RUN, artifact)
    assert done.returncode == 0, done.stdout[-4_000:] + done.stderr
