"""Where an embedded server's files are and as which user it runs; `embedded.py` starts it there.

PostgreSQL refuses to run as root, so under root it runs as another user, who must be able to reach its cluster and
its binaries. No folder's mode is ever changed for that: what lies behind a closed folder is put elsewhere.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import sys
import tempfile
from pathlib import Path

import msgspec

from scapp.runtime.database.binaries import Binaries, copied_binaries, reachable
from scapp.runtime.database.port import DatabaseError

_SERVER_USERS = ("scapp", "postgres", "nobody")
_SYSTEM_HOME = Path("/var/lib/scapp")
_SOCKET_PATH_MAX = 100  # sun_path holds 107 bytes


class Places(msgspec.Struct, frozen=True):
    """`uid`, `gid`: whom the server runs as, -1 for ourselves. `moved_because` says why `home` is not the folder
    asked for."""

    home: Path
    sockets: Path
    uid: int = -1
    gid: int = -1
    moved_because: str | None = None

    @property
    def cluster(self) -> Path:
        """PostgreSQL's data directory."""
        return self.home / "cluster"

    def usable(self, binaries: Binaries) -> Binaries:
        """These binaries, or a copy of them that the server's user can reach."""
        if self.uid < 0 or reachable(binaries.bin, self.uid, self.gid) is None:
            return binaries
        return copied_binaries(binaries, _base_for(self.home))


class PidFile(msgspec.Struct, frozen=True):
    """What a running server wrote in `postmaster.pid`; `status` is "starting", "ready", "stopping" or ""."""

    pid: int
    status: str


def choose_places(folder: Path) -> Places:
    """Places for the server of `folder`, the same every time. Raises DatabaseError when there are none."""
    if os.geteuid() != 0:
        owner = (folder / "cluster").stat().st_uid if (folder / "cluster").exists() else os.geteuid()
        if owner != os.geteuid():
            raise DatabaseError(
                f"{folder}/cluster belongs to user {_name(owner)}, and this is {_name(os.geteuid())}: "
                "run as the user who made it, or use another data directory"
            )
        return Places(folder, socket_folder(folder))
    user = _server_user()
    closed = reachable(folder, user.pw_uid, user.pw_gid)
    if closed is None:
        return Places(folder, socket_folder(folder), user.pw_uid, user.pw_gid)
    home = _base_for(folder) / f"pg-{_digest(folder)}"
    _make_open_folder(home)
    reason = f"root may not run PostgreSQL, and {user.pw_name}, who runs it instead, may not enter {closed}"
    return Places(home, socket_folder(home), user.pw_uid, user.pw_gid, reason)


def read_pid_file(places: Places) -> PidFile | None:
    """The pid file, if there is a whole one."""
    try:
        lines = (places.cluster / "postmaster.pid").read_text(errors="replace").splitlines()
    except OSError:
        return None
    if not lines or not lines[0].strip().isdigit():
        return None
    return PidFile(int(lines[0]), lines[7].strip() if len(lines) > 7 else "")


def is_running(pid: int, places: Places) -> bool:
    """Whether that process is the server of this cluster, and not a stranger who inherited its number."""
    if sys.platform == "linux":
        try:
            return os.readlink(f"/proc/{pid}/cwd") == os.path.realpath(places.cluster)
        except OSError:
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _server_user() -> pwd.struct_passwd:
    for name in _SERVER_USERS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise DatabaseError(
        f"PostgreSQL refuses to run as root, and none of the users {', '.join(_SERVER_USERS)} exists: "
        "run as another user, make one of these, or name a server by its postgresql:// URL"
    )


def _base_for(folder: Path) -> Path:
    """Where files go that cannot lie in `folder`: what is temporary stays in the temporary directory."""
    temporary = Path(tempfile.gettempdir()).resolve()
    if folder.resolve().is_relative_to(temporary):
        return temporary / "scapp-postgres"
    return _SYSTEM_HOME


def _make_open_folder(home: Path) -> None:
    for folder in (home.parent, home):
        folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        if folder.stat().st_uid != 0 or folder.is_symlink():
            raise DatabaseError(f"{folder} belongs to user {_name(folder.stat().st_uid)}, not to root: remove it")
        folder.chmod(0o711)


def socket_folder(home: Path) -> Path:
    """A fixed place, so that connection strings outlive a restart; long paths get a short one."""
    inside = home / "run"
    if len(os.fsencode(inside / ".s.PGSQL.65535.lock")) <= _SOCKET_PATH_MAX:
        return inside
    return Path("/tmp") / f"scapp-{os.geteuid()}-{_digest(home)}"  # noqa: S108 - made fresh with mode 0700


def _digest(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:12]


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
