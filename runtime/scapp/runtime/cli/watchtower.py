"""`scapp watchtower`: answer stale challenges for others, without their keys."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from scapp.runtime.cli.common import common, emit, settings


@click.command()
@common
@click.option(
    "--config", type=click.Path(path_type=Path, dir_okay=False), help="TOML file  [SCAPP_CONFIG, HOME/scapp.toml]"
)
@click.option("--listen", metavar="HOST:PORT", default="127.0.0.1:7430", show_default=True, help="Where packages come")
@click.option("--channels-max", type=click.IntRange(1), default=100_000, show_default=True)
@click.option("--log-level", metavar="LEVEL", help="debug, info, warning or error (log.level)")
def watchtower(config: Path | None, listen: str, channels_max: int, log_level: str | None) -> None:
    """Watch channels on the chain and answer challenges with older states than their dispute packages hold.

    Packages come from nodes that name this tower in disputes.watchtowers. The directory needs a chain key, the chain in
    scapp.toml, and a token for each client: docs/reference/watchtower.md."""
    from scapp.runtime.config import load_config
    from scapp.runtime.watchtower.process import run_watchtower

    home = settings().directory
    flags = {"log.level": log_level} if log_level else {}
    loaded = load_config(home, file=config, flags=flags)

    def ready(url: str, account: str, channels: int) -> None:
        document = {"url": url, "account": account, "channels": channels}
        emit(document, f"watchtower at {url}: {channels} channels; account {account}")
        sys.stdout.flush()

    run_watchtower(home, loaded, listen, channels_max, ready)
