"""Ledgers and virtual channels as `info.LedgerInfo` and `VirtualInfo` show them, read from their records. Pure."""

from __future__ import annotations

from scapp.channels.books.engine import Books
from scapp.channels.books.info import LedgerAsset, LedgerInfo, Role, VirtualAsset, VirtualInfo
from scapp.channels.channel.chain_rules import amounts
from scapp.channels.channel.standing import ChannelOnChainInfo
from scapp.channels.ledger import standing as ledger_standing
from scapp.channels.ledger.consensus import FOLLOWER, LEADER
from scapp.channels.ledger.proposals import Remove
from scapp.channels.ledger.record import LedgerRecord
from scapp.channels.payments.purse import PurseInfo
from scapp.channels.types import ChannelId
from scapp.channels.virtual import standing as virtual_standing
from scapp.channels.virtual.crank import ledger_wants
from scapp.channels.virtual.record import VirtualRecord


def ledger_info(books: Books, record: LedgerRecord) -> LedgerInfo:
    """One ledger, as its co-signed state has it; a settled one funds nothing any more."""
    setup, ledger, balances = record.setup, record.ledger, record.balances
    session = books.session(record.channel)
    by_party = [(each.leader, each.follower) for each in balances.assets]
    mine, theirs = (LEADER, FOLLOWER) if record.leads else (FOLLOWER, LEADER)
    guaranteed = {guarantee.target: None for each in balances.assets for guarantee in each.guarantees}
    return LedgerInfo(
        channel_id=record.channel,
        peer=record.peer,
        leads=record.leads,
        phase=record.phase,
        waiting_for=ledger_standing.waiting_for(record, session) or _lost(books, record),
        reason=record.reject_reason or record.exit_reason,
        turn=ledger.current.turn if ledger is not None else None,
        challenge_duration_s=setup.fixed.challenge_duration,
        assets=tuple(
            LedgerAsset(
                asset=each.asset,
                mine=parties[mine],
                theirs=parties[theirs],
                locked=sum(guarantee.amount for guarantee in each.guarantees),
                announced=sum(item.amount for item in each.trailing if item.party == mine),
            )
            for each, parties in zip(balances.assets, by_party, strict=True)
        ),
        channels=tuple(map(ChannelId, guaranteed)) if record.phase != "settled" else (),
        queued=(len(ledger.queue) if ledger is not None else 0) + len(session.queue),
        chain=_on_chain(books, record),
    )


def _lost(books: Books, record: LedgerRecord) -> str:
    """Of a ledger that was restored: what its node has forgotten and cannot end by itself."""
    lost = ", ".join(f"0x{channel.hex()}" for channel in books.state.lost(record))
    what = f"0x{record.peer.hex()} to propose again what it guarantees here and no backup of this node knows"
    return f"{what}: {lost}" if lost and record.phase in ("running", "closing") else ""


def _on_chain(books: Books, record: LedgerRecord) -> ChannelOnChainInfo | None:
    if record.phase in ("proposed", "rejected"):
        return None
    setup, seen = record.setup, record.chain
    nothing = (0,) * len(setup.assets)
    status = seen.seen.latest.status if seen is not None else None
    return ChannelOnChainInfo(
        assets=setup.assets,
        needed=setup.shares.totals,
        own=tuple(share.amount for share in setup.shares.of[setup.my_index]),
        holdings=amounts(seen.seen.latest.holdings) if seen is not None else nothing,
        confirmed=amounts(seen.seen.confirmed.holdings) if seen is not None else nothing,
        mode=status.mode(books.context.head_time_s).name.lower() if status is not None else "unknown",
        turn_record=status.turn_record if status is not None else 0,
        finalizes_at=status.finalizes_at if status is not None else 0,
        challenge_duration=setup.fixed.challenge_duration,
        exit_reason=record.exit_reason,
        settled=seen is not None and seen.settled,
    )


def virtual_info(
    books: Books, record: VirtualRecord, info: PurseInfo | None, *, app_lost: bool = False, damaged: bool = False
) -> VirtualInfo:
    """One virtual channel, and this node's purse in it. It runs for payer and payee once that is open. `app_lost`: the
    app channel that it funds is not here. `damaged`: its purse cannot be read."""
    agreement = record.agreement
    purse = info.purse if info is not None else None
    phase, waiting_for = virtual_standing.phase(record), virtual_standing.waiting_for(record)
    if record.recovering:
        waiting_for = _cannot_be_told(books, record) or waiting_for
    if books.is_blind(record) and any(isinstance(change, Remove) for _, change in ledger_wants(record)):
        waiting_for = "the chain to answer: no guarantee is taken out on a view of it that is too old"
    if damaged and not record.over:
        waiting_for = "its purse, which is damaged in this node's log: restore a backup, or go on without this channel"
    elif phase == "running" and agreement.kind == "payment" and not record.is_hub and purse is None:
        phase, waiting_for = "funding", "its purse to be opened"
    if phase in ("running", "closing") and info is not None and info.purse.recovering:
        phase, waiting_for = "recovering", info.waiting_for
    if app_lost and not record.recovering and not record.leaving:
        waiting_for = "the other party to end it, here or on chain: this node's log does not hold its app channel"
    now = record.ended.amounts if record.ended is not None else agreement.start
    return VirtualInfo(
        channel_id=record.channel_id,
        kind=agreement.kind,
        role=_role(record),
        phase=phase,
        waiting_for=waiting_for,
        reason=record.reason,
        participants=agreement.participants,
        my_index=record.my_index,
        challenge_duration_s=agreement.fixed.challenge_duration,
        assets=tuple(
            VirtualAsset(asset=each.asset, first=first, last=last)
            for each, (first, last) in zip(agreement.assets, now, strict=True)
        ),
        fees=agreement.fees,
        paid=max(purse.credited if purse is not None else 0, now[0][1]) if agreement.kind == "payment" else 0,
    )


def _cannot_be_told(books: Books, record: VirtualRecord) -> str:
    """Does this restored node wait for a neighbour that cannot tell it? Then what to do, else nothing."""
    for at, side in record.sides:
        ledger = ChannelId(side.ledger)
        found = ledger_standing.cannot_tell(ledger, books.session(ledger), f"0x{side.peer.hex()}")
        if found and not record.told[at]:
            return found
    return ""


def _role(record: VirtualRecord) -> Role:
    if record.is_hub:
        return "hub"
    if record.agreement.kind == "app":
        return "party"
    return "payer" if record.left is None else "payee"
