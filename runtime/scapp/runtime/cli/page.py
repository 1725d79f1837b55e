"""`scapp page`: open an app's page in the browser, with a token and a secret of its own.

Both stand behind the `#` of the address, which a browser sends to nobody. The address is not given to the browser on
its command line, which every user of the machine can read, but in a file that only this user can.
"""

from __future__ import annotations

import html
import secrets
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

import click

from scapp.runtime.cli.common import Problem, common, emit, settings

if TYPE_CHECKING:
    from scapp.runtime.documents import Permission

FOLDER = "pages"
PLAY: tuple[Permission, ...] = ("read", "send", "channels")
STAKE: tuple[Permission, ...] = (*PLAY, "funds")
WATCH: tuple[Permission, ...] = ("read",)


@click.command()
@common
@click.argument("name")
@click.option("--watch", is_flag=True, help="A page that may look and do nothing, for a spectator")
@click.option("--funds", is_flag=True, help="A page that may also open and accept channels with deposits")
@click.option("--new-token", is_flag=True, help="Make the token anew: pages that are open lose theirs")
@click.option("--open/--no-open", "opens", default=True, show_default=True, help="Open the browser, or only print")
def page(name: str, watch: bool, funds: bool, new_token: bool, opens: bool) -> None:
    """Open the page NAME that the running node serves ([web] in scapp.toml lists them)."""
    if watch and funds:
        raise click.UsageError("--watch may do nothing, --funds may spend: one of them")
    home = settings().directory
    with settings().client() as node:
        base = node.url
    if name not in _served(home):
        hint = f'add it to {home / "scapp.toml"}: [web] {name} = "FOLDER"; then start the node again'
        raise Problem(f"the node serves no page {name!r}", code="not_found", hint=hint)
    address = page_address(home, base, name, watch=watch, funds=funds, new_token=new_token)
    emit({"url": address}, address)
    if opens:
        open_in_browser(home, name, address)


def _served(home: Path) -> dict[str, str]:
    from scapp.runtime.config import load_config

    return load_config(home).web


def page_address(
    home: Path, base: str, name: str, *, watch: bool = False, funds: bool = False, new_token: bool = False
) -> str:
    """The address with token and secret; both are kept in HOME/pages (mode 0600), so that it stays the same as long as
    the page may do the same."""
    import msgspec

    from scapp.runtime.api.auth import TokenStore
    from scapp.runtime.keys_file import check_private, write_private

    folder = home / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"{name}{'-watch' if watch else ''}.json"
    kept: dict[str, str] = {}
    if path.exists():
        check_private(path)
        kept = msgspec.json.decode(path.read_bytes(), type=dict[str, str])
    tokens = TokenStore(home)
    wanted = WATCH if watch else STAKE if funds else PLAY
    known = tokens.find(kept.get("token", ""))
    if new_token or known is None or known.permissions != wanted:
        label = f"page-{path.stem}"
        if any(record.name == label for record in tokens.records()):
            tokens.revoke(label)
        kept["token"] = tokens.add(label, wanted)
    if not watch:
        kept.setdefault("secret", "0x" + secrets.token_hex(32))
    write_private(path, msgspec.json.encode(kept).decode() + "\n", replace=True)
    return f"{base}/app/{name}/#" + "&".join(f"{key}={value}" for key, value in sorted(kept.items()))


def open_in_browser(home: Path, name: str, address: str) -> None:
    """Through a private file that leads there."""
    from scapp.runtime.keys_file import write_private

    path = home / FOLDER / f"{name}.html"
    link = html.escape(address, quote=True)
    write_private(
        path,
        f'<!doctype html><meta charset="utf-8"><meta name="referrer" content="no-referrer">'
        f'<meta http-equiv="refresh" content="0;url={link}"><a href="{link}">Open {html.escape(name)}</a>\n',
        replace=True,
    )
    webbrowser.open(path.as_uri())
