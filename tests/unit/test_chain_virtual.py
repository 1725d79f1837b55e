"""Ledgers with guarantees and virtual channels through watcher and sender, over the model of the chain."""

from __future__ import annotations

import msgspec
import pytest

from scapp.channels import onchain
from scapp.channels.adjudicator_status import unpack_status
from scapp.channels.chain import calls
from scapp.channels.chain.fake import FakeClient
from scapp.channels.chain.judging import Hold, OnChain, digest_of, judge, state_hash_of
from scapp.channels.chain.sender import Sender
from scapp.channels.chain.sending import Account
from scapp.channels.chain.watcher import Watcher
from scapp.channels.ledger.chain_states import shown
from scapp.channels.log.memory import MemoryLog
from scapp.channels.outcome import (
    Allocation,
    AllocationType,
    Outcome,
    SingleAssetExit,
    address_to_destination,
    guarantee_metadata,
)
from scapp.channels.reading import SignedState
from scapp.channels.state import FixedPart, channel_id
from scapp.channels.types import ZERO_ADDRESS, ZERO_HASH, Address, ChannelId, Destination, Hash
from tests.support import chain_stories as story

TWO_PARTY = Address(b"\xa4" * 20)
ALICE, BOB = story.ALICE, story.BOB
VIRTUAL = FixedPart((ALICE.address, BOB.address), 9, TWO_PARTY, 600)
TARGET = channel_id(VIRTUAL)
LEDGER = story.channel()


def virtual(turn: int, alice: int, *, final: bool = False) -> SignedState:
    return story.signed(VIRTUAL, turn, story.outcome(alice, 10 - alice), final=final)


POSTFUND, NEWEST = virtual(1, 10), virtual(5, 3)


def owing() -> Outcome:
    """2 and 3, and 10 that are guaranteed."""
    sides = [address_to_destination(party.address) for party in (ALICE, BOB)]
    kept = Allocation(Destination(TARGET), 10, AllocationType.GUARANTEE, guarantee_metadata(*sides))
    return (SingleAssetExit(ZERO_ADDRESS, (Allocation(sides[0], 2), Allocation(sides[1], 3), kept)),)


class Node:
    """Watcher and sender of one node; the ledger holds 15."""

    def __init__(self) -> None:
        self.chain = story.new_chain()
        self.chain.head.world.apps[TWO_PARTY] = "two-party"
        self.settings = story.settings(two_party_app=TWO_PARTY)
        self.client = FakeClient(self.chain)
        self.watcher = Watcher(self.settings)
        self.sender = Sender(self.settings, story.PAYER.address, Account(), self.watcher.canonical)
        self.performer = story.performer(self.client, self.settings, MemoryLog())
        self.views: dict[ChannelId, onchain.ChainView] = {}
        self.watcher.watch(LEDGER, (ZERO_ADDRESS,), 0)
        self.watcher.watch(TARGET, (), 0)
        story.deposit(self.chain, 15)
        self.chain.mine()

    async def look(self) -> None:
        self.views |= dict(await self.performer.run(self.watcher.follow()))
        assert self.watcher.head is not None
        assert self.watcher.confirmed is not None
        await self.performer.run(self.sender.round(self.watcher.head, self.watcher.confirmed))

    async def block(self, seconds: int = 12) -> None:
        await self.look()
        self.chain.mine(self.chain.head.time_s + seconds)
        await self.look()

    def status(self, channel: ChannelId, kind: str) -> tuple[str, str]:
        (info,) = [each for each in self.sender.infos(channel) if each.purpose.kind == kind]
        return info.status, info.detail


def reclaim(outcome: Outcome, state_hash: Hash) -> onchain.Reclaim:
    return onchain.Reclaim(outcome, state_hash, 0, 2, story.outcome(3, 7), state_hash_of(NEWEST), 0)


async def test_a_ledger_is_left_reclaimed_and_paid() -> None:
    """Each transaction waits for what it needs, and says so."""
    node = Node()
    promise = story.state(4, owing())
    wanted = reclaim(owing(), state_hash_of(promise))
    paid = story.outcome(5, 10)
    node.sender.want(LEDGER, (onchain.Challenge(promise), wanted))
    await node.block()
    status, detail = node.status(LEDGER, "reclaim")
    assert (status, detail[:29]) == ("waiting", "the channel finalizes at 1700")
    node.sender.want(TARGET, (onchain.Challenge(NEWEST, (POSTFUND,)),))
    await node.block()
    assert node.views[TARGET].latest.holdings == ()
    assert node.views[TARGET].latest.registered == calls.without_fixed_part(NEWEST)
    assert node.views[TARGET].latest.proof == (calls.without_fixed_part(POSTFUND),)
    await node.block(story.CHALLENGE_S)
    await node.block()
    node.sender.want(LEDGER, (onchain.TransferAll(paid, state_hash_of(promise)),))
    await node.block()
    world = node.chain.world
    assert (world.balances[ALICE.address], world.balances[BOB.address]) == (5, 10)
    assert world.held(ZERO_ADDRESS, LEDGER) == 0


async def test_a_reclaim_waits_for_the_channel_that_it_is_about() -> None:
    node = Node()
    promise = story.state(4, owing())
    node.sender.want(LEDGER, (onchain.Challenge(promise), reclaim(owing(), state_hash_of(promise))))
    await node.block()
    await node.block(story.CHALLENGE_S)
    assert node.status(LEDGER, "reclaim") == (
        "waiting",
        "the channel that the guarantee funds is not finalized on chain",
    )
    node.sender.want(TARGET, (onchain.Conclude(virtual(6, 4, final=True), pays=False),))
    await node.block()
    await node.block()
    expected = "the channel that the guarantee funds is finalized with another state or outcome"
    assert node.status(LEDGER, "reclaim") == ("waiting", expected)
    again = onchain.Reclaim(owing(), state_hash_of(promise), 0, 2, story.outcome(4, 6), ZERO_HASH, 0)
    node.sender.want(LEDGER, (again,))
    await node.block()
    assert node.status(LEDGER, "reclaim")[0] == "included"


async def test_a_reclaim_that_a_stranger_made_is_not_made_again() -> None:
    node = Node()
    promise = story.state(4, owing())
    wanted = reclaim(owing(), state_hash_of(promise))
    node.sender.want(LEDGER, (onchain.Challenge(promise),))
    node.sender.want(TARGET, (onchain.Challenge(NEWEST, (POSTFUND,)),))
    await node.block()
    await node.block(story.CHALLENGE_S)
    found = OnChain(
        node.chain.world.status_of(LEDGER), (), (), node.chain.head.time_s, node.chain.world.status_of(TARGET)
    )
    call = judge(LEDGER, wanted, found)
    assert not isinstance(call, Hold)
    story.do(node.chain, call.call)  # type: ignore[union-attr, arg-type]
    node.chain.mine()
    node.sender.want(LEDGER, (wanted,))
    await node.block()
    assert node.status(LEDGER, "reclaim") == ("waiting", "the channel is finalized with another state or outcome")
    assert node.chain.world.status_of(LEDGER).finalizes_at


async def test_a_virtual_channel_is_concluded_once_and_pays_nothing() -> None:
    node = Node()
    final = onchain.Conclude(virtual(6, 4, final=True), pays=False)
    node.sender.want(TARGET, (final,))
    await node.block()
    assert node.views[TARGET].latest.status.finalizes_at
    other = Sender(node.settings, story.PAYER.address, Account(), node.watcher.canonical)
    other.want(TARGET, (final,))
    assert node.watcher.head is not None
    assert node.watcher.confirmed is not None
    await node.performer.run(other.round(node.watcher.head, node.watcher.confirmed))
    (info,) = other.infos(TARGET)
    assert (info.status, info.detail) == ("unneeded", "the channel is finalized")


@pytest.mark.parametrize("hidden", [False, True])
async def test_a_checkpointed_state_of_a_virtual_channel_is_found_with_its_proof(hidden: bool) -> None:
    """Not everybody has signed it: its app supports it. One that the calldata does not show is missing."""
    node = Node()
    newest = msgspec.structs.replace(NEWEST)
    story.do(node.chain, calls.Checkpoint((POSTFUND,), newest))
    if hidden:
        node.client.calldata = _nothing  # type: ignore[method-assign]
    node.chain.mine()
    await node.look()
    latest = node.views[TARGET].latest
    assert (latest.status.turn_record, latest.status.finalizes_at) == (5, 0)
    if hidden:
        assert latest.registered is None
        return
    facts = shown(VIRTUAL, TARGET, latest, None, lambda *_: True)
    assert facts.registered is not None
    assert facts.registered.candidate == NEWEST
    assert facts.registered.proof == (POSTFUND,)


async def _nothing(transactions):
    return [None for _ in transactions]


def test_what_is_wanted_is_told_apart_by_every_part_of_a_reclaim() -> None:
    """Under one purpose: the ledger's outcome changes with each reclaim of another guarantee."""
    one = reclaim(owing(), Hash(b"\x01" * 32))
    others = [
        msgspec.structs.replace(one, state_hash=Hash(b"\x02" * 32)),
        msgspec.structs.replace(one, outcome=(*owing(), *story.outcome(1, 1))),
        msgspec.structs.replace(one, target_outcome=story.outcome(4, 6)),
        msgspec.structs.replace(one, target_state_hash=Hash(b"\x03" * 32)),
        msgspec.structs.replace(one, target_asset_index=1),
    ]
    assert len({digest_of(each) for each in (one, *others)}) == 6
    assert {onchain.purpose_of(LEDGER, each) for each in (one, *others)} == {onchain.purpose_of(LEDGER, one)}
    assert unpack_status(ZERO_HASH).finalizes_at == 0
