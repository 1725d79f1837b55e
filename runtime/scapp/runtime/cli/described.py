"""How commands about one thing end: they wait for it, show it line by line, and say by their exit code what came of
it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

import click

from scapp.runtime.cli.common import REFUSED, TIMEOUT, emit, printable, tell

if TYPE_CHECKING:
    from scapp.runtime.chain_documents import ChannelOnChainView


F = TypeVar("F", bound=Callable[..., object])


class Named(Protocol):
    """A document about one thing."""

    @property
    def channel_id(self) -> str: ...

    @property
    def phase(self) -> str: ...


def wait_option(default_s: float) -> Callable[[F], F]:
    """`--wait`, as `wait_s`."""
    return click.option(
        "--wait", "wait_s", type=click.FloatRange(0, 300), default=default_s, show_default=True,
        help="Seconds to wait for it; 0 returns as soon as the wish is durable",
    )  # fmt: skip


def end(found: Named, text: str, command: str, wanted: Sequence[str], refused: Collection[str], wait_s: float) -> None:
    """Print it, and end with what came of the wish: a phase that was wanted, one that means no, or not yet; `command`
    shows it again."""
    emit(found, text)
    if found.phase in refused and found.phase not in wanted:
        click.get_current_context().exit(REFUSED)
    if wait_s > 0 and found.phase not in wanted:
        not_yet(found, f"not {wanted[0]}", command, wait_s)


def not_yet(found: Named, what: str, command: str, wait_s: float) -> None:
    """End because the wait is over; what was asked goes on."""
    tell(f"{what} after {wait_s:g} s; it goes on: `scapp {command} show {found.channel_id[:10]}`")
    click.get_current_context().exit(TIMEOUT)


def described(lines: Sequence[tuple[str, str]]) -> str:
    """Those with a value, aligned."""
    kept = [(name, value) for name, value in lines if value]
    width = max(len(name) for name, _ in kept)
    return "\n".join(f"{name.ljust(width)}  {printable(value)}" for name, value in kept)


def chain_lines(
    found: ChannelOnChainView, amount_text: Callable[[str, str], str], time_text: Callable[[int], str]
) -> list[tuple[str, str]]:
    """What the chain shows of a channel or a ledger."""
    until = f" until {time_text(found.finalizes_at_s)}" if found.finalizes_at_s else ""
    lines = [
        ("on chain", "settled" if found.settled else f"{found.mode}{until}"),
        ("turn on chain", str(found.turn_record) if found.turn_record else ""),
        ("leaving", found.exit_reason),
    ]
    for asset in found.assets:
        held, confirmed, whole, own = (
            amount_text(text, asset.asset) for text in (asset.held, asset.confirmed, asset.needed, asset.own)
        )
        later = "" if held == confirmed else f" (confirmed: {confirmed})"
        lines.append(("held", f"{held}{later}; first deposits {whole}, this node's {own}"))
    for each in found.transactions:
        at = f" in block {each.block}" if each.block is not None else ""
        parts = (each.kind, each.status + at, each.transaction, each.detail)
        lines.append(("transaction", "  ".join(part for part in parts if part)))
    return lines
