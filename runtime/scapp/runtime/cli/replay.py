"""`scapp replay`: derive a channel again beside its live rows, compare, and put it in their place."""

from __future__ import annotations

import click

from scapp.runtime.cli.common import MISMATCH, common, emit, printable, settings, waiting


@click.command()
@common
@click.argument("channel")
@click.option("--compare", is_flag=True, help="Compare with the live rows; exit code 5 when they differ")
@click.option("--swap", is_flag=True, help="Put the replayed rows in the place of the live ones")
@click.option("--drop", is_flag=True, help="Drop the replayed rows at the end")
@click.option("--abandon", is_flag=True, help="Only drop what an earlier replay left behind")
def replay(channel: str, compare: bool, swap: bool, drop: bool, abandon: bool) -> None:
    """Derive a channel's tables again from the log, into a schema of their own.

    Interrupted, the same command goes on where it stopped. Without --swap and --drop the schema stays."""
    if swap + drop + abandon > 1 or (abandon and compare):
        raise click.UsageError("--swap, --drop and --abandon exclude each other, and --abandon compares nothing")
    then = "swap" if swap else "drop" if drop else "keep"
    with settings().client() as node, waiting("deriving again", "replay"):
        answer = node.replay(channel, compare=compare, then=then, abandon=abandon)
    rate = f", {answer.sequence / answer.seconds:,.0f}/s" if answer.seconds else ""
    lines = [
        f"{answer.schema} abandoned"
        if abandon
        else f"{answer.result}: {answer.schema}, {answer.sequence:,} entries to turn {answer.turn} in "
        f"{answer.seconds:,.1f} s{rate}"
    ]
    if answer.difference_count is not None:
        lines.append(f"{answer.difference_count} differences" if answer.difference_count else "equal to the live rows")
        lines += [printable(found.text) for found in answer.differences]
    emit(answer, "\n".join(lines))
    if answer.difference_count:
        click.get_current_context().exit(MISMATCH)
