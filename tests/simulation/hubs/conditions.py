"""What must sometimes happen in the lives of nodes with ledgers; `HubNet.saw` is told of each."""

from __future__ import annotations

from tests.simulation.hubs.plan import HOSTILE_ACTS, LOCK_TRICKS

HUB_CONDITIONS = (
    "hubs: a crash before a write",
    "hubs: a crash between a write and acting on it",
    "hubs: a disk was full",
    "hubs: a payment was made over a hub",
    "hubs: a payment was made over two hubs",
    "hubs: a payment channel found its route itself",
    "hubs: a channel was not funded",
    "hubs: a channel was released",
    "hubs: an app channel ran over a hub",
    "hubs: a transfer was made",
    "hubs: a top-up was merged",
    "hubs: a ledger was closed",
    "hubs: a ledger was disputed",
    "hubs: a channel was disputed",
    "hubs: a guarantee was reclaimed on chain",
    "hubs: a voucher was redeemed on chain",
    "hubs: the chain was reorganised",
    "hubs: a transaction waited in the mempool",
    "hubs: a node came back from a stale backup",
    "hubs: a restored ledger recovered",
    "hubs: a restored purse recovered",
    "hubs: an operator ended a recovery",
    "hubs: an honest node refused a peer's message",
    "hubs: an invoice was paid over a hub",
    "hubs: a lock was opened on chain",
    "hubs: a lock came back",
    "hubs: a restored lane recovered",
    *(f"hubs: Mallory: {kind}" for kind in (*HOSTILE_ACTS, *LOCK_TRICKS)),
)
