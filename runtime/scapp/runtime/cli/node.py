"""`scapp node`: run a node in the foreground."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scapp.runtime.cli.common import common, emit, settings

if TYPE_CHECKING:
    from scapp.runtime.documents import NodeFile


@click.command()
@common
@click.option(
    "--config", type=click.Path(path_type=Path, dir_okay=False), help="TOML file  [SCAPP_CONFIG, HOME/scapp.toml]"
)
@click.option("--listen", metavar="HOST:PORT", help="Where peers connect (node.listen)")
@click.option("--api", metavar="HOST:PORT", help="Where the local API answers (api.listen)")
@click.option("--database", metavar="BACKEND", help="embedded, url, pglite or none (database.backend)")
@click.option("--database-url", metavar="URL", help="postgresql://… (database.url)")
@click.option("--accept", metavar="POLICY", help="none, known-deployments or allow-list (policy.accept)")
@click.option("--log-level", metavar="LEVEL", help="debug, info, warning or error (log.level)")
@click.option("--log-format", metavar="FORMAT", help="auto, json or human (log.format)")
@click.option("--set", "pairs", multiple=True, metavar="SECTION.KEY=VALUE", help="Any other setting; may be repeated")
@click.option("--stop-with-stdin", is_flag=True, hidden=True, help="Stop when standard input ends: for child processes")
@click.option("--print-config", is_flag=True, help="Print the settings that would apply, as TOML, and stop")
def node(
    config: Path | None, pairs: tuple[str, ...], print_config: bool, stop_with_stdin: bool, **given: str | None
) -> None:
    """Run a node until SIGTERM or Ctrl-C. Flags are stronger than environment, file and defaults."""
    from scapp.runtime.config import config_as_toml, load_config

    names = {
        "listen": "node.listen", "api": "api.listen", "database": "database.backend", "database_url": "database.url",
        "accept": "policy.accept", "log_level": "log.level", "log_format": "log.format",
    }  # fmt: skip
    flags: dict[str, Any] = {names[name]: value for name, value in given.items() if value is not None}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise click.BadParameter(f"{pair!r} is not SECTION.KEY=VALUE", param_hint="--set")
        flags[name] = value
    home = settings().directory
    loaded = load_config(home, file=config, flags=flags)
    if print_config:
        from scapp.runtime.config import config_as_document

        emit(config_as_document(loaded), config_as_toml(loaded).rstrip())
        return
    from scapp.runtime.compose import run_node

    def ready(file: NodeFile) -> None:
        emit(file, f"{file.address} is ready: API {file.api}, peers connect to {file.listen}")
        sys.stdout.flush()

    run_node(home, loaded, ready, stop_with_stdin=stop_with_stdin)
