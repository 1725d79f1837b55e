"""A chain service as the settings say, with the node's chain key; for a node, a watchtower and `scapp chain`.

The packages behind transactions cost a third of a second to load, so a node without a chain never does.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from scapp.channels.chain.settings import GWEI, ChainSettings
from scapp.channels.errors import LocalError
from scapp.channels.log.port import EventLog
from scapp.channels.types import ZERO_ADDRESS, Address, Hash, Signature
from scapp.runtime import config, logs
from scapp.runtime.config import read_address
from scapp.runtime.keys_file import CHAIN_KEY, load_key

if TYPE_CHECKING:
    from scapp.channels.chain.key import ChainKey
    from scapp.channels.chain.service import LiveChain


def chain_settings(given: config.ChainSettings) -> ChainSettings:
    """What the operator configured, as the service takes it. Raises ConfigError."""
    return ChainSettings(
        endpoints=given.urls,
        chain_id=given.id,
        adjudicator=read_address(given.adjudicator, "chain.adjudicator"),
        consensus_app=read_address(given.consensus_app, "chain.consensus_app"),
        confirmations=given.confirmations,
        poll_seconds=given.poll_s,
        fee_ceiling=int(given.fee_max_gwei * GWEI),
        start_block=given.start_block,
        virtual_payment_app=app_address(given.virtual_payment_app, "chain.virtual_payment_app"),
        two_party_app=app_address(given.two_party_app, "chain.two_party_app"),
        hash_lock_app=app_address(given.hash_lock_app, "chain.hash_lock_app"),
    )


def app_address(text: str, name: str) -> Address:
    """That of an app of virtual channels, zero where none is configured. Raises ConfigError."""
    return read_address(text, name) if text else ZERO_ADDRESS


def load_chain_key(home: Path, password: Callable[[], str]) -> ChainKey:
    """The node's chain key. Raises LocalError."""
    from scapp.channels.chain.key import ChainKey

    secret = load_key(home, password, CHAIN_KEY)
    logs.hide(secret)
    return ChainKey(secret)


def open_chain(
    given: config.ChainSettings,
    home: Path,
    log: EventLog,
    password: Callable[[], str],
    sign_challenge: Callable[[Hash], Signature],
) -> LiveChain | None:
    """The service, not started yet; None where no chain is configured. Raises LocalError."""
    if not given.urls:
        return None
    from scapp.channels.chain.service import connect

    return connect(chain_settings(given), log, load_chain_key(home, password), sign_challenge)


def no_challenges(_: Hash) -> Signature:
    """For who holds no channel key, and so can only answer challenges."""
    raise LocalError("there is no channel key here to challenge with")
