"""Node processes over a real development chain: rich chain accounts, contracts deployed, quick blocks."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from scapp.channels.chain import calls
from scapp.channels.types import Address, ChannelId
from scapp.runtime import devchain
from scapp.runtime.cli.amounts import COIN
from scapp.runtime.keys_file import CHAIN_KEY, key_info, new_key
from tests.support.cluster import Cluster
from tests.support.folders import open_folder

BLOCK_S = 0.4
CONFIRMATIONS = 2
RICH = 10**21

SETTINGS = """
[database]
backend = "{backend}"

[chain]
urls = ["{url}"]
id = {chain_id}
adjudicator = "{adjudicator}"
consensus_app = "{consensus_app}"
virtual_payment_app = "{virtual_payment_app}"
two_party_app = "{two_party_app}"
hash_lock_app = "{hash_lock_app}"
confirmations = {confirmations}
poll_s = 0.2

[funding]
accept = "limits"

[funding.deposit_max]
coin = "1000000000000000000"
"{token}" = "1000000"

[funding.exposure_max]
coin = "10000000000000000000"
"{token}" = "10000000"

[ledgers]
accept = "limits"

[ledgers.deposit_max]
coin = "1000000000000000000"
"{token}" = "1000000"

[hub]
forward = true
announce = true
locked_min_percent = 0

[hub.amount_max]
coin = "1000000000000000000"
"{token}" = "1000000"

[disputes]
challenge_duration_min_s = 1
margin_s = 1
conclude_delay_s = 5
funding_timeout_s = 0
{more}
"""


class FundedCluster(Cluster):
    """`chain` is the chain behind the nodes; `accounts` pay for their transactions."""

    def __init__(
        self,
        folder: Path,
        count: int,
        chain: devchain.Chain,
        published: dict[str, bytes] | None,
        more: str,
        backend: str = "none",
    ) -> None:
        self.chain = chain
        found = {**chain.contracts, **(published or {})}
        self.token = devchain.hexed(found["Token"])
        self.adjudicator = found["NitroAdjudicator"]
        settings = SETTINGS.format(
            backend=backend,
            url=chain.url,
            chain_id=devchain.CHAIN_ID,
            adjudicator=devchain.hexed(self.adjudicator),
            consensus_app=devchain.hexed(found["ConsensusApp"]),
            virtual_payment_app=devchain.hexed(found["VirtualPaymentApp"]),
            two_party_app=devchain.hexed(found["TwoPartyApp"]),
            hash_lock_app=devchain.hexed(found["HashLockPaymentApp"]),
            confirmations=CONFIRMATIONS,
            token=self.token,
            more=more,
        )
        super().__init__(folder, count, settings)
        self.accounts: dict[str, str] = {}
        for name, node in self.nodes.items():
            new_key(node.home, role=CHAIN_KEY)
            account = key_info(node.home, CHAIN_KEY).address
            self.accounts[name] = "0x" + account.hex()
            chain.fund(account, RICH)
            transfer = _calldata("transfer(address,uint256)", account.rjust(32, b"\0"), (10**6).to_bytes(32, "big"))
            chain.send(devchain.DEPLOYER, bytes.fromhex(self.token[2:]), transfer)

    def balance(self, account: str, asset: str = COIN) -> int:
        """What an account has, of the coin or of the token."""
        if asset == COIN:
            return int(self.chain.rpc("eth_getBalance", account, "latest"), 16)
        data = _calldata("balanceOf(address)", bytes.fromhex(account[2:]).rjust(32, b"\0"))
        return int(self.chain.rpc("eth_call", {"to": asset, "data": devchain.hexed(data)}, "latest"), 16)

    def held(self, channel: str, asset: str = COIN) -> int:
        """What the adjudicator holds for a channel."""
        data = calls.encode_call(
            calls.Holdings(Address(bytes.fromhex(asset[2:])), ChannelId(bytes.fromhex(channel[2:])))
        )
        call = {"to": devchain.hexed(self.adjudicator), "data": devchain.hexed(data)}
        return int(self.chain.rpc("eth_call", call, "latest"), 16)


def _calldata(signature: str, *words: bytes) -> bytes:
    from scapp.channels.crypto import keccak256

    return keccak256(signature.encode())[:4] + b"".join(words)


@contextlib.contextmanager
def quick_chain() -> Iterator[devchain.Chain]:
    """A chain with a block every `BLOCK_S` seconds."""
    with devchain.running(block_seconds=BLOCK_S) as chain:
        yield chain


@contextlib.contextmanager
def funded_cluster(
    count: int,
    chain: devchain.Chain,
    *,
    published: dict[str, bytes] | None = None,
    more: str = "",
    backend: str = "none",
    introduced: bool = True,
) -> Iterator[FundedCluster]:
    """Running nodes that know each other unless told otherwise; everything is stopped and removed at the end."""
    folder = open_folder("scapp-test-")
    found = FundedCluster(folder, count, chain, published, more, backend)
    try:
        found.start()
        if introduced:
            found.introduce()
        yield found
    except BaseException:
        for name, node in found.nodes.items():
            print(f"--- {name}, end of its log ---\n{node.log_tail(30)}")
        raise
    finally:
        found.stop()
        shutil.rmtree(folder, ignore_errors=True)
