"""What an operator says of a node's ledgers, and the parts of its books that are made of it; `service.py` owns them."""

from __future__ import annotations

import msgspec

from scapp.channels.books.policy import AskAlways, BooksPolicy
from scapp.channels.books.proposals import Rules
from scapp.channels.books.step import BooksTerms
from scapp.channels.books.volumes import Volume
from scapp.channels.chain_desk import ChainDesk
from scapp.channels.channel.terms import ChainTerms
from scapp.channels.ledger.opening import LedgerRules
from scapp.channels.payments.limits import Limits
from scapp.channels.payments.locked.terms import LockSettings
from scapp.channels.payments.purse import Purse
from scapp.channels.payments.runner import PaymentRunner
from scapp.channels.routing.own import HubTerms
from scapp.channels.runner import Shared
from scapp.channels.service import NodeEvent
from scapp.channels.types import ZERO_ADDRESS
from scapp.channels.virtual.opening import Apps


class BooksSetup(msgspec.Struct, frozen=True, kw_only=True):
    """How a node deals with ledgers; its operator's choice. `apps`: the contracts of virtual channels on its chain,
    zero where there is none; `unprotected`: see `Rules`; `presigns`: see `Defences`; `payment_limits` by asset;
    `locks`: what it asks of locked payments; `hub`: what the node announces of itself; `volume`: how much peers may
    have stored."""

    policy: BooksPolicy = AskAlways()
    apps: Apps = Apps(ZERO_ADDRESS, ZERO_ADDRESS)
    unprotected: bool = False
    presigns: bool = False
    terms: BooksTerms = BooksTerms()
    payment_limits: Limits = {}
    locks: LockSettings = LockSettings()
    hub: HubTerms = HubTerms()
    volume: Volume = Volume()


def rules_of(shared: Shared, desk: ChainDesk, setup: BooksSetup) -> Rules:
    """What holds for all ledgers and virtual channels of the node."""
    chain_terms = shared.terms or ChainTerms()
    return Rules(
        ledgers=LedgerRules(
            app_definition=desk.consensus_app,
            challenge_duration_min_s=chain_terms.challenge_duration_min_s,
            challenge_duration_max_s=chain_terms.challenge_duration_max_s,
        ),
        apps=setup.apps,
        policy=setup.policy,
        protection=lambda: desk.protection,
        unprotected=setup.unprotected,
    )


def payment_runner(shared: Shared, limits: Limits) -> PaymentRunner:
    """The node's ordinary payments, which tell its listeners what comes in."""

    def paid(purse: Purse, added: int) -> None:
        told = f"{added} more, {purse.paid} altogether"
        shared.emit(NodeEvent(kind="paid", channel_id=purse.channel, peer=purse.payer, detail=told))

    return PaymentRunner(
        signer=shared.signer,
        log=shared.log,
        committer=shared.committer,
        send=shared.send,
        clock_ms=shared.clock_ms,
        counters=shared.counters,
        limits=limits,
        on_taken=paid,
    )
