"""What the chain shows of a ledger, as the fact that its record keeps."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from scapp.channels.books.step import NOTHING, Context, Step
from scapp.channels.channel.chain_rules import holds
from scapp.channels.channel.ended import Expected, with_end
from scapp.channels.ledger.chain_facts import Enforceable, LedgerSeen, Seen
from scapp.channels.ledger.chain_states import same, shown
from scapp.channels.ledger.events import FollowerSigned
from scapp.channels.ledger.owed import Settled, owed
from scapp.channels.ledger.record import LedgerRecord
from scapp.channels.onchain import ChainView, ChannelOnChain
from scapp.channels.types import ChannelId


def on_view(
    record: LedgerRecord,
    view: ChainView,
    settled: Mapping[ChannelId, Settled],
    context: Context,
    followed_to_s: int = 0,
) -> Step:
    """A view of the ledger, whose assets are watched in the order of `record.setup.assets`. NOTHING when it shows what
    is known.

    `settled` has what virtual channels are finalized with on chain (`virtual.chain_view.settled`), at least those that
    the ledger guarantees. `followed_to_s` is the chain's time in seconds up to which this node has followed the ledger
    since its start without a gap, 0 before the first view; `context.head_time_s` that of the newest block."""
    if record.rejected_by is not None:
        return NOTHING
    fixed, known = record.setup.fixed, record.chain
    before = known.seen if known is not None else None
    latest, confirmed = (
        shown(fixed, record.channel, found, before, _believes) for found in (view.latest, view.confirmed)
    )
    before_s = before.time_s if before is not None else 0
    now_s = max(context.head_time_s, before_s)
    ended, held = with_end(known, latest, confirmed, _expected(record), max(followed_to_s, before_s), now_s)
    fact = LedgerSeen(record.channel, Seen(latest, confirmed, now_s), ended, held)
    fact = msgspec.structs.replace(fact, owed=owed(record, fact, settled, now_s))
    if known is not None and same(known.seen, fact.seen) and _concluded(known) == _concluded(fact):
        return NOTHING
    return Step((fact, *_confirmed_update(record, latest.registered)))


def on_head(record: LedgerRecord, context: Context) -> Step:
    """The chain's clock goes on. A ledger that was finalized before anybody had deposited has ended then: no payout
    will ever show that."""
    chain = record.chain
    if chain is None or chain.ended or any(map(any, (*chain.latest.holdings, *chain.confirmed.holdings))):
        return NOTHING
    if not chain.seen.finalized_for_good(context.head_time_s - context.terms.conclude_delay_s):
        return NOTHING
    return Step((msgspec.structs.replace(chain, ended=True),))


def taken_back(record: LedgerRecord) -> Step:
    """Once both have signed that the deposit which this node has given up (`ended.given_up`) is not made, none is
    missing any more: the next one that is announced is made."""
    chain = record.chain
    if chain is None or chain.ended or chain.held == chain.latest.holdings:
        return NOTHING
    if not holds(chain.latest.holdings, _claims(record)):
        return NOTHING
    return Step((msgspec.structs.replace(chain, held=chain.latest.holdings),))


def _claims(record: LedgerRecord) -> tuple[int, ...]:
    """Per asset: what the ledger holds, with all that is announced."""
    return tuple(each.total + sum(item.amount for item in each.trailing) for each in record.balances.assets)


def _concluded(fact: LedgerSeen) -> object:
    return fact.ended, fact.held, fact.owed


def _believes(registered: Enforceable, found: ChannelOnChain) -> bool:
    """A ledger's states count under both signatures only, and these prove them."""
    return all(registered.candidate.signatures) and registered.candidate.app_data == b""


def _expected(record: LedgerRecord) -> Expected:
    shares = record.setup.shares
    final = record.final
    return Expected(
        totals=tuple(each.total for each in record.balances.assets),
        claims=_claims(record),
        deposits=tuple(min(filter(None, (of[k].amount for of in shares.of))) for k in range(len(shares.assets))),
        challenge_duration=record.setup.fixed.challenge_duration,
        final_signed=final is not None and bool(final.signatures[record.setup.my_index]),
        leaving=bool(record.exit_reason),
    )


def _confirmed_update(record: LedgerRecord, registered: Enforceable | None) -> tuple[FollowerSigned, ...]:
    """At the leader: the follower has shown the chain its signature under a change that waits for it."""
    ledger = record.ledger
    if registered is None or ledger is None or not record.leads or record.recovering:
        return ()
    for queued in ledger.queue:
        if queued.after.turn == registered.turn and queued.after.encode_outcome() == registered.candidate.outcome:
            return (FollowerSigned(record.channel, registered.turn, registered.candidate.signatures[1]),)
    return ()
