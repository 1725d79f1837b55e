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

from scapp.runtime.cli.amounts import COIN, amount_text, parse_amount
from scapp.runtime.cli.common import MISMATCH, common, emit, settings, table
from scapp.runtime.cli.local_nodes import (
    MARK,
    child_in,
    emptied_folder,
    prepared_folder,
    remove_nodes,
    running_nodes,
    terminable,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scapp.runtime.cli.demo_game import Game
    from scapp.runtime.cli.demo_screen import Screen
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
@click.option(
    "--fund",
    type=click.Choice(["none", "direct"]),
    default="none",
    show_default=True,
    help="direct: play for stakes on a chain, which is started as well",
)
@click.option("--stake", metavar="AMOUNT", default="0.1eth", show_default=True, help="What everybody deposits")
@click.option("--keep/--no-keep", default=True, show_default=True, help="Leave the directory to explore")
def demo(players: int, cards: int, folder: Path, fund: str, stake: str, keep: bool) -> None:
    """Start nodes on this machine, open a channel, let bots play a game of cards, and watch the tables fill.

    Everything is real: processes, sockets, TLS, signatures, WebAssembly, PostgreSQL. All is stopped at the end. With
    --fund direct a chain for development runs beside them, everybody deposits a stake, and what the game says is paid
    out; its nodes are new each time, because the chain is."""
    from scapp.runtime.cli.demo_screen import screen

    began = time.monotonic()
    names = NAMES[:players]
    with terminable(), screen(settings().json) as show:
        if fund == "direct":
            home = folder.absolute() / "funded"
            result = _for_stakes(show, home, names, cards, parse_amount(stake), began, keep)
        else:
            home = prepared_folder(folder.absolute(), MARK)
            result = _play(show, home, [child_in(name, home) for name in names], cards, began, keep)
    emit(result, lambda: _text(result, keep))
    if not result["equal"]:
        click.get_current_context().exit(MISMATCH)


def _play(show: Screen, home: Path, children: list[NodeChild], cards: int, began: float, keep: bool) -> dict[str, Any]:
    from scapp.runtime.cli.demo_game import Game

    try:
        with running_nodes(children):
            show.note(f"starting {len(children)} nodes in {home}")
            with Game(children, cards, show) as game:
                game.prepare()
                game.play()
                return _result(game, children, home, began)
    finally:
        if not keep:
            remove_nodes(home, children)


def _for_stakes(
    show: Screen, home: Path, names: Sequence[str], cards: int, stake: int, began: float, keep: bool
) -> dict[str, Any]:
    """The same on a chain; what everybody's account has before and after stands in the result."""
    from scapp.runtime.cli import demo_chain
    from scapp.runtime.cli.demo_game import Game
    from scapp.runtime.documents import SlotView

    emptied_folder(home, MARK, NAMES)
    show.note("starting a chain with the contracts on it (the first time it is downloaded)")
    with demo_chain.demo_chain() as chain:
        children = demo_chain.funded_children(chain, names, home, stake, stake)
        slots = [SlotView(asset=a, destination=d, amount=str(n)) for a, d, n in demo_chain.slots_for(children, stake)]
        before = [demo_chain.coin_of(chain, child) for child in children]
        try:
            with (
                running_nodes(children),
                Game(children, cards, show, slots, demo_chain.CHALLENGE_DURATION_S) as game,
            ):
                show.note(f"starting {len(children)} nodes in {home}")
                game.prepare()
                game.play()
                result = _result(game, children, home, began)
                paid = [int(amount) for amount in game.clients[0].channel(game.channel).amounts]
                after = [demo_chain.coin_of(chain, child) for child in children]
        finally:
            if not keep:
                remove_nodes(home, children)
    money = zip(names, before, paid, after, strict=True)
    result["money"] = [
        {
            "name": name,
            "before": str(b),
            "stake": str(stake),
            "owed": str(p),
            "after": str(a),
            "fees": str(b - stake + p - a),
        }
        for name, b, p, a in money
    ]
    return result


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
    if "money" in result:
        lines += ["\nMoney on chain, in the coin of the accounts:\n", _money(result["money"])]
    if keep and "money" not in result:
        lines.append(_next_steps(result))
    return "\n".join(lines)


def _money(rows: list[dict[str, str]]) -> str:
    """Before, what the game said, and after; the difference is what the transactions cost."""
    shown = ("before", "stake", "owed", "after", "fees")
    cells = [(row["name"], *(amount_text(row[name], COIN) for name in shown)) for row in rows]
    headers = ("player", "before", "deposited", "owed by the game", "after", "fees")
    return table(headers, cells, right=(1, 2, 3, 4, 5))


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
