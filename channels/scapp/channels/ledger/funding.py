"""What a ledger wants done on chain while nobody disputes it: deposits, and the conclusion of its final state.

Computed from the record, never stored. The rules are those of an app channel's deposits (`channel/settling.py`): good
news counts once it is confirmed, bad news at first sight.
"""

from __future__ import annotations

from scapp.channels.adjudicator_status import Mode
from scapp.channels.books.step import Context
from scapp.channels.channel.chain_rules import amounts, holds
from scapp.channels.channel.ended import given_up
from scapp.channels.channel.shares import Share
from scapp.channels.ledger.proposals import Retract
from scapp.channels.ledger.record import Final, LedgerRecord
from scapp.channels.ledger.signed import signed_state
from scapp.channels.onchain import Conclude, Deposit, Transaction
from scapp.channels.types import Address


def wanted(record: LedgerRecord, context: Context) -> tuple[Transaction, ...]:
    """The transactions that this node wants in the chain's next blocks. None before the chain has been seen."""
    seen, final = record.chain, record.final
    if seen is None or not context.head_time_s or record.rejected_by is not None or seen.settled:
        return ()
    if final is not None and final.complete:
        return _conclusion(record, final, context)
    if record.recovering or record.exit_reason or record.closing_by is not None or final is not None:
        return ()
    if seen.disputed:
        return ()
    return _first_deposits(record) if record.ledger is None else _announced_deposits(record)


def _conclusion(record: LedgerRecord, final: Final, context: Context) -> tuple[Transaction, ...]:
    """The leader concludes; the follower when it has waited for that, or when a challenge leaves no time."""
    seen = record.chain
    assert seen is not None
    mode = seen.latest.status.mode(context.head_time_s)
    if mode is Mode.FINALIZED or not any(map(any, seen.latest.holdings)) or (seen.ended and mode is Mode.OPEN):
        return ()
    delay_ms = 1_000 * context.terms.conclude_delay_s * record.setup.my_index
    if mode is not Mode.CHALLENGE and context.now_ms < final.time_ms + delay_ms:
        return ()
    return (Conclude(signed_state(record.setup, final.balances, final.signatures, is_final=True)),)


def _first_deposits(record: LedgerRecord) -> tuple[Transaction, ...]:
    """This node's share of every asset, once all that ranks before it is there in every asset."""
    setup, seen = record.setup, record.chain
    assert seen is not None
    mine = setup.shares.of[setup.my_index]
    if b"" in record.prefund or not holds(seen.confirmed.holdings, tuple(share.safety for share in mine)):
        return ()
    return _missing(record, dict(zip(setup.assets, mine, strict=True)))


def _announced_deposits(record: LedgerRecord) -> tuple[Transaction, ...]:
    """What both have signed that this node brings, once all that ranks before it is there in that asset."""
    seen, ledger = record.chain, record.ledger
    assert seen is not None
    assert ledger is not None
    announced: dict[Address, Share] = {}
    for each, confirmed in zip(ledger.current.assets, amounts(seen.confirmed.holdings), strict=True):
        between = each.announced(record.setup.my_index)
        if is_retracting(record, each.asset, record.setup.my_index):
            continue
        if between is not None and confirmed >= between[0]:
            announced[each.asset] = Share(*between)
    return _missing(record, announced)


def is_retracting(record: LedgerRecord, asset: Address, party: int) -> bool:
    """Was it asked for, or proposed, that the party's announced deposit is not made?"""
    change, ledger = Retract(asset, party), record.ledger
    queued = ledger is not None and any(each.proposal == change for each in ledger.queue)
    return queued or any(each.proposal == change for each in record.requests)


def _missing(record: LedgerRecord, shares: dict[Address, Share]) -> tuple[Transaction, ...]:
    """Wanted until they are confirmed."""
    seen = record.chain
    assert seen is not None
    held = map(min, amounts(seen.latest.holdings), amounts(seen.confirmed.holdings))
    return tuple(
        Deposit(asset, share.safety, share.target, share.amount)
        for asset, now, past in zip(record.setup.assets, held, given_up(seen), strict=True)
        if (share := shares.get(asset)) is not None and share.amount and max(now, past) < share.target
    )


def is_funded(record: LedgerRecord) -> bool:
    """Is every first deposit there, confirmed and not about to be taken back?"""
    seen, totals = record.chain, record.setup.shares.totals
    return seen is not None and holds(seen.confirmed.holdings, totals) and holds(seen.latest.holdings, totals)


def is_deposited(record: LedgerRecord, asset: Address, party: int) -> bool:
    """Is the party's announced deposit there, confirmed and not about to be taken back?"""
    seen, ledger = record.chain, record.ledger
    if seen is None or ledger is None:
        return False
    at = record.setup.assets.index(asset)
    between = ledger.current.assets[at].announced(party)
    if between is None:
        return False
    return all(amounts(where.holdings)[at] >= between[1] for where in (seen.latest, seen.confirmed))
