"""`scapp keys`: the node's channel key, and tokens for its API."""

from __future__ import annotations

from pathlib import Path

import click

from scapp.runtime.cli.common import common, emit, settings, table

_CHAIN = click.option("--chain", is_flag=True, help="The key of the account that pays for transactions on the chain")


def _role(chain: bool) -> str:
    from scapp.runtime.keys_file import CHAIN_KEY, CHANNEL_KEY

    return CHAIN_KEY if chain else CHANNEL_KEY


@click.group()
def keys() -> None:
    """Make and show the node's keys and API tokens."""


@keys.command()
@common
@click.option("--password", "ask", is_flag=True, help="Encrypt it: an Ethereum keystore; the password is asked for")
@click.option(
    "--password-file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Take the password from a file",
)
@_CHAIN
def new(ask: bool, password_file: Path | None, chain: bool) -> None:
    """Make the node's channel key. Whoever has it can sign for you: the file's mode is 0600.

    With --chain the key of the account that pays for transactions: it needs some of the chain's coin, and what a
    channel deposits comes from it."""
    from scapp.runtime.keys_file import check_private, new_key

    password = None
    if password_file:
        check_private(password_file)
        password = password_file.read_text("utf-8").rstrip("\n")
    elif ask:
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    home = settings().directory
    info = new_key(home, password, _role(chain))
    document = {"address": "0x" + info.address.hex(), "kind": info.kind, "path": str(info.path)}
    kept = "not encrypted" if info.kind == "raw" else info.kind
    then = "send it some of the chain's coin" if chain else f"scapp -C {home} node"
    emit(document, f"{document['address']}\n{info.path} ({kept}); keep a copy of it in a safe place.\nNext: {then}")


@keys.command()
@common
@_CHAIN
def show(chain: bool) -> None:
    """Show the address of the node's key (never the key)."""
    from scapp.runtime.keys_file import key_info

    info = key_info(settings().directory, _role(chain))
    document = {"address": "0x" + info.address.hex(), "kind": info.kind, "path": str(info.path)}
    emit(document, f"{document['address']}  {info.kind}  {info.path}")


@keys.command("list")
@common
def list_() -> None:
    """List the node's keys and its API tokens (names and permissions)."""
    from scapp.runtime.api.auth import TokenStore
    from scapp.runtime.keys_file import CHAIN_KEY, CHANNEL_KEY, find_key, key_info

    home = settings().directory
    names = {CHANNEL_KEY: "channel key", CHAIN_KEY: "chain key"}
    found = {names[role]: key_info(home, role) for role in names if find_key(home, role)}
    tokens = TokenStore(home).records()
    document = {
        "keys": [
            {"name": name, "address": "0x" + k.address.hex(), "kind": k.kind, "path": str(k.path)}
            for name, k in found.items()
        ],
        "tokens": [{"name": t.name, "permissions": t.permissions, "created_ms": t.created_ms} for t in tokens],
    }
    rows = [(name, "0x" + k.address.hex(), k.kind) for name, k in found.items()]
    rows += [("API token", t.name, ",".join(t.permissions)) for t in tokens]
    emit(
        document, table(("what", "name", "kind"), rows) if rows else f"nothing in {home}; `scapp keys new` makes a key"
    )


@keys.command()
@common
@click.argument("name")
@click.option(
    "-p", "--permission", "permissions", multiple=True,
    type=click.Choice(["read", "send", "channels", "funds", "admin"]), help="What it permits; may be repeated  [read]",
)  # fmt: skip
@click.option("--revoke", is_flag=True, help="Forget the token instead; it stops working at once")
def token(name: str, permissions: tuple[str, ...], revoke: bool) -> None:
    """Make an API token; it is shown once and only its hash is kept.

    `channels` opens and answers channels without deposits, `funds` those with them; `admin` permits everything."""
    from scapp.runtime.api.auth import TokenStore

    store = TokenStore(settings().directory)
    if revoke:
        store.revoke(name)
        emit({"name": name, "revoked": True}, f"token {name} is revoked")
        return
    wanted = permissions or ("read",)
    text = store.add(name, wanted)  # type: ignore[arg-type]  # click checked the words
    emit({"name": name, "permissions": wanted, "token": text}, text)
