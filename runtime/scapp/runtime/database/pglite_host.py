"""Run as a script: hosts py-pglite's manager for `pglite.py`, in a process of its own.

py-pglite changes the working directory of the process that starts it, and its clean-up looks through the whole
machine for processes to end. Here the first harms nobody and the second is switched off. The host prints one line
when the database answers and lives until its standard input ends.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any

START_TIMEOUT_S = 90


def main(arguments: list[str]) -> None:
    """FOLDER SOCKET: where package.json and pglite_manager.js lie, and the socket to serve."""
    folder, socket = Path(arguments[0]), arguments[1]
    from py_pglite import PGliteConfig, PGliteManager  # type: ignore[import-untyped,unused-ignore]

    class Manager(PGliteManager):  # type: ignore[misc,unused-ignore]
        def _kill_existing_processes(self) -> None:
            """The lock of the data directory already says that there is none."""

        def _kill_all_pglite_processes(self) -> None:
            """Other people's processes are not ours to end."""

    config = PGliteConfig(
        timeout=START_TIMEOUT_S, work_dir=folder, socket_path=socket, auto_install_deps=False, cleanup_on_exit=False
    )
    manager = Manager(config)
    manager.start()
    threading.Thread(target=_drain, args=(manager.process,), daemon=True).start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    # The child reads the same pipe and ends with it; its exit, whatever the reason, ends us too.
    process = manager.process
    assert process is not None
    process.wait()


def _drain(process: Any) -> None:
    """An undrained pipe would stop the child once it is full."""
    for line in process.stdout:
        sys.stderr.write(line)
        sys.stderr.flush()


if __name__ == "__main__":
    os.umask(0o077)
    main(sys.argv[1:])
