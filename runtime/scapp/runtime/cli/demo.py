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
    introduce,
    prepared_folder,
    remove_nodes,
    running_nodes,
    terminable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from scapp.runtime.cli.demo_game import Game
    from scapp.runtime.cli.demo_screen import Screen
    from scapp.runtime.cli.processes import NodeChild
    from scapp.runtime.client import Client
    from scapp.runtime.devchain import Chain
    from scapp.runtime.documents import SlotView, VerifyAnswer

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
    type=click.Choice(["none", "direct", "virtual"]),
    default="none",
    show_default=True,
    help="direct: play for stakes on a chain, which is started as well; virtual: over a hub, without a transaction",
)
@click.option("--stake", metavar="AMOUNT", default="0.1eth", show_default=True, help="What everybody puts up")
@click.option("--keep/--no-keep", default=True, show_default=True, help="Leave the directory to explore")
def demo(players: int, cards: int, folder: Path, fund: str, stake: str, keep: bool) -> None:
    """Start nodes on this machine, open a channel, let bots play a game of cards, and watch the tables fill.

    Everything is real: processes, sockets, TLS, signatures, WebAssembly, PostgreSQL. All is stopped at the end. With
    --fund direct a chain for development runs beside them, everybody deposits a stake, and what the game says is paid
    out; its nodes are new each time, because the chain is. With --fund virtual one more node is a hub: two players have
    a ledger with it each, and the chain hears of nothing between the deposits into these and their payouts."""
    from scapp.runtime.cli.demo_screen import screen

    began = time.monotonic()
    names = NAMES[:players]
    if fund == "virtual" and players != 2:
        raise click.UsageError(f"--players {players}: a channel over ledgers has two parties")
    with terminable(), screen(settings().json) as show:
        if fund != "none":
            home = folder.absolute() / "funded"
            play = _for_stakes if fund == "direct" else _over_hub
            result = play(show, home, names, cards, parse_amount(stake), began, keep)
        else:
            home = prepared_folder(folder.absolute(), MARK)
            result = _play(show, home, [child_in(name, home) for name in names], cards, began, keep)
    emit(result, lambda: _text(result, keep))
    if not result["equal"]:
        click.get_current_context().exit(MISMATCH)


def _play(show: Screen, home: Path, children: list[NodeChild], cards: int, began: float, keep: bool) -> dict[str, Any]:
    from scapp.runtime.cli.demo_game import Game

    with _introduced(show, home, children, keep) as clients:
        game = Game(children, clients, cards, show)
        game.prepare()
        game.play()
        return _result(game, children, home, began)


def _for_stakes(
    show: Screen, home: Path, names: Sequence[str], cards: int, stake: int, began: float, keep: bool
) -> dict[str, Any]:
    """The same on a chain; what everybody's account has before and after stands in the result."""
    from scapp.runtime.cli import demo_chain
    from scapp.runtime.cli.demo_game import Game, Stakes

    with _chain(show, home) as chain:
        children = demo_chain.funded_children(chain, names, home, stake, stake)
        before = [demo_chain.coin_of(chain, child) for child in children]
        stakes = Stakes(
            slots=_slots(children, stake),
            fund="direct",
            duration_s=demo_chain.CHALLENGE_DURATION_S,
            opens="everybody deposits a stake on chain; the game begins once all are confirmed",
            ends="the chain pays it out",
        )
        with _introduced(show, home, children, keep) as clients:
            game = Game(children, clients, cards, show, stakes)
            game.prepare()
            game.play()
            result = _result(game, children, home, began)
            owed = [int(amount) for amount in clients[0].channel(game.channel).amounts]
            after = [demo_chain.coin_of(chain, child) for child in children]
    result["money"] = _accounts(names, before, [stake] * len(names), owed, after)
    return result


def _over_hub(
    show: Screen, home: Path, names: Sequence[str], cards: int, stake: int, began: float, keep: bool
) -> dict[str, Any]:
    """The same without a transaction: ledgers with a hub put the stakes up. They are opened before, and closed in the
    end, so that the chain pays what all of it came to."""
    from scapp.runtime.cli import demo_chain
    from scapp.runtime.cli.demo_game import Game, Stakes
    from scapp.runtime.cli.demo_hub import HUB, HubLedgers

    with _chain(show, home) as chain:
        ledgers = HubLedgers(chain, names, home, stake)
        children, everybody = ledgers.children, [*names, HUB]
        before = [demo_chain.coin_of(chain, child) for child in children]
        stakes = Stakes(
            slots=_slots(children[:-1], stake),
            fund="virtual",
            duration_s=demo_chain.CHALLENGE_DURATION_S,
            opens="both ledgers lock the stakes; no transaction",
            ends="the ledgers take it over",
            via=(HUB,),
            fees=(ledgers.fee,),
        )
        with _introduced(show, home, children, keep) as clients:
            show.note(f"{' and '.join(names)} open a ledger with the {HUB} each; all deposit on chain")
            ledgers.open(clients)
            sent, held = ledgers.sent(), ledgers.balances(clients)
            game = Game(children[:-1], clients[:-1], cards, show, stakes)
            game.prepare()
            game.play()
            ledgers.wait_free(clients)
            result = _result(game, children[:-1], home, began)
            owed = ledgers.balances(clients)
            result["transactions"] = ledgers.sent() - sent
            show.note("the ledgers are closed; the chain pays")
            ledgers.settle(clients)
            after = [demo_chain.coin_of(chain, child) for child in children]
    result["fee"] = str(ledgers.fee)
    result["ledgers"] = [
        {"name": name, "before": str(b), "after": str(a)} for name, b, a in zip(everybody, held, owed, strict=True)
    ]
    result["money"] = _accounts(everybody, before, ledgers.deposited, owed, after)
    result["seconds"] = round(time.monotonic() - began, 2)
    return result


@contextlib.contextmanager
def _chain(show: Screen, home: Path) -> Iterator[Chain]:
    """A fresh one, and a directory without the nodes of an earlier one."""
    from scapp.runtime.cli.demo_chain import demo_chain
    from scapp.runtime.cli.demo_hub import HUB

    emptied_folder(home, MARK, (*NAMES, HUB))
    show.note("starting a chain with the contracts on it (the first time it is downloaded)")
    with demo_chain() as chain:
        yield chain


@contextlib.contextmanager
def _introduced(show: Screen, home: Path, children: list[NodeChild], keep: bool) -> Iterator[list[Client]]:
    """Clients of running nodes that know each other."""
    try:
        with running_nodes(children), contextlib.ExitStack() as clients:
            show.note(f"starting {len(children)} nodes in {home}")
            yield [clients.enter_context(client) for client in introduce(children)]
    finally:
        if not keep:
            remove_nodes(home, children)


def _slots(players: Sequence[NodeChild], stake: int) -> list[SlotView]:
    from scapp.runtime.cli.demo_chain import slots_for
    from scapp.runtime.documents import SlotView

    return [SlotView(asset=a, destination=d, amount=str(n)) for a, d, n in slots_for(players, stake)]


def _accounts(
    names: Sequence[str], before: Sequence[int], deposited: Sequence[int], owed: Sequence[int], after: Sequence[int]
) -> list[dict[str, str]]:
    """By node, in wei. What is missing in the end are the fees of its transactions."""
    return [
        {"name": name, "before": str(b), "stake": str(d), "owed": str(o), "after": str(a), "fees": str(b - d + o - a)}
        for name, b, d, o, a in zip(names, before, deposited, owed, after, strict=True)
    ]


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
    if "ledgers" in result:
        lines += [_ledgers_text(result), table(("node", "before", "after"), _coins(result["ledgers"]), right=(1, 2))]
    if "money" in result:
        headers = ("node", "before", "deposited", "owed", "after", "fees")
        lines += [
            "\nMoney on chain, in the coin of the accounts:\n",
            table(headers, _coins(result["money"]), right=(1, 2, 3, 4, 5)),
        ]
    if keep and "money" not in result:
        lines.append(_next_steps(result))
    return "\n".join(lines)


def _ledgers_text(result: dict[str, Any]) -> str:
    sent = result["transactions"]
    return (
        f"\nBalances in the ledgers with the hub, which has {amount_text(result['fee'], COIN)} for it. Between their "
        f"deposits and payouts\n{sent} transaction{'s' * (sent != 1)} went to the chain:\n"
    )


def _coins(rows: list[dict[str, str]]) -> list[tuple[str, ...]]:
    """Cells of a table whose first column is a name, the others wei."""
    return [(name, *(amount_text(wei, COIN) for wei in amounts)) for name, *amounts in map(dict.values, rows)]


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
