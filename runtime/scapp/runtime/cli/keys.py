"""`scapp keys`: the node's channel key, and tokens for its API."""

from __future__ import annotations

from pathlib import Path

import click

from scapp.runtime.cli.common import common, emit, settings, table


@click.group()
def keys() -> None:
    """Make and show the node's key and API tokens."""


@keys.command()
@common
@click.option("--password", "ask", is_flag=True, help="Encrypt it: an Ethereum keystore; the password is asked for")
@click.option(
    "--password-file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Take the password from a file",
)
def new(ask: bool, password_file: Path | None) -> None:
    """Make the node's channel key. Whoever has it can sign for you: the file's mode is 0600."""
    from scapp.runtime.keys_file import check_private, new_key

    password = None
    if password_file:
        check_private(password_file)
        password = password_file.read_text("utf-8").rstrip("\n")
    elif ask:
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    home = settings().directory
    info = new_key(home, password)
    document = {"address": "0x" + info.address.hex(), "kind": info.kind, "path": str(info.path)}
    kept = "not encrypted" if info.kind == "raw" else info.kind
    emit(
        document,
        f"{document['address']}\n{info.path} ({kept}); keep a copy of it in a safe place.\nNext: scapp -C {home} node",
    )


@keys.command()
@common
def show() -> None:
    """Show the address of the node's key (never the key)."""
    from scapp.runtime.keys_file import key_info

    info = key_info(settings().directory)
    document = {"address": "0x" + info.address.hex(), "kind": info.kind, "path": str(info.path)}
    emit(document, f"{document['address']}  {info.kind}  {info.path}")


@keys.command("list")
@common
def list_() -> None:
    """List the node's key and its API tokens (names and permissions)."""
    from scapp.runtime.api.auth import TokenStore
    from scapp.runtime.keys_file import find_key, key_info

    home = settings().directory
    found = [key_info(home)] if find_key(home) else []
    tokens = TokenStore(home).records()
    document = {
        "keys": [{"address": "0x" + k.address.hex(), "kind": k.kind, "path": str(k.path)} for k in found],
        "tokens": [{"name": t.name, "permissions": t.permissions, "created_ms": t.created_ms} for t in tokens],
    }
    rows = [("channel key", "0x" + k.address.hex(), k.kind) for k in found]
    rows += [("API token", t.name, ",".join(t.permissions)) for t in tokens]
    emit(
        document, table(("what", "name", "kind"), rows) if rows else f"nothing in {home}; `scapp keys new` makes a key"
    )


@keys.command()
@common
@click.argument("name")
@click.option(
    "-p", "--permission", "permissions", multiple=True, type=click.Choice(["read", "send", "admin"]),
    help="What it permits; may be repeated  [read]",
)  # fmt: skip
@click.option("--revoke", is_flag=True, help="Forget the token instead; it stops working at once")
def token(name: str, permissions: tuple[str, ...], revoke: bool) -> None:
    """Make an API token; it is shown once and only its hash is kept. `admin` permits everything."""
    from scapp.runtime.api.auth import TokenStore

    store = TokenStore(settings().directory)
    if revoke:
        store.revoke(name)
        emit({"name": name, "revoked": True}, f"token {name} is revoked")
        return
    wanted = permissions or ("read",)
    text = store.add(name, wanted)  # type: ignore[arg-type]  # click checked the words
    emit({"name": name, "permissions": wanted, "token": text}, text)
