"""Wanted transactions are carried out once each, whatever chain, endpoint, other people and the process do."""

from __future__ import annotations

import random

import msgspec
import pytest

from scapp.channels import onchain
from scapp.channels.abi_types import encode
from scapp.channels.adjudicator_status import Mode
from scapp.channels.chain import requests as ask
from scapp.channels.chain.calls import Approve, Checkpoint, Conclude
from scapp.channels.chain.client import Fees, Receipt, Refused, Unavailable
from scapp.channels.chain.events import decode_event
from scapp.channels.chain.fake import FakeClient, Faults, decode_transaction, is_legacy
from scapp.channels.chain.judging import state_hash_of
from scapp.channels.chain.model_world import Token
from scapp.channels.chain.performing import Performer, stored
from scapp.channels.chain.sender import Sender
from scapp.channels.chain.sending import Account
from scapp.channels.chain.watcher import Moved, Watcher
from scapp.channels.log.memory import MemoryLog
from scapp.channels.log.port import NODE_STREAM, Append, StreamWrite
from scapp.channels.onchain import Purpose, purpose_of
from scapp.channels.types import ZERO_ADDRESS, ZERO_HASH, Address, Hash
from tests.support import chain_stories as story

DEPOSIT = onchain.Deposit(ZERO_ADDRESS, 0, 5, 5)


class Killed(Exception):
    """The process ends here."""


class Dying(Performer):
    """Ends at the `at`-th request: before it is carried out, or after."""

    at: int | None = None
    after = False
    count = 0

    async def perform(self, request):
        self.count += 1
        dies = self.count == self.at
        if dies and not self.after:
            raise Killed
        answer = await super().perform(request)
        if dies:
            raise Killed
        return answer


class Sending:
    """A watcher and a sender over a chain; `restart` begins again from the log."""

    def __init__(self, chain, *, faults=None, seed="", **settings):
        self.chain = chain
        self.settings = story.settings(**settings)
        self.client = FakeClient(chain, seed=seed, faults=faults)
        self.log = MemoryLog()
        self.wants = {}
        self.start()

    def start(self):
        account = Account().fold(stored(self.log))
        self.watcher = Watcher(self.settings, account.cursor)
        self.sender = Sender(self.settings, story.PAYER.address, account, self.watcher.canonical)
        self.performer = Dying(self.settings, self.client, self.log, story.PAYER, story.ALICE.sign)
        for channel, wanted in self.wants.items():
            self.sender.want(channel, wanted)

    def restart(self):
        self.log = self.log.durable_copy()
        self.start()

    def want(self, *wanted, nonce=1):
        self.wants[story.channel(nonce)] = wanted
        self.sender.want(story.channel(nonce), wanted)

    async def look(self):
        try:
            await self.performer.run(self.watcher.follow())
            await self.performer.run(self.sender.round(self.watcher.head, self.watcher.confirmed))
        except (Moved, Unavailable):
            return False
        return True

    async def blocks(self, count=1):
        """Look, and mine, that often; then look again."""
        for _ in range(count):
            await self.look()
            self.chain.mine()
        await self.look()

    def info(self, nonce=1):
        (found,) = self.sender.infos(story.channel(nonce))
        return found

    def held(self, nonce=1, asset=ZERO_ADDRESS):
        return self.chain.world.held(asset, story.channel(nonce))

    def included(self):
        """Our transactions on the chain: (kind of call, success)."""
        found = []
        for block in self.chain.blocks:
            for transaction, receipt in zip(block.transactions, block.receipts, strict=True):
                if transaction.sender == story.PAYER.address:
                    found.append((type(transaction.call).__name__, receipt.reason))
        return found


async def test_a_deposit_goes_through_its_states():
    """Not looked at, pending, included, confirmed, and in the end nothing is left to look after."""
    sending = Sending(story.new_chain())
    sending.want(DEPOSIT)
    assert sending.info().status == "waiting"
    await sending.look()
    assert sending.info().status == "pending"
    sending.chain.mine()
    await sending.look()
    info = sending.info()
    assert (info.status, info.block, info.gas_used) == ("included", 2, 60_000)
    await sending.blocks(3)
    assert sending.info().status == "confirmed"
    await sending.blocks(70)
    assert sending.info().status == "confirmed"
    assert sending.sender.state.slots == {}
    assert (sending.held(), sending.included()) == (5, [("Deposit", None)])


async def test_what_is_signed_is_stored_before_it_is_sent():
    """Every broadcast transaction is in the log already, durably."""
    sending = Sending(story.new_chain())
    seen = []

    async def send(raw):
        events = [decode_event(data) for page in sending.log.durable_copy().read(NODE_STREAM) for data in page.events]
        assert raw in [event.raw for event in events]
        seen.append(raw)

    sending.client.send = send
    sending.want(DEPOSIT)
    await sending.look()
    assert len(seen) == 1


async def test_a_deposit_waits_for_those_before_it():
    """Holdings below the safety threshold: nothing goes out. At the target by somebody else: nothing is needed."""
    sending = Sending(story.new_chain())
    sending.want(onchain.Deposit(ZERO_ADDRESS, 4, 9, 5))
    await sending.blocks(2)
    assert (sending.info().status, sending.included()) == ("waiting", [])
    assert "holds 0 confirmed; ours follows when it holds 4" in sending.info().detail
    story.deposit(sending.chain, 9)
    await sending.blocks(2)
    assert (sending.info().status, sending.included()) == ("unneeded", [])


async def test_a_deposit_before_ours_counts_when_it_is_confirmed():
    """A reorganisation could take it back, and ours would be alone and pay for others."""
    sending = Sending(story.new_chain(blocks=5))
    sending.want(onchain.Deposit(ZERO_ADDRESS, 4, 9, 5))
    story.deposit(sending.chain, 4)
    await sending.blocks(3)
    assert (sending.info().status, sending.included()) == ("waiting", [])
    await sending.blocks(3)
    assert (sending.held(), sending.included()) == (9, [("Deposit", None)])


async def test_only_what_is_missing_is_deposited():
    """Somebody paid a part already."""
    sending = Sending(story.new_chain())
    story.deposit(sending.chain, 2)
    sending.chain.mine()
    sending.want(DEPOSIT)
    await sending.blocks(2)
    assert (sending.held(), sending.included()) == (5, [("Deposit", None)])


async def test_never_more_than_the_own_share_is_deposited():
    """A target that is further away than the share is not filled by us alone."""
    sending = Sending(story.new_chain())
    sending.want(onchain.Deposit(ZERO_ADDRESS, 0, 9, 5))
    await sending.blocks(8)
    assert (sending.held(), sending.included()) == (5, [("Deposit", None)])


async def test_a_front_run_deposit_is_topped_up():
    """One wei comes in between reading and inclusion: the transaction reverts, and what is missing follows."""
    sending = Sending(story.new_chain())
    sending.want(DEPOSIT)
    await sending.look()
    ours = sending.chain.mempool.pop()
    story.deposit(sending.chain, 1)
    sending.chain.mempool.append(ours)
    sending.chain.mine()
    await sending.look()
    info = sending.info()
    assert (info.status, info.transaction_hash) == ("reverted", ours.hash)
    assert "tried again from block" in info.detail
    await sending.blocks(4)
    assert (sending.held(), sending.info().status) == (5, "included")
    assert sending.included() == [("Deposit", "held != expectedHeld"), ("Deposit", None)]


@pytest.mark.parametrize("zero_first", [False, True])
@pytest.mark.parametrize("allowed", [0, 3, 7])
async def test_tokens_are_approved_for_exactly_the_amount_first(zero_first, allowed):
    """Approved, awaited, deposited; by way of zero where the token wants that; not at all when enough is allowed."""
    chain = story.new_chain()
    token = chain.head.world.tokens[story.TOKEN]
    chain.head.world.tokens[story.TOKEN] = Token(token.balances, token.allowances, zero_first)
    token.allowances[story.PAYER.address, story.ADJUDICATOR] = allowed
    sending = Sending(chain)
    sending.want(onchain.Deposit(story.TOKEN, 0, 5, 5))
    await sending.blocks(6)
    assert sending.held(asset=story.TOKEN) == 5
    approvals = 0 if allowed == 7 else 2 if zero_first and allowed else 1
    assert sending.included() == [("Approve", None)] * approvals + [("Deposit", None)]
    left = chain.world.tokens[story.TOKEN].allowances[story.PAYER.address, story.ADJUDICATOR]
    assert left == (2 if allowed == 7 else 0)


async def test_deposits_of_one_token_do_not_use_each_others_allowance():
    """Three channels want tokens at once; each gets them, without a revert."""
    sending = Sending(story.new_chain())
    for nonce in (1, 2, 3):
        sending.want(onchain.Deposit(story.TOKEN, 0, 5, 5), nonce=nonce)
    await sending.blocks(14)
    assert [sending.held(nonce, story.TOKEN) for nonce in (1, 2, 3)] == [5, 5, 5]
    assert sending.included() == [("Approve", None), ("Deposit", None)] * 3


async def test_a_poor_account_waits_with_a_clear_text():
    """Coin: what is there and what is needed. Tokens likewise. Money that comes is used."""
    chain = story.new_chain()
    chain.head.world.balances[story.PAYER.address] = 1000
    chain.head.world.tokens[story.TOKEN].balances[story.PAYER.address] = 2
    sending = Sending(chain)
    sending.want(DEPOSIT, onchain.Deposit(story.TOKEN, 0, 5, 5))
    await sending.blocks(2)
    coin, tokens = sending.sender.infos(story.channel(1))
    assert (coin.status, tokens.status) == ("waiting", "waiting")
    assert f"0x{story.PAYER.address.hex()} has 1000 wei; 5 to deposit and up to" in coin.detail
    assert "has 2 of the token, 5 needed" in tokens.detail
    chain.head.world.balances[story.PAYER.address] = story.RICH
    await sending.blocks(2)
    assert sending.held() == 5


async def test_nothing_is_deposited_into_a_dispute():
    """What comes into a channel under challenge would be paid by the state that was registered."""
    sending = Sending(story.new_chain())
    story.do(sending.chain, story.challenge_with(story.state(3, story.outcome(3, 2))))
    sending.chain.mine()
    sending.want(DEPOSIT)
    await sending.blocks(2)
    assert (sending.info().status, sending.included()) == ("waiting", [])


async def test_the_whole_life_of_a_channel():
    """Challenge, checkpoint, challenge again, counter-challenge seen as unneeded, payout; each once."""
    sending = Sending(story.new_chain())
    story.deposit(sending.chain, 5)
    sending.chain.mine()
    shares = story.outcome(3, 2)
    sending.want(onchain.Challenge(story.state(3, shares)))
    await sending.blocks(2)
    status = sending.chain.world.status_of(story.channel())
    assert (status.turn_record, status.mode(sending.chain.head.time_s)) == (3, Mode.CHALLENGE)
    sending.want(onchain.Checkpoint(story.state(4, shares)))
    await sending.blocks(2)
    status = sending.chain.world.status_of(story.channel())
    assert (status.turn_record, status.mode(sending.chain.head.time_s)) == (4, Mode.OPEN)
    sending.want(onchain.Challenge(story.state(3, shares)), onchain.Challenge(story.state(6, shares)))
    await sending.blocks(2)
    infos = sending.sender.infos(story.channel())
    assert {info.purpose.subject[-1]: info.status for info in infos if info.purpose.kind == "challenge"} == {
        3: "confirmed", 6: "included",
    }  # fmt: skip
    last = story.state(6, shares)
    sending.want(onchain.TransferAll(shares, state_hash_of(last)))
    await sending.blocks(2)
    assert "the channel finalizes at" in info_of(sending, "transfer-all").detail
    sending.chain.wait(story.CHALLENGE_S)
    await sending.blocks(2)
    assert (sending.held(), sending.chain.world.balances[story.ALICE.address]) == (0, 3)
    calls = [name for name, reason in sending.included() if reason is None]
    assert calls == ["Challenge", "Checkpoint", "Challenge", "TransferAll"]


def info_of(sending, kind, nonce=1):
    return next(info for info in sending.sender.infos(story.channel(nonce)) if info.purpose.kind == kind)


async def test_a_conclusion_pays_also_when_somebody_concluded_without_paying():
    """Then the payout alone is sent. Holdings that no outcome takes are not concluded for ever."""
    sending = Sending(story.new_chain())
    story.deposit(sending.chain, 9)
    sending.chain.mine()
    final = story.state(5, story.outcome(3, 2), final=True)
    sending.want(onchain.Conclude(final))
    await sending.blocks(90)
    assert sending.included() == [("ConcludeAndTransfer", None)]
    assert sending.held() == 4  # more than the outcome gives away
    assert info_of(sending, "conclude").status == "confirmed"


async def test_what_would_revert_is_tried_again_with_growing_pauses():
    """The reason of the contract is told; when it is gone, the transaction goes out."""
    sending = Sending(story.new_chain())
    story.deposit(sending.chain, 5)
    sending.chain.mine()
    story.do(sending.chain, Conclude(story.state(5, story.outcome(3, 2), final=True)))
    sending.chain.mine()
    sending.chain.head.world.refusing = frozenset({story.ALICE.address, story.BOB.address})
    sending.want(onchain.TransferAll(story.outcome(3, 2), ZERO_HASH))
    sending.client.requests.clear()
    await sending.blocks(20)
    assert sending.client.requests.count("estimate") == 5 * 4, "all at once, each alone, and what is told"
    assert sending.info().status == "reverted"
    assert "Could not transfer ETH" in sending.info().detail
    sending.chain.head.world.refusing = frozenset()
    await sending.blocks(33)
    assert sending.held() == 0


async def test_a_stuck_transaction_is_replaced_up_to_the_ceiling():
    """Same nonce, higher fees, and whichever version gets in counts; beyond the ceiling it says so."""
    chain = story.new_chain()
    sending = Sending(chain, fee_ceiling=4 * 10**9)
    sending.want(DEPOSIT)
    await sending.look()
    chain.base_fee = 3 * 10**9
    await sending.blocks(5)
    assert sending.included() == [("Deposit", None)]
    assert len(sending.sender.state.slots[0].versions) == 2
    chain.base_fee = 10**9
    sending.want(DEPOSIT, nonce=2)
    await sending.look()
    chain.base_fee = 5 * 10**9
    await sending.blocks(12)
    assert "highest fee allowed" in sending.info(2).detail
    chain.base_fee = 10**9
    await sending.blocks(2)
    assert sending.held(2) == 5
    chain.base_fee = 5 * 10**9
    sending.want(DEPOSIT, nonce=3)
    await sending.blocks(2)
    assert "fee ceiling" in sending.info(3).detail


async def test_a_first_version_that_gets_in_after_its_replacement_counts():
    """All hashes of a nonce are remembered."""
    chain = story.new_chain()
    sending = Sending(chain)
    sending.want(DEPOSIT)
    await sending.look()
    first = chain.mempool[0]
    for _ in range(4):
        chain.mine(leave={item.hash for item in chain.mempool})
        await sending.look()
    assert chain.mempool[0].hash != first.hash
    chain.mempool[:] = [first]
    sending.chain.mine()
    await sending.look()
    assert (sending.info().status, sending.info().transaction_hash) == ("included", first.hash)
    await sending.blocks(4)
    assert sending.included() == [("Deposit", None)]


@pytest.mark.parametrize("depth", range(1, 13))
@pytest.mark.parametrize("drop", [False, True])
async def test_what_a_reorganisation_takes_back_is_sent_again(depth, drop):
    """At each depth below and above the confirmations, lost by the nodes or not: in the end it is there, once."""
    sending = Sending(story.new_chain(blocks=15))
    sending.want(DEPOSIT)
    await sending.blocks(depth)
    sending.chain.reorganise(depth, drop=drop)
    await sending.blocks(6)
    assert (sending.held(), sending.included()) == (5, [("Deposit", None)])


async def test_a_nonce_taken_by_somebody_else_with_the_key_is_given_up():
    """Another wallet used it: once that is confirmed, the purpose gets another nonce."""
    chain = story.new_chain()
    sending = Sending(chain)
    sending.want(DEPOSIT)
    await sending.look()
    chain.mempool.clear()
    story.do(chain, Approve(story.OTHER, 1), sender=story.PAYER.address)
    await sending.blocks(8)
    assert [name for name, _ in sending.included()] == ["Approve", "Deposit"]
    assert sending.held() == 5


async def test_a_receipt_that_is_late_does_not_end_a_transaction():
    """Its nonce is used, by itself: an endpoint that is behind says nothing of it for a while."""
    sending = Sending(story.new_chain())
    sending.want(DEPOSIT)
    await sending.look()
    (sent,) = sending.chain.mempool
    sending.client.faults.receipts_lost = 1
    await sending.blocks(2)
    assert sending.info().status == "pending"
    sending.client.faults.receipts_lost = 0
    await sending.blocks(1)
    assert (sending.info().status, sending.info().transaction_hash) == ("included", sent.hash)


async def test_a_receipt_of_a_block_that_is_not_on_the_chain_does_not_count():
    """An endpoint on another fork answered."""
    sending = Sending(story.new_chain())
    sending.want(DEPOSIT)
    await sending.look()
    (sent,) = sending.chain.mempool

    async def receipts(transactions):
        return [Receipt(hash_, 1, Hash(b"\x0f" * 32), True, 60_000) for hash_ in transactions]

    sending.client.receipts = receipts
    sending.chain.mine(leave=[sent.hash])
    await sending.look()
    assert sending.info().status == "pending"
    assert sending.client.requests[-1] == "send"


async def test_a_gap_of_nonces_is_filled():
    """A foreign transaction was taken back, and ours behind it would wait for ever."""
    chain = story.new_chain(blocks=5)
    sending = Sending(chain)
    story.do(chain, Approve(story.OTHER, 1), sender=story.PAYER.address)
    chain.mine()
    sending.want(DEPOSIT)
    await sending.blocks(1)
    chain.reorganise(2, drop=True)
    await sending.blocks(10)
    assert sending.held() == 5


async def test_an_unwanted_deposit_that_is_not_in_is_taken_back():
    """The channel was given up while the deposit was pending: its nonce is used for nothing."""
    chain = story.new_chain()
    sending = Sending(chain)
    sending.want(DEPOSIT)
    await sending.look()
    sending.want()
    chain.mine(leave={item.hash for item in chain.mempool})
    await sending.blocks(6)
    assert sending.held() == 0
    assert sending.included() == [("NoneType", None)]
    sending.want(DEPOSIT)
    await sending.blocks(2)
    assert sending.held() == 5


async def test_a_top_up_follows_a_deposit():
    """The same purpose with a higher target sends the rest, never the whole again."""
    sending = Sending(story.new_chain())
    sending.want(DEPOSIT)
    await sending.blocks(2)
    sending.want(onchain.Deposit(ZERO_ADDRESS, 0, 8, 8))
    await sending.blocks(2)
    assert (sending.held(), sending.included()) == (8, [("Deposit", None)] * 2)


async def test_many_purposes_wait_for_a_free_place():
    """No more than nodes take from one account are under way at once."""
    sending = Sending(story.new_chain())
    for nonce in range(1, 41):
        sending.want(DEPOSIT, nonce=nonce)
    await sending.look()
    assert sending.sender.pending == 16
    await sending.blocks(5)
    assert [sending.held(nonce) for nonce in range(1, 41)] == [5] * 40


async def test_one_that_cannot_work_hinders_no_other():
    """A token that no node can read, a state that is no state: each says so, and what others want goes on."""
    sending = Sending(story.new_chain())
    story.deposit(sending.chain, 5, nonce=3)
    sending.chain.mine()
    answer = sending.client._view
    refused = Refused("other", "out of gas")
    sending.client._view = lambda asked: refused if asked.to == story.TOKEN else answer(asked)
    sending.want(onchain.Deposit(story.TOKEN, 0, 5, 5))
    broken = msgspec.structs.replace(story.state(4, story.outcome(3, 2), nonce=2), outcome=bytes(31) + b"\x20\x01")
    sending.want(onchain.Checkpoint(broken), nonce=2)
    sending.want(onchain.Conclude(story.state(5, story.outcome(3, 2), nonce=3, final=True)), nonce=3)
    await sending.blocks(2)
    assert [sending.info(nonce).status for nonce in (1, 2, 3)] == ["failed", "failed", "included"]
    assert "no token" in sending.info(1).detail
    assert sending.included() == [("ConcludeAndTransfer", None)]


async def test_what_has_a_deadline_goes_first_and_waits_for_no_place():
    """A checkpoint after forty deposits of the same moment is in the next block."""
    sending = Sending(story.new_chain())
    story.do(sending.chain, story.challenge_with(story.state(3, story.outcome(3, 2), nonce=90)))
    sending.chain.mine()
    for nonce in range(1, 41):
        sending.want(DEPOSIT, nonce=nonce)
    await sending.look()
    assert sending.sender.pending == 16
    sending.want(onchain.Checkpoint(story.state(4, story.outcome(3, 2), nonce=90)), nonce=90)
    await sending.blocks(1)
    assert sending.chain.world.status_of(story.channel(90)).turn_record == 4


async def test_events_of_others_in_the_stream_are_passed_over():
    """The node's stream may hold facts of other parts."""
    sending = Sending(story.new_chain())
    foreign = b"\x92\xa7other.1\x01"
    sending.log.append(Append([StreamWrite(NODE_STREAM, 0, [foreign])]))
    sending.want(DEPOSIT)
    await sending.blocks(1)
    sending.restart()
    await sending.blocks(4)
    assert sending.included() == [("Deposit", None)]


STORIES = {
    "deposit": lambda sending: sending.want(DEPOSIT),
    "tokens": lambda sending: sending.want(onchain.Deposit(story.TOKEN, 0, 5, 5)),
    "conclude": lambda sending: (
        story.deposit(sending.chain, 5),
        sending.chain.mine(),
        sending.want(onchain.Conclude(story.state(5, story.outcome(3, 2), final=True))),
    ),
    "challenge": lambda sending: (
        story.deposit(sending.chain, 5),
        sending.chain.mine(),
        sending.want(onchain.Challenge(story.state(3, story.outcome(3, 2)))),
    ),
    "answer": lambda sending: (
        story.deposit(sending.chain, 5),
        sending.chain.mine(),
        story.do(sending.chain, story.challenge_with(story.state(3, story.outcome(3, 2)))),
        sending.chain.mine(),
        sending.want(onchain.Checkpoint(story.state(4, story.outcome(2, 3)))),
    ),
    "payout": lambda sending: (
        story.deposit(sending.chain, 5),
        sending.chain.mine(),
        story.do(sending.chain, Conclude(story.state(5, story.outcome(3, 2), final=True))),
        sending.chain.mine(),
        sending.want(onchain.TransferAll(story.outcome(3, 2), ZERO_HASH)),
    ),
    "stuck": lambda sending: (sending.want(DEPOSIT), setattr(sending.chain, "base_fee", 10**9)),
}


async def run_story(name, at=None, after=False):
    """One life with a kill at one request; what is on the chain in the end, and how many requests there were."""
    sending = Sending(story.new_chain())
    STORIES[name](sending)
    sending.performer.at, sending.performer.after = at, after
    died = False
    for step in range(14):
        if name == "stuck" and step == 1:
            sending.chain.base_fee = 3 * 10**9
        try:
            await sending.look()
        except Killed:
            died = True
            sending.restart()
        sending.chain.mine()
    assert died or at is None
    return sending, sending.performer.count


@pytest.mark.parametrize("name", STORIES)
@pytest.mark.no_cover
async def test_a_kill_at_any_step_loses_and_doubles_nothing(name):
    """Killed before and after each single request of a life: the same transactions are on the chain, each once."""
    plain, requests = await run_story(name)
    wanted = plain.included()
    assert wanted
    assert {reason for _, reason in wanted} == {None}
    for at in range(1, requests + 1):
        for after in (False, True):
            sending, _ = await run_story(name, at, after)
            assert sending.included() == wanted, (at, after)
            assert sending.chain.world.holdings == plain.chain.world.holdings


@pytest.mark.no_cover
async def test_any_life_ends_with_each_channel_funded_once(seed):
    """Kills, reorganisations, lost answers, failing endpoints, front-runners, changing fees: every channel ends at its
    target, by transactions that succeeded once for each missing part."""
    for life in range(12):
        draw = random.Random(f"{seed}/{life}")
        chain = story.new_chain(blocks=3)
        faults = Faults(fails=0.05, fails_after=0.1, head_behind=0.1, logs_lost=0.1, receipts_lost=0.1)
        sending = Sending(chain, faults=faults, seed=f"{seed}/{life}", confirmations=draw.choice([1, 3, 6]))
        assets = {nonce: draw.choice([ZERO_ADDRESS, ZERO_ADDRESS, story.TOKEN]) for nonce in range(1, 7)}
        for nonce, asset in assets.items():
            sending.want(onchain.Deposit(asset, 0, 5, 5), nonce=nonce)
        for _ in range(60):
            sending.performer.at = sending.performer.count + draw.randrange(1, 60)
            sending.performer.after = draw.random() < 0.5
            try:
                await sending.look()
            except Killed:
                sending.restart()
            chain.base_fee = draw.choice([1, 1, 1, 2, 4]) * 10**9
            if draw.random() < 0.1:
                coin = [nonce for nonce, asset in assets.items() if asset == ZERO_ADDRESS]
                if coin and sending.held(nonce := draw.choice(coin)) < 5:
                    story.deposit(chain, 1, nonce=nonce)
            if draw.random() < 0.7:
                chain.mine()
            if draw.random() < 0.15:
                chain.reorganise(min(draw.randrange(1, 13), len(chain.blocks) - 1), drop=draw.random() < 0.4)
        chain.base_fee = 10**9
        sending.client.faults = Faults()
        sending.performer.at = None
        await sending.blocks(60)
        for nonce, asset in assets.items():
            assert 5 <= sending.held(nonce, asset) <= 6, (life, nonce, sending.sender.infos(story.channel(nonce)))
        paid = sum(sending.held(nonce, asset) for nonce, asset in assets.items())
        spent = story.RICH - chain.world.tokens[story.TOKEN].balances[story.PAYER.address]
        assert spent == sum(5 for asset in assets.values() if asset == story.TOKEN)
        assert paid <= 5 * len(assets) + 6


def test_a_raw_transaction_is_what_it_was_signed_for():
    """The fake decodes what the key signs: sender, nonce, call and fees."""
    call = Approve(story.OTHER, 7)
    data = bytes.fromhex("095ea7b3") + encode("(address,uint256)", (story.OTHER, 7))
    raw, hash_ = story.PAYER.sign(1337, ask.Sign(3, Address(story.TOKEN), data, 0, 50_000, 9, 2))
    found = decode_transaction(raw)
    assert (found.hash, found.sender, found.nonce, found.to) == (hash_, story.PAYER.address, 3, story.TOKEN)
    assert (found.call, found.max_fee, found.priority_fee) == (call, 9, 2)


def test_purposes_tell_wants_apart():
    """Equal wants have one purpose; the kinds of a channel have several."""
    signed = story.state(3, story.outcome(1, 1))
    wants = [DEPOSIT, onchain.Conclude(signed), onchain.Challenge(signed), onchain.Checkpoint(signed)]
    wants += [onchain.TransferAll(story.outcome(1, 1), ZERO_HASH), onchain.Transfer(0, (), ZERO_HASH, (1,))]
    purposes = [purpose_of(story.channel(), want) for want in wants]
    assert len(set(purposes)) == len(wants)
    assert purposes[0] == Purpose(story.channel(), "deposit", ZERO_ADDRESS)


async def test_a_held_deposit_waits_for_the_next_want_and_all_else_goes_on():
    """Neither a new one nor one under way that the chain's node has lost; then both as ever, each once."""
    sending = Sending(story.new_chain())
    sending.want(DEPOSIT)
    sending.want(onchain.Checkpoint(story.state(3, story.outcome(3, 2), nonce=2)), DEPOSIT, nonce=2)
    sending.sender.hold_deposits(story.channel(2))
    await sending.look()
    assert sorted(type(item.call).__name__ for item in sending.chain.mempool) == ["Checkpoint", "Deposit"]
    sending.sender.hold_deposits(story.channel(1))
    sending.chain.mempool.clear()
    sending.chain.mine()
    await sending.look()
    assert [type(item.call).__name__ for item in sending.chain.mempool] == ["Checkpoint"]
    for nonce in (1, 2):
        sending.want(*sending.wants[story.channel(nonce)], nonce=nonce)
    await sending.blocks(4)
    assert (sending.held(1), sending.held(2)) == (5, 5)
    assert sorted(sending.included()) == [("Checkpoint", None), ("Deposit", None), ("Deposit", None)]


@pytest.mark.parametrize("count", [2**20 + 1_000, 2**40])
@pytest.mark.parametrize("at_block", [False, True])
async def test_an_endpoint_that_counts_wrong_stops_nothing_for_good(at_block, count):
    """A huge count of pending transactions is not followed. One of the chain itself is believed, at a bounded cost,
    and what was signed then does not hinder what is wanted once the endpoint counts right."""
    sending = Sending(story.new_chain(blocks=3))
    right = sending.client.nonce

    async def nonce(account, at=None):
        return count if at_block or at is None else await right(account, at)

    sending.client.nonce = nonce
    checkpoint = onchain.Checkpoint(story.state(3, story.outcome(3, 2), nonce=2))
    sending.want(DEPOSIT)
    sending.want(checkpoint, nonce=2)
    await sending.blocks(10)
    assert len(sending.sender.state.slots) == (2 if at_block else 0)
    sending.client.nonce = right
    sending.restart()
    await sending.blocks(12)
    assert sorted(sending.included()) == [("Checkpoint", None), ("Deposit", None)]


async def test_a_transaction_that_no_node_takes_holds_up_no_other():
    """Too much gas, or too long, as a stranger can make it: its nonce is used up, what stands behind it gets in, and
    it is tried again after pauses that grow."""
    sending = Sending(story.new_chain(blocks=3), stuck_blocks=3)
    send, tried = sending.client.send, []

    async def refuse(raw):
        if isinstance(decode_transaction(raw).call, Checkpoint):
            tried.append(raw)
            raise Refused("other", "exceeds block gas limit")
        await send(raw)

    sending.client.send = refuse
    sending.want(onchain.Checkpoint(story.state(3, story.outcome(3, 2), nonce=2)), nonce=2)
    sending.want(DEPOSIT)
    await sending.blocks(2)
    assert sending.held() == 0
    await sending.blocks(8)
    assert sending.held() == 5
    assert "no node of the chain took it" in sending.info(2).detail or sending.info(2).status == "pending"
    sending.client.send = send
    await sending.blocks(8)
    assert ("Checkpoint", None) in sending.included()


async def test_a_recipient_that_refuses_does_not_keep_the_others_payment():
    """The conclusion goes without payment, then the others are paid by themselves; the rest waits for the refuser."""
    sending = Sending(story.new_chain())
    story.deposit(sending.chain, 9)
    final = story.state(9, story.outcome(4, 5), final=True)
    sending.chain.head.world.refusing = frozenset({story.ALICE.address})
    sending.want(onchain.Conclude(final))
    await sending.blocks(2)
    assert sending.included() == [("Conclude", None)]
    sending.want(onchain.TransferAll(story.outcome(4, 5), ZERO_HASH))
    await sending.blocks(2)
    assert sending.included() == [("Conclude", None), ("Transfer", None)]
    assert sending.chain.world.balances[story.BOB.address] == 5
    assert sending.held() == 4
    sending.want(onchain.TransferAll(story.outcome(4, 0), ZERO_HASH))
    await sending.blocks(2)
    assert info_of(sending, "transfer-all").status == "reverted"
    assert "Could not transfer ETH" in info_of(sending, "transfer-all").detail
    sending.chain.head.world.refusing = frozenset()
    await sending.blocks(40)
    assert (sending.held(), sending.chain.world.balances[story.ALICE.address]) == (0, 4)


async def test_nobody_is_paid_apart_while_all_can_be_paid_at_once():
    sending = Sending(story.new_chain())
    story.deposit(sending.chain, 9)
    sending.want(onchain.Conclude(story.state(9, story.outcome(4, 5), final=True)))
    await sending.blocks(2)
    assert sending.included() == [("ConcludeAndTransfer", None)]


async def test_a_restored_account_goes_on_after_what_it_has_forgotten():
    """From a backup: what was sent since is on chain, or still waits for a block, and its nonces are not used again.
    What it wants once more reverts when it comes second: nothing is paid twice."""
    sending = Sending(story.new_chain())
    sending.want(DEPOSIT)
    await sending.blocks(2)
    backup = sending.log.durable_copy()
    second = onchain.Deposit(ZERO_ADDRESS, 0, 7, 7)
    sending.want(second, nonce=2)
    await sending.blocks(2)
    third = onchain.Deposit(ZERO_ADDRESS, 0, 8, 8)
    sending.want(third, nonce=3)
    await sending.look()
    assert [item.nonce for item in sending.chain.mempool] == [2], "sent, in no block yet"
    sending.log = backup
    sending.start()
    await sending.look()
    sending.want(onchain.Deposit(ZERO_ADDRESS, 0, 9, 9), nonce=4)
    await sending.blocks(3)
    assert [sending.held(nonce=number) for number in (1, 2, 3, 4)] == [5, 7, 8, 9]
    assert [reason for _, reason in sending.included()] == [None, None, None, "held != expectedHeld", None]


async def test_a_restored_account_replaces_nothing_that_it_has_forgotten():
    """The backup's own transaction was replaced and is in a block; a nonce that is gone is never signed again."""
    sending = Sending(story.new_chain(), stuck_blocks=2)
    sending.want(DEPOSIT)
    await sending.look()
    backup = sending.log.durable_copy()
    sending.chain.mine()
    await sending.blocks(5)
    sending.log = backup
    sending.start()
    await sending.blocks(80)
    assert sending.included() == [("Deposit", None)]
    assert (sending.held(), sending.sender.state.slots) == (5, {})


async def test_a_chain_without_base_fees_gets_transactions_with_one_price():
    """EIP-1559 is not everywhere; what is stuck is replaced there as well."""
    sending = Sending(story.new_chain(), stuck_blocks=2)
    sending.client.legacy = True
    sending.want(DEPOSIT)
    await sending.look()
    (slot,) = sending.sender.state.slots.values()
    assert is_legacy(slot.newest.raw)
    assert slot.newest.max_fee == slot.newest.priority_fee == sending.chain.base_fee
    sending.chain.base_fee *= 2
    await sending.blocks(4)
    assert len(slot.versions) == 2
    assert (sending.held(), sending.included()) == (5, [("Deposit", None)])


@pytest.mark.parametrize(("legacy", "ceiling", "offer"), [
    (False, 100, (25, 5)), (False, 24, (24, 5)), (False, 14, None), (True, 100, (10, 10)), (True, 9, None),
])  # fmt: skip
def test_what_is_offered_stays_below_the_ceiling(legacy, ceiling, offer):
    """Twice the base fee and the tip; where there is no base fee, the usual price, which is paid whole."""
    assert Fees(10, 0 if legacy else 5, legacy).offer(ceiling) == offer
