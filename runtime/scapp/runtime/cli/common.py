"""What every command shares: where the node is, one document out (text or JSON), errors and exit codes.

Imported by each command's module, so it imports little itself; the client is loaded when a command first needs it.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from scapp.runtime.client import Client
    from scapp.runtime.progress import Meter, Progress
    from scapp.runtime.work_documents import WorkView

OK, REFUSED, USAGE, UNREACHABLE, TIMEOUT, MISMATCH, FAILED, NOT_ALLOWED, BUG = 0, 1, 2, 3, 4, 5, 6, 7, 70
INTERRUPTED = 130
F = TypeVar("F", bound=Callable[..., Any])


class Settings:
    """The common options, wherever on the command line they stood."""

    def __init__(self) -> None:
        self.home: Path | None = None
        self.json = False
        self.url: str | None = None
        self.token: str | None = None

    @property
    def directory(self) -> Path:
        """The node's directory: --home, else SCAPP_HOME, else ~/.scapp."""
        return self.home or Path(os.environ.get("SCAPP_HOME") or Path.home() / ".scapp")

    def client(self, timeout_s: float = 60.0) -> Client:
        """A client of the node: by --url and --token (or SCAPP_URL, SCAPP_TOKEN), else of the node directory."""
        from scapp.runtime.client import Client

        url = self.url or os.environ.get("SCAPP_URL")
        token = self.token or os.environ.get("SCAPP_TOKEN") or ""
        if not url:
            return Client.at_home(self.directory, token=token, timeout_s=timeout_s)
        if not token:
            raise click.UsageError("--url needs a token: --token TOKEN or SCAPP_TOKEN=…")
        return Client(url, token, timeout_s=timeout_s)


def settings() -> Settings:
    """Those of the running command."""
    return click.get_current_context().ensure_object(Settings)


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value not in (None, False):
        setattr(context.ensure_object(Settings), str(parameter.name), value)


def common(command: F) -> F:
    """Add --home/-C, --json, --url and --token to a command; they may also stand before its name."""
    options = (
        click.option(
            "-C", "--home", type=click.Path(path_type=Path, file_okay=False), callback=_remember, expose_value=False,
            is_eager=True, help="Directory of the node  [SCAPP_HOME, else ~/.scapp]",
        ),
        click.option(
            "--json", is_flag=True, callback=_remember, expose_value=False, is_eager=True,
            help="Print one JSON document, also for errors",
        ),
        click.option(
            "--url", metavar="URL", callback=_remember, expose_value=False,
            help="API of a node elsewhere  [SCAPP_URL]",
        ),
        click.option(
            "--token", metavar="TOKEN", callback=_remember, expose_value=False,
            help="API token  [SCAPP_TOKEN, else the operator's of the directory]",
        ),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def emit(document: Any, text: str | Callable[[], str]) -> None:
    """Print the result: the JSON document, or the text for people."""
    if settings().json:
        import msgspec

        click.echo(msgspec.json.encode(document).decode())
    else:
        click.echo(text if isinstance(text, str) else text())


def tell(text: str) -> None:
    """One more line for people, on stderr."""
    if not settings().json:
        click.echo(text, err=True)


def table(headers: Sequence[str], rows: Iterable[Sequence[Any]], *, right: Iterable[int] = ()) -> str:
    """Aligned columns; `right`: columns aligned to the right. Control characters never reach the terminal."""
    cells = [[cell(value) for value in row] for row in rows]
    widths = [max([len(head), *(len(row[i]) for row in cells)]) for i, head in enumerate(headers)]
    rights = set(right)

    def line(row: Sequence[str]) -> str:
        parts = (c.rjust(w) if i in rights else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        return "  ".join(parts).rstrip()

    head = click.style(line(headers), bold=True) if coloured() else line(headers)
    return "\n".join([head, *map(line, cells)])


def cell(value: Any) -> str:
    """A value as people read it, on one line."""
    if value is None:
        return "-"
    if isinstance(value, (bool, dict, list)):
        import msgspec

        value = msgspec.json.encode(value).decode()
    return printable(str(value))


def printable(text: str) -> str:
    """The text on one line without what a terminal obeys: names, topics and reasons come from reducers and peers."""
    return text if text.isprintable() else "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def coloured() -> bool:
    """Whether stdout takes colour (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def short(text: str, digits: int = 10) -> str:
    """The beginning of an id, long enough to be given back to a command."""
    return text[:digits] + "…" if len(text) > digits + 1 else text


@contextlib.contextmanager
def waiting(text: str, work: str = "") -> Iterator[None]:
    """Show that something is going on, on a terminal and once it has taken a second.

    `work` names what the node tells its progress of (`GET /v1/work`), which is then shown too."""
    if settings().json or not sys.stderr.isatty():
        yield
        return
    node = settings().client() if work else None
    try:
        with _shown(text, lambda: _progress(node, work) if node is not None else ""):
            yield
    finally:
        if node is not None:
            node.close()


@contextlib.contextmanager
def watched(text: str) -> Iterator[Meter]:
    """A meter for work of this process, shown as `waiting` shows a node's."""
    from scapp.runtime.progress import Meter

    meter = Meter(text)
    if settings().json or not sys.stderr.isatty():
        yield meter
        return
    with _shown(text, lambda: progress_line(meter.read())):
        yield meter


@contextlib.contextmanager
def _shown(text: str, line: Callable[[], str]) -> Iterator[None]:
    """What goes on, in one line of the terminal, once it has taken a second; `text` where `line` is empty."""
    over = threading.Event()

    def show() -> None:
        from rich.console import Console

        if over.wait(1.0):
            return
        with Console(stderr=True).status(text) as status:
            while not over.wait(0.5):
                status.update(line() or text)

    shower = threading.Thread(target=show, daemon=True)
    shower.start()
    try:
        yield
    finally:
        over.set()
        shower.join()


def _progress(node: Client, work: str) -> str:
    """One line on each piece of such work; empty when there is none or the node does not say."""
    from scapp.runtime.client import ClientError

    try:
        return "; ".join(progress_line(each) for each in node.work() if each.work == work)
    except ClientError:
        return ""


def progress_line(found: WorkView | Progress) -> str:
    """`hashing rows, 0x12ab…: 120,000 of 500,000 rows, 95,000/s`."""
    total = f" of {found.total:,}" if found.total is not None else ""
    counted = f": {found.done:,}{total} {found.unit}, {found.rate:,.0f}/s" if found.unit else ""
    return f"{found.stage}, {short(found.subject)}{counted}"


class Problem(Exception):
    """An error as the caller of a command sees it: message, stable code, what to do, exit code."""

    def __init__(self, message: str, *, code: str, hint: str = "", exit_code: int = REFUSED) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.hint = hint
        self.exit_code = exit_code


def problem_of(error: BaseException) -> Problem | None:
    """What an error means to the caller of the command; None for a bug."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        return Problem(f"a command is missing\n\n{error.format_message()}", code="usage", exit_code=USAGE)
    if isinstance(error, click.UsageError):
        hint = f"`{error.ctx.command_path} --help` shows what is allowed" if error.ctx else ""
        return Problem(error.format_message(), code="usage", hint=hint, exit_code=USAGE)
    if isinstance(error, click.ClickException):
        return Problem(error.format_message(), code="refused", exit_code=error.exit_code)
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        return Problem("interrupted", code="interrupted", exit_code=INTERRUPTED)
    return _expected(error)


def _expected(error: BaseException) -> Problem | None:
    from scapp.channels.errors import ScappError
    from scapp.runtime import client
    from scapp.runtime.config import ConfigError

    if isinstance(error, client.ClientError):
        exit_codes: tuple[tuple[type[client.ClientError], int], ...] = (
            (client.NodeUnreachable, UNREACHABLE),
            (client.NodeTimeout, TIMEOUT),
            (client.NotAllowed, NOT_ALLOWED),
            (client.NodeFailed, FAILED),
        )
        exit_code = next((code for kind, code in exit_codes if isinstance(error, kind)), REFUSED)
        names = {UNREACHABLE: "unreachable", TIMEOUT: "timeout"}
        code = error.code or names.get(exit_code, "refused")
        return Problem(error.message, code=code, hint=error.hint, exit_code=exit_code)
    if isinstance(error, ConfigError):
        return Problem(str(error), code="config", hint="docs/reference/configuration.md", exit_code=USAGE)
    if isinstance(error, ScappError):
        return Problem(str(error), code="refused")
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return Problem(f"{where}{error.strerror or error}", code="os_error")
    return None


def report(problem: Problem, *, as_json: bool) -> None:
    """Print an error: a JSON document on stdout, or text on stderr."""
    if as_json:
        import msgspec

        body = {"code": problem.code, "message": problem.message, "hint": problem.hint}
        click.echo(msgspec.json.encode({"error": body}).decode())
        return
    prefix = (
        click.style("error:", fg="red", bold=True)
        if sys.stderr.isatty() and not os.environ.get("NO_COLOR")
        else "error:"
    )
    for start, text in ((prefix, problem.message), (" ", problem.hint)):
        if text:
            click.echo(f"{start} " + "\n".join(map(printable, text.splitlines())), err=True)
