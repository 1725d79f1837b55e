"""The service keeps its node told, over whatever its endpoints do, and says how it stands."""

from __future__ import annotations

import asyncio
import logging

import msgspec
import pytest

from scapp.channels import onchain
from scapp.channels.chain.calls import ConcludeAndTransfer
from scapp.channels.chain.fake import FakeClient, Faults
from scapp.channels.chain.performing import stored
from scapp.channels.chain.service import LiveChain, connect
from scapp.channels.errors import LocalError, ScappError
from scapp.channels.log.memory import MemoryLog
from scapp.channels.payments.locks import hash_of
from scapp.channels.types import ZERO_ADDRESS, Address
from tests.support import chain_stories as story

FINAL = story.state(4, story.outcome(0, 2), final=True)
DEPOSIT = onchain.Deposit(ZERO_ADDRESS, 0, 5, 5)


class Node:
    """A service over the model, and what it told."""

    now_ms = 1_000

    def __init__(self, chain, log=None, faults=None, **settings) -> None:
        self.chain = chain
        self.client = FakeClient(chain, seed="service", faults=faults)
        self.log = log or MemoryLog()
        self.service = LiveChain(
            story.settings(**settings), self.client, self.log, story.PAYER, story.ALICE.sign, lambda: self.now_ms
        )
        self.views: dict[bytes, onchain.ChainView] = {}
        self.heads: list[int] = []
        self.breaks = False

    def on_view(self, channel, view):
        self.views[channel] = view
        if self.breaks:
            raise ZeroDivisionError

    async def __aenter__(self):
        await self.service.start(self.on_view, self.heads.append)
        return self

    async def __aexit__(self, *_):
        await self.service.stop()

    async def until(self, holds):
        async with asyncio.timeout(20):
            while not holds():  # noqa: ASYNC110  # what it waits for has no event
                await asyncio.sleep(0.005)

    async def mine(self, count=1):
        """Blocks, each once the one before was looked at."""
        for _ in range(count):
            self.chain.mine()
            self.client.announce()
            await self.until(lambda: self.service.head_time_s == self.chain.head.time_s)

    def held(self):
        view = self.views.get(story.channel())
        return None if view is None else (view.latest.holdings[0], view.confirmed.holdings[0])

    def info(self):
        return self.service.transactions(story.channel())[0]


async def test_a_deposit_from_want_to_confirmed():
    """Views, heads, transaction and status tell the same story."""
    async with Node(story.new_chain()) as node:
        node.service.watch(story.channel(), (ZERO_ADDRESS,))
        await node.until(lambda: node.held() == (0, 0))
        node.service.want(story.channel(), [DEPOSIT])
        await node.until(lambda: node.info().status == "pending")
        assert node.service.status().pending == 1
        await node.mine()
        await node.until(lambda: node.held() == (5, 0))
        await node.mine(3)
        await node.until(lambda: node.held() == (5, 5))
        await node.until(lambda: node.info().status == "confirmed")
        status = node.service.status()
        assert (status.head, status.processed, status.lag_blocks, status.watched) == (5, 5, 0, 1)
        assert (status.chain_id, status.account, status.fault) == (1337, story.PAYER.address, "")
        assert node.heads == [block.time_s for block in node.chain.blocks[1:]]
        await node.until(lambda: node.service.status().balance == node.chain.world.balances[story.PAYER.address])


async def test_an_endpoint_that_is_down_is_no_error():
    """The service starts, says what is wrong, and goes on by itself when it is there."""
    node = Node(story.new_chain(), faults=Faults(down=True))
    async with node:
        node.service.watch(story.channel(), (ZERO_ADDRESS,))
        await node.until(lambda: "connection refused" in node.service.status().fault)
        assert node.service.head_time_s is None
        assert node.service.status().head is None
        node.client.faults.down = False
        await node.until(lambda: node.held() == (0, 0))
        await node.until(lambda: node.service.status().fault == "")


async def test_a_slow_endpoint_holds_up_nothing_but_itself():
    """Views come late; stopping does not wait for an answer."""
    async with Node(story.new_chain(), faults=Faults(delay_s=0.02)) as node:
        node.service.watch(story.channel(), (ZERO_ADDRESS,))
        await node.until(lambda: node.held() == (0, 0))
        node.client.faults.delay_s = 3600
        node.service.want(story.channel(), [DEPOSIT])
        await asyncio.sleep(0.05)
        async with asyncio.timeout(5):
            await node.service.stop()


async def test_a_look_counts_from_its_beginning_and_once_all_is_told():
    """A chain without new blocks has been looked at all the same; an endpoint that hangs shows nothing new."""
    async with Node(story.new_chain(), faults=Faults(down=True), poll_seconds=0.01) as node:
        await node.until(lambda: "connection refused" in node.service.status().fault)
        assert node.service.followed_ms is None
        node.client.faults.down = False
        await node.until(lambda: node.service.followed_ms == 1_000)
        node.now_ms = 2_000
        await node.until(lambda: node.service.followed_ms == 2_000)
        assert len(node.heads) == 1
        node.client.faults.delay_s = 3_600
        await asyncio.sleep(0.05)
        node.now_ms = 3_000
        await asyncio.sleep(0.05)
        assert node.service.followed_ms == 2_000


async def test_who_cannot_pay_for_a_dispute_is_told_once(caplog):
    """Only with something to defend, and again after there was enough."""
    caplog.set_level(logging.WARNING, "scapp.chain")
    chain = story.new_chain()
    rich = chain.world.balances[story.PAYER.address]
    async with Node(chain) as node:
        chain.world.balances[story.PAYER.address] = 9
        await node.mine(2)
        told = []
        node.service.watch(story.channel(), (ZERO_ADDRESS,))
        for balance in (7, 8, rich, rich + 1, 0):
            chain.world.balances[story.PAYER.address] = balance
            await node.mine()
            await node.until(lambda balance=balance: node.service.status().balance == balance)
            told.append(sum("send it some" in text for text in caplog.messages))
    assert told == [1, 1, 1, 1, 2]


@pytest.mark.parametrize("legacy", [False, True])
async def test_the_price_of_gas_is_that_of_the_newest_block(legacy):
    """On a chain without base fees it is asked for; 0 until the chain has answered."""
    node = Node(story.new_chain())
    node.client.legacy = legacy
    assert node.service.gas_price == 0
    async with node:
        for price in (3, 70):
            node.chain.base_fee = price
            await node.mine()
            await node.until(lambda price=price: node.service.gas_price == price)


async def test_whoever_hears_of_a_block_finds_its_price_of_gas():
    """Locks are judged from the first block on."""
    prices = []
    node = Node(story.new_chain())

    class Heads(list):
        def append(self, time_s):
            prices.append(node.service.gas_price)
            super().append(time_s)

    node.heads = Heads()
    async with node:
        await node.until(lambda: node.heads)
        node.chain.base_fee = 70
        await node.mine()
        await node.until(lambda: len(node.heads) > 1)
    assert prices == [block.base_fee for block in node.chain.blocks[-2:]]
    assert prices[-1] == 70


async def test_a_chain_that_answers_again_is_said(caplog):
    caplog.set_level(logging.INFO, "scapp.chain")
    async with Node(story.new_chain(), poll_seconds=0.01) as node:
        await node.until(lambda: node.heads)
        node.client.faults.down = True
        await node.until(lambda: node.service.status().fault)
        node.client.faults.down = False
        await node.until(lambda: not node.service.status().fault)
        assert sum("answers again" in text for text in caplog.messages) == 1


async def test_an_endpoint_that_answers_from_the_past_is_said_once(caplog):
    """By this node's clock, and again after it was well; the status has the age."""
    caplog.set_level(logging.WARNING, "scapp.chain")

    def said():
        return sum("is it stuck?" in text for text in caplog.messages)

    chain = story.new_chain()
    node = Node(chain, poll_seconds=0.01)
    node.now_ms = (chain.head.time_s + 900) * 1_000
    async with node:
        for age_s, times in ((900, 0), (901, 1), (5_000, 1), (3, 1), (1_000, 2)):
            node.now_ms = (chain.head.time_s + age_s) * 1_000
            await node.until(lambda age_s=age_s: node.service.status().behind_s == age_s)
            assert said() == times


async def test_a_wrong_chain_and_missing_contracts_are_errors():
    """Chain id, adjudicator, consensus app: LocalError at start, naming what was found."""
    for wrong, text in (
        ({"chain_id": 1}, "is of chain 1337; configured is chain 1"),
        ({"adjudicator": Address(b"\x01" * 20)}, f"no contract at 0x{'01' * 20}, the configured adjudicator"),
        ({"consensus_app": Address(b"\x02" * 20)}, "the configured consensus app"),
    ):
        settings = msgspec.structs.replace(story.settings(), **wrong)
        service = LiveChain(settings, FakeClient(story.new_chain()), MemoryLog(), story.PAYER, story.ALICE.sign)
        with pytest.raises(LocalError, match=text):
            await service.start(lambda channel, view: None, lambda time_s: None)
        await service.stop()


async def test_what_the_account_has_is_read_when_asked():
    """Coin and tokens; what is no token is named."""
    async with Node(story.new_chain()) as node:
        assert await node.service.funds(ZERO_ADDRESS) == node.chain.world.balances[story.PAYER.address]
        assert await node.service.funds(story.TOKEN) == story.RICH
        with pytest.raises(LocalError, match="is no token"):
            await node.service.funds(Address(b"\x09" * 20))


async def test_a_listener_that_fails_stops_nothing(caplog):
    """It is logged; the next views come all the same."""
    async with Node(story.new_chain()) as node:
        node.breaks = True
        node.service.watch(story.channel(), (ZERO_ADDRESS,))
        await node.until(lambda: node.held() == (0, 0))
        story.deposit(node.chain, 4)
        await node.mine()
        await node.until(lambda: node.held() == (4, 0))
    assert "a listener to the chain failed" in caplog.text
    caplog.clear()


async def test_a_new_process_goes_on_from_the_log():
    """The cursor and what was signed are there; nothing is sent twice."""
    chain, log = story.new_chain(), MemoryLog()
    async with Node(chain, log) as node:
        node.service.want(story.channel(), [DEPOSIT])
        await node.until(lambda: chain.mempool)
        await node.mine(40)
    async with Node(chain, log.durable_copy()) as node:
        node.service.watch(story.channel(), (ZERO_ADDRESS,))
        node.service.want(story.channel(), [DEPOSIT])
        await node.until(lambda: node.held() == (5, 5))
        await node.until(lambda: node.info().status == "confirmed")
        await node.mine(2)
    assert chain.world.nonces[story.PAYER.address] == 1
    cursors = [event for event in stored(log) if type(event).__name__ == "CursorMoved"]
    assert [cursor.number for cursor in cursors] == [0, 32]


async def test_a_log_that_is_closed_ends_the_service(caplog):
    """Nothing is sent that cannot be stored."""
    caplog.set_level(logging.INFO, "scapp.chain")
    async with Node(story.new_chain()) as node:
        await node.until(lambda: node.heads)
        node.log.close()
        node.service.want(story.channel(), [DEPOSIT])
        await node.until(lambda: "the log is closed" in caplog.text)
        assert not node.chain.mempool


async def test_lost_hints_are_made_up_by_polling():
    """A subscription that says nothing costs time, no events."""
    async with Node(story.new_chain(), faults=Faults(hints_lost=1)) as node:
        node.service.watch(story.channel(), (ZERO_ADDRESS,))
        story.deposit(node.chain, 4)
        await node.mine(4)
        await node.until(lambda: node.held() == (4, 4))


def test_a_service_over_json_rpc_needs_endpoints():
    """`connect` builds it from the settings alone."""
    settings = msgspec.structs.replace(story.settings(), endpoints=("http://127.0.0.1:1",))
    service = connect(settings, MemoryLog(), story.PAYER, story.ALICE.sign)
    assert service.status().endpoints == ("http://127.0.0.1:1",)
    assert (service.chain_id, service.adjudicator) == (1337, story.ADJUDICATOR)


async def test_after_news_nothing_is_deposited_before_the_node_has_answered():
    """A deposit that was wanted before an outage, in which the channel ended, never goes out."""
    chain = story.new_chain(blocks=5)
    async with Node(chain) as node:
        node.service.watch(story.channel(), (ZERO_ADDRESS,))
        await node.until(lambda: node.held() == (0, 0))
        node.client.faults.down = True
        await node.until(lambda: "refused" in node.service.status().fault)  # no look from before goes on
        node.service.want(story.channel(), [DEPOSIT])
        for act in (lambda: story.deposit(chain, 2), lambda: story.do(chain, ConcludeAndTransfer(FINAL))):
            act()
            chain.mine()
        node.client.faults.down = False
        await node.mine(5)
        assert node.views[story.channel()].latest.block > 5
        assert (node.info().status, chain.mempool) == ("waiting", [])
        node.service.want(story.channel(), [DEPOSIT])
        await node.until(lambda: chain.mempool)
        node.service.want(story.channel(), [])


LOCKS = Address(b"\x1c" * 20)


async def test_a_preimage_is_revealed_at_the_app_of_hash_locks_and_seen_once_confirmed():
    """The transaction goes to that contract, once, before anything that can wait; what it says counts when it is as
    deep as everything else."""
    chain, preimage = story.new_chain(), b"\x11" * 32
    chain.world.apps[LOCKS] = "hash-lock"
    async with Node(chain, hash_lock_app=LOCKS) as node:
        node.service.watch(story.channel(), ())
        await node.until(lambda: story.channel() in node.views)
        node.service.want(story.channel(), [onchain.Reveal(preimage)])
        await node.until(lambda: node.info().status == "pending")
        await node.mine()
        assert chain.world.revealed == {hash_of(preimage): chain.head.time_s}
        asked = (hash_of(preimage), bytes(32))
        assert (await node.service.revealed(asked)).times == (0, 0)
        at_s = chain.head.time_s
        await node.mine(4)
        assert await node.service.revealed(asked) == onchain.Revealed(chain.blocks[-4].time_s, (at_s, 0))
        node.service.want(story.channel(), [onchain.Reveal(preimage)])
        await node.mine()
        assert sum(len(block.transactions) for block in chain.blocks) == 1


@pytest.mark.parametrize(
    ("app", "says"), [(ZERO_ADDRESS, "knows no contract"), (LOCKS, "cannot be read|is no contract")]
)
async def test_a_node_without_a_contract_of_hash_locks_says_so(app, says):
    async with Node(story.new_chain(), hash_lock_app=app) as node:
        await node.until(lambda: node.heads)
        with pytest.raises(ScappError, match=says):
            await node.service.revealed((bytes(32),))
