"""What a ledger waits for, in words for people."""

from __future__ import annotations

from scapp.channels.channel.chain_rules import amounts
from scapp.channels.channel.ended import GIVEN_UP, given_up
from scapp.channels.ledger.chain_pause import chain_pause
from scapp.channels.ledger.funding import is_funded
from scapp.channels.ledger.record import LedgerRecord
from scapp.channels.ledger.session import LedgerSession
from scapp.channels.types import ChannelId, money


def waiting_for(record: LedgerRecord, session: LedgerSession) -> str:
    """The pause point in words; empty when the ledger waits for nothing."""
    peer = f"0x{record.peer.hex()}"
    match record.phase:
        case "rejected" | "settled":
            return ""
        case "proposed":
            return "this node's operator to accept or reject it"
        case "recovering":
            return _recovering(record, session, peer)
        case "opening":
            return f"{peer} to accept the ledger"
        case "funding":
            return _funding(record, peer)
        case "closing":
            return _closing(record, session, peer)
        case "closed":
            return "the final state to be concluded on chain and paid out"
        case "disputed":
            return chain_pause(record)
        case "running":
            return _running(record, session, peer)


def _recovering(record: LedgerRecord, session: LedgerSession, peer: str) -> str:
    waits = f"{peer} to tell where the ledger stands; this node was restored and signs nothing before"
    return cannot_tell(record.channel, session, peer) or waits


def cannot_tell(ledger: ChannelId, session: LedgerSession, peer: str) -> str:
    """Why the other party of a restored node's ledger cannot tell it where that stands, and what its operator can do;
    or nothing."""
    command = f"scapp ledger recover 0x{ledger.hex()} --override"
    if session.peer_recovers:
        helps = f"only an override helps, at one of the two: {command}"
        return f"nothing: {peer} was restored as well and cannot tell either; {helps}"
    if session.denied:
        return f"nothing: {peer} has no such ledger ({session.denied}); only an override helps: {command}"
    return ""


def _funding(record: LedgerRecord, peer: str) -> str:
    if record.chain is None:
        return "the chain to be read"
    if is_funded(record):
        return f"{peer} to sign the postfund state"
    held = amounts(record.chain.latest.holdings)
    for index, shares in enumerate(record.setup.shares.of):
        levels = zip(shares, held, given_up(record.chain), strict=True)
        if index == record.setup.my_index and any(now < share.target <= past for share, now, past in levels):
            return f"nothing: it lacks this node's deposit, {GIVEN_UP}; close or leave it"
        if any(share.amount and now < share.target for share, now in zip(shares, held, strict=True)):
            return "this node's deposit" if index == record.setup.my_index else f"the deposit of {peer}"
    return "the deposits to be confirmed"


def _closing(record: LedgerRecord, session: LedgerSession, peer: str) -> str:
    if not record.leads and session.refused:  # what holds up the ends of guarantees, too
        return _refused(session)
    if record.has_guarantees:
        return "the virtual channels in it to be closed"
    if record.leads and record.ledger is not None and record.ledger.queue:
        return f"{peer} to countersign turn {record.ledger.proposed.turn}"
    return f"{peer} to sign the final state"


def _refused(session: LedgerSession) -> str:
    return f"this node to want what the leader has proposed: {session.refused}"


def _running(record: LedgerRecord, session: LedgerSession, peer: str) -> str:
    ledger = record.ledger
    assert ledger is not None
    if record.leads and ledger.queue:
        return f"{peer} to countersign turn {ledger.proposed.turn}"
    if not record.leads and session.refused:
        return _refused(session)
    if record.requests:
        return f"{peer} to propose what this node has asked for"
    for at, each in enumerate(ledger.current.assets):
        for item in each.trailing:
            mine = item.party == record.setup.my_index
            what = f"the deposit of {'this node' if mine else peer}: {money(item.amount, each.asset)}"
            between = each.announced(item.party)
            if mine and record.chain is not None and between is not None and between[1] <= given_up(record.chain)[at]:
                return f"nothing: {what}, {GIVEN_UP}; `scapp ledger cancel-top-up` takes it back"
            return what
    return ""
