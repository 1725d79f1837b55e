"""`scapp backup` and `scapp restore`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from scapp.runtime.cli.common import common, emit, printable, settings, waiting, watched

if TYPE_CHECKING:
    from scapp.runtime.recovery_documents import BackupView


@click.command()
@common
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--keys", is_flag=True, help="With the keys and the API tokens: whoever has the backup is you")
def backup(target: Path, keys: bool) -> None:
    """Back up the node to TARGET, a new directory or a file `….tar`, while it runs or not.

    Without --keys keep the channel key and the chain key elsewhere: without the first a backup is of no use."""
    from scapp.runtime.client import NodeUnreachable

    target = target.absolute()
    try:
        with settings().client(timeout_s=86_400.0) as node, waiting("backing up", "backup"):
            made = node.backup(str(target), keys=keys)
    except NodeUnreachable:
        if settings().url is not None:
            raise
        made = _offline(target, keys)
    emit(
        made,
        f"{made.path}: {made.files} files, {made.bytes:,} bytes, the ledgers and {made.channels} other channels"
        + ("" if made.has_keys else "; without the keys: keep those elsewhere"),
    )


def _offline(target: Path, keys: bool) -> BackupView:
    """No node runs: this process takes the directory for as long as it reads."""
    from scapp.channels.log.rocks import RocksLog
    from scapp.runtime.backup import backup_view, make_backup
    from scapp.runtime.compose import now_ms, own_version
    from scapp.runtime.home_lock import lock_home
    from scapp.runtime.keys_file import key_info

    home = settings().directory.absolute()
    address = "0x" + key_info(home).address.hex()
    give_back = lock_home(home)
    try:
        with watched("backing up") as meter, RocksLog(home / "log") as log:
            made = make_backup(
                home, log, target, address=address, keys=keys, now_ms=now_ms(), scapp=own_version(), meter=meter
            )
    finally:
        give_back()
    return backup_view(target, made)


@click.command()
@common
@click.argument("source", type=click.Path(path_type=Path))
def restore(source: Path) -> None:
    """Put the backup SOURCE into the node's directory (--home), which must be empty or new.

    Each channel then recovers: it signs nothing until every other participant has told its highest signed state."""
    from scapp.runtime.compose import now_ms
    from scapp.runtime.restore import restore_backup

    home = settings().directory.absolute()
    with watched("restoring") as meter:
        done = restore_backup(source.absolute(), home, now_ms=now_ms(), meter=meter)
    lines = [f"{home}: node {done.address}, {done.channels} channels, {done.bytes:,} bytes, restored"]
    if not done.has_keys:
        lines.append(
            f"The keys of {done.address} were not in the backup: before the start put the channel key to {home}/key, "
            f"and the chain key, if it had one, to {home}/chain-key."
        )
    lines.append("Never start the node that this backup was made of again: two of them would contradict each other.")
    lines.append(
        f"Next: scapp -C {home} node; `scapp channel list`, `scapp ledger list` and `scapp payments list` show what is "
        "still recovering, and from whom."
    )
    lines += [f"channel {channel} cannot be read: {printable(fault)}" for channel, fault in done.unreadable.items()]
    emit(done, "\n".join(lines))
