"""A plain payment from an account, by hand: how money leaves the address of a channel key (`scapp chain send`).

What the chain service sends for channels is in `sender.py`, with an account of its own.
"""

from __future__ import annotations

import msgspec

from scapp.channels.chain import calls
from scapp.channels.chain.client import ChainClient, Receipt, Refused, ViewCall
from scapp.channels.chain.key import ChainKey
from scapp.channels.chain.requests import Sign
from scapp.channels.errors import LocalError
from scapp.channels.types import ZERO_ADDRESS, Address, Hash, money

POLLS_MAX = 120


class Payment(msgspec.Struct, frozen=True):
    """A payment that can be made now: `amount` of `asset`, and at most `fee` wei for it."""

    asset: Address
    recipient: Address
    amount: int
    fee: int
    sign: Sign


async def balance_of(client: ChainClient, account: Address, asset: Address) -> int:
    """Of coin, or of a token. Raises LocalError for a token that is none."""
    if asset == ZERO_ADDRESS:
        return await client.balance(account)
    head = await client.head()
    (answer,) = await client.views([ViewCall(asset, calls.encode_call(calls.BalanceOf(account)), head.hash)])
    if isinstance(answer, Refused) or len(answer) != 32:
        raise LocalError(f"0x{asset.hex()} is no token on this chain")
    return calls.decode_number(answer)


async def prepare(
    client: ChainClient, account: Address, recipient: Address, asset: Address, amount: int | None, fee_ceiling: int
) -> Payment:
    """A payment of `amount`, or of all that there is. Raises LocalError when it cannot be made, or when another one of
    the account is under way: it could be this one."""
    if recipient in (ZERO_ADDRESS, account):
        raise LocalError(f"0x{recipient.hex()} is no account to send to from 0x{account.hex()}")
    head = await client.head()
    nonce, waiting = await client.nonce(account, head.hash), await client.nonce(account)
    if waiting != nonce:
        raise LocalError(f"a transaction of 0x{account.hex()} is under way; wait until it is in a block")
    fees = await client.fees()
    offer = fees.offer(fee_ceiling)
    if offer is None:
        raise LocalError(f"the chain asks for more than chain.fee_max_gwei allows, {fee_ceiling} wei for a unit of gas")
    has, coin = await balance_of(client, account, asset), await client.balance(account)
    is_coin = asset == ZERO_ADDRESS
    wanted = has if amount is None else amount
    probe = min(1, has) if is_coin else wanted
    to, data = (recipient, b"") if is_coin else (asset, calls.encode_call(calls.TransferTokens(recipient, wanted)))
    try:
        gas = await client.estimate(account, to, data, probe if is_coin else 0) * 6 // 5
    except Refused as error:
        raise LocalError(f"the payment would fail: {error}") from error
    fee = gas * offer[0]
    if is_coin and amount is None:
        wanted = has - fee
    if wanted <= 0 or wanted > has or coin < fee + (wanted if is_coin else 0):
        raise LocalError(
            f"0x{account.hex()} has {money(has, asset)}{'' if is_coin else f' and {money(coin)}'}; "
            f"{money(wanted, asset, named=True) if amount is not None or not is_coin else 'something'} and up to "
            f"{money(fee)} in fees are needed"
        )
    return Payment(
        asset, recipient, wanted, fee, Sign(nonce, to, data, wanted if is_coin else 0, gas, *offer, fees.legacy)
    )


async def pay(client: ChainClient, key: ChainKey, chain_id: int, payment: Payment, poll_s: float) -> Receipt | Hash:
    """Send it and wait for its block: the receipt, or the transaction's hash when none has come by then."""
    raw, hash_ = key.sign(chain_id, payment.sign)
    try:
        await client.send(raw)
    except Refused as error:
        raise LocalError(f"the chain's node does not take the payment: {error}") from error
    for _ in range(POLLS_MAX):
        (receipt,) = await client.receipts([hash_])
        if receipt is not None:
            return receipt
        await client.changed(poll_s)
    return hash_
