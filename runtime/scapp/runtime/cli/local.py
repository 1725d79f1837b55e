"""Nodes of one person's play on this machine, in one directory: made once, started together, stopped in any case.

`demo.py` and `game.py` say what is played on them; `processes.py` is a single node.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from scapp.runtime.cli.common import Problem
from scapp.runtime.cli.processes import NodeChild, free_ports, stop_all, write_settings
from scapp.runtime.config import CONFIG_FILE, load_config, parse_listen
from scapp.runtime.database.embedded import EmbeddedBackend
from scapp.runtime.keys_file import find_key, new_key

MARK = ".scapp-demo"


def play_folder(home: Path) -> Path:
    """The directory: new, empty, or that of an earlier demo or game."""
    if home.exists() and any(home.iterdir()) and not (home / MARK).exists():
        raise Problem(
            f"{home} is not empty and not an earlier demo's", code="refused", hint="choose another with --dir"
        )
    home.mkdir(parents=True, exist_ok=True)
    (home / MARK).touch()
    return home


def child(name: str, folder: Path, more: str = "") -> NodeChild:
    """A node's directory with key and settings, made once; `more` is what its settings must hold besides ports."""
    home, settings = folder / name, folder / name / CONFIG_FILE
    if find_key(home) is None:
        new_key(home)
    if not settings.exists():
        listen, api = free_ports(2)
        write_settings(home, listen, api, more)
    elif more not in settings.read_text("utf-8"):
        known = load_config(home, environ={})
        listen, api = (parse_listen(text, "listen")[1] for text in (known.node.listen, known.api.listen))
        write_settings(home, listen, api, more)
    return NodeChild(name, home)


def remove(home: Path, children: Sequence[NodeChild]) -> None:
    """Also what PostgreSQL had to put elsewhere."""
    for each in children:
        if (each.home / "pg").exists():
            EmbeddedBackend(each.home / "pg").remove()
    shutil.rmtree(home, ignore_errors=True)


@contextlib.contextmanager
def running(children: Sequence[NodeChild]) -> Iterator[None]:
    """Started, and stopped at the end."""
    try:
        for each in children:
            each.start()
        yield
    finally:
        stop_all(children)


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM stops the nodes as Ctrl-C does."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
