"""Amounts of money as people write and read them: coin in wei, gwei or eth, tokens in their smallest unit."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from decimal import Decimal, InvalidOperation, localcontext

import click

COIN = "0x" + "00" * 20
_UNITS = {"wei": 0, "gwei": 9, "eth": 18}


def parse_stake(text: str, option: str = "--stake") -> tuple[str, int]:
    """`AMOUNT[:ASSET]` to (asset, amount in its smallest unit). Raises click.BadParameter."""
    from scapp.channels.abi import InvalidValue
    from scapp.channels.addresses import parse_address

    amount, colon, asset = text.partition(":")
    if colon:
        try:
            parse_address(asset)
        except InvalidValue as error:
            raise click.BadParameter(str(error), param_hint=option) from None
    return (
        (asset, parse_amount(amount, coin=False, option=option))
        if colon
        else (COIN, parse_amount(amount, option=option))
    )


def by_asset(texts: Iterable[str], option: str) -> dict[str, int]:
    """Several of them as amounts by asset. Raises click.BadParameter."""
    found: dict[str, int] = {}
    for text in texts:
        asset, amount = parse_stake(text, option)
        if asset in found:
            raise click.BadParameter(f"asset {asset} is named twice", param_hint=option)
        found[asset] = amount
    return found


def parse_amount(text: str, *, coin: bool = True, option: str = "--stake") -> int:
    """A number of the smallest unit, or of the coin with its unit behind it. Raises click.BadParameter."""
    lower = text.strip().lower().replace("_", "")
    unit = next((name for name in ("gwei", "wei", "eth") if lower.endswith(name)), "")
    try:
        with localcontext(prec=120):  # 2^256 has 78 digits
            whole = Decimal(lower.removesuffix(unit).strip()).scaleb(_UNITS.get(unit, 0))
        exact = whole.is_finite() and whole == whole.to_integral_value()
    except (InvalidOperation, ValueError):
        exact = False
    if not exact or not 0 <= whole < 2**256 or (unit and not coin):
        allowed = "a whole number, or 3gwei, 0.1eth" if coin else "a whole number of the token's smallest unit"
        raise click.BadParameter(f"{text!r} is no amount; allowed is {allowed}", param_hint=option)
    return int(whole)


def parse_fees(texts: Sequence[str], hubs: int, asset: str) -> list[int]:
    """What each hub gets in the asset, nothing where no fee is given. Raises click.UsageError."""
    if len(texts) not in (0, hubs):
        raise click.UsageError(f"{len(texts)} fees for {hubs} hubs; give --fee once for each --via, or never")
    return [parse_amount(text, coin=asset in (COIN, ""), option="--fee") for text in texts] or [0] * hubs


def amount_text(amount: str, asset: str) -> str:
    """`0.1 eth`, `12 wei`, or `12 of 0x…`."""
    if asset != COIN:
        return f"{amount} of {asset}"
    from scapp.channels.types import coin_text

    return coin_text(int(amount))


def parse_time(text: str | None, option: str) -> int | None:
    """A day or a moment, in this machine's zone if it names none, in milliseconds since 1970. Raises
    click.BadParameter."""
    if text is None:
        return None
    try:
        moment = datetime.datetime.fromisoformat(text)
        return max(0, int(moment.astimezone().timestamp() * 1_000))
    except (ValueError, OverflowError, OSError):
        raise click.BadParameter(
            f"{text!r} is no time; write 2026-11-01 or 2026-11-01T12:00", param_hint=option
        ) from None


def size_text(count: int | None) -> str:
    """Bytes for people: `12 kB`, `3.4 GB`; "unknown" for None."""
    if count is None:
        return "unknown"
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}" if count < 10 * size else f"{count // size} {unit}"
    return f"{count} bytes"


def time_text(timestamp_s: int) -> str:
    """A block's timestamp in local time; as the number where no calendar reaches (a challenge may last that long)."""
    try:
        return datetime.datetime.fromtimestamp(timestamp_s).astimezone().isoformat(" ", "seconds")
    except (ValueError, OverflowError, OSError):
        return f"second {timestamp_s}"
