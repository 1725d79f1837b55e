"""`scapp channel`: open, accept, reject, list, show and close channels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from scapp.runtime.cli.common import TIMEOUT, common, emit, settings, short, table, tell, waiting
from scapp.runtime.cli.described import chain_lines, described, end, wait_option
from scapp.runtime.cli.route import hubs_of

if TYPE_CHECKING:
    from scapp.runtime.documents import ChannelView, SlotView
    from scapp.runtime.ledger_documents import BackingView

_WAIT = wait_option(30.0)


@click.group()
def channel() -> None:
    """Open, accept, reject, list, show and close channels, and what they do on chain.

    A CHANNEL is its id or the beginning of it."""


@channel.command("open")
@common
@click.argument("peers", nargs=-1, required=True, metavar="PEER...")
@click.option("--app", required=True, help="Name of a deployed app, or the beginning of its deployment id")
@click.option("--params", metavar="JSON", help="Parameters for the app, handed to the reducer in entry 0")
@click.option(
    "--slot", "slots", multiple=True, metavar="ASSET:DESTINATION:AMOUNT", help="An outcome slot; may be repeated"
)
@click.option(
    "--fund",
    type=click.Choice(["none", "direct", "virtual"]),
    default="none",
    show_default=True,
    help="direct: everybody deposits on the node's chain; virtual: ledgers put it up, without a transaction",
)
@click.option(
    "--via",
    "via",
    multiple=True,
    metavar="HUB",
    help="With --fund virtual: a hub on the way; auto: the cheapest that are announced, others if they refuse",
)
@click.option(
    "--fee", "fees", multiple=True, metavar="AMOUNT", help="What each hub gets, in the first asset  [nothing]"
)
@click.option("--fee-max", metavar="AMOUNT", help="With --via auto: most to pay all hubs together  [no limit]")
@click.option(
    "--stake",
    "stakes",
    multiple=True,
    metavar="AMOUNT[:ASSET]",
    help="What everybody deposits, as 5, 3gwei, 0.1eth, or 100:0xTOKEN; one per asset",
)
@click.option(
    "--headroom",
    "rooms",
    multiple=True,
    metavar="AMOUNT[:ASSET]",
    help="How much all together may add while the channel runs (`channel top-up`); one per asset",
)
@click.option(
    "--payout",
    "payouts",
    multiple=True,
    metavar="PEER=ACCOUNT",
    help="Where a participant's stake is paid out  [its channel address]",
)
@click.option(
    "--challenge-duration",
    type=click.IntRange(1),
    default=86_400,
    show_default=True,
    metavar="SECONDS",
    help="How long a dispute on chain waits for an answer",
)
@_WAIT
def open_(
    peers: tuple[str, ...],
    app: str,
    params: str | None,
    slots: tuple[str, ...],
    fund: str,
    via: tuple[str, ...],
    fees: tuple[str, ...],
    fee_max: str | None,
    stakes: tuple[str, ...],
    rooms: tuple[str, ...],
    payouts: tuple[str, ...],
    challenge_duration: int,
    wait_s: float,
) -> None:
    """Propose a channel to PEERs (addresses, or names from `scapp peers add`). This node orders its messages.

    With --fund direct the channel runs once all deposits are confirmed on chain, and what the app says everybody is
    owed is what the chain pays. With --fund virtual it runs at once, over ledgers that this node and PEER have with
    each other or with hubs, and what the app says moves in those."""
    from scapp.runtime.cli.amounts import by_asset, parse_fees

    given, wanted = _json(params) if params else None, [_slot(text) for text in slots]
    if fund != "none" and not stakes and not slots:
        raise click.UsageError(f"--fund {fund} needs --stake, or --slot for unequal deposits")
    if via and fund != "virtual":
        raise click.UsageError("--via belongs to --fund virtual")
    named = hubs_of(via)
    auto, hubs = named is None, named or []
    if auto and (fees or len(peers) != 1):
        raise click.UsageError("--via auto is for one PEER; it finds the fees as well")
    if fee_max is not None and not auto:
        raise click.UsageError("--fee-max belongs to --via auto")
    staked, headroom = by_asset(stakes, "--stake"), by_asset(rooms, "--headroom")
    if set(headroom) - set(staked):
        raise click.UsageError("--headroom is for an asset that --stake names")
    paid = parse_fees(fees, len(hubs), next(iter(staked), ""))
    with settings().client() as node, waiting("opening the channel"):
        found = node.open_channel(
            peers,
            app,
            params=given,
            slots=wanted,
            fund=fund,
            via=hubs,
            fees=paid,
            routed=auto,
            fee_max=None if fee_max is None else parse_fees((fee_max,), 1, next(iter(staked), ""))[0],
            stakes=staked,
            headroom=headroom,
            payouts=dict(map(_payout, payouts)),
            challenge_duration_s=challenge_duration,
            wait_s=wait_s,
        )
    _settled(found, ("running",), wait_s)


@channel.command()
@common
@click.argument("channel")
@_WAIT
def accept(channel: str, wait_s: float) -> None:
    """Accept a proposed channel."""
    with settings().client() as node, waiting("accepting the channel"):
        found = node.accept(channel, wait_s)
    _settled(found, ("running",), wait_s)


@channel.command()
@common
@click.argument("channel")
@click.option("--reason", default="rejected by the operator", show_default=True)
def reject(channel: str, reason: str) -> None:
    """Reject a proposed channel."""
    with settings().client() as node:
        found = node.reject(channel, reason)
    emit(found, _described(found))


@channel.command("list")
@common
@click.option("--phase", help="Only channels in this phase")
def list_(phase: str | None) -> None:
    """List the node's channels."""
    with settings().client() as node:
        found = node.channels(phase)
    rows = [
        (short(c.channel_id, 12), c.app or short(c.deployment_id), c.phase, c.sequence,
         c.derived.sequence if c.derived else None, c.turn, len(c.participants), c.waiting_for or c.reason)
        for c in found
    ]  # fmt: skip
    headers = ("channel", "app", "phase", "entries", "derived", "turn", "parties", "waiting for")
    emit({"channels": found}, table(headers, rows, right=(3, 4, 5, 6)) if rows else "no channels")


@channel.command()
@common
@click.argument("channel")
def show(channel: str) -> None:
    """Show one channel."""
    with settings().client() as node:
        found = node.channel(channel)
    emit(found, _described(found))


@channel.command()
@common
@click.argument("channel")
@_WAIT
def close(channel: str, wait_s: float) -> None:
    """Ask for the final state, signed by all. A funded channel is then paid out on chain by itself."""
    with settings().client() as node, waiting("closing the channel"):
        found = node.close_channel(channel, wait_s)
    _settled(found, ("closed", "settled"), wait_s)


@channel.command("top-up")
@common
@click.argument("channel")
@click.argument("amount", metavar="AMOUNT[:ASSET]")
@click.option("--message", metavar="JSON", help="Send it next: what makes the app say that you deposit this")
@click.option("--then", metavar="JSON", help="Send it once the deposit is confirmed: what makes the app use it")
@_WAIT
def top_up(channel: str, amount: str, message: str | None, then: str | None, wait_s: float) -> None:
    """Deposit AMOUNT more into a running channel that was opened with --headroom.

    This node deposits once the app has everybody sign that it does; until then, this is a permission. How the app is
    asked is the app's matter: the ledger takes {"top_up": {"amount": 5}}, and then {"claim": {"amount": 5}}."""
    from scapp.runtime.cli.amounts import parse_stake
    from scapp.runtime.cli.topping_up import announce, use

    asset, wanted = parse_stake(amount, "AMOUNT")
    asked, used = (_json(text, name) if text else None for text, name in ((message, "--message"), (then, "--then")))
    with settings().client() as node, waiting("topping up"):
        found = announce(node, channel, asset, wanted, asked)
        done = used is None or use(node, channel, asset, used, wait_s)
        found = node.channel(channel) if used is not None else found
    emit(found, _described(found))
    if not done:
        tell(f"not confirmed after {wait_s:g} s; it goes on: `scapp send` says the rest when it is")
        click.get_current_context().exit(TIMEOUT)


@channel.command()
@common
@click.argument("channel")
@click.option(
    "--withdraw", "amounts", multiple=True, metavar="AMOUNT[:ASSET]", help="What this node takes out; one per asset"
)
@click.option("--params", metavar="JSON", help="With what the app begins anew  [as before]")
@_WAIT
def resize(channel: str, amounts: tuple[str, ...], params: str | None, wait_s: float) -> None:
    """Take money out of a running channel: a successor takes over the rest, and its app begins anew.

    By the first participant's node, with what others have asked for; by any other node this asks the first one's."""
    from scapp.runtime.cli.amounts import by_asset

    given, wanted = _json(params) if params else None, by_asset(amounts, "--withdraw")
    with settings().client() as node, waiting("resizing the channel"):
        found = node.resize(channel, wanted, given, wait_s)
    if found.renews:
        _settled(found, ("running",), wait_s)
    else:
        emit(found, _described(found))
        tell("the first participant is asked: `scapp channel resize` there proposes the successor")


@channel.command()
@common
@click.argument("channel")
@click.option("--yes", is_flag=True, help="Do not ask")
@_WAIT
def challenge(channel: str, yes: bool, wait_s: float) -> None:
    """Leave a funded channel without the others: its newest co-signed state goes to the chain.

    The others may answer with a newer state until the challenge ends; then everybody is paid. Nothing more is signed
    in the channel but a final state. There is no way back."""
    with settings().client() as node:
        if not yes and not settings().json:
            before = node.channel(channel)
            click.confirm(
                f"Leave channel {before.channel_id[:12]}… with turn {before.turn}? Nothing more is signed in it",
                abort=True,
                err=True,
            )
        with waiting("leaving the channel"):
            found = node.challenge(channel, wait_s)
    emit(found, _described(found))


@channel.command()
@common
@click.argument("channel")
def checkpoint(channel: str) -> None:
    """Record a funded channel's newest co-signed state on chain, so that no older one can be claimed.

    A node that runs answers older claims by itself; this is for a time in which it will not run."""
    with settings().client() as node:
        found = node.checkpoint(channel)
    emit(found, _described(found))


@channel.command()
@common
@click.argument("channel")
@_WAIT
def withdraw(channel: str, wait_s: float) -> None:
    """Have a closed or finalized channel paid out now, without waiting for the others to do it."""
    with settings().client() as node, waiting("paying out the channel"):
        found = node.withdraw(channel, wait_s)
    _settled(found, ("settled",), wait_s)


@channel.command()
@common
@click.argument("channel")
@click.option("--override", is_flag=True, help="Go on without the others' answers; needed, for it is a risk")
def recover(channel: str, override: bool) -> None:
    """End the recovery of a channel that was restored from a backup.

    It ends by itself once every other participant has told its highest signed state. With --override it ends now: this
    node may then sign what contradicts a state it signed after the backup, and whoever holds both can choose between
    them on the chain."""
    if not override:
        raise click.UsageError(
            "recovery ends by itself when every other participant has answered; --override ends it now: this node may "
            "then contradict what it has signed before, and others may choose between the two"
        )
    with settings().client() as node:
        found = node.recover(channel)
    emit(found, _described(found))


def _settled(found: ChannelView, wanted: tuple[str, ...], wait_s: float) -> None:
    end(found, _described(found), "channel", wanted, ("rejected", "halted"), wait_s)


def _undecided(found: ChannelView) -> str:
    over = ", too late: the channel has ended" if found.phase in ("closed", "settled") else ""
    return f"{found.pending}{over}" if found.pending else ""


def _described(found: ChannelView) -> str:
    from scapp.runtime.cli.amounts import amount_text, time_text

    lines = [
        ("channel", found.channel_id),
        ("phase", found.phase),
        ("takes over from", found.renews),
        ("successor", found.successor),
        ("waiting for", found.waiting_for),
        ("reason", found.reason),
        ("app", f"{found.app}  {found.deployment_id}".strip()),
        *(
            (f"participant {i}", f"{address}{' (this node)' if i == found.my_index else ''}")
            for i, address in enumerate(found.participants)
        ),
        ("entries", str(found.sequence)),
        ("turn", "-" if found.turn is None else str(found.turn)),
        ("log root", found.log_root),
        ("state root", found.state_root),
        *(
            (f"slot {i}", f"{amount_text(amount, slot.asset)} to {slot.destination}")
            for i, (slot, amount) in enumerate(
                zip(found.slots, found.amounts or [s.amount for s in found.slots], strict=True)
            )
        ),
        *(chain_lines(found.chain, amount_text, time_text) if found.chain else ()),
        *(_backing_lines(found.backing, found.slots[0].asset) if found.backing else ()),
        ("undecided", _undecided(found)),
        ("database", _derived(found)),
    ]
    return described(lines)


def _backing_lines(found: BackingView, asset: str) -> list[tuple[str, str]]:
    from scapp.runtime.cli.amounts import amount_text

    hubs = zip(found.hubs, found.fees, strict=True)
    return [
        *(("over", f"{hub} for {amount_text(fee, asset)}") for hub, fee in hubs),
        ("ledgers", f"{found.stage}: {found.detail}" if found.detail else found.stage),
        ("leaving", found.exit_reason),
    ]


def _derived(found: ChannelView) -> str:
    if found.derived is None:
        return "nothing derived yet"
    text = f"at {found.derived.sequence} of {found.sequence} entries, {found.derived.state}"
    return f"{text}: {found.derived.detail}" if found.derived.detail else text


def _json(text: str, option: str = "--params") -> object:
    import msgspec

    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise click.BadParameter(f"{text!r} is not JSON: {error}", param_hint=option) from None


def _slot(text: str) -> SlotView:
    from scapp.runtime.documents import SlotView

    parts = text.split(":")
    if len(parts) != 3 or not parts[2].isdigit():
        raise click.BadParameter(f"{text!r} is not ASSET:DESTINATION:AMOUNT", param_hint="--slot")
    return SlotView(asset=parts[0], destination=parts[1], amount=parts[2])


def _payout(text: str) -> tuple[str, str]:
    peer, equals, account = text.partition("=")
    if not equals:
        raise click.BadParameter(f"{text!r} is not PEER=ACCOUNT", param_hint="--payout")
    return peer, account
