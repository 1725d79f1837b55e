"""The watcher shows what the adjudicator holds, whatever chain and endpoint do meanwhile."""

from __future__ import annotations

import random

import pytest

from scapp.channels.chain.calls import Checkpoint, ConcludeAndTransfer
from scapp.channels.chain.client import Unavailable
from scapp.channels.chain.fake import FakeClient, Faults
from scapp.channels.chain.watcher import Moved, Watcher
from scapp.channels.log.memory import MemoryLog
from scapp.channels.onchain import ChannelOnChain
from scapp.channels.types import ZERO_ADDRESS
from tests.support import chain_stories as story

CHANNELS = range(1, 5)


class Watching:
    """A watcher over a chain. Each channel may be paid into by the one before it."""

    def __init__(self, chain, faults=None, seed="", confirmations=3, channels=CHANNELS, cursor=None, **settings):
        self.chain = chain
        self.settings = story.settings(confirmations, **settings)
        self.client = FakeClient(chain, seed=seed, faults=faults)
        self.watcher = Watcher(self.settings, cursor)
        self.performer = story.performer(self.client, self.settings, MemoryLog())
        self.views = {}
        self.told = 0
        for nonce in channels:
            self.watcher.watch(story.channel(nonce), (ZERO_ADDRESS,), 0, story.channel(nonce - 1))

    async def look(self):
        """Follow once; whether it went through."""
        try:
            changed = await self.performer.run(self.watcher.follow())
        except (Moved, Unavailable):
            return False
        self.views |= dict(changed)
        self.told += len(changed)
        return True

    async def settle(self):
        """Follow until all of the chain is known."""
        for _ in range(300):
            if await self.look() and self.watcher.head.hash == self.chain.head.hash:
                return
        raise AssertionError("the watcher does not get to the head")

    def seen(self):
        """Views without the blocks in which they were read."""
        return {channel: (plain(view.latest), plain(view.confirmed)) for channel, view in self.views.items()}

    def truth(self):
        """What the chain itself says."""
        confirmed = self.chain.blocks[max(0, len(self.chain.blocks) - 1 - self.settings.confirmations)]
        return {
            channel: tuple((w.world.status_of(channel), (w.world.held(ZERO_ADDRESS, channel),)) for w in blocks)
            for blocks in [(self.chain.head, confirmed)]
            for channel in map(story.channel, CHANNELS)
        }

    def check(self):
        assert {c: tuple(part[:2] for part in parts) for c, parts in self.seen().items()} == self.truth()
        for channel, view in self.views.items():
            for reading in (view.latest, view.confirmed):
                block = self.chain.block(reading.block)
                assert block is not None
                assert block.hash == reading.block_hash, "a reading of a block that was taken back"
                if reading.status.turn_record:
                    assert reading.registered is not None
                    assert reading.registered.turn == reading.status.turn_record
                else:
                    assert reading.registered is None or reading.status.finalizes_at, channel


def plain(reading: ChannelOnChain):
    return reading.status, reading.holdings, reading.registered


def act(chain, draw):
    """Something happens in one of the channels; what is not allowed reverts, which is as good."""
    nonce = draw.choice(CHANNELS)
    kind = draw.random()
    signed = story.state(draw.randrange(1, 9), story.outcome(3, 2), nonce=nonce, final=kind > 0.85)
    if kind < 0.4:
        story.deposit(chain, draw.randrange(1, 5), nonce=nonce)
    elif kind < 0.65:
        story.do(chain, story.challenge_with(signed))
    elif kind < 0.85:
        story.do(chain, Checkpoint((), signed))
    else:
        next_one = story.moving(story.channel(nonce + 1), draw.randrange(3), 2)
        story.do(chain, ConcludeAndTransfer(story.state(9, next_one, nonce=nonce, final=True)))


async def test_a_channel_is_told_when_first_read_and_when_it_changes():
    """Untouched: zeros. A deposit shows at once as latest, and as confirmed when enough blocks follow."""
    chain = story.new_chain(blocks=5)
    watching = Watching(chain, channels=[1])
    await watching.settle()
    assert watching.told == 1
    story.deposit(chain, 7)
    chain.mine()
    await watching.settle()
    view = watching.views[story.channel(1)]
    assert (view.latest.holdings, view.confirmed.holdings) == ((7,), (0,))
    for _ in range(3):
        chain.mine()
        await watching.settle()
    view = watching.views[story.channel(1)]
    assert view.confirmed.holdings == (7,)
    assert watching.told == 3


@pytest.mark.parametrize("depth", [1, 4])
async def test_what_another_channel_pays_in_shows_without_an_event(depth):
    """The contract names only the channel that pays; a reorganisation takes it back from both."""
    chain = story.new_chain(blocks=5)
    watching = Watching(chain, channels=[1, 2])
    story.deposit(chain, 7)
    chain.mine()
    await watching.settle()
    moved = story.moving(story.channel(2), 5, 2)
    story.do(chain, ConcludeAndTransfer(story.state(1, moved, final=True)))
    for _ in range(depth):
        chain.mine()
    await watching.settle()
    view = watching.views[story.channel(2)]
    assert (view.latest.holdings, view.confirmed.holdings) == ((5,), (5 if depth > 3 else 0,))
    chain.reorganise(depth, drop=True)
    await watching.settle()
    assert [watching.views[story.channel(n)].latest.holdings for n in (1, 2)] == [(7,), (0,)]


async def test_a_payout_is_read_without_a_look_at_its_transaction():
    """Whoever made it, by whatever contract: the channel's own state says what is left."""
    chain = story.new_chain(blocks=5)
    watching = Watching(chain, channels=[1])
    story.deposit(chain, 7)
    chain.mine()
    await watching.settle()
    story.do(chain, ConcludeAndTransfer(story.state(9, story.outcome(3, 4), final=True)))
    chain.mine()
    await watching.settle()
    assert watching.views[story.channel(1)].latest.holdings == (0,)
    assert "calldata" not in watching.client.requests


async def test_nothing_is_read_where_nothing_happens():
    """A block without events of watched channels costs one question for the head, one for logs."""
    chain = story.new_chain(blocks=5)
    watching = Watching(chain)
    await watching.settle()
    watching.client.requests.clear()
    story.do(chain, story.Deposit(ZERO_ADDRESS, b"\x09" * 32, 0, 1), 1)
    chain.mine()
    await watching.settle()
    assert watching.client.requests == ["head", "logs"]


async def test_a_challenge_shows_its_candidate_also_to_who_comes_late():
    """Seen as it happens, and by a watcher that starts, or begins to watch, long after."""
    chain = story.new_chain(blocks=2)
    early = Watching(chain, channels=[1])
    await early.settle()
    signed = story.state(4, story.outcome(3, 2))
    story.do(chain, story.challenge_with(signed))
    chain.mine()
    await early.settle()
    for _ in range(90):
        chain.mine()
    await early.settle()
    late = Watching(chain, channels=[1], log_range_blocks=7)
    await late.settle()
    for watching in (early, late):
        latest = watching.views[story.channel(1)].latest
        assert (latest.registered.turn, latest.registered.outcome) == (4, signed.outcome)
        assert latest.registered.signatures == signed.signatures
        assert latest.registered.participants == ()
    chain.wait(10)
    story.do(chain, Checkpoint((), story.state(5, story.outcome(3, 2))))
    chain.mine()
    await early.settle()
    assert early.views[story.channel(1)].latest.registered.turn == 5


@pytest.mark.parametrize("depth", range(1, 13))
async def test_a_reorganisation_takes_back_and_gives_again(depth):
    """At each depth: gone with the blocks when dropped, there again when it is included again."""
    chain = story.new_chain(blocks=20)
    watching = Watching(chain, channels=[1])
    await watching.settle()
    story.deposit(chain, 7)
    chain.mine()
    for _ in range(depth - 1):
        chain.mine()
        await watching.settle()
    await watching.settle()
    chain.reorganise(depth, drop=True)
    await watching.settle()
    assert watching.views[story.channel(1)].latest.holdings == (0,)
    assert watching.views[story.channel(1)].confirmed.holdings == (0,)
    story.deposit(chain, 9)
    chain.mine()
    await watching.settle()
    chain.reorganise(depth)
    await watching.settle()
    assert watching.views[story.channel(1)].latest.holdings == (9,)


async def test_a_chain_that_became_shorter_is_followed():
    """A development chain rolls back without new blocks; another head of a lower number is the head."""
    chain = story.new_chain(blocks=10)
    watching = Watching(chain, channels=[1])
    story.deposit(chain, 7)
    chain.mine()
    chain.mine()
    await watching.settle()
    chain.roll_back(4, drop=True)
    chain.mine()
    await watching.settle()
    assert watching.views[story.channel(1)].latest.holdings == (0,)


@pytest.mark.parametrize("gap", [1, 63, 64, 65, 200])
async def test_a_long_absence_is_caught_up_in_chunks(gap):
    """Blocks beyond the window are asked for logs by ranges; a node that finds one too long gets shorter ones."""
    chain = story.new_chain(blocks=10)
    watching = Watching(chain, log_range_blocks=16)
    await watching.settle()
    draw = random.Random(gap)
    for _ in range(gap):
        act(chain, draw)
        chain.mine()
    await watching.settle()
    watching.check()


async def test_a_reorganisation_deeper_than_the_window_reads_everything_anew():
    """Nothing of what was known stands any more."""
    chain = story.new_chain(blocks=2)
    watching = Watching(chain)
    story.deposit(chain, 7, nonce=2)
    for _ in range(70):
        chain.mine()
    await watching.settle()
    chain.reorganise(71, drop=True)
    await watching.settle()
    watching.check()
    assert watching.views[story.channel(2)].confirmed.holdings == (0,)


async def test_any_life_converges_to_an_undisturbed_view(seed):
    """Reorganisations of depth 1 to 12, lost, doubled, shuffled and removed logs, endpoints that fail or are behind:
    in the end the views are those of the chain, and of a watcher that saw none of it."""
    for life in range(25):
        draw = random.Random(f"{seed}/{life}")
        chain = story.new_chain(blocks=3)
        faults = Faults(
            fails=0.1, logs_lost=0.2, logs_doubled=0.3, logs_shuffled=0.5, logs_removed=0.5, head_behind=0.2
        )
        watching = Watching(chain, faults, f"{seed}/{life}", confirmations=draw.choice([0, 1, 3, 6]))
        if draw.random() < 0.5:
            watching.client.on_request = lambda name, chain=chain, draw=draw: (
                draw.random() < 0.03 and chain.reorganise(min(draw.randrange(1, 5), len(chain.blocks) - 1))
            )
        for _ in range(40):
            act(chain, draw)
            if draw.random() < 0.8:
                chain.mine()
            if draw.random() < 0.15:
                chain.reorganise(min(draw.randrange(1, 13), len(chain.blocks) - 1), drop=draw.random() < 0.3)
            if draw.random() < 0.7:
                await watching.look()
        watching.client.on_request = lambda name: None
        await watching.settle()
        watching.client.faults = Faults()
        await watching.settle()
        watching.check()
        undisturbed = Watching(chain, confirmations=watching.settings.confirmations)
        await undisturbed.settle()
        undisturbed.check()
        assert watching.seen() == undisturbed.seen()


@pytest.mark.parametrize("challenged", [False, True])
async def test_a_checkpointed_state_is_read_from_its_transaction(challenged):
    """As it happens and by who comes late; taken back and given again by reorganisations, many times over."""
    chain = story.new_chain(blocks=20)
    early = Watching(chain, channels=[1])
    await early.settle()
    if challenged:
        story.do(chain, story.challenge_with(story.state(4, story.outcome(3, 2))))
        chain.mine()
        await early.settle()
    signed = story.state(7, story.outcome(1, 4))
    story.do(chain, Checkpoint((), signed))
    chain.mine()
    await early.settle()
    late = Watching(chain, channels=[1], log_range_blocks=7)
    await late.settle()
    for watching in (early, late):
        latest = watching.views[story.channel(1)].latest
        assert (latest.registered.turn, latest.registered.signatures) == (7, signed.signatures)
        assert latest.registered.participants == ()
    for _ in range(15):
        chain.reorganise(1)
        await early.settle()
        assert early.views[story.channel(1)].latest.registered is not None


async def test_a_state_that_no_transaction_shows_is_missing_and_hinders_nothing():
    """Every other value of the view is as it is; after some looks it is not asked for again."""
    chain = story.new_chain(blocks=5)
    watching = Watching(chain, Faults(receipts_lost=1), channels=[1])
    await watching.settle()
    story.do(chain, Checkpoint((), story.state(7, story.outcome(1, 4))))
    chain.mine()
    for _ in range(20):
        await watching.settle()
        chain.mine()
    await watching.settle()
    latest = watching.views[story.channel(1)].latest
    assert (latest.status.turn_record, latest.registered) == (7, None)
    assert watching.client.requests.count("calldata") <= 12
    watching.client.requests.clear()
    chain.mine()
    await watching.settle()
    assert watching.client.requests == ["head", "logs"]
