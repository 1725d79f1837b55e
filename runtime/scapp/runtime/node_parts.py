"""Small parts of a node that are its operator's: policy, terms for the chain, what happens when the log fails."""

from __future__ import annotations

import logging
from collections.abc import Container, Iterable

from scapp.channels.books.setup import BooksSetup
from scapp.channels.books.step import BooksTerms
from scapp.channels.books.volumes import Volume
from scapp.channels.channel.events import ChannelCreated
from scapp.channels.channel.shares import Stakes
from scapp.channels.channel.terms import ChainTerms
from scapp.channels.deployment import Deployment, deployment_id
from scapp.channels.log.bell import Outcome, Told
from scapp.channels.log.committer import Committer
from scapp.channels.log.port import Append, LogClosed
from scapp.channels.types import ZERO_ADDRESS, Address
from scapp.channels.virtual.opening import Apps
from scapp.runtime.chain_setup import app_address
from scapp.runtime.config import Config, DisputeSettings
from scapp.runtime.ledger_policy import LedgerPolicy
from scapp.runtime.policy import AcceptPolicy, FundingPolicy, read_amounts

_log = logging.getLogger("scapp.process")


class NodePolicy:
    """`AcceptPolicy` and `FundingPolicy` as the node asks them: accept, or leave it to the operator."""

    def __init__(self, policy: AcceptPolicy, funding: FundingPolicy) -> None:
        self._policy = policy
        self._funding = funding

    def decide(self, proposer: Address, deployment: Deployment, created: ChannelCreated) -> str:
        why_not = self._policy.why_not(deployment_id(deployment), created.participants)
        return self._answer(why_not, proposer)

    def decide_funding(self, stakes: Stakes) -> str:
        if stakes.renews:
            why_not = self._funding.why_not_renew(asked=stakes.renews == "asked")
        else:
            why_not = self._funding.why_not(stakes.deposits, stakes.pays_to, stakes.at_stake)
        return self._answer(why_not, stakes.others[0])

    def _answer(self, why_not: str, proposer: Address) -> str:
        if why_not:
            _log.info("a proposed channel waits for the operator", extra={"proposer": proposer, "why": why_not})
        return f"ask: {why_not}" if why_not else "accept"


def chain_terms(disputes: DisputeSettings) -> ChainTerms:
    """The settings that are the engine's."""
    return ChainTerms(**{name: getattr(disputes, name) for name in ChainTerms.__struct_fields__})


def books_setup(config: Config, peers: Container[Address], accounts: Iterable[Address]) -> BooksSetup:
    """How the node deals with ledgers, as the settings say. Raises ConfigError."""
    policy = LedgerPolicy(
        config.ledgers,
        config.payments,
        config.hub,
        funding=config.funding,
        disputes=config.disputes,
        peers=peers,
        own_accounts=accounts,
    )
    chain, disputes = config.chain, config.disputes
    return BooksSetup(
        policy=policy,
        apps=Apps(
            app_address(chain.virtual_payment_app, "chain.virtual_payment_app"),
            app_address(chain.two_party_app, "chain.two_party_app"),
            app_address(chain.hash_lock_app, "chain.hash_lock_app"),
        ),
        unprotected=config.ledgers.unprotected_guarantees,
        presigns=disputes.redemptions,
        terms=BooksTerms(
            virtual_timeout_s=config.payments.funding_timeout_s,
            silence_timeout_s=disputes.silence_timeout_s,
            conclude_delay_s=disputes.conclude_delay_s,
        ),
        payment_limits=policy.payment_limits(),
        locks=policy.lock_settings(),
        hub=policy.hub_terms(),
        volume=Volume(config.hub.peer_burst_kib, config.hub.peer_kib_per_s),
    )


def warnings(config: Config) -> list[str]:
    """What the operator may not have thought of: settings that work, and can cost money or time."""
    found = []
    if config.chain.urls and config.hub.forward and not config.disputes.silence_timeout_s:
        found.append(
            "disputes.silence_timeout_s is 0: a neighbour that does not sign the end of a channel holds up this hub's "
            "money until you leave the ledger yourself; 3600 is usual where customers' nodes do not rest"
        )
    hub = config.hub
    most, least = read_amounts(hub.amount_max, "hub.amount_max"), read_amounts(hub.amount_min, "hub.amount_min")
    unnamed = [f"0x{asset.hex()}" for asset in most if asset != ZERO_ADDRESS and asset not in least]
    if config.chain.hash_lock_app and hub.forward and hub.locked_min_percent and unnamed:
        found.append(
            f"hub.amount_min does not name {', '.join(unnamed)}: nothing of that is passed on under locks, because "
            "nobody says what a reveal on chain costs in it"
        )
    return found


class Commits(Committer):
    """The committer, which also remembers why the log takes no more writes: nothing is signed from then on."""

    failure = ""

    def enqueue(self, append: Append, then: Told) -> None:
        def told(outcome: Outcome) -> None:
            self._note(outcome)
            then(outcome)

        try:
            super().enqueue(append, told)
        except LogClosed as error:
            self._note(error)
            raise

    def _note(self, outcome: Outcome) -> None:
        if isinstance(outcome, LogClosed) and not self.failure:
            self.failure = str(outcome)
            _log.critical("nothing is signed any more: %s; make room or mend the disk, then start again", outcome)
