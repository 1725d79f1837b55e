"""`scapp demo`: real node processes, a game between bots, tables filling, one root at every node.

`demo_game.py` plays, `demo_screen.py` shows, `processes.py` runs the nodes.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scapp.runtime.cli.common import MISMATCH, common, emit, settings, table
from scapp.runtime.cli.local_nodes import MARK, child_in, prepared_folder, remove_nodes, running_nodes, terminable

if TYPE_CHECKING:
    from scapp.runtime.cli.demo_game import Game
    from scapp.runtime.cli.processes import NodeChild
    from scapp.runtime.documents import VerifyAnswer

NAMES = ("alice", "bob", "carol", "dave")
_STANDINGS = (
    "select rank, seat, score, status, address from {schema}.standings where channel_id = $1::bytea order by rank, seat"
)


@click.command()
@common
@click.option("--players", type=click.IntRange(2, 4), default=2, show_default=True, help="Nodes, one bot each")
@click.option("--cards", type=click.IntRange(3, 13), default=7, show_default=True, help="Cards in each hand: rounds")
@click.option(
    "--dir", "folder", type=click.Path(path_type=Path, file_okay=False), default=Path("scapp-demo"), show_default=True,
    help="Where the nodes' directories go; a second run there goes on with the same nodes",
)  # fmt: skip
@click.option("--keep/--no-keep", default=True, show_default=True, help="Leave the directory to explore")
def demo(players: int, cards: int, folder: Path, keep: bool) -> None:
    """Start nodes on this machine, open a channel, let bots play a game of cards, and watch the tables fill.

    Everything is real: processes, sockets, TLS, signatures, WebAssembly, PostgreSQL. All is stopped at the end."""
    from scapp.runtime.cli.demo_game import Game
    from scapp.runtime.cli.demo_screen import screen

    began = time.monotonic()
    home = prepared_folder(folder.absolute(), MARK)
    children = [child_in(name, home) for name in NAMES[:players]]
    try:
        with terminable(), screen(settings().json) as show, running_nodes(children):
            show.note(f"starting {players} nodes in {home}")
            with Game(children, cards, show) as game:
                game.prepare()
                game.play()
                result = _result(game, children, home, began)
    finally:
        if not keep:
            remove_nodes(home, children)
    emit(result, lambda: _text(result, keep))
    if not result["equal"]:
        click.get_current_context().exit(MISMATCH)


def _result(game: Game, children: list[NodeChild], home: Path, began: float) -> dict[str, Any]:
    """Ask every node the same questions; the answers must be equal."""
    verdicts: list[VerifyAnswer] = [node.verify(game.channel) for node in game.clients]
    asked = _STANDINGS.format(schema=game.schema)
    answers = [node.query(asked, ["\\x" + game.channel[2:]]) for node in game.clients]
    standings = [dict(zip((c.name for c in answers[0].columns), row, strict=True)) for row in answers[0].rows]
    for row in standings:
        row["player"] = NAMES[row["seat"]]
    roots = {verdict.found_root for verdict in verdicts}
    equal = len(roots) == 1 and all(v.ok for v in verdicts) and all(a.rows == answers[0].rows for a in answers)
    return {
        "channel": game.channel,
        "schema": game.schema,
        "entries": verdicts[0].sequence,
        "seconds": round(time.monotonic() - began, 2),
        "seconds_to_final_table": round(game.over_at - began, 2),
        "standings": standings,
        "nodes": [
            {"name": c.name, "home": str(c.home), "root": v.found_root, "verified": v.ok, "detail": v.detail}
            for c, v in zip(children, verdicts, strict=True)
        ],
        "equal": equal,
        "directory": str(home),
    }


def _text(result: dict[str, Any], keep: bool) -> str:
    rows = [(r["rank"], r["player"], r["score"], r["status"], r["address"]) for r in result["standings"]]
    nodes = [(n["name"], "equal" if n["verified"] else "DIFFERENT", n["root"], n["detail"]) for n in result["nodes"]]
    lines = [
        "\nFinal standings, by SQL at every node:\n",
        table(("rank", "player", "score", "status", "address"), rows, right=(0, 2)),
        "\nDatabase against co-signed root, by `scapp verify` at every node:\n",
        table(("node", "result", "root of the rows", "detail"), nodes),
        f"\n{result['entries']} entries, every one signed by all; final table after "
        f"{result['seconds_to_final_table']:.1f} s, all done after {result['seconds']:.1f} s."
        if result["equal"]
        else "\nTHE NODES DIFFER. This must never happen: please report it, with the directory.",
    ]
    if keep:
        lines.append(_next_steps(result))
    return "\n".join(lines)


def _next_steps(result: dict[str, Any]) -> str:
    node, channel = command(result["nodes"][0]["home"]), result["channel"][:10]
    query = f"select * from {result['schema']}.round order by channel_id, round"  # noqa: S608  # a line to copy, from names of our own
    return (
        f"\nAll is stopped, and kept in {result['directory']}. To explore it:\n\n"
        f"  {node} node --log-level warning &\n"
        f"  {node} status      # also what to give to psql\n"
        f"  {node} log {channel}\n"
        f'  {node} query "{query}"\n'
        f"  {node} verify {channel}\n"
        f"  kill %1"
    )


def command(home: str) -> str:
    """`scapp -C HOME` as it can be typed here: an environment that is not activated needs the program's path."""
    import os.path
    import shlex

    program = Path(sys.argv[0]).absolute()
    found = shutil.which("scapp")
    known = program.name != "scapp" or (found is not None and os.path.samefile(found, program))
    return " ".join(map(shlex.quote, ("scapp" if known else _near(program), "-C", _near(Path(home)))))


def _near(path: Path) -> str:
    """The path from the current directory when it is below, to keep lines short."""
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)
