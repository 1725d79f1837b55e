"""Run as a script: drop to a user, tie this process to its parent's life, and become another program.

`python launch.py PARENT UID GID FOLDER PROGRAM ARGUMENTS…`; `embedded.py` starts the server through it. It is a
program of its own because the same steps between fork and exec of a threaded process could deadlock, and because
changing the user clears the parent-death signal.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """PARENT 0 means: live on when the parent ends. UID -1 means: stay who we are."""
    parent, uid, gid = (int(text) for text in arguments[:3])
    folder, command = arguments[3], arguments[4:]
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    os.chdir(folder)
    os.umask(0o077)
    if parent and sys.platform == "linux":
        # SIGINT asks PostgreSQL for a fast, clean shutdown. The parent may have ended before the call.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)
        if os.getppid() != parent:
            sys.exit("the parent process ended while its child was starting")
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
