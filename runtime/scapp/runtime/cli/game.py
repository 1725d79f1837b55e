"""`scapp game`: play the example's card game in the browser, against bots, on nodes of this machine."""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scapp.runtime.cli.common import common, emit, tell

if TYPE_CHECKING:
    from scapp.runtime.cli.processes import NodeChild

# name: strength of the bot behind it
BOTS = {"sage": "sensible", "robin": "random", "rook": "sensible"}
HUB = "sage"  # with money all others have a ledger with it, and play through it
HUMANS = ("you", "friend", "third")
PAGE = "goofspiel"
THINK_S = 1.2
LEDGER_WEI = 10**18
_FOUND_BY_OTHERS = "\n[hub]\nannounce = true\n"


@click.command()
@common
@click.option("--bots", type=click.IntRange(0, 3), default=2, show_default=True, help="Opponents that are always there")
@click.option(
    "--humans", type=click.IntRange(1, 3), default=1, show_default=True, help="Nodes with a page, each its own player"
)
@click.option(
    "--dir", "folder", type=click.Path(path_type=Path, file_okay=False), default=Path("scapp-game"), show_default=True,
    help="Where the nodes' directories go; the next game there goes on with the same nodes and scores",
)  # fmt: skip
@click.option(
    "--money",
    is_flag=True,
    help="Start a chain beside the nodes, so that matches can be for stakes; all is new each time. The first bot is a "
    "hub as well: two can play through it without a transaction",
)
@click.option("--open/--no-open", "opens", default=True, show_default=True, help="Open the browser, or only print")
def game(bots: int, humans: int, folder: Path, money: bool, opens: bool) -> None:
    """Start nodes on this machine and open the game's page: play bots, or other people at further nodes.

    Runs until Ctrl-C. `sage` and `rook` play by the worth of the pot, `robin` plays any card."""
    from scapp.game import BotPlayer
    from scapp.runtime.cli.local_nodes import running_nodes, terminable
    from scapp.runtime.cli.page import open_in_browser, page_address

    names = [*HUMANS[:humans], *list(BOTS)[:bots]]
    with terminable(), _children(folder.absolute(), names, money) as children, running_nodes(children):
        tell(f"starting {len(children)} nodes in {children[0].home.parent}")
        _prepare(children, money)
        players = [
            BotPlayer(each.client, strength=BOTS[each.name], secret=_secret(each.home), think_s=THINK_S, name=each.name)
            for each in children
            if each.name in BOTS
        ]
        for player in players:
            player.start()
        shown = [each for each in children if each.name in HUMANS]
        pages = {each.name: page_address(each.home, _api(each), PAGE, funds=money) for each in shown}
        emit({"pages": pages, "directory": str(children[0].home.parent)}, lambda: _text(pages, money))
        if opens:
            for each in children[:humans]:
                open_in_browser(each.home, PAGE, pages[each.name])
        try:
            with contextlib.suppress(KeyboardInterrupt):  # the way to end it
                _until_interrupted(children, players)
        finally:
            for player in players:
                player.leave()


@contextlib.contextmanager
def _children(folder: Path, names: list[str], money: bool) -> Iterator[list[NodeChild]]:
    """The nodes, and with money the chain that runs as long as they do."""
    import msgspec

    from scapp.game import web_folder
    from scapp.runtime.cli.local_nodes import MARK, child_in, emptied_folder, prepared_folder

    # A person is asked before a match begins; a bot takes every challenge of a node it knows.
    mount = f'\n[policy]\naccept = "none"\n\n[web]\n{PAGE} = {msgspec.json.encode(str(web_folder())).decode()}\n'
    more = {name: mount if name in HUMANS else "" for name in names}
    if not money:
        home = prepared_folder(folder, MARK)
        yield [child_in(name, home, more[name]) for name in names]
        return
    from scapp.runtime.cli.demo_chain import RICH, demo_chain, funded_children
    from scapp.runtime.cli.demo_hub import hub_settings

    for name in names:
        more[name] += hub_settings(LEDGER_WEI, 2 * LEDGER_WEI) if name == HUB else _FOUND_BY_OTHERS
    home = emptied_folder(folder / "funded", MARK, [*HUMANS, *BOTS])
    tell("starting a chain with the contracts on it (the first time it is downloaded)")
    with demo_chain() as chain:
        yield funded_children(chain, names, home, RICH // 10, RICH // 2, more)


def _prepare(children: list[NodeChild], money: bool) -> None:
    """Everybody knows everybody and the game; ledgers are on their way, nobody waits for them."""
    from scapp.game import wasm_bytes
    from scapp.runtime.cli.amounts import COIN
    from scapp.runtime.cli.local_nodes import introduce

    funds = {COIN: LEDGER_WEI}
    hub = money and any(child.name == HUB for child in children)
    for child, node in zip(children, introduce(children), strict=True):
        with node:
            node.deploy(wasm_bytes())
            if hub and child.name != HUB:
                node.open_ledger(HUB, funds, funds)


def _secret(home: Path) -> bytes:
    """A bot's own, kept: a match goes on after a restart."""
    from scapp.runtime.keys_file import check_private, write_private

    path = home / "bot.secret"
    if not path.exists():
        write_private(path, secrets.token_hex(32) + "\n")
    check_private(path)
    return bytes.fromhex(path.read_text("ascii"))


def _api(child: NodeChild) -> str:
    file = child.file()
    assert file is not None, "it answered a moment ago"
    return file.api


def _until_interrupted(children: list[NodeChild], players: list[Any]) -> None:
    """Returns never; raises when a node or a bot ended."""
    from scapp.channels.errors import LocalError

    pause = threading.Event()
    while True:
        for child in children:
            if not child.running:
                raise LocalError(f"node {child.name} ended:\n{child.log_tail()}")
        for player in players:
            if player.failure is not None:
                raise player.failure
        pause.wait(0.5)


def _text(pages: dict[str, str], money: bool) -> str:
    lines = [f"  {name:8}{address}" for name, address in pages.items()]
    later = "the chain and what is on it end with them" if money else "matches go on the next time"
    return (
        "Ready. Open (the address is a key to the node; keep it to yourself):\n\n"
        + "\n".join(lines)
        + f"\n\nCtrl-C stops all nodes; {later}."
    )
