"""The account that pays for transactions: a key of its own, apart from the channel key (docs/reference/chain.md)."""

from __future__ import annotations

from typing import Any

from scapp.channels.addresses import checksum_address
from scapp.channels.chain.requests import Sign
from scapp.channels.ethereum_packages import eth_account
from scapp.channels.types import Address, Hash


class ChainKey:
    """Signs transactions: of EIP-1559, or with one gas price (EIP-155). Takes a private key of 32 bytes, or an
    `eth_account` LocalAccount."""

    def __init__(self, key: Any) -> None:
        account = eth_account().Account.from_key(key) if isinstance(key, bytes) else key
        self._account = account
        self.address = Address(bytes.fromhex(account.address[2:]))

    def sign(self, chain_id: int, wanted: Sign) -> tuple[bytes, Hash]:
        """The raw transaction and its hash."""
        fields: dict[str, Any] = {
            "chainId": chain_id,
            "nonce": wanted.nonce,
            "value": wanted.value,
            "data": wanted.data,
            "gas": wanted.gas,
        }
        if wanted.legacy:
            fields |= {"gasPrice": wanted.max_fee}
        else:
            fields |= {"type": 2, "maxFeePerGas": wanted.max_fee, "maxPriorityFeePerGas": wanted.priority_fee}
        if wanted.to is not None:
            fields["to"] = checksum_address(wanted.to)
        signed = self._account.sign_transaction(fields)
        return bytes(signed.raw_transaction), Hash(bytes(signed.hash))

    def __repr__(self) -> str:
        return f"ChainKey({checksum_address(self.address)})"
