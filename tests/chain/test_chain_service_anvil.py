"""The chain service over a real chain: the same stories as over the model, by JSON-RPC and compiled contracts."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from scapp.channels import onchain
from scapp.channels.adjudicator_status import Mode
from scapp.channels.chain.calls import Checkpoint, TransferTokens, encode_call
from scapp.channels.chain.client import Fees
from scapp.channels.chain.deploy import deploy
from scapp.channels.chain.judging import state_hash_of
from scapp.channels.chain.key import ChainKey
from scapp.channels.chain.requests import Sign
from scapp.channels.chain.rpc import RpcClient
from scapp.channels.chain.service import LiveChain
from scapp.channels.errors import LocalError
from scapp.channels.log.memory import MemoryLog
from scapp.channels.state import FixedPart, channel_id
from scapp.channels.types import ZERO_ADDRESS, ZERO_HASH, Address
from scapp.runtime.devchain import CHAIN_ID, DEPLOYER
from tests.chain.anvil import hexed, running
from tests.chain.cast import for_tests
from tests.support import chain_stories as story

ETHER = 10**18


@pytest.fixture(params=["http", "ws"])
def scheme(request):
    return request.param


@pytest.fixture
def chain():
    with running(base_fee_wei=10**9) as started:
        started.fund(story.PAYER.address, 100 * ETHER)
        token = Address(started.contracts["Token"])
        started.send(DEPLOYER, token, encode_call(TransferTokens(story.PAYER.address, 1000)))
        yield started


class Live:
    """A service over the chain and what it told. `restart` begins again from the durable part of the log."""

    def __init__(self, chain, scheme="http", confirmations=2) -> None:
        self.chain = chain
        self.log = MemoryLog()
        self.settings = msgspec.structs.replace(
            story.settings(confirmations),
            endpoints=(chain.url.replace("http", scheme),),
            adjudicator=Address(chain.contracts["NitroAdjudicator"]),
            consensus_app=Address(chain.contracts["ConsensusApp"]),
            poll_seconds=0.05,
        )
        self.token = Address(chain.contracts["Token"])
        self.fixed = FixedPart((story.ALICE.address, story.BOB.address), 1, self.settings.consensus_app, 600)
        self.channel = channel_id(self.fixed)
        self.wanted = []
        self.views = {}
        self.seen = []  # holdings of coin in each view

    async def __aenter__(self):
        client = RpcClient(self.settings.endpoints, CHAIN_ID)
        self.service = LiveChain(self.settings, client, self.log, story.PAYER, story.ALICE.sign)
        await self.service.start(self._on_view, lambda time_s: None)
        self.service.watch(self.channel, (ZERO_ADDRESS, self.token))
        return self

    async def __aexit__(self, *_):
        await self.service.stop()
        self.log = self.log.durable_copy()

    def _on_view(self, channel, view):
        self.views[channel] = view
        self.seen.append(view.latest.holdings[0])
        self.service.want(channel, self.wanted)  # the answer, without which no deposit goes out

    def want(self, wanted):
        self.wanted = wanted
        self.service.want(self.channel, wanted)

    async def mining(self, holds):
        """Blocks until something holds."""
        async with asyncio.timeout(60):
            while not holds():  # it is this that makes it hold
                self.chain.rpc("evm_mine")
                await asyncio.sleep(0.1)

    def latest(self):
        return self.views[self.channel].latest

    def confirmed(self):
        return self.views[self.channel].confirmed

    def state(self, turn, *, final=False):
        shares = story.outcome(3, 2) + story.outcome(3, 2, self.token)
        return story.signed(self.fixed, turn, shares, final=final), shares

    def balances(self):
        people = (story.ALICE, story.BOB)
        return [int(self.chain.rpc("eth_getBalance", hexed(signer.address), "latest"), 16) for signer in people]


async def test_coin_and_tokens_go_in_and_come_out(chain, scheme):
    """Deposit both, conclude; a process between each two steps; every view as the contract has it."""
    live = Live(chain, scheme)
    deposits = [onchain.Deposit(asset, 0, 5, 5) for asset in (ZERO_ADDRESS, live.token)]
    async with live:
        live.want(deposits)
        await live.mining(lambda: live.views and live.latest().holdings == (5, 5))
    async with live:
        live.want(deposits)
        await live.mining(lambda: live.confirmed().holdings == (5, 5))
        infos = live.service.transactions(live.channel)
        assert {info.status for info in infos} == {"confirmed"}, infos
        final, _ = live.state(4, final=True)
        live.want([onchain.Conclude(final)])
        await live.mining(lambda: live.confirmed().holdings == (0, 0))
    assert live.balances() == [3, 2]
    assert int(chain.rpc("eth_getTransactionCount", hexed(story.PAYER.address), "latest"), 16) == 4


async def test_a_dispute_from_challenge_to_payout(chain):
    """Challenge, its candidate in the view, checkpoint, challenge again, payout after the time."""
    live = Live(chain)
    async with live:
        live.want([onchain.Deposit(ZERO_ADDRESS, 0, 5, 5)])
        await live.mining(lambda: live.views and live.latest().holdings[0] == 5)
        signed, _ = live.state(3)
        live.want([onchain.Challenge(signed)])
        await live.mining(lambda: live.latest().status.finalizes_at)
        registered = live.latest().registered
        assert (registered.turn, registered.outcome) == (3, signed.outcome)
        assert set(registered.signatures) == set(signed.signatures)
        newer, _ = live.state(5)
        live.want([onchain.Checkpoint(newer)])
        await live.mining(lambda: live.latest().status.turn_record == 5)
        assert live.latest().registered.turn == 5
        live.want([onchain.Challenge(newer)])
        await live.mining(lambda: live.latest().status.finalizes_at)
        assert live.latest().mode(live.service.head_time_s) is Mode.CHALLENGE
        chain.rpc("evm_increaseTime", 700)
        _, shares = live.state(5)
        live.want([onchain.TransferAll(shares, state_hash_of(newer))])
        await live.mining(lambda: live.latest().holdings[0] == 0)
    assert live.balances() == [3, 2]


# Calls the address in the first word of its calldata with the rest of it, and reverts with it.
FORWARDER = bytes.fromhex("602036038060206000376000600082600060006000355af1601f57600080fd5b00")


def forwarder(chain):
    """A contract of nobody's, as there are many."""
    size = f"60{len(FORWARDER):02x}"
    start = bytes.fromhex(f"{size}600c600039{size}6000f3")
    receipt = chain.send(DEPLOYER, None, start + FORWARDER)
    return Address(bytes.fromhex(receipt["contractAddress"][2:]))


@pytest.mark.parametrize("wrapped", [False, True])
async def test_a_checkpointed_state_is_read_from_its_transaction(chain, wrapped):
    """Sent to the adjudicator, or through another contract; seen as it happens, and after a restart."""
    live = Live(chain)
    signed, _ = live.state(5)
    calldata, to = encode_call(Checkpoint((), signed)), live.settings.adjudicator
    if wrapped:
        calldata, to = bytes(12) + to + calldata, forwarder(chain)
    async with live:
        await live.mining(lambda: live.views)
        chain.send(DEPLOYER, to, calldata)
        await live.mining(lambda: live.latest().status.turn_record == 5)
        assert live.latest().registered.signatures == signed.signatures
    live.views.clear()
    async with live:
        await live.mining(lambda: live.views)
        assert (live.latest().registered.turn, live.latest().registered.outcome) == (5, signed.outcome)


@pytest.mark.parametrize("depth", [1, 4, 12])
async def test_a_reorganisation_after_dispatch_is_taken_back_and_sent_again(chain, depth):
    """anvil loses what was in the blocks: the view says so, and the deposit is there again in the end, once."""
    for _ in range(3):
        chain.rpc("evm_mine")
    live = Live(chain)
    async with live:
        live.want([onchain.Deposit(ZERO_ADDRESS, 0, 5, 5)])
        await live.mining(lambda: live.views and live.latest().holdings[0] == 5)
        head = int(chain.rpc("eth_blockNumber"), 16)
        while head < live.latest().block + depth - 1:
            chain.rpc("evm_mine")
            head += 1
        await live.mining(lambda: live.service.status().processed >= head)
        inside = int(chain.rpc("eth_blockNumber"), 16) - live.latest().block + 1
        chain.rpc("anvil_reorg", inside, [])
        await live.mining(lambda: live.latest().holdings[0] == 5 and 0 in live.seen[live.seen.index(5) :])
        await live.mining(lambda: live.confirmed().holdings[0] == 5)
    assert int(chain.rpc("eth_getBalance", hexed(live.settings.adjudicator), "latest"), 16) == 5


async def test_contracts_are_deployed_and_usable(chain):
    """By an account that pays; one that cannot is told what is needed; a wrong name is refused."""
    chain.rpc("evm_setAutomine", True)
    client = RpcClient([chain.url], CHAIN_ID)
    try:
        found = await deploy(client, story.PAYER, ("BatchOperator", "NitroAdjudicator", "ConsensusApp"), poll_s=0.05)
        assert list(found) == ["NitroAdjudicator", "ConsensusApp", "BatchOperator"]
        for address in found.values():
            assert await client.code(address)
        with pytest.raises(LocalError, match="has 0 wei; up to"):
            await deploy(client, ChainKey(b"\x0f" * 32), poll_s=0.05)
        with pytest.raises(LocalError, match="no contract is called Nobody"):
            await deploy(client, story.PAYER, ("Nobody",))
        with pytest.raises(LocalError, match="name both"):
            await deploy(client, story.PAYER, ("BatchOperator",))
    finally:
        await client.close()


async def test_a_contract_that_refuses_coin_keeps_nobody_elses(chain):
    """One of two recipients is a contract without a way to receive: the channel is concluded, the other one paid."""
    made = chain.send(DEPLOYER, None, for_tests("Refuser").creation_code())
    code = chain.rpc("eth_getCode", made["contractAddress"], "latest")
    live = Live(chain)
    async with live:
        live.want([onchain.Deposit(ZERO_ADDRESS, 0, 5, 5)])
        await live.mining(lambda: live.views and live.latest().holdings[0] == 5)
        chain.rpc("anvil_setCode", hexed(story.ALICE.address), code)
        final, outcome = live.state(4, final=True)
        live.want([onchain.Conclude(final)])
        await live.mining(lambda: live.latest().status.finalizes_at)
        assert live.latest().holdings[0] == 5, "concluded without payment"
        live.want([onchain.TransferAll(outcome, ZERO_HASH)])
        await live.mining(lambda: live.latest().holdings[0] == 3)
        assert live.balances() == [0, 2]
        left = reduced(outcome, paid=1)
        live.want([onchain.TransferAll(left, ZERO_HASH)])
        await live.mining(lambda: any(info.status == "reverted" for info in live.service.transactions(live.channel)))
        chain.rpc("anvil_setCode", hexed(story.ALICE.address), "0x")
        await live.mining(lambda: live.latest().holdings[0] == 0)
    assert live.balances() == [3, 2]


def reduced(outcome, paid):
    """What the contract remembers once that allocation of the coin is paid."""
    coin, *others = outcome
    allocations = [
        msgspec.structs.replace(item, amount=0) if at == paid else item for at, item in enumerate(coin.allocations)
    ]
    return (msgspec.structs.replace(coin, allocations=tuple(allocations)), *others)


async def test_a_chain_from_before_base_fees_takes_our_transactions():
    """Its blocks have none; the price is the chain's usual one."""
    with running(hardfork="berlin", gas_price_wei=3 * 10**9) as old:
        old.fund(story.PAYER.address, ETHER)
        client = RpcClient([old.url], CHAIN_ID)
        try:
            assert (await client.head()).base_fee is None
            fees = await client.fees()
            assert fees == Fees(3_000_000_000, 0, legacy=True)
            price, tip = fees.offer(10**10)
            raw, hash_ = story.PAYER.sign(CHAIN_ID, Sign(0, story.OTHER, b"", 7, 21_000, price, tip, legacy=True))
            await client.send(raw)
            old.rpc("evm_mine")
            (receipt,) = await client.receipts([hash_])
            assert receipt.ok
            assert await client.balance(story.OTHER) == 7
        finally:
            await client.close()
