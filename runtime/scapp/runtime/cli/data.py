"""`scapp send`, `log`, `query`, `verify`: messages in, entries and rows out."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from scapp.runtime.cli.common import (
    MISMATCH,
    REFUSED,
    TIMEOUT,
    Problem,
    common,
    emit,
    printable,
    settings,
    short,
    table,
    tell,
    waiting,
)

if TYPE_CHECKING:
    from scapp.runtime.documents import EntryView, StreamItem, VerifyAnswer


@click.command()
@common
@click.argument("channel")
@click.argument("messages", nargs=-1, metavar="[MESSAGE]...")
@click.option("--hex", "as_hex", is_flag=True, help="Messages are payload bytes in hexadecimal, not JSON")
@click.option("--tick", is_flag=True, help="Submit the passing of time instead of a message")
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(0, 300), default=30.0, show_default=True,
    help="Seconds to wait for the decisions",
)  # fmt: skip
def send(channel: str, messages: tuple[str, ...], as_hex: bool, tick: bool, timeout_s: float) -> None:
    """Send MESSAGEs (JSON) into a channel and wait until each is decided.

    `-` reads one message per line from standard input."""
    if bool(messages) == tick:
        raise click.UsageError("give at least one MESSAGE, or --tick alone")
    if channel[:1] in ("{", "[", '"'):
        raise click.UsageError(f"{channel[:200]!r} is a message; the CHANNEL it goes to stands before it")
    payloads = [_payload(text, as_hex) for text in _lines(messages)]
    try:
        with settings().client() as node, waiting("waiting for all signatures"):
            receipts = node.tick(channel, timeout_s) if tick else node.send(channel, *payloads, timeout_s=timeout_s)
    except KeyboardInterrupt:
        tell(f"what the node has taken stays submitted; `scapp log {channel}` shows what was accepted")
        raise

    def text() -> str:
        rows = [(r.counter, r.status, r.sequence, r.turn, r.reason or r.code) for r in receipts]
        return table(("counter", "status", "sequence", "turn", "reason"), rows, right=(0, 2, 3))

    emit({"receipts": receipts}, text)
    statuses = {receipt.status for receipt in receipts}
    if "refused" in statuses:
        click.get_current_context().exit(REFUSED)
    if "pending" in statuses:
        tell("pending messages stay submitted and may still be accepted: do not send them again")
        click.get_current_context().exit(TIMEOUT)


def _lines(messages: tuple[str, ...]) -> Iterable[str]:
    for text in messages:
        if text == "-":
            yield from (line for line in sys.stdin.read().splitlines() if line.strip())
        else:
            yield text


def _payload(text: str, as_hex: bool) -> Any:
    import msgspec

    try:
        return bytes.fromhex(text.removeprefix("0x")) if as_hex else msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise Problem(
            f"{text[:200]!r} is not JSON: {error}", code="bad_json", exit_code=2,
            hint="quote it for the shell: scapp send CHANNEL '{\"move\": [3, 4]}'",
        ) from None  # fmt: skip
    except ValueError:
        raise Problem(f"{text[:200]!r} is not hexadecimal", code="bad_payload", exit_code=2) from None


@click.command()
@common
@click.argument("channel")
@click.option("--from", "start", type=click.IntRange(0), default=0, help="First sequence")
@click.option("-n", "--limit", type=click.IntRange(1), help="At most so many entries  [all]")
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens: entries, row changes, app events")
def log(channel: str, start: int, limit: int | None, follow: bool) -> None:
    """Show the co-signed log of a channel.

    With --follow and --json each line is one JSON document."""
    if follow and limit is not None:
        raise click.UsageError("--follow has no end; leave --limit out")
    if follow:
        _follow(channel, start)
        return
    with settings().client() as node:
        channel = node.channel(channel).channel_id  # whole in what is written, also where a prefix was asked for
        found: list[EntryView] = []
        for entry in node.log(channel, start):
            found.append(entry)
            if limit is not None and len(found) == limit:
                break
    rows = [(e.sequence, e.turn, e.kind, f"{e.author} {short(e.author_address)}", e.counter, _shown(e)) for e in found]
    headers = ("sequence", "turn", "kind", "author", "counter", "payload")
    emit({"channel": channel, "entries": found}, table(headers, rows, right=(0, 1, 4)) if rows else "no entries")


def _shown(entry: EntryView) -> Any:
    return entry.payload if entry.payload is not None else entry.payload_base64


def _follow(channel: str, start: int) -> None:
    import msgspec

    as_json = settings().json
    with settings().client() as node:
        found = node.channel(channel)
        derived = min(start, found.derived.sequence) if found.derived else 0
        items = node.stream(channels=[found.channel_id], start=[f"{found.channel_id}:{start}:{derived}"])
        for item in items:
            for line in [msgspec.json.encode(item).decode()] if as_json else map(printable, _described(item)):
                click.echo(line)


def _described(item: StreamItem) -> Iterable[str]:
    import msgspec

    def text(value: Any) -> str:
        return msgspec.json.encode(value).decode()

    if item.kind == "entries":
        for entry in item.entries:
            yield f"entry {entry.sequence:>6}  {entry.kind:<7} by {entry.author}  {text(_shown(entry))}"
    elif item.kind == "rows":
        for change in item.tables:
            yield from (f"row   {item.sequence:>6}  {change.table}  {text(row)}" for row in change.upserts)
            yield from (f"gone  {item.sequence:>6}  {change.table}  {text(key)}" for key in change.deletes)
    elif item.kind == "app":
        data = item.data if item.data is not None else item.data_base64
        yield f"event {item.sequence:>6}  {item.topic}  {text(data)}"
    elif item.kind == "reset":
        yield f"reset {item.sequence:>6}  {item.detail}"
    else:
        yield f"node          {item.event} {item.detail or ''}".rstrip()


@click.command()
@common
@click.argument("sql")
@click.argument("params", nargs=-1)
@click.option(
    "-n",
    "--limit",
    "rows_max",
    type=click.IntRange(1, 100_000),
    default=1_000,
    show_default=True,
    help="At most so many rows",
)
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(0.001, 300), default=10.0, show_default=True,
    help="Seconds the statement may take",
)  # fmt: skip
def query(sql: str, params: tuple[str, ...], rows_max: int, timeout_s: float) -> None:
    """Read the derived tables with SQL (read-only). PARAMS fill its places $1, $2 …

    Tables stand in a schema of the app's name; `scapp deploy --list` shows it."""
    with settings().client() as node, waiting("running the query"):
        answer = node.query(sql, params, rows_max=rows_max, timeout_s=timeout_s)

    def text() -> str:
        numbers = [i for i, column in enumerate(answer.columns) if column.type in _NUMBERS]
        shown = table([column.name for column in answer.columns], answer.rows, right=numbers)
        count = f"({len(answer.rows)} row{'' if len(answer.rows) == 1 else 's'}"
        return f"{shown}\n{count}{', there are more: --limit' if answer.truncated else ''})"

    emit(answer, text)


_NUMBERS = frozenset({"int2", "int4", "int8", "numeric", "float4", "float8"})


@click.command()
@common
@click.argument("channel", required=False)
@click.option("--all", "everything", is_flag=True, help="All channels of the node")
def verify(channel: str | None, everything: bool) -> None:
    """Compare the database's rows of a channel with the root that all participants signed.

    Exit code 5 when they differ."""
    if (channel is None) != everything:
        raise click.UsageError("name a CHANNEL, or --all")
    from scapp.runtime.client import Refused

    answers: list[VerifyAnswer] = []
    refused: dict[str, str] = {}
    with settings().client() as node, waiting("comparing all rows", "verify"):
        names = [c.channel_id for c in node.channels() if c.derived] if everything else [str(channel)]
        for name in names:
            try:
                answers.append(node.verify(name))
            except Refused as error:  # one that cannot be looked at must not hide the others
                if not everything:
                    raise
                refused[name] = error.message
    rows: list[tuple[str, str, int | None, int | None, int | None, str | None]] = [
        ("equal" if a.ok else "DIFFERENT", short(a.channel_id, 12), a.sequence, a.turn, a.rows, a.found_root)
        for a in answers
    ]
    rows += [("NOT CHECKED", short(name, 12), None, None, None, None) for name in refused]
    headers = ("result", "channel", "sequence", "turn", "rows", "root of the rows")
    shown = table(headers, rows, right=(2, 3, 4)) if rows else "no channels with derived rows"
    lines = [shown, *_differences(answers), *map(printable, refused.values())]
    emit({"results": answers, "refused": refused} if everything else answers[0], "\n".join(lines))
    if not all(answer.ok for answer in answers):
        for answer in answers:
            if not answer.ok and not settings().json:
                click.echo(f"co-signed root: {answer.expected_root}", err=True)
        click.get_current_context().exit(MISMATCH)
    if refused:
        click.get_current_context().exit(REFUSED)


def _differences(answers: Iterable[VerifyAnswer]) -> Iterable[str]:
    """One line for each difference, as far as they are named."""
    for answer in answers:
        left = answer.difference_count - len(answer.differences)
        lines = [found.text for found in answer.differences]
        lines += [f"and {left} more differences"] if left else []
        lines += answer.notes
        yield from map(printable, lines or ([answer.detail] if answer.detail else []))
