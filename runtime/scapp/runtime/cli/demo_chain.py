"""The chain of `scapp demo` for stakes: beside the nodes, with contracts, and coin for every account."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from scapp.runtime.cli.amounts import COIN
from scapp.runtime.cli.common import Problem
from scapp.runtime.cli.local_nodes import child_in
from scapp.runtime.cli.processes import NodeChild
from scapp.runtime.devchain import CHAIN_ID, Chain, hexed, running
from scapp.runtime.keys_file import CHAIN_KEY, key_info, new_key

BLOCK_S = 1
CONFIRMATIONS = 1
RICH = 10**19  # ten of the coin for each account
CHALLENGE_DURATION_S = 3_600
SETTINGS = """
[chain]
urls = ["{url}"]
id = {chain_id}
adjudicator = "{adjudicator}"
consensus_app = "{consensus_app}"
virtual_payment_app = "{virtual_payment_app}"
two_party_app = "{two_party_app}"
hash_lock_app = "{hash_lock_app}"
confirmations = {confirmations}
poll_s = 0.3

[funding]
accept = "limits"
deposit_max = {{ coin = "{deposit_max}" }}
exposure_max = {{ coin = "{exposure_max}" }}
"""


@contextlib.contextmanager
def demo_chain() -> Iterator[Chain]:
    """A fresh chain. Raises Problem where none can be had."""
    with contextlib.ExitStack() as stack:
        try:
            chain = stack.enter_context(running(block_seconds=BLOCK_S))
        except OSError as error:
            raise Problem(str(error), code="refused", hint="pip install 'scapp[devchain]' brings a Node") from None
        yield chain


def funded_children(
    chain: Chain, names: Sequence[str], home: Path, deposit_max: int, exposure_max: int, more: Mapping[str, str] = {}
) -> list[NodeChild]:
    """Nodes that know the chain, each with an account that has coin; `more` is what a node's settings hold besides."""
    settings = SETTINGS.format(
        url=chain.url,
        chain_id=CHAIN_ID,
        adjudicator=hexed(chain.contracts["NitroAdjudicator"]),
        consensus_app=hexed(chain.contracts["ConsensusApp"]),
        virtual_payment_app=hexed(chain.contracts["VirtualPaymentApp"]),
        two_party_app=hexed(chain.contracts["TwoPartyApp"]),
        hash_lock_app=hexed(chain.contracts["HashLockPaymentApp"]),
        confirmations=CONFIRMATIONS,
        deposit_max=deposit_max,
        exposure_max=exposure_max,
    )
    children = [child_in(name, home, settings + more.get(name, "")) for name in names]
    for child in children:
        new_key(child.home, role=CHAIN_KEY)
        chain.fund(account_of(child), RICH)
    return children


def account_of(child: NodeChild) -> bytes:
    """The account that pays for a node's transactions and its deposits."""
    return key_info(child.home, CHAIN_KEY).address


def coin_of(chain: Chain, child: NodeChild) -> int:
    """What a node's two keys have together in the newest block, in wei: the account that pays, and the channel key's
    address, to which the game pays stakes out."""
    addresses = (account_of(child), key_info(child.home).address)
    return sum(int(chain.rpc("eth_getBalance", hexed(address), "latest"), 16) for address in addresses)


def slots_for(children: Sequence[NodeChild], stake: int) -> list[tuple[str, str, int]]:
    """Outcome slots: asset, account, amount; one for each seat."""
    return [(COIN, hexed(key_info(child.home).address), stake) for child in children]
