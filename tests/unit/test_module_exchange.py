"""A channel's module is fetched from its proposer, in parts, and is the one the deployment names or refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from scapp.channels.channel.messages import ModulePart, ModuleWanted, encode_message
from scapp.channels.crypto import keccak256
from scapp.channels.deployment import Deployment
from scapp.channels.errors import LocalError
from scapp.channels.module_exchange import PART_BYTES
from scapp.channels.node import Node
from scapp.channels.service import OpenRequest
from scapp.channels.types import ChannelId
from tests.support.node_cast import Cast, until

MODULE = bytes(range(256)) * (PART_BYTES // 256) * 2 + b"the end"


@pytest.fixture
async def cast() -> AsyncIterator[Cast]:
    made = Cast()
    yield made
    await made.end()


async def proposed(cast: Cast, modules: dict[bytes, bytes]) -> tuple[Node, Node, ChannelId]:
    """Alice has the modules and proposes a channel; Bob has none and is asked."""
    alice = await cast.node(1, modules=modules)
    bob = await cast.node(2, policy="ask")
    deployment = Deployment(keccak256(MODULE))
    channel = await alice.open_channel(OpenRequest(peers=(bob.address,), deployment=deployment))
    await until(bob, lambda: bool(bob.channels()))
    return alice, bob, channel


async def test_a_module_of_several_parts_arrives_whole(cast: Cast) -> None:
    _, bob, channel = await proposed(cast, {keccak256(MODULE): MODULE})
    assert await bob.fetch_module(channel, 5) == MODULE
    assert bob.channel(channel).phase == "proposed"  # fetching accepts nothing


async def test_another_module_than_the_one_named_is_refused(cast: Cast) -> None:
    _, bob, channel = await proposed(cast, {keccak256(MODULE): MODULE[:-1] + b"X"})
    with pytest.raises(LocalError, match="another one"):
        await bob.fetch_module(channel, 5)


async def test_a_proposer_that_does_not_answer_is_named(cast: Cast) -> None:
    alice, bob, channel = await proposed(cast, {})
    with pytest.raises(LocalError, match=alice.address.hex()):
        await bob.fetch_module(channel, 0.05)


async def test_parts_that_nobody_asked_for_are_refused(cast: Cast) -> None:
    """Neither unasked nor out of place nor beyond the limit."""
    alice, bob, channel = await proposed(cast, {})
    part = encode_message(ModulePart(channel, 0, 3, b"abc"))
    await bob._on_message(alice.address, part)
    assert bob.counters()["messages_refused"] == 1
    fetching = asyncio.create_task(bob.fetch_module(channel, 5))
    await until(alice, lambda: alice.counters().get("messages_refused", 0) == 1)  # asked for a module she lacks
    await bob._on_message(alice.address, encode_message(ModulePart(channel, 7, 10, b"abc")))
    await bob._on_message(alice.address, encode_message(ModulePart(channel, 0, 2**40, b"abc")))
    assert bob.counters()["messages_refused"] == 3
    with pytest.raises(LocalError, match="at most"):
        await fetching


async def test_asking_beyond_the_end_is_refused(cast: Cast) -> None:
    alice, bob, channel = await proposed(cast, {keccak256(MODULE): MODULE})
    await alice._on_message(bob.address, encode_message(ModuleWanted(channel, len(MODULE))))
    assert alice.counters()["messages_refused"] == 1
