"""How commands show one thing: a name and a value on each line, and what the chain holds of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from scapp.runtime.cli.common import printable

if TYPE_CHECKING:
    from scapp.runtime.chain_documents import ChannelOnChainView


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
        lines.append(("held", f"{held}{later}; all deposits {whole}, this node's {own}"))
    for each in found.transactions:
        at = f" in block {each.block}" if each.block is not None else ""
        parts = (each.kind, each.status + at, each.transaction, each.detail)
        lines.append(("transaction", "  ".join(part for part in parts if part)))
    return lines
