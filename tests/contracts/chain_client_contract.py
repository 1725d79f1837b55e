"""What every client of a chain must do; `test_chain_client_fake.py` and `test_chain_client_rpc.py` run it."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod

import pytest

from scapp.channels.adjudicator_status import unpack_status
from scapp.channels.chain.calls import Approve, BalanceOf, Deposit, Holdings, StatusOf, decode_number, encode_call
from scapp.channels.chain.client import ChainClient, Refused, ViewCall, in_bloom
from scapp.channels.chain.contract_events import TOPICS, ChallengeRegistered, Deposited, decode_event
from scapp.channels.chain.key import ChainKey
from scapp.channels.chain.requests import Sign
from scapp.channels.crypto import keccak256
from scapp.channels.types import ZERO_ADDRESS, Address, ChannelId, Hash
from tests.support.chain_stories import PAYER, RICH

CHAIN_ID = 1337
CHANNEL = ChannelId(b"\x05" * 32)
FEE = 3 * 10**9


class Bench(ABC):
    """One client over one chain, on which PAYER is rich in coin and tokens."""

    client: ChainClient
    adjudicator: Address
    token: Address

    @abstractmethod
    async def mine(self, leave: bool = False) -> None:
        """A block of what waits; of nothing, with `leave`."""

    @abstractmethod
    async def reorganise(self, depth: int) -> None:
        """Other blocks in place of the newest, one more; what was in them is lost."""

    def raw(self, nonce: int, to: Address, data: bytes, value: int = 0, *, fee: int = FEE, key: ChainKey = PAYER):
        """A signed transaction and its hash."""
        return key.sign(CHAIN_ID, Sign(nonce, to, data, value, 300_000, fee, fee // 10))

    def deposit(self, held: int, amount: int, nonce: int, *, fee: int = FEE) -> tuple[bytes, Hash]:
        call = Deposit(ZERO_ADDRESS, CHANNEL, held, amount)
        return self.raw(nonce, self.adjudicator, encode_call(call), amount, fee=fee)

    async def deposited(self, amount: int = 5, nonce: int = 0) -> Hash:
        """A deposit in a block of its own."""
        raw, hash_ = self.deposit(0, amount, nonce)
        await self.client.send(raw)
        await self.mine()
        return hash_


class ChainClientContract:
    """Subclasses have a fixture `bench`."""

    async def test_it_says_what_chain_it_is(self, bench):
        """Chain id, and whether there is a contract at an address."""
        assert await bench.client.chain_id() == CHAIN_ID
        assert await bench.client.code(bench.adjudicator)
        assert await bench.client.code(Address(b"\x99" * 20)) == b""
        assert bench.client.endpoint in bench.client.endpoints

    async def test_blocks_follow_each_other(self, bench):
        """The head is the newest; blocks by number are its ancestors; one that is not there is None."""
        first = await bench.client.head()
        await bench.mine()
        head = await bench.client.head()
        assert (head.number, head.parent) == (first.number + 1, first.hash)
        assert head.time_s >= first.time_s
        assert await bench.client.blocks([head.number, first.number, head.number + 9]) == [head, first, None]
        assert await bench.client.blocks([]) == []

    async def test_a_transaction_waits_and_gets_in(self, bench):
        """No receipt while it waits; then one, and the nonce has moved."""
        raw, hash_ = bench.deposit(0, 5, 0)
        await bench.client.send(raw)
        head = await bench.client.head()
        assert await bench.client.receipts([hash_]) == [None]
        assert await bench.client.nonce(PAYER.address) == 1
        assert await bench.client.nonce(PAYER.address, head.hash) == 0
        await bench.mine()
        after = await bench.client.head()
        other = Hash(b"\x77" * 32)
        receipt, none = await bench.client.receipts([hash_, other])
        assert (receipt.transaction, receipt.block, receipt.block_hash) == (hash_, after.number, after.hash)
        assert receipt.ok
        assert receipt.gas_used > 21_000
        assert none is None
        assert await bench.client.nonce(PAYER.address, after.hash) == 1
        assert await bench.client.balance(PAYER.address) <= RICH - 5

    async def test_logs_are_found_by_range_block_and_topic(self, bench):
        """The adjudicator's alone, with where they are; the bloom of the block announces them."""
        hash_ = await bench.deposited()
        head = await bench.client.head()
        (log,) = await bench.client.logs(bench.adjudicator, 0, head.number)
        assert decode_event(log.topics, log.data) == Deposited(CHANNEL, ZERO_ADDRESS, 5)
        assert (log.block, log.block_hash, log.transaction, log.removed) == (head.number, head.hash, hash_, False)
        assert await bench.client.block_logs(bench.adjudicator, head.hash) == [log]
        assert await bench.client.block_logs(bench.adjudicator, head.parent) == []
        assert await bench.client.logs(bench.adjudicator, 0, head.number, (TOPICS[Deposited], CHANNEL)) == [log]
        assert await bench.client.logs(bench.adjudicator, 0, head.number, (None, bytes(CHANNEL))) == [log]
        assert await bench.client.logs(bench.adjudicator, 0, head.number, (TOPICS[ChallengeRegistered],)) == []
        assert await bench.client.logs(Address(b"\x99" * 20), 0, head.number) == []
        assert in_bloom(head.bloom, Hash(keccak256(bench.adjudicator)))

    async def test_state_is_read_at_a_block(self, bench):
        """Before and after; where there is no contract the answer is empty; one that reverts hinders no other."""
        before = await bench.client.head()
        await bench.deposited()
        after = await bench.client.head()
        held = encode_call(Holdings(ZERO_ADDRESS, CHANNEL))
        nobody = Address(b"\x99" * 20)
        answers = await bench.client.views(
            [
                ViewCall(bench.adjudicator, held, before.hash),
                ViewCall(bench.adjudicator, held, after.hash),
                ViewCall(bench.adjudicator, encode_call(BalanceOf(nobody)), after.hash),
                ViewCall(nobody, held, after.hash),
                ViewCall(bench.adjudicator, encode_call(StatusOf(CHANNEL)), after.hash),
                ViewCall(bench.token, encode_call(BalanceOf(PAYER.address)), after.hash),
            ]
        )
        assert [decode_number(answers[0]), decode_number(answers[1])] == [0, 5]
        assert isinstance(answers[2], Refused)
        assert answers[2].kind == "reverted"
        assert answers[3] == b""
        assert unpack_status(answers[4]).finalizes_at == 0
        assert decode_number(answers[5]) == RICH

    async def test_a_block_that_is_not_there_is_missing(self, bench):
        """Its state, its logs and the nonce at it."""
        nowhere = Hash(b"\x42" * 32)
        (answer,) = await bench.client.views([ViewCall(bench.adjudicator, encode_call(StatusOf(CHANNEL)), nowhere)])
        assert answer.kind == "missing"
        for asked in (
            bench.client.nonce(PAYER.address, nowhere),
            bench.client.block_logs(bench.adjudicator, nowhere),
        ):
            with pytest.raises(Refused) as refused:
                await asked
            assert refused.value.kind == "missing"

    async def test_estimates_and_reverts(self, bench):
        """Gas for what would work; the contract's reason for what would not."""
        good = encode_call(Deposit(ZERO_ADDRESS, CHANNEL, 0, 5))
        assert 21_000 < await bench.client.estimate(PAYER.address, bench.adjudicator, good, 5) < 300_000
        approve = encode_call(Approve(bench.adjudicator, 3))
        assert await bench.client.estimate(PAYER.address, bench.token, approve, 0) > 21_000
        wrong = encode_call(Deposit(ZERO_ADDRESS, CHANNEL, 1, 5))
        with pytest.raises(Refused, match=r"^held != expectedHeld$") as refused:
            await bench.client.estimate(PAYER.address, bench.adjudicator, wrong, 5)
        assert refused.value.kind == "reverted"
        with pytest.raises(Refused) as refused:
            await bench.client.estimate(ChainKey(b"\x0f" * 32).address, bench.adjudicator, good, 5)
        assert refused.value.kind == "funds"

    async def test_a_transaction_that_reverts_is_in_a_block(self, bench):
        """It is paid for, and its receipt says so."""
        raw, hash_ = bench.deposit(1, 5, 0)
        await bench.client.send(raw)
        await bench.mine()
        (receipt,) = await bench.client.receipts([hash_])
        assert not receipt.ok

    async def test_what_a_node_does_not_take_has_a_kind(self, bench):
        """Known, nonce too low, underpriced, without funds; and a replacement that pays enough is taken."""
        raw, hash_ = bench.deposit(0, 5, 0)
        await bench.client.send(raw)
        cheap, _ = bench.deposit(0, 6, 0, fee=FEE - 1)
        poor, _ = bench.raw(0, bench.adjudicator, b"", 1, key=ChainKey(b"\x0f" * 32))
        for again, kind in ((raw, "known"), (cheap, "underpriced"), (poor, "funds")):
            with pytest.raises(Refused) as refused:
                await bench.client.send(again)
            assert refused.value.kind == kind
        better, hash_of_better = bench.deposit(0, 7, 0, fee=2 * FEE)
        await bench.client.send(better)
        await bench.mine()
        first, second = await bench.client.receipts([hash_, hash_of_better])
        assert first is None
        assert second.ok
        with pytest.raises(Refused) as refused:
            await bench.client.send(bench.deposit(7, 1, 0)[0])
        assert refused.value.kind == "nonce-too-low"

    async def test_calldata_of_transactions_is_told(self, bench):
        """In their order; None for one that nobody sent."""
        hash_ = await bench.deposited()
        sent = encode_call(Deposit(ZERO_ADDRESS, CHANNEL, 0, 5))
        assert await bench.client.calldata([Hash(b"\x77" * 32), hash_]) == [None, sent]
        assert await bench.client.calldata([]) == []

    async def test_fees_are_given(self, bench):
        """Those of the newest block, and a tip."""
        fees = await bench.client.fees()
        assert fees.base == (await bench.client.head()).base_fee
        assert fees.priority >= 0

    @pytest.mark.parametrize("depth", [1, 5])
    async def test_a_reorganisation_shows_in_hashes(self, bench, depth):
        """Other blocks; receipts, logs and holdings of the old ones are gone, and they cannot be read any more."""
        await bench.mine()
        hash_ = await bench.deposited()
        for _ in range(depth - 1):
            await bench.mine()
        old = await bench.client.head()
        await bench.reorganise(depth)
        head = await bench.client.head()
        assert head.number >= old.number
        (same,) = await bench.client.blocks([old.number])
        assert same.hash != old.hash
        assert await bench.client.receipts([hash_]) == [None]
        assert await bench.client.logs(bench.adjudicator, 0, head.number) == []
        held = encode_call(Holdings(ZERO_ADDRESS, CHANNEL))
        (now, then) = await bench.client.views(
            [ViewCall(bench.adjudicator, held, head.hash), ViewCall(bench.adjudicator, held, old.hash)]
        )
        assert decode_number(now) == 0
        assert isinstance(then, Refused)
        await bench.client.send(bench.deposit(0, 5, 0)[0])
        await bench.mine()
        assert len(await bench.client.logs(bench.adjudicator, 0, head.number + 1)) == 1

    async def test_waiting_for_a_change_ends_by_itself(self, bench):
        """With and without a new block."""
        async with asyncio.timeout(20):
            await bench.client.changed(0.01)
            await bench.mine()
            await bench.client.changed(0.01)
