"""The `scapp` command: a group that loads a command's module only when that command runs.

Help needs click alone; what a command needs (client, server, terminal tables) is imported inside its module.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from scapp.runtime.cli.common import BUG, Problem, Settings, common, problem_of, report

# name: (module, attribute, help)
COMMANDS = {
    "demo": ("demo", "demo", "Start nodes, play a game, watch the tables fill"),
    "game": ("game", "game", "Play the game in the browser, against bots"),
    "new": ("develop", "new", "Make a new app: a reducer and its test"),
    "build": ("develop", "build", "Compile a reducer"),
    "test": ("develop", "test", "Run a reducer's tests"),
    "dev": ("dev", "dev", "Run a local network; derive the tables again at each save"),
    "describe": ("describe", "describe", "Show what a module or a deployed app holds"),
    "codegen": ("describe", "codegen", "Write a typed client for Python or TypeScript"),
    "keys": ("keys", "keys", "Make and show the node's key and API tokens"),
    "node": ("node", "node", "Run a node"),
    "status": ("status", "status", "Show a running node at a glance"),
    "peers": ("status", "peers", "Add and list other nodes"),
    "page": ("page", "page", "Open an app's page in the browser"),
    "deploy": ("apps", "deploy", "Check a reducer module and make it known to the node"),
    "backup": ("backup", "backup", "Back up the node, while it runs or not"),
    "restore": ("backup", "restore", "Put a backup into a new node directory"),
    "channel": ("channel", "channel", "Open, accept, reject, list, show, close, dispute and recover channels"),
    "ledger": ("ledger", "ledger", "Open, top up, close and dispute ledgers with peers"),
    "payments": ("payments", "payments", "Open, list and close payment channels over ledgers"),
    "pay": ("payments", "pay", "Pay somebody, over hubs and without transactions"),
    "voucher": ("voucher", "voucher", "Make, show and take vouchers as files"),
    "route": ("route", "route", "Show the cheapest ways to somebody over hubs"),
    "chain": ("chain", "chain", "The chain on which channels are funded"),
    "watchtower": ("watchtower", "watchtower", "Answer stale challenges for others"),
    "send": ("data", "send", "Send messages into a channel"),
    "log": ("data", "log", "Show the co-signed log of a channel"),
    "query": ("data", "query", "Read the derived tables with SQL"),
    "verify": ("data", "verify", "Compare the database with the co-signed root"),
    "replay": ("replay", "replay", "Derive a channel again, compare, and swap"),
    "projection": ("projection", "projection", "Derive tables of your own from the log"),
    "prove": ("prove", "prove", "Prove a row to somebody who runs no node"),
    "check-proof": ("prove", "check_proof", "Check such a proof, without a node"),
}
EPILOG = (
    "Exit codes: 0 done, 1 refused, 2 wrong usage, 3 node unreachable, 4 timeout, 5 a difference was found or a proof "
    "does not hold, 6 the node failed, 7 not allowed. "
    'Completion: eval "$(_SCAPP_COMPLETE=bash_source scapp)" (or zsh_, fish_).'
)


class Scapp(click.Group):
    """Lists commands from `COMMANDS`, loads them on use, and turns errors into messages and exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        found: click.Command = getattr(importlib.import_module(f"scapp.runtime.cli.{module}"), attribute)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            close = difflib.get_close_matches(args[0], COMMANDS, n=1)
            if not close:
                raise
            raise click.UsageError(f"{error.format_message()} Did you mean {close[0]!r}?", ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])

    def main(  # type: ignore[override]  # one way to end: with an exit code
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> NoReturn:
        given = list(sys.argv[1:] if args is None else args)
        extra.pop("standalone_mode", None)
        try:
            code = super().main(given, prog_name or "scapp", standalone_mode=False, **extra)
        except BaseException as error:
            if isinstance(error, SystemExit):
                raise
            problem = problem_of(error)
            if problem is None:
                _unexpected(error)
                hint = "this is a bug in scapp; please report it with the lines above"
                problem = Problem(f"{type(error).__name__}: {error}", code="internal", hint=hint, exit_code=BUG)
            report(problem, as_json="--json" in given)
            sys.exit(problem.exit_code)
        sys.exit(code if isinstance(code, int) else 0)


def _unexpected(error: BaseException) -> None:
    import traceback

    traceback.print_exception(error, file=sys.stderr)


@click.command(cls=Scapp, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]}, no_args_is_help=True)
@common
@click.version_option(package_name="scapp", prog_name="scapp")
@click.pass_context
def scapp(context: click.Context) -> None:
    """Multi-party apps whose every step is co-signed and whose shared PostgreSQL tables derive themselves.

    `scapp demo` shows all of it on this machine."""
    context.ensure_object(Settings)


def main() -> NoReturn:
    """Entry point."""
    scapp.main()
    raise AssertionError("unreachable")


if __name__ == "__main__":
    main()
