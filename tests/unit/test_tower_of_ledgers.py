"""What defends ledgers and the channels that they fund while their node is away: packages, and a tower that answers."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from scapp.channels.chain.port import ChainStatus
from scapp.channels.chain.support import App
from scapp.channels.onchain import Challenge
from scapp.channels.signing import Signer
from scapp.channels.types import Address, ChannelId
from scapp.channels.virtual.chain_view import milestone_state
from scapp.runtime.disputes.packages import (
    Defence,
    PackageRefused,
    PackageStore,
    encode_package,
    make_stack_package,
    read_package,
)
from scapp.runtime.watchtower.tower import Watchtower
from tests.support.ledger_scene import DURATION_S, PAYMENT_APP, TWO_PARTY_APP, LedgerScene
from tests.support.plain_chain import ADJUDICATOR, CONSENSUS, RICH, PlainService, account_of

CHAIN_ID = 31_337
APPS: dict[bytes, App] = {CONSENSUS: "consensus", PAYMENT_APP: "payment", TWO_PARTY_APP: "two-party"}
ALICE, HUB, BOB = 0, 1, 2
PATH = (ALICE, HUB, BOB)
TOWER = Signer(b"\x77" * 32)


@pytest.fixture
async def scene():
    found = LedgerScene(3)
    found.presigns = True
    yield await found.start()
    await found.end()


def package(scene: LedgerScene, who: int, channel: ChannelId) -> bytes:
    found = scene.books(who).defences.of(channel)
    assert found is not None
    return encode_package(make_stack_package(CHAIN_ID, ADJUDICATOR, found))


def read(data: bytes) -> Defence:
    return read_package(data, CHAIN_ID, ADJUDICATOR, APPS)


class TowerService(PlainService):
    """A rich account's."""

    def status(self) -> ChainStatus:
        return ChainStatus(
            chain_id=CHAIN_ID, adjudicator=ADJUDICATOR, consensus_app=CONSENSUS, account=account_of(TOWER.address),
            balance=RICH, head=1, head_time_s=1, processed=1, confirmations=3, lag_blocks=0, endpoints=(), endpoint="",
            watched=len(self.watched), pending=0, fault="",
        )  # fmt: skip


class Tower:
    """The real one, over the scene's chain and an account of its own."""

    def __init__(self, scene: LedgerScene, folder: Path) -> None:
        self.scene = scene
        scene.chain.chain.world.balances[account_of(TOWER.address)] = RICH
        self.service = TowerService(scene.chain, TOWER)
        self.tower = Watchtower(self.service, PackageStore(folder, CHAIN_ID, ADJUDICATOR, 10, APPS))

    async def __aenter__(self) -> Tower:
        await self.tower.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.tower.stop()

    @property
    def channels(self) -> set[ChannelId]:
        return set(self.service.watched)

    async def blocks(self, count: int = 4) -> None:
        for _ in range(count):
            self.service.look()
            self.service.send()
            await self.scene.block()


async def test_a_ledger_is_defended_by_its_newest_state(scene: LedgerScene, tmp_path: Path):
    """Its older state is registered while the hub is away; the tower clears that, and the ledger goes on."""
    left = await scene.ledger(ALICE, HUB)
    old = scene.books(ALICE).defences.of(left)
    assert old is not None
    await scene.books(HUB).transfer(left, Address(bytes(20)), 300)
    await scene.until(lambda: scene.money(ALICE, left) == (1_300, 700, 0))
    assert scene.books(HUB).defences.is_over(left) is False
    async with Tower(scene, tmp_path) as tower:
        assert tower.tower.keep(package(scene, HUB, left))
        assert not tower.tower.keep(encode_package(make_stack_package(CHAIN_ID, ADJUDICATOR, old)))
        for who in (ALICE, HUB):
            await scene.nodes[who].stop()
            del scene.services[who]
        scene.chain.carry_out(scene.signers[ALICE], left, Challenge(old.candidate))
        await tower.blocks(2)
        assert scene.chain.chain.world.status_of(left).finalizes_at == 0
        assert scene.chain.chain.world.status_of(left).turn_record == read(package_of(tower, left)).state.turn
    for who in (ALICE, HUB):
        await scene.node(who)
    await scene.until(lambda: scene.has_phase(left, "running", (ALICE, HUB)), blocks=True)
    await scene.books(HUB).close_ledger(left)
    await scene.until(lambda: scene.has_phase(left, "settled", (ALICE, HUB)), blocks=True, seconds=3_600)
    assert (scene.gain(ALICE), scene.gain(HUB)) == (1_300, 700)


def package_of(tower: Tower, channel: ChannelId) -> bytes:
    path: Path = tower.tower._store._path(channel)
    return path.read_bytes()


async def test_a_payee_that_is_away_is_paid_by_its_tower_and_goes_on_from_there(scene: LedgerScene, tmp_path: Path):
    """The payer registers the postfund state. The tower redeems the voucher that it has; the payee had taken one more
    since, and takes that when it is back, for it goes on at once."""
    await scene.ledger(ALICE, HUB)
    right = await scene.ledger(HUB, BOB)
    channel = await scene.payments(PATH, 100)
    await scene.books(ALICE).pay(channel, 30, wait_s=5)
    async with Tower(scene, tmp_path) as tower:
        for who in PATH[:2]:
            assert scene.books(who).defences.of(channel) is None  # nothing of theirs is newer than the postfund state
        assert tower.tower.keep(package(scene, BOB, channel))
        await scene.books(ALICE).pay(channel, 20, wait_s=5)
        postfund = milestone_state(scene.books(ALICE)._running().books.state.virtuals[channel], "postfund")
        assert postfund is not None
        await scene.nodes[BOB].stop()
        del scene.services[BOB]
        scene.chain.carry_out(scene.signers[ALICE], channel, Challenge(postfund))
        await tower.blocks()
        status = scene.chain.chain.world.status_of(channel)
        assert (status.turn_record, status.finalizes_at) == (2, 0)
    await scene.node(BOB)
    await scene.until(lambda: scene.chain.chain.world.status_of(channel).finalizes_at != 0, blocks=True)
    await scene.until(lambda: scene.money(BOB, right) == (1_050, 950, 0), blocks=True, seconds=DURATION_S)


async def test_an_app_channel_is_defended_by_the_newest_state_of_its_two_parties(scene: LedgerScene, tmp_path: Path):
    """Signed by both, with the postfund state as proof; the hub has nothing to answer."""
    await scene.ledger(ALICE, HUB)
    await scene.ledger(HUB, BOB)
    channel = await scene.app_channel(PATH, (50, 50), (0,))
    await scene.nodes[BOB].submit(channel, [b"move:0:1:20"])
    await scene.until(lambda: (found := scene.books(BOB).defences.of(channel)) is not None and found.turn >= 2)
    assert scene.books(HUB).defences.of(channel) is None
    defence = read(package(scene, BOB, channel))
    assert (defence.virtual, defence.concludes, len(defence.proof)) == (True, False, 1)
    postfund = milestone_state(scene.books(HUB)._running().books.state.virtuals[channel], "postfund")
    assert postfund is not None
    async with Tower(scene, tmp_path) as tower:
        tower.tower.keep(package(scene, BOB, channel))
        for who in (ALICE, BOB):
            await scene.nodes[who].stop()
            del scene.services[who]
        scene.chain.carry_out(scene.signers[HUB], channel, Challenge(postfund))
        await tower.blocks(2)
        status = scene.chain.chain.world.status_of(channel)
        assert (status.turn_record, status.finalizes_at) == (defence.state.turn, 0)


async def test_a_channel_that_ended_off_chain_is_forgotten_with_its_guarantee(scene: LedgerScene, tmp_path: Path):
    """By the ledger's next state: nothing else would ever tell the tower."""
    left = await scene.ledger(ALICE, HUB)
    await scene.ledger(HUB, BOB)
    channel = await scene.payments(PATH, 100)
    await scene.books(ALICE).pay(channel, 30, wait_s=5)
    async with Tower(scene, tmp_path) as tower:
        with_guarantee, redemption = package(scene, HUB, left), package(scene, BOB, channel)
        assert read(with_guarantee).guarantees == {channel}
        assert tower.tower.keep(with_guarantee)
        assert tower.tower.keep(redemption)
        assert tower.channels == {left, channel}
        await scene.books(BOB).close_virtual(channel)
        await scene.until(lambda: scene.virtual_phase(channel, "released", PATH))
        assert scene.books(BOB).defences.is_over(channel)
        assert tower.tower.keep(package(scene, HUB, left))
        assert tower.channels == {left}
        assert not (tmp_path / f"0x{channel.hex()}.json").exists()


async def test_a_payee_gives_away_no_redemption_unless_it_is_told_to():
    scene = LedgerScene(2)
    await scene.start()
    await scene.ledger(ALICE, HUB)
    channel = await scene.payments((ALICE, HUB), 100)
    await scene.books(ALICE).pay(channel, 30, wait_s=5)
    assert scene.books(HUB).defences.of(channel) is None
    await scene.end()


async def test_packages_that_the_contracts_would_not_take(scene: LedgerScene):
    """A ledger's state of one party, an app that the tower does not know, a redemption without its proof."""
    left = await scene.ledger(ALICE, HUB)
    data = package(scene, HUB, left)
    found = scene.books(HUB).defences.of(left)
    assert found is not None
    with pytest.raises(PackageRefused, match="is none of those in"):
        read_package(data, CHAIN_ID, ADJUDICATOR)
    half = msgspec.structs.replace(found.candidate, signatures=(found.candidate.signatures[0], b""))
    for state, app in ((half, "consensus"), (msgspec.structs.replace(found.candidate, turn=9), "consensus")):
        bad = encode_package(make_stack_package(CHAIN_ID, ADJUDICATOR, msgspec.structs.replace(found, candidate=state)))
        with pytest.raises(PackageRefused, match=f"the {app} app would not take its turn {state.turn}"):
            read(bad)
    await scene.ledger(HUB, BOB)
    channel = await scene.payments(PATH, 100)
    await scene.books(ALICE).pay(channel, 30, wait_s=5)
    redemption = scene.books(BOB).defences.of(channel)
    assert redemption is not None
    bare = encode_package(make_stack_package(CHAIN_ID, ADJUDICATOR, msgspec.structs.replace(redemption, proof=())))
    with pytest.raises(PackageRefused, match="the payment app would not take its turn 2"):
        read(bare)
