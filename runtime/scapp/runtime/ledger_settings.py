"""What an operator says of ledgers, payments and of forwarding for others; `config.py` puts it among the settings."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

Amounts = dict[str, str]
"""By asset (`coin`, or a token's address), in its smallest unit."""


class LedgerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which ledgers that others propose are accepted at once: from those in the peers list (or from anybody), if our
    deposits stay within `deposit_max`, per asset and ledger. One ledger with each peer is open at a time; a deposit
    that arrives late in one that was left before comes on top until it is paid back.
    `unprotected_guarantees`: guarantee virtual channels also on contracts that do not protect what is guaranteed."""

    accept: Literal["ask", "limits"] = "ask"
    peers: Literal["known", "anybody"] = "known"
    deposit_max: Amounts = {}
    unprotected_guarantees: bool = False


class PaymentSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which payment channels to this node are joined, how much is paid and taken in them, by asset (what is not named
    has no limit), and how long any channel over ledgers may take to be funded. `payment_max`: by one payment;
    `payee_max` and `payer_max`: promised to one payee, taken from one payer, until it is settled in the ledgers.

    Of payments by invoice: `lock_margin_s` lies at least between the ends of two locks, and before the end of one that
    this node opens or passes on; `locks_max` in one channel at a time; `locked_max` for one neighbour together, without
    which what is passed on for others is bounded by `hub.amount_max`."""

    accept: Literal["anybody", "known", "nobody"] = "anybody"
    payment_max: Amounts = {}
    payee_max: Amounts = {}
    payer_max: Amounts = {}
    funding_timeout_s: Annotated[int, msgspec.Meta(ge=1)] = 20
    lock_margin_s: Annotated[int, msgspec.Meta(ge=1, lt=2**32)] = 3_600
    locks_max: Annotated[int, msgspec.Meta(ge=0, le=32)] = 16
    locked_max: Amounts = {}


class HubSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether this node stands between others, and for what fee: `fee_base` by asset, and `fee_ppm` millionths of what
    the channel locks. `amount_max` limits what one channel may lock here, by asset; one without a limit is refused.
    `locked_min_percent`: a payment under a lock is worth at least so much of what a reveal on chain costs, where
    `amount_min` does not name its asset; 0 for no such bound.
    `announce`: whether others are told this node's ledgers, to be found as a hub, or only as an end. `peer_burst_kib`,
    `peer_kib_per_s`: how much each peer may say about ledgers and channels before nothing new is begun with it."""

    forward: bool = False
    announce: bool = False
    fee_base: Amounts = {}
    fee_ppm: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 0
    amount_min: Amounts = {}
    amount_max: Amounts = {}
    locked_min_percent: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 100
    channels_max: Annotated[int, msgspec.Meta(ge=0)] = 1_024
    peer_burst_kib: Annotated[int, msgspec.Meta(ge=1)] = 65_536
    peer_kib_per_s: Annotated[int, msgspec.Meta(ge=0)] = 8
    challenge_duration_max_s: Annotated[int, msgspec.Meta(ge=1, lt=2**32)] = 604_800
