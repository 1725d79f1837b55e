"""A few nodes on this machine, for `scapp demo` and `scapp dev`: their directories, starting and stopping them, making
them known to each other. `processes.py` runs one.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from scapp.runtime.cli.common import Problem

if TYPE_CHECKING:
    from scapp.runtime.cli.processes import NodeChild
    from scapp.runtime.client import Client
    from scapp.runtime.documents import NodeFile

MARK = ".scapp-demo"  # of demo and game, which go on with each other's nodes


def prepared_folder(home: Path, mark: str) -> Path:
    """A directory that is new, empty, or that an earlier run marked so."""
    if home.exists() and any(home.iterdir()) and not (home / mark).exists():
        raise Problem(
            f"{home} is not empty and not of an earlier run", code="refused", hint="choose another with --dir"
        )
    home.mkdir(parents=True, exist_ok=True)
    (home / mark).touch()
    return home


def emptied_folder(home: Path, mark: str, names: Sequence[str]) -> Path:
    """`prepared_folder` without the nodes that an earlier run may have left in it. Raises LocalError when one runs."""
    from scapp.runtime.cli.processes import NodeChild, refuse_running

    prepared_folder(home, mark)  # which refuses what is not an earlier run's: what is there goes
    earlier = [NodeChild(name, home / name) for name in names]
    for child in earlier:
        refuse_running(child.home)
    remove_nodes(home, earlier)
    return prepared_folder(home, mark)


def child_in(name: str, folder: Path, more: str = "") -> NodeChild:
    """A node's directory with key and settings, made once; `more` is what its settings must hold besides ports.

    Raises LocalError when a node runs there."""
    from scapp.runtime.cli.processes import NodeChild, free_ports, refuse_running, write_settings
    from scapp.runtime.config import CONFIG_FILE, load_config, parse_listen
    from scapp.runtime.keys_file import find_key, new_key

    home, settings = folder / name, folder / name / CONFIG_FILE
    refuse_running(home)
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


def _ready(child: NodeChild) -> NodeFile:
    """What a started node says of itself. When somebody took a port of it before it could, on other ones."""
    from scapp.channels.errors import LocalError

    for _ in range(2):
        try:
            return child.wait_ready()
        except LocalError:
            if child.running or not move_ports(child.home):
                raise
            child.wait_stopped()
            child.start()
    return child.wait_ready()


def move_ports(home: Path) -> bool:
    """New ports in the settings in place of those that are taken; False when none is, and so none was the trouble."""
    from scapp.runtime.cli.processes import free_ports, is_free
    from scapp.runtime.config import CONFIG_FILE, load_config, parse_listen

    known, settings = load_config(home, environ={}), home / CONFIG_FILE
    ports = [parse_listen(text, "listen")[1] for text in (known.node.listen, known.api.listen)]
    taken = [port for port in ports if not is_free(port)]
    text = settings.read_text("utf-8")
    for port, free in zip(taken, free_ports(len(taken)), strict=True):
        text = text.replace(f'"127.0.0.1:{port}"', f'"127.0.0.1:{free}"')
    settings.write_text(text, "utf-8")
    return bool(taken)


def remove_nodes(home: Path, children: Sequence[NodeChild]) -> None:
    """The directory, and what PostgreSQL had to put elsewhere."""
    from scapp.runtime.database.embedded import EmbeddedBackend

    for child in children:
        if (child.home / "pg").exists():
            EmbeddedBackend(child.home / "pg").remove()
    shutil.rmtree(home, ignore_errors=True)


@contextlib.contextmanager
def running_nodes(children: Sequence[NodeChild]) -> Iterator[None]:
    """Started, and all stopped at the end."""
    from scapp.runtime.cli.processes import stop_all

    try:
        for child in children:
            child.start()
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


def introduce(children: Sequence[NodeChild]) -> list[Client]:
    """Clients of nodes that have started, each of which now knows all others by their names."""
    files = [_ready(child) for child in children]
    clients = [child.client() for child in children]
    for client, own in zip(clients, files, strict=True):
        for child, other in zip(children, files, strict=True):
            if other.address != own.address:
                client.add_peer(other.address, other.listen, child.name)
    return clients
