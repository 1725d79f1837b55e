"""Where nodes and database servers of tests live; pytest's own folders are closed to other users."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path


def open_folder(prefix: str) -> Path:
    """A temporary folder that a database server's own user can reach too, when the tests run as root.

    In memory where there is plenty: dozens of nodes and servers that sync their files would wait for the disk, and so
    would who removes them. A process that is killed loses no write in either; chaos keeps to the disk."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2 * 1024**3
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=memory if roomy else None))
    folder.chmod(0o711 if os.geteuid() == 0 else 0o700)
    return folder
