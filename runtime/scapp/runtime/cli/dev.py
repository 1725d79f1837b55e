"""`scapp dev`: nodes on this machine, a reducer's sources watched, and its tables derived again at each save."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scapp.runtime.cli.common import Problem, common, emit, settings, short
from scapp.runtime.cli.given_module import source_file
from scapp.runtime.cli.local_nodes import child_in, prepared_folder, remove_nodes, running_nodes, terminable

if TYPE_CHECKING:
    from scapp.runtime.app_document import Document
    from scapp.runtime.cli.dev_loop import DevLoop, Save
    from scapp.runtime.cli.dev_network import Channel, Mover, Network, Sent
    from scapp.runtime.cli.dev_screen import Screen
    from scapp.runtime.differences import Difference

NAMES = ("alice", "bob", "carol", "dave")
MARK = ".scapp-dev"
POLL_S = 0.05
READ_S = 0.2


@click.command()
@common
@click.argument("app", type=click.Path(path_type=Path, exists=True), default=".")
@click.option("--nodes", type=click.IntRange(1, 4), help="Nodes  [default: the test's participants, else 2]")
@click.option(
    "--test", "script", type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Participants, params, slots and first messages  [default: the first of tests/*.toml; --no-test: none]",
)  # fmt: skip
@click.option("--no-test", is_flag=True, help="Begin with an empty channel")
@click.option(
    "--dir", "folder", type=click.Path(path_type=Path, file_okay=False), default=Path("scapp-dev"), show_default=True,
    help="Where the nodes' directories go",
)  # fmt: skip
@click.option("--keep/--no-keep", default=False, show_default=True, help="Leave the directory behind")
@click.option("--saves", type=click.IntRange(1), help="Stop after so many saves  [default: at Ctrl-C]")
def dev(
    app: Path, nodes: int | None, script: Path | None, no_test: bool, folder: Path, keep: bool, saves: int | None
) -> None:
    """Run a local network with APP (a reducer's file or folder), and derive its tables again at each save.

    A save is built, checked, and run over the recorded messages in memory; then the network moves to a channel of the
    new module, and the messages are sent there again. Errors are shown, and the version before stays."""
    from scapp.runtime.cli.dev_loop import DevLoop
    from scapp.runtime.cli.dev_screen import dev_screen

    source = source_file(app).absolute()
    found = _script(source, script, no_test, nodes)
    home = prepared_folder(folder.absolute(), MARK)
    children = [child_in(name, home) for name in NAMES[: len(found.participants)]]
    loop = DevLoop(source)
    try:
        with terminable(), dev_screen(settings().json) as screen, contextlib.suppress(KeyboardInterrupt):
            _first(loop, screen)
            with running_nodes(children):
                _Session(loop, found, children, screen).run(saves)
        emit(_document(loop), lambda: _text(loop))
    finally:
        loop.close()
        if not keep:
            remove_nodes(home, children)


def _script(source: Path, script: Path | None, no_test: bool, nodes: int | None) -> Document:
    from scapp.runtime.app_document import BadTest, load_test
    from scapp.runtime.cli.dev_network import script_of

    tests = sorted((source.parent / "tests").glob("*.toml"))
    chosen = None if no_test else script or (tests[0] if tests else None)
    if chosen is None:
        return script_of(NAMES[: nodes or 2])
    try:
        found = load_test(chosen)
    except BadTest as error:
        raise Problem(str(error), code="refused", hint="docs/howto/test-a-reducer.md") from None
    count = len(found.participants)
    if count > len(NAMES) or (nodes and nodes != count):
        hint = f"at most {len(NAMES)} nodes run here, one for each participant; --no-test begins with an empty channel"
        raise Problem(f"{chosen.name} has {count} participants", code="refused", hint=hint)
    return found


def _first(loop: DevLoop, screen: Screen) -> None:
    from scapp.channels.errors import ScappError
    from scapp.reducers.toolchain import BuildError

    screen.note(f"building {loop.source.name}")
    try:
        loop.first()
    except (BuildError, ScappError) as error:
        raise Problem(str(error), code="refused", hint="mend it, then start again") from None


class _Session:
    """One run: what was sent, where it was sent to, and what is shown of it."""

    def __init__(self, loop: DevLoop, script: Document, children: list[Any], screen: Screen) -> None:
        from scapp.runtime.cli.dev_network import Mover, Network, record_of

        self._loop, self._screen = loop, screen
        self._record: list[Sent] = record_of(script)
        self._network: Network = Network(children, script)
        self._mover: Mover = Mover(self._network)
        self._channel: Channel | None = None
        self._problem = ""
        self._changes: list[str] = []
        self._children = children
        self._read_at = 0.0

    def run(self, saves: int | None) -> None:
        """Until interrupted, or so many saves have been taken and the network has moved to the last."""
        self._screen.note(f"starting {len(self._children)} nodes")
        self._network.start()
        self._mover.start()
        self._move()
        try:
            while saves is None or len(self._loop.saves) < saves or self._mover.busy:
                save = self._loop.poll()
                if save is not None:
                    self._saved(save)
                self._follow()
                time.sleep(POLL_S)
            self._follow()
        finally:
            self._mover.leave()
            self._mover.join(timeout=5)
            self._network.close()

    def _follow(self) -> None:
        """What the network has done meanwhile. A node that fails is shown; it may come back."""
        from scapp.channels.errors import ScappError

        try:
            self._moved()
            self._read()
        except ScappError as error:
            self._failed(error)

    def _move(self) -> None:
        self._mover.ask(self._loop.wasm, list(self._record))

    def _saved(self, save: Save) -> None:
        self._problem = save.problem
        if save.problem:
            self._screen.note(f"{self._loop.source.name} cannot be used; the version before stays\n{save.problem}")
        else:
            self._changes = [*save.tables_changed, *map(_change, save.differences)]
            lines = [f"saved and derived again in {save.total_s:.2f} s ({_parts(save)}); median {_median(self._loop)}"]
            left = [f"entry {each.sequence} is left out: {each.reason}" for each in save.left_out]
            self._screen.note("\n".join([*lines, *(f"  {change}" for change in [*self._changes, *left])]))
            self._move()
        self._show()

    def _moved(self) -> None:
        found = self._mover.take()
        if found is None:
            return
        if isinstance(found, Exception):
            self._failed(found)
            return
        entries = self._network.read(found.channel_id, 0)
        self._loop.use(bytes.fromhex(found.channel_id[2:]), entries)
        self._channel = found
        self._note_new(entries, 0)
        self._check_root(found)
        aside = [f"  set aside: {_sent(sent)}: {reason}" for sent, reason in found.set_aside]
        note = f"channel {short(found.channel_id)} runs this version, with {len(found.accepted)} messages sent again"
        self._screen.note("\n".join([note, *aside]))
        self._show()

    def _check_root(self, channel: Channel) -> None:
        """What was derived here is what the nodes have signed, as long as both run the same module."""
        from scapp.channels.deployment import deployment_id

        current = self._loop.current
        assert current is not None
        signed = self._network.signed(channel.channel_id)
        same_module = channel.deployment_id == f"0x{deployment_id(current.module.deployment).hex()}"
        if same_module and signed.sequence == self._loop.recorded and signed.state_root != f"0x{current.root.hex()}":
            self._problem = f"the nodes signed root {signed.state_root}, not that of these tables: report it"
            self._screen.note(self._problem)

    def _failed(self, error: Exception) -> None:
        from scapp.channels.errors import ScappError
        from scapp.runtime.app_document import BadTest

        if not isinstance(error, (ScappError, BadTest, OSError)):
            raise error
        if self._channel is None:
            raise Problem(f"no channel: {error}", code="refused")
        problem = f"the network does not follow: {error}"
        if problem != self._problem:  # a failing node is asked again and again
            self._problem = problem
            self._screen.note(problem)
            self._show()

    def _read(self) -> None:
        """What people send with `scapp send` meanwhile."""
        if self._channel is None or time.monotonic() < self._read_at:
            return
        self._read_at = time.monotonic() + READ_S
        first = self._loop.recorded
        entries = self._network.read(self._channel.channel_id, first)
        if entries:
            self._loop.extend(entries)
            self._note_new(entries, first)
            self._show()

    def _note_new(self, entries: list[bytes], first: int) -> None:
        """Add to the record what the move itself did not send."""
        from scapp.channels.entries import Kind, decode_entry
        from scapp.runtime.cli.dev_network import Sent

        assert self._channel is not None
        for sequence, data in enumerate(entries, first):
            entry = decode_entry(data)
            if sequence not in self._channel.accepted and entry.kind in (Kind.MESSAGE, Kind.TICK):
                self._record.append(Sent(entry.author, None if entry.kind is Kind.TICK else entry.payload))
                self._screen.note(f"entry {sequence} from {self._children[entry.author].name}")

    def _show(self) -> None:
        from scapp.runtime.cli.dev_screen import ROWS_SHOWN, View, cell

        current = self._loop.current
        if current is None or self._channel is None:
            return
        rows, tables = current.rows(), []
        for table in current.module.manifest.tables:
            found = current.shown(table.name, rows)
            last = [[cell(value) for value in row.values()] for row in found[-ROWS_SHOWN:]]
            tables.append((table.name, [column.name for column in table.columns], last, len(found)))
        manifest, home = current.module.manifest, self._children[0].home
        self._screen.show(
            View(
                title=f"{manifest.name} {manifest.version}  {len(current.module.wasm):,} bytes  "
                f"root 0x{current.root.hex()[:16]}…",
                status=f"{self._loop.recorded} entries; save to derived: median {_median(self._loop)}; "
                f"scapp -C {home} send {short(self._channel.channel_id)[:-1]} '…'",
                tables=tables,
                changes=self._changes,
                left_out=[f"entry {left.sequence} is left out: {left.reason}" for left in current.left_out],
                problem=self._problem,
            )
        )


def _parts(save: Save) -> str:
    return f"build {save.build_s:.2f}, check {save.check_s:.2f}, derive {save.derive_s:.3f}"


def _change(found: Difference) -> str:
    """What a save did to a row."""
    where = f"{found.table} ({', '.join(f'{name} {value}' for name, value in found.key.items())})"
    old, new = found.found or {}, found.expected or {}
    if found.expected is None:
        return f"{where} is gone"
    if found.found is None:
        return f"{where} is new: {', '.join(f'{name} {value}' for name, value in new.items() if name not in found.key)}"
    changed = (f"{name} {old.get(name)} → {new[name]}" for name in new if old.get(name) != new[name])
    return f"{where}: {', '.join(changed)}"


def _median(loop: DevLoop) -> str:
    typical = loop.typical_s()
    good = sum(not save.problem for save in loop.saves)
    return "-" if typical is None else f"{typical:.2f} s of {good}"


def _sent(sent: Sent) -> str:
    if sent.value is None:
        return "tick"
    return f"{len(sent.value)} bytes" if isinstance(sent.value, bytes) else str(sent.value)[:80]


def _document(loop: DevLoop) -> dict[str, Any]:
    saves = [
        {
            "problem": save.problem,
            "total_s": round(save.total_s, 3),
            "changes": [*save.tables_changed, *map(_change, save.differences)],
            "left_out": [left.sequence for left in save.left_out],
        }
        for save in loop.saves
    ]
    return {"saves": saves, "median_s": loop.typical_s(), "entries": loop.recorded}


def _text(loop: DevLoop) -> str:
    return f"\n{len(loop.saves)} saves; save to derived again: median {_median(loop)}; {loop.recorded} entries recorded"
