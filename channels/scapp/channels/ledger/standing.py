"""Where a ledger stands, for people: what it waits for in words, and its figures."""

from __future__ import annotations

import msgspec

from scapp.channels.channel.chain_rules import amounts
from scapp.channels.ledger.funding import is_funded
from scapp.channels.ledger.record import LedgerRecord
from scapp.channels.ledger.session import LedgerSession
from scapp.channels.ledger.updating import followed
from scapp.channels.types import Address, ChannelId


class LedgerAssetInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One asset, in its smallest unit: balances, what is guaranteed to other channels, what is announced and not merged
    yet, and what the chain holds (None until it has been seen)."""

    asset: Address
    mine: int
    theirs: int
    guaranteed: int
    guarantees: int  # how many
    my_deposit: int
    their_deposit: int
    held: int | None
    confirmed: int | None


class LedgerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A ledger for whoever lists them. `turn` is the newest that both have signed; `queued` are changes that wait for
    the follower, `requests` such that wait for the leader. `waiting_for` is empty when it waits for nothing."""

    channel: ChannelId
    peer: Address
    leads: bool
    phase: str
    turn: int
    challenge_duration_s: int
    assets: tuple[LedgerAssetInfo, ...]
    queued: int
    requests: int
    waiting_for: str


def ledger_info(record: LedgerRecord, session: LedgerSession) -> LedgerInfo:
    """The figures of one ledger."""
    ledger = record.ledger
    queued = 0 if ledger is None else len(ledger.queue if record.leads else followed(record, session).queue)
    return LedgerInfo(
        channel=record.channel,
        peer=record.peer,
        leads=record.leads,
        phase=record.phase,
        turn=record.balances.turn,
        challenge_duration_s=record.setup.fixed.challenge_duration,
        assets=_assets(record),
        queued=queued,
        requests=len(record.requests),
        waiting_for=waiting_for(record, session),
    )


def _assets(record: LedgerRecord) -> tuple[LedgerAssetInfo, ...]:
    seen, mine = record.chain, record.setup.my_index
    nothing = (None,) * len(record.setup.assets)
    held = amounts(seen.seen.latest.holdings) if seen is not None else nothing
    confirmed = amounts(seen.seen.confirmed.holdings) if seen is not None else nothing
    found = []
    for each, now, sure in zip(record.balances.assets, held, confirmed, strict=True):
        both = (each.leader, each.follower)
        announced = {item.party: item.amount for item in each.trailing}
        found.append(
            LedgerAssetInfo(
                asset=each.asset,
                mine=both[mine],
                theirs=both[1 - mine],
                guaranteed=each.total - sum(both),
                guarantees=len(each.guarantees),
                my_deposit=announced.get(mine, 0),
                their_deposit=announced.get(1 - mine, 0),
                held=now,
                confirmed=sure,
            )
        )
    return tuple(found)


def waiting_for(record: LedgerRecord, session: LedgerSession) -> str:
    """The pause point in words; empty when the ledger waits for nothing."""
    peer = f"0x{record.peer.hex()}"
    match record.phase:
        case "rejected" | "settled":
            return ""
        case "proposed":
            return "this node's operator to accept or reject it"
        case "recovering":
            return f"{peer} to tell where the ledger stands; this node was restored and signs nothing before"
        case "opening":
            return f"{peer} to accept the ledger"
        case "funding":
            return _funding(record, peer)
        case "closing":
            return _closing(record, peer)
        case "closed":
            return "the final state to be concluded on chain and paid out"
        case "disputed":
            return "the chain: the ledger is settled there"
        case "running":
            return _running(record, session, peer)


def _funding(record: LedgerRecord, peer: str) -> str:
    if record.chain is None:
        return "the chain to be read"
    if is_funded(record):
        return f"{peer} to sign the postfund state"
    held = amounts(record.chain.seen.latest.holdings)
    for index, shares in enumerate(record.setup.shares.of):
        if any(share.amount and now < share.target for share, now in zip(shares, held, strict=True)):
            return "this node's deposit" if index == record.setup.my_index else f"the deposit of {peer}"
    return "the deposits to be confirmed"


def _closing(record: LedgerRecord, peer: str) -> str:
    if record.has_guarantees:
        return "the virtual channels in it to be closed"
    if record.leads and record.ledger is not None and record.ledger.queue:
        return f"{peer} to countersign turn {record.ledger.proposed.turn}"
    return f"{peer} to sign the final state"


def _running(record: LedgerRecord, session: LedgerSession, peer: str) -> str:
    ledger = record.ledger
    assert ledger is not None
    if record.leads and ledger.queue:
        return f"{peer} to countersign turn {ledger.proposed.turn}"
    if not record.leads and session.refused:
        return f"this node to want what the leader has proposed: {session.refused}"
    if record.requests:
        return f"{peer} to propose what this node has asked for"
    for each in ledger.current.assets:
        for item in each.trailing:
            mine = item.party == record.setup.my_index
            return f"the deposit of {'this node' if mine else peer}: {item.amount} of asset 0x{each.asset.hex()}"
    return ""
