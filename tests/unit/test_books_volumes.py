"""A peer has only so much written into the books at once; what is under way ends all the same."""

from __future__ import annotations

import logging

import pytest

from scapp.channels.books.volumes import PEERS_KEPT, Volume, Volumes
from scapp.channels.types import ZERO_ADDRESS, Address
from scapp.runtime.config import ChainSettings as ChainSection
from scapp.runtime.config import Config, DisputeSettings
from scapp.runtime.ledger_settings import HubSettings
from scapp.runtime.node_parts import warnings
from tests.support.ledger_scene import LedgerScene
from tests.support.node_cast import START_MS

ALICE, BOB = Address(b"\xaa" * 20), Address(b"\xbb" * 20)
NOW_MS = 1_700_000_000_000


def test_a_burst_passes_and_time_gives_it_back():
    """Each message counts whole KiB; a peer that is full has no say in another's."""
    volumes = Volumes(Volume(burst_kib=4, kib_per_s=2))
    assert [volumes.count(ALICE, size, NOW_MS) == "" for size in (1, 1_024, 1_025, 1)] == [True, True, True, False]
    assert "4 KiB, then 2 KiB each second (hub.peer_burst_kib" in volumes.count(ALICE, 1, NOW_MS)
    assert volumes.count(BOB, 4_096, NOW_MS) == ""
    assert [volumes.count(ALICE, 1, NOW_MS + 500) == "" for _ in range(2)] == [True, False]
    assert [volumes.count(ALICE, 1, NOW_MS + 3_600_000) == "" for _ in range(5)] == [True] * 4 + [False]
    assert volumes.count(ALICE, 1, NOW_MS)  # a clock that is set back gives nothing


def test_no_limit_and_no_more_peers_than_are_kept():
    volumes = Volumes(Volume(burst_kib=1, kib_per_s=0))
    assert not any(volumes.count(ALICE, 10**6, NOW_MS) for _ in range(9))
    volumes = Volumes(Volume(burst_kib=1, kib_per_s=1))
    for number in range(PEERS_KEPT + 7):
        volumes.count(Address(number.to_bytes(20, "big")), 1, NOW_MS)
    assert len(volumes._known) == PEERS_KEPT


@pytest.fixture
async def scene():
    found = await LedgerScene(3).start()
    yield found
    await found.end()


async def test_a_peer_that_has_said_too_much_begins_nothing_and_ends_what_it_has(scene: LedgerScene):
    """A new channel is refused with the reason, a transfer waits and is said again; the channel that runs is paid in
    and ends."""
    left = await scene.ledger(0, 1)
    await scene.ledger(1, 2)
    channel = await scene.payments((0, 1, 2), 100)
    hub = scene.books(1)
    hub._volumes = Volumes(Volume(burst_kib=1, kib_per_s=1))
    hub._volumes.count(scene.address(0), 1_024, START_MS)
    refused = await scene.open_payments((0, 1, 2), 10)
    await scene.until(lambda: scene.virtual_phase(refused, "rejected", (0,)))
    assert "has said more than this node stores" in scene.virtual(0, refused).reason
    await scene.books(0).transfer(left, ZERO_ADDRESS, 5)
    await scene.books(0).pay(channel, 30)
    await scene.books(2).close_virtual(channel)
    await scene.until(lambda: scene.virtual_phase(channel, "released", (2,)))
    assert scene.money(1, left)[0] == 1_000
    hub._volumes = Volumes(Volume())
    scene.books(0).on_link(scene.address(1), True)  # what was not taken is said again
    await scene.until(lambda: scene.virtual_phase(channel, "released", (0, 1, 2)))
    await scene.until(lambda: scene.money(1, left) == (1_035, 965, 0))


async def test_a_delay_below_what_confirmations_take_is_said_once(caplog: pytest.LogCaptureFixture):
    """By the chain's own clock, once it has shown how long that is."""
    caplog.set_level(logging.WARNING, "scapp.chain")
    scene = await LedgerScene(1).start()
    (service,) = scene.services.values()
    for takes_s in (None, 3_600, 3_601, 4_000):  # the scene's delay is 3,600
        service.confirming_s = takes_s
        await scene.block()
        said = sum("conclude_delay_s is 3600" in text for text in caplog.messages)
        assert said == int((takes_s or 0) > 3_600)
    await scene.end()
    assert sum("took 3601 s to be confirmed" in text for text in caplog.messages) == 1


def test_a_hub_that_waits_for_ever_is_warned():
    """Only one that forwards, and has a chain."""
    chain = ChainSection(urls=("http://h:1",))
    assert "silence_timeout_s is 0" in warnings(Config(chain=chain, hub=HubSettings(forward=True)))[0]
    patient = Config(chain=chain, hub=HubSettings(forward=True), disputes=DisputeSettings(silence_timeout_s=3_600))
    assert warnings(patient) == warnings(Config(chain=chain)) == warnings(Config(hub=HubSettings(forward=True))) == []
