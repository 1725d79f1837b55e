"""Putting the contracts on a chain: once for each chain, by whoever pays for it (`scapp chain deploy`, the dev chain).

Not carried over restarts: a run that breaks off leaves contracts that nobody uses, which costs gas and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence

from scapp.channels.chain import contracts
from scapp.channels.chain.client import ChainClient, Receipt
from scapp.channels.chain.key import ChainKey
from scapp.channels.chain.requests import Sign
from scapp.channels.errors import LocalError
from scapp.channels.types import U256_MAX, Address, money

SETTLEMENT = ("NitroAdjudicator", "ConsensusApp", "VirtualPaymentApp", "TwoPartyApp", "HashLockPaymentApp")
"""What channels need, those over ledgers included."""
POLL_S = 1.0
POLLS_MAX = 600


async def deploy(
    client: ChainClient, key: ChainKey, names: Sequence[str] = SETTLEMENT, *, poll_s: float = POLL_S
) -> dict[str, Address]:
    """Create contracts, in the order of `contracts.NAMES`; their addresses by name.

    A `BatchOperator` is created for the adjudicator of the same run, and the units of a `Token` belong to the key's
    account. Raises LocalError for an unknown name, an account that cannot pay, or a transaction that does not get in;
    Unavailable, Refused."""
    unknown = set(names) - set(contracts.NAMES)
    if unknown:
        raise LocalError(f"no contract is called {', '.join(sorted(unknown))}; there are {', '.join(contracts.NAMES)}")
    chain_id, found = await client.chain_id(), dict[str, Address]()
    for name in (name for name in contracts.NAMES if name in names):
        arguments = []
        if name == "BatchOperator":
            if "NitroAdjudicator" not in found:
                raise LocalError("a BatchOperator needs the NitroAdjudicator of the same run: name both")
            arguments = [found["NitroAdjudicator"]]
        elif name == "Token":
            arguments = [key.address]
        code = contracts.load(name).creation_code(*arguments)
        receipt = await _create(client, key, chain_id, code, poll_s)
        if not receipt.ok or receipt.created is None:
            raise LocalError(f"{name} could not be created: transaction 0x{receipt.transaction.hex()} reverted")
        found[name] = receipt.created
    return found


async def _create(client: ChainClient, key: ChainKey, chain_id: int, code: bytes, poll_s: float) -> Receipt:
    gas = await client.estimate(key.address, None, code, 0) * 5 // 4
    fees = await client.fees()
    offer = fees.offer(U256_MAX)
    assert offer is not None
    max_fee, tip = offer
    balance = await client.balance(key.address)
    if balance < gas * max_fee:
        raise LocalError(
            f"the account 0x{key.address.hex()} has {money(balance)}; up to {money(gas * max_fee)} are needed"
        )
    nonce = await client.nonce(key.address)
    raw, hash_ = key.sign(chain_id, Sign(nonce, None, code, 0, gas, max_fee, tip, fees.legacy))
    await client.send(raw)
    for _ in range(POLLS_MAX):
        (receipt,) = await client.receipts([hash_])
        if receipt is not None:
            return receipt
        await client.changed(poll_s)
    raise LocalError(f"transaction 0x{hash_.hex()} is in no block after {POLLS_MAX * poll_s:.0f} s")
