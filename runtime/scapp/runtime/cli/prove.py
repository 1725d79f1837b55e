"""`scapp prove` and `scapp check-proof`: that a row was co-signed, for somebody who runs no node."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scapp.runtime.cli.common import MISMATCH, Problem, cell, common, emit, printable, settings, tell, waiting

if TYPE_CHECKING:
    from scapp.runtime.proof_documents import CheckedProof
    from scapp.runtime.proof_format import ProofDocument


@click.command()
@common
@click.argument("channel")
@click.argument("table_name", metavar="TABLE")
@click.argument("key", nargs=-1, required=True)
@click.option("--turn", type=click.IntRange(0), help="Prove the row of this co-signed turn  [the latest]")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write the document there, not to stdout"
)
def prove(channel: str, table_name: str, key: tuple[str, ...], turn: int | None, output: Path | None) -> None:
    """Prove that the row with this KEY is, or is not, in the co-signed tables.

    One KEY value per primary key column, as `scapp query` shows them. The document proves itself to anybody: `scapp
    check-proof FILE` needs no node."""
    import msgspec

    with settings().client() as node, waiting("running the log", "prove"):
        document = node.prove(channel, table_name, key, turn)
    text = msgspec.json.format(msgspec.json.encode(document), indent=2).decode()
    if output is None:
        emit(document, text)
        return
    output.write_text(text + "\n", "utf-8")
    found = "is there" if document.row is not None else "is absent"
    emit(document, f"{output}: {table_name} ({', '.join(map(printable, key))}) {found} at turn {document.state.turn}")


@click.command("check-proof")
@common
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@click.option("--channel", help="Also demand that it is about this channel (its whole id)")
@click.option(
    "--module", type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="The channel's reducer module: proves the names of table and columns too",
)  # fmt: skip
@click.option(
    "--two-party-app", metavar="ADDRESS",
    help="The app of channels through hubs on the channel's chain: they are their first and last participant's",
)  # fmt: skip
def check_proof(file: Path, channel: str | None, module: Path | None, two_party_app: str | None) -> None:
    """Check a proof document (`-`: standard input) with nothing but what is in it. Exit code 5 when it proves nothing.

    Signatures of all participants (of the two app parties with --two-party-app), their state, its root, and the way
    from the root to the row are checked. Compare channel and participants with those you expect: anybody can open a
    channel with himself."""
    from scapp.runtime.config import read_address
    from scapp.runtime.proof_documents import ProofRefused, check, read_document

    app = None if two_party_app is None else read_address(two_party_app, "--two-party-app")
    if channel is not None and not re.fullmatch("(0x)?[0-9a-fA-F]{64}", channel):
        # Whoever makes a channel can choose how its id begins.
        raise click.BadParameter(f"{channel!r} is no whole channel id: 64 hexadecimal digits", param_hint="--channel")
    data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    try:
        document = read_document(data)
        checked = check(document, app)
        if channel is not None and channel.lower().removeprefix("0x") != checked.cosigned.channel_id.hex():
            raise ProofRefused(f"it is about channel 0x{checked.cosigned.channel_id.hex()}, not {channel}")
        if module is not None:
            _check_names(document, checked, module)
    except ProofRefused as error:
        hint = "do not rely on it"
        raise Problem(f"proves nothing: {error}", code="bad_proof", hint=hint, exit_code=MISMATCH) from None
    facts = _facts(document, checked, named=module is not None)
    width = max(map(len, facts))
    lines = (f"{name.replace('_', ' ').ljust(width)}  {_line(value)}" for name, value in facts.items())
    emit(facts, "\n".join(("proved", *lines)))
    if module is None:
        tell("table and column names are the document's own words; --module MODULE.wasm proves them")


def _check_names(document: ProofDocument, checked: CheckedProof, module: Path) -> None:
    from scapp.channels.errors import ScappError
    from scapp.runtime.module import check_module
    from scapp.runtime.proof_documents import ProofRefused, check_names

    wasm = module.read_bytes()
    try:
        manifest = check_module(wasm, checked.deployment.limits).manifest
    except ScappError as error:
        raise ProofRefused(f"{module} is no reducer module: {error}") from None
    check_names(document, checked.deployment, wasm, manifest)


def _facts(document: ProofDocument, checked: CheckedProof, *, named: bool) -> dict[str, Any]:
    cosigned = checked.cosigned
    return {
        "channel_id": "0x" + cosigned.channel_id.hex(),
        "participants": ["0x" + participant.hex() for participant in checked.participants],
        "signed_by": ["0x" + signer.hex() for signer in cosigned.signers],
        "turn": cosigned.turn,
        "is_final": cosigned.is_final,
        "sequence": cosigned.app_data.sequence,
        "time_ms": cosigned.app_data.time_ms,
        "state_root": "0x" + cosigned.app_data.state_root.hex(),
        "reducer": "0x" + checked.deployment.reducer.hex(),
        "table": f"{checked.table_position} ({document.table.name})",
        "key": "0x" + checked.key.hex(),
        "row": None if checked.row is None else "0x" + checked.row.hex(),
        "values": checked.values,
        "names_proved": named,
    }


def _line(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(value)
    if isinstance(value, dict):
        shown = ((name, "NULL" if each is None else cell(each)) for name, each in value.items())
        return printable(", ".join(f"{name} {text}" for name, text in shown))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "absent" if value is None else printable(str(value))
